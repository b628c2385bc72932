"""A catalog file: two sessions of one process, another process, what a reopened one still knows."""

import os
import subprocess
import sys

import octans
import pytest
import session_world
from octans.errors import CatalogError, OctansError

QUERY = "SELECT answer(id) FROM numbers WITH SLO (accuracy >= 0.9)"


def test_a_reopened_catalog_plans_the_same(tmp_path):
    path = tmp_path / "c.duckdb"
    with session_world.connect(path) as session:
        session.sql("CREATE SLO fine AS (accuracy >= 0.9) MINIMIZE latency")
        plans = [
            session.explain(QUERY),
            session.explain(QUERY.split(" WITH")[0] + " WITH SLO fine"),
        ]
        rows = session.sql(QUERY).fetchall()
        observed = session.catalog.observations()
    with octans.connect(path) as session:
        assert session.catalog.observations() == observed
        assert [
            session.explain(plan.query + slo).fingerprint
            for plan, slo in zip(
                plans, (" WITH SLO (accuracy >= 0.9)", " WITH SLO fine"), strict=True
            )
        ] == [plan.fingerprint for plan in plans]
        assert session.sql(QUERY).fetchall() == rows
        assert session.sql("SELECT count(*) FROM octans.runs WHERE kind = 'query'").fetchall() == [
            (2,)
        ]
        assert session.sql(
            f"EXPLAIN (ADVICE '{plans[0].advice}') {QUERY}"
        ).explanation().fingerprint == (plans[0].fingerprint)


def test_proofs_and_samples_survive(tmp_path):
    path = tmp_path / "c.duckdb"
    promise = "SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.85 AT CONFIDENCE 0.95)"
    with session_world.connect(path, measured=False) as session:
        session.sql(
            "ANALYZE MODEL guess USING (SELECT id AS x, truth FROM numbers) LABELS (y := truth) "
            "SAMPLE 400"
        )
        plan = session.explain(promise).fingerprint
        count = session.sql("SELECT count(*) FROM octans.proofs").fetchone()
    with octans.connect(path) as session:
        assert session.explain(promise).fingerprint == plan
        assert session.sql("SELECT count(*) FROM octans.proofs").fetchone() == count


def test_two_sessions_share_declarations_and_tables_not_settings(tmp_path):
    path = tmp_path / "c.duckdb"
    with session_world.connect(path) as one, octans.connect(path) as two:
        assert two.explain(QUERY).fingerprint == one.explain(QUERY).fingerprint
        one.sql(
            "CREATE OR REPLACE VARIANT guess.cheap "
            "USING python('session_world:guess', accuracy := 0.81)"
        )
        assert two.explain(QUERY).notes == one.explain(QUERY).notes != ()
        one.sql(
            "SET max_total_cost = 0.000001 USD; SET VARIABLE v = 3; SET TimeZone = 'Asia/Tokyo'"
        )
        with pytest.raises(OctansError, match="max_total_cost"):
            one.sql(QUERY)
        assert len(two.sql(QUERY).fetchall()) == 400
        state = "SELECT getvariable('v') AS v, current_setting('TimeZone') AS zone"
        assert one.sql(state).fetchall() == [(3, "Asia/Tokyo")]
        assert two.sql(state).fetchall() != one.sql(state).fetchall()
        two.sql("CREATE TABLE made AS SELECT 1 AS x")
        assert one.sql("SELECT * FROM made").fetchall() == [(1,)]


def test_one_session_may_close_while_the_other_works(tmp_path):
    path = tmp_path / "c.duckdb"
    one = session_world.connect(path)
    with octans.connect(path) as two:
        one.close()
        assert len(two.sql(QUERY).fetchall()) == 400
    with pytest.raises(CatalogError, match="closed"):
        two.sql("SELECT 1")


def test_two_sessions_analyze_at_the_same_time(tmp_path):
    """What one makes visible for its run is not the other's."""
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "c.duckdb"
    with session_world.connect(path, measured=False) as one, octans.connect(path) as two:

        def analyze(session, model, column):
            session.sql(
                f"ANALYZE MODEL {model} USING (SELECT id AS x, name AS t, truth FROM numbers) "
                f"LABELS ({column}) SAMPLE 200"
            )

        with ThreadPoolExecutor(2) as pool:
            jobs = [
                pool.submit(analyze, one, "guess", "y := truth"),
                pool.submit(analyze, two, "shout", "loud := upper(t)"),
            ]
            for job in jobs:
                job.result()
        found = {o.variant: o.value for o in one.catalog.observations() if o.metric == "quality"}
        assert found["shout.only"] == 1.0
        assert 0.6 < found["guess.cheap"] < 0.95


def test_another_process_is_told_who_holds_the_file(tmp_path):
    path = tmp_path / "c.duckdb"
    with session_world.connect(path):
        code = (
            "import octans, octans.errors\n"
            f"try: octans.connect({str(path)!r})\n"
            "except octans.errors.CatalogError as error: print(error)"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    assert "OC0501" in told
    assert str(os.getpid()) in told


def test_statistics_stay_with_the_version_they_were_made_with(tmp_path):
    with session_world.connect() as session:

        def seen(version):
            return session.sql(
                "SELECT count(*) FROM octans.observations "
                f"WHERE variant = 'guess.best' AND coalesce(variant_version, 1) = {version}"
            ).fetchone()[0]

        before = seen(1)
        session.sql(
            "CREATE OR REPLACE VARIANT guess.best "
            "USING python('session_world:guess', accuracy := 0.98) BASE"
        )
        assert seen(1) == before
        assert seen(2) == 0
        assert any("guess.best has no statistics" in note for note in session.explain(QUERY).notes)
        assert not [o for o in session.catalog.observations() if o.variant == "guess.best"]
