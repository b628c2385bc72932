"""One problem without measured assignments: the optimum by relaxation, first plans and labels.

1. Dominated options go (`prepare`); limits that cannot bind are left out.
2. The Lagrangian dual gives a lower bound and reduced costs (`dual`); its assignments and the last
   optimum give a first plan.
3. Labels (`labels`, `wide`) are explored up to a target between the bound and the best plan known;
   a plan found at or below the target is optimal, else the target rises. The last target is the
   best plan known, so what is returned is proven, to a relative 1e-9 (exactly, for integer goals).

A chain's path dims are sums. Otherwise the relaxation prices every source-to-sink path and every
device's work over its slots, both lower bounds of the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...ir.record import dataclass
from .dual import Column, Dual, Flat, flatten, maximise, reduced
from .labels import (
    Effort,
    Label,
    Layer,
    Space,
    Step,
    explore,
    layers,
    least_tails,
    sum_increments,
)
from .prepare import Layout, Pattern, StageData, layout, prepare_stage
from .table import Assignment, Limit, Problem, StageTable
from .wide import explore_wide, fits

RELATIVE = 1e-9
"""Optimal means: nothing is better by more than this share (floats; integers are exact)."""
MAX_PATHS = 12
"""Paths priced in the relaxation; more only tighten a bound."""
FIRST_SHARE = 512.0
"""The first target is this part of the gap above the bound."""
WIDE_FROM = 4000
"""After this many labels (about 20 ms) the search goes on in numpy arrays."""
FEW_LABELS = 50
"""Below this many labels a round costs nothing worth saving."""
_LEAST_EXPONENT = math.log(3.0) / math.log(4.0)
"""Labels that grow more slowly with the gap than this: the next gap is 4 times as wide."""


@dataclass(frozen=True)
class Solution:
    """Option per stage, what was minimised, the root relaxation's bound, and the effort.

    No plan's key is below `proven`: the key itself, unless a tolerance was given.
    """

    assignment: Assignment
    key: float
    bound: float
    effort: Effort
    proven: float


class Search:
    """One problem made ready to be solved, and again after one stage's table changed.

    What is kept between solves: every stage's surviving options, the multipliers' columns and the
    last optimum. Each solve proves its optimum anew.
    """

    def __init__(
        self, problem: Problem, patterns: Sequence[Pattern] = (), also: Sequence[str] = ()
    ) -> None:
        """`patterns` are ruled out; dims in `also` are kept apart as if limited.

        `problem.measured` is not looked at here.
        """
        self.problem = problem
        self.patterns = tuple(patterns)
        self.also = tuple(also)
        self.limits = active_limits(problem)
        dims = [*problem.goal.terms, *(dim for limit in self.limits for dim in limit.terms), *also]
        self.plan: Layout = layout(problem, dims)
        self.data: list[StageData] = [
            prepare_stage(table, place, self.plan, self.patterns)
            for place, table in enumerate(problem.stages)
        ]
        self.columns: tuple[Column, ...] = ()
        self.best: Assignment | None = None

    def change(self, place: int, table: StageTable) -> None:
        """Take new entries for one stage (its options, device and given as before)."""
        stages = list(self.problem.stages)
        stages[place] = table
        problem = replace(self.problem, stages=tuple(stages))
        limits = active_limits(problem)
        if limits != self.limits:
            self.__init__(problem, self.patterns, self.also)  # type: ignore[misc]
            return
        self.problem = problem
        self.data[place] = prepare_stage(table, place, self.plan, self.patterns)
        self.columns = ()

    def solve(
        self, upper: float = math.inf, tolerance: float = 0.0, most: float = math.inf
    ) -> Solution | Effort:
        """The optimum below `upper`, or the effort it took to know there is none.

        With a `tolerance` a plan within that share of what is proven will do; after `most` labels
        the best plan so far is given, with what is proven so far.
        """
        effort = Effort()
        if any(not stage.options for stage in self.data):
            return effort
        flat = flatten(self.problem, self.data)
        dual, capacity = self._dual(flat)
        effort.dual_steps = dual.steps
        self.columns = dual.columns
        best, value = self._first(flat, dual, upper)
        if dual.bound > capacity * (1.0 + RELATIVE) + 1e-12:
            return effort
        step = 1.0 if self._integral(flat) else 0.0
        ceiling = min(value, capacity * (1.0 + RELATIVE) + 1e-12)
        costs = reduced(flat, dual.weights, dual.least)
        space = self.space(flat, costs, dual.bound, effort, ceiling - dual.bound)
        targets = Targets(dual.bound, ceiling, value < math.inf)
        wide = fits(space)
        reached, complete = dual.bound, False
        while best is None or value > reached + tolerance * abs(reached):
            effort.rounds += 1
            before = effort.labels
            below = min(targets.now, _better(value, step))
            labels = None
            if not wide or before < WIDE_FROM:
                labels = explore(space, below, below, WIDE_FROM if wide else most)
            if labels is None and wide:
                labels = explore_wide(space, below, below, most)
            if labels is None:
                break
            for label in labels:
                found = self.assignment(flat, label)
                key = self.problem.key(found)
                if key < value:
                    best, value = found, key
            reached = min(targets.now, value)
            if targets.now >= ceiling:
                reached, complete = value, True
                break
            if effort.labels > most:
                break
            targets.rise(effort.labels - before)
        if best is None:
            effort.reached = math.inf if complete else reached
            return effort
        self.best = best
        return Solution(best, value, dual.bound, effort, max(reached, dual.bound))

    def _integral(self, flat: Flat) -> bool:
        """Are all goal entries integers, and no penalty added?"""
        if any(limit.soft_from is not None for limit in self.limits):
            return False
        if len(self.problem.goal.terms) > 1 or self.problem.goal.terms[0] in self.plan.paths:
            return False
        return all(type(entry) is int for entry in flat.row(self.problem.goal.terms[0]))

    def _dual(self, flat: Flat) -> tuple[Dual, float]:
        """The relaxation, and the largest goal any assignment can have."""
        terms = self.problem.goal.terms
        goals = [row for dim in terms for row in self._linear(flat, dim)]
        rows: list[list[float]] = []
        bounds: list[float] = []
        for limit in self.limits:
            for dim in limit.terms:
                for row in self._linear(flat, dim):
                    rows.append(row)
                    bounds.append(limit.bound)
        worst = max(_largest(flat, flat.row(dim)) for dim in terms)
        soft = sum(_worst_excess(limit) for limit in self.limits)
        capacity = max(worst * (1.0 + soft), worst + 40.0 * (soft > 0.0))
        dual = maximise(flat, goals, rows, bounds, big=10.0 * worst + 1.0, warm=self.columns)
        return dual, capacity

    def _linear(self, flat: Flat, dim: str) -> list[list[float]]:
        """A dim as sums: itself, or for a path dim its paths and its devices' work."""
        if dim not in self.plan.paths:
            return [flat.row(dim)]
        found = [flat.row(dim, frozenset(path)) for path in paths(self.problem)]
        whole = flat.row(dim)
        for device, slots in enumerate(self.problem.slots):
            work: list[float] = []
            users = 0
            for place, stage in enumerate(self.data):
                mine = [1.0 / slots if d == device else 0.0 for d in stage.devices]
                users += any(mine)
                work.extend(mine * flat.blocks[place])
            if users > slots:
                found.append([w * x for w, x in zip(work, whole, strict=True)])
        return found

    def _first(self, flat: Flat, dual: Dual, upper: float) -> tuple[Assignment | None, float]:
        """A first plan: from the dual's assignments, the last optimum, and single changes."""
        best: Assignment | None = None
        value = upper
        tried = [self.best] if self.best is not None else []
        tried += [self._options(flat, column.positions) for column in dual.columns]
        for assignment in tried:
            key = self._key(assignment)
            if key < value:
                best, value = assignment, key
        return best, value

    def _key(self, assignment: Assignment) -> float:
        """The problem's key without measured losses; inf for a forbidden one."""
        for pattern in self.patterns:
            if all(o in keep for o, keep in zip(assignment, pattern.options, strict=True)):
                return math.inf
        return self.problem.key(assignment)

    def _options(self, flat: Flat, positions: Sequence[int]) -> Assignment:
        """Option indices of flat positions."""
        return tuple(
            stage.options[(at - start) % size]
            for stage, start, size, at in zip(
                self.data, flat.starts, flat.sizes, positions, strict=True
            )
        )

    def assignment(self, flat: Flat, label: Label) -> Assignment:
        """Option per stage of a complete label."""
        found = [0] * len(self.data)
        at: Label | None = label
        for layer in reversed(self._order):
            assert at is not None
            start, size = flat.starts[layer.stage], flat.sizes[layer.stage]
            found[layer.stage] = self.data[layer.stage].options[(at.position - start) % size]
            at = at.parent
        return tuple(found)

    def space(
        self,
        flat: Flat,
        costs: Sequence[float],
        bound: float,
        effort: Effort,
        room: float = math.inf,
    ) -> Space:
        """Extensions by reduced `costs` up to `room`, limits, and the root with its `bound`."""
        dims = self.plan.sums
        firsts, columns = [], []
        for dim in dims:
            total, increments = sum_increments(flat, flat.row(dim))
            firsts.append(total)
            columns.append(increments)
        adds = list(zip(*columns, strict=True)) if columns else [()] * flat.length
        services = [flat.row(dim) for dim in self.plan.paths]
        serve = list(zip(*services, strict=True)) if services else [()] * flat.length
        steps: list[list[list[Step]]] = []
        for place, stage in enumerate(self.data):
            blocks = []
            size = flat.sizes[place]
            for g in range(flat.blocks[place]):
                first = flat.starts[place] + g * size
                block = [
                    Step(
                        costs[first + i],
                        adds[first + i],
                        first + i,
                        serve[first + i],
                        stage.devices[i],
                        stage.classes[i],
                        stage.keeps[i],
                    )
                    for i in range(size)
                    if costs[first + i] <= room
                ]
                block.sort(key=_by_cost)
                blocks.append(block)
            steps.append(blocks)
        plain = not self.plan.paths and not self.plan.classed
        order = list(range(len(self.data)))
        if plain:
            order.sort(key=lambda place: flat.sizes[place])
        self._order: tuple[Layer, ...] = layers(self.problem, order, self.plan.slotted)
        count = len(self.data)
        slots = tuple(min(s, count) for s in self.problem.slots)
        used = self._order[0].tracked if self._order else ()
        times = tuple((0.0,) * (1 + sum(slots[d] for d in used)) for _ in self.plan.paths)
        mask = (1 << len(self.patterns)) - 1
        root = Label(bound, tuple(firsts), times, (), mask, -1, None)
        terms = self.problem.goal.terms
        return Space(
            self.problem,
            flat,
            self._order,
            steps,
            root,
            dims,
            self.plan.paths,
            tuple(self._cap(dim) for dim in dims),
            tuple(self._cap(dim) for dim in self.plan.paths),
            tuple(dim in terms for dim in dims),
            tuple(dim in terms for dim in self.plan.paths),
            tuple(least_tails(steps, self.problem, i) for i in range(len(self.plan.paths))),
            slots,
            effort,
        )

    def _cap(self, dim: str) -> float:
        """The least limit on a dim, with room for the last bits of sums in another order."""
        bounds = [limit.bound for limit in self.limits if dim in limit.terms]
        return min((b + 1e-12 * abs(b) for b in bounds), default=math.inf)


def _by_cost(step: Step) -> float:
    return step.cost


def _better(value: float, step: float) -> float:
    """What a plan must reach to beat `value`."""
    if value == math.inf:
        return value
    return value - step + 1e-6 * step if step else value - RELATIVE * abs(value)


class Targets:
    """Rising targets from the bound to the ceiling, so that the work grows about threefold.

    Nothing above the optimum needs to be explored, but where that is, is unknown. The labels of
    the last two targets give the exponent by which their number grows with the gap; the next gap
    is chosen by it. All rounds together then cost at most about 1.5 times the last one.
    """

    def __init__(self, bound: float, ceiling: float, known: bool) -> None:
        """`known`: the ceiling is a plan's value, not just more than any plan's."""
        self.bound, self.ceiling = bound, ceiling
        self.gap = (ceiling - bound) / (FIRST_SHARE if known else FIRST_SHARE**2)
        self.before: tuple[float, int] | None = None

    @property
    def now(self) -> float:
        """The target to explore up to."""
        return min(self.bound + self.gap, self.ceiling) if self.gap > 0.0 else self.ceiling

    def rise(self, labels: int) -> None:
        """Go on to the next target after one that made `labels` labels."""
        labels = max(labels, FEW_LABELS)
        factor = 4.0
        if self.before is not None and labels > self.before[1]:
            gap, fewer = self.before
            exponent = math.log(labels / fewer) / math.log(self.gap / gap)
            # A factor of 4 at most: exponents near 0 would overflow.
            factor = max(3.0 ** (1.0 / max(exponent, _LEAST_EXPONENT)), 1.2)
        self.before = (self.gap, labels)
        self.gap *= factor


def _largest(flat: Flat, row: Sequence[float]) -> float:
    """At least any assignment's total of a row."""
    return sum(
        max(row[start : start + size * blocks])
        for start, size, blocks in zip(flat.starts, flat.sizes, flat.blocks, strict=True)
    )


def _worst_excess(limit: Limit) -> float:
    """The largest penalty share a soft limit can add."""
    return limit.excess(limit.bound)


def active_limits(problem: Problem) -> tuple[Limit, ...]:
    """The limits that some assignment could miss (or be penalised by)."""
    found = []
    for limit in problem.limits:
        at = limit.bound if limit.soft_from is None else limit.soft_from
        worst = max(
            sum(
                max(map(max, stage.rows[dim])) if dim in stage.rows else 0.0
                for stage in problem.stages
            )
            for dim in limit.terms
        )
        if worst > at:
            found.append(limit)
    return tuple(found)


def paths(problem: Problem) -> list[tuple[int, ...]]:
    """Source-to-sink paths, at most `MAX_PATHS`, the longest first."""
    children: list[list[int]] = [[] for _ in problem.stages]
    for place, stage in enumerate(problem.stages):
        for parent in stage.parents:
            children[parent].append(place)
    partial: list[tuple[int, ...]] = [
        (place,) for place, stage in enumerate(problem.stages) if not stage.parents
    ]
    found: list[tuple[int, ...]] = []
    while partial and len(found) < 64 * MAX_PATHS:
        path = partial.pop()
        if not children[path[-1]]:
            found.append(path)
        partial.extend((*path, child) for child in children[path[-1]])
    found.sort(key=lambda path: (-len(path), path))
    return found[:MAX_PATHS]
