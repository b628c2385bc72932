"""Vulcan's query planning: Bayesian optimisation of whole plans on one utility.

[Zhang et al. 2024, "Vulcan: Automatic Query Planning for Live ML Analytics", NSDI] searches over
pipeline, configuration and placement with a GP from the plan to its utility and expected
improvement, reusing the intermediate results of pipelines profiled before. The utility is

    U = γ α_A (A - A_m) + (1 - γ) α_L (L_m - L) - resource cost

with A_m and L_m the accuracy and latency asked for.

Not public, and chosen here: α_A = 1 / A_m and α_L = 1 / L_m, so that both terms are shares of what
is asked for, and `penalty` times as much where what is asked for is missed (tuned; with 1 it is the
formula as it stands, whose best plan may well miss the SLO). The resource cost is the SLO's
objective in units of its median over the design, times a weight; γ and the weight are tuned. The
kernel, the size of the design and how candidates are found are as in `gaussian`. Without a limit on
accuracy or latency its term is left out; a limit on another dim has no place in the utility and
decides only which plan is returned. Its cost model of placements is not public either: placement is
a parameter as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import torch
from botorch.acquisition import AcquisitionFunction, LogExpectedImprovement
from octans.ir.slo import Slo
from octans.planner.search.protocol import Assignment, Space

from .gaussian import Gaussian, Pool


class Vulcan(Gaussian):
    """One GP, end to end, on the utility."""

    def __init__(
        self,
        space: Space,
        slo: Slo,
        *,
        rows: int,
        seed: int,
        sample: int,
        initial: int,
        gamma: float,
        weight: float,
        penalty: float,
    ) -> None:
        super().__init__(space, slo, rows=rows, seed=seed, sample=sample, initial=initial)
        self.gamma, self.weight, self.penalty = gamma, weight, penalty

    def targets(self) -> torch.Tensor:
        """Every profiled plan's utility, `plans x 1`."""
        return torch.tensor([[u] for u in self._utilities().values()], dtype=torch.float64)

    def acquisition(self, pool: Pool, targets: torch.Tensor) -> AcquisitionFunction:
        """Expected improvement."""
        return LogExpectedImprovement(pool, targets.max())

    def ranked(self) -> list[Assignment]:
        """Plans by utility."""
        found = self._utilities()
        return sorted(found, key=lambda plan: -found[plan])

    def _utilities(self) -> dict[Assignment, float]:
        resource = self.slo.objective.metric
        first = list(self.seen.values())[: self.initial]
        unit = median(seen.metrics[resource] for seen in first) or 1.0
        return {
            plan: self._reward(seen.metrics) - self.weight * seen.metrics[resource] / unit
            for plan, seen in self.seen.items()
        }

    def _reward(self, metrics: Mapping[str, float]) -> float:
        found = 0.0
        for constraint in self.slo.constraints:
            share = metrics[constraint.metric] / constraint.limit
            if constraint.metric == "accuracy":
                term = self.gamma * (share - 1.0)
            elif constraint.metric.startswith("latency"):
                term = (1.0 - self.gamma) * (1.0 - share)
            else:
                continue
            found += term if term >= 0.0 else self.penalty * term
        return found
