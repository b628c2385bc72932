"""The Pareto front of cost, latency and error within a certified 1 + ε.

For every plan the returned front has one that is at most (1 + ε) times as large in each objective.
Two ways, both certified:

*Labels*, where they stay few: all undominated partial plans are kept, so the front is exact; at the
end it is thinned, first to one plan per cell of a logarithmic grid, then to plans none of which is
within the factor left of another; the largest factors by which dropped plans were better multiply
to the ε reported.

*Boxes*, where labels grow beyond a cap: the first objective is minimised under limits on the others
(`exact.solve`). For limits anywhere in a box between a tight and a loose corner no plan costs less
than the optimum at the loose corner; a plan found is within a factor of all of them if it is within
it of that cost and of the tight corner. The box with the worst factor is halved until all are
within 1 + ε or the effort is used up; the worst factor left is the ε reported
[after Chalmet, Lemonidis & Elzinga 1986 and Laumanns, Thiele & Zitzler 2006 (ε-constraint
partitions); halving the worst box is our choice].

The error is carried as loss = -log accuracy: within α in loss is within α in 1 - accuracy, since
1 - exp(-x) is concave and 0 at 0. Only the devices' capacities bind here: the front shows what
there is beyond the SLO too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...ir.record import dataclass
from .dual import flatten
from .exact import Infeasible, Solution, class_pattern, restrict, solve
from .floors import Floors
from .labels import Effort, Label, dominate, extend, vector_of
from .prepare import layout, undominated
from .similarity.thin import ratio, thin, worse
from .single import Search
from .table import Assignment, Goal, Limit, Problem

OBJECTIVES = ("cost", "latency_p95", "loss")
"""The objectives, all to be small."""
MAX_LABELS = 5_000
"""Labels made by one way before the other is taken (our choice: about 20 ms)."""
MAX_SOLVES = 100
"""Solves spent on boxes (our choice: about a second at 12 stages of 200 options)."""
FEW_STAGES = 6
"""Stages waiting for slots up to which labels are as cheap as sums (our choice, measured)."""
MAX_EFFORT = 200_000
"""Labels spent on boxes, each counted once per stage where stages wait for slots: its state then
grows with the stages (our choice: about a second). What is left uncovered shows in ε."""


@dataclass(frozen=True)
class Point:
    """A plan of the front; `values` are its objectives in the order of `Frontier.objectives`."""

    assignment: Assignment
    values: tuple[float, ...]


@dataclass(frozen=True)
class Dropped:
    """A plan of the front left out: the point `by` is at most `factor` times as large anywhere."""

    point: Point
    by: Point
    factor: float


@dataclass(frozen=True)
class Frontier:
    """No plan is better than some point by more than 1 + `epsilon` in every objective.

    `points` ascend by the first objective. `ends` are exact: for each objective the plan that is
    best in it, ties broken by the problem's `ties`, then by the other objectives in their order.
    `dropped` are the plans thinned at the end, with what stands for each.
    """

    objectives: tuple[str, ...]
    points: tuple[Point, ...]
    ends: tuple[Point, ...]
    epsilon: float
    effort: Effort
    dropped: tuple[Dropped, ...] = ()


def frontier(
    problem: Problem, epsilon: float = 0.05, objectives: Sequence[str] = OBJECTIVES
) -> Frontier:
    """Cover the Pareto front; limits other than capacities are left aside.

    Args:
        problem: its goal is not looked at.
        epsilon: the factor 1 + ε asked for; 0 gives the exact front.
        objectives: dims that every stage has.
    """
    free = replace(
        problem,
        limits=tuple(limit for limit in problem.limits if limit.constraint is None),
        goal=Goal((objectives[0],)),
    )
    effort = Effort()
    ends = _ends(free, objectives)
    free = replace(free, ties=())
    covered = _labels(free, objectives, math.sqrt(1.0 + epsilon) - 1.0, effort, ends)
    if covered is None:
        points, factor = _boxes(free, objectives, epsilon, effort, ends)
    else:
        points, factor = covered
    points = [*points, *ends]
    order = undominated(range(len(points)), [point.values for point in points])
    front = sorted((points[at] for at in order), key=lambda point: point.values)
    # What is left is what a person, or a later search, looks at; the ends stay.
    front = list(dict.fromkeys([*ends, *front]))
    always = len(dict.fromkeys(ends))
    thinned = thin([point.values for point in front], max((1.0 + epsilon) / factor, 1.0), always)
    return Frontier(
        tuple(objectives),
        tuple(sorted((front[at] for at in thinned.kept), key=lambda point: point.values)),
        tuple(ends),
        factor * thinned.lost - 1.0,
        effort,
        tuple(Dropped(front[at], front[by], lost) for at, by, lost in thinned.dropped),
    )


def _labels(
    free: Problem,
    objectives: Sequence[str],
    epsilon: float,
    effort: Effort,
    ends: Sequence[Point],
) -> tuple[list[Point], float] | None:
    """Plans that cover the front and the factor within which they do; None if too many.

    A measured assignment whose floors are covered by plans already found needs no look of its own.
    """
    found: list[Point] = list(ends)
    factor = 1.0
    floors = Floors(free)
    for known in sorted(free.measured, key=lambda m: floors.bound(m, objectives[0])):
        floor = Point((), tuple(floors.bound(known, dim) for dim in objectives))
        near = min((worse(other.values, floor.values) for other in found), default=math.inf)
        if near <= 1.0 + epsilon:
            factor = max(factor, near)
            continue
        small, kept = restrict(free, known)
        part = _cover(Search(small, (), objectives), epsilon, effort)
        if part is None:
            return None
        found += [
            Point(tuple(k[o] for k, o in zip(kept, p.assignment, strict=True)), p.values)
            for p in part[0]
        ]
        factor = max(factor, part[1])
    apart = sorted(known.classes for known in free.measured)
    if len(apart) < math.prod(stage.classes for stage in free.stages):
        patterns = [class_pattern(free, classes) for classes in apart]
        search = Search(replace(free, measured=()), patterns, objectives)
        part = _cover(search, epsilon, effort)
        if part is None:
            return None
        found += part[0]
        factor = max(factor, part[1])
    return found, factor


def _cover(search: Search, epsilon: float, effort: Effort) -> tuple[list[Point], float] | None:
    """Plans that cover one problem's front; None where labels grow too many."""
    if any(not stage.options for stage in search.data):
        return [], 1.0
    flat = flatten(search.problem, search.data)
    space = search.space(flat, [0.0] * flat.length, 0.0, effort)
    soft = [dim in search.also for dim in space.dims]
    each = (1.0 + epsilon) ** (1.0 / max(len(space.layers), 1))
    labels: list[Label] = [space.root]
    factor = 1.0
    weight = len(space.layers) if search.plan.slotted else 1
    most = 4 * MAX_LABELS * FEW_STAGES if search.plan.slotted else 10 * MAX_LABELS
    for layer in space.layers:
        widest = max(map(len, space.steps[layer.stage]), default=0)
        if epsilon and len(labels) * widest * weight > most:
            return None
        labels = extend(space, layer, labels, math.inf, space.caps, space.path_caps)
        before = len(labels)
        labels = dominate(labels)
        effort.dominated += before - len(labels)
        if epsilon:
            # Composition is monotone: what a thinned label loses is multiplied, never amplified.
            labels, used = _grid(labels, soft, math.log(each))
            factor *= used
    done = []
    for label in labels:
        if not label.mask:
            values = dict(zip(space.dims, label.sums, strict=True))
            values |= {dim: state[0] for dim, state in zip(space.paths, label.times, strict=True)}
            ordered = tuple([values[dim] for dim in search.also])
            done.append(Point(search.assignment(flat, label), ordered))
    return done, factor


class _Corners:
    """Optima (within a tolerance) under limits, each solved once; `points` are all plans met."""

    def __init__(
        self, problem: Problem, objectives: Sequence[str], tolerance: float, effort: Effort
    ) -> None:
        self.tolerance = tolerance
        self.problem = problem
        self.objectives = objectives
        self.effort = effort
        self.points: dict[Assignment, Point] = {}
        self.known: dict[tuple[float, ...], float] = {}
        self.solves = 0
        self.labels = 0
        slotted = layout(problem, objectives).slotted
        self.weight = len(problem.stages) if slotted else 1

    @property
    def spent(self) -> bool:
        """Is the effort allowed used up?"""
        return self.solves >= MAX_SOLVES or self.labels * self.weight >= MAX_EFFORT

    def best(self, loose: tuple[float, ...]) -> float:
        """No plan with the others within `loose` has less of the first; inf where there is none."""
        if loose not in self.known:
            limits = tuple(
                Limit((dim,), bound) for dim, bound in zip(self.objectives[1:], loose, strict=True)
            )
            problem = replace(self.problem, limits=(*self.problem.limits, *limits))
            found = solve(problem, explain=False, tolerance=self.tolerance, most=MAX_LABELS)
            self.solves += 1
            self.labels += found.effort.labels
            self.effort.labels += found.effort.labels
            self.known[loose] = found.effort.reached
            if isinstance(found, Solution):
                one = found.assignment
                values = tuple(problem.value(dim, one) for dim in self.objectives)
                self.points[one] = Point(one, values)
                self.known[loose] = found.proven
        return self.known[loose]

    def factor(self, least: float, tight: tuple[float, ...]) -> float:
        """Within which factor some plan known covers all that cost >= least and are >= tight."""
        floor = (least, *tight)
        return min(
            (
                max(ratio(value, base) for value, base in zip(point.values, floor, strict=True))
                for point in self.points.values()
            ),
            default=math.inf,
        )


def _boxes(
    free: Problem,
    objectives: Sequence[str],
    epsilon: float,
    effort: Effort,
    ends: Sequence[Point],
) -> tuple[list[Point], float]:
    """Plans that cover the front, and the factor within which they do."""
    corners = _Corners(free, objectives, max(epsilon / 4.0, 0.01), effort)
    corners.points.update((end.assignment, end) for end in ends)
    if not ends:
        return [], 1.0
    tight = tuple(min(end.values[at] for end in ends) for at in range(1, len(objectives)))
    loose = tuple(
        sum(max(map(max, stage.rows[dim])) for stage in free.stages if dim in stage.rows)
        for dim in objectives[1:]
    )
    boxes = [(tight, tuple(max(a, b) for a, b in zip(loose, tight, strict=True)))]
    while True:
        graded = [(corners.factor(corners.best(high), low), low, high) for low, high in boxes]
        worst, low, high = max(graded, key=lambda box: box[0])
        if worst <= 1.0 + epsilon or corners.spent:
            return list(corners.points.values()), worst
        boxes = [box for box in boxes if box != (low, high)]
        boxes += [half for half in _halves(low, high) if corners.best(half[1]) < math.inf]


def _halves(
    low: tuple[float, ...], high: tuple[float, ...]
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """The box cut at the geometric mean of its longest side."""
    sides = [ratio(b, a if a > 0.0 else b * 1e-6) for a, b in zip(low, high, strict=True)]
    at = max(range(len(sides)), key=sides.__getitem__)
    middle = high[at] / math.sqrt(sides[at])
    return [
        (low, (*high[:at], middle, *high[at + 1 :])),
        ((*low[:at], middle, *low[at + 1 :]), high),
    ]


def _grid(labels: Sequence[Label], soft: Sequence[bool], width: float) -> tuple[list[Label], float]:
    """Labels by cell of logarithmic `width`; hard dims have to be equal."""
    cells: dict[object, tuple[float, ...]] = {}
    kept: list[Label] = []
    used = 1.0
    for label in sorted(labels, key=vector_of):
        hard = tuple(s for s, is_soft in zip(label.sums, soft, strict=True) if not is_soft)
        graded = tuple(s for s, is_soft in zip(label.sums, soft, strict=True) if is_soft)
        for state in label.times:
            graded += state
        cell = (
            label.classes,
            label.mask,
            hard,
            tuple([math.floor(math.log(g) / width) if g > 0.0 else None for g in graded]),
        )
        other = cells.get(cell)
        if other is None:
            cells[cell] = graded
            kept.append(label)
            continue
        for mine, theirs in zip(graded, other, strict=True):
            if theirs > mine * used:
                used = theirs / mine
    return kept, used


def _ends(problem: Problem, objectives: Sequence[str]) -> list[Point]:
    """For each objective the plan best in it; the problem's ties, then the others break ties."""
    found = []
    for first in objectives:
        goal = Goal((first,), "loss" if first == "loss" else "plain")
        ties = tuple(dict.fromkeys((*problem.ties, *objectives)))
        result = solve(replace(problem, goal=goal, ties=ties), explain=False)
        if not isinstance(result, Infeasible):
            best = result.assignment
            found.append(Point(best, tuple(problem.value(dim, best) for dim in objectives)))
    return found
