"""Arrow columns from Python lists, without `pyarrow.array`.

`pyarrow.array` imports pandas where it is installed (to recognise its types), which would cost the
first append half a second; filling the buffers of three types by hand is as fast and loads nothing.
Layouts: Apache Arrow Columnar Format 1.5, "Fixed-Size Primitive" and "Variable-size Binary".
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa


def texts(values: Sequence[str | None]) -> pa.Array:
    """A column of strings; None is null."""
    import pyarrow as pa

    data = [b"" if value is None else value.encode() for value in values]
    offsets = array("i", accumulate(map(len, data), initial=0))
    buffers = [_validity(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def numbers(values: Sequence[float | None], kind: Literal["d", "q"]) -> pa.Array:
    """A column of doubles (`d`) or 64-bit integers (`q`); None is null."""
    import pyarrow as pa

    data = array(kind, [0 if value is None else value for value in values])
    buffers = [_validity(values), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.float64() if kind == "d" else pa.int64(), len(values), buffers)


def _validity(values: Sequence[object]) -> pa.Buffer | None:
    """The bitmap of what is not null, least significant bit first; None when nothing is."""
    import pyarrow as pa

    if None not in values:
        return None
    bits = "".join("0" if value is None else "1" for value in reversed(values))
    return pa.py_buffer(int(bits, 2).to_bytes((len(values) + 7) // 8, "little"))
