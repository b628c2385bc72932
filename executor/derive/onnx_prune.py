"""PRUNE of ONNX files: magnitude pruning, tensor by tensor, without retraining.

In every weight of MatMul, Gemm, Conv and recurrent layers the given share of the values that are
smallest in size becomes 0; biases stay ([Han et al., "Learning both Weights and Connections for
Efficient Neural Networks", 2015], without its retraining). The kernels are dense: zeros cost as
much as other numbers, so calls get no faster and the file no smaller by pruning alone.
"""

from __future__ import annotations

from . import onnx_graph
from .base import Source
from .pruning import pruned


def prune(source: Source) -> None:
    """Write `source.path` with the share `source.arg` of each weight's smallest values at 0.

    Raises:
        NotDerivable: it has no weights.
    """
    model = onnx_graph.load(source.path)
    found = list(onnx_graph.weights(model))
    if not found:
        raise onnx_graph.refuse_without_weights(model, "pruned")
    assert isinstance(source.arg, float)
    for tensor, values in found:
        onnx_graph.replace(tensor, pruned(values, source.arg))
    onnx_graph.save(model, source.target)
