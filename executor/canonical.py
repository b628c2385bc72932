"""Canonical bytes of Arrow values: equal bytes mean the same typed value, bit by bit.

Floats are compared by their bits: -0.0 is not 0.0 and two NaNs may differ, because a model may tell
them apart. What lies under a NULL never counts, nor how an array is sliced or buffered.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

NULL = b"\x00"
VALID = b"\x01"


def row_bytes(batch: pa.RecordBatch) -> list[bytes]:
    """Each row's bytes, `n`; the types are not in them, so hash the schema beside."""
    columns = [value_bytes(column) for column in batch.columns]
    if len(columns) == 1:
        return columns[0]
    return [b"".join(values) for values in zip(*columns, strict=True)]


def value_bytes(array: pa.Array) -> list[bytes]:
    """Each value's bytes, `n`; self-delimiting, so that they may be joined."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return value_bytes(array.storage)
    if pa.types.is_dictionary(kind):
        return value_bytes(array.dictionary_decode())
    if pa.types.is_null(kind):
        return [NULL] * len(array)
    found = _valid_bytes(array, kind)
    if array.null_count == 0:
        return [VALID + value for value in found]
    valid = array.is_valid().to_pylist()
    return [VALID + value if ok else NULL for value, ok in zip(found, valid, strict=True)]


def _valid_bytes(array: pa.Array, kind: pa.DataType) -> list[bytes]:
    """The values' bytes as if none were NULL."""
    if pa.types.is_boolean(kind):
        return [b"\x01" if value else b"\x00" for value in array.fill_null(False).to_pylist()]
    width = _width(kind)
    if width is not None:
        raw = _fixed(array, width)
        return [raw[at : at + width] for at in range(0, len(raw), width)]
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _cut(array.buffers()[2], _offsets(array, np.int32))
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        return _cut(array.buffers()[2], _offsets(array, np.int64))
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        child = array.values.slice(array.offset * size, len(array) * size)
        return _lists(child, np.arange(0, len(child) + 1, size) if size else _no(len(array)))
    if pa.types.is_list(kind):
        return _lists(array.values, _offsets(array, np.int32))
    if pa.types.is_large_list(kind):
        return _lists(array.values, _offsets(array, np.int64))
    if pa.types.is_struct(kind):
        children = [value_bytes(child) for child in array.flatten()]
        return [b"".join(v) for v in zip(*children, strict=True)] or [b""] * len(array)
    return _encoded(array)


def _width(kind: pa.DataType) -> int | None:
    """Bytes of a value of a fixed width; None for others, and for single bits."""
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
        return int(kind.bit_width) // 8
    if pa.types.is_fixed_size_binary(kind):
        return int(kind.byte_width)
    return None


def _fixed(array: pa.Array, width: int) -> bytes:
    return _part(array.buffers()[1], array.offset * width, (array.offset + len(array)) * width)


def _part(buffer: pa.Buffer | None, start: int, stop: int) -> bytes:
    if buffer is None or start == stop:
        return b""
    found: bytes = buffer.slice(start, stop - start).to_pybytes()
    return found


def _no(count: int) -> NDArray[np.int64]:
    return np.zeros(count + 1, np.int64)


def _offsets(array: pa.Array, dtype: type[np.int32] | type[np.int64]) -> NDArray[Any]:
    """Where each value starts and the last one ends, `n + 1`."""
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return _no(0)
    every = np.frombuffer(buffer, dtype)
    return every[array.offset : array.offset + len(array) + 1]


def _cut(buffer: pa.Buffer | None, offsets: NDArray[Any]) -> list[bytes]:
    """The stretches between offsets, each after its length."""
    first = int(offsets[0])
    data = _part(buffer, first, int(offsets[-1]))
    edges: list[int] = (offsets - first).tolist()
    return [struct.pack("<q", stop - start) + data[start:stop] for start, stop in pairwise(edges)]


def _lists(values: pa.Array, offsets: NDArray[Any]) -> list[bytes]:
    """Lists of `values` between offsets: length, whether an item may be NULL, items.

    Lists of numbers without NULL, which are most, are one stretch of memory.
    """
    first = int(offsets[0])
    values = values.slice(first, int(offsets[-1]) - first)
    edges: list[int] = (offsets - first).tolist()
    pairs = list(pairwise(edges))
    width = None if pa.types.is_boolean(values.type) else _width(values.type)
    raw = b"" if width is None else _fixed(values, width)
    if width is not None and values.null_count == 0:
        return [_packed(raw, start, stop, width) for start, stop in pairs]
    items: Sequence[bytes] = value_bytes(values)
    absent = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.asarray(values.is_null().to_numpy(zero_copy_only=False)), out=absent[1:])
    nulls: list[int] = absent.tolist()
    return [
        _packed(raw, start, stop, width)
        if width is not None and nulls[start] == nulls[stop]
        else struct.pack("<qb", stop - start, 1) + b"".join(items[start:stop])
        for start, stop in pairs
    ]


def _packed(raw: bytes, start: int, stop: int, width: int) -> bytes:
    """A list of values of `width` bytes, none NULL."""
    return struct.pack("<qb", stop - start, 0) + raw[start * width : stop * width]


def _encoded(array: pa.Array) -> list[bytes]:
    """Rare types (maps, unions, views): each value as an Arrow message of its own."""
    found = []
    for at in range(len(array)):
        one = pa.RecordBatch.from_arrays([array.take(pa.array([at]))], names=[""])
        message = one.serialize().to_pybytes()
        found.append(struct.pack("<q", len(message)) + message)
    return found
