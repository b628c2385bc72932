"""`onnx(path)`: an ONNX file run by onnxruntime.

Arguments go to the session's inputs by name, where the names are the model's, else in order.
Options: `inputs := 'x=input_1, …'` and `outputs := 'digit=label, …'` map the model's names to the
file's. Without a map outputs are found by name, else in order; a classifier's probabilities (a
matrix or a sequence of maps) answer a DOUBLE output by their row maximum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..failures import cannot_load, describe, missing_package
from .base import Answer, LoadedModel, LoadRequest, MemoryMeter, as_matrix, importing

NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
"""ONNX tensor types and the numpy types that feed them."""


class OnnxModel:
    """A session; onnxruntime allows concurrent runs of one."""

    thread_safe = True

    def __init__(
        self,
        session: Any,
        feeds: list[tuple[str, str, Any, int]],
        fetches: list[tuple[str, str, bool]],
        memory_bytes: int | None,
    ) -> None:
        """`feeds`: (argument, input, numpy type, rank); `fetches`: (output, tensor, is list)."""
        self._session = session
        self._feeds = feeds
        self._fetches = fetches
        self._tensors = list(dict.fromkeys(tensor for _, tensor, _ in fetches))
        self.memory_bytes = memory_bytes

    def call(self, batch: pa.RecordBatch) -> Answer:
        """Run the session on the whole batch."""
        values = {}
        for argument, name, dtype, rank in self._feeds:
            matrix = as_matrix(batch.column(argument)).astype(dtype, copy=False)
            values[name] = matrix[:, None] if rank == 2 and matrix.ndim == 1 else matrix
        found = dict(zip(self._tensors, self._session.run(self._tensors, values), strict=True))
        return {output: _column(found[tensor], many) for output, tensor, many in self._fetches}

    def close(self) -> None:
        """Drop the session."""
        self._session = None


class OnnxBackend:
    """Loads `onnx` variants on the CPU, with the device's THREADS."""

    def load(self, request: LoadRequest) -> LoadedModel:
        """Open the file and settle which tensor is which column."""
        try:
            with importing():
                import onnxruntime
        except ImportError as error:
            raise missing_package("onnx", "onnxruntime", "onnx") from error
        name, path = request.variant.full_name, request.path()
        if not path.is_file():
            raise cannot_load(name, f"there is no file {path}")
        meter = MemoryMeter()
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        if request.device.threads is not None:
            options.intra_op_num_threads = request.device.threads
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise cannot_load(name, f"onnxruntime refused it: {describe(error)}") from error
        feeds = _feeds(request, session.get_inputs())
        fetches = _fetches(request, session.get_outputs())
        return OnnxModel(session, feeds, fetches, meter.grown(_size(path)))


def _feeds(request: LoadRequest, tensors: list[Any]) -> list[tuple[str, str, Any, int]]:
    variant = request.variant.full_name
    names = [field.name for field in request.model.inputs]
    pairs = _pairs(variant, names, [t.name for t in tensors], request.options.get("inputs"))
    if len(tensors) > len(pairs):
        raise cannot_load(
            variant, f"it has {len(tensors)} inputs, the model {len(names)}", "see inputs := '…'"
        )
    by_name = {tensor.name: tensor for tensor in tensors}
    feeds = []
    for argument, tensor in pairs.items():
        dtype = NUMPY.get(by_name[tensor].type)
        if dtype is None:
            raise cannot_load(variant, f"its input {tensor} is a {by_name[tensor].type}")
        feeds.append((argument, tensor, dtype, len(by_name[tensor].shape or ())))
    return feeds


def _fetches(request: LoadRequest, tensors: list[Any]) -> list[tuple[str, str, bool]]:
    outputs = request.model.outputs
    pairs = _pairs(
        request.variant.full_name,
        [field.name for field in outputs],
        [t.name for t in tensors],
        request.options.get("outputs"),
    )
    return [(f.name, pairs[f.name], f.type.endswith("]")) for f in outputs]


def _pairs(variant: str, ours: list[str], theirs: list[str], option: object) -> dict[str, str]:
    """Which of the file's names stands for which of the model's."""
    if option is not None:
        items = (item.partition("=") for item in str(option).split(","))
        pairs = {left.strip(): right.strip() for left, _, right in items}
    elif set(ours) <= set(theirs):
        return {name: name for name in ours}
    else:
        pairs = dict(zip(ours, theirs, strict=False))
    for name in ours:
        if pairs.get(name) not in theirs:
            raise cannot_load(
                variant,
                f"nothing in the file stands for {name}",
                f"the file has {', '.join(theirs)}; name them with inputs := or outputs :=",
            )
    return pairs


def _column(value: Any, many: bool) -> Any:
    """A tensor as a column; a matrix for a scalar output is reduced to its row maximum."""
    if isinstance(value, list):
        value = np.array([list(entry.values()) for entry in value], dtype=np.float64)
    if value.ndim == 2 and not many:
        return value[:, 0] if value.shape[1] == 1 else value.max(axis=1)
    return value


def _size(path: Path) -> int:
    """The file's bytes, external weights included when they lie beside it."""
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)
