"""A chosen assignment's `Cost` with intervals, from the estimates its tables were made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..cost.compose import positive, propagate, schedule, share, stage_level
from ..cost.model import LATENCY_LEVELS
from ..cost.stages import Growth, StageCost, Taken, growth, stage_cost
from ..ir.estimates import Cost, Estimate
from ..ir.models import Device
from .search.table import Assignment, Problem
from .stage_plan import Factor, StagePlan

Parts = dict[tuple[int, int, int, int], StageCost]
"""Stage costs by stage, option, class given and own class: plans of one problem share most."""


def plan_cost(
    problem: Problem,
    stages: Sequence[StagePlan],
    devices: Sequence[Device],
    assignment: Assignment,
    rows: Estimate | None,
    measured: Mapping[str, Estimate] | None,
    known: Parts,
) -> tuple[Cost, dict[str, StageCost]]:
    """The plan's cost per source row (totals for `rows`), and each step's by key.

    An end-to-end accuracy in `measured` beats the composed one. Unknown numbers are None. Stage
    costs are looked up in `known`, and left there.
    """
    classes = problem.classes(assignment)
    count = len(stages)
    levels = {name: stage_level(level, count) for name, level in LATENCY_LEVELS.items()}
    parts: list[StageCost] = []
    factors: list[Factor] = []
    growths: list[Growth] = []
    for place, (stage, option) in enumerate(zip(stages, assignment, strict=True)):
        g = problem.given_index(place, classes)
        call, flow = stage.calls[option], stage.flows[g]
        if rows is not None:
            growths.append(growth(call, flow, rows.value))
        key = (place, option, g, classes[place])
        if key not in known:
            quality = stage.qualities[g][classes[place]]
            known[key] = stage_cost(call, flow, levels, quality, rows)
        parts.append(known[key])
        factors.append(stage.factors[g][classes[place]])
    placed = [stage.table.option_device[o] for stage, o in zip(stages, assignment, strict=True)]
    cost = _sum([part.cost.cost for part in parts])
    energy = _sum([part.cost.energy for part in parts])
    accuracy = measured.get("accuracy") if measured is not None else None
    busiest = _busiest(parts, placed, devices)
    totals = Cost(
        cost=cost,
        latency_p50=_latency(problem, parts, placed, "latency_p50"),
        latency_p95=_latency(problem, parts, placed, "latency_p95"),
        latency_p99=_latency(problem, parts, placed, "latency_p99"),
        accuracy=accuracy if accuracy is not None else _accuracy(factors),
        energy=energy,
        co2=_sum([part.cost.co2 for part in parts]),
        memory=_memory(parts, placed, devices),
        throughput=_inverse(busiest),
        wall=_wall(problem, parts, placed, devices, rows, growths),
        total_cost=_total([part.cost.cost for part in parts], rows, growths, lambda t: t.usd),
        total_energy=_total(
            [part.cost.energy for part in parts], rows, growths, lambda t: t.joules
        ),
        rows=rows,
    )
    return totals, {stage.step.key: part for stage, part in zip(stages, parts, strict=True)}


def _sum(parts: Sequence[Estimate | None]) -> Estimate | None:
    """Their sum; None if one is unknown."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return positive(propagate(sum, known))


def _accuracy(factors: Sequence[Factor]) -> Estimate | None:
    """The product of the steps' factors; None if one is unknown or nothing is graded."""
    if not all(factor.known for factor in factors):
        return None
    parts = [part for factor in factors for part in factor.parts]
    if not parts:
        return None

    def product(v: Sequence[float]) -> float:
        value, start = 1.0, 0
        for factor in factors:
            stop = start + len(factor.parts)
            value *= factor.formula(v[start:stop])
            start = stop
        return value

    return share(propagate(product, parts))


def _latency(
    problem: Problem, parts: Sequence[StageCost], placed: Sequence[int], name: str
) -> Estimate | None:
    """The row's time through the DAG at the stages' quantiles."""
    service = [part.service.get(name) for part in parts]
    known = [estimate for estimate in service if estimate is not None]
    if len(known) < len(service):
        return None
    parents = [stage.parents for stage in problem.stages]
    return positive(propagate(lambda v: schedule(parents, v, placed, problem.slots), known))


def _pace_of(
    placed: Sequence[int], devices: Sequence[Device]
) -> Callable[[Sequence[float]], float]:
    """Seconds per row of the slowest: each stage alone, each device over its slots."""

    def slowest(busy: Sequence[float]) -> float:
        sums = [0.0] * len(devices)
        for device, seconds in zip(placed, busy, strict=True):
            sums[device] += seconds / devices[device].count
        return max(max(busy), *sums)

    return slowest


def _busiest(
    parts: Sequence[StageCost], placed: Sequence[int], devices: Sequence[Device]
) -> Estimate | None:
    """Seconds per row of what is slowest."""
    if not parts:
        return None
    return positive(propagate(_pace_of(placed, devices), [part.busy for part in parts]))


def _inverse(seconds: Estimate | None) -> Estimate | None:
    """Rows per second."""
    if seconds is None or seconds.value <= 0.0:
        return None
    high = 1.0 / seconds.low if seconds.low > 0.0 else math.inf
    value = 1.0 / seconds.value
    return Estimate(value, 1.0 / seconds.high, high, seconds.n, seconds.source, seconds.at)


def _wall(
    problem: Problem,
    parts: Sequence[StageCost],
    placed: Sequence[int],
    devices: Sequence[Device],
    rows: Estimate | None,
    growths: Sequence[Growth],
) -> Estimate | None:
    """Loading, then rows at the pace of what is slowest; at least the way of the first calls."""
    firsts = [part.first for part in parts if part.first is not None]
    if not firsts or rows is None:
        return None
    count, pace = len(parts), _pace_of(placed, devices)
    parents = [stage.parents for stage in problem.stages]
    loading = [place for place, part in enumerate(parts) if part.load is not None]
    loads = [part.load for part in parts if part.load is not None]

    def seconds(v: Sequence[float]) -> float:
        busy, first, load = v[1 : count + 1], v[count + 1 : 2 * count + 1], v[2 * count + 1 :]
        busy = [b * grow(v[0], lambda t: t.busy) for b, grow in zip(busy, growths, strict=True)]
        first = [f * grow(v[0], lambda t: t.first) for f, grow in zip(first, growths, strict=True)]
        for place, more in zip(loading, load, strict=True):
            first[place] += more
        paced = v[0] * pace(busy) + sum(load)
        if paced >= sum(first):  # no schedule takes longer than one call after the other
            return paced
        return max(paced, schedule(parents, first, placed, problem.slots))

    return positive(propagate(seconds, [rows, *(part.busy for part in parts), *firsts, *loads]))


def _memory(
    parts: Sequence[StageCost], placed: Sequence[int], devices: Sequence[Device]
) -> Estimate | None:
    """The largest sum of loaded variants on one slot of a device."""
    known = [part.cost.memory for part in parts if part.cost.memory is not None]
    if len(known) < len(parts) or not parts:
        return None

    def largest(v: Sequence[float]) -> float:
        sums = [0.0] * len(devices)
        for device, size in zip(placed, v, strict=True):
            sums[device] += size
        return max(sums)

    return positive(propagate(largest, known))


def _total(
    parts: Sequence[Estimate | None],
    rows: Estimate | None,
    growths: Sequence[Growth],
    of: Callable[[Taken], float],
) -> Estimate | None:
    """The stages' per-row numbers for all rows; None if one is unknown."""
    known = [part for part in parts if part is not None]
    if rows is None or not known or len(known) < len(parts):
        return None

    def total(v: Sequence[float]) -> float:
        return v[0] * sum(part * grow(v[0], of) for part, grow in zip(v[1:], growths, strict=True))

    return positive(propagate(total, [rows, *known]))
