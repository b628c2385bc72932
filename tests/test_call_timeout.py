"""`SET call_timeout`: a call that takes too long is given up, counted, and holds up nothing."""

import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress

import octans
import pytest
from octans.errors import RunError
from octans.executor.abandoned import MOST_ABANDONED, Abandoned
from octans.executor.engine import run
from octans.executor.runner import LocalRunner
from octans.ir.models import Backend, Device, Variant
from octans.ir.physical import PhysicalPlan
from octans.stats.runner import CannotRun
from toys import World, numbers, stage

TIMEOUT = 0.25
"""Seconds; whatever answers here does so in far less, whatever does not waits to be released."""

HANGING = """
import threading

released = threading.Event()
loaded = 0
closed = 0
hung = []

def hangs(bad="", fails="", tell=0):
    global loaded
    loaded += 1
    slow = {int(x) for x in bad.split(",") if x}
    wrong = {int(x) for x in fails.split(",") if x}

    class Call:
        def __call__(self, batch):
            xs = batch.column("x").to_pylist()
            if wrong & set(xs):
                raise ValueError("wrong")
            if slow & set(xs):
                hung.append(xs)
                if tell:
                    print("hangs", flush=True)
                released.wait(60)
            return {"y": [2 * x for x in xs]}

        def close(self):
            global closed
            closed += 1

    return Call()
"""


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    (tmp_path / "hanging.py").write_text(HANGING)
    world.variants["m.hangs"] = Variant("m", "hangs", Backend("python", "hanging.py:hangs"))
    world.abandoned = Abandoned()
    yield world
    with suppress(StopIteration):  # no model was loaded
        module(world).released.set()
    for thread in call_threads():
        thread.join(10)
    assert call_threads() == []


def module(world):
    """The models' module as the engine loaded it."""
    path = str((world.base / "hanging.py").resolve())
    return next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == path)


def call_threads():
    return [t for t in threading.enumerate() if t.name.startswith("call-")]


def hanging(count, bad, *, batch=1, replicas=1, **knobs):
    made = stage(numbers(count), "m.hangs", batch=batch, bad=bad, **knobs)
    return made.replace(choice=made.choice.replace(replicas=replicas))


def execute(world, root, on_error="null"):
    env = world.env(call_timeout=TIMEOUT, abandoned=world.abandoned)
    return run(PhysicalPlan(root, on_error), env)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_call_that_hangs_fails_its_rows_and_the_query_goes_on(world, replicas):
    root = hanging(12, "3,7", batch=1, replicas=replicas)
    execution = execute(world, root)
    ys = execution.read_all().column("y").to_pylist()
    assert ys == [None if x in (3, 7) else 2 * x for x in range(12)]
    assert {f.row: f.message for f in execution.failures} == {
        3: "timed out after 0.25 s",
        7: "timed out after 0.25 s",
    }
    actuals = execution.actuals[root.fingerprint]
    assert (actuals.failed, actuals.timed_out) == (2, 2)
    assert world.abandoned.count(root.choice) == 2


def test_other_failures_are_no_timeouts(world):
    root = hanging(8, "5", batch=1, fails="2")
    execution = execute(world, root)
    execution.read_all()
    actuals = execution.actuals[root.fingerprint]
    assert (actuals.failed, actuals.timed_out) == (2, 1)


def test_a_batch_waits_for_one_timeout_at_most(world):
    """What times out is not split: one slow element takes its batch with it, after one wait."""
    execution = execute(world, hanging(12, "4,5,6,7", batch=4))
    ys = execution.read_all().column("y").to_pylist()
    assert ys == [0, 2, 4, 6, None, None, None, None, 16, 18, 20, 22]
    assert module(world).hung == [[4, 5, 6, 7]]


def test_bisection_ends_at_the_first_timeout(world):
    """1 raises, so the batch is split; 4 to 7 hang, and none of them is waited for but once."""
    execution = execute(world, hanging(8, "4,5,6,7", batch=8, fails="1"))
    ys = execution.read_all().column("y").to_pylist()
    assert ys == [0, None, 4, 6, None, None, None, None]
    assert len(module(world).hung) == 1


def test_on_error_fail_names_the_row_and_the_timeout(world):
    with pytest.raises(RunError) as caught:
        execute(world, hanging(8, "5"), "fail").read_all()
    assert caught.value.code == "OC0401"
    assert "timed out after 0.25 s" in caught.value.message
    assert caught.value.rows_done == 5


def test_on_error_skip_drops_the_rows(world):
    ys = execute(world, hanging(6, "2"), "skip").read_all().column("y").to_pylist()
    assert ys == [0, 2, 6, 8, 10]


def test_a_copy_that_was_given_up_is_closed_when_its_call_comes_back(world):
    root = hanging(4, "1")
    execute(world, root).read_all()
    models = module(world)
    assert models.loaded == 2  # the second took the place of the first
    assert models.closed == 1
    models.released.set()
    for thread in call_threads():
        thread.join(10)
    assert models.closed == 2
    assert world.abandoned.count(root.choice) == 0


def test_a_shared_copy_is_replaced_too(world):
    """A recorded answer that takes longer than a call may: others still come, from a new copy."""
    rows = [(x, 2 * x, 1.5 if x == 2 else 0.0) for x in range(5)]
    values = ", ".join(map(str, rows))
    path = world.base / "recorded.parquet"
    world.connection.sql(
        f"COPY (SELECT * FROM (VALUES {values}) t(x, y, latency)) TO '{path}' (FORMAT parquet)"
    )
    world.variants["m.played"] = Variant("m", "played", Backend("replay", "recorded.parquet"))
    root = stage(numbers(5), "m.played", batch=1)
    assert execute(world, root).read_all().column("y").to_pylist() == [0, 2, None, 6, 8]


def test_what_fails_without_a_timeout_fails_alike_with_one(world):
    (world.base / "empty.py").write_text("def empty():\n    return lambda batch: None\n")
    world.variants["m.empty"] = Variant("m", "empty", Backend("python", "empty.py:empty"))
    root = stage(numbers(3), "m.empty", batch=2)
    plain = run(PhysicalPlan(root, "null"), world.env())
    timed = execute(world, root)
    assert plain.read_all() == timed.read_all()
    assert plain.failures == timed.failures
    assert len(timed.failures) == 3


def test_a_variant_that_cannot_be_loaded_is_told_as_ever(world):
    world.variants["m.none"] = Variant("m", "none", Backend("python", "hanging.py:none"))
    with pytest.raises(RunError) as caught:
        execute(world, stage(numbers(3), "m.none")).read_all()
    assert caught.value.code == "OC0406"
    assert call_threads() == []


def test_a_variant_that_keeps_hanging_is_refused(world):
    bad = ",".join(map(str, range(20)))
    with pytest.raises(RunError) as caught:
        execute(world, hanging(20, bad)).read_all()
    assert caught.value.code == "OC0410"
    assert len(module(world).hung) == MOST_ABANDONED
    with pytest.raises(RunError) as again:  # the threads are the session's, not the run's
        execute(world, hanging(20, "")).read_all()
    assert again.value.code == "OC0410"
    module(world).released.set()
    for thread in call_threads():
        thread.join(10)
    ys = execute(world, hanging(3, "")).read_all().column("y").to_pylist()
    assert ys == [0, 2, 4]


def test_a_device_with_one_slot_goes_on_after_a_timeout(world):
    world.devices["cpu"] = Device("cpu", "cpu", 1, 1)
    ys = execute(world, hanging(5, "0")).read_all().column("y").to_pylist()
    assert ys == [None, 2, 4, 6, 8]


def test_a_run_is_cancelled_during_a_call(world):
    env = world.env(call_timeout=60.0, abandoned=world.abandoned)
    execution = run(PhysicalPlan(hanging(3, "1"), "null"), env)
    threading.Timer(0.3, world.cancel.set).start()
    with pytest.raises(RunError) as caught:
        execution.read_all()
    assert caught.value.code == "OC0402"


def test_profiling_counts_timeouts_among_the_failures(world):
    runner = LocalRunner(world.env(call_timeout=TIMEOUT, abandoned=world.abandoned))
    node = hanging(6, "2")
    seen = runner.run_stage(node, runner.scan(numbers(6)))
    runner.close()
    assert (seen.failed_elements, seen.timed_out) == (1, 1)
    assert len(seen.batch_seconds) == 5  # the call that never answered has no latency
    assert seen.failed[2] == "timed out after 0.25 s"


def test_profiling_learns_what_a_refused_variant_was_called_with(world):
    """Six rows that answer, then some that hang: those never handed over did not fail."""
    runner = LocalRunner(world.env(call_timeout=TIMEOUT, abandoned=world.abandoned))
    node = hanging(20, ",".join(map(str, range(6, 20))))
    with pytest.raises(CannotRun) as caught:
        runner.run_stage(node, runner.scan(numbers(20)))
    runner.close()
    assert (caught.value.code, caught.value.stage) == ("OC0410", node)
    assert caught.value.elements == 6 + MOST_ABANDONED
    assert caught.value.failed == MOST_ABANDONED


def test_without_a_timeout_calls_stay_in_the_stages_own_thread(world):
    execution = run(PhysicalPlan(hanging(3, ""), "null"), world.env())
    before = set(call_threads())
    assert execution.read_all().num_rows == 3
    assert set(call_threads()) == before


DECLARED = """
CREATE MODEL m (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT m.good USING python('hanging.py:hangs') BASE;
CREATE VARIANT m.stuck USING python('hanging.py:hangs') KNOBS (bad IN ('1,2,3,4,5,6,7,8,9'));
SET progress = false;
SET call_timeout = 250 ms;
"""


def test_a_variant_that_hangs_is_infeasible_after_analyze(world):
    with octans.connect(base_dir=world.base) as session:
        session.sql(DECLARED)
        session.sql("ANALYZE MODEL m USING (SELECT range % 10 AS x FROM range(60)) SAMPLE 60")
        failures = dict(
            session.sql(
                "SELECT variant, value FROM octans.statistics WHERE metric = 'failure'"
            ).fetchall()
        )
        assert failures["m.good"] == 0.0
        assert failures["m.stuck"] > 0.5
        answered = session.sql("SELECT sum(m(range)) FROM range(10)").fetchall()
        assert answered == [(90,)]


def test_a_variant_that_hangs_on_a_tenth_of_the_rows_is_as_slow_as_its_timeouts(world):
    """Its survivors answer at once; the plan says what all rows take, and takes another."""
    (world.base / "napping.py").write_text(
        "import time\n"
        "def naps(often=0, each=0.0):\n"
        "    def call(batch):\n"
        "        xs = batch.column('x').to_pylist()\n"
        "        time.sleep(each + 0.12 * (often and any(x % often == 7 for x in xs)))\n"
        "        return {'y': xs}\n"
        "    return call\n"
    )
    with octans.connect(base_dir=world.base) as session:
        session.sql(
            "CREATE DEVICE cpu (KIND cpu, COUNT 1, THREADS 1);"
            "CREATE MODEL m (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);"
            "CREATE VARIANT m.naps USING python('napping.py:naps', often := 10);"
            "CREATE VARIANT m.sure USING python('napping.py:naps', each := 0.001) BASE;"
            "SET progress = false; SET call_timeout = 50 ms;"
            "CREATE TABLE xs AS SELECT range AS x FROM range(200);"
            "ANALYZE MODEL m USING (SELECT x, x AS truth FROM xs) LABELS (y := truth) SAMPLE 200"
        )
        query = "SELECT m(x) FROM xs WITH SLO (accuracy >= 0.5) MINIMIZE {} ON ERROR NULL"
        for goal in ("cost", "wall"):
            assert "m.sure" in session.explain(query.format(goal)).advice
        advice = "VARIANT(m m.naps) BATCH(m 1)"
        ran = session.sql(f"EXPLAIN (ANALYZE) {query.format('wall')}", advice=advice).explanation()
        assert ran.totals.accuracy.value < 0.95, "failed rows are wrong"
        assert ran.actual_totals.wall.value >= 20 * 0.05
        assert ran.actual_totals.wall.value / 2 < ran.totals.wall.value < 3 * 20 * 0.05


def test_timeouts_are_told_apart_where_failures_are(world):
    with octans.connect(base_dir=world.base) as session:
        session.sql(
            "CREATE MODEL m (x BIGINT) RETURNS (y BIGINT);"
            "CREATE VARIANT m.v USING python('hanging.py:hangs', bad := '3', fails := '5');"
            "SET progress = false; SET call_timeout = 250 ms;"
            "ANALYZE MODEL m USING (SELECT 2 * range AS x FROM range(20)) SAMPLE 20"
        )
        query = "SELECT m(range) AS y FROM range(7) ON ERROR NULL"
        advice = "BATCH(m 1)"
        result = session.sql(query, advice=advice)
        assert (result.failed_rows, result.timed_out_rows) == (2, 1)
        assert "2 rows failed, 1 of them timed out" in result.to_text()
        shown = str(session.sql(f"EXPLAIN ANALYZE {query}", advice=advice))
        assert "failed (1 timed out)" in shown
        assert "row 3 in m: timed out after 0.25 s" in shown
        kept = session.sql(
            "SELECT value, n FROM octans.executions WHERE metric = 'failure'"
        ).fetchall()
        assert kept
        assert all((value, n) == (pytest.approx(2 / 7), 7) for value, n in kept)


def test_the_process_ends_though_a_call_hangs(world):
    script = """
    import octans
    with octans.connect() as session:
        session.sql('''
            CREATE MODEL m (x BIGINT) RETURNS (y BIGINT);
            CREATE VARIANT m.v USING python('hanging.py:hangs') KNOBS (bad IN ('1'));
            SET progress = false; SET call_timeout = 250 ms;
            ANALYZE MODEL m USING (SELECT 2 * range AS x FROM range(20));
        ''')
        result = session.sql("SELECT m(range) AS y FROM range(3) ON ERROR NULL")
        print(result.fetchall(), result.failed_rows)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=world.base,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "None" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_ctrl_c_stops_an_analyze_inside_a_call(world):
    script = """
    import octans
    from octans.errors import RunError
    with octans.connect() as session:
        session.sql('''
            CREATE MODEL m (x BIGINT) RETURNS (y BIGINT);
            CREATE VARIANT m.v USING python('hanging.py:hangs') KNOBS (bad IN ('1'), tell IN (1));
            SET progress = false; SET call_timeout = 60 s;
        ''')
        try:
            session.sql("ANALYZE MODEL m USING (SELECT range AS x FROM range(20))")
        except (RunError, KeyboardInterrupt) as error:
            print("stopped", type(error).__name__)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=world.base,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout.readline() == "hangs\n"
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=50)
    assert "stopped" in out
