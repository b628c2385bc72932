"""What every backend shares: the interface, checked outputs, memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from ...ir.models import Device, Knobs, Model, Variant
from ..failures import RowFailed, wrong_output

Answer: TypeAlias = (
    pa.RecordBatch | pa.Table | Mapping[str, Any] | pa.Array | pa.ChunkedArray | list[Any]
)
"""What a model may return: named columns, or one array for a model with one output."""

Column: TypeAlias = pa.Array | np.ndarray[Any, Any]
"""A checked output: an Arrow array, or a numpy array of the very same type."""


@dataclass(frozen=True)
class LoadRequest:
    """Everything a backend needs to load a variant with fixed knobs on a slot of a device."""

    variant: Variant
    knobs: Knobs
    device: Device
    model: Model
    base_dir: Path

    @property
    def target(self) -> str:
        """The quoted argument of USING."""
        return "" if self.variant.backend is None else self.variant.backend.target

    @property
    def options(self) -> dict[str, Any]:
        """The options of USING."""
        return {} if self.variant.backend is None else dict(self.variant.backend.options)

    def path(self) -> Path:
        """The target as a path, relative ones from `base_dir`."""
        return (self.base_dir / self.target).resolve()


class LoadedModel(Protocol):
    """A variant in memory. `thread_safe` ones serve several slots at once."""

    thread_safe: bool
    memory_bytes: int | None

    def call(self, batch: pa.RecordBatch) -> Answer:
        """Answer a batch whose columns are named as the model's inputs; may raise anything."""

    def close(self) -> None:
        """Release what it holds."""


class Backend(Protocol):
    """Loads variants of one kind."""

    def load(self, request: LoadRequest) -> LoadedModel:
        """Load, ready to be called.

        Raises:
            RunError: OC0404 missing package, OC0406 cannot be loaded.
        """


class OutputReader:
    """Turns a model's answers into arrays of the declared types.

    Wrong columns or a wrong row count are the variant's defect and stop the run; a value that does
    not fit its type fails its row, like an exception from the model.
    """

    def __init__(
        self, variant: str, declared: tuple[str, ...], wanted: tuple[tuple[str, pa.DataType], ...]
    ) -> None:
        """`declared` are all the model's outputs; `wanted` those read, with their Arrow types."""
        self._variant = variant
        self._declared = declared
        self._wanted = tuple((name, dtype, _numpy_twin(dtype)) for name, dtype in wanted)

    def read(self, answer: Answer, rows: int) -> list[Column]:
        """The wanted outputs, each of `rows` values.

        A numpy array of just the right type stays one: joining many is cheaper before Arrow.

        Raises:
            RunError: OC0403.
            RowFailed: a value does not fit.
        """
        columns = answer if type(answer) is dict else self._columns(answer)
        for name in self._declared:
            if name not in columns:
                got = ", ".join(columns) or "none"
                raise wrong_output(
                    self._variant, f"did not return the output {name} (returned: {got})"
                )
        found: list[Column] = []
        for name, dtype, twin in self._wanted:
            value = columns[name]
            exact = type(value) is np.ndarray and value.dtype == twin and value.ndim == 1
            column = value if exact else self._array(name, value, dtype)
            if len(column) != rows:
                raise wrong_output(
                    self._variant, f"returned {len(column)} values of {name} for {rows} inputs"
                )
            found.append(column)
        return found

    def _columns(self, answer: Answer) -> Mapping[str, Any]:
        if isinstance(answer, pa.RecordBatch | pa.Table):
            return dict(zip(answer.schema.names, answer.columns, strict=True))
        if isinstance(answer, Mapping):
            return answer
        if len(self._declared) == 1:
            return {self._declared[0]: answer}
        kind = type(answer).__name__
        raise wrong_output(
            self._variant,
            f"returned one {kind}, but the model has {len(self._declared)} outputs",
        )

    def _array(self, name: str, value: Any, dtype: pa.DataType) -> pa.Array:
        try:
            return as_array(value, dtype)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise RowFailed(f"output {name} is not a {dtype}: {error}") from error


def _numpy_twin(dtype: pa.DataType) -> np.dtype[Any] | None:
    """The numpy type that is the same thing bit by bit."""
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype):
        twin: np.dtype[Any] = np.dtype(dtype.to_pandas_dtype())
        return twin
    return None


def join_columns(pieces: Sequence[Column]) -> pa.Array:
    """Successive pieces of one output as an Arrow array."""
    if all(type(piece) is np.ndarray for piece in pieces):
        return pa.array(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
    arrays = [pa.array(piece) if isinstance(piece, np.ndarray) else piece for piece in pieces]
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def as_array(value: Any, dtype: pa.DataType) -> pa.Array:
    """Any column-like value as an Arrow array of a type; conversions that lose something raise."""
    if isinstance(value, pa.ChunkedArray):
        value = value.combine_chunks()
    if isinstance(value, np.ndarray):
        value = _from_numpy(value)
    if not isinstance(value, pa.Array):
        if not hasattr(value, "__len__"):
            raise TypeError(f"a {type(value).__name__} is not a column")
        if not _holds_integers(dtype):
            return pa.array(value, dtype)
        value = pa.array(value)  # pyarrow would cut 0.5 to 0; a cast refuses
    return value if value.type == dtype else value.cast(dtype)


def _holds_integers(dtype: pa.DataType) -> bool:
    while pa.types.is_list(dtype) or pa.types.is_fixed_size_list(dtype):
        dtype = dtype.value_type
    return bool(pa.types.is_integer(dtype))


def _from_numpy(value: np.ndarray[Any, Any]) -> pa.Array:
    if value.ndim == 1:
        return pa.array(value)
    if value.ndim == 2:
        flat = pa.array(np.ascontiguousarray(value).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, value.shape[1])
    return pa.array(value.tolist())


def as_matrix(column: pa.Array) -> np.ndarray[Any, Any]:
    """A numeric column as `n`, a list column of equal lengths as `n x m`.

    Raises:
        RowFailed: nulls, or lists of several lengths.
    """
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        _no_nulls(column)
        values = column.flatten()
        _no_nulls(values)
        return _numpy(values).reshape(len(column), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _no_nulls(column)
        lengths = np.diff(column.offsets.to_numpy())
        if len(lengths) and (lengths != lengths[0]).any():
            raise RowFailed("the lists of one batch have different lengths")
        values = column.flatten()
        _no_nulls(values)
        width = int(lengths[0]) if len(lengths) else 0
        return _numpy(values).reshape(len(column), width)
    _no_nulls(column)
    return _numpy(column)


def _numpy(values: pa.Array) -> np.ndarray[Any, Any]:
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _no_nulls(column: pa.Array) -> None:
    if column.null_count:
        raise RowFailed("the argument is NULL")


class Imports:
    """Seconds that importing took, of one load."""

    def __init__(self) -> None:
        self.seconds = 0.0


_imports: ContextVar[Imports | None] = ContextVar("imports", default=None)


@contextlib.contextmanager
def imports_apart() -> Iterator[Imports]:
    """Around a load: how much of it `importing` took."""
    found = Imports()
    token = _imports.set(found)
    try:
        yield found
    finally:
        _imports.reset(token)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Around what a process imports once, for all copies and variants: no part of loading one."""
    found, began = _imports.get(), time.perf_counter()
    try:
        yield
    finally:
        if found is not None:
            found.seconds += time.perf_counter() - began


@functools.cache
def import_lazily_loaded() -> None:
    """Have pyarrow import pandas, where there is one, now and not in the first call that is timed.

    It does so at its first `array` and, once more, `to_pandas`: 0.4 s, paid once per process.
    """
    batch = pa.record_batch({"x": pa.array([0])})
    with contextlib.suppress(ImportError):
        batch.to_pandas()


def resident_bytes() -> int | None:
    """Bytes of this process in memory now; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


MEMORY_RESOLUTION = 1 << 20
"""Growth below it tells nothing: allocators ask the system for memory in pieces of that order."""


class MemoryMeter:
    """How much a load added: the growth of the resident set, at least what is surely there.

    Memory that was freed before would hide what a load takes, so it is given back to the system
    first, as far as the C library can. What a load imports counts as its own.
    """

    def __init__(self) -> None:
        _release_freed()
        self._before = resident_bytes()

    def grown(self, at_least: int = 0) -> int | None:
        """Bytes since construction; `at_least` is a floor such as the file's size.

        None where the growth is too small to be told from none, and no floor is known.
        """
        now = resident_bytes()
        growth = 0 if self._before is None or now is None else now - self._before
        return max(at_least, growth if growth >= MEMORY_RESOLUTION else 0) or None


def _release_freed() -> None:
    """Ask Arrow and the C library to give freed memory back; other libraries keep theirs."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
