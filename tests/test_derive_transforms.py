"""Every transform of every backend: what it does to the file, and that the interface stays."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
import skops.io
from octans.examples.cheques.models import _save_convolutional, _save_dense
from octans.executor.backends import backend_for
from octans.executor.backends.base import LoadRequest
from octans.executor.backends.sklearn import TRUSTED
from octans.executor.derive import NotDerivable, RowsNeeded, Source, largest_rank, transform_for
from octans.executor.derive.pruning import pruned
from octans.ir.models import Backend, Device, Metric, Model, Variant
from octans.ir.types import Field
from onnx import TensorProto, numpy_helper
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MODEL = Model(
    "d",
    (Field("glyph", "FLOAT[64]"),),
    (Field("digit", "INTEGER"), Field("confidence", "DOUBLE")),
    Metric("exact_match", "digit"),
    "confidence",
)
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Artefacts of every kind, by name."""
    folder = tmp_path_factory.mktemp("artefacts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp = MLPClassifier((48,), max_iter=40, random_state=0).fit(X, Y)
    linear = LogisticRegression(max_iter=200).fit(X, Y)
    estimators = {
        "linear": linear,
        "mlp": mlp,
        "scaled": make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(X, Y),
        "forest": RandomForestClassifier(20, random_state=0).fit(X, Y),
        "neighbours": KNeighborsClassifier().fit(X, Y),
    }
    for name, estimator in estimators.items():
        skops.io.dump(estimator, folder / f"{name}.skops")
    _save_dense(folder / "net.onnx", list(zip(mlp.coefs_, mlp.intercepts_, strict=True)))
    rng = np.random.default_rng(0)
    shapes = [(24, 1, 3, 3), (32, 24, 3, 3), (64, 32, 3, 3), (128, 1024), (10, 128)]
    layers = [(rng.normal(size=s) / np.sqrt(np.prod(s[1:])), np.ones(s[0])) for s in shapes]
    _save_convolutional(folder / "cnn.onnx", [layers])
    return folder


def kind_of(path: Path) -> str:
    return {".onnx": "onnx", ".skops": "sklearn"}[path.suffix]


def made(path: Path, transform: str, arg, tmp_path: Path, rows=None) -> Path:
    """The transformed artefact."""
    target = tmp_path / f"made{path.suffix}"
    transform_for(kind_of(path), transform)(Source(path, target, arg, rows))
    return target


def answers(path: Path):
    """What a backend answers on the digits, with that artefact."""
    variant = Variant("d", "x", Backend(kind_of(path), str(path)))
    request = LoadRequest(variant, (), Device("cpu", "cpu", threads=1), MODEL, path.parent)
    loaded = backend_for(kind_of(path)).load(request)
    flat = pa.array(X.reshape(-1))
    return loaded.call(pa.record_batch({"glyph": pa.FixedSizeListArray.from_arrays(flat, 64)}))


def weights(path: Path):
    """The weights of a file, at least two-dimensional, by order."""
    if path.suffix == ".skops":
        estimator = skops.io.load(path, trusted=list(TRUSTED))
        last = estimator[-1] if hasattr(estimator, "steps") else estimator
        return [np.asarray(w) for w in (last.coefs_ if hasattr(last, "coefs_") else [last.coef_])]
    return [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if len(t.dims) >= 2]


MILD = [
    ("quantize", "int8", 0.97),
    ("quantize", "fp16", 0.99),
    ("prune", 0.3, 0.9),
    ("reduce", 24, 0.85),
]


@pytest.mark.parametrize("name", ["linear.skops", "mlp.skops", "scaled.skops", "net.onnx"])
@pytest.mark.parametrize(("transform", "arg", "agreement"), MILD)
def test_the_file_changes_the_interface_stays_and_mild_ones_agree(
    files, tmp_path, name, transform, arg, agreement
):
    path = files / name
    target = made(path, transform, arg, tmp_path, X[:600].astype(float))
    assert target.read_bytes() != path.read_bytes()
    before, after = answers(path), answers(target)
    assert set(before) == set(after) == {"digit", "confidence"}
    for output in before:
        assert np.asarray(after[output]).shape == np.asarray(before[output]).shape
    assert np.asarray(after["digit"]).dtype == np.asarray(before["digit"]).dtype
    assert (np.asarray(before["digit"]) == np.asarray(after["digit"])).mean() >= agreement


@pytest.mark.parametrize("name", ["linear.skops", "mlp.skops", "net.onnx"])
@pytest.mark.parametrize(("transform", "arg"), [("quantize", "int8"), ("prune", 0.5)])
def test_the_same_work_gives_the_same_bytes(files, tmp_path, name, transform, arg):
    """Else an artefact named by its hash would be another one each time."""
    first = made(files / name, transform, arg, tmp_path).read_bytes()
    assert made(files / name, transform, arg, tmp_path).read_bytes() == first


def test_int8_of_onnx_has_integer_weights_and_is_smaller(files, tmp_path):
    for name in ("net.onnx", "cnn.onnx"):
        target = made(files / name, "quantize", "int8", tmp_path)
        model = onnx.load(target)
        kinds = {t.data_type for t in model.graph.initializer if len(t.dims) >= 2}
        assert kinds <= {TensorProto.INT8, TensorProto.UINT8}
        assert target.stat().st_size < 0.5 * (files / name).stat().st_size
        agreement = np.mean(answers(files / name)["digit"] == answers(target)["digit"])
        assert agreement > 0.9


def test_fp16_of_onnx_halves_the_weights_and_keeps_the_types_outside(files, tmp_path):
    for name in ("net.onnx", "cnn.onnx"):
        target = made(files / name, "quantize", "fp16", tmp_path)
        before, after = onnx.load(files / name), onnx.load(target)
        assert {t.data_type for t in after.graph.initializer if len(t.dims) >= 2} == {
            TensorProto.FLOAT16
        }
        assert list(after.graph.input) == list(before.graph.input)
        assert list(after.graph.output) == list(before.graph.output)
        assert target.stat().st_size < 0.65 * (files / name).stat().st_size


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", ["linear.skops", "mlp.skops", "net.onnx", "cnn.onnx"])
def test_pruning_zeroes_the_smallest_share_of_every_weight(files, tmp_path, name, share):
    before = weights(files / name)
    after = weights(made(files / name, "prune", share, tmp_path))
    for old, new in zip(before, after, strict=True):
        assert (new == 0).sum() == round(share * old.size)
        assert np.abs(old[new == 0]).max() <= np.abs(new[new != 0]).min()
        assert np.array_equal(new[new != 0], old[new != 0])


def test_pruning_a_forest_leaves_its_first_trees(files, tmp_path):
    path = files / "forest.skops"
    target = made(path, "prune", 0.75, tmp_path)
    whole, some = (skops.io.load(p, trusted=list(TRUSTED)) for p in (path, target))
    assert len(some.estimators_) == some.n_estimators == 5
    alike = whole.estimators_[4].predict_proba(X) == some.estimators_[4].predict_proba(X)
    assert alike.all()
    assert target.stat().st_size < 0.35 * path.stat().st_size


def test_sklearn_int8_has_255_levels_an_output_and_fp16_is_half(files, tmp_path):
    (levels,) = weights(made(files / "linear.skops", "quantize", "int8", tmp_path))
    for row in levels:
        scale = np.abs(row).max() / 127
        assert np.allclose(row / scale, np.rint(row / scale), atol=1e-3)
    layers = weights(made(files / "mlp.skops", "quantize", "int8", tmp_path))
    for output in layers[0].T:
        scale = np.abs(output).max() / 127
        assert np.allclose(output / scale, np.rint(output / scale), atol=1e-3)
    halves = weights(made(files / "mlp.skops", "quantize", "fp16", tmp_path))
    assert {half.dtype for half in halves} == {np.dtype(np.float16)}


@pytest.mark.parametrize("rank", [4, 20])
def test_reduced_layers_are_the_best_of_their_rank(files, tmp_path, rank):
    """Eckart-Young: the error is what the left-out singular values make."""
    first = weights(files / "net.onnx")[0]
    model = onnx.load(made(files / "net.onnx", "reduce", rank, tmp_path))
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    products = [n for n in model.graph.node if n.op_type == "MatMul"]
    product = tensors[products[0].input[1]] @ tensors[products[1].input[1]]
    sizes = np.linalg.svd(first.astype(float), compute_uv=False)
    assert np.linalg.matrix_rank(product, tol=1e-3) == rank
    assert np.linalg.norm(first - product) == pytest.approx(
        np.sqrt((sizes[rank:] ** 2).sum()), rel=1e-3
    )


@pytest.mark.parametrize("name", ["linear.skops", "mlp.skops", "scaled.skops"])
def test_reduced_inputs_are_read_as_their_projection(files, tmp_path, name):
    """The folded model answers on x what the old one answers on x's projection, exactly."""
    path = files / name
    rows = X[:500].astype(float)
    whole = skops.io.load(path, trusted=list(TRUSTED))
    some = skops.io.load(made(path, "reduce", 12, tmp_path, rows), trusted=list(TRUSTED))
    pca = some[-2]
    assert pca.n_components_ == 12
    before = whole[:-1] if hasattr(whole, "steps") else None
    last = whole[-1] if before is not None else whole
    seen = before.transform(X.astype(float)) if before is not None else X.astype(float)
    projected = pca.inverse_transform(pca.transform(seen))
    assert np.allclose(
        some.predict_proba(X.astype(float)), last.predict_proba(projected), atol=1e-8
    )


def test_chains_work_one_way_and_say_why_not_the_other(files, tmp_path):
    (tmp_path / "a").mkdir()
    thin = made(files / "net.onnx", "prune", 0.5, tmp_path / "a")
    both = made(thin, "quantize", "int8", tmp_path)
    zeros = [np.mean(w == 0) for w in weights(both)]
    assert min(zeros) >= 0.5
    with pytest.raises(NotDerivable, match="no floating-point weights"):
        made(both, "prune", 0.5, tmp_path / "a")


REFUSED = [
    ("forest.skops", "quantize", "int8", "a RandomForestClassifier has no coefficients"),
    ("neighbours.skops", "prune", 0.5, "a KNeighborsClassifier has no coefficients"),
    ("forest.skops", "prune", 0.01, "leaves none out"),
    ("linear.skops", "reduce", 64, "has 64 inputs"),
    ("net.onnx", "reduce", 60, "no dense layer gets smaller by rank 60"),
]


@pytest.mark.parametrize(("name", "transform", "arg", "why"), REFUSED)
def test_what_cannot_be_done_to_a_file_says_why(files, tmp_path, name, transform, arg, why):
    with pytest.raises(NotDerivable, match=why):
        made(files / name, transform, arg, tmp_path, X.astype(float))
    assert not list(tmp_path.glob("made.*"))


def test_principal_components_need_rows(files, tmp_path):
    with pytest.raises(RowsNeeded):
        made(files / "linear.skops", "reduce", 8, tmp_path)


def test_files_that_are_none_are_refused(tmp_path):
    for name in ("a.onnx", "a.skops"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(NotDerivable):
            made(tmp_path / name, "prune", 0.5, tmp_path)


def test_the_largest_rank_is_the_last_that_saves(files, tmp_path):
    rank = largest_rank("onnx", files / "net.onnx")
    made(files / "net.onnx", "reduce", rank, tmp_path)
    with pytest.raises(NotDerivable):
        made(files / "net.onnx", "reduce", rank + 1, tmp_path)
    assert largest_rank("sklearn", files / "forest.skops") is None


def test_pruning_keeps_the_largest_of_ties():
    assert pruned(np.array([[1.0, -1.0], [0.5, 2.0]]), 0.5).tolist() == [[0.0, -1.0], [0.0, 2.0]]
