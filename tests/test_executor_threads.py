"""Concurrency: slots, cancellation, no thread left behind, results in order all the same."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.errors import RunError
from octans.ir.models import Device
from octans.ir.physical import SqlResidual, SqlStep, StopAfter
from octans.ir.types import Field, NamedExpr, column
from toys import World, expr, first_columns, numbers, stage


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def octans_threads():
    return [t for t in threading.enumerate() if t.name.startswith("octans-")]


def module_of(world):
    """The toy models' module as the engine loaded it."""
    path = (world.base / "models.py").resolve()
    return next(m for m in sys.modules.values() if getattr(m, "__file__", None) == str(path))


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    deadline = time.monotonic() + 3
    while octans_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert octans_threads() == []


def sleepy(source, replicas, seconds=0.03, name="y", batch=4):
    made = stage(source, "m.slow", name=name, batch=batch, seconds=seconds)
    return made.replace(choice=made.choice.replace(replicas=replicas))


def test_replicas_use_two_slots_and_keep_order(world):
    table = world.run(sleepy(numbers(80), 2)).read_all()
    assert table.column("y").to_pylist() == list(range(80))
    assert module_of(world).most == 2


def test_a_device_with_one_slot_runs_one_call_at_a_time(world):
    world.devices["cpu"] = Device("cpu", "cpu", 1, 1)
    two = sleepy(sleepy(numbers(40), 2), 2, name="z")
    execution = world.run(two)
    assert execution.read_all().column("z").to_pylist() == list(range(40))
    assert module_of(world).most == 1
    assert execution.actuals[two.fingerprint].queue_seconds > 0.1


def test_stages_overlap_on_different_slots(world):
    world.run(sleepy(sleepy(numbers(40), 1), 1, name="z")).read_all()
    assert module_of(world).most == 2


def test_replicas_find_the_first_failure(world):
    made = stage(numbers(3000), "m.picky", batch=16, bad="1500,700,701")
    root = made.replace(choice=made.choice.replace(replicas=3))
    with pytest.raises(RunError, match="row 700"):
        world.run(root).read_all()


def test_a_model_that_cannot_load_is_reported_from_any_thread(world):
    for replicas in (1, 2):
        made = stage(numbers(30), nonsense=1)
        root = made.replace(choice=made.choice.replace(replicas=replicas))
        with pytest.raises(RunError) as caught:
            world.run(root).read_all()
        assert caught.value.code == "OC0406"


def cancel_in(world, seconds):
    timer = threading.Timer(seconds, world.cancel.set)
    timer.start()
    return timer


PLANS = {
    "a slow stage": lambda: sleepy(numbers(10**7), 1, 0.02),
    "replicas": lambda: sleepy(numbers(10**7), 2, 0.02),
    "an endless scan": lambda: StopAfter(
        SqlStep(stage(numbers(10**10), batch=256), first_columns(), expr('"y" < 0', "y")), 5
    ),
    "a residual": lambda: SqlResidual(
        (stage(numbers(10**9), batch=512),),
        "SELECT count(*) AS n FROM in0",
        (Field("n", "BIGINT"),),
    ),
    "only DuckDB": lambda: SqlStep(
        numbers(0, "SELECT count(*)::BIGINT AS x FROM range(10000000000) a WHERE hash(a) = 1"),
        (column(Field("x", "BIGINT")),),
    ),
    "a shared node": lambda: SqlResidual(
        (s := stage(numbers(10**9), batch=512), s),
        "SELECT count(*) AS n FROM in0 JOIN in1 ON in0.x = in1.x",
        (Field("n", "BIGINT"),),
    ),
}


@pytest.mark.parametrize("plan", PLANS)
def test_cancelling_stops_within_a_second(world, plan):
    execution = world.run(PLANS[plan]())
    timer = cancel_in(world, 0.3)
    began = time.monotonic()
    with pytest.raises(RunError) as caught:
        execution.read_all()
    timer.join()
    assert time.monotonic() - began < 1.3
    assert caught.value.code == "OC0402"
    assert caught.value.rows_done is not None


def test_a_call_that_cannot_be_stopped_is_left_behind(world):
    execution = world.run(sleepy(numbers(100), 1, 2.0))
    timer = cancel_in(world, 0.2)
    began = time.monotonic()
    with pytest.raises(RunError, match="cancelled"):
        execution.read_all()
    timer.join()
    assert time.monotonic() - began < 1.2


def test_ctrl_c_stops_within_a_second_and_reports(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            from toys import World, numbers, stage
            from octans.errors import RunError
            world = World(Path({str(tmp_path)!r}))
            execution = world.run(stage(numbers(10**7), "m.slow", batch=10, seconds=0.02))
            import threading, time
            def tell():
                while not execution.rows_done:
                    time.sleep(0.01)
                print("running", flush=True)
            threading.Thread(target=tell, daemon=True).start()
            try:
                execution.read_all()
            except RunError as error:
                print(error.code, error.rows_done > 0, flush=True)
            """
        )
    )
    running = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "running\n"
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    rest = running.stdout.read().split("\n")
    assert running.wait(10) == 0
    assert time.monotonic() - began < 1.5
    assert "OC0402 True" in rest


def test_a_models_first_call_does_not_pay_for_pyarrows_imports(tmp_path):
    """0.4 s in a fresh process, on top of a call that takes microseconds."""
    (tmp_path / "m.py").write_text(
        "import sys\n"
        "def make():\n"
        "    there = 'pyarrow.pandas_compat' in sys.modules\n"
        "    return lambda batch: [int(there)] * batch.num_rows\n"
    )
    program = (
        "import octans, sys\n"
        "session = octans.connect(base_dir=sys.argv[1])\n"
        "session.sql('CREATE MODEL m (x BIGINT) RETURNS (y BIGINT);'\n"
        "    \"CREATE VARIANT m.v USING python('m.py:make') BASE;\"\n"
        "    'ANALYZE MODEL m USING (SELECT range AS x FROM range(3))')\n"
        "print(session.sql('SELECT m(7) AS y').fetchall())\n"
    )
    arguments = [sys.executable, "-c", program, tmp_path]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[(1,)]\n", done.stderr


def test_leaving_the_result_early_stops_the_run(world):
    batches = world.run(stage(numbers(10**9))).batches()
    assert next(batches).num_rows > 0
    batches.close()


def test_progress_is_told(world):
    seen = []

    class Sink:
        def update(self, rows_done, rows_total, stages):
            seen.append((rows_done, rows_total, stages))

    from octans.executor.engine import run
    from octans.ir.physical import PhysicalPlan

    run(PhysicalPlan(sleepy(numbers(120), 1)), world.env(progress=Sink())).read_all()
    assert len(seen) > 3
    assert seen[-1][0] > seen[0][0]
    assert seen[-1][1] == 120
    assert seen[-1][2][0].startswith("y ")


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.one_of(st.none(), st.lists(st.integers(0, 30), max_size=5)), max_size=40),
    conditions=st.lists(st.sampled_from([True, False, None]), min_size=40, max_size=40),
    bad=st.sets(st.integers(0, 30), max_size=3),
    batch=st.sampled_from([1, 2, 7, 64]),
    replicas=st.sampled_from([1, 2]),
    on_error=st.sampled_from(["fail", "null", "skip"]),
)
def test_agrees_with_row_by_row_evaluation(
    tmp_path_factory, rows, conditions, bad, batch, replicas, on_error
):
    """EACH under WHEN with failures, then a filter, against a naive loop."""
    world = World(tmp_path_factory.mktemp("w"))
    literal = ", ".join(
        f"({'NULL' if row is None else row}::BIGINT[], {'NULL' if c is None else c}::BOOLEAN)"
        for row, c in zip(rows, conditions, strict=False)
    )
    sql = f"SELECT * FROM (VALUES {literal}) t(x, c)"
    if not rows:
        sql = "SELECT [1]::BIGINT[] AS x, TRUE AS c WHERE FALSE"
    from octans.ir.physical import SqlScan

    source = SqlScan(sql, (Field("x", "BIGINT[]"), Field("c", "BOOLEAN")))
    first = stage(
        source, "m.picky", batch=batch, when="c", each=True, bad=",".join(map(str, sorted(bad)))
    )
    first = first.replace(choice=first.choice.replace(replicas=replicas))
    total = NamedExpr("s", expr('list_sum("y")::BIGINT', "y"), "BIGINT")
    root = SqlStep(first, (column(Field("x", "BIGINT[]")), total), expr('len("x") <> 2', "x"))

    expected, failure = [], None
    for i, (row, condition) in enumerate(zip(rows, conditions, strict=False)):
        called = condition is True and row is not None
        failed = called and bool(bad & set(row))
        if failed and failure is None:
            failure = i
        if failed and on_error == "fail":
            break
        if failed and on_error == "skip":
            continue
        if row is None or len(row) == 2:
            continue
        answer = sum(2 * v for v in row) if called and row and not failed else None
        expected.append((row, answer))
    execution = world.run(root, on_error)
    if on_error == "fail" and failure is not None:
        with pytest.raises(RunError) as caught:
            execution.read_all()
        assert caught.value.rows_done == failure
    else:
        assert [(r["x"], r["s"]) for r in execution.read_all().to_pylist()] == expected
        if on_error != "fail":
            assert (execution.failures[0].row if execution.failures else None) == failure
