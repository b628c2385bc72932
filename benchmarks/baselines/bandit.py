"""A bandit over operators, as in Abacus: Pareto frontiers with confidence bounds, stage by stage.

[Russo et al. 2025, "Abacus: A Cost-Based Optimizer for Semantic Operator Systems"; Palimpzest's
public code] keeps, for every logical operator, a frontier of `k` physical operators. Each round
runs every operator on the frontier on more rows, a new one on `j` rows at once; then it drops those
whose optimistic bounds on all metrics are worse than the pessimistic ones of a Pareto-optimal
operator, and takes new ones from a reservoir in random order. The bounds are mean ± α √(ln N / n),
with α half the range of a metric's means. Operators run on what the best ones before them put out.
Plans are put together from the means at the end, keeping the Pareto-optimal operators.

Not public for a case like ours, and chosen here: quality is only seen end to end, without a label
or a judge per operator, so an operator is run in the plan of the others' best and credited with
that plan's score; a plan is taken to be as good as the best plan seen, times each operator's ratio
to the best at its stage. Old operators get `step` more rows at a round, not one: a round of one row
each would be thousands of evaluations. Prior beliefs on operators are not given to it: no search
here has any. Dims add up or follow the longest path, with the transfers that the space states. The
frontier never ends by a budget of its own; the driver ends it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from octans.ir.slo import Slo
from octans.planner.search.protocol import (
    SOURCE,
    Assignment,
    Candidate,
    Evaluation,
    Proposal,
    Space,
)

from .plans import Baseline

COMBINATIONS = 50_000
"""Plans that are put together from Pareto-optimal operators; of more, some operators are left out
evenly along the objective."""


@dataclass(frozen=True)
class Operator:
    """What was seen of one option: mean score of its plans, dims, rows."""

    quality: float
    dims: Mapping[str, float]
    rows: int


class Bandit(Baseline):
    """Pareto-UCB per operator."""

    def __init__(
        self, space: Space, slo: Slo, *, rows: int, seed: int, sample: int, k: int, step: int
    ) -> None:
        super().__init__(space, slo, rows=rows, seed=seed, sample=sample)
        self.rows, self.k, self.step = rows, k, step
        self._reservoir = [list(range(len(stage.options))) for stage in space.stages]
        for order in self._reservoir:
            self.rng.shuffle(order)
        self._frontier = [order[:k] for order in self._reservoir]
        self._reservoir = [order[k:] for order in self._reservoir]
        self._off: list[list[int]] = [[] for _ in space.stages]
        self._operators: list[dict[int, Operator]] = [{} for _ in space.stages]
        self._round: list[tuple[int, int]] = []
        self._asked: tuple[int, int] | None = None
        self._devices = [
            np.array([space.devices.index(option.device) for option in stage.options])
            for stage in space.stages
        ]
        self._composed: Candidate | None = None
        self._stale = False

    def propose(self) -> Assignment | None:
        """The plan of the next operator of this round and the best ones elsewhere."""
        if not self._round:
            self._begin_round()
        if not self._round:
            return None
        stage, option = self._asked = self._round.pop()
        best = self._champions()
        return (*best[:stage], option, *best[stage + 1 :])

    def ask(self) -> Proposal | None:
        """The operator's next rows."""
        plan = self.propose()
        if plan is None or self._asked is None:
            return None
        stage, option = self._asked
        known = self._operators[stage].get(option)
        rows = self.sample if known is None else known.rows + self.step
        return Proposal(plan, min(rows, self.rows))

    def _begin_round(self) -> None:
        for stage in range(len(self._frontier)):
            if self._operators[stage]:
                self._renew(stage)
        self._round = [
            (stage, option)
            for stage, frontier in reversed(list(enumerate(self._frontier)))
            for option in reversed(frontier)
        ]

    def _champions(self) -> Assignment:
        """By stage, the operator of the highest mean quality; before any, the first to be run."""
        return tuple(
            max(known, key=lambda option: known[option].quality) if known else frontier[0]
            for known, frontier in zip(self._operators, self._frontier, strict=True)
        )

    def tell(self, evaluation: Evaluation) -> None:
        """Credit the operator; and those it ran with, where they have no more rows yet."""
        super().tell(evaluation)
        seen = self.seen[evaluation.assignment]
        for stage, option in enumerate(evaluation.assignment):
            known = self._operators[stage].get(option)
            if known is None or known.rows <= seen.rows:
                self._operators[stage][option] = Operator(
                    seen.metrics["accuracy"], evaluation.stages[stage], seen.rows
                )
        self._stale = True

    def _renew(self, stage: int) -> None:
        """Who stays on the frontier, who comes back, who comes from the reservoir."""
        known = self._operators[stage]
        options = list(known)
        means = np.array([self._metrics(known[option]) for option in options])
        rows = np.array([known[option].rows for option in options], dtype=float)
        spread = 0.5 * (means.max(axis=0) - means.min(axis=0))
        wide = spread * np.sqrt(math.log(max(rows.sum(), 2.0)) / rows)[:, None]
        pareto = ~_worse(means, means, strict=True)
        beaten = _worse(means - wide, (means + wide)[pareto], strict=False)
        keep = {
            option
            for option, stays, n in zip(options, pareto | ~beaten, rows, strict=True)
            if stays and n < self.rows
        }
        was = self._frontier[stage]
        off = [*self._off[stage], *(option for option in was if option not in keep)]
        frontier = [option for option in was if option in keep]
        frontier += [option for option in off if option in keep]
        self._off[stage] = [option for option in off if option not in keep]
        while len(frontier) < self.k and self._reservoir[stage]:
            frontier.append(self._reservoir[stage].pop(0))
        self._frontier[stage] = frontier

    def _asked_dims(self) -> list[str]:
        named = [c.metric for c in self.slo.constraints] + [self.slo.objective.metric]
        return [dim for dim in dict.fromkeys(named) if dim != "accuracy"]

    def _metrics(self, operator: Operator) -> list[float]:
        """All smaller-is-better."""
        return [-operator.quality, *(operator.dims.get(d, 0.0) for d in self._asked_dims())]

    def incumbent(self) -> Candidate | None:
        """The best plan put together from what is known of operators."""
        if self._stale:
            self._composed, self._stale = self._compose(), False
        return self._composed

    def _compose(self) -> Candidate | None:
        if not all(self._operators):
            return None
        options = self._pareto_options()
        grid = np.array(np.meshgrid(*options, indexing="ij")).reshape(len(options), -1)
        metrics = self._estimates(grid)
        allowed = np.ones(grid.shape[1], dtype=bool)
        for c in self.slo.constraints:
            value = metrics[c.metric]
            allowed &= value <= c.limit if c.operator == "<=" else value >= c.limit
        if not allowed.any():
            return None
        goal = self.slo.objective
        values = metrics[goal.metric] * (-1.0 if goal.maximize else 1.0)
        at = int(np.where(allowed, values, np.inf).argmin())
        plan = tuple(int(option) for option in grid[:, at])
        estimate = {metric: float(value[at]) for metric, value in metrics.items()}
        rows = self.seen[plan].rows if plan in self.seen else 0
        return Candidate(plan, estimate, 1.0, rows)

    def _pareto_options(self) -> list[list[int]]:
        """By stage, Pareto-optimal options of each device, so few that all combinations are."""
        most = max(int(COMBINATIONS ** (1.0 / len(self._operators))), 1)
        found = []
        for stage, known in enumerate(self._operators):
            options = np.array(list(known))
            means = np.array([self._metrics(known[int(option)]) for option in options])
            devices = self._devices[stage][options]
            keep = np.zeros(len(options), dtype=bool)
            for device in np.unique(devices):
                mine = devices == device
                keep[mine] = ~_worse(means[mine], means[mine], strict=True)
            left = options[keep][np.argsort(means[keep][:, -1], kind="stable")]
            places = np.unique(np.linspace(0, len(left) - 1, min(most, len(left))).astype(int))
            found.append([int(option) for option in left[places]])
        return found

    def _estimates(self, grid: np.ndarray) -> dict[str, np.ndarray]:
        """Accuracy and dims of plans, `stages x plans` options."""
        best = max(
            (seen for seen in self.seen.values() if seen.rows >= self.sample),
            key=lambda seen: seen.metrics["accuracy"],
            default=None,
        )
        accuracy = np.full(grid.shape[1], best.metrics["accuracy"] if best else 0.0)
        for known, options in zip(self._operators, grid, strict=True):
            top = max(operator.quality for operator in known.values()) or 1.0
            accuracy *= _looked_up({o: known[o].quality / top for o in known}, options)
        metrics = {"accuracy": accuracy}
        for dim in self._asked_dims():
            parts = [
                _looked_up({o: known[o].dims.get(dim, 0.0) for o in known}, options)
                for known, options in zip(self._operators, grid, strict=True)
            ]
            metrics[dim] = self._longest(parts, grid) if dim in self.space.paths else sum(parts)
        return metrics

    def _longest(self, parts: Sequence[np.ndarray], grid: np.ndarray) -> np.ndarray:
        """The longest way through the DAG, `plans`."""
        done: list[np.ndarray] = []
        for stage, described in enumerate(self.space.stages):
            here = self._devices[stage][grid[stage]]
            start = np.zeros(grid.shape[1])
            for parent in described.parents:
                ready = np.zeros(grid.shape[1]) if parent == SOURCE else done[parent]
                moved = self.space.transfers.get((parent, stage))
                if moved is not None:
                    table = np.array(moved)
                    row = 0 if parent == SOURCE else self._devices[parent][grid[parent]]
                    ready = ready + table[row, here]
                start = np.maximum(start, ready)
            done.append(start + parts[stage])
        return np.max(done, axis=0)


def _looked_up(values: Mapping[int, float], options: np.ndarray) -> np.ndarray:
    table = np.zeros(max(values) + 1)
    for option, value in values.items():
        table[option] = value
    return table[options]


def _worse(points: np.ndarray, others: np.ndarray, *, strict: bool) -> np.ndarray:
    """Which of `n x m` points is some other better than in all metrics (not `strict`: or equal)?"""
    compared = others[None] < points[:, None] if strict else others[None] <= points[:, None]
    found: np.ndarray = compared.all(axis=2).any(axis=1)
    return found
