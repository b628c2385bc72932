"""A stage: rows in, the same rows with a model's outputs out, in order.

Elements (rows, or members of EACH lists) of successive chunks are pooled until a batch of the
chosen size is full; a chunk leaves once all its elements are answered and all before it have left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..ir.physical import Stage
from .backends.base import Column, OutputReader
from .cache import StageCache, stage_cache
from .calls import BatchCaller
from .channels import Stream
from .chunks import Chunk, ChunkSizer, Mask, join_batches, with_nulls
from .elements import Elements, elements_of
from .environment import Failure
from .escalation import Escalated, escalate
from .failures import TimeoutReason
from .lanes import Lane, WideLane, lane_for
from .reuse import Reuse, merged, reuse
from .service import row_seconds
from .state import RunState
from .telemetry import StageMeter

MAX_WAITING_BYTES = 64 << 20
MAX_WAITING_ROWS = 1 << 18
"""What may wait for a batch to fill (WHEN rarely true, empty lists); beyond, it goes out short."""


@dataclass
class Waiting:
    """A chunk whose elements are not all answered; `taken` and `done` count them.

    `answered` are (elements, seconds) of the batches they went out in, `seconds` the model time
    that was theirs.
    """

    chunk: Chunk
    elements: Elements
    escalated: Escalated | None = None
    reused: Reuse | None = None
    taken: int = 0
    done: int = 0
    seconds: float = 0.0
    answered: list[tuple[int, float]] = field(default_factory=list)
    outputs: list[list[Column]] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)


Owners = tuple[tuple[Waiting, int], ...]
"""The chunks that a batch's elements came from, and how many of each."""
AnyLane = Lane[Owners] | WideLane[Owners]


class StageWorker:
    """Runs one stage over a stream."""

    def __init__(
        self,
        stage: Stage,
        source: Stream,
        state: RunState,
        derived: frozenset[str],
        sizer: ChunkSizer | None = None,
    ) -> None:
        """`derived` are the model-derived columns of the stage's output."""
        self._stage = stage
        self._source = source
        self._state = state
        self._derived = derived
        self._sizer = sizer
        self._meter: StageMeter = state.telemetry.stage(stage)
        self._waiting: deque[Waiting] = deque()
        self._buffered = self._waiting_rows = self._waiting_bytes = 0
        self._ended = False
        self._next: Waiting | None = None
        self._cache: StageCache | None = None

    def chunks(self) -> Iterator[Chunk]:
        """The answered chunks, in order."""
        stage, state = self._stage, self._state
        schema = state.arrow_schema(stage.outputs)
        self._types = schema.types
        values = [t.value_type if stage.lists is not None else t for t in schema.types]
        self._values = values
        model = state.models.model(stage)
        inputs = state.arrow_schema(model.inputs)
        reader = OutputReader(
            stage.choice.variant,
            tuple(output.name for output in model.outputs),
            tuple(zip(stage.produce, values, strict=True)),
        )
        meter = state.meter(stage)
        caller = BatchCaller(
            stage,
            reader,
            values,
            state.slots,
            first_only=state.on_error == "fail",
            meter=meter,
        )
        env = state.env
        self._cache = stage_cache(env.cache, stage, model, env.variants, env.base_dir, values)
        if self._cache is not None:
            self._meter.cache_hits = 0
        batch = max(1, stage.choice.batch)
        loaded = len(state.models.loads(stage))
        lane: AnyLane = lane_for(stage, state, caller)
        try:
            for chunk in self._source.chunks:
                self._admit(chunk, elements_of(stage, chunk, inputs))
                while self._buffered >= batch:
                    self._submit(lane, batch)
                    if self._collect(lane, wait=False):
                        yield from self._ready()
                        if self._ended:
                            return
                if self._too_much_waits():
                    self._drain(lane, batch)
                yield from self._ready()
                if self._ended:
                    return
            self._drain(lane, batch)
            yield from self._ready()
        finally:
            self._source.close()
            lane.close()
            self._meter.loads = state.models.loads(stage)[loaded:]
            self._meter.memory_bytes = state.models.memory_bytes(stage)
            self._meter.energy = None if meter is None else meter.take(stage)

    def _admit(self, chunk: Chunk, elements: Elements) -> None:
        meter = self._meter
        meter.rows_in += len(chunk)
        escalated = escalate(self._stage, chunk, elements)
        if escalated is None:
            self._note_inputs(elements)
        reused = None
        if self._cache is not None:
            reused = reuse(elements, self._cache)
            meter.cache_hits = (meter.cache_hits or 0) + reused.hits
        self._waiting.append(Waiting(chunk, elements, escalated, reused))
        self._buffered += elements.count
        self._waiting_rows += len(chunk)
        self._waiting_bytes += chunk.batch.nbytes

    def _note_inputs(self, elements: Elements) -> None:
        """Count what comes to the call; of a cascade its first member sees it."""
        meter = self._meter
        meter.when_rows += elements.when_rows
        meter.when_true += elements.when_true
        if self._stage.lists is not None:
            lengths, counts = np.unique(elements.lengths, return_counts=True)
            for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
                meter.lengths[length] += count

    def _too_much_waits(self) -> bool:
        return self._waiting_rows > MAX_WAITING_ROWS or self._waiting_bytes > MAX_WAITING_BYTES

    def _drain(self, lane: AnyLane, batch: int) -> None:
        """Answer everything buffered, the last batch short."""
        while self._buffered:
            self._submit(lane, min(batch, self._buffered))
        self._collect(lane, wait=True)

    def _submit(self, lane: AnyLane, count: int) -> None:
        """Send the next `count` elements, which may come from several chunks."""
        self._buffered -= count
        head = self._next
        if head is not None and head.elements.count - head.taken > count:
            batch = head.elements.batch.slice(head.taken, count)
            head.taken += count
            lane.submit(batch, ((head, count),))
            return
        parts: list[pa.RecordBatch] = []
        owners: list[tuple[Waiting, int]] = []
        missing = count
        for waiting in self._waiting:
            self._next = waiting
            available = min(missing, waiting.elements.count - waiting.taken)
            if available:
                parts.append(waiting.elements.batch.slice(waiting.taken, available))
                owners.append((waiting, available))
                waiting.taken += available
                missing -= available
            if not missing:
                break
        lane.submit(join_batches(parts), tuple(owners))

    def _collect(self, lane: AnyLane, *, wait: bool) -> bool:
        """Hand finished batches to their chunks; whether the first chunk is now complete."""
        full = self._stage.choice.batch
        for result, owners in lane.results(wait=wait):
            meter = self._meter
            size = sum(count for _, count in owners)
            meter.calls += result.calls
            meter.elements += size
            meter.busy_seconds += result.seconds
            meter.queue_seconds += result.queue_seconds
            meter.failed_elements += len(result.failed)
            meter.timed_out_elements += result.timed_out
            if not result.failed and result.calls == 1:
                meter.batch(size, result.seconds, size == full, self._state.telemetry.rng)
            else:
                meter.failed_seconds += result.seconds
            start = 0
            for waiting, count in owners:
                whole = count == size
                waiting.outputs.append(
                    result.outputs if whole else [part_of(o, start, count) for o in result.outputs]
                )
                for position, message in result.failed.items():
                    if start <= position < start + count:
                        waiting.failed[waiting.done + position - start] = message
                waiting.done += count
                waiting.answered.append((count, result.seconds))
                waiting.seconds += result.seconds * count / size
                start += count
        return bool(self._waiting) and self._waiting[0].done == self._waiting[0].elements.count

    def _ready(self) -> Iterator[Chunk]:
        """The chunks at the head that are fully answered."""
        while self._waiting and self._waiting[0].done == self._waiting[0].elements.count:
            waiting = self._waiting.popleft()
            self._waiting_rows -= len(waiting.chunk)
            self._waiting_bytes -= waiting.chunk.batch.nbytes
            if self._sizer is not None:
                self._sizer.report(self._stage.step, len(waiting.chunk), waiting.seconds)
            self._sample(waiting)
            chunk = self._settle(waiting)
            self._meter.rows_out += len(chunk)
            if len(chunk):
                yield chunk
            if self._ended:
                self._waiting.clear()
                return

    def _sample(self, waiting: Waiting) -> None:
        """Note the service time of the rows that are in the sample."""
        sample = self._meter.service
        rows = waiting.chunk.rows
        drawn = sample.drawn(rows)
        if len(drawn):
            called = None if waiting.reused is None else waiting.reused.called
            if waiting.escalated is not None:
                mine = waiting.escalated.called
                called = mine if called is None else mine[called]
            batch = max(1, self._stage.choice.batch)
            times = row_seconds(waiting.elements, drawn, waiting.answered, batch, called)
            sample.add(rows[drawn], times)

    def _settle(self, waiting: Waiting) -> Chunk:
        """Add the outputs; deal with failed rows as ON ERROR says."""
        chunk, elements = waiting.chunk, waiting.elements
        answers, failed = waiting.outputs, waiting.failed
        if waiting.reused is not None:
            answers, failed = merged(
                waiting.reused,
                answers,
                self._values,
                failed,
                first_only=self._state.on_error == "fail",
            )
        if waiting.escalated is not None:
            answers, failed = waiting.escalated.merged(answers, self._values, failed)
        outputs = elements.outputs(answers, self._types)
        batch = _append(chunk.batch, self._stage, self._types, outputs)
        reasons = dict(elements.failed)
        for element, message in failed.items():
            reasons.setdefault(elements.row_of(element), message)
        if not reasons:
            return Chunk(batch, chunk.rows, chunk.failed)
        return self._settle_failed(Chunk(batch, chunk.rows, chunk.failed), reasons)

    def _settle_failed(self, chunk: Chunk, reasons: dict[int, str]) -> Chunk:
        stage, state = self._stage, self._state
        positions = sorted(reasons)
        if state.on_error == "fail":
            positions = positions[:1]
            self._ended = True
        self._meter.failed_rows += len(positions)
        self._meter.timed_out_rows += sum(isinstance(reasons[p], TimeoutReason) for p in positions)
        state.add_failures(Failure(int(chunk.rows[p]), stage.step, reasons[p]) for p in positions)
        if state.on_error == "fail":
            return chunk.slice(0, positions[0])
        failed: Mask = np.zeros(len(chunk), dtype=np.bool_)
        failed[positions] = True
        if state.on_error == "skip":
            return chunk.take(np.flatnonzero(~failed))
        if chunk.failed is not None:
            failed |= chunk.failed
        marked = Chunk(chunk.batch, chunk.rows, failed)
        return Chunk(with_nulls(marked, self._derived), chunk.rows, failed)


def part_of(column: Column, start: int, count: int) -> Column:
    """`count` values from `start`, sharing memory."""
    if isinstance(column, pa.Array):
        return column.slice(start, count)
    return column[start : start + count]


def _append(
    batch: pa.RecordBatch, stage: Stage, types: list[pa.DataType], outputs: list[pa.Array]
) -> pa.RecordBatch:
    schema = batch.schema
    for output, dtype in zip(stage.outputs, types, strict=True):
        schema = schema.append(pa.field(output.name, dtype))
    return pa.RecordBatch.from_arrays([*batch.columns, *outputs], schema=schema)
