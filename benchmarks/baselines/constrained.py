"""Plain constrained Bayesian optimisation of whole plans, as BoTorch has it."""

from __future__ import annotations

import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import (
    LogConstrainedExpectedImprovement,
    LogProbabilityOfFeasibility,
)
from octans.planner.search.protocol import Assignment

from .gaussian import Gaussian, Pool
from .plans import margin


class Constrained(Gaussian):
    """A GP per metric over one-hot plans, expected improvement times probability of feasibility.

    [Gardner et al. 2014, "Bayesian Optimization with Inequality Constraints", ICML] in the
    numerically stable form of [Ament et al. 2023, "Unexpected Improvements to Expected
    Improvement"], both in BoTorch. Dims are modelled as logs, accuracy as it is. As long as no plan
    meets every limit there is no best value to improve on: the probability of feasibility alone is
    maximised, as its documentation suggests.
    """

    def targets(self) -> torch.Tensor:
        """The objective, then how far past each limit."""
        rows = [
            [self.loss(plan), *(margin(c, seen.metrics) for c in self.slo.constraints)]
            for plan, seen in self.seen.items()
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def acquisition(self, pool: Pool, targets: torch.Tensor) -> AcquisitionFunction:
        """Constrained expected improvement, or what finds a feasible plan."""
        places = range(1, targets.shape[1])
        limits: dict[int, tuple[float | None, float | None]] = dict.fromkeys(places, (None, 0.0))
        feasible = targets[(targets[:, 1:] <= 0.0).all(dim=1), 0]
        if not len(feasible):
            return LogProbabilityOfFeasibility(pool, limits)
        return LogConstrainedExpectedImprovement(
            pool, feasible.min(), objective_index=0, constraints=limits, maximize=False
        )

    def ranked(self) -> list[Assignment]:
        """Feasible plans by objective, then the others by how far past the limits they are."""
        return sorted(self.seen, key=self._rank)

    def _rank(self, plan: Assignment) -> tuple[float, float]:
        metrics = self.seen[plan].metrics
        past = sum(max(margin(c, metrics), 0.0) for c in self.slo.constraints)
        return past, self.loss(plan)
