"""A query keeps the plan that it ran with last while no other one is surely better.

Measurements are noisy and executions add to them, so that of plans within each other's noise now
one and now another is the best by a hair. A plan of before stays if it still keeps to the limits as
well and the best one is better by less than the noise of the difference, and by less than `SLACK`:
what looks better by more is tried, as only running it tells (our choice; databases that keep plans
ask for as clear a gain before they change one). Where the objective does not tell them apart so,
cost does, and slot-seconds where nothing costs anything.
"""

from __future__ import annotations

import math

from ..ir.record import dataclass
from .explain.advice import step_advice
from .explain.planned import rank, too_close
from .objectives import TIES
from .problem import PlanProblem
from .promises import Candidate, candidate_of
from .search.single import RELATIVE
from .search.table import Assignment

SLACK = 0.1
"""Share by which a plan of before may be worse than the best one by the estimates."""


@dataclass(frozen=True)
class Before:
    """The plan a query ran with last: its fingerprint and the advice that gives it."""

    fingerprint: str
    advice: str


def kept(problem: PlanProblem, best: Candidate, advice: str) -> Candidate | None:
    """The plan of before, where it stays; None where the best plan is chosen.

    Args:
        problem: with all choices of now.
        best: by the point estimates.
        advice: gives the plan of before.
    """
    assignment = _of_advice(problem, advice)
    if assignment is None or assignment == best.assignment:
        return None
    table = problem.problem
    if table.excess(assignment) > table.excess(best.assignment):
        return None
    plan = candidate_of(problem, assignment)
    return plan if _as_good(plan, best, problem) else None


def _of_advice(problem: PlanProblem, advice: str) -> Assignment | None:
    """The options it names, one for every step; None where that is no plan of now.

    It is compared as text, so that a name may be whatever a name can be.
    """
    keys = [stage.step.key for stage in problem.stages]
    found = []
    for key, stage in zip(keys, problem.stages, strict=True):
        texts = (step_advice(key, choice, keys) for choice in stage.choices)
        named = ((o, text) for o, text in enumerate(texts) if f"{advice} ".startswith(f"{text} "))
        option, text = next(named, (None, ""))
        if option is None:
            return None
        found.append(option)
        advice = advice[len(text) + 1 :]
    return None if advice else tuple(found)


def _as_good(plan: Candidate, best: Candidate, problem: PlanProblem) -> bool:
    """Is the best plan neither surely better nor by far?"""
    objective = problem.slo.objective
    names = (objective.metric, *TIES)
    for name, mine, theirs in zip(names, rank(plan, objective), rank(best, objective), strict=True):
        if mine == theirs or math.isclose(mine, theirs, rel_tol=RELATIVE):
            continue
        slack = SLACK * min(abs(mine), abs(theirs))
        if abs(mine - theirs) > slack or not too_close(best, plan, name):
            return mine < theirs
        if name in TIES:  # what costs about the same is not told apart by its slot-seconds
            break
    return True
