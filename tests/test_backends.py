"""Backends: what each loads and answers, and that what it cannot do is a typed error."""

import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from octans.errors import RunError
from octans.executor.backends import backend_for
from octans.executor.backends.base import (
    LoadRequest,
    OutputReader,
    as_matrix,
    join_columns,
)
from octans.executor.backends.threads import threads_imposed
from octans.executor.failures import RowFailed
from octans.ir.models import Backend, Device, Model, Variant
from octans.ir.types import Field

CPU = Device("cpu", "cpu", 1, 1)
CLASSIFY = Model(
    "classify",
    (Field("glyph", "FLOAT[4]"),),
    (Field("digit", "INTEGER"), Field("confidence", "DOUBLE")),
    confidence="confidence",
)
SCALAR = Model("double", (Field("x", "DOUBLE"),), (Field("y", "DOUBLE"),))


def load(base, kind, target, *, model=CLASSIFY, knobs=(), options=()):
    variant = Variant(model.name, "v", Backend(kind, target, tuple(sorted(options))))
    return backend_for(kind).load(LoadRequest(variant, tuple(knobs), CPU, model, base))


def glyphs(rows):
    values = np.asarray(rows, np.float32)
    return pa.record_batch(
        [pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 4)], names=["glyph"]
    )


def digits_and_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(int) + 5


# python


def test_python_passes_knobs_and_options(tmp_path):
    (tmp_path / "m.py").write_text(
        "def make(by, plus=0):\n"
        "    return lambda batch: [by * v.as_py() + plus for v in batch.column('x')]\n"
    )
    model = load(
        tmp_path, "python", "m.py:make", model=SCALAR, knobs=(("by", 3),), options=(("plus", 1),)
    )
    assert model.call(pa.record_batch({"x": [1.0, 2.0]})) == [4.0, 7.0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import sys\nsys.exit(3)\n", "running quits.py raised SystemExit: 3"),
        ("def make():\n    raise SystemExit('no licence')\n", "make raised SystemExit: no licence"),
    ],
)
def test_a_python_model_that_exits_while_loading_cannot_be_loaded(tmp_path, text, problem):
    (tmp_path / "quits.py").write_text(text)
    with pytest.raises(RunError, match=problem) as caught:
        load(tmp_path, "python", "quits.py:make", model=SCALAR)
    assert caught.value.code == "OC0406"


def test_memory_is_what_a_load_took_or_unknown_never_nothing(tmp_path):
    """Also when it fits into memory freed just before, which the system still counts as ours."""
    (tmp_path / "big.py").write_text(
        "import numpy as np\n"
        "def make(megabytes):\n"
        "    weights = np.ones(megabytes << 17)\n"
        "    return lambda batch: weights[: batch.num_rows]\n"
    )
    freed = [bytes(10_000) for _ in range(4000)]
    del freed
    for megabytes, low, high in ((40, 36, 80), (8, 6, 16)):
        knobs = (("megabytes", megabytes),)
        took = load(tmp_path, "python", "big.py:make", model=SCALAR, knobs=knobs).memory_bytes
        assert low << 20 <= took <= high << 20
    assert (
        load(
            tmp_path, "python", "big.py:make", model=SCALAR, knobs=(("megabytes", 0),)
        ).memory_bytes
        is None
    )


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere:make", "no module nowhere"),
        ("m.py:nothing", "no function nothing"),
        ("m.py:breaks", "RuntimeError: no weights"),
        ("m.py:number", "returned a int"),
        ("m.py", "names no factory"),
        ("broken.py:make", "SyntaxError"),
        ("absent.py:make", "no file"),
        ("needs:make", "importing needs"),
    ],
)
def test_python_load_errors_are_typed(tmp_path, target, says, monkeypatch):
    (tmp_path / "m.py").write_text(
        "def breaks():\n    raise RuntimeError('no weights')\ndef number():\n    return 1\n"
    )
    (tmp_path / "broken.py").write_text("def make(:\n")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "needs.py").write_text("import absent_package_of_its_own\n")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    with pytest.raises(RunError) as caught:
        load(tmp_path, "python", target)
    assert caught.value.code == "OC0406"
    assert says in caught.value.message


def test_python_sees_an_edited_file(tmp_path):
    (tmp_path / "m.py").write_text("def make():\n    return lambda batch: 1\n")
    assert load(tmp_path, "python", "m.py:make").call(None) == 1
    (tmp_path / "m.py").write_text("def make():\n    return lambda batch: 22\n")
    assert load(tmp_path, "python", "m.py:make").call(None) == 22


def test_python_sees_an_edited_module_that_it_imported(tmp_path, monkeypatch):
    """A copy is of the file's code, even where Python holds on to what it imported.

    The edits are of one size and may be of one second, which bytecode does not tell apart.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "edited_later.py"
    path.write_text("state = []\ndef make():\n    state.append(1)\n    return lambda batch: 1\n")
    assert load(tmp_path, "python", "edited_later:make").call(None) == 1
    assert load(tmp_path, "python", "edited_later:make").call(None) == 1
    imported = sys.modules["edited_later"]
    assert imported.state == [1, 1]
    path.write_text(path.read_text().replace("batch: 1", "batch: 2"))
    for _ in range(2):
        assert load(tmp_path, "python", "edited_later:make").call(None) == 2
    assert sys.modules["edited_later"] is imported
    assert imported.state == [1, 1]
    path.write_text("def make(:\n")
    with pytest.raises(RunError, match="SyntaxError") as caught:
        load(tmp_path, "python", "edited_later:make")
    assert caught.value.code == "OC0406"
    path.write_text("def make():\n    return lambda batch: 3\n")
    assert load(tmp_path, "python", "edited_later:make").call(None) == 3


# onnx


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    base = tmp_path_factory.mktemp("onnx")

    def save(name, nodes, inputs, outputs, constants=()):
        graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.save(model, str(base / f"{name}.onnx"))

    tensor = helper.make_tensor_value_info
    f, i = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    weights = onnx.numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w")
    save(
        "net",
        [
            helper.make_node("MatMul", ["in", "w"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["shares"], axis=1),
            helper.make_node("ArgMax", ["shares"], ["label"], axis=1, keepdims=0),
        ],
        [tensor("in", f, [None, 4])],
        [tensor("label", i, [None]), tensor("shares", f, [None, 3])],
        [weights],
    )
    save(
        "scalar",
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [tensor("x", onnx.TensorProto.DOUBLE, [None, 1])],
        [tensor("y", onnx.TensorProto.DOUBLE, [None, 1])],
    )
    return base


def test_onnx_takes_lists_and_reduces_probabilities(onnx_files):
    model = load(onnx_files, "onnx", "net.onnx")
    answer = model.call(glyphs([[0, 9, 0, 0], [9, 0, 0, 0]]))
    assert list(answer["digit"]) == [1, 0]
    assert all(share > 0.9 for share in answer["confidence"])
    assert model.thread_safe
    assert model.memory_bytes >= (onnx_files / "net.onnx").stat().st_size


def test_onnx_takes_variable_lists_of_one_length(onnx_files):
    model = load(onnx_files, "onnx", "net.onnx")
    batch = pa.record_batch({"glyph": pa.array([[0, 9, 0, 0]], pa.list_(pa.float64()))})
    assert list(model.call(batch)["digit"]) == [1]


def test_onnx_takes_scalars_where_the_file_wants_a_column(onnx_files):
    model = load(onnx_files, "onnx", "scalar.onnx", model=SCALAR)
    assert list(model.call(pa.record_batch({"x": [1.0, 2.0]}))["y"]) == [2.0, 4.0]


def test_onnx_names_can_be_mapped(onnx_files):
    options = (("inputs", "glyph=in"), ("outputs", "digit=label, confidence=shares"))
    model = load(onnx_files, "onnx", "net.onnx", options=options)
    assert list(model.call(glyphs([[0, 0, 9, 0]]))["digit"]) == [2]
    with pytest.raises(RunError, match="stands for digit") as caught:
        load(onnx_files, "onnx", "net.onnx", options=(("outputs", "digit=nothing"),))
    assert "label, shares" in caught.value.hint


def test_onnx_refuses_what_is_no_model(onnx_files):
    (onnx_files / "junk.onnx").write_bytes(b"junk")
    for target in ("junk.onnx", "absent.onnx"):
        with pytest.raises(RunError) as caught:
            load(onnx_files, "onnx", target)
        assert caught.value.code == "OC0406"


# sklearn


@pytest.fixture(scope="module")
def estimators(tmp_path_factory):
    skops = pytest.importorskip("skops.io")
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    base = tmp_path_factory.mktemp("sklearn")
    x, y = digits_and_labels()
    made = {
        "logistic": LogisticRegression(),
        "knn": make_pipeline(PCA(2), KNeighborsClassifier()),
        "tree_knn": KNeighborsClassifier(algorithm="kd_tree"),
        "forest": RandomForestClassifier(5),
        "mlp": MLPClassifier((8,), max_iter=20),
        "svm": make_pipeline(StandardScaler(), SVC()),
        "ridge": RidgeClassifier(),
    }
    for name, estimator in made.items():
        skops.dump(estimator.fit(x, y), base / f"{name}.skops")
    return base, made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["logistic", "knn", "tree_knn", "forest", "mlp"])
def test_sklearn_predicts_with_confidence(estimators, name):
    base, made = estimators
    x, _ = digits_and_labels()
    answer = load(base, "sklearn", f"{name}.skops").call(glyphs(x[:20]))
    shares = made[name].predict_proba(x[:20])
    np.testing.assert_allclose(answer["confidence"], shares.max(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(answer["digit"], made[name].classes_[shares.argmax(axis=1)])


def test_sklearn_without_confidence_predicts(estimators):
    base, made = estimators
    x, _ = digits_and_labels()
    model = Model("classify", CLASSIFY.inputs, CLASSIFY.outputs[:1])
    answer = load(base, "sklearn", "svm.skops", model=model).call(glyphs(x[:20]))
    np.testing.assert_array_equal(answer["digit"], made["svm"].predict(x[:20]))


def test_sklearn_without_probabilities_cannot_answer_a_confidence(estimators):
    with pytest.raises(RunError, match="predict_proba"):
        load(estimators[0], "sklearn", "ridge.skops")


def test_sklearn_refuses_untrusted_types(tmp_path):
    skops = pytest.importorskip("skops.io")
    from sklearn.preprocessing import FunctionTransformer

    skops.dump(FunctionTransformer(func=time.sleep), tmp_path / "bad.skops")
    with pytest.raises(RunError, match="not trusted") as caught:
        load(tmp_path, "sklearn", "bad.skops")
    assert caught.value.code == "OC0406"


# replay


def test_replay_answers_what_was_recorded_and_takes_as_long(tmp_path):
    x, _ = digits_and_labels()
    table = pa.Table.from_batches([glyphs(x[:5])])
    table = table.append_column("digit", pa.array(range(5)))
    table = table.append_column("confidence", pa.array([0.5] * 5))
    table = table.append_column("latency", pa.array([0.02] * 5))
    pq.write_table(table, tmp_path / "r.parquet")
    model = load(tmp_path, "replay", "r.parquet")
    began = time.perf_counter()
    answer = model.call(glyphs(x[[3, 1, 3]]))
    assert time.perf_counter() - began > 0.06
    assert answer.column("digit").to_pylist() == [3, 1, 3]
    with pytest.raises(RowFailed, match="no answer was recorded"):
        model.call(glyphs(x[[9]]))
    quick = load(tmp_path, "replay", "r.parquet", options=(("sleep", False),))
    began = time.perf_counter()
    quick.call(glyphs(x[[3, 1, 3]]))
    assert time.perf_counter() - began < 0.05


def test_replay_chooses_by_knob_and_checks_columns(tmp_path):
    table = pa.table({"x": [1.0, 1.0], "y": [10.0, 20.0], "by": [1, 2]})
    pq.write_table(table, tmp_path / "r.parquet")
    model = load(tmp_path, "replay", "r.parquet", model=SCALAR, knobs=(("by", 2),))
    assert model.call(pa.record_batch({"x": [1.0]})).column("y").to_pylist() == [20.0]
    with pytest.raises(RunError, match="no column glyph"):
        load(tmp_path, "replay", "r.parquet")


# all of them


@pytest.mark.parametrize("kind", ["torch", "transformers", "vllm", "openai", "nonsense"])
def test_kinds_of_later_versions_say_so(kind):
    with pytest.raises(RunError) as caught:
        backend_for(kind)
    assert caught.value.code == "OC0405"
    assert kind in caught.value.message


@pytest.mark.parametrize(
    ("kind", "package", "extra"), [("onnx", "onnxruntime", "onnx"), ("sklearn", "skops", "sklearn")]
)
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, kind, package, extra):
    for name in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RunError) as caught:
        load(tmp_path, kind, "x")
    assert caught.value.code == "OC0404"
    assert caught.value.hint == f"pip install 'octans[{extra}]'"


def test_outputs_are_read_from_every_shape():
    reader = OutputReader("m.v", ("a", "b"), (("b", pa.int32()), ("a", pa.list_(pa.float32(), 2))))
    matrix = np.ones((3, 2))
    for answer in (
        {"a": matrix, "b": np.arange(3.0)},
        {"a": matrix.tolist(), "b": [0, 1, 2], "extra": None},
        pa.table({"b": pa.chunked_array([[0], [1, 2]]), "a": matrix.tolist()}),
        pa.RecordBatch.from_pydict({"b": [0, 1, 2], "a": matrix.tolist()}),
    ):
        b, a = (join_columns([column]) for column in reader.read(answer, 3))
        assert b.to_pylist() == [0, 1, 2]
        assert a.to_pylist() == [[1.0, 1.0]] * 3
        assert (b.type, a.type) == (pa.int32(), pa.list_(pa.float32(), 2))
    for wrong in ({"a": matrix}, [1, 2, 3], {"a": matrix, "b": [1]}):
        with pytest.raises(RunError, match=r"m\.v") as caught:
            reader.read(wrong, 3)
        assert caught.value.code == "OC0403"
    with pytest.raises(RowFailed):
        reader.read({"a": matrix, "b": [0.5, 1, 2]}, 3)


def test_a_matrix_wants_values_and_equal_lengths():
    assert as_matrix(pa.array([1.5, 2.5])).tolist() == [1.5, 2.5]
    sliced = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)).slice(1)
    assert as_matrix(sliced).tolist() == [[3.0, 4.0]]
    for bad in (
        pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)),
        pa.array([[1.0, None]], pa.list_(pa.float64(), 2)),
        pa.array([[1.0], [1.0, 2.0]]),
        pa.array([None, 1.0]),
    ):
        with pytest.raises(RowFailed):
            as_matrix(bad)


def test_threads_are_imposed_and_restored():
    from threadpoolctl import threadpool_info

    def blas():
        return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]

    before = blas()
    with threads_imposed(1):
        assert set(blas()) <= {1}
    assert blas() == before
    first, second = threads_imposed(1), threads_imposed(1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas()) <= {1}  # a stage that ends does not loosen another's limit
    second.__exit__(None, None, None)
    assert blas() == before


def test_threads_are_imposed_by_whichever_thread_calls():
    """Another thread may have set the pools before, and may set them again afterwards."""
    from threading import Thread

    from threadpoolctl import threadpool_info, threadpool_limits

    def blas():
        return {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"}

    def impose():
        with threads_imposed(1):
            seen.append(blas())

    seen = []
    with threads_imposed(2):
        before = blas()
        worker = Thread(target=impose)
        worker.start()
        worker.join()
        assert seen == [{1}]
    with threadpool_limits(2):
        worker = Thread(target=impose)
        worker.start()
        worker.join()
        assert seen == [{1}, {1}]
        assert blas() == before
    with threadpool_limits(1):
        assert blas() == {1}


def test_a_file_is_run_once_however_many_stages_load_it(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    (tmp_path / "slow.py").write_text(
        "import time\ntime.sleep(0.1)\nbuilt = []\n"
        "def make():\n    built.append(1)\n    return lambda batch: [float(len(built))]\n"
    )

    def answer(_):
        model = load(tmp_path, "python", "slow.py:make", model=SCALAR)
        return model.call(pa.record_batch({"x": [1.0]}))

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(answer, range(4))) == [4.0]
