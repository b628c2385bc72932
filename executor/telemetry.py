"""What a run measures about itself."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from ..ir.explain import NodeActuals
from ..ir.models import knobs_text
from ..ir.physical import PhysicalNode, SqlResidual, SqlStep, Stage
from ..ir.types import FAILED
from ..stats.energy import Energy, energy_statistic, joules_per_call
from ..stats.intervals import Interval, repeated
from ..stats.observation import Observation
from .service import ServiceSample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..ir.models import Device
    from ..ir.node import Node

RESERVOIR = 4096
"""Batch latencies kept per stage: a p99 then rests on 40 values at the least."""


@dataclass
class StageMeter:
    """Counters of one stage, written by its coordinating thread alone; seconds, rows, elements.

    `elements` were computed; what the cache answered is only in `cache_hits`.
    """

    rows_in: int = 0
    rows_out: int = 0
    calls: int = 0
    elements: int = 0
    busy_seconds: float = 0.0
    queue_seconds: float = 0.0
    loads: list[float] = field(default_factory=list)
    """Seconds of each copy loaded; likewise `unloads` of each closed."""
    unloads: list[float] = field(default_factory=list)
    memory_bytes: int | None = None
    energy: Energy | None = None
    failed_rows: int = 0
    failed_elements: int = 0
    when_rows: int = 0
    when_true: int = 0
    cache_hits: int | None = None
    lengths: Counter[int] = field(default_factory=Counter)
    service: ServiceSample = field(default_factory=ServiceSample)
    full_batches: int = 0
    latencies: list[float] = field(default_factory=list)
    trace: list[tuple[int, float]] | None = None
    """Every call's (elements, seconds), if somebody wants them all."""

    @property
    def load_seconds(self) -> float | None:
        """Loading all copies; None where none was loaded."""
        return sum(self.loads) if self.loads else None

    @property
    def joules(self) -> float | None:
        """The metered power times all model time; None where no counter tells it.

        Bursts shorter than a counter's step, between pauses, are not metered: the others' power
        stands in for theirs, up to half of the time.
        """
        energy = self.energy
        if energy is None or energy.watts is None or energy.busy_seconds < self.busy_seconds / 2:
            return None
        return energy.watts * self.busy_seconds

    def batch(self, elements: int, seconds: float, full: bool, rng: random.Random) -> None:
        """A batch call that went well at the first try; only full ones tell T(b)."""
        if self.trace is not None:
            self.trace.append((elements, seconds))
        if not full:
            return
        self.full_batches += 1
        if len(self.latencies) < RESERVOIR:
            self.latencies.append(seconds)
        elif (slot := rng.randrange(self.full_batches)) < RESERVOIR:
            self.latencies[slot] = seconds


@dataclass
class FlowMeter:
    """Rows through a node that calls no model.

    Of its first input, `failed_in` were marked as failed, of what it gives `failed_out`; `failed`
    are those it added: rows whose input was called once for several of them.
    """

    rows_in: int = 0
    rows_out: int = 0
    failed_in: int = 0
    failed_out: int = 0
    failed: int = 0


class Telemetry:
    """The meters of one run, by node."""

    def __init__(self) -> None:
        self.stages: dict[Stage, StageMeter] = {}
        self.flows: dict[PhysicalNode, FlowMeter] = {}
        self.rng = random.Random(0)

    def stage(self, node: Stage) -> StageMeter:
        """The stage's meter."""
        return self.stages.setdefault(node, StageMeter())

    def flow(self, node: PhysicalNode) -> FlowMeter:
        """The meter of another node."""
        return self.flows.setdefault(node, FlowMeter())

    def lines(self) -> tuple[str, ...]:
        """A short text per stage, for progress."""
        return tuple(f"{node.step} {meter.rows_out}" for node, meter in list(self.stages.items()))

    def actuals(self, devices: Mapping[str, Device]) -> dict[str, NodeActuals]:
        """By node fingerprint."""
        found = {
            node.fingerprint: NodeActuals(meter.rows_in, meter.rows_out, failed=meter.failed)
            for node, meter in self.flows.items()
        }
        for node, meter in self.stages.items():
            device = devices[node.choice.device]
            joules, source = _joules(meter, device)
            found[node.fingerprint] = NodeActuals(
                meter.rows_in,
                meter.rows_out,
                calls=meter.calls,
                elements=meter.elements,
                busy_seconds=meter.busy_seconds,
                queue_seconds=meter.queue_seconds,
                load_seconds=meter.load_seconds,
                failed=meter.failed_rows,
                cache_hits=meter.cache_hits,
                latency_p95=_quantile(meter.latencies, 0.95),
                cost_usd=meter.busy_seconds * device.usd_per_hour / 3600,
                unload_seconds=sum(meter.unloads) if meter.unloads else None,
                energy_joules=joules,
                energy_source=source,
            )
        return found

    def failed_rows(self, root: PhysicalNode) -> int:
        """Distinct source rows on which a call failed.

        A stage calls no row that failed before, so stages one behind the other add up. Calls made
        once for equal inputs count as the rows that had the input, which the joining of both knows;
        where it was stopped early, as one row each.
        """
        found = 0
        todo: list[Node] = [root]
        seen: set[Node] = {root}
        while todo:
            node = todo.pop()
            children: tuple[Node, ...] = node.children
            if isinstance(node, Stage):
                found += self._failed_at(node)
            elif is_lookup(node):
                left, once = children
                children = (left,)
                calls = set(once.postorder()) - set(left.postorder())
                least = sum(self._failed_at(n) for n in calls if isinstance(n, Stage))
                flow = self.flows.get(node)
                found += max(least, 0 if flow is None else flow.failed)
            for child in children:
                if child not in seen:
                    seen.add(child)
                    todo.append(child)
        return found

    def _failed_at(self, stage: Stage) -> int:
        meter = self.stages.get(stage)
        return 0 if meter is None else meter.failed_rows

    def observations(self) -> list[Observation]:
        """What the run says about models and filters, as the catalog keeps it."""
        at = datetime.now(UTC)
        found: list[Observation] = []
        for stage, stage_meter in self.stages.items():
            found += _of_stage(stage, stage_meter, at)
        for node, flow in self.flows.items():
            if isinstance(node, SqlStep) and node.predicate is not None and flow.rows_in:
                found.append(
                    Observation(
                        f"filter:{node.predicate.fingerprint}",
                        "rate",
                        "mean",
                        flow.rows_out / flow.rows_in,
                        flow.rows_in,
                        at,
                    )
                )
        return found


def _joules(meter: StageMeter, device: Device) -> tuple[float | None, str]:
    """Energy of a stage and where it is from: a counter, else the device's POWER, else unknown."""
    if meter.joules is not None and meter.energy is not None:
        return meter.joules, meter.energy.label
    if device.power_watts is not None:
        return meter.busy_seconds * device.power_watts, "POWER"
    return None, ""


def is_lookup(node: Node) -> TypeGuard[SqlResidual]:
    """Whether it joins the answers of calls made once back to the rows that asked for them."""
    return isinstance(node, SqlResidual) and FAILED in node.sql and len(node.inputs) == 2


def _quantile(values: list[float], q: float) -> float | None:
    return float(np.quantile(values, q)) if values else None


def _of_stage(stage: Stage, meter: StageMeter, at: datetime) -> list[Observation]:
    choice = stage.choice

    def measured(
        metric: str,
        statistic: str,
        value: float,
        n: int,
        *,
        batch: int | None = None,
        interval: Interval | None = None,
    ) -> Observation:
        return Observation(
            stage.context,
            metric,
            statistic,
            value,
            n,
            at,
            None if interval is None else interval.low,
            None if interval is None else interval.high,
            variant=choice.variant,
            knobs=knobs_text(choice.knobs),
            device=choice.device,
            batch=batch,
            variant_version=choice.version,
        )

    found: list[Observation] = []
    if meter.latencies:
        n = meter.full_batches
        mean = float(np.mean(meter.latencies))
        found.append(measured("latency", "mean", mean, n, batch=choice.batch))
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
            value = float(np.quantile(meter.latencies, q))
            found.append(measured("latency", name, value, n, batch=choice.batch))
    if meter.elements:
        share = meter.failed_elements / meter.elements
        found.append(measured("failure", "share", share, meter.elements))
    if meter.memory_bytes is not None:
        found.append(measured("memory", "peak", float(meter.memory_bytes), 1))
    for metric, seconds in (("load", meter.loads), ("unload", meter.unloads)):
        if seconds:
            each = repeated(seconds)
            found.append(measured(metric, "mean", each.value, each.n, interval=each))
    energy = meter.energy
    joules = None if energy is None else joules_per_call(energy, choice.batch)
    if energy is not None and joules is not None:
        how = energy_statistic(energy)
        found.append(
            measured("energy", how, joules.value, joules.n, batch=choice.batch, interval=joules)
        )
    if stage.when is not None and meter.when_rows:
        rate = meter.when_true / meter.when_rows
        found.append(Observation(stage.context, "rate", "mean", rate, meter.when_rows, at))
    rows = sum(meter.lengths.values())
    for length, count in sorted(meter.lengths.items()):
        found.append(Observation(stage.context, "length", f"pmf({length})", count / rows, rows, at))
    return found
