"""How the learned search decides, and what it is asked for."""

from __future__ import annotations

import math

import numpy as np

from ....errors import PlanError
from ....ir.record import dataclass
from ....ir.slo import Slo
from ..features import Encoding
from ..protocol import LOSS, Space

EVEN = 0.5
"""Confidence where none is asked for: the point estimate decides."""


@dataclass(frozen=True)
class Settings:
    """How the search decides.

    Attributes:
        first_rows: of a plan that was never seen.
        growth: rows of a plan looked at again ÷ those before.
        sure: probability of feasibility from which a plan is verified,
        sure_rows: if its answers were seen on so many rows: on fewer, certainty is mostly the
            surrogate's own.
        thorough: share of what was spent that a look may cost however few rows it needs.
        insurance: share of what was spent that a further look at the plan it would return may cost.
        draws: functions drawn from the beliefs each time; the best plan under each is considered.
        tolerance: share of the goal below which an expected improvement is worth nothing: far less
            than matters, as surrogates are wrong more often than the tails of their normals say.
        least: share of the best candidate's worth below which a cheaper one is not considered.
        encoding: of classes, in the quality surrogate.
        composition: dims are composed from operators; off: learned end to end.
        costs: improvement per second of profiling; off: per plan.
        partial: plans are looked at in growing blocks; off: each on all rows at once.
        pruning: plans that cannot be better than one profiled are not considered.
    """

    first_rows: int = 8
    growth: float = 2.0
    sure: float = 0.7
    sure_rows: int = 128
    thorough: float = 0.01
    insurance: float = 0.05
    tolerance: float = 1e-6
    draws: int = 16
    least: float = 0.1
    encoding: Encoding = "one_hot"
    composition: bool = True
    costs: float = 0.5
    partial: bool = True
    pruning: bool = True


@dataclass(frozen=True)
class Asked:
    """An SLO in logs, smaller being better in every outcome.

    Attributes:
        outcomes: `loss` or a dim.
        limits: `` `o` ``, what each outcome may be at most; inf where nothing is asked.
        goal: place of the objective among the outcomes.
        confidence: the largest that is asked for; where none is, the point estimate decides: 0.5.
    """

    outcomes: tuple[str, ...]
    limits: np.ndarray
    goal: int
    confidence: float

    @property
    def bounds(self) -> dict[str, float]:
        """What each outcome may be at most, losses as they are and dims in their own units."""
        return {
            name: float(limit if name == LOSS else np.exp(limit))
            for name, limit in zip(self.outcomes, self.limits, strict=True)
        }


def asked(space: Space, slo: Slo) -> Asked:
    """What an SLO asks of a space's plans.

    Raises:
        PlanError: OC0311, the space has no dim for it.
    """
    limits: dict[str, float] = {}
    for constraint in slo.constraints:
        name, limit = _outcome(space, constraint.metric), constraint.limit
        bound = -math.log(limit) if name == LOSS else math.log(limit)
        limits[name] = min(bound, limits.get(name, math.inf))
    goal = _outcome(space, slo.objective.metric)
    limits.setdefault(goal, math.inf)
    names = tuple(limits)
    confidence = [c.confidence for c in slo.constraints if c.confidence is not None]
    return Asked(
        names, np.array(list(limits.values())), names.index(goal), max(confidence, default=EVEN)
    )


def _outcome(space: Space, metric: str) -> str:
    if metric == "accuracy":
        return LOSS
    if metric not in (*space.sums, *space.paths):
        raise PlanError(
            f"the search knows nothing of {metric}",
            code="OC0311",
            hint=f"it knows accuracy, {', '.join((*space.sums, *space.paths))}",
        )
    return metric
