"""The elements of a chunk: which calls its rows ask for, and how the answers go back to rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..ir.physical import Stage
from .backends.base import Column, join_columns
from .chunks import Chunk, Mask, Rows

UNEQUAL = "the lists under EACH have different lengths"


@dataclass
class Elements:
    """The calls of one chunk of `n` rows.

    `batch` has a row per element and the model's inputs as columns. `called` are the positions of
    the rows that call, `m`; None means all of them. Under EACH, `lengths` are their list lengths,
    `m`. `failed` are rows that cannot call, by position.
    """

    rows: int
    batch: pa.RecordBatch
    count: int
    called: Rows | None = None
    lengths: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    each: bool = False
    when_rows: int = 0
    when_true: int = 0
    failed: dict[int, str] = field(default_factory=dict)

    def row_of(self, element: int) -> int:
        """The row an element belongs to, as a position in the chunk."""
        if self.each:
            element = int(np.searchsorted(np.cumsum(self.lengths), element, side="right"))
        return element if self.called is None else int(self.called[element])

    def outputs(self, answers: list[list[Column]], types: list[pa.DataType]) -> list[pa.Array]:
        """The output columns, `n` each, from the batches' answers in order."""
        return [
            self._column([answer[i] for answer in answers], dtype) for i, dtype in enumerate(types)
        ]

    def _column(self, pieces: list[Column], dtype: pa.DataType) -> pa.Array:
        if not pieces:
            values = pa.nulls(0, dtype.value_type if self.each else dtype)
        else:
            values = join_columns(pieces)
        if self.each:
            offsets = np.zeros(len(self.lengths) + 1, np.int32)
            np.cumsum(self.lengths, out=offsets[1:])
            values = pa.ListArray.from_arrays(pa.array(offsets), values, type=dtype)
        if self.called is None:
            return values
        if len(self.called) == 0:
            return pa.nulls(self.rows, dtype)
        indices = np.zeros(self.rows, np.int64)
        absent = np.ones(self.rows, np.bool_)
        indices[self.called] = np.arange(len(self.called))
        absent[self.called] = False
        return values.take(pa.array(indices, mask=absent))


def elements_of(stage: Stage, chunk: Chunk, inputs: pa.Schema) -> Elements:
    """The calls that a chunk asks for; `inputs` are the model's, by which columns are cast."""
    rows = len(chunk)
    calls: Mask | None = None
    when_rows = when_true = 0
    if stage.when is not None:
        condition = chunk.batch.column(stage.when)
        calls = _booleans(condition)
        if chunk.failed is None:
            when_rows, when_true = rows, int(calls.sum())
        else:
            when_rows, when_true = int((~chunk.failed).sum()), int((calls & ~chunk.failed).sum())
    if chunk.failed is not None and chunk.failed.any():
        calls = ~chunk.failed if calls is None else calls & ~chunk.failed
    columns = [chunk.batch.column(name) for name in stage.args]
    if stage.lists is not None:
        found = _each(columns, stage.lists, rows, calls, inputs)
    else:
        called = None if calls is None or calls.all() else np.flatnonzero(calls)
        if called is not None:
            indices = pa.array(called)
            columns = [column.take(indices) for column in columns]
        count = rows if called is None else len(called)
        found = Elements(rows, _batch(columns, inputs), count, called)
    found.when_rows, found.when_true = when_rows, when_true
    return found


def _booleans(column: pa.Array) -> Mask:
    """A BOOLEAN column, `n`, NULL as False."""
    filled: Any = pc.fill_null(column, False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _batch(columns: list[pa.Array], inputs: pa.Schema) -> pa.RecordBatch:
    cast = [
        column if column.type == dtype else column.cast(dtype)
        for column, dtype in zip(columns, inputs.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(cast, schema=inputs)


def _each(
    columns: list[pa.Array],
    lists: tuple[bool, ...],
    rows: int,
    calls: Mask | None,
    inputs: pa.Schema,
) -> Elements:
    """Zip the list arguments, broadcast the others."""
    active = np.ones(rows, np.bool_) if calls is None else calls.copy()
    length: NDArray[np.int64] | None = None
    unequal = np.zeros(rows, np.bool_)
    for column, is_list in zip(columns, lists, strict=True):
        if not is_list:
            continue
        if column.null_count:
            active &= np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
        own = pc.fill_null(pc.list_value_length(column), 0)
        here = np.asarray(own.to_numpy(zero_copy_only=False), dtype=np.int64)
        if length is None:
            length = here
        else:
            unequal |= here != length
    assert length is not None
    unequal &= active
    active &= ~unequal
    called = None if active.all() else np.flatnonzero(active)
    lengths = length if called is None else length[called]
    positions = np.arange(rows) if called is None else called
    repeated = None
    flat: list[pa.Array] = []
    for column, is_list in zip(columns, lists, strict=True):
        if is_list:
            flat.append((column if called is None else column.take(pa.array(called))).flatten())
        else:
            if repeated is None:
                repeated = pa.array(np.repeat(positions, lengths))
            flat.append(column.take(repeated))
    failed = {int(p): UNEQUAL for p in np.flatnonzero(unequal)}
    count = int(lengths.sum())
    return Elements(rows, _batch(flat, inputs), count, called, lengths, True, failed=failed)
