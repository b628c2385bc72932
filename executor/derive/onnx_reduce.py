"""REDUCE of ONNX files: dense layers as products of two thin ones, by truncated SVD; data-free.

A weight W of `m x n` becomes A·B, `m x k` and `k x n`, the best approximation of rank k in the
Frobenius norm (Eckart-Young). A layer where that takes no fewer multiplications, k·(m + n) >= m·n,
stays as it is. Convolutions stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import onnx_graph
from .base import NotDerivable, Source


def reduce(source: Source) -> None:
    """Write `source.path` with dense layers of rank `source.arg`.

    Raises:
        NotDerivable: no layer gets smaller.
    """
    assert isinstance(source.arg, int)
    model = onnx_graph.load(source.path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    largest = _largest(model)
    nodes = []
    for place, node in enumerate(model.graph.node):
        weight = _weight(node, tensors)
        if weight is not None:
            m, n = weight.shape
            if source.arg * (m + n) < m * n:
                nodes += _thin(model.graph, node, weight, source.arg, place)
                continue
        nodes.append(node)
    if largest == 0:
        raise onnx_graph.refuse_without_weights(model, "reduced")
    if len(nodes) == len(model.graph.node):
        raise NotDerivable(
            f"no dense layer gets smaller by rank {source.arg}",
            f"the largest rank that makes one smaller is {largest}",
        )
    made = [_copy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(made)
    _drop_unused(model.graph)
    onnx_graph.save(model, source.target)


def largest_rank(path: Path) -> int:
    """The largest rank that makes a layer smaller; 0 where none can be."""
    return _largest(onnx_graph.load(path))


def _largest(model: Any) -> int:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = (_weight(node, tensors) for node in model.graph.node)
    shapes = [weight.shape for weight in weights if weight is not None]
    return max(((m * n - 1) // (m + n) for m, n in shapes), default=0)


def _weight(node: Any, tensors: dict[str, Any]) -> NDArray[Any] | None:
    """The constant `m x n` matrix that a dense layer multiplies its input by."""
    from onnx import numpy_helper

    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in tensors:
        return None
    values: NDArray[Any] = numpy_helper.to_array(tensors[node.input[1]])
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        return None
    options = _attributes(node)
    if options.get("transA", 0):
        return None
    return values.T if options.get("transB", 0) else values


def _thin(graph: Any, node: Any, weight: NDArray[Any], rank: int, place: int) -> list[Any]:
    """Two nodes in place of one."""
    from onnx import helper, numpy_helper

    left, sizes, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    root = np.sqrt(sizes[:rank])
    names = [f"{node.output[0]}__{part}{place}" for part in ("a", "b", "thin")]
    factors = (left[:, :rank] * root, root[:, None] * right[:rank])
    for name, values in zip(names[:2], factors, strict=True):
        made = np.ascontiguousarray(values.astype(weight.dtype))
        graph.initializer.append(numpy_helper.from_array(made, name))
    first = helper.make_node("MatMul", [node.input[0], names[0]], [names[2]])
    rest = {k: v for k, v in _attributes(node).items() if k in ("alpha", "beta")}
    inputs = [names[2], names[1], *node.input[2:]]
    second = helper.make_node(node.op_type, inputs, list(node.output), node.name, **rest)
    return [first, second]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _copy(node: Any) -> Any:
    """A message of its own: clearing the graph's list frees those it holds."""
    made = type(node)()
    made.CopyFrom(node)
    return made


def _drop_unused(graph: Any) -> None:
    """Initializers that no node, output or subgraph reads any more."""
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    nested = any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute)
    for tensor in list(graph.initializer) if not nested else ():
        if tensor.name not in used:
            graph.initializer.remove(tensor)
