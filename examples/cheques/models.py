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


def jury() -> Batch:
    """Three wide convolutional networks and the support vector machine, voting."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    networks = InferenceSession("jury.onnx", options, providers=["CPUExecutionProvider"])
    machine = _svm()

    def vote(x: NDArray[np.float32]) -> NDArray[np.floating]:
        (shares,) = networks.run(["p"], {"glyph": x})
        voted: NDArray[np.floating] = (2 * shares + _softmax(machine.decision_function(x))) / 3
        return voted

    return _classifier(vote)


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
def _network(*hidden: int, quick: bool = False) -> Any:
    from sklearn.neural_network import MLPClassifier

    epochs = (12 if sum(hidden) > 100 else 40) // (4 if quick else 1)
    return MLPClassifier(hidden, max_iter=epochs, tol=0.0, random_state=0).fit(*training(12))


def _convolutional(
    channels: tuple[int, int, int], epochs: int, seed: int, batch: int = 128
) -> list[tuple[Any, Any]]:
    """Train a network of three convolutions; weights and biases of its five layers."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    first, second, third = channels
    net = nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1), nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2),
        nn.Conv2d(second, third, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.4),
        nn.Linear(third * 16, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    glyphs, labels = training(20)
    x = torch.from_numpy(glyphs.reshape(-1, 1, SIDE, SIDE))
    y = torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-3)
    rounds = epochs * -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=rounds)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), batch):
            optimizer.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    names = dict.fromkeys(name.rpartition(".")[0] for name in state)
    return [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in names]


# --- artefacts ------------------------------------------------------------------------------------


def train(folder: Path, *, quick: bool = False) -> None:
    """Write `linear.skops` and as ONNX `linear_i8`, `mlp_small`, `mlp_large`, `cnn` and `jury`.

    Args:
        folder: where they go.
        quick: the networks see fewer epochs, and so are less accurate.
    """
    import warnings

    import skops.io
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # The networks stop after a fixed number of epochs on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        linear = _linear()
        skops.io.dump(linear, folder / "linear.skops")
        _save_dense(folder / "linear.onnx", [(linear.coef_.T, linear.intercept_)])
        quant_pre_process(folder / "linear.onnx", folder / "prepared.onnx")
        quantize_dynamic(
            folder / "prepared.onnx", folder / "linear_i8.onnx", weight_type=QuantType.QInt8
        )
        for name, hidden in {"mlp_small": (48,), "mlp_large": (256, 256)}.items():
            network = _network(*hidden, quick=quick)
            layers = list(zip(network.coefs_, network.intercepts_, strict=True))
            _save_dense(folder / f"{name}.onnx", layers)
    small = _convolutional((12, 24, 32), epochs=2 if quick else 5, seed=0)
    _save_convolutional(folder / "cnn.onnx", [small])
    wide = [_convolutional((24, 48, 96), epochs=1 if quick else 8, seed=seed) for seed in (1, 2, 3)]
    _save_convolutional(folder / "jury.onnx", wide)


def _save_dense(path: Path, layers: list[tuple[Any, Any]]) -> None:
    """Dense layers (weights `in x out`, biases) with ReLU between.

    MatMul and Add rather than Gemm, because dynamic quantisation covers MatMul.
    """
    graph, at = _Graph(), "glyph"
    for i, (w, b) in enumerate(layers):
        product = graph.add("MatMul", [at, graph.weight(w)])
        at = graph.add("Add", [product, graph.weight(b)])
        if i + 1 < len(layers):
            at = graph.add("Relu", [at])
    graph.save(path, at)


def _save_convolutional(path: Path, networks: list[list[tuple[Any, Any]]]) -> None:
    """Networks of three convolutions and two dense layers; their scores are averaged."""
    graph = _Graph()
    image = graph.add("Reshape", ["glyph", graph.constant([-1, 1, SIDE, SIDE])])
    scores = [_convolutional_scores(graph, image, layers) for layers in networks]
    graph.save(path, graph.add("Mean", scores))


def _convolutional_scores(graph: _Graph, image: str, layers: list[tuple[Any, Any]]) -> str:
    """One network from image to scores, with pooling behind the second convolution."""
    at = image
    for i, (w, b) in enumerate(layers[:3]):
        at = graph.add("Conv", [at, graph.weight(w), graph.weight(b)], pads=[1, 1, 1, 1])
        at = graph.add("Relu", [at])
        if i == 1:
            at = graph.add("MaxPool", [at], kernel_shape=[2, 2], strides=[2, 2])
    at = graph.add("Flatten", [at])
    for i, (w, b) in enumerate(layers[3:]):
        at = graph.add("Gemm", [at, graph.weight(w), graph.weight(b)], transB=1)
        if i == 0:
            at = graph.add("Relu", [at])
    return at


class _Graph:
    """An ONNX graph from `glyph` to scores, completed with `digit` and `confidence`."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, value: Any) -> str:
        """A float constant; its name."""
        return self._constant(np.asarray(value, np.float32))

    def constant(self, value: list[int]) -> str:
        """An integer constant; its name."""
        return self._constant(np.asarray(value, np.int64))

    def _constant(self, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """A node with one output; the output's name."""
        from onnx import helper

        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def save(self, path: Path, scores: str) -> None:
        """Softmax, the best digit and its probability behind the scores; write the file."""
        import onnx
        from onnx import TensorProto, helper

        axis = self.constant([1])
        self.nodes += [
            helper.make_node("Softmax", [scores], ["p"], axis=1),
            helper.make_node("ArgMax", ["p"], ["best"], axis=1, keepdims=0),
            helper.make_node("Cast", ["best"], ["digit"], to=TensorProto.INT32),
            helper.make_node("ReduceMax", ["p", axis], ["confidence"], keepdims=0),
        ]
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("glyph", TensorProto.FLOAT, ["n", PIXELS])],
            [
                helper.make_tensor_value_info("digit", TensorProto.INT32, ["n"]),
                helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["n"]),
                helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 10]),
            ],
            self.weights,
        )
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
