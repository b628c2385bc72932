"""A cascade's outputs put together from its members' outputs on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ir.record import dataclass

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Columns = Sequence["pa.ChunkedArray"]


@dataclass(frozen=True)
class _Flat:
    """A member's outputs by element; `starts` and `lengths` by row, `n` each, 0 where it has none.

    `present` rows have elements of their own to give.
    """

    columns: tuple[pa.Array, ...]
    starts: np.ndarray
    lengths: np.ndarray
    present: np.ndarray


def combined(
    members: Sequence[tuple[Columns, frozenset[int]]],
    thresholds: Sequence[float],
    confidence: int,
    *,
    each: bool,
) -> tuple[tuple[pa.ChunkedArray, ...], frozenset[int]]:
    """What a cascade answers, `n` rows, and the rows that fail in it.

    A row fails where its first member does, and where a later one does that it needs.

    Args:
        members: the outputs of every member on all rows, and the rows that failed in it.
        thresholds: of all members but the last.
        confidence: which output is the confidence.
        each: are outputs lists, a value per element?
    """
    import numpy as np
    import pyarrow as pa

    flats = [_flat(columns, failed, each=each) for columns, failed in members]
    first = flats[0]
    failed = set(members[0][1])
    row_of = np.repeat(np.arange(len(first.lengths)), first.lengths)
    within = np.arange(len(row_of)) - np.repeat(
        np.cumsum(first.lengths) - first.lengths, first.lengths
    )
    index = first.starts[row_of] + within
    unsure = np.ones(len(row_of), dtype=bool)
    base = 0
    for flat, following, threshold in zip(flats, flats[1:], thresholds, strict=False):
        sure = np.asarray(flat.columns[confidence].cast(pa.float64()).to_numpy(False))
        base += len(sure)
        going = np.flatnonzero(unsure)
        unsure[going] = ~(sure[flat.starts[row_of[going]] + within[going]] >= threshold)
        lost = unsure & ~following.present[row_of]
        failed |= set(row_of[lost].tolist())
        unsure &= ~lost
        index[unsure] = base + following.starts[row_of[unsure]] + within[unsure]
    present = first.present.copy()
    present[list(failed)] = False
    kept = present[row_of]
    order = pa.array(index[kept])
    columns = []
    for place, like in enumerate(members[0][0]):
        values = pa.concat_arrays([flat.columns[place] for flat in flats]).take(order)
        columns.append(_by_row(values, np.where(present, first.lengths, 0), present, like, each))
    return tuple(columns), frozenset(failed)


def _flat(columns: Columns, failed: frozenset[int], *, each: bool) -> _Flat:
    """The outputs by element."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = [
        pa.concat_arrays(column.chunks) if column.chunks else pa.nulls(0, column.type)
        for column in columns
    ]
    rows = len(whole[0])
    present = np.ones(rows, dtype=bool)
    present[list(failed)] = False
    if not each:
        return _Flat(tuple(whole), np.arange(rows), present.astype(np.int64), present)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(whole[0]), 0).to_numpy(False), np.int64)
    starts = np.cumsum(lengths) - lengths
    present &= np.asarray(whole[0].is_valid().to_numpy(False))
    flat = tuple(column.flatten() for column in whole)
    return _Flat(flat, starts, np.where(present, lengths, 0), present)


def _by_row(
    values: pa.Array, lengths: np.ndarray, present: np.ndarray, like: pa.ChunkedArray, each: bool
) -> pa.ChunkedArray:
    """Elements as the rows' values; NULL where a row has none."""
    import numpy as np
    import pyarrow as pa

    if not each:
        index = np.cumsum(present) - 1
        return pa.chunked_array([values.take(pa.array(index, mask=~present))], like.type)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ends = pa.array(offsets, pa.int32(), mask=np.append(~present, False))
    return pa.chunked_array([pa.ListArray.from_arrays(ends, values, type=like.type)])
