"""Executions teach: their observations are pooled, conditioned, and their inputs are watched."""

from __future__ import annotations

import math
import time

import numpy as np
import octans
import octans.errors
import pyarrow as pa
import pytest
import session_world
from octans.catalog_db.freshness import Mark
from octans.executor import engine
from octans.executor.engine import run
from octans.executor.telemetry import RowReservoir
from octans.ir.types import Field
from octans.stats.drift import LEVEL, drift, features, spent
from octans.stats.feedback import Pooled, pool
from octans.stats.staleness import Q_RUNS, contradicted, enough_new_rows, many_new_rows
from octans.watching import row_hashes

QUERY = "SELECT answer(id) FROM numbers"


@pytest.fixture
def session():
    with session_world.connect(measured=False) as made:
        made.sql(
            "DROP DEVICE big; DROP PIPELINE answer; CREATE OR REPLACE TABLE numbers AS "
            "SELECT range AS id, range % 5 AS k, 2 * range AS truth FROM range(1000);"
            "CREATE PIPELINE answer (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y) AS "
            "BEGIN y := guess(x); RETURN y; END;"
            "ANALYZE PIPELINE answer USING (SELECT id AS x, truth, k FROM numbers) "
            "LABELS (y := truth) SAMPLE 400"
        )
        yield made


def latency(session):
    """What is known of the chosen stage's mean latency; the relation agrees with the reader."""
    (stage,) = (n for n in session.explain(QUERY).nodes if n.kind == "stage")
    choice = stage.choice
    key = {"subject": "answer.y", "metric": "latency", "statistic": "mean",
           "variant": choice.variant, "batch": choice.batch}  # fmt: skip
    (found,) = (
        o for o in session.catalog.observations()
        if all(getattr(o, name) == value for name, value in key.items())
        and o.knobs in ("", "accuracy := 0.85", "accuracy := 0.92") and not (
            choice.knobs and o.knobs != f"accuracy := {choice.knobs[0][1]}")
    )  # fmt: skip
    shown = session.sql(
        "SELECT value, ci_low, ci_high, n, n_failed FROM octans.statistics WHERE "
        "subject = 'answer.y' AND metric = 'latency' AND statistic = 'mean' "
        f"AND variant = '{found.variant}' AND knobs = '{found.knobs}' AND batch = {found.batch}"
    ).fetchall()
    assert shown == [(found.value, found.low, found.high, found.n, found.n_failed)]
    return found


def test_an_execution_adds_to_what_was_measured(session):
    before = latency(session)
    session.sql(QUERY).fetchall()
    after = repeated(session, before)
    (seen,) = session.sql(
        "SELECT value, n, filter, run FROM octans.executions WHERE metric = 'latency' "
        "AND statistic = 'mean'"
    ).fetchall()
    assert after.n == before.n + seen[1]
    assert after.value == pytest.approx(
        (before.value * before.n + seen[0] * seen[1]) / (before.n + seen[1])
    )
    assert seen[2] == ""
    shown = session.sql(
        "SELECT value, ci_low, ci_high, n FROM octans.statistics WHERE subject = 'answer.y' "
        f"AND metric = 'latency' AND statistic = 'mean' AND variant = '{after.variant}' "
        f"AND knobs = '{after.knobs}' AND batch = {after.batch}"
    ).fetchall()
    assert shown == [(after.value, after.low, after.high, after.n)], "reader and relation agree"
    assert session.sql("SHOW OBSERVATIONS FOR answer").arrow().num_rows > 0


def test_the_actual_wall_begins_with_opening_the_engine(session, monkeypatch):
    """Who waits for the last row waits for that too: a GPU's counters take tenths of a second."""

    def slowly(plan, env):
        time.sleep(0.2)
        return run(plan, env)

    monkeypatch.setattr(engine, "run", slowly)
    result = session.sql(QUERY)
    result.fetchall()
    assert result.explanation().actual_totals.wall.value >= 0.2


def test_behind_a_filter_it_holds_for_that_filter_alone(session):
    before = latency(session)
    session.sql(f"{QUERY} WHERE k < 3").fetchall()
    assert latency(session) == before
    filters = session.sql(
        "SELECT DISTINCT filter FROM octans.executions WHERE metric = 'latency'"
    ).fetchall()
    (context,) = (filter_ for (filter_,) in filters)
    assert context
    changed = [
        one.n for one in session.catalog.observations(filters=[context])
        if one.metric == "latency" and one.statistic == "mean"
    ]  # fmt: skip
    plain = [
        one.n for one in session.catalog.observations()
        if one.metric == "latency" and one.statistic == "mean"
    ]  # fmt: skip
    assert sum(changed) > sum(plain)


def test_an_analyze_starts_anew(session):
    session.sql(QUERY).fetchall()
    session.sql(
        "ANALYZE PIPELINE answer USING (SELECT id AS x, truth FROM numbers) "
        "LABELS (y := truth) SAMPLE 100"
    )
    runs = [o.run for o in session.catalog.observations() if o.run is not None]
    raw = session.sql(
        "SELECT variant, knobs, batch, n FROM octans.observations WHERE metric = 'latency' "
        f"AND statistic = 'mean' AND run = {max(runs)} ORDER BY ALL"
    ).fetchall()
    newest = sorted(
        (o.variant, o.knobs, o.batch, o.n)
        for o in session.catalog.observations()
        if (o.metric, o.statistic, o.run) == ("latency", "mean", max(runs))
    )
    assert newest == raw


def test_the_audit_sample_is_of_the_rows_before_any_filter_of_a_model(session):
    session.sql("SELECT id FROM numbers WHERE answer(id) > 1500").fetchall()
    run = session.catalog.samples.run("answer", session.catalog.pipeline("answer").version)
    kept = session.catalog.audits.rows(run)
    assert kept is not None
    assert min(kept.column("x").to_pylist()) < 100, "rows that the filter dropped are there"
    assert kept.num_rows == 512


def stale(session):
    return {node.stale for node in session.explain(QUERY).nodes if node.kind == "stage"}.pop()


def test_the_rows_analyzed_are_no_drift_and_not_new(session):
    for _ in range(3):
        session.sql(QUERY).fetchall()
    session.sql(f"{QUERY} WHERE k = 1").fetchall()
    assert stale(session) is None


def test_other_rows_are_drift(session):
    session.sql("CREATE TABLE later AS SELECT range + 700 AS id FROM range(1000)")
    session.sql("SELECT answer(id) FROM later").fetchall()
    assert stale(session).startswith("inputs drifted: x had median")


@pytest.mark.parametrize(
    ("type_", "call"),
    [("INTEGER", "answer(id)"), ("BIGINT", "answer(1 * id)"),
     ("VARCHAR", "answer(CAST(id AS BIGINT))")],
)  # fmt: skip
def test_what_is_computed_for_an_input_is_watched(session, type_, call):
    """An INTEGER column, cast where BIGINT is declared; an expression: as the model gets them."""
    session.sql(
        f"CREATE TABLE same AS SELECT CAST(id AS {type_}) AS id FROM numbers;"
        f"CREATE TABLE later AS SELECT CAST(range + 700 AS {type_}) AS id FROM range(1000)"
    )
    for _ in range(2):
        session.sql(f"SELECT {call} FROM same WHERE {call} > 5").fetchall()
    assert stale(session) is None
    session.sql(f"SELECT {call} FROM (SELECT id FROM later)").fetchall()
    assert stale(session).startswith("inputs drifted: x had median")


def test_a_filter_the_sample_can_repeat_is_no_drift_of_its_own(session):
    session.sql(f"{QUERY} WHERE id >= 600").fetchall()
    assert stale(session) is None


def test_rows_that_look_like_the_old_ones_are_new_all_the_same():
    """sqrt(1000 * 1000) = 1,000 may come; the same rows in another order are not new at all."""
    with session_world.connect(measured=False) as session:
        session.sql(
            "DROP PIPELINE answer; DROP VARIANT guess.tuned; DROP DEVICE big;"
            "CREATE OR REPLACE MODEL guess (x DOUBLE) RETURNS (y BIGINT) QUALITY exact_match(y);"
            "CREATE TABLE rows AS SELECT range::DOUBLE AS id FROM range(1000);"
            "CREATE TABLE shuffled AS SELECT id FROM rows ORDER BY hash(id);"
            "CREATE TABLE more AS SELECT ((range % 1000) + 0.5)::DOUBLE AS id FROM range(3000);"
            "ANALYZE MODEL guess USING (SELECT id AS x, 2 * id::BIGINT AS truth FROM rows) "
            "LABELS (y := truth) SAMPLE 500"
        )

        def reason():
            plan = session.explain("SELECT guess(id) FROM rows")
            return {node.stale for node in plan.nodes if node.kind == "stage"}.pop()

        for _ in range(3):
            session.sql("SELECT guess(id) FROM shuffled").fetchall()
        assert reason() is None
        session.sql("SELECT guess(id) FROM more").fetchall()
        assert reason().endswith("new rows since, more than sqrt(1000·1,000)")


def test_many_runs_at_once_all_add(tmp_path):
    """What is noted of a run afterwards must not fail the run, whoever else is noting."""
    import threading

    path = tmp_path / "c.duckdb"
    with session_world.connect(path, measured=False) as session:
        session.sql(
            "ANALYZE MODEL guess USING (SELECT id AS x, truth FROM numbers) LABELS (y := truth) "
            "SAMPLE 100"
        )
        errors = []

        def work():
            try:
                with octans.connect(path) as own:
                    for _ in range(3):
                        own.sql("SELECT guess(id) FROM numbers").fetchall()
            except octans.errors.OctansError as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        ran = session.sql("SELECT count(DISTINCT run) FROM octans.executions").fetchall()
        assert ran == [(12,)]


def test_a_latency_carries_what_failed_beside_it():
    """Survivors' times look better the more calls fail: the failures stand beside them."""
    with session_world.connect(measured=False) as session:
        session.sql(
            "ANALYZE MODEL picky USING (SELECT id AS x, truth FROM numbers) LABELS (y := truth)"
        )
        rows = session.sql(
            "SELECT n_failed FROM octans.statistics WHERE subject = 'picky' AND metric = 'latency'"
        ).fetchall()
        assert rows
        assert all(failed > 0 for (failed,) in rows)


def test_the_rows_kept_of_a_stream_are_uniform_and_bounded():
    places = np.zeros(20)
    for seed in range(200):
        kept = RowReservoir(seed)
        for start in range(0, 2000, 250):
            kept.offer(pa.RecordBatch.from_pydict({"x": list(range(start, start + 250))}))
        found = kept.table(pa.schema([])).column("x").to_pylist()
        assert len(found) == len(set(found)) == 512
        places += np.bincount(np.array(found) // 100, minlength=20)
    assert np.all(np.abs(places / 200 - 25.6) < 2.5), "each hundredth of the stream alike"


def test_large_rows_are_kept_by_their_bytes():
    kept = RowReservoir()
    for _ in range(8):
        kept.offer(pa.RecordBatch.from_pydict({"x": [b"x" * (1 << 18)] * 20}))
    found = kept.table(pa.schema([]))
    assert 1 < found.num_rows < 20
    assert found.nbytes <= 4 << 20


def test_rows_too_large_for_all_to_stay_are_uniform_too():
    """Rows grow too large amid the stream; those from before and after stay alike."""
    places = np.zeros(10)
    for seed in range(300):
        kept = RowReservoir(seed)
        for start in range(0, 100, 10):
            rows = [str(row).ljust(1 << 18) for row in range(start, start + 10)]
            kept.offer(pa.RecordBatch.from_pydict({"x": rows}))
        found = [int(row) for row in kept.table(pa.schema([])).column("x").to_pylist()]
        assert len(found) == len(set(found)) == 15
        places += np.bincount(np.array(found) // 10, minlength=10)
    assert np.all(np.abs(places / 300 - 1.5) < 0.3), "each tenth of the stream alike"


# --- the rules ------------------------------------------------------------------------------------


def test_pooling_goes_by_n_and_a_short_run_moves_little():
    long, short = Pooled(1.0, 0.9, 1.1, 1000, 2), Pooled(3.0, 2.0, 4.0, 10, 1)
    both = pool(long, short)
    assert both.value == pytest.approx(1.0198, abs=1e-4)
    assert (both.n, both.n_failed) == (1010, 3)
    assert both == pytest.approx(pool(short, long))
    assert pool(None, short) == short


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ([3.0] * (Q_RUNS - 1), False),
        ([3.0] * Q_RUNS, True),
        ([0.3] * Q_RUNS, True),
        ([3.0] * (Q_RUNS - 1) + [1.0], False),
        ([1.0, 50.0, 1.0, 1.0, 1.0, 1.0], False),
        ([3.0, 0.3] * Q_RUNS, False),
    ],
)
def test_executions_contradict_by_agreeing_with_each_other(ratios, told):
    assert (contradicted("latency", ratios) is not None) == told


def test_what_lies_within_the_interval_contradicts_nothing():
    """One loading is known within an order of magnitude."""
    assert contradicted("load", [0.12] * Q_RUNS, 0.1, 10.0) is None
    assert contradicted("load", [0.09] * Q_RUNS, 0.1, 10.0) is not None
    assert contradicted("load", [12.0] * Q_RUNS, 0.1, 10.0) is not None


def test_contradicted_statistics_are_marked_once(session):
    from dataclasses import replace

    base = latency(session)
    slow = 9 * base.high  # what a busy machine measured may itself be uncertain by some factor
    for place in range(Q_RUNS + 2):
        seen = replace(base, value=slow, low=base.value, high=2 * slow, filter="", run=900 + place,
                       n=1)  # fmt: skip
        session.catalog.fold([seen], {})
        now = repeated(session, base)
        assert (now.stale is not None) == (place >= Q_RUNS - 1)
    assert f"executions latency was {slow / base.value:.3g} times as much" in now.stale
    assert session.sql("SELECT count(*) FROM octans_internal.marks").fetchall() == [(1,)]
    assert now.n == base.n + Q_RUNS + 2, "used, and marked"


def repeated(session, base):
    """What is known now of the same thing."""
    (found,) = (
        o for o in session.catalog.observations()
        if all(getattr(o, name) == getattr(base, name)
               for name in ("subject", "metric", "statistic", "variant", "knobs", "batch"))
    )  # fmt: skip
    return found


def test_a_mark_covers_steps_and_what_came_before_it(session):
    session.catalog.freshness.mark(Mark("answer", "because"))
    assert stale(session) == "because"
    session.sql(
        "ANALYZE PIPELINE answer USING (SELECT id AS x, truth FROM numbers) "
        "LABELS (y := truth) SAMPLE 100"
    )
    states = session.sql(
        "SELECT DISTINCT reason FROM octans.statistics WHERE run = "
        "(SELECT max(id) FROM octans.runs WHERE kind = 'analyze')"
    ).fetchall()
    assert states == [(None,)]


def test_new_rows_make_stale_at_the_square_root():
    assert enough_new_rows(1_000_000) == pytest.approx(31_622.8, abs=0.1)
    assert many_new_rows(1000, 1000) is None
    assert many_new_rows(1000, 1001) == "1,001 new rows since, more than sqrt(1000·1,000)"


def test_the_levels_of_all_looks_add_up_to_the_whole():
    assert sum(spent(look) for look in range(1, 10_000)) == pytest.approx(LEVEL, rel=1e-3)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 3)])
def test_the_features_of_lists_are_those_of_their_known_numbers(kind):
    lists = [[1, 2, 6], [4, None, math.nan], None, [None] * 3, [7, 7, 7]]
    found = features(
        pa.table({"x": pa.chunked_array([pa.array(lists[:2], kind), pa.array(lists[2:], kind)])})
    )
    np.testing.assert_allclose(found["mean of x"], [3, 4, math.nan, math.nan, 7])
    np.testing.assert_allclose(found["spread of x"], [math.sqrt(14 / 3), 0, math.nan, math.nan, 0])
    np.testing.assert_array_equal(found["NULL share of x"], [0, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("kind", "column", "other"),
    [
        ("DOUBLE", [1.5, None, math.nan], 2.5),
        ("DOUBLE", [1, None, 0], 2),
        ("VARCHAR", ["ä", None, ""], "b"),
        ("BLOB", [b"1", None, b""], b"2"),
        ("BIGINT[]", [[1, None], None, []], [1]),
        ("FLOAT[2]", [[1, None], None, [2, 3]], [3, 2]),
        ("STRUCT(a BIGINT)", [{"a": None}, None, {"a": 1}], {"a": 2}),
    ],
)
def test_rows_are_told_by_all_their_values(session, kind, column, other):
    inputs = (Field("the x", kind), Field("y", "BIGINT"))

    def hashes(values, numbers):
        rows = pa.table({"the x": pa.array(values), "y": numbers})
        return row_hashes(session, inputs, rows).tolist()

    known = hashes(column, [1, 2, 3])
    assert len(set(known)) == 3
    assert hashes([*column, other, column[0]], [1.0, 2.0, 3.0, 1.0, 2.0])[:3] == known
    assert not {*hashes([other, column[0]], [1, 3])} & {*known}


def test_an_analyze_is_compared_with_its_own_rows(session):
    """What a session remembers of an ANALYZE ends with the next one."""
    session.sql(QUERY).fetchall()
    first = session.analyzed["answer"]
    session.sql(QUERY).fetchall()
    assert session.analyzed["answer"] is first
    session.sql(
        "ANALYZE PIPELINE answer USING (SELECT id AS x, truth FROM numbers) "
        "LABELS (y := truth) SAMPLE 100"
    )
    session.sql(QUERY).fetchall()
    assert len(session.analyzed["answer"].hashes) == 100
    assert len(first.hashes) > 100


def test_drift_names_the_feature_that_moved():
    rng = np.random.default_rng(0)
    before = {name: rng.normal(size=800) for name in "abc"}
    after = {name: rng.normal(size=300) for name in "abc"}
    assert drift(before, after, 1) is None
    after["b"] += 0.6
    found = drift(before, after, 3)
    assert found is not None
    assert found.feature == "b"
    assert found.p <= found.level == pytest.approx(spent(3) / 3)
