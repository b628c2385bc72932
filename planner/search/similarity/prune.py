"""Pruning of candidate plans, each with the reason, from what is known of them before they run.

A candidate goes only if its *optimistic* numbers are no better than the *pessimistic* ones of
another, worse in one at least, in every dim asked and in what it takes of every shared pool
(`busy:DEVICE`, `memory:DEVICE`): a plan that is worse but leaves a device free may be what a
schedule of many queries needs.

Where the numbers come from (our choice):

- a sum or path dim: each option's interval is what was seen of it in any plan, and what the catalog
  knows, widened by `SPREAD`; along a *ladder* an option unseen lies between its neighbours; an
  option takes nothing of another device's pools. Intervals are then added along the plan or taken
  along its longest path, which are monotone.
- `loss`, plan by plan: each plan profiled has an interval of `DEVIATIONS` standard errors. A plan
  that at no stage stands lower on a ladder of loss than a profiled one has at most its loss;
  likewise at least. Options of one variant with the same knobs answer alike.

What is unknown is [0, inf), which prunes nothing and is pruned by nothing it could beat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ....ir.record import dataclass
from ..protocol import SOURCE, Evaluation, Space
from ..table import Assignment
from .warm_start import loss_of

if TYPE_CHECKING:
    import numpy as np

SPREAD = 0.25
"""By how much a value seen in one plan may differ in another: conditions and queues differ."""
DEVIATIONS = 3.0
"""Standard errors on both sides of a loss: a thousand comparisons are made at once."""
MOST_PRUNERS = 300
"""Plans others are compared with, the pessimistically smallest first: not all that could go has to
(10,000 plans in 8 dims take about 0.2 s)."""
POOLS = ("busy:", "memory:")
"""How dims of shared pools begin; the device follows."""


@dataclass(frozen=True)
class Ladder:
    """Options of a stage along which a dim never falls: sizes, precisions, batches."""

    stage: int
    dim: str
    options: tuple[int, ...]


@dataclass(frozen=True)
class Bounds:
    """Optimistic `low` and pessimistic `high` values of plans, `plans x dims` each."""

    dims: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Pruned:
    """A candidate left out: at `best` it is no better than `by` at `worst`, dim by dim."""

    assignment: Assignment
    by: Assignment
    dims: tuple[str, ...]
    best: tuple[float, ...]
    worst: tuple[float, ...]

    @property
    def reason(self) -> str:
        """`cost at best 0.3, of the other at worst 0.2; …`."""
        return "; ".join(
            f"{dim} at best {best:.4g}, of the other at worst {worst:.4g}"
            for dim, best, worst in zip(self.dims, self.best, self.worst, strict=True)
        )


def pools(space: Space) -> tuple[str, ...]:
    """The dims of shared pools."""
    return tuple(dim for dim in space.sums if dim.startswith(POOLS))


def prune(plans: np.ndarray, bounds: Bounds) -> tuple[np.ndarray, tuple[Pruned, ...]]:
    """Leave out what another plan is sure to beat; nothing is left out by what is left out itself.

    Args:
        plans: `n x stages` option places.
        bounds: of the same plans; all dims that matter, those of pools included.

    Returns:
        The places kept, ascending; and those left out, each with its reason.
    """
    import numpy as np

    low, high = bounds.low, bounds.high
    by = np.full(len(plans), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.log(high).sum(axis=1)
    size[np.isnan(size)] = math.inf  # a 0 beside what is unknown
    for pruner in np.argsort(size, kind="stable")[:MOST_PRUNERS]:
        if by[pruner] < 0:
            worst = high[pruner]
            beaten = (by < 0) & (low >= worst).all(axis=1) & (low > worst).any(axis=1)
            by[beaten] = pruner
    # What beat a plan may be beaten later by another, which then beats both.
    for place in np.flatnonzero(by >= 0):
        while by[by[place]] >= 0:
            by[place] = by[by[place]]
    left_out = tuple(
        Pruned(
            tuple(plans[place].tolist()),
            tuple(plans[by[place]].tolist()),
            bounds.dims,
            tuple(low[place].tolist()),
            tuple(high[by[place]].tolist()),
        )
        for place in np.flatnonzero(by >= 0)
    )
    return np.flatnonzero(by < 0), left_out


def bounds_of(
    space: Space,
    plans: np.ndarray,
    seen: Sequence[Evaluation],
    asked: Sequence[str],
    ladders: Sequence[Ladder] = (),
) -> Bounds:
    """What each plan takes at best and at worst, in the dims asked and in every shared pool."""
    import numpy as np

    dims = tuple(dict.fromkeys((*asked, *pools(space))))
    pairs = []
    for dim in dims:
        if dim == "loss":
            pairs.append(_losses(space, plans, seen, ladders))
        else:
            low, high = _options(space, seen, dim, ladders)
            pairs.append((_along(space, plans, dim, low), _along(space, plans, dim, high)))
    return Bounds(
        dims,
        np.stack([low for low, _ in pairs], axis=1),
        np.stack([high for _, high in pairs], axis=1),
    )


def _options(
    space: Space, seen: Sequence[Evaluation], dim: str, ladders: Sequence[Ladder]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """By stage, the least and the most each option may take."""
    import numpy as np

    lows, highs = [], []
    for place, stage in enumerate(space.stages):
        values = _values(place, len(stage.options), seen, dim, stage.known)
        low = np.array([min(v) / (1.0 + SPREAD) if v else 0.0 for v in values])
        high = np.array([max(v) * (1.0 + SPREAD) if v else math.inf for v in values])
        for ladder in ladders:
            if ladder.stage == place and ladder.dim == dim:
                steps = list(ladder.options)
                low[steps] = np.maximum.accumulate(low[steps])
                high[steps] = np.minimum.accumulate(high[steps][::-1])[::-1]
        if dim.startswith(POOLS):
            device = dim.partition(":")[2]
            elsewhere = [option.device != device for option in stage.options]
            low[elsewhere] = high[elsewhere] = 0.0
        lows.append(low)
        highs.append(high)
    return lows, highs


def _values(
    place: int,
    options: int,
    seen: Sequence[Evaluation],
    dim: str,
    known: Mapping[str, tuple[float | None, ...]],
) -> list[list[float]]:
    """What was seen of each option, and what the catalog knows."""
    found: list[list[float]] = [[] for _ in range(options)]
    for option, value in enumerate(known.get(dim, ())):
        if value is not None:
            found[option].append(value)
    for one in seen:
        if dim in one.stages[place]:
            found[one.assignment[place]].append(one.stages[place][dim])
    return found


def _along(space: Space, plans: np.ndarray, dim: str, values: Sequence[np.ndarray]) -> np.ndarray:
    """A dim of each plan from its options': their sum, or the longest way with transfers."""
    import numpy as np

    taken = [table[plans[:, place]] for place, table in enumerate(values)]
    if dim not in space.paths:
        total: np.ndarray = np.sum(taken, axis=0)
        return total
    number = {device: at for at, device in enumerate(space.devices)}
    on = [
        np.array([number[option.device] for option in stage.options])[plans[:, place]]
        for place, stage in enumerate(space.stages)
    ]
    done: list[np.ndarray] = []
    for place, stage in enumerate(space.stages):
        start = np.zeros(len(plans))
        for parent in stage.parents:
            ready = np.zeros(len(plans)) if parent == SOURCE else done[parent]
            moved = space.transfers.get((parent, place))
            if moved is not None:
                rows = np.array(moved)
                ready = ready + (rows[0, on[place]] if parent == SOURCE
                                 else rows[on[parent], on[place]])  # fmt: skip
            start = np.maximum(start, ready)
        done.append(start + taken[place])
    longest: np.ndarray = np.max(done, axis=0)
    return longest


def _losses(
    space: Space, plans: np.ndarray, seen: Sequence[Evaluation], ladders: Sequence[Ladder]
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most loss of each plan, by the profiled plans above and below it."""
    import numpy as np

    low, high = np.zeros(len(plans)), np.full(len(plans), math.inf)
    orders = [_no_worse(space, place, ladders) for place in range(len(space.stages))]
    for one in seen:
        n = len(one.scores)
        if not n:
            continue
        mean = math.fsum(one.scores) / n
        spread = math.fsum((score - mean) ** 2 for score in one.scores) / max(1, n - 1)
        loss, variance = loss_of(mean, spread, n)
        error = DEVIATIONS * math.sqrt(variance)
        above, below = np.ones(len(plans), bool), np.ones(len(plans), bool)
        for place, order in enumerate(orders):
            above &= order[one.assignment[place], plans[:, place]]
            below &= order[plans[:, place], one.assignment[place]]
        low[above] = np.maximum(low[above], max(loss - error, 0.0))
        high[below] = np.minimum(high[below], loss + error)
    return low, high


def _no_worse(space: Space, place: int, ladders: Sequence[Ladder]) -> np.ndarray:
    """`[a, b]`: is option a's loss at most b's, by ladders and by what answers alike?"""
    import numpy as np

    options = space.stages[place].options
    numbers: dict[tuple[object, object], int] = {}
    alike = np.array([numbers.setdefault((o.variant, o.knobs), len(numbers)) for o in options])
    order = np.eye(len(numbers), dtype=bool)
    for ladder in ladders:
        if ladder.stage == place and ladder.dim == "loss":
            steps = alike[list(ladder.options)]
            for at, step in enumerate(steps):
                order[step, steps[at:]] = True
    while True:  # until it is transitive: at most log2 of the options times
        wider = (order.astype(np.float32) @ order.astype(np.float32)) > 0
        if (wider == order).all():
            found: np.ndarray = order[np.ix_(alike, alike)]
            return found
        order = wider
