"""The Pareto front of cost, latency and error within a certified 1 + ε.

For every plan the returned front has one that is at most (1 + ε) times as large in each objective.
Labels are thinned after each of the k stages: of those whose objectives fall into the same cell of
a grid that grows by (1 + ε)^(1/k), one stays [Papadimitriou & Yannakakis 2000, "On the
approximability of trade-offs"; per-stage budget as in Warburton 1987]. Sums of non-negative entries
and the schedule carry a factor through: what is within α before a stage is within α after it. The
factors really used are multiplied up, and that product is the ε reported.

The error is carried as loss = -log accuracy: within α in loss is within α in 1 - accuracy, since
1 - exp(-x) is concave and 0 at 0. Only the devices' capacities bind here: the front shows what
there is beyond the SLO too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .dual import flatten
from .exact import RELATIVE, Infeasible, Search, class_pattern, restrict, solve
from .labels import Effort, Label, Space, dominate, extend, vector_of
from .prepare import undominated
from .table import Assignment, Goal, Limit, Problem

OBJECTIVES = ("cost", "latency_p95", "loss")
"""The objectives, all to be small."""
MAX_LABELS = 4000
"""Where a stage keeps more labels than this the grid is coarsened, and the ε reported grows."""


@dataclass(frozen=True)
class Point:
    """A plan of the front; `values` are its objectives in the order of `Frontier.objectives`."""

    assignment: Assignment
    values: tuple[float, ...]


@dataclass(frozen=True)
class Frontier:
    """No plan is better than some point by more than 1 + `epsilon` in every objective.

    `points` ascend by the first objective. `ends` are exact: for each objective the plan that is
    best in it, ties broken by the other objectives' order.
    """

    objectives: tuple[str, ...]
    points: tuple[Point, ...]
    ends: tuple[Point, ...]
    epsilon: float
    effort: Effort


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
    found: list[Assignment] = []
    factor = 1.0
    inner = math.sqrt(1.0 + epsilon) - 1.0
    for known in problem.measured:
        small, kept = restrict(free, known)
        part, used = _cover(Search(small, (), objectives), inner, effort)
        factor = max(factor, used)
        found += [tuple(k[o] for k, o in zip(kept, one, strict=True)) for one in part]
    apart = sorted(known.classes for known in problem.measured)
    if len(apart) < math.prod(stage.classes for stage in problem.stages):
        patterns = [class_pattern(problem, classes) for classes in apart]
        search = Search(replace(free, measured=()), patterns, objectives)
        part, used = _cover(search, inner, effort)
        factor = max(factor, used)
        found += part
    ends = _ends(free, objectives)
    points = [Point(one, tuple(free.value(dim, one) for dim in objectives)) for one in found]
    points += ends
    order = undominated(range(len(points)), [point.values for point in points])
    front = sorted((points[at] for at in order), key=lambda point: point.values)
    front, lost = _thinned(front, ends, (1.0 + epsilon) / factor)
    return Frontier(tuple(objectives), tuple(front), tuple(ends), factor * lost - 1.0, effort)


def _thinned(
    front: Sequence[Point], ends: Sequence[Point], room: float
) -> tuple[list[Point], float]:
    """The points left when each within `room` of a kept one goes, and the factor this loses.

    The ends stay. What is left is what a person, or a later search, looks at.
    """
    kept = [point for point in front if point in ends]
    lost = 1.0
    for point in front:
        factor = min((_worse(other, point) for other in kept), default=math.inf)
        if factor <= max(room, 1.0):
            lost = max(lost, factor)
        else:
            kept.append(point)
    return sorted(kept, key=lambda point: point.values), lost


def _worse(point: Point, than: Point) -> float:
    """The largest factor by which a point's values exceed another's."""
    return max(
        mine / theirs if theirs > 0.0 else (1.0 if mine <= 0.0 else math.inf)
        for mine, theirs in zip(point.values, than.values, strict=True)
    )


def _cover(search: Search, epsilon: float, effort: Effort) -> tuple[list[Assignment], float]:
    """Assignments that cover this problem's front, and the factor within which they do."""
    if any(not stage.options for stage in search.data):
        return [], 1.0
    flat = flatten(search.problem, search.data)
    space = search.space(flat, [0.0] * flat.length, 0.0, effort)
    soft = [dim in search.also for dim in space.dims]
    each = (1.0 + epsilon) ** (1.0 / len(space.layers))
    labels: list[Label] = [space.root]
    factor = 1.0
    for layer in space.layers:
        labels = extend(space, layer, labels, math.inf, space.caps, space.path_caps)
        before = len(labels)
        labels = dominate(labels)
        effort.dominated += before - len(labels)
        labels, used = _thin(space, labels, soft, each)
        factor *= used
    done = [search.assignment(flat, label) for label in labels if not label.mask]
    return done, factor


def _thin(
    space: Space, labels: list[Label], soft: Sequence[bool], each: float
) -> tuple[list[Label], float]:
    """One label per grid cell, and the largest factor by which a dropped one was better."""
    if each <= 1.0 and len(labels) <= MAX_LABELS:
        return labels, 1.0
    step = max(each, 1.0 + RELATIVE)
    while True:
        kept, used = _grid(labels, soft, math.log(step))
        if len(kept) <= MAX_LABELS:
            return kept, used
        step *= step


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
    """For each objective the plan best in it, ties broken by the others in their order."""
    found = []
    for first in objectives:
        limits = list(problem.limits)
        best: Assignment | None = None
        for dim in (first, *(other for other in objectives if other != first)):
            goal = Goal((dim,), "loss" if dim == "loss" else "plain")
            result = solve(replace(problem, limits=tuple(limits), goal=goal), explain=False)
            if isinstance(result, Infeasible):
                break
            best = result.assignment
            value = problem.value(dim, best)
            limits.append(Limit((dim,), value * (1.0 + RELATIVE)))
        if best is not None:
            found.append(Point(best, tuple(problem.value(dim, best) for dim in objectives)))
    return found
