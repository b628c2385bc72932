"""What a run tells about itself: failed rows, rows' latency, progress; and the bound of workers."""

import gc
import itertools
import threading
import warnings

import numpy as np
import octans
import pyarrow as pa
import pytest
from octans.errors import RunError
from octans.executor.chunks import Chunk
from octans.executor.elements import elements_of
from octans.executor.engine import run
from octans.executor.service import SAMPLE_ROWS, ServiceSample, joint, row_seconds
from octans.ir.models import Device
from octans.ir.physical import PhysicalPlan, SqlResidual, SqlScan, SqlStep, StopAfter
from octans.ir.types import Field, column
from test_executor_threads import module_of, octans_threads, sleepy
from toys import World, expr, first_columns, numbers, stage


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def two_that_fail(world):
    """Rows 3 and 5 fail at the first stage, 5 and 8 would at the second."""
    first = stage(numbers(20), "m.picky", bad="3,5", batch=4)
    return stage(first, "m.picky", name="z", bad="5,8", batch=3)


@pytest.mark.parametrize(("on_error", "count"), [("null", 3), ("skip", 3), ("fail", 1)])
def test_failed_rows_are_counted_once_over_all_stages(world, on_error, count):
    execution = world.run(two_that_fail(world), on_error)
    if on_error == "fail":
        with pytest.raises(RunError):
            execution.read_all()
    else:
        execution.read_all()
    assert execution.failed_rows == count


def looked_up(xs, bad, other=None, call=None):
    """`picky` called once for equal inputs, looked up for all rows that have them."""
    source = numbers(0, xs)
    left = source if other is None else stage(source, "m.picky", name="z", bad=other)
    distinct = SqlResidual(
        (left,),
        'SELECT "x", min(__row) AS __row, bool_and(__failed) AS __failed FROM in0 '
        'GROUP BY "x" ORDER BY min(__row)',
        (Field("x", "BIGINT"),),
    )
    once = stage(distinct, "m.picky", bad=bad) if call is None else call(distinct)
    fields = (Field("x", "BIGINT"), Field("y", "BIGINT"))
    return once, SqlResidual(
        (left, once),
        'SELECT l."x", r."y", l.__row AS __row, (l.__failed OR r.__failed) AS __failed '
        'FROM in0 AS l JOIN in1 AS r ON l."x" IS NOT DISTINCT FROM r."x" ORDER BY l.__row',
        fields,
    )


@pytest.mark.parametrize("on_error", ["null", "skip"])
def test_failed_inputs_count_as_the_rows_that_had_them(world, on_error):
    """40 rows of 0 … 9, each four times: 7 fails before, 2 is called once and fails for four."""
    _, root = looked_up("SELECT range % 10 AS x FROM range(40)", "2", other="7")
    execution = world.run(root, on_error)
    execution.read_all()
    assert execution.failed_rows == 8


@pytest.mark.parametrize("on_error", ["null", "skip"])
def test_sorting_and_filtering_above_a_failure_change_no_count(world, on_error):
    below = SqlStep(two_that_fail(world), first_columns(), expr('"y" > 20', "y"))
    root = SqlResidual(
        (below,),
        'SELECT "x", "y", __failed FROM in0 ORDER BY "x" DESC, __row',
        (Field("x", "BIGINT"), Field("y", "BIGINT")),
    )
    execution = world.run(root, on_error)
    execution.read_all()
    assert execution.failed_rows == 3
    assert execution.actuals[root.fingerprint].failed == 0


def test_workers_bound_the_calls_over_all_devices(world):
    world.devices["gpu"] = Device("gpu", "cuda", 2)
    below = sleepy(numbers(40), 2)
    above = sleepy(below, 2, name="z")
    above = above.replace(choice=above.choice.replace(device="gpu"))
    for workers, most in ((1, 1), (2, 2), (9, None)):
        module = None
        execution = run(PhysicalPlan(above), world.env(workers=workers))
        assert execution.read_all().column("z").to_pylist() == list(range(40))
        module = module_of(world)
        assert module.most == most if most is not None else module.most > 2
        module.most = 0


def test_a_cancelled_wait_for_a_worker_gives_its_slot_back(world):
    from octans.executor.channels import Stopped
    from octans.executor.slots import Slots

    stopped = threading.Event()
    slots = Slots(world.devices, stopped.is_set, workers=1)
    slots.take("cpu")
    threading.Timer(0.1, stopped.set).start()
    with pytest.raises(Stopped):
        slots.take("cpu")
    stopped.clear()
    slots.give("cpu")
    assert slots.take("cpu") == 0.0


def test_service_time_is_the_batches_time_and_leaves_waiting_out(world):
    """One slot, two stages of 20 ms a batch: a row waits for others, but is served in 40 ms."""
    world.devices["cpu"] = Device("cpu", "cpu", 1, 1)
    root = sleepy(sleepy(numbers(40), 1, 0.02), 1, 0.02, name="z")
    execution = world.run(root)
    execution.read_all()
    times = execution.service_times()
    assert times.steps == ("y", "z")
    assert times.together.shape == (40, 2)
    assert np.median(times.together) == pytest.approx(0.02, rel=1.0)


def test_service_time_under_each_counts_the_batches_a_row_needs_alone():
    """Lists of 0, 1, 2 and 5 elements in batches of 2: 0, 1, 1 and 3 calls; WHEN skips: none."""
    lists = [[], [1], [2, 3], [4, 5, 6, 7, 8], [9], None]
    batch = pa.record_batch(
        {
            "x": pa.array(lists, pa.list_(pa.int64())),
            "c": pa.array([True, True, True, True, False, True]),
        }
    )
    node = stage(SqlScan("", (Field("x", "BIGINT[]"),)), each=True, when="c", batch=2)
    inputs = pa.schema([("x", pa.int64())])
    elements = elements_of(node, Chunk(batch, np.arange(6)), inputs)
    rows = np.arange(6)
    answered = [(2, 1.0), (2, 10.0), (2, 100.0), (2, 1000.0)]  # 1 2 | 3 4 | 5 6 | 7 8
    assert row_seconds(elements, rows, answered, 2, None).tolist() == [0, 1, 1, 30, 0, 0]
    assert row_seconds(elements, rows[2:4], answered, 2, None).tolist() == [1, 30]
    called = np.array([1, 5, 6, 7])  # the others came from the cache
    answered = [(2, 1.0), (2, 10.0)]  # the row starts in the first of its two batches
    assert row_seconds(elements, rows, answered, 2, called).tolist() == [0, 0, 1, 2, 0, 0]
    nothing = np.zeros(0, np.int64)
    assert row_seconds(elements, rows, [], 2, nothing).tolist() == [0] * 6


def test_rows_that_a_filter_dropped_took_nothing_further_on(world):
    first = stage(numbers(100), batch=10)
    root = stage(SqlStep(first, first_columns(), expr('"x" < 30', "x")), name="z")
    execution = world.run(root)
    execution.read_all()
    times = execution.service_times().together
    assert times.shape == (100, 2)
    assert (times[:, 0] > 0).all()
    assert (times[:, 1] > 0).sum() == 30


def test_stages_that_see_different_rows_are_told_apart(world):
    once, root = looked_up("SELECT range % 10 AS x FROM range(40)", "")
    execution = world.run(root)
    execution.read_all()
    times = execution.service_times()
    assert times.together is None
    assert [len(own) for own in times.alone] == [10]
    assert times.steps == (once.step,)


def test_a_sample_of_rows_is_bounded_and_the_same_at_every_stage():
    first, second = ServiceSample(), ServiceSample()
    for start in range(0, 200_000, 1000):
        rows = np.arange(start, start + 1000)
        drawn = first.drawn(rows)
        first.add(rows[drawn], rows[drawn].astype(float))
        rows = rows[rows % 5 == 0]
        drawn = second.drawn(rows)
        second.add(rows[drawn], rows[drawn].astype(float))
    times = joint([first, second])
    assert SAMPLE_ROWS / 3 - 1 <= len(times) <= SAMPLE_ROWS
    assert len(np.unique(times[:, 0])) == len(times)
    came = times[:, 0] % 5 == 0
    assert (times[came, 1] == times[came, 0]).all()
    assert (times[~came, 1] == 0).all()
    assert abs(np.median(times[:, 0]) - 100_000) < 10_000


class Told(list):
    """A progress sink that remembers."""

    def update(self, rows_done, rows_total, stages):
        self.append((rows_done, rows_total))


@pytest.mark.parametrize("expected", [None, 10, 2000])
def test_progress_goes_by_the_estimate_until_the_source_is_read(world, expected):
    told = Told()
    root = stage(numbers(400), "m.slow", batch=8, seconds=0.01)
    run(PhysicalPlan(root), world.env(progress=told, rows_expected=expected)).read_all()
    assert told[-1] == (400, 400)
    # A reached estimate was wrong: then nothing is known any more.
    for done, total in told[:-1]:
        assert total in (400, expected if expected and done <= expected else None)


def test_latency_of_a_run_stands_beside_its_estimate(tmp_path):
    (tmp_path / "m.py").write_text(
        "import time\n"
        "def make():\n"
        "    def call(batch):\n"
        "        time.sleep(0.01)\n"
        "        return [2 * x for x in batch.column('x').to_pylist()]\n"
        "    return call\n"
    )
    with octans.connect(base_dir=tmp_path) as session:
        session.sql(
            "CREATE MODEL m (x BIGINT) RETURNS (y BIGINT);"
            "CREATE VARIANT m.v USING python('m.py:make') BASE;"
            "ANALYZE MODEL m USING (SELECT range AS x FROM range(60))"
        )
        result = session.sql(
            "SELECT m(x) AS y FROM (SELECT range AS x FROM range(50)) WITH SLO () ON ERROR NULL"
        )
        result.fetchall()
        totals = result.explanation().actual_totals
        assert totals.latency_p50.value == pytest.approx(0.01, rel=1.0)
        assert totals.latency_p50.value <= totals.latency_p95.value <= totals.latency_p99.value
        assert totals.memory is None


def test_errors_and_cancellation_leave_no_thread_and_no_warning(world):
    def fails(execution):
        with pytest.raises(RunError):
            execution.read_all()

    def cancelled(execution):
        threading.Timer(0.05, execution.cancel).start()
        fails(execution)

    def abandoned(execution):
        next(batches := execution.batches())
        batches.close()

    endless = sleepy(sleepy(numbers(10**7), 1), 2, name="z")
    _, once = looked_up("SELECT range % 10 AS x FROM range(40)", "2")
    cases = [
        (fails, stage(numbers(100), "m.picky", bad="50")),
        (fails, stage(numbers(100), "m.short")),
        (fails, stage(numbers(100), "m.absent")),
        (fails, stage(numbers(0, "SELECT CAST('a' || range AS BIGINT) AS x FROM range(9)"))),
        (fails, once),
        (cancelled, endless),
        (abandoned, endless),
        (abandoned, StopAfter(SqlStep(endless, (column(Field("x", "BIGINT")),)), 10**6)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for act, root in itertools.chain(cases, cases):
            act(world.run(root))
            assert octans_threads() == []
        gc.collect()
    world.connection.sql("SELECT 1").fetchall()
    attached = world.connection.sql("SELECT database_name FROM duckdb_databases()").fetchall()
    assert not [name for (name,) in attached if name.startswith("octans_spool")]


def test_rows_are_drawn_by_number_however_sparse_they_come():
    sample = ServiceSample()
    sample.stride = 9
    for rows in ([0, 1, 9, 10, 27], [5], [8, 9], [10**15 + 8, 10**15 + 17], [1, 9 * 10**12]):
        drawn = sample.drawn(np.array(rows))
        assert [rows[i] for i in drawn] == [row for row in rows if row % 9 == 0]


def test_rows_are_done_when_their_calls_are_not_when_they_are_read(world):
    """Equal inputs called once: all rows are read, and written off, before the first call."""
    source = numbers(0, "SELECT range // 2 AS x FROM range(100000)")
    _, root = looked_up(source.sql, "", call=lambda below: sleepy(below, 1, 0.05))
    execution = world.run(root)
    threading.Timer(1.0, execution.cancel).start()
    with pytest.raises(RunError, match="cancelled after") as caught:
        execution.read_all()
    assert 0 < caught.value.rows_done < 250  # 8 rows in 0.05 s
    assert caught.value.rows_done == execution.rows_done


def test_all_rows_are_done_at_the_end(world):
    _, root = looked_up("SELECT range % 10 AS x FROM range(40)", "")
    execution = world.run(root)
    execution.read_all()
    assert execution.rows_done == 40
