"""What a run measures about itself."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from ..ir.explain import NodeActuals
from ..ir.models import knobs_text
from ..ir.physical import PhysicalNode, SqlResidual, SqlScan, SqlStep, Stage
from ..ir.types import FAILED
from ..stats.energy import Energy, energy_statistic, joules_per_call
from ..stats.intervals import (
    Interval,
    mean_interval,
    quantile_interval,
    repeated,
    seconds_lost,
    wilson,
)
from ..stats.observation import Observation
from .service import ServiceSample

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from ..ir.models import Device
    from ..ir.node import Node

AUDITED = 512
"""Source rows kept of a run, for what watches its inputs (our choice: half a default sample)."""
AUDITED_BYTES = 4 << 20
"""What they may take, in memory and later in the catalog; of large rows fewer are kept."""

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
    timed_out_rows: int = 0
    timed_out_elements: int = 0
    failed_seconds: float = 0.0
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


class RowReservoir:
    """A uniform sample of at most `AUDITED` rows of a stream [Li 1994, algorithm L].

    A row's key is a uniform number, and those with the least keys stay. Only rows that enter are
    looked at: how many are passed over until the next one does is drawn. Where they take more than
    `AUDITED_BYTES`, those with the greatest keys go, and so many fewer are kept: what stays is as
    uniform. Rows that were replaced are let go of once they may take as much again.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._seen = 0
        self._next = 0
        self._most = AUDITED
        self._bytes = 0
        """Of all batches that `_rows` may be in."""
        self._heap: list[tuple[float, int]] = []
        """The negated keys of the rows kept, the greatest key first; with each its slot."""
        self._rows: dict[int, tuple[pa.RecordBatch, int]] = {}
        """By slot, a batch and the row's place in it."""

    def offer(self, batch: pa.RecordBatch) -> None:
        """See the next rows; what is kept is copied, so that it holds on to no chunk."""
        import pyarrow as pa

        entered: dict[int, int] = {}
        while self._next < self._seen + batch.num_rows:
            entered[self._enter()] = self._next - self._seen
            self._next += 1 + self._passed_over()
        self._seen += batch.num_rows
        if not entered:
            return
        # Not `pa.array`: its first use imports pandas, and nothing has run yet.
        places = pa.py_buffer(np.fromiter(entered.values(), np.int64, len(entered)))
        taken = batch.take(pa.Array.from_buffers(pa.int64(), len(entered), [None, places]))
        for row, slot in enumerate(entered):
            self._rows[slot] = taken, row
        self._bytes += taken.nbytes
        if self._bytes > 2 * AUDITED_BYTES:
            self._shrink()

    def _enter(self) -> int:
        """The slot of a row that stays; once all are taken, the greatest key gives its own up."""
        if len(self._heap) < self._most:
            slot = len(self._heap)
            heappush(self._heap, (-self._rng.random(), slot))
            return slot
        greatest, slot = self._heap[0]
        heapreplace(self._heap, (greatest * self._rng.random(), slot))
        return slot

    def _passed_over(self) -> int:
        """Rows until the next that enters."""
        if len(self._heap) < self._most:
            return 0
        return int(math.log(1.0 - self._rng.random()) / math.log1p(self._heap[0][0]))

    def _shrink(self) -> pa.RecordBatch:
        """The rows kept, within `AUDITED_BYTES`, in a batch of their own."""
        import pyarrow as pa

        rows = {slot: batch.slice(row, 1) for slot, (batch, row) in self._rows.items()}
        total = sum(row.nbytes for row in rows.values())
        while total > AUDITED_BYTES and len(rows) > 1:
            _, slot = heappop(self._heap)
            total -= rows.pop(slot).nbytes
            self._most = len(rows)
            self._next = self._seen + self._passed_over()
        kept = pa.concat_batches(list(rows.values()))
        self._rows = {slot: (kept, row) for row, slot in enumerate(rows)}
        self._bytes = kept.nbytes
        return kept

    def table(self, schema: pa.Schema) -> pa.Table:
        """The rows kept."""
        import pyarrow as pa

        return pa.Table.from_batches(
            [self._shrink()] if self._rows else [], None if self._rows else schema
        )


class Telemetry:
    """The meters of one run, by node."""

    def __init__(self) -> None:
        self.sources: dict[SqlScan, RowReservoir] = {}
        self.stages: dict[Stage, StageMeter] = {}
        self.flows: dict[PhysicalNode, FlowMeter] = {}
        self.rng = random.Random(0)

    def stage(self, node: Stage) -> StageMeter:
        """The stage's meter."""
        return self.stages.setdefault(node, StageMeter())

    def source(self, node: SqlScan) -> RowReservoir:
        """The rows kept of a source, from now on."""
        return self.sources.setdefault(node, RowReservoir())

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
                timed_out=meter.timed_out_rows,
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
                        "share",
                        flow.rows_out / flow.rows_in,
                        flow.rows_in,
                        at,
                        *wilson(flow.rows_out, flow.rows_in),
                        filter="",
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
        metric: str, statistic: str, seen: Interval, *, batch: int | None = None
    ) -> Observation:
        return Observation(
            stage.context,
            metric,
            statistic,
            seen.value,
            seen.n,
            at,
            seen.low,
            seen.high,
            meter.failed_elements if metric in ("latency", "failure") else 0,
            variant=choice.variant,
            knobs=knobs_text(choice.knobs),
            device=choice.device,
            batch=batch,
            variant_version=choice.version,
            filter="",
        )

    found: list[Observation] = []
    if meter.latencies:
        mean = mean_interval(meter.latencies)
        if mean.n == 1:  # one call says nothing about spread: as ANALYZE has it
            mean = Interval(mean.value, mean.value / 10, mean.value * 10, 1)
        mean = Interval(mean.value, max(mean.low, 0.0), mean.high, mean.n)
        found.append(measured("latency", "mean", mean, batch=choice.batch))
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
            seen = quantile_interval(meter.latencies, q)
            found.append(measured("latency", name, seen, batch=choice.batch))
    if meter.elements and stage.escalation is None:  # unsure elements stand for no others
        n = meter.elements
        share = meter.failed_elements / n
        ends = wilson(meter.failed_elements, n)
        found.append(measured("failure", "share", Interval(share, *ends, n)))
        lost = seconds_lost(meter.failed_seconds, meter.failed_elements, n)
        found.append(measured("failure_seconds", "mean", lost, batch=choice.batch))
    if meter.memory_bytes is not None:
        peak = float(meter.memory_bytes)
        found.append(measured("memory", "peak", Interval(peak, peak, peak, 1)))
    for metric, seconds in (("load", meter.loads), ("unload", meter.unloads)):
        if seconds:
            found.append(measured(metric, "mean", repeated(seconds)))
    energy = meter.energy
    joules = None if energy is None else joules_per_call(energy, choice.batch)
    if energy is not None and joules is not None:
        how = energy_statistic(energy)
        found.append(measured("energy", how, joules, batch=choice.batch))
    if stage.when is not None and meter.when_rows:
        n = meter.when_rows
        rate, ends = meter.when_true / n, wilson(meter.when_true, n)
        found.append(Observation(stage.context, "rate", "share", rate, n, at, *ends, filter=""))
    rows = sum(meter.lengths.values())
    for length, count in sorted(meter.lengths.items()):
        share, ends = count / rows, wilson(count, rows)
        found.append(
            Observation(
                stage.context, "length", f"pmf({length})", share, rows, at, *ends, filter=""
            )
        )
    return found
