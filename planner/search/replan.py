"""Re-planning: solve again after one stage's numbers changed, for a small part of the first price.

Between changes, when there is time, `Replanner.ready` makes for every stage its *complement*: all
undominated combinations of the other stages whose reduced costs sum to at most a window. A plan of
cost <= U has reduced costs of at most U minus the Lagrangian bound, so when a stage changes, its
new options joined with its complement hold every plan that can win, as long as

    best plan found - bound with the new entries <= window,

which is checked after joining; otherwise (or where labels carry more than sums) the problem is
solved anew, from the surviving options and the last plan. Either way the optimum is proven, and of
equally good plans the first by the problem's `ties` is returned. The multipliers stay those of the
last full solve: any give a valid bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from operator import add, le, sub

from ...ir.record import dataclass
from .dual import flatten, maximise, reduced
from .exact import first_of_tied
from .labels import Effort, Label, Space, dominate, extend
from .prepare import undominated
from .single import RELATIVE, Search, Solution
from .table import Assignment, Problem, StageTable
from .wide import fits

WINDOW = 2.0
"""The window, in gaps between bound and optimum of the last full solve (our choice)."""
MAX_PARTIAL = 20_000
"""Labels or joined combinations a complement may take; beyond it the stage is solved anew."""


@dataclass(frozen=True)
class Complement:
    """Combinations of all stages but one, by ascending reduced cost.

    `costs[i]` is the sum of reduced costs, `sums[i]` the sums by dim, `labels[i]` the two partial
    plans joined. `floor` is the bound's part of the other stages; `known` are the sums of the last
    optimum `plan` without the stage: it gives a first plan.
    """

    costs: tuple[float, ...]
    sums: tuple[tuple[float, ...], ...]
    labels: tuple[tuple[Label, Label], ...]
    floor: float
    known: tuple[float, ...]
    plan: Assignment


class Replanner:
    """A problem that is solved again and again while its statistics change."""

    def __init__(self, problem: Problem) -> None:
        """`problem.measured` must be empty: restrict it first (see `exact.restrict`)."""
        self.search = Search(problem)
        self.last: Solution | None = None
        self.window = 0.0
        self.complements: dict[int, Complement] = {}
        self.space: Space | None = None
        self.multipliers: dict[str, float] = {}
        self.pending: dict[int, StageTable] = {}
        self.idle: list[tuple[str, float, tuple[float, ...]]] = []

    def solve(self) -> Solution | Effort:
        """Solve from what is kept of the stages."""
        self._catch_up()
        self.complements = {}
        found = self.search.solve()
        if not isinstance(found, Solution):
            self.last = None
            return found
        self.last = self._first_of_tied(found)
        return self.last

    def ready(self) -> bool:
        """Make the complements for the next change; False where they do not apply or grow big."""
        self._catch_up()
        self.complements = {}
        if self.last is None:
            return False
        search = self.search
        self.idle = [
            (dim, limit.bound, tuple(_most(table, dim) for table in search.problem.stages))
            for limit in search.problem.limits
            if limit not in search.limits
            for dim in limit.terms
        ]
        flat = flatten(search.problem, search.data)
        terms = search.problem.goal.terms
        rows = [dim for limit in search.limits for dim in limit.terms]
        bounds = [limit.bound for limit in search.limits for _ in limit.terms]
        goal = flat.row(terms[0])
        dual = maximise(
            flat,
            [goal],
            [flat.row(dim) for dim in rows],
            bounds,
            big=10.0 * sum(map(abs, goal)) + 1,
        )
        self.window = WINDOW * max(self.last.key - dual.bound, RELATIVE * abs(self.last.key))
        effort = Effort()
        space = search.space(
            flat, reduced(flat, dual.weights, dual.least), 0.0, effort, self.window
        )
        if not fits(space) or len(terms) > 1:
            return False
        self.space = space
        self.multipliers = {}
        for dim, multiplier in zip(rows, dual.multipliers, strict=True):
            self.multipliers[dim] = self.multipliers.get(dim, 0.0) + multiplier
        priced = sum(m * b for m, b in zip(dual.multipliers, bounds, strict=True))
        floors = [least[0] for least in dual.least]
        forward = self._partials(space, list(range(len(space.layers))))
        backward = self._partials(space, list(range(len(space.layers) - 1, -1, -1)))
        if forward is None or backward is None:
            return False
        for at, layer in enumerate(space.layers):
            others = sum(floors) - floors[layer.stage] - priced
            before, after = forward[at], backward[len(space.layers) - 1 - at]
            joined = self._join(space, layer.stage, before, after, others)
            if joined is not None:
                self.complements[layer.stage] = joined
        return bool(self.complements)

    def _partials(self, space: Space, order: Sequence[int]) -> list[list[Label]] | None:
        """Undominated partial plans after 0, 1, … layers, in this order of layers.

        A limit prunes only what misses it whatever the changed stage becomes (entries >= 0).
        """
        slack = [self._least(stage, dim) for stage, dim in _pairs(space)]
        count = len(space.dims)
        caps = tuple(cap + max(slack[at::count], default=0.0) for at, cap in enumerate(space.caps))
        labels = [space.root]
        found = [labels]
        for at in order:
            labels = extend(space, space.layers[at], labels, self.window, caps, ())
            labels = dominate(labels)
            if len(labels) > MAX_PARTIAL:
                return None
            found.append(labels)
        return found

    def _least(self, stage: int, dim: str) -> float:
        """The least entry of a stage's survivors."""
        rows = self.search.data[stage].rows.get(dim)
        return min(rows[0]) if rows is not None else 0.0

    def _join(
        self,
        space: Space,
        stage: int,
        before: Sequence[Label],
        after: Sequence[Label],
        floor: float,
    ) -> Complement | None:
        """All pairs within the window and, with the stage at 0, within the limits."""
        own = tuple(self._least(stage, dim) for dim in space.dims)
        base = tuple(map(add, space.root.sums, own))
        right = sorted(after, key=_bound)
        costs: list[float] = []
        sums: list[tuple[float, ...]] = []
        pairs: list[tuple[Label, Label]] = []
        for first in before:
            room = self.window - first.bound
            shift = tuple(map(sub, first.sums, base))
            for second in right:
                if second.bound > room:
                    break
                total = tuple(map(add, shift, second.sums))
                if all(map(le, total, space.caps)):
                    costs.append(first.bound + second.bound)
                    sums.append(total)
                    pairs.append((first, second))
            if len(costs) > 10 * MAX_PARTIAL:
                return None
        kept = undominated(range(len(costs)), sums)
        kept.sort(key=costs.__getitem__)
        return Complement(
            tuple(costs[at] for at in kept),
            tuple(sums[at] for at in kept),
            tuple(pairs[at] for at in kept),
            floor,
            self._known(space, stage),
            self.last.assignment if self.last is not None else (),
        )

    def _known(self, space: Space, stage: int) -> tuple[float, ...]:
        """The sums of the last optimum without one stage."""
        assert self.last is not None
        found = []
        for dim in space.dims:
            entries = self.search.problem.entries(dim, self.last.assignment)
            found.append(sum(entries[:stage]) + sum(entries[stage + 1 :]))
        return tuple(found)

    def change(self, place: int, table: StageTable) -> Solution | Effort:
        """Take new entries for one stage and solve again."""
        complement = self.complements.get(place)
        found = self._joined(place, table, complement) if complement is not None else None
        self.pending[place] = table
        if found is None or complement is None:
            return self.solve()
        self.last = self._first_of_tied(found)
        self.complements = {place: complement}
        return self.last

    def _first_of_tied(self, found: Solution) -> Solution:
        """The plan as good as this one that comes first, with the entries of now."""
        known = self.search.problem
        stages = (self.pending.get(place, table) for place, table in enumerate(known.stages))
        return first_of_tied(replace(known, stages=tuple(stages)), found)

    def _catch_up(self) -> None:
        """Take over entries that joining did without."""
        for place, table in self.pending.items():
            self.search.change(place, table)
        self.pending = {}
        if self.last is not None:
            self.search.best = self.last.assignment

    def _joined(
        self, place: int, table: StageTable, complement: Complement | None
    ) -> Solution | None:
        """The optimum by joining; None where it would not be proven."""
        space = self.space
        if complement is None or space is None or len(table.option_class) == 0:
            return None
        zero = (0.0,) * table.size
        columns = [table.rows[dim][0] if dim in table.rows else zero for dim in space.dims]
        goal = space.goals.index(True)
        weights = list(columns[goal])
        for dim, column in zip(space.dims, columns, strict=True):
            multiplier = self.multipliers.get(dim, 0.0)
            if multiplier:
                weights = [w + multiplier * x for w, x in zip(weights, column, strict=True)]
        if min(map(min, columns)) < 0.0 or not self._stays_idle(place, table):
            return None
        least = min(weights)
        bound = complement.floor + least
        best, found, first = math.inf, None, -1
        for option, entries in enumerate(zip(*columns, strict=True)):
            value = entries[goal] + complement.known[goal]
            if value < best and all(map(le, map(add, entries, complement.known), space.caps)):
                best, first = value, option
        window = self.window + least
        costs, sums, caps = complement.costs, complement.sums, space.caps
        for option in sorted(range(table.size), key=weights.__getitem__):
            room = min(window, best - complement.floor) - weights[option]
            if room < 0.0:
                break
            mine = [column[option] for column in columns]
            left = list(map(sub, caps, mine))
            left[goal] = min(left[goal], best - mine[goal])
            for at, cost in enumerate(costs):
                if cost > room:
                    break
                if all(map(le, sums[at], left)) and sums[at][goal] < left[goal]:
                    best = mine[goal] + sums[at][goal]
                    left[goal] = sums[at][goal]
                    room = min(room, best - complement.floor - weights[option])
                    found = (option, at)
        if best - bound > self.window:
            return None
        if found is not None:
            assignment = self._plan(place, found[0], complement.labels[found[1]])
        else:
            kept = complement.plan
            assignment = (*kept[:place], first, *kept[place + 1 :])
        return Solution(assignment, best, bound, Effort(), best)

    def _stays_idle(self, place: int, table: StageTable) -> bool:
        """Do limits that nothing could miss stay so?"""
        return all(
            sum(most) - most[place] + _most(table, dim) <= bound for dim, bound, most in self.idle
        )

    def _plan(self, place: int, option: int, parts: tuple[Label, Label]) -> Assignment:
        """Option per stage of a joined plan."""
        space = self.space
        assert space is not None
        flat = space.flat
        found = [0] * len(flat.sizes)
        found[place] = option
        for part in parts:
            at: Label | None = part
            while at is not None and at.position >= 0:
                stage = _stage_of(flat.starts, at.position)
                found[stage] = flat.data[stage].options[at.position - flat.starts[stage]]
                at = at.parent
        return tuple(found)


def _stage_of(starts: Sequence[int], position: int) -> int:
    """The stage a flat position belongs to."""
    stage = 0
    while stage + 1 < len(starts) and starts[stage + 1] <= position:
        stage += 1
    return stage


def _most(table: StageTable, dim: str) -> float:
    """The largest entry of a stage."""
    return max(map(max, table.rows[dim])) if dim in table.rows else 0.0


def _pairs(space: Space) -> list[tuple[int, str]]:
    """Every stage with every dim."""
    return [(layer.stage, dim) for layer in space.layers for dim in space.dims]


def _bound(label: Label) -> float:
    return label.bound
