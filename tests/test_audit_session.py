"""The rows that executions saw, unfiltered, audit what the next ANALYZE measures."""

from __future__ import annotations

import numpy as np
import octans
import pytest
from hypothesis import given
from hypothesis import strategies as st
from octans import analyzing
from octans.stats.audit import difference
from octans.stats.intervals import Interval, wilson

MODELS = """
import time

def exact():
    # dear, so that what is cheaper stays worth measuring
    def call(batch):
        time.sleep(2e-4 * batch.num_rows)
        return [2 * x for x in batch.column("x").to_pylist()]
    return call

def only_below(limit):
    return lambda batch: [2 * x if x < limit else -1 for x in batch.column("x").to_pylist()]
"""

WORLD = """
SET progress = false;
CREATE MODEL twice (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT twice.exact USING python('twice.py:exact') BASE;
CREATE VARIANT twice.below USING python('twice.py:only_below', "limit" := 400);
CREATE PIPELINE both (x BIGINT) RETURNS (z BIGINT) QUALITY exact_match(z) AS
BEGIN
  first := twice(x);
  again := twice(first) WHEN first < 700;
  RETURN COALESCE(again, first);
END;
CREATE TABLE low AS SELECT (range * 37) % 400 AS id FROM range(400);
CREATE TABLE whole AS SELECT (range * 37) % 800 AS id FROM range(800);
"""
LOW = "ANALYZE MODEL twice USING (SELECT id AS x FROM low)"
WHOLE = "ANALYZE MODEL twice USING (SELECT id AS x FROM whole)"
STALE = (
    "SELECT DISTINCT subject, variant, metric, reason FROM octans.statistics "
    "WHERE state = 'stale' AND reason LIKE 'shifted%' ORDER BY ALL"
)


@pytest.fixture
def session(tmp_path):
    (tmp_path / "twice.py").write_text(MODELS)
    with octans.connect(base_dir=tmp_path) as made:
        made.sql(WORLD)
        yield made


def agreements(session, statistic):
    rows = session.sql(
        "SELECT variant, value, ci_low, ci_high, n FROM octans.statistics "
        f"WHERE subject = 'twice' AND metric = 'agreement' AND statistic = '{statistic}'"
    ).fetchall()
    return {variant: rest for variant, *rest in rows}


def test_what_executions_saw_behind_a_filter_of_a_model_audits_the_next_analyze(session):
    """The filter passes only what the variants agree on; the audit rows are of before it."""
    session.sql(LOW)
    assert session.sql(STALE).fetchall() == []
    session.sql("SELECT id FROM whole WHERE twice(id) < 500").fetchall()
    told = session.sql(LOW).message
    assert "rows that executions saw were compared: 1 statistics shifted" in told
    seen, sampled = agreements(session, "mean(audit)"), agreements(session, "mean")
    assert set(seen) == set(sampled) == {"twice.below"}
    assert sampled["twice.below"][0] == 1.0
    value, low, high, n = seen["twice.below"]
    assert low < value < high
    assert (low, high, n) == (*map(pytest.approx, wilson(value * n, n)), 512)
    assert low < 0.5 < high, "half of the rows are at or above 400"
    ((subject, variant, metric, reason),) = session.sql(STALE).fetchall()
    assert (subject, variant, metric) == ("twice", "twice.below", "quality")
    assert reason.startswith("shifted: it agrees with BASE on ")
    assert "of 512 rows that executions saw" in reason
    shown = session.sql("SHOW STATISTICS FOR twice").arrow().to_pylist()
    assert any(row["reason"] == reason for row in shown)


def test_rows_like_those_analyzed_shift_nothing_and_are_looked_at_once(session):
    session.sql(WHOLE)
    session.sql("SELECT id FROM whole WHERE twice(id) < 500").fetchall()
    assert "compared: 0 statistics shifted" in session.sql(WHOLE).message
    assert session.sql(STALE).fetchall() == []
    assert agreements(session, "mean(audit)")
    assert "that executions saw" not in session.sql(WHOLE).message
    left = session.sql(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'audit\\_%' ESCAPE '\\'"
    ).fetchall()
    assert left == [(0,)]


def test_an_audit_replaces_no_measurement(session):
    """What ANALYZE measured counts; what the audit rows say stands beside it."""
    session.sql(LOW)
    session.sql("SELECT id FROM whole WHERE twice(id) < 500").fetchall()
    session.sql(LOW)
    quality = session.sql(
        "SELECT value, n FROM octans.statistics "
        "WHERE metric = 'quality' AND variant = 'twice.below'"
    ).fetchall()
    ((value, n),) = quality
    assert value == 1.0
    assert n < 512


def test_a_rate_that_shifted_is_stale_for_the_step_alone(session):
    analyze = "ANALYZE PIPELINE both USING (SELECT id AS x FROM low)"
    session.sql(analyze)
    session.sql("SELECT both(id) FROM whole").fetchall()
    session.sql(analyze)
    found = {(subject, metric) for subject, _, metric, _ in session.sql(STALE).fetchall()}
    assert ("both.again", "rate") in found
    assert ("both.first", "rate") not in found
    (reason,) = {
        r for s, _, m, r in session.sql(STALE).fetchall() if (s, m) == ("both.again", "rate")
    }
    assert reason.startswith("shifted: its WHEN is TRUE on ")


def test_a_step_behind_a_filter_of_a_model_replaces_no_statistic(session):
    """Both calls are of one model: the second sees only what the first let pass."""

    def known(filters=()):
        return {
            (o.metric, o.statistic, o.variant, o.batch): (o.value, o.n)
            for o in session.catalog.observations(filters=filters)
            if o.subject == "twice"
        }

    session.sql(WHOLE)
    before = known()
    session.sql("SELECT twice(2 * id) FROM whole WHERE twice(id) < 500").fetchall()
    (context,) = session.sql(
        "SELECT DISTINCT filter FROM octans.executions WHERE subject = 'twice'"
    ).fetchall()
    assert context != ("",)
    assert known() == before
    assert known(context) != before


def selectivities(session, filters=()):
    return sorted(
        (o.value, o.source)
        for o in session.catalog.observations(filters=filters)
        if o.subject.startswith("filter:")
    )


def test_a_filter_behind_another_is_measured_only_once_all_rows_reach_it(session):
    """A share of the rows that another filter passed is no share of all."""
    session.sql(WHOLE)
    both = "SELECT id FROM whole WHERE id < 200 AND twice(id) < 200"
    session.sql(both).fetchall()
    assert selectivities(session) == [(0.5, "modelled")]
    session.sql(both).fetchall()
    assert selectivities(session) == [(0.5, "modelled")]
    alone = session.sql("SELECT id FROM whole WHERE twice(id) < 200").fetchall()
    assert selectivities(session) == [(len(alone) / 800, "measured")]
    session.sql(both).fetchall()
    assert selectivities(session) == [(len(alone) / 800, "measured")]


def test_an_analyze_that_stops_early_leaves_the_audit_for_the_next(session):
    session.sql(LOW)
    session.sql("SELECT id FROM whole WHERE twice(id) < 500").fetchall()
    run = session.catalog.samples.run("twice", session.catalog.model("twice").version)
    session.sql(f"{LOW} BUDGET 1 us")
    assert session.catalog.audits.rows(run) is not None
    assert "compared: 1 statistics shifted" in session.sql(LOW).message


def test_a_budget_that_ends_in_the_audit_loses_no_measurement(session, monkeypatch):
    """What ANALYZE itself measured is done; the rows are compared by the next one."""
    from octans.stats import audit as module
    from octans.stats.meter import Stopped

    def spent(*_):
        raise Stopped("the budget of 1 s is used up")

    session.sql(LOW)
    session.sql("SELECT id FROM whole WHERE twice(id) < 500").fetchall()
    with monkeypatch.context() as patched:
        patched.setattr(module, "audit", spent)
        told = session.sql(LOW).message
    assert "rows that executions saw are not compared yet: the budget of 1 s is used up" in told
    assert session.sql("SELECT status FROM octans.runs WHERE kind = 'analyze'").fetchall() == [
        ("done",),
        ("done",),
    ]
    assert "compared: 1 statistics shifted" in session.sql(LOW).message


def test_an_audit_passes_no_budget_in_usd(session, monkeypatch):
    """What a choice costs is known by then: its 512 rows are no first run of unknown price."""
    from octans.stats import audit as module

    def little_left(request, over, skipped, meter, *rest):
        meter._limits = (None, meter.usd + 100.0)
        return audit(request, over, skipped, meter, *rest)

    audit = module.audit
    session.sql("SET prefix_store = 0 B")
    session.sql(LOW)
    session.sql("SELECT id FROM whole WHERE twice(id) < 500").fetchall()
    monkeypatch.setattr(analyzing, "pricer", lambda session: lambda _, run: float(run.elements))
    monkeypatch.setattr(module, "audit", little_left)
    assert "are not compared yet: about 300 USD are needed" in session.sql(LOW).message


SHARES = st.integers(0, 200)


@given(SHARES, SHARES)
def test_the_interval_of_a_difference_covers_it_and_is_antisymmetric(right, other):
    one = Interval(right / 200, *wilson(right, 200), 200)
    two = Interval(other / 200, *wilson(other, 200), 200)
    low, high = difference(one, two)
    assert low <= one.value - two.value <= high
    back = difference(two, one)
    assert back == pytest.approx((-high, -low))
    assert (low > 0 or high < 0) <= (right != other)


def test_the_interval_of_a_difference_is_newcombes():
    """Newcombe 1998, Statistics in Medicine 17, table II: 56/70 and 48/80, method 10."""
    one = Interval(56 / 70, *wilson(56, 70), 70)
    two = Interval(48 / 80, *wilson(48, 80), 80)
    assert difference(one, two) == (
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97, 0.995])
def test_equal_shares_differ_no_more_often_than_the_level_says(share):
    """At 99 %, 0.02 of 3,000 comparisons would be five standard errors too many."""
    rng = np.random.default_rng(1)
    alarms = 0
    for audited, sampled in rng.binomial([512, 750], share, size=(3000, 2)).tolist():
        one = Interval(audited / 512, *wilson(audited, 512, 0.99), 512)
        two = Interval(sampled / 750, *wilson(sampled, 750, 0.99), 750)
        low, high = difference(one, two)
        alarms += low > 0 or high < 0
    assert alarms / 3000 < 0.02
