"""The result cache: cached answers are the uncached ones, and go stale with what made them."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import octans
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from octans.errors import RunError
from octans.executor.cache import KEY_BYTES, ResultCache
from octans.executor.engine import run
from octans.executor.runner import LocalRunner
from octans.ir.models import Backend, Model, Variant
from octans.ir.physical import Choice, PhysicalPlan, SqlScan, Stage
from octans.ir.types import Field
from toys import World, numbers, stage

FLOATS = st.one_of(st.sampled_from([0.0, -0.0, math.nan, math.inf]), st.floats())
TYPES = {
    "DOUBLE": FLOATS,
    "VARCHAR": st.text(max_size=3),
    "BIGINT": st.integers(-2, 2),
    "BLOB": st.binary(max_size=2),
    "BOOLEAN": st.booleans(),
    "DOUBLE[]": st.lists(st.none() | FLOATS, max_size=3),
    "TINYINT[]": st.lists(st.none() | st.integers(0, 1), max_size=3),
    "VARCHAR[][]": st.lists(st.none() | st.lists(st.text(max_size=1), max_size=2), max_size=2),
    "SMALLINT[2]": st.lists(st.none() | st.integers(0, 1), min_size=2, max_size=2),
    "STRUCT(a INTEGER, b VARCHAR[])": st.fixed_dictionaries(
        {
            "a": st.none() | st.integers(0, 1),
            "b": st.none() | st.lists(st.text(max_size=1), max_size=2),
        }
    ),
    "TIMESTAMP": st.datetimes(),
    "DECIMAL(9,2)": st.decimals(-5, 5, places=2),
}
SHOW = """
def show():
    def call(batch):
        return {"y": [repr(x) for x in batch.column("x").to_pylist()]}
    return call
"""


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def answers(world, root, cache, on_error="fail", name="y"):
    """The column, and the stage's actuals."""
    execution = run(PhysicalPlan(root, on_error), world.env(cache=cache))
    column = execution.read_all().column(name).to_pylist()
    made = root if isinstance(root, Stage) else root.input
    return column, execution.actuals[made.fingerprint]


def shown(world, kind, values, cache, each=False):
    """What a model that shows its input says of values of a type; also elements called and hits."""
    (world.base / "show.py").write_text(SHOW)
    world.models["s"] = Model("s", (Field("x", kind),), (Field("y", "VARCHAR"),))
    world.variants["s.show"] = Variant("s", "show", Backend("python", "show.py:show"))
    types = {"DOUBLE": pa.float64(), "BLOB": pa.binary(), "VARCHAR": pa.string()}
    empty = world.connection.sql(f"SELECT NULL::{kind} AS x LIMIT 0").to_arrow_table().schema
    table = pa.table({"x": pa.array(values, types.get(kind, empty.field("x").type))})
    table = table.append_column("n", pa.array(range(len(values))))
    world.connection.register("drawn", table)
    world.connection.sql("CREATE OR REPLACE TABLE given AS FROM drawn")
    source = SqlScan(
        f"SELECT x::{kind}{'[]' if each else ''} AS x FROM given ORDER BY n",
        (Field("x", kind + ("[]" if each else "")),),
    )
    made = Stage(source, "y", "s", "y", ("x",), (Field("y", "VARCHAR"),), ("y",), Choice("s.show"))
    return answers(world, made, cache)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), kind=st.sampled_from(sorted(TYPES)))
def test_cached_answers_are_the_uncached_ones(world, data, kind):
    """Whatever the type; also for inputs that differ only in a sign, a NULL or a boundary."""
    values = data.draw(st.lists(st.none() | TYPES[kind], min_size=1, max_size=12))
    cache = ResultCache()
    truth, plain = shown(world, kind, values, None)
    assert plain.cache_hits is None
    seen = data.draw(st.integers(0, len(values)))
    if seen:
        shown(world, kind, values[:seen], cache)
    first, one = shown(world, kind, values, cache)
    again, two = shown(world, kind, values, cache)
    assert first == again == truth
    assert one.cache_hits >= seen
    assert one.cache_hits + one.elements == len(values)
    assert (two.cache_hits, two.elements, two.calls) == (len(values), 0, 0)


def test_values_that_look_alike_are_told_apart(world):
    cache = ResultCache()
    shown(world, "DOUBLE", [0.0, 1.0], cache)
    said, actual = shown(world, "DOUBLE", [-0.0, math.nan, None, 0.0], cache)
    assert said == ["-0.0", "nan", "None", "0.0"]
    assert actual.cache_hits == 1
    for kind, values in (
        ("TINYINT[]", [[1, 0], [1, None], [1], [], None, [None]]),
        ("VARCHAR", ["", "\x00", None, "a", "a\x00"]),
        ("STRUCT(a VARCHAR, b VARCHAR)", [{"a": "x", "b": ""}, {"a": "", "b": "x"}, None]),
    ):
        for value in values:
            shown(world, kind, [value], cache)
        assert shown(world, kind, values, cache)[0] == [repr(value) for value in values]


def test_each_reuses_elements_in_whatever_list_they_stand(world):
    cache = ResultCache()
    sql = "SELECT unnest([[1, 2, 3], NULL, [], [3, 9, 1]])::BIGINT[] AS x"
    source = SqlScan(sql, (Field("x", "BIGINT[]"),))
    answers(world, stage(numbers(3), "m.picky"), cache)
    made = stage(source, "m.picky", each=True, batch=2)
    column, actual = answers(world, made, cache)
    assert column == [[2, 4, 6], None, [], [6, 18, 2]]
    assert (actual.cache_hits, actual.elements) == (3, 3)


@pytest.mark.parametrize("on_error", ["null", "skip", "fail"])
def test_failures_are_never_kept(world, on_error):
    cache = ResultCache()
    broken = stage(numbers(20), "m.picky", batch=4, bad="6,13")
    for _ in range(2):
        if on_error == "fail":
            with pytest.raises(RunError, match="row 6"):
                answers(world, broken, cache, on_error)
            continue
        column, actual = answers(world, broken, cache, on_error)
        lost = [None] * (on_error == "null")
        assert column == [y for x in range(20) for y in (lost if x in (6, 13) else [2 * x])]
        assert actual.failed == 2
    if on_error != "fail":
        assert (actual.cache_hits, actual.elements) == (18, 2)
    assert answers(world, stage(numbers(20), "m.picky"), cache)[0] == [2 * x for x in range(20)]


def test_nothing_behind_a_first_failure_is_kept(world):
    """ON ERROR FAIL leaves the rest of the batch unanswered: that is not an answer NULL."""
    cache = ResultCache()
    broken = stage(numbers(8), "m.picky", batch=8, bad="3")
    with pytest.raises(RunError):
        answers(world, broken, cache)
    column, actual = answers(world, broken, cache, "null")
    assert column == [0, 2, 4, None, 8, 10, 12, 14]
    assert actual.cache_hits == 3


def test_a_changed_artefact_or_knob_or_option_is_another_key(world):
    cache = ResultCache()
    assert answers(world, stage(numbers(4)), cache)[0] == [0, 2, 4, 6]
    assert answers(world, stage(numbers(4), by=3), cache)[0] == [0, 3, 6, 9]
    path = world.base / "models.py"
    path.write_text(path.read_text().replace("pc.multiply", "pc.add"))
    column, actual = answers(world, stage(numbers(4)), cache)
    assert column == [2, 3, 4, 5]
    assert actual.cache_hits == 0
    world.variants["m.double"] = Variant(
        "m", "double", Backend("python", "models.py:double", (("by", 10),))
    )
    assert answers(world, stage(numbers(4)), cache)[0] == [10, 11, 12, 13]


def test_a_file_named_by_an_option_belongs_to_the_artefact(world):
    cache = ResultCache()
    weights = world.base / "weights.txt"
    (world.base / "file.py").write_text(
        "def make(weights):\n"
        f"    with open({str(world.base)!r} + '/' + weights) as file:\n"
        "        by = int(file.read())\n"
        "    return lambda batch: [x * by for x in batch.column('x').to_pylist()]\n"
    )
    backend = Backend("python", "file.py:make", (("weights", "weights.txt"),))
    world.variants["m.file"] = Variant("m", "file", backend)
    for by in (5, 71):
        weights.write_text(str(by))
        assert answers(world, stage(numbers(3), "m.file"), cache)[0] == [0, by, 2 * by]


def test_volatile_models_and_profiling_leave_the_cache_alone(world):
    cache = ResultCache()
    world.variants["m.words"] = world.variants["m.words"].replace(volatile=True)
    actual = answers(world, stage(numbers(4)), cache)[1]
    assert actual.cache_hits is None
    assert len(cache) == 0
    world.variants["m.words"] = world.variants["m.words"].replace(volatile=False)
    answers(world, stage(numbers(4)), cache)
    runner = LocalRunner(world.env(cache=cache))
    assert runner.run_stage(stage(numbers(4)), runner.scan(numbers(4))).elements == 4
    runner.close()


def test_reuse_is_not_measured_as_latency(world):
    cache = ResultCache()
    root = stage(numbers(64), "m.slow", batch=8, seconds=0.01)
    answers(world, root, cache)
    execution = run(PhysicalPlan(root), world.env(cache=cache))
    execution.read_all()
    assert {o.metric for o in execution.observations()} <= {"load"}


def test_the_cache_stays_within_its_bytes_and_forgets_the_oldest():
    cache = ResultCache(20 * (KEY_BYTES + 8))
    for i in range(10):
        keys = [b"%d-%d" % (i, k) for k in range(4)]
        cache.store(keys, [pa.array(range(4 * i, 4 * i + 4))])
        assert cache.find([b"0-1", b"0-2"]) is not None  # used, so not the oldest
    assert cache.nbytes <= 20 * (KEY_BYTES + 8)
    assert len(cache) == 20
    assert cache.find([b"4-0"]) is None
    found = cache.find([b"9-3", b"x", b"0-1"])
    assert found.positions.tolist() == [0, 2]
    assert found.outputs[0].to_pylist() == [39, 1]
    cache.store([b"large-%d" % i for i in range(100)], [pa.array(range(100))])
    assert cache.find([b"large-1"]) is None
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


def test_threads_share_the_cache():
    cache = ResultCache(64 * (KEY_BYTES + 8))
    wrong = threading.Event()

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            numbers = rng.integers(0, 200, 16)
            keys = [str(n).encode() for n in numbers]
            found = cache.find(keys)
            if found is not None:
                values = found.outputs[0].to_pylist()
                if values != numbers[found.positions].tolist():
                    wrong.set()
            cache.store(keys, [pa.array(numbers)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not wrong.is_set()
    assert cache.nbytes <= 64 * (KEY_BYTES + 8)


def test_a_session_keeps_results_across_statements_only_when_told(tmp_path):
    (tmp_path / "m.py").write_text(
        "calls = []\n"
        "def make():\n"
        "    def call(batch):\n"
        "        calls.append(batch.num_rows)\n"
        "        return [2 * x for x in batch.column('x').to_pylist()]\n"
        "    return call\n"
    )
    with octans.connect(base_dir=tmp_path) as session:
        session.sql(
            "CREATE MODEL m (x BIGINT) RETURNS (y BIGINT);"
            "CREATE VARIANT m.v USING python('m.py:make') BASE;"
            "ANALYZE MODEL m USING (SELECT range AS x FROM range(20));"
        )
        query = "SELECT m(x) AS y FROM (SELECT range AS x FROM range({})) ORDER BY y"

        def stage_of(n):
            result = session.sql(query.format(n))
            assert result.fetchall() == [(2 * i,) for i in range(n)]
            nodes = result.explanation().nodes
            return next(n.actuals for n in nodes if n.kind == "stage")

        assert stage_of(10).cache_hits is None
        session.sql("SET cache = true")
        assert [stage_of(n).cache_hits for n in (10, 12, 12)] == [0, 10, 12]
        session.sql("SET cache = false")
        assert stage_of(12).cache_hits is None
        session.sql("SET cache = true")
        source = (tmp_path / "m.py").read_text()
        (tmp_path / "n.py").write_text(source.replace("2 * x", "3 * x"))
        session.sql("CREATE OR REPLACE VARIANT m.v USING python('n.py:make') BASE")
        session.sql("ANALYZE MODEL m USING (SELECT range AS x FROM range(20))")
        again = session.sql(query.format(3))
        assert again.fetchall() == [(0,), (3,), (6,)]
