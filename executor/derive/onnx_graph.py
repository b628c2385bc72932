"""An ONNX file's constant weights: finding, reading and replacing them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..failures import describe
from .base import NotDerivable

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHT_INPUTS = {
    "MatMul": (0, 1),
    "Gemm": (0, 1),
    "Conv": (1,),
    "ConvTranspose": (1,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
}
"""Operators with weights and which inputs hold them; biases are others."""
_MOST_BYTES = 2**31 - 1
"""What a protobuf message may hold; larger models need their weights in a file beside."""


def load(path: Path) -> Any:
    """The model with its weights, external ones included, constants all as initializers.

    Raises:
        NotDerivable: it is not an ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise NotDerivable(f"onnx refused {path.name}: {describe(error)}") from error
    _lift_constants(model.graph)
    return model


def save(model: Any, path: Path) -> None:
    """Check the model and write it, equal models as equal bytes.

    Raises:
        NotDerivable: it is too large for one file.
    """
    import onnx

    if model.ByteSize() > _MOST_BYTES:
        raise NotDerivable("the result is larger than 2 GB, which one ONNX file cannot hold")
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def weights(model: Any) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Each floating-point weight (initializer and values), once, of at least two dimensions."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    seen = set()
    for node in model.graph.node:
        for place in WEIGHT_INPUTS.get(node.op_type, ()):
            name = node.input[place] if place < len(node.input) else ""
            if name in tensors and name not in seen:
                seen.add(name)
                values = numpy_helper.to_array(tensors[name])
                if values.ndim >= 2 and np.issubdtype(values.dtype, np.floating):
                    yield tensors[name], values


def refuse_without_weights(model: Any, what: str) -> NotDerivable:
    """Why there is nothing to do it to."""
    operators = sorted({node.op_type for node in model.graph.node})
    return NotDerivable(
        f"it has no floating-point weights that can be {what}: its operators are "
        + ", ".join(operators),
        "weights are those of " + ", ".join(WEIGHT_INPUTS) + "; one that is quantised to int8 has "
        "none any more: prune or reduce first, then quantise",
    )


def replace(tensor: Any, values: NDArray[Any]) -> None:
    """Give an initializer new values."""
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _lift_constants(graph: Any) -> None:
    """Constant nodes that hold a tensor as initializers, which is the same."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        if node.attribute and node.attribute[0].name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.node.remove(node)
