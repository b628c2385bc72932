"""`WHY NOT variant`: it is excluded (and why), or the best plan with it loses (and by what).

The best plan with the variant is found by the same exact search as the chosen one, with that step's
options cut down to the variant: the answer is a proof, not a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...cost.stages import StageCost
from ...ir.estimates import Cost
from ...ir.models import Knobs, knobs_text
from ...ir.physical import Choice
from ...ir.record import dataclass
from ...ir.slo import HIGHER_IS_BETTER, Slo
from ..problem import Excluded, PlanProblem
from ..search.exact import Infeasible, Nearest, solve
from ..search.table import Assignment, Problem
from .build import is_better, lost_by, unproved
from .planned import Candidate, changes, constraint_text, limit_text, reached, value_text

_COMPARED = ("cost", "accuracy", "latency_p95", "throughput", "energy", "memory")


@dataclass(frozen=True)
class Plan:
    """A plan the search found: a `Candidate`."""

    choices: Mapping[str, Choice]
    cost: Cost
    steps: Mapping[str, StageCost]
    composition: str | None = None


def why_not(
    problem: PlanProblem,
    chosen: Candidate,
    variant: str,
    knobs: Knobs = (),
    *,
    kept: bool = False,
) -> tuple[str, ...]:
    """One answer for every step that calls the variant's model.

    Args:
        problem: what the plan was chosen from.
        chosen: the plan.
        variant: full name.
        knobs: settings asked about; those not named may be anything.
        kept: the plan was chosen as that of before, see `keeping`.
    """
    model = variant.partition(".")[0]
    keys = [stage.step.key for stage in problem.stages if stage.step.model == model]
    name = variant + (f" ({knobs_text(knobs)})" if knobs else "")
    if not keys:
        return (f"{name}: no step of this plan calls {model}",)
    return tuple(
        f"{name} for {key}: {_answer(problem, chosen, key, variant, knobs, kept)}" for key in keys
    )


def _fits(choice: Choice, variant: str, knobs: Knobs) -> bool:
    """Is it this variant, by itself or as a member of a cascade?"""
    return any(
        member.variant == variant and set(knobs) <= set(member.knobs) for member in choice.members
    )


def _answer(
    problem: PlanProblem, chosen: Candidate, key: str, variant: str, knobs: Knobs, kept: bool
) -> str:
    mine = chosen.choices.get(key)
    if mine is not None and _fits(mine, variant, knobs):
        return "it is in the plan"
    place = next(i for i, stage in enumerate(problem.stages) if stage.step.key == key)
    options = tuple(
        number
        for number, choice in enumerate(problem.stages[place].choices)
        if _fits(choice, variant, knobs)
    )
    if not options:
        return _excluded(problem, key, variant, knobs)
    narrowed = _only(problem.problem, place, options)
    found = solve(narrowed)
    if isinstance(found, Infeasible):
        return _infeasible(problem, place, options, found)
    rival = _plan(problem, _whole(found.assignment, place, options))
    return _loses(rival, chosen, problem.slo, kept)


def _only(problem: Problem, place: int, options: Sequence[int]) -> Problem:
    """The problem with only these options of one stage."""
    table = problem.stages[place]
    rows = {
        dim: tuple(tuple(entries[o] for o in options) for entries in by_given)
        for dim, by_given in table.rows.items()
    }
    cut = replace(
        table,
        option_class=tuple(table.option_class[o] for o in options),
        option_device=tuple(table.option_device[o] for o in options),
        rows=rows,
    )
    classes = set(cut.option_class)
    stages = (*problem.stages[:place], cut, *problem.stages[place + 1 :])
    measured = tuple(known for known in problem.measured if known.classes[place] in classes)
    return replace(problem, stages=stages, measured=measured)


def _whole(assignment: Assignment, place: int, options: Sequence[int]) -> Assignment:
    """An assignment of the narrowed problem in the numbering of the whole one."""
    return (*assignment[:place], options[assignment[place]], *assignment[place + 1 :])


def _plan(problem: PlanProblem, assignment: Assignment) -> Plan:
    cost, steps = problem.cost(assignment)
    return Plan(problem.choices(assignment), cost, steps)


def _loses(rival: Candidate, chosen: Candidate, slo: Slo, kept: bool) -> str:
    """The best plan with it, against the chosen one."""
    better = [
        metric
        for metric in _COMPARED
        if (mine := chosen.cost.metric(metric)) is not None
        and (theirs := rival.cost.metric(metric)) is not None
        and ((theirs.value > mine.value) == (metric in HIGHER_IS_BETTER))
        and theirs.value != mine.value
    ]
    by = lost_by(rival, chosen, slo.objective)
    estimated = any(c.confidence is not None for c in slo.constraints)
    meets = "meets the SLO by its estimate" if estimated else "meets the SLO"
    lost = "loses by"
    if unproved(rival, chosen, slo):
        lost = "was not proved, though it has"
    elif kept and is_better(rival, chosen, slo):
        lost = "is not surely better than the plan of before, though it has"
    text = f"the best plan with it {meets} but {lost} {by}"
    if not better:
        text = f"dominated: {text}, and is better in nothing"
    else:
        gains = ", ".join(
            f"{m} {value_text(rival.cost.metric(m), m)} against "
            f"{value_text(chosen.cost.metric(m), m)}"
            for m in better
        )
        text += f"; it would be better in {gains}"
    return f"{text}. It is {changes(rival, chosen)}"


def _infeasible(problem: PlanProblem, place: int, options: Sequence[int], found: Infeasible) -> str:
    """Which constraints no plan with it meets, and how near it comes."""
    parts = []
    for near in found.nearest:
        limit = problem.problem.limits[near.limit]
        if near.limit not in found.binding and found.binding:
            continue
        if limit.constraint is None:
            parts.append("it does not fit into its device's memory beside the other steps")
            continue
        constraint = problem.slo.constraints[limit.constraint]
        reach = _reach(problem, place, options, near)
        parts.append(f"over {constraint_text(constraint)}: {reach}")
    return "no plan with it meets the SLO" + ("; " + "; ".join(parts) if parts else "")


def _reach(problem: PlanProblem, place: int, options: Sequence[int], near: Nearest) -> str:
    constraint_index = problem.problem.limits[near.limit].constraint
    solution = near.held or near.ends
    if solution is None or constraint_index is None:
        return "nothing comes near"
    constraint = problem.slo.constraints[constraint_index]
    plan = _plan(problem, _whole(solution.assignment, place, options))
    value = reached(plan, constraint)
    within = "" if near.held else " at any price"
    best = value_text(value, constraint.metric)
    return (
        f"the most any such plan reaches{within} is {best}, the limit is {limit_text(constraint)}"
    )


def excluded(problem: PlanProblem, key: str, variant: str, knobs: Knobs) -> tuple[Excluded, ...]:
    """What of a variant with these knobs is not among a step's options."""
    return tuple(
        item
        for item in problem.excluded
        if item.key == key
        and item.variant == variant
        and (not item.knobs or set(knobs) <= set(item.knobs))
    )


def _excluded(problem: PlanProblem, key: str, variant: str, knobs: Knobs) -> str:
    """Why the variant is not among the options."""
    reasons = list(dict.fromkeys(map(reason, excluded(problem, key, variant, knobs))))
    if not reasons:
        return "no such variant, or no such knobs"
    statements = [m.statement for m in problem.missing if m.key == key and m.variant == variant]
    text = "excluded: " + "; ".join(reasons)
    return f"{text}; run {statements[0]}" if statements else text


_CODES = {
    "no_statistics": "no statistics",
    "memory": "no memory",
    "failures": "it fails",
    "no_quality": "no quality measured",
    "unavailable": "it cannot run here",
    "advice": "the advice rules it out",
    "limit": "over its model's limit",
    "no_power": "no POWER declared",
    "no_tokens": "no token counts",
    "no_latency": "no latency measured",
}
"""`Excluded.code` in words."""


def reason(item: Excluded) -> str:
    """In words: `it fails (…)`."""
    head = _CODES.get(item.code, item.code)
    return f"{head} ({item.reason})" if item.reason else head
