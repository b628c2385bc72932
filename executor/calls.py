"""One batch call: a slot, the model, its outputs checked, failing elements found by bisection.

A call that times out is not split: what is slow may be the sum of its elements, and each further
try may take as long and leave one more thread behind. All its elements fail, and under bisection
with them those that were not tried yet, so that a batch waits for one timeout at most (our choice).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from ..errors import RunError
from ..ir.physical import Stage
from .backends.base import Answer, Column, OutputReader, join_columns
from .channels import Stopped
from .failures import TimedOut, TimeoutReason, describe
from .power import SharedMeter
from .slots import Slots


class Callee(Protocol):
    """What a batch is handed to."""

    def call(self, batch: pa.RecordBatch) -> Answer:
        """Answer a batch; may raise anything."""


@dataclass(slots=True)
class BatchResult:
    """`outputs` hold a value per element (NULL where it failed); `failed` says why, by position."""

    outputs: list[Column]
    seconds: float
    queue_seconds: float
    calls: int = 1
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def timed_out(self) -> int:
        """How many of the failed elements belong to a call that was given up."""
        return sum(isinstance(reason, TimeoutReason) for reason in self.failed.values())


class BatchCaller:
    """Calls one stage's variant."""

    def __init__(
        self,
        stage: Stage,
        reader: OutputReader,
        types: Sequence[pa.DataType],
        slots: Slots,
        *,
        first_only: bool,
        meter: SharedMeter | None = None,
    ) -> None:
        """`types` are those of the outputs per element; `first_only` stops at the first failure.

        `meter` is told when calls begin and end.
        """
        self._stage = stage
        self._device = stage.choice.device
        self._meter = meter
        self._reader = reader
        self._types = types
        self._slots = slots
        self._first_only = first_only

    def call(self, model: Callee, batch: pa.RecordBatch) -> BatchResult:
        """Call the model on the batch, then on halves of it as long as they fail.

        A batch that fails as a whole but works in parts loses nothing.

        Raises:
            RunError: the variant's outputs have the wrong shape.
            Stopped: cancelled while waiting for the slot or between tries.
        """
        waited = self._slots.take(self._device)
        token = None if self._meter is None else self._meter.begin(self._stage)
        try:
            began = time.perf_counter()
            outputs, error = self._attempt(model, batch)
            if outputs is not None:
                return BatchResult(outputs, time.perf_counter() - began, waited)
            result = self._bisect(model, batch, error)
            result.seconds = time.perf_counter() - began
            result.queue_seconds = waited
            return result
        finally:
            if self._meter is not None and token is not None:
                self._meter.end(token, batch.num_rows)
            self._slots.give(self._device)

    def _attempt(self, model: Callee, batch: pa.RecordBatch) -> tuple[list[Column] | None, str]:
        try:
            return self._reader.read(model.call(batch), batch.num_rows), ""
        except (RunError, Stopped):
            raise
        except TimedOut as error:
            return None, error.reason
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a model may raise anything
            return None, describe(error)

    def _bisect(self, model: Callee, batch: pa.RecordBatch, error: str) -> BatchResult:
        """Depth first and left to right, so the first failure found is the lowest."""
        result = BatchResult([], 0.0, 0.0)
        pieces: list[list[Column]] = []
        todo: list[tuple[int, int, str | None]] = [(0, batch.num_rows, error)]
        while todo:
            start, length, failed = todo.pop()
            if failed is None:
                if self._slots.stopped():
                    raise Stopped
                result.calls += 1
                outputs, message = self._attempt(model, batch.slice(start, length))
                if outputs is not None:
                    pieces.append(outputs)
                    continue
                failed = message
            late = isinstance(failed, TimeoutReason)
            if late or length == 1:
                stop = batch.num_rows if late else start + 1
                result.failed |= dict.fromkeys(range(start, stop), failed)
                if late or self._first_only:
                    pieces.append([pa.nulls(batch.num_rows - start, t) for t in self._types])
                    break
                pieces.append([pa.nulls(1, t) for t in self._types])
                continue
            half = length // 2
            todo.append((start + half, length - half, None))
            todo.append((start, half, None))
        result.outputs = [join_columns(column) for column in zip(*pieces, strict=True)]
        return result
