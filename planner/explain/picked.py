"""Which plan a query gets by what ANALYZE … SEARCH measured, and why no other one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...ir.estimates import Estimate
from ...ir.physical import Choice
from ...ir.slo import Constraint, Slo
from ...stats.observation import assignment_text
from ...stats.promise import Proof
from ..optimize import Candidate as Plan
from ..optimize import Pick
from .advice import advice_text
from .build import lost_by, unproved
from .numbers import full, interval, unit_of
from .planned import (
    Candidate,
    allows,
    constraint_text,
    differences,
    misses,
    reached,
    same_plan,
    too_close,
)
from .why_not import excluded, reason

REFITTED = "its threshold was fitted anew"
"""Said of a cascade whose members are measured, with another threshold than it was named with."""


def picked(
    pick: Pick,
    label: str,
    others: Mapping[str, Mapping[str, Choice]],
    sure: Mapping[str, bool],
) -> Iterator[str]:
    """The plan with what it was chosen by, how sure that is, and why it is none of the others.

    Args:
        pick: the plan.
        label: what to call it.
        others: plans that were named elsewhere, by what to call them; choices by step key.
        sure: whether plans surely have the accuracy asked of the whole or surely not, by text.
    """
    chosen, slo = pick.chosen, pick.problem.slo
    yield f"{label}: {advice_text(chosen.choices)}: {_numbers(chosen, slo)}"
    for constraint in slo.constraints:
        yield from _sure(chosen, constraint, pick.tested(chosen), sure)
    told = [dict(chosen.choices)]
    for whose, named in others.items():
        choices = {key: named[key] for key in chosen.choices if key in named}
        if choices in told:
            continue
        told.append(choices)
        other = pick.priced(choices)
        if other is None:
            yield f"{whose} was {advice_text(choices)}: {_lacking(pick, choices)}"
            continue
        anew = any(other.choices[key].made != choice.made for key, choice in choices.items())
        if same_plan(other, chosen):
            why = REFITTED if anew else "measuring took other batch sizes"
            yield f"{whose} was {advice_text(choices)}: {why}"
        else:
            yield _beside(whose, other, pick, sure) + (f"; {REFITTED}" if anew else "")
    rival = pick.runner_up
    if rival is not None and dict(rival.choices) not in told and _close(rival, chosen, slo):
        yield _beside("the runner-up", rival, pick, sure)


def _lacking(pick: Pick, choices: Mapping[str, Choice]) -> str:
    """Why a plan has no numbers: what of it is no choice of a query, as WHY NOT says it."""
    reasons: dict[str, None] = {}
    for key, choice in choices.items():
        if pick.nearest(key, choice) is not None:
            continue
        for member in choice.members:
            own = [
                item
                for item in excluded(pick.problem, key, member.variant, member.knobs)
                if item.device in (None, member.device) and item.batch in (None, member.batch)
            ]
            reasons |= dict.fromkeys(map(reason, own))
    return f"excluded: {'; '.join(reasons)}" if reasons else "not all of it was measured"


def _sure(
    chosen: Candidate, constraint: Constraint, proof: Proof | None, sure: Mapping[str, bool]
) -> Iterator[str]:
    """How sure it is that the plan meets a limit, where that is proved or not sure."""
    text, value = constraint_text(constraint), reached(chosen, constraint)
    if constraint.confidence is not None and proof is not None:
        yield f"{text} is {proof.text()}"
    elif constraint.confidence is not None:
        yield (
            f"{text} is not proved yet: a query tests this plan on the held-back rows, and takes "
            "the next best where it fails"
        )
    elif _decided(chosen, constraint, sure):
        return
    elif value is not None and not allows(constraint, _ends(value, constraint)[1]):
        ends = interval(value, unit_of(constraint.metric))
        yield f"whether it meets {text} is too close to tell: 95 % interval {ends}"


def _close(one: Candidate, other: Candidate, slo: Slo) -> bool:
    return too_close(one, other, slo.objective.metric)


def _beside(whose: str, other: Plan, pick: Pick, sure: Mapping[str, bool]) -> str:
    """How another plan differs, its numbers, and what keeps it from being chosen."""
    chosen, slo, proof = pick.chosen, pick.problem.slo, pick.tested(other)
    missed = misses(other, slo)
    if missed:
        why = "misses " + " and ".join(constraint_text(c) + _nearly(other, c, sure) for c in missed)
    elif proof is not None and not proof.accepted:
        why = proof.text()
    elif unproved(other, chosen, slo):
        why = "lacks the margin that a proof on the held-back rows asks for"
    else:
        why = f"lost by {lost_by(other, chosen, slo.objective)}"
    apart = "; ".join(differences(other, chosen))
    return f"{whose} ({apart}) has {_numbers(other, slo)}; {why}"


def _decided(plan: Candidate, constraint: Constraint, sure: Mapping[str, bool]) -> bool | None:
    """Is a limit surely met, or surely not? None where no test has decided it.

    One that may look often decides on one side, so that its answer and a two-sided interval may
    differ.
    """
    if constraint.metric != "accuracy" or constraint.model is not None:
        return None
    return sure.get(assignment_text({key: choice.made for key, choice in plan.choices.items()}))


def _nearly(plan: Candidate, constraint: Constraint, sure: Mapping[str, bool]) -> str:
    """Said where the interval of what is missed reaches the limit and no test has decided it."""
    value = reached(plan, constraint)
    if _decided(plan, constraint, sure) is False:
        return ""
    near = value is not None and allows(constraint, _ends(value, constraint)[0])
    return " (too close to tell)" if near else ""


def _numbers(plan: Candidate, slo: Slo) -> str:
    """The objective and what the limits are on: `cost $0.3 [0.2, 0.4] n = 64, accuracy …`."""
    found = {slo.objective.metric: plan.cost.metric(slo.objective.metric)}
    for constraint in slo.constraints:
        found.setdefault(constraint.metric, reached(plan, constraint))
    return ", ".join(f"{name} {full(value, unit_of(name))}" for name, value in found.items())


def _ends(value: Estimate, constraint: Constraint) -> tuple[float, float]:
    """The end of the interval that is best for a limit, and the worst."""
    ends = value.low, value.high
    return ends if constraint.operator == "<=" else ends[::-1]
