"""What a run measured about a plan's totals, in the words of the plan's estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cost.compose import co2_grams, run_level, schedule, stage_level
from .cost.model import LATENCY_LEVELS
from .ir.estimates import Cost, Estimate, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from .executor.engine import Execution
    from .executor.service import ServiceTimes
    from .ir.explain import NodeActuals
    from .ir.models import Device
    from .planner.optimize import PlannedQuery


def latencies(query: PlannedQuery, execution: Execution) -> dict[str, Estimate]:
    """latency_p50, _p95 and _p99 of a row's service time, seconds; nothing where it is unknown.

    Sampled rows are scheduled one by one through the plan's calls and slots, as `latency_p95` is
    defined. Where stages do not see the same rows (equal inputs called once), each stage's own
    quantiles are composed as the estimate composes them: an upper bound, like the estimate.
    """
    problem = query.problem
    assignment = problem.assignment(query.chosen.choices)
    times = execution.service_times()
    places = {step: place for place, step in enumerate(times.steps)}
    order = [places.get(stage.step.key) for stage in problem.stages]
    known = [place for place in order if place is not None]
    if assignment is None or len(known) < len(order) or not order:
        return {}
    parents = [stage.parents for stage in problem.problem.stages]
    placed = [
        stage.table.option_device[option]
        for stage, option in zip(problem.stages, assignment, strict=True)
    ]

    def finish(service: list[float]) -> float:
        return schedule(parents, service, placed, problem.problem.slots)

    if times.together is None:
        return _composed(query, execution, times, known, finish)
    rows = _finishes(times.together[:, known], finish)
    return {
        name: Estimate(value, value, value, len(rows))
        for name, level in LATENCY_LEVELS.items()
        if (value := _quantile(rows, level)) is not None
    }


def emitted(
    query: PlannedQuery, actuals: Mapping[str, NodeActuals], devices: Iterable[Device], rows: int
) -> tuple[Estimate | None, Estimate | None]:
    """The run's joules, and g CO2 per source row by its devices' grids, as points.

    None where a stage's is not known; modelled where one is from its device's POWER.
    """
    grids = {device.name: device.grid_g_co2_per_kwh for device in devices}
    joules = grams = 0.0
    known: Source = "measured"
    clean = rows > 0
    for stage in query.physical.stages:
        ran = actuals.get(stage.fingerprint)
        if ran is None or ran.energy_joules is None:
            return None, None
        grid = grids[stage.choice.device]
        clean = clean and grid is not None
        joules += ran.energy_joules
        grams += co2_grams(ran.energy_joules, grid or 0.0)
        if ran.energy_source == "POWER":
            known = "modelled"
    total = Estimate(joules, joules, joules, rows, known)
    per_row = grams / rows if clean else 0.0
    return total, Estimate(per_row, per_row, per_row, rows, known) if clean else None


def _finishes(
    times: NDArray[np.float64], finish: Callable[[list[float]], float]
) -> NDArray[np.float64]:
    """`finish` of each row of `rows x stages`; rows of the same batches are finished once."""
    import numpy as np

    if times.shape[1] == 1:  # nothing to wait for
        return times[:, 0]
    different, places = np.unique(times, axis=0, return_inverse=True)
    return np.array([finish(row) for row in different.tolist()])[places.reshape(-1)]


def _composed(
    query: PlannedQuery,
    execution: Execution,
    times: ServiceTimes,
    known: list[int],
    finish: Callable[[list[float]], float],
) -> dict[str, Estimate]:
    """Stages' own quantiles at the composed level, put through the plan like a row's times."""
    actuals = execution.actuals
    stages = {stage.step: stage for stage in query.physical.stages}
    entered = [actuals[stages[step].fingerprint].rows_in for step in times.steps]
    rows = max(entered)
    found = {}
    for name, level in LATENCY_LEVELS.items():
        at = stage_level(level, len(known))
        service = []
        for place in known:
            among = run_level(at, entered[place] / rows) if rows else None
            seconds = None if among is None else _quantile(times.alone[place], among)
            service.append(seconds or 0.0)
        if rows:
            value = finish(service)
            found[name] = Estimate(value, value, value, min(len(own) for own in times.alone))
    return found


def _quantile(values: NDArray[np.float64], level: float) -> float | None:
    """The quantile of known values; None of none."""
    import numpy as np

    return float(np.quantile(values, level)) if len(values) else None


def numbers(cost: Cost) -> dict[str, dict[str, float]]:
    """The known values of a cost, for the plan history."""
    found = {}
    for name in Cost.__slots__:
        estimate = cost.metric(name)
        if estimate is not None:
            found[name] = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return found
