"""Service-level objectives: constraints and what to minimise."""

from __future__ import annotations

from .node import Value

LOWER_IS_BETTER = frozenset(
    {
        "cost", "total_cost", "latency_p50", "latency_p95", "latency_p99", "ttft_p95", "tpot_p95",
        "energy", "total_energy", "co2", "memory", "wall",
    }
)  # fmt: skip
OF_ANSWERS = frozenset({"accuracy", "precision", "recall"})
"""Shares of answers; precision and recall are of one model that answers TRUE or FALSE."""
HIGHER_IS_BETTER = frozenset({*OF_ANSWERS, "throughput"})
METRICS = LOWER_IS_BETTER | HIGHER_IS_BETTER
"""Built-in metrics; a user-defined one is written `custom('name')`."""

UNITS = {
    "cost": "USD", "total_cost": "USD", "latency_p50": "s", "latency_p95": "s",
    "latency_p99": "s", "ttft_p95": "s", "tpot_p95": "s", "energy": "J", "total_energy": "J",
    "co2": "g", "memory": "B", "wall": "s", "accuracy": "", "precision": "",
    "recall": "", "throughput": "/s",
}  # fmt: skip
"""The base unit of each metric, in which `Constraint.limit` stands."""


class Constraint(Value):
    """`metric[(model)] <= limit [SOFT share] [AT CONFIDENCE c] [PER TOKEN]`, in base units.

    `model` names one model when the constraint is on it alone; `custom` names a user's metric when
    `metric` is `custom`. `soft` is the share past the limit that is penalised linearly.
    """

    metric: str
    operator: str
    limit: float
    model: str | None = None
    custom: str | None = None
    confidence: float | None = None
    soft: float | None = None
    per_token: bool = False

    @property
    def furthest(self) -> float:
        """The limit as far as SOFT lets it go."""
        margin = abs(self.limit) * (self.soft or 0.0)
        return self.limit + (margin if self.operator == "<=" else -margin)

    def allows(self, value: float) -> bool:
        """Does a point value meet the limit?"""
        return value <= self.limit if self.operator == "<=" else value >= self.limit


class Objective(Value):
    """`MINIMIZE metric` or `MAXIMIZE metric`; the default is `MINIMIZE cost`."""

    metric: str = "cost"
    maximize: bool = False


class Slo(Value):
    """All constraints and one objective; `name` where it was declared."""

    constraints: tuple[Constraint, ...] = ()
    objective: Objective = Objective()
    name: str | None = None
