"""SLOs as limits and a goal over dims: what is better when larger is turned around.

accuracy >= a is loss <= -log a; throughput >= t is busy seconds per row <= 1/t on every device and
stage; wall is load plus rows × busy seconds, again the largest, or the way of the first calls
through the plan; memory is each device's sum.
Device capacities are limits of their own.

The order of plans is said here once, for every search and for all that EXPLAIN lists: by the
objective; of equally good ones the cheapest (`cost`); of equally cheap ones the one with the fewest
slot-seconds (`busy`), which is what a price would count, and tells plans apart where no device has
one (our choice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..cost.model import LATENCY_LEVELS
from ..errors import PlanError
from ..ir.estimates import Estimate
from ..ir.models import Device
from ..ir.record import dataclass
from ..ir.slo import HIGHER_IS_BETTER, OF_ANSWERS, Constraint, Slo
from .search.table import Goal, Limit, Scale, StageTable

PLANNED = frozenset(
    {
        "cost", "total_cost", "accuracy", "energy", "total_energy", "co2", "memory", "throughput",
        "wall", *LATENCY_LEVELS,
    }
)  # fmt: skip
TIES = ("cost", "busy")
"""Dims that decide, one after the other, between plans equally good by the objective."""
FIRST = "wall@first"
"""The path dim of wall: every stage's first call, one after the other along the plan."""
ROUNDING = 1e-9
"""Limits get this relative room: sums in another order differ in their last bits."""


@dataclass(frozen=True)
class Needs:
    """Which numbers an SLO reads; `levels` are the latency metrics tabulated, with their level."""

    cost: bool
    latency: bool
    accuracy: bool
    energy: bool
    co2: bool
    memory: bool
    pace: bool
    wall: bool
    levels: dict[str, float]


def needs_of(slo: Slo, rows: Estimate | None) -> Needs:
    """What must be known to judge a plan by this SLO.

    Raises:
        PlanError: a metric or a direction that cannot be planned, or a total without row count.
    """
    for constraint in slo.constraints:
        if constraint.model is None or constraint.metric not in OF_ANSWERS:
            _check(constraint.metric, rows)
        lower = constraint.metric not in HIGHER_IS_BETTER
        if (constraint.operator == "<=") != lower:
            raise PlanError(
                f"{constraint.metric} {constraint.operator} … asks for less than the best",
                code="OC0311",
                hint=f"write {constraint.metric} {'<=' if lower else '>='} …",
            )
        if constraint.model is not None and constraint.metric not in {
            *OF_ANSWERS, "cost", "energy", "co2", *LATENCY_LEVELS,
        }:  # fmt: skip
            raise PlanError(
                f"{constraint.metric} cannot be constrained for one model", code="OC0311"
            )
    objective = slo.objective
    _check(objective.metric, rows)
    if objective.maximize != (objective.metric in HIGHER_IS_BETTER):
        word = "MINIMIZE" if objective.maximize else "MAXIMIZE"
        raise PlanError(
            f"{objective.metric} is not to be {'maximised' if objective.maximize else 'minimised'}",
            code="OC0311",
            hint=f"write {word} {objective.metric}",
        )
    read = {objective.metric, *(c.metric for c in slo.constraints)}
    levels = {name: level for name, level in LATENCY_LEVELS.items() if name in read}
    return Needs(
        bool(read & {"cost", "total_cost"}),
        bool(levels),
        "accuracy" in read,
        bool(read & {"energy", "total_energy", "co2"}),
        "co2" in read,
        "memory" in read,
        "throughput" in read,
        "wall" in read,
        {"latency_p95": LATENCY_LEVELS["latency_p95"]} | levels,
    )


def asked_levels(slo: Slo) -> frozenset[str]:
    """The latency metrics that the SLO limits or optimises, of whole plans."""
    read = {slo.objective.metric, *(c.metric for c in slo.constraints if c.model is None)}
    return frozenset(read & set(LATENCY_LEVELS))


def _check(metric: str, rows: Estimate | None) -> None:
    """Refuse metrics that nothing measures yet, and totals of an unknown number of rows."""
    if metric not in PLANNED:
        raise PlanError(
            f"no plan can be judged by {metric}: nothing measures it",
            code="OC0311",
            hint="metrics planned for: " + ", ".join(sorted(PLANNED)),
        )
    if rows is None and (metric.startswith("total_") or metric == "wall"):
        raise PlanError(
            f"{metric} needs the number of source rows, which is unknown here", code="OC0311"
        )


def dims_of(
    metric: str, devices: Sequence[Device], tables: Sequence[StageTable]
) -> tuple[str, ...]:
    """The dims whose maximum is the metric."""
    if metric == "accuracy":
        return ("loss",)
    prefix = {"memory": "memory", "throughput": "busy", "wall": "wall"}.get(metric)
    if prefix is None:
        return (metric,)
    known = {dim for table in tables for dim in table.rows}
    found = [f"{prefix}:{device.name}" for device in devices]
    if prefix != "memory":
        found += [f"{prefix}@{place}" for place in range(len(tables))]
    if prefix == "wall":
        found.append(FIRST)
    return tuple(dim for dim in found if dim in known) or (found[0],)


def costless(tables: Sequence[StageTable]) -> bool:
    """Does every choice cost nothing? Then `cost` tells no plans apart."""
    return not any(any(map(any, table.rows["cost"])) for table in tables)


def limits_of(
    slo: Slo, devices: Sequence[Device], tables: Sequence[StageTable]
) -> tuple[Limit, ...]:
    """Every constraint that options alone do not settle, and the devices' memory."""
    found = []
    for place, constraint in enumerate(slo.constraints):
        if constraint.model is not None and constraint.metric in {*OF_ANSWERS, *LATENCY_LEVELS}:
            continue
        terms = dims_of(constraint.metric, devices, tables)
        if constraint.model is not None:
            terms = (f"{constraint.metric}({constraint.model})",)
        found.append(_limit(constraint, place, terms))
    for device in devices:
        dim = f"memory:{device.name}"
        if device.memory_bytes and any(dim in table.rows for table in tables):
            found.append(Limit((dim,), float(device.memory_bytes)))
    return tuple(found)


def _limit(constraint: Constraint, place: int, terms: tuple[str, ...]) -> Limit:
    """A constraint as an upper bound on dims."""
    scale: Scale = "plain"
    at, soft = constraint.limit, constraint.soft
    bound, soft_from = at * (1.0 + (soft or 0.0)), at
    if constraint.metric == "accuracy":
        scale = "loss"
        soft_from = -math.log(max(at, 1e-300))
        bound = -math.log(max(at * (1.0 - (soft or 0.0)), 1e-300))
    elif constraint.metric == "throughput":
        scale = "inverse"
        soft_from = 1.0 / at if at > 0 else math.inf
        left = at * (1.0 - (soft or 0.0))
        bound = 1.0 / left if left > 0 else math.inf
    room = ROUNDING * abs(bound) if bound != math.inf else 0.0
    return Limit(terms, bound + room, place, soft_from if soft else None, scale)


def goal_of(slo: Slo, devices: Sequence[Device], tables: Sequence[StageTable]) -> Goal:
    """What is minimised."""
    metric = slo.objective.metric
    scale: Scale = "plain"
    if metric == "accuracy":
        scale = "loss"
    elif metric == "throughput":
        scale = "inverse"
    return Goal(dims_of(metric, devices, tables), scale)
