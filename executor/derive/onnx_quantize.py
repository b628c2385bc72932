"""QUANTIZE of ONNX files: dynamic int8 quantisation and half precision, by onnxruntime's own tools.

int8: weights become 8-bit integers, one scale an output channel; activations are quantised as they
come. Dynamic quantisation covers MatMul and Gemm, Conv, LSTM, Attention and embeddings.

fp16: weights are kept in half precision. Inputs and outputs keep their types. Where a device has no
kernels for half precision (most CPUs), onnxruntime computes in single precision: the file gets
smaller, the calls not faster.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..failures import describe
from . import onnx_graph
from .base import NotDerivable, Source

INTEGERS = ("INT8", "UINT8")


def quantize(source: Source) -> None:
    """Write `source.path` in the format `source.arg`.

    Raises:
        NotDerivable: it has nothing that this covers.
    """
    if source.arg == "fp16":
        _half(source)
    else:
        _int8(source)


def _int8(source: Source) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    before = onnx_graph.load(source.path)
    prepared = source.target.with_name("prepared.onnx")
    made = source.target.with_name("quantized.onnx")
    # The processor's ConvInteger takes unsigned weights only.
    convolves = any(node.op_type == "Conv" for node in before.graph.node)
    with _tool():
        # ONNX's own shape inference is enough; the symbolic one gives up on many a model.
        quant_pre_process(source.path, prepared, skip_symbolic_shape=True)
        quantize_dynamic(
            prepared,
            made,
            per_channel=True,
            weight_type=QuantType.QUInt8 if convolves else QuantType.QInt8,
        )
    model = onnx.load(made)
    if _count(model, *INTEGERS) == _count(before, *INTEGERS):
        raise onnx_graph.refuse_without_weights(before, "quantised to int8")
    onnx_graph.save(model, source.target)


def _half(source: Source) -> None:
    before = onnx_graph.load(source.path)
    halves = _count(before, "FLOAT16")
    model = _float16(before)
    if _count(model, "FLOAT16") == halves:
        raise onnx_graph.refuse_without_weights(before, "kept in half precision")
    onnx_graph.save(model, source.target)


def _float16(model: Any) -> Any:
    """onnxruntime's conversion; importing its package leaves its folder on `sys.path`."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    path = list(sys.path)
    from onnxruntime.transformers.float16 import convert_float_to_float16

    sys.path[:] = path
    with _tool():
        made = ONNXModel(convert_float_to_float16(model, keep_io_types=True))
        made.topological_sort()  # the casts it adds stand at the end
        return made.model


def _count(model: Any, *kinds: str) -> int:
    """Initializers of these types with two dimensions or more; scales have fewer."""
    from onnx import TensorProto

    numbers = [TensorProto.DataType.Value(kind) for kind in kinds]
    tensors = model.graph.initializer
    return sum(t.data_type in numbers and len(t.dims) >= 2 for t in tensors)


@contextmanager
def _tool() -> Iterator[None]:
    """A tool of onnxruntime at work: it logs advice to the root logger and may refuse the file."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except Exception as error:
        raise NotDerivable(f"onnxruntime's tools refused it: {describe(error)}") from error
    finally:
        logging.disable(before)
