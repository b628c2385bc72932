"""A query keeps the plan that it ran with last while no other one is surely better.

Measurements are noisy and executions add to them, so that of plans within each other's noise now
one and now another is the best by a hair. A plan of before stays if it still meets the SLO and the
best one is better by less than the noise of the difference, and by less than `SLACK`: what looks
better by more is tried, as only running it tells (our choice; databases that keep plans ask for as
clear a gain before they change one).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.slo import Constraint, Objective, Slo
from .advice import Item, narrow
from .explain.planned import decided_by, rank, reached, too_close
from .objectives import TIES
from .problem import PlanProblem
from .promises import Candidate, candidate_of

SLACK = 0.1
"""Share of the objective that a plan of before may be worse than the best one by the estimates."""


def kept(problem: PlanProblem, best: Candidate, before: Sequence[Item]) -> Candidate | None:
    """The plan of before, where it stays; None where the best plan is chosen.

    Args:
        problem: with all choices of now.
        best: by the point estimates.
        before: what the query ran with, as the advice that gives it.
    """
    options = {stage.step.key: stage.choices for stage in problem.stages}
    left, reports = narrow(options, before)
    if any(report.outcome != "matched" for report in reports):
        return None
    if any(len(choices) != 1 for choices in left.values()):
        return None  # it had other steps, or other knobs
    assignment = problem.assignment({key: choice for key, (choice,) in left.items()})
    if assignment is None or assignment == best.assignment:
        return None
    plan = candidate_of(problem, assignment)
    if _missed(plan, problem.slo) - _missed(best, problem.slo):
        return None
    return plan if _as_good(plan, best, problem.slo.objective) else None


def _missed(plan: Candidate, slo: Slo) -> set[Constraint]:
    """Limits that it does not keep to, those that SOFT lets it pass among them: that costs."""
    found = {constraint: reached(plan, constraint) for constraint in slo.constraints}
    return {c for c, value in found.items() if value is None or not c.allows(value.value)}


def _as_good(plan: Candidate, best: Candidate, objective: Objective) -> bool:
    """Is the best plan not surely better, nor by much?"""
    decided, better = decided_by(best, plan, objective) or (objective.metric, False)
    if not better:
        return True
    place = (objective.metric, *TIES).index(decided)
    mine, theirs = (abs(rank(one, objective)[place]) for one in (plan, best))
    return abs(mine - theirs) <= SLACK * theirs and too_close(best, plan, decided)
