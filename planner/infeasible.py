"""The error of an SLO that no plan meets: what binds, and the nearest plans there are.

Where choices were never measured it speaks of the others alone, and says which ANALYZE is missing.

Error code: OC0312.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import PlanError
from ..ir.estimates import Estimate
from ..ir.physical import Cascade, Choice
from ..ir.slo import Constraint
from .explain.planned import constraint_text, value_text
from .objectives import ROUNDING
from .options import missing_notes
from .problem import PlanProblem
from .search.exact import Infeasible, Nearest, Solution, solve
from .search.table import Assignment, Goal, Limit


class InfeasibleSlo(PlanError):
    """OC0312; `constraint` is the index of the binding constraint, for its span."""

    constraint: int | None = None


def infeasible(problem: PlanProblem, why: Infeasible) -> InfeasibleSlo:
    """The error of an SLO no plan meets: what binds, and the nearest plans there are."""
    slo, limits = problem.slo, problem.problem.limits
    place = _binding(why, limits)
    texts = [constraint_text(c) for c in slo.constraints]
    if place is None:
        reach = (_reach_note(problem, near, limits) for near in why.nearest)
        return InfeasibleSlo(
            f"no {_plan(problem)} meets {' and '.join(texts)} together: more than one is out of "
            "reach",
            code="OC0312",
            notes=(*reach, *missing_notes(problem.missing)),
        )
    index = limits[place].constraint
    assert index is not None
    others = [text for at, text in enumerate(texts) if at != index]
    within = f" within {' and '.join(others)}" if others else ""
    near = next(near for near in why.nearest if near.limit == place)
    error = InfeasibleSlo(
        f"no {_plan(problem)} reaches {texts[index]}{within}",
        code="OC0312",
        label=_label(problem, slo.constraints[index], near.held, bool(others)),
        notes=(*_limiting(problem, slo.constraints[index]), *missing_notes(problem.missing)),
        hint=_within_reach(problem, slo.constraints[index], near, bool(others)),
    )
    error.constraint = index
    return error


def _plan(problem: PlanProblem) -> str:
    """What the error knows of."""
    return "plan of what was measured" if problem.missing else "plan"


def _binding(why: Infeasible, limits: Sequence[Limit]) -> int | None:
    """The limit to name: one without which a plan exists, accuracy last because it is the aim."""
    named = [place for place in why.binding if limits[place].constraint is not None]
    return min(named, key=lambda place: limits[place].terms != ("loss",), default=None)


def _label(
    problem: PlanProblem, constraint: Constraint, held: Solution | None, within: bool
) -> str | None:
    """What the best plan within the other constraints reaches."""
    if held is None:
        return None
    reached = problem.cost(held.assignment)[0].metric(constraint.metric)
    if reached is None:
        return None
    where = "within these limits " if within else ""
    return f"the best plan {where}reaches {_interval(reached, constraint.metric)}"


def _interval(estimate: Estimate, metric: str) -> str:
    low = value_text(replace(estimate, value=estimate.low), metric)
    high = value_text(replace(estimate, value=estimate.high), metric)
    sample = f", n = {estimate.n}" if estimate.n else ""
    return f"{value_text(estimate, metric)} [{low}, {high}]{sample}"


def _within_reach(
    problem: PlanProblem, constraint: Constraint, near: Nearest, within: bool
) -> str | None:
    """`accuracy >= 91.8 % within these limits; the most any plan reaches is 98.8 %, at cost …`."""
    parts = []
    if within and near.held is not None:
        reached = problem.cost(near.held.assignment)[0].metric(constraint.metric)
        shown = value_text(reached, constraint.metric)
        parts.append(f"{constraint.metric} {constraint.operator} {shown} within these limits")
    if near.ends is not None:
        parts.append(_end(problem, constraint, near.limit, near.ends))
    return "; ".join(parts) or None


def _reach_note(problem: PlanProblem, near: Nearest, limits: Sequence[Limit]) -> str:
    """What one of several constraints could reach by itself."""
    index = limits[near.limit].constraint
    assert index is not None
    constraint = problem.slo.constraints[index]
    if near.ends is None:
        return f"{constraint.metric}: nothing is known"
    return f"{constraint.metric}: {_end(problem, constraint, near.limit, near.ends)}"


def _end(problem: PlanProblem, constraint: Constraint, place: int, end: Solution) -> str:
    """`the most any plan reaches is 0.971, at cost $0.0011`."""
    best, _ = problem.cost(_best_of_equals(problem, place, end))
    metric = constraint.metric
    most = "most" if constraint.operator == ">=" else "least"
    shown = value_text(best.metric(metric), metric)
    text = f"the {most} any {_plan(problem)} reaches is {shown}"
    objective = problem.slo.objective.metric
    price = "cost" if objective == metric else objective
    if price == metric:
        return text
    return f"{text}, at {price} {value_text(best.metric(price), price)}"


def _best_of_equals(problem: PlanProblem, place: int, end: Solution) -> Assignment:
    """Of the plans that reach as much, the best by the objective: batch sizes change no answer."""
    table = problem.problem
    terms = table.limits[place].terms
    reached = max(table.value(term, end.assignment) for term in terms)
    room = ROUNDING * max(abs(reached), ROUNDING)
    limits = (*(x for x in table.limits if x.constraint is None), Limit(terms, reached + room))
    goal = table.goal if table.goal.terms != terms else Goal(("cost",))
    found = solve(replace(table, limits=limits, goal=goal), explain=False)
    return found.assignment if isinstance(found, Solution) else end.assignment


def _limiting(problem: PlanProblem, constraint: Constraint) -> tuple[str, ...]:
    """For accuracy: the step whose best choice is least accurate; unknown where one is missing."""
    if constraint.metric != "accuracy" or problem.missing:
        return ()
    best: dict[str, tuple[float, str]] = {}
    for stage in problem.stages:
        for choice, call in zip(stage.choices, stage.calls, strict=True):
            if call.quality is not None:
                known = best.get(stage.step.key, (0.0, ""))
                best[stage.step.key] = max(known, (call.quality.value, _variants(choice)))
    if not best:
        return ()
    key = min(best, key=lambda step: best[step][0])
    value, variant = best[key]
    return (f"the limiting step is {key}; its best variant is {variant} ({value:.3f})",)


def _variants(choice: Choice) -> str:
    """`m.mlp`; a cascade's as `m.tiny, below 0.9 m.mlp`."""
    first, *later = (member.variant for member in choice.members)
    thresholds = choice.thresholds if isinstance(choice, Cascade) else ()
    rest = (f"below {at:g} {name}" for at, name in zip(thresholds, later, strict=True))
    return ", ".join([first, *rest])
