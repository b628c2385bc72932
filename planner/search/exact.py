"""The exact search: a proven optimum, or the proof that there is none and what comes nearest.

Measured assignments of classes have a loss of their own, so each is a small problem with its
classes fixed; everything else is one problem in which they are forbidden. Each is solved by
`single.Search`, the best plan so far bounding the next.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from ...ir.record import dataclass
from .floors import Floors
from .labels import Effort
from .prepare import Pattern, is_chain
from .single import RELATIVE, Search, Solution
from .table import Assignment, Goal, Limit, Measured, Problem, StageTable

MAX_TIED = 200_000
"""Labels after which of the plans equally good the best so far is taken, each counted once per
stage where stages wait for slots (our choice: about a second)."""

__all__ = [
    "Infeasible",
    "Nearest",
    "Search",
    "Solution",
    "class_pattern",
    "first_of_tied",
    "restrict",
    "solve",
]


@dataclass(frozen=True)
class Nearest:
    """What one limit could reach: `held` with all others held, `ends` with only capacities held."""

    limit: int
    held: Solution | None
    ends: Solution | None


@dataclass(frozen=True)
class Infeasible:
    """No plan meets all limits. `binding` are those without which one exists."""

    binding: tuple[int, ...]
    nearest: tuple[Nearest, ...]
    effort: Effort


def class_pattern(problem: Problem, classes: Sequence[int]) -> Pattern:
    """Every assignment of these classes."""
    return Pattern(
        tuple(
            frozenset(o for o, c in enumerate(stage.option_class) if c == cls)
            for stage, cls in zip(problem.stages, classes, strict=True)
        )
    )


def restrict(problem: Problem, known: Measured) -> tuple[Problem, tuple[tuple[int, ...], ...]]:
    """The problem with these classes and their measured loss; and the options left, by stage."""
    kept = tuple(
        tuple(o for o, c in enumerate(stage.option_class) if c == cls)
        for stage, cls in zip(problem.stages, known.classes, strict=True)
    )
    stages = []
    for place, (stage, options) in enumerate(zip(problem.stages, kept, strict=True)):
        g = problem.given_index(place, known.classes)
        rows = {
            dim: (tuple(entries[g if len(entries) > 1 else 0][o] for o in options),)
            for dim, entries in stage.rows.items()
            if dim != "loss"
        }
        if place == 0:
            rows["loss"] = ((known.loss,) * len(options),)
        stages.append(
            StageTable(
                stage.key,
                1,
                (0,) * len(options),
                tuple(stage.option_device[o] for o in options),
                stage.parents,
                (),
                rows,
            )
        )
    return replace(problem, stages=tuple(stages), measured=()), kept


def solve(
    problem: Problem,
    *,
    forbidden: Collection[Assignment] = (),
    forbidden_options: Collection[Assignment] = (),
    explain: bool = True,
    tolerance: float = 0.0,
    most: float = math.inf,
) -> Solution | Infeasible:
    """The best plan under all limits; of those equally good the best by the problem's `ties`.

    Args:
        problem: what to solve.
        forbidden: assignments of *classes* that are ruled out, whatever batch and device.
        forbidden_options: assignments of *options* that are ruled out.
        explain: where infeasible, find out what comes nearest (two solves per limit).
        tolerance: a plan within this share of what is proven will do.
        most: labels after which each part of the search gives up proving (see `Effort.reached`).
    """
    best = _best(problem, frozenset(forbidden), tuple(forbidden_options), tolerance, most)
    if isinstance(best, Solution):
        return first_of_tied(problem, best, frozenset(forbidden), tuple(forbidden_options))
    if not explain:
        return Infeasible((), (), best)
    return _why(problem, frozenset(forbidden), tuple(forbidden_options), best)


def _best(
    problem: Problem,
    forbidden: frozenset[Assignment],
    options: tuple[Assignment, ...],
    tolerance: float = 0.0,
    most: float = math.inf,
    upper: float = math.inf,
) -> Solution | Effort:
    """The optimum below `upper`, over measured assignments (a small problem each) and others."""
    best: Solution | None = None
    proven = math.inf
    total = Effort()
    floors = Floors(problem)
    goal = problem.goal.terms
    measured = sorted(problem.measured, key=lambda m: max(floors.bound(m, dim) for dim in goal))
    for known in measured:
        if known.classes in forbidden or floors.hopeless(known, problem, upper):
            continue
        small, kept = restrict(problem, known)
        inside = [
            tuple(k.index(o) for k, o in zip(kept, one, strict=True))
            for one in options
            if all(o in k for k, o in zip(kept, one, strict=True))
        ]
        patterns = [Pattern(tuple(frozenset({o}) for o in one)) for one in inside]
        found = Search(small, patterns).solve(upper, tolerance, most)
        _add(total, found if isinstance(found, Effort) else found.effort)
        if isinstance(found, Solution):
            real = tuple(k[o] for k, o in zip(kept, found.assignment, strict=True))
            best = replace(found, assignment=real)
            upper, proven = found.key, min(proven, found.proven)
    apart = {known.classes for known in problem.measured} | forbidden
    if len(apart) < math.prod(stage.classes for stage in problem.stages):
        patterns = [class_pattern(problem, classes) for classes in sorted(apart)]
        patterns += [Pattern(tuple(frozenset({o}) for o in one)) for one in options]
        found = Search(replace(problem, measured=()), patterns).solve(upper, tolerance, most)
        _add(total, found if isinstance(found, Effort) else found.effort)
        if isinstance(found, Solution):
            best, proven = found, min(proven, found.proven)
    return total if best is None else replace(best, effort=total, proven=min(proven, total.reached))


def first_of_tied(
    problem: Problem,
    best: Solution,
    forbidden: frozenset[Assignment] = frozenset(),
    options: tuple[Assignment, ...] = (),
) -> Solution:
    """Among the plans as good as the best, the one with the least of the first tie, and so on.

    As good is: within `RELATIVE` of what is minimised, and past no soft limit by more.
    """
    slotted = bool(problem.paths) and not is_chain(problem)
    most = MAX_TIED // (len(problem.stages) if slotted else 1)
    for dim in problem.ties:
        if problem.goal.terms == (dim,):
            continue
        held = replace(problem, limits=_no_worse(problem, best.assignment), goal=Goal((dim,)))
        if _tied(problem, dim, best.assignment):
            value = problem.value(dim, best.assignment)
            found = _best(held, forbidden, options, most=most, upper=value)
            _add(best.effort, found if isinstance(found, Effort) else found.effort)
            if isinstance(found, Solution):
                best = replace(best, assignment=found.assignment)
        problem = held
    return best


def _tied(problem: Problem, tie: str, assignment: Assignment) -> bool:
    """May another plan be as good by the goal and not by the tie?

    Of a sum: where some stage has an option beside the chosen one that adds the same to the goal,
    and something else to the tie or to later stages. Sums equal without that are chance, and not
    looked for (our choice: it would cost as much as the search).
    """
    goal = problem.goal.terms
    if len(goal) > 1 or (goal[0] in problem.paths and not is_chain(problem)):
        return True
    classes = problem.classes(assignment)
    read = {before for stage in problem.stages for before in stage.given}
    for place, (stage, chosen) in enumerate(zip(problem.stages, assignment, strict=True)):
        g = problem.given_index(place, classes)
        none = (0.0,) * stage.size
        mine, ties = (
            stage.rows[dim][g if len(stage.rows[dim]) > 1 else 0] if dim in stage.rows else none
            for dim in (goal[0], tie)
        )
        for option, cls in enumerate(stage.option_class):
            if math.isclose(mine[option], mine[chosen], rel_tol=RELATIVE) and (
                not math.isclose(ties[option], ties[chosen], rel_tol=RELATIVE)
                or (place in read and cls != classes[place])
            ):
                return True
    return False


def _no_worse(problem: Problem, assignment: Assignment) -> tuple[Limit, ...]:
    """Limits that leave the plans no worse than this one."""

    def reached(terms: Sequence[str]) -> float:
        value = max(problem.value(dim, assignment) for dim in terms)
        return value + RELATIVE * max(abs(value), RELATIVE)

    kept = (
        limit
        if limit.soft_from is None
        else replace(limit, bound=max(reached(limit.terms), limit.soft_from), soft_from=None)
        for limit in problem.limits
    )
    return *kept, Limit(problem.goal.terms, reached(problem.goal.terms))


def _add(total: Effort, more: Effort) -> None:
    """Sum the effort of several searches."""
    total.labels += more.labels
    total.by_bound += more.by_bound
    total.by_limit += more.by_limit
    total.dominated += more.dominated
    total.dual_steps += more.dual_steps
    total.rounds += more.rounds
    total.reached = min(total.reached, more.reached)


def _why(
    problem: Problem,
    forbidden: frozenset[Assignment],
    options: tuple[Assignment, ...],
    effort: Effort,
) -> Infeasible:
    """For every SLO limit: what it reaches with the others held, and with none."""
    capacities = tuple(limit for limit in problem.limits if limit.constraint is None)
    nearest, binding = [], []
    for place, limit in enumerate(problem.limits):
        if limit.constraint is None:
            continue
        goal = Goal(limit.terms, limit.scale)
        others = tuple(other for at, other in enumerate(problem.limits) if at != place)
        held = _best(replace(problem, limits=others, goal=goal), forbidden, options)
        ends = _best(replace(problem, limits=capacities, goal=goal), forbidden, options)
        nearest.append(
            Nearest(
                place,
                held if isinstance(held, Solution) else None,
                ends if isinstance(ends, Solution) else None,
            )
        )
        if isinstance(held, Solution):
            binding.append(place)
    return Infeasible(tuple(binding), tuple(nearest), effort)
