"""The variants of the demo: trained on the spot, served as python, sklearn and ONNX artefacts.

Everything is trained on perturbed copies of the training images alone. A glyph reaches a
classifier as 64 numbers in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .data import SHIFT, SIDE, part, perturb

if TYPE_CHECKING:
    from numpy.typing import NDArray

Batch = Callable[[pa.RecordBatch], dict[str, Any]]
PIXELS = SIDE * SIDE


@cache
def training(copies: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`copies` perturbed copies of every training image: glyphs `n x 64` and labels."""
    images, labels = part("training")
    rng = np.random.default_rng(copies)
    glyphs = np.concatenate(
        [perturb(images, rng, shift=SHIFT + 0.3, turn=0.2) for _ in range(copies)]
    )
    return scale(glyphs.reshape(-1, PIXELS)), np.tile(labels, copies)


def scale(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels in [0, 240] as numbers in [0, 1]."""
    return grey.astype(np.float32) / np.float32(240)


# --- reading and writing strips -------------------------------------------------------------------


def segment() -> Batch:
    """Cut strips into glyphs: 8 rows of 8·k grey levels become k lists of 64 numbers."""

    def call(batch: pa.RecordBatch) -> dict[str, Any]:
        blobs = batch.column("strip").to_pylist()
        cut = [
            np.frombuffer(blob, np.uint8).reshape(SIDE, -1, SIDE).transpose(1, 0, 2)
            for blob in blobs
        ]
        offsets = np.cumsum([0] + [len(glyphs) for glyphs in cut])
        flat = scale(np.concatenate(cut).reshape(-1)) if cut else np.zeros(0, np.float32)
        glyphs = pa.FixedSizeListArray.from_arrays(pa.array(flat), PIXELS)
        return {"glyphs": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), glyphs)}

    return call


def _digit_lists(batch: pa.RecordBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    column = batch.column("digits")
    values = column.values.to_numpy(zero_copy_only=False)
    return values.astype(np.int64), column.offsets.to_numpy().astype(np.int64)


def luhn() -> Batch:
    """Does the last digit check the others?"""

    def call(batch: pa.RecordBatch) -> dict[str, Any]:
        values, offsets = _digit_lists(batch)
        ends = np.repeat(offsets[1:], np.diff(offsets))
        places = ends - 1 - np.arange(offsets[0], offsets[-1])
        doubled = values[offsets[0] : offsets[-1]] * (1 + places % 2)
        total = np.concatenate([[0], np.cumsum(doubled - 9 * (doubled > 9))])
        sums = total[offsets[1:] - offsets[0]] - total[offsets[:-1] - offsets[0]]
        return {"valid": pa.array(sums % 10 == 0)}

    return call


def assemble() -> Batch:
    """The amount the digits write, without the check digit."""

    def call(batch: pa.RecordBatch) -> dict[str, Any]:
        values, offsets = _digit_lists(batch)
        ends = np.repeat(offsets[1:], np.diff(offsets))
        places = ends - 2 - np.arange(offsets[0], offsets[-1])
        parts = np.where(places >= 0, values[offsets[0] : offsets[-1]] * 10 ** places.clip(0), 0)
        total = np.concatenate([[0], np.cumsum(parts)])
        return {"amount": total[offsets[1:] - offsets[0]] - total[offsets[:-1] - offsets[0]]}

    return call


# --- classifiers ----------------------------------------------------------------------------------


def _glyphs(batch: pa.RecordBatch) -> NDArray[np.float32]:
    column = batch.column("glyph")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(column), PIXELS)


def _classifier(probabilities: Callable[[NDArray[np.float32]], NDArray[np.floating]]) -> Batch:
    def call(batch: pa.RecordBatch) -> dict[str, Any]:
        p = probabilities(_glyphs(batch))
        return {"digit": p.argmax(axis=1).astype(np.int32), "confidence": p.max(axis=1)}

    return call


def forest(trees: int) -> Batch:
    """A random forest."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(trees, random_state=0).fit(*training(4))
    return _classifier(model.predict_proba)


def neighbours(components: int) -> Batch:
    """Nearest neighbours in a principal subspace."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    nearest = KNeighborsClassifier(3, weights="distance")
    model = make_pipeline(PCA(components, random_state=0), nearest).fit(*training(6))
    return _classifier(model.predict_proba)


def linear_pruned(share: float = 0.5) -> Batch:
    """Logistic regression without the `share` of its coefficients that are smallest."""
    model = _linear()
    weights = model.coef_.T.astype(np.float32)
    weights[np.abs(weights) < np.quantile(np.abs(weights), share)] = 0
    bias = model.intercept_.astype(np.float32)
    return _classifier(lambda x: _softmax(x @ weights + bias))


def svm() -> Batch:
    """A support vector machine on many copies: the slow and accurate one."""
    model = _svm()
    return _classifier(lambda x: _softmax(model.decision_function(x)))


def committee() -> Batch:
    """The support vector machine and the large network, averaged."""
    machine, network = _svm(), _network(256, 256)

    def vote(x: NDArray[np.float32]) -> NDArray[np.floating]:
        return _softmax(machine.decision_function(x)) + network.predict_proba(x)

    return _classifier(lambda x: vote(x) / 2)


def _softmax(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.floating] = e / e.sum(axis=1, keepdims=True)
    return shares


@cache
def _linear() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=400).fit(*training(4))


@cache
def _svm() -> Any:
    from sklearn.svm import SVC

    return SVC(C=5, gamma=0.8).fit(*training(20))


@cache
def _network(*hidden: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    epochs = 12 if sum(hidden) > 100 else 40
    return MLPClassifier(hidden, max_iter=epochs, tol=0.0, random_state=0).fit(*training(12))


# --- artefacts ------------------------------------------------------------------------------------


def train(folder: Path) -> None:
    """Write `linear.skops`, `linear_i8.onnx`, `mlp_small.onnx` and `mlp_large.onnx`."""
    import warnings

    import skops.io
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # The networks stop after a fixed number of epochs on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        linear = _linear()
        skops.io.dump(linear, folder / "linear.skops")
        _save_onnx(folder / "linear.onnx", [(linear.coef_.T, linear.intercept_)])
        quantize_dynamic(
            folder / "linear.onnx", folder / "linear_i8.onnx", weight_type=QuantType.QInt8
        )
        for name, hidden in {"mlp_small": (48,), "mlp_large": (256, 256)}.items():
            network = _network(*hidden)
            layers = list(zip(network.coefs_, network.intercepts_, strict=True))
            _save_onnx(folder / f"{name}.onnx", layers)


def _save_onnx(path: Path, layers: list[tuple[Any, Any]]) -> None:
    """Dense layers with ReLU between and softmax behind; outputs `digit` and `confidence`.

    MatMul and Add rather than Gemm, because dynamic quantisation covers MatMul.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, at = [], [], "glyph"
    for i, (w, b) in enumerate(layers):
        weights.append(numpy_helper.from_array(np.asarray(w, np.float32), f"w{i}"))
        weights.append(numpy_helper.from_array(np.asarray(b, np.float32), f"b{i}"))
        nodes.append(helper.make_node("MatMul", [at, f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"]))
        at = f"a{i}"
        if i + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [at], [f"r{i}"]))
            at = f"r{i}"
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    nodes += [
        helper.make_node("Softmax", [at], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["best"], axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["digit"], to=TensorProto.INT32),
        helper.make_node("ReduceMax", ["p", "axis"], ["confidence"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("glyph", TensorProto.FLOAT, ["n", PIXELS])],
        [
            helper.make_tensor_value_info("digit", TensorProto.INT32, ["n"]),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["n"]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
