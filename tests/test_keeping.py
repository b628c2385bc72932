"""A query keeps its plan within noise, and leaves it for what is surely, or by far, better."""

from __future__ import annotations

import octans
import pytest

QUERY = "SELECT double(x) AS y FROM numbers"
SLO = " WITH SLO (accuracy >= 0.5)"


def function():
    """Doubles."""
    return lambda batch: [2 * x for x in batch.column("x").to_pylist()]


def measure(session, variant, seconds, apart=0.15, quality=0.9, batch=8):
    """Insert a measurement of many calls, known to a share `apart`: executions hardly move it."""
    rows = ", ".join(
        f"('double', '{variant}', 'cpu', {size}, '{metric}', '{statistic}', {value}, "
        f"{value * (1 - apart)}, {min(value * (1 + apart), top)}, 10000000)"
        for metric, statistic, size, value, top in (
            ("latency", "mean", batch, seconds, 1e9),
            ("latency", "p95", batch, seconds, 1e9),
            ("quality", "mean", "NULL", quality, 1.0),
        )
    )
    session.sql(
        "INSERT INTO octans.observations (subject, variant, device, batch, metric, statistic, "
        f"value, ci_low, ci_high, n) VALUES {rows}"
    )


@pytest.fixture
def session():
    with octans.connect() as made:
        made.sql(
            "CREATE MODEL double (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);"
            "CREATE VARIANT double.a USING python('test_keeping:function') BASE;"
            "CREATE VARIANT double.b USING python('test_keeping:function');"
            "CREATE DEVICE cpu (KIND cpu, COUNT 1, THREADS 1, PRICE 0.36 USD PER HOUR);"
            "CREATE TABLE numbers AS SELECT range AS x FROM range(100)"
        )
        measure(made, "double.a", 1.00)
        measure(made, "double.b", 1.20)
        yield made


def choice(session, query=QUERY + SLO):
    """What the query would run."""
    (found,) = (n.choice for n in session.explain(query).nodes if n.choice is not None)
    return found


def variant(session, query=QUERY + SLO):
    """Of the choice."""
    return choice(session, query).variant


def kept(session):
    """What EXPLAIN says of a plan that was kept."""
    return [note for note in session.explain(QUERY + SLO).notes if note.startswith("kept")]


def test_a_plan_stays_while_another_is_better_within_noise(session):
    session.sql(QUERY + SLO).fetchall()
    assert variant(session) == "double.a"
    assert kept(session) == []
    measure(session, "double.b", 0.95)
    assert variant(session) == "double.a"
    (note,) = kept(session)
    assert note == (
        "kept, as the query ran before: no other plan is surely better; double: double.b · batch 8 "
        "· cpu instead of double.a · batch 8 · cpu: cost $0.0000123 against $0.000013, −5.0 %: "
        "too close to tell"
    )
    assert session.sql(QUERY + SLO).plan.stages[0].choice.variant == "double.a"
    looser = f"{QUERY} WITH SLO (accuracy >= 0.4)"
    assert variant(session, looser) == "double.a", "the same query, whatever is asked of it"
    other = f"SELECT double(x) AS z FROM numbers{SLO}"
    assert variant(session, other) == "double.b", "it never ran"


def test_what_is_surely_better_is_taken(session):
    session.sql(QUERY + SLO).fetchall()
    measure(session, "double.a", 1.00, apart=0.001)
    measure(session, "double.b", 0.98, apart=0.001)
    assert variant(session) == "double.b"
    session.sql(QUERY + SLO).fetchall()
    measure(session, "double.a", 0.979, apart=0.001)
    assert variant(session) == "double.b"
    assert len(kept(session)) == 1


def test_what_looks_far_better_is_tried_however_unsure(session):
    session.sql(QUERY + SLO).fetchall()
    measure(session, "double.b", 0.85, apart=0.9)
    assert variant(session) == "double.b"


def test_a_plan_that_misses_a_limit_goes(session):
    session.sql(QUERY + SLO).fetchall()
    measure(session, "double.a", 1.00, quality=0.4)
    assert variant(session) == "double.b"


def test_a_plan_within_a_soft_margin_goes_for_one_that_needs_none(session):
    soft = f"{QUERY} WITH SLO (latency_p95 <= 1100 ms SOFT 30 %)"
    measure(session, "double.b", 1.30)
    session.sql(soft).fetchall()
    assert variant(session, soft) == "double.a"
    measure(session, "double.a", 1.15)
    measure(session, "double.b", 1.08)
    assert variant(session, soft) == "double.b"


def test_only_what_ran_is_kept(session):
    assert variant(session) == "double.a"
    measure(session, "double.b", 0.95)
    assert variant(session) == "double.b"


def test_a_plan_of_something_that_is_gone_is_not_kept(session):
    session.sql("CREATE VARIANT double.c USING python('test_keeping:function')")
    measure(session, "double.c", 0.9)
    session.sql(QUERY + SLO).fetchall()
    assert variant(session) == "double.c"
    session.sql("DROP VARIANT double.c")
    assert variant(session) == "double.a"


def test_advice_is_followed_and_its_plan_stays_within_noise(session):
    session.sql(QUERY + SLO).fetchall()
    advice = "VARIANT(double double.b)"
    session.sql(QUERY + SLO, advice=advice).fetchall()
    assert variant(session) == "double.a", "20 % apart"
    measure(session, "double.b", 1.05)
    assert variant(session) == "double.b"


def test_batch_sizes_stay_within_noise_where_nothing_has_a_price(session):
    session.sql("CREATE OR REPLACE DEVICE cpu (KIND cpu, COUNT 1, THREADS 1)")
    measure(session, "double.a", 1.00)
    measure(session, "double.b", 2.00)
    session.sql(QUERY + SLO).fetchall()
    measure(session, "double.a", 1.90, batch=16)
    assert (variant(session), choice(session).batch) == ("double.a", 8)
    (note,) = kept(session)
    assert "slot-seconds" in note
    measure(session, "double.a", 1.50, batch=16)
    assert choice(session).batch == 16
