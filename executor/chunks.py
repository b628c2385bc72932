"""Chunks: a few thousand rows on their way, and how many rows a chunk should have."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

TARGET_SECONDS = 0.05
"""Work per chunk: long against a thread switch and a DuckDB query (~1 ms), short for Ctrl-C."""
MAX_ROWS = 61440
"""Rows of a light chunk: half a row group of DuckDB (122,880), so that chunks are slices of what it
reads. A chunk costs about 0.1 ms; at 16,384 rows that was a third of a light pipeline's time."""
MAX_BYTES = 16 << 20
"""Bytes of a chunk of wide rows, so that queues stay small whatever a row holds."""

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Chunk:
    """`batch` holds the plan node's columns; `rows` their `__row`, `n`; `failed` marks rows, `n`.

    The row numbers are kept beside the batch because a batch without columns has no length.
    """

    batch: pa.RecordBatch
    rows: Rows
    failed: Mask | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def slice(self, start: int, length: int | None = None) -> Chunk:
        """Rows `[start, start + length)`, sharing memory."""
        stop = len(self) if length is None else min(len(self), start + length)
        failed = None if self.failed is None else self.failed[start:stop]
        return Chunk(self.batch.slice(start, stop - start), self.rows[start:stop], failed)

    def take(self, positions: NDArray[np.int64]) -> Chunk:
        """The rows at these positions."""
        failed = None if self.failed is None else self.failed[positions]
        batch = take_batch(self.batch, pa.array(positions))
        return Chunk(batch, self.rows[positions], failed)


def take_batch(batch: pa.RecordBatch, indices: pa.Array) -> pa.RecordBatch:
    """Rows of a batch by position; a null index gives a row of nulls."""
    if batch.num_columns == 0:
        return batch
    return pa.RecordBatch.from_arrays(
        [column.take(indices) for column in batch.columns], schema=batch.schema
    )


def null_where(column: pa.Array, mask: Mask) -> pa.Array:
    """The column with NULL where `mask`; by a take with null indices, which knows every type."""
    return column.take(pa.array(np.arange(len(mask)), mask=mask))


def with_nulls(chunk: Chunk, derived: frozenset[str]) -> pa.RecordBatch:
    """The chunk's batch with the model-derived columns of failed rows NULL."""
    if chunk.failed is None or not chunk.failed.any():
        return chunk.batch
    columns = [
        null_where(column, chunk.failed) if name in derived else column
        for name, column in zip(chunk.batch.schema.names, chunk.batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=chunk.batch.schema)


class ChunkSizer:
    """Rows per chunk, so that the slowest stage takes about `TARGET_SECONDS` for one.

    At least the largest batch of the stages it feeds and a multiple of it (then a batch is a slice,
    not a copy), at most `MAX_ROWS` or that batch; it starts small and at most doubles, because the
    first calls of a model are its slowest.
    """

    def __init__(self, batches: Sequence[int]) -> None:
        self._unit = max(batches, default=MAX_ROWS)
        self._most = max(self._unit, MAX_ROWS // self._unit * self._unit)
        self._lock = threading.Lock()
        self._row_seconds: dict[str, float] = {}
        self._rows = self._unit

    @property
    def rows(self) -> int:
        """How many rows the next chunk should have."""
        return self._rows

    def report(self, step: str, rows: int, seconds: float) -> None:
        """A stage took so long for a chunk."""
        if rows == 0:
            return
        with self._lock:
            before = self._row_seconds.get(step, seconds / rows)
            self._row_seconds[step] = 0.5 * before + 0.5 * seconds / rows
            slowest = max(self._row_seconds.values())
            wanted = TARGET_SECONDS / slowest if slowest > 0 else self._most
            units = int(min(wanted, 2 * self._rows)) // self._unit
            self._rows = min(self._most, max(1, units) * self._unit)


def rechunk(
    batches: Iterator[pa.RecordBatch], sizer: ChunkSizer
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Regroup record batches into chunks of the wanted size; each with its first row's number."""
    held: list[pa.RecordBatch] = []
    held_rows = held_bytes = first = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            room = max(1, sizer.rows - held_rows)
            part = batch.slice(start, room)
            start += part.num_rows
            held.append(part)
            held_rows += part.num_rows
            held_bytes += part.nbytes
            if held_rows >= sizer.rows or held_bytes >= MAX_BYTES:
                yield first, join_batches(held)
                first += held_rows
                held, held_rows, held_bytes = [], 0, 0
    if held:
        yield first, join_batches(held)


def join_batches(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of several; the same object if there is one."""
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def row_numbers(first: int, count: int) -> Rows:
    """`first, first + 1, …`, `count` of them."""
    return np.arange(first, first + count, dtype=np.int64)
