"""Pruning of candidate plans before they are profiled, each with the reason.

A candidate goes only if its *optimistic* numbers are no better than the *pessimistic* ones of one
that was profiled, worse in one at least, in every dim asked and in what it takes of every shared
pool (`busy:DEVICE`, `memory:DEVICE`): a plan that is worse but leaves a device free may be what a
schedule of many queries needs. Or if an optimistic number misses a limit.

Where the numbers come from (our choice):

- a sum or path dim: each option's interval is what was seen of it in any plan, and what the catalog
  knows, widened by `SPREAD`; along a *ladder* an option unseen lies between its neighbours; an
  option takes nothing of another device's pools. Of a stage that is not `steady` only what the
  catalog knows counts: few rows may all have skipped it. Intervals are then added along the plan
  or taken along its longest path, which are monotone.
- `loss`, plan by plan: each plan profiled has an interval of `DEVIATIONS` standard errors. A plan
  that at no stage stands lower on a ladder of loss than a profiled one has at least its loss;
  likewise at most. Options of one variant with the same knobs answer alike. A profiled plan whose
  own interval contradicts the ladders ends them: see `Pruner.violated`.

What is unknown is [0, inf), which prunes nothing and is pruned by nothing it could beat.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ....ir.record import dataclass
from ..features import features, longest
from ..protocol import LOSS, Evaluation, Space
from ..table import Assignment
from .warm_start import loss_of

SPREAD = 0.25
"""By how much a value seen in one plan may differ in another: conditions and queues differ."""
DEVIATIONS = 3.0
"""Standard errors on both sides of a loss: a thousand comparisons are made at once."""
POOLS = ("busy:", "memory:")
"""How dims of shared pools begin; the device follows."""


@dataclass(frozen=True)
class Bounds:
    """Optimistic `low` and pessimistic `high` values of plans, `plans x dims` each."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Pruned:
    """A candidate left out: in each of `dims` its `best` is no better than `worst`.

    Attributes:
        assignment: the plan.
        by: the plan profiled that it cannot beat, whose values at worst are `worst`; None: it
            misses a limit, which is `worst`.
        dims, best, worst: those that decided, with both values.
    """

    assignment: Assignment
    by: Assignment | None
    dims: tuple[str, ...]
    best: tuple[float, ...]
    worst: tuple[float, ...]


class Pruner:
    """What one search has seen, as bounds on all its plans.

    Attributes:
        dims: those asked, and those of shared pools.
        violated: what was seen contradicts a ladder of loss: none counts any more.
    """

    def __init__(self, space: Space, limits: Mapping[str, float]) -> None:
        """Nothing is seen yet.

        Args:
            space: the plans.
            limits: of every outcome that is asked, what it may be at most; inf: as small as may be.
        """
        self.space = space
        pools = (dim for dim in space.sums if dim.startswith(POOLS))
        self.dims = tuple(dict.fromkeys((*limits, *pools)))
        self.violated = False
        self._limits = np.array([limits.get(dim, math.inf) for dim in self.dims])
        self._laddered = any(ladder.dim == LOSS for ladder in space.ladders)
        places = range(len(space.stages))
        self._stages = features(space)
        laddered = places if self._laddered else ()
        self._orders = [self._order(place, everything=False) for place in laddered]
        self._audits = [self._order(place, everything=True) for place in laddered]
        taken = [dim for dim in self.dims if dim != LOSS]
        self._least = {dim: [self._known(p, dim, math.inf) for p in places] for dim in taken}
        self._most = {dim: [self._known(p, dim, 0.0) for p in places] for dim in taken}
        self._options: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
        self._rows: dict[Assignment, int] = {}
        self._seen: dict[Assignment, tuple[float, float]] = {}
        self._profiled: dict[Assignment, None] = {}
        self._theirs: np.ndarray | None = None

    def add(self, evaluation: Evaluation) -> None:
        """A plan was profiled."""
        plan = evaluation.assignment
        for place, values in enumerate(evaluation.stages):
            for dim, value in values.items() if self.space.stages[place].steady else ():
                if dim in self._least:
                    least, most = self._least[dim][place], self._most[dim][place]
                    least[plan[place]] = min(value, least[plan[place]])
                    most[plan[place]] = max(value, most[plan[place]])
        self._profiled[plan] = None
        self._options, self._theirs = {}, None
        n = len(evaluation.scores)
        classes = tuple(int(s.option_class[o]) for s, o in zip(self._stages, plan, strict=True))
        if LOSS in self.dims and n > self._rows.get(classes, 0):
            self._rows[classes] = n
            self._seen[classes] = _interval(evaluation.scores)
            self._audit(classes)

    def kept(self, plans: np.ndarray) -> np.ndarray:
        """Which of `` `m x stages` `` plans may be worth profiling, `` `m` ``."""
        beaten, missed = self._gone(plans)
        return np.logical_not(beaten.any(axis=1) | missed.any(axis=1))

    def left_out(self, plans: np.ndarray) -> Iterator[Pruned]:
        """The reason of each of the others."""
        beaten, missed = self._gone(plans)
        profiled, lows = list(self._profiled), self.bounds(plans).low
        for place in np.flatnonzero(beaten.any(axis=1) | missed.any(axis=1)):
            by = None if missed[place].any() else int(beaten[place].argmax())
            which = np.flatnonzero(missed[place]) if by is None else np.arange(len(self.dims))
            limit = self._limits if by is None else self._worst()[by]
            yield Pruned(
                tuple(plans[place].tolist()),
                None if by is None else profiled[by],
                tuple(self.dims[dim] for dim in which),
                tuple(lows[place][which].tolist()),
                tuple(limit[which].tolist()),
            )

    def _gone(self, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By which profiled plan each is beaten, `` `m x n` ``, and which limits it misses."""
        low, worst = self.bounds(plans).low, self._worst()
        shape = len(plans), len(worst)
        no_better, worse = np.ones(shape, bool), np.zeros(shape, bool)
        for own, theirs in zip(low.T, worst.T, strict=True):
            no_better &= own[:, None] >= theirs[None, :]
            worse |= own[:, None] > theirs[None, :]
        return no_better & worse, low > self._limits

    def _worst(self) -> np.ndarray:
        """Of the `` `n` `` plans profiled, the pessimistic values."""
        if self._theirs is None:
            plans = np.array(list(self._profiled), int).reshape(-1, len(self.space.stages))
            self._theirs = self.bounds(plans).high
        return self._theirs

    def bounds(self, plans: np.ndarray) -> Bounds:
        """What each plan takes at best and at worst, in `dims`."""
        pairs = []
        for dim in self.dims:
            if dim == LOSS:
                pairs.append(self._losses(plans))
            else:
                low, high = self._along_options(dim)
                pairs.append((self._along(plans, dim, low), self._along(plans, dim, high)))
        return Bounds(
            np.stack([low for low, _ in pairs], axis=1),
            np.stack([high for _, high in pairs], axis=1),
        )

    # -- dims of options -----------------------------------------------------------------------

    def _known(self, place: int, dim: str, unknown: float) -> np.ndarray:
        """What the catalog knows of every option."""
        known = self.space.stages[place].known.get(dim)
        if known is None:
            return np.full(len(self.space.stages[place].options), unknown)
        return np.array([unknown if value is None else value for value in known])

    def _along_options(self, dim: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """By stage, the least and the most each option may take."""
        if dim not in self._options:
            pairs = [self._between(place, dim) for place in range(len(self.space.stages))]
            self._options[dim] = [low for low, _ in pairs], [high for _, high in pairs]
        return self._options[dim]

    def _between(self, place: int, dim: str) -> tuple[np.ndarray, np.ndarray]:
        least, most = self._least[dim][place], self._most[dim][place]
        known = np.isfinite(least)
        low = np.where(known, least / (1.0 + SPREAD), 0.0)
        high = np.where(known, most * (1.0 + SPREAD), math.inf)
        for ladder in self.space.ladders:
            if ladder.stage == place and ladder.dim == dim:
                steps = list(ladder.options)
                low[steps] = np.maximum.accumulate(low[steps])
                high[steps] = np.minimum.accumulate(high[steps][::-1])[::-1]
        if dim.startswith(POOLS):
            device = self.space.devices.index(dim.partition(":")[2])
            elsewhere = self._stages[place].option_device != device
            low[elsewhere] = high[elsewhere] = 0.0
        return low, high

    def _along(self, plans: np.ndarray, dim: str, values: Sequence[np.ndarray]) -> np.ndarray:
        """A dim of each plan from its options': their sum, or the longest way with transfers."""
        taken = [table[plans[:, place]] for place, table in enumerate(values)]
        if dim not in self.space.paths:
            return np.asarray(np.sum(taken, axis=0))
        none = [np.zeros(len(plans))] * len(taken)
        return longest(self.space, self._stages, plans, taken, none)[0]

    # -- loss of plans -------------------------------------------------------------------------

    def _losses(self, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The least and the most loss of each plan, by the profiled plans above and below it."""
        classes = np.stack(
            [stage.option_class[o] for stage, o in zip(self._stages, plans.T, strict=True)]
        )
        if self._laddered:
            return self._implied(self._orders, classes, list(self._seen))
        unknown = (0.0, math.inf)
        found = [self._seen.get(one, unknown) for one in zip(*classes.tolist(), strict=True)]
        low, high = np.array(found).reshape(-1, 2).T
        return low, high

    def _implied(
        self, orders: Sequence[np.ndarray], classes: np.ndarray, seen: Sequence[Assignment]
    ) -> tuple[np.ndarray, np.ndarray]:
        """By classes seen, of `` `stages x m` `` classes."""
        if not seen:
            return np.zeros(classes.shape[1]), np.full(classes.shape[1], math.inf)
        theirs = np.array(seen).T
        above = np.ones((theirs.shape[1], classes.shape[1]), bool)
        below = above.copy()
        for order, mine, other in zip(orders, classes, theirs, strict=True):
            above &= order[other[:, None], mine[None, :]]
            below &= order[mine[None, :], other[:, None]]
        lows, highs = np.array([self._seen[one] for one in seen]).T
        low = np.where(above, lows[:, None], 0.0).max(axis=0)
        high = np.where(below, highs[:, None], math.inf).min(axis=0)
        return low, high

    def _audit(self, classes: Assignment) -> None:
        """End the ladders that a plan just profiled contradicts."""
        if not self._laddered:
            return
        others = [one for one in self._seen if one != classes]
        low, high = self._implied(self._audits, np.array([classes]).T, others)
        best, worst = self._seen[classes]
        if low[0] > worst or best > high[0]:
            self.violated, self._laddered = True, False

    def _order(self, place: int, *, everything: bool) -> np.ndarray:
        """`[a, b]`: is class a's loss at most b's, by ladders, with those audited or without?"""
        alike = self._stages[place].option_class
        order = np.eye(self._stages[place].classes, dtype=bool)
        for ladder in self.space.ladders:
            if ladder.stage == place and ladder.dim == LOSS:
                left_out = frozenset() if everything else ladder.audited
                steps = alike[[option for option in ladder.options if option not in left_out]]
                for at, step in enumerate(steps):
                    order[step, steps[at:]] = True
        while True:  # until it is transitive: at most log2 of the classes times
            wider = (order.astype(np.float32) @ order.astype(np.float32)) > 0
            if (wider == order).all():
                return order
            order = wider


def _interval(scores: Sequence[float]) -> tuple[float, float]:
    """The least and the most loss that these scores leave likely."""
    n = len(scores)
    mean = math.fsum(scores) / n
    spread = math.fsum((score - mean) ** 2 for score in scores) / max(1, n - 1)
    loss, variance = loss_of(mean, spread, n)
    error = DEVIATIONS * math.sqrt(variance)
    return max(loss - error, 0.0), loss + error
