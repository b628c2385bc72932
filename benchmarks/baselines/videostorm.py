"""VideoStorm's profiler: greedy hill climbing towards the resource-quality profile.

[Zhang et al. 2017, "Live Video Analytics at Scale with Approximation and Delay-Tolerance", NSDI,
the profiler's section] maximises X(c) = Q(c) - β D(c) over configurations c, quality less β times
the resources demanded. From a random configuration a random knob is given another value; if X is
higher, the search goes on from there; when no better neighbour is found, it starts again at random.
A configuration is run on the first so many seconds of a representative video: here on a sample of
fixed length. The plans profiled, less the dominated ones, are the profile; which of them runs is
decided afterwards, here the best that meets the SLO.

Not public, and chosen here: β (tuned, with the demand in units of the first configuration's), how
many neighbours are tried before giving up (tuned), and that a demand is the SLO's objective. Of
latency the climb knows nothing, as in the paper, where the scheduler takes care of lag. Prefix
reuse is granted to it by the evaluator, as to all.
"""

from __future__ import annotations

from octans.ir.slo import Slo
from octans.planner.search.protocol import Assignment, Evaluation, Space

from .plans import Baseline, Encoding, Shuffle


class VideoStorm(Baseline):
    """Greedy local search with random restarts."""

    def __init__(
        self,
        space: Space,
        slo: Slo,
        *,
        rows: int,
        seed: int,
        sample: int,
        beta: float,
        patience: int,
    ) -> None:
        super().__init__(space, slo, rows=rows, seed=seed, sample=sample)
        self.beta, self.patience = beta, patience
        self._encoding = Encoding(space)
        self._starts = Shuffle(space, self.rng)
        self._unit: float | None = None
        self._at: Assignment | None = None
        self._value = 0.0
        self._left: list[Assignment] = []

    def propose(self) -> Assignment | None:
        """A neighbour of where the climb stands, or a new start."""
        while self._left:
            plan = self._left.pop()
            if plan not in self.seen:
                return plan
            self._move(plan)
        self._at = None
        return next((plan for plan in self._starts if plan not in self.seen), None)

    def tell(self, evaluation: Evaluation) -> None:
        """Climb, if it is higher there."""
        super().tell(evaluation)
        self._move(evaluation.assignment)

    def _move(self, plan: Assignment) -> None:
        value = self._worth(plan)
        if self._at is not None and value <= self._value:
            return
        self._at, self._value = plan, value
        around = list(dict.fromkeys(self._encoding.neighbours(plan)))
        self.rng.shuffle(around)
        self._left = around[: self.patience]

    def _worth(self, plan: Assignment) -> float:
        """X = Q - β D."""
        metrics = self.seen[plan].metrics
        demand = metrics[self.slo.objective.metric]
        if self._unit is None:
            self._unit = demand or 1.0
        return metrics["accuracy"] - self.beta * demand / self._unit
