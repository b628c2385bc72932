"""Samples, proofs, runs and plans are kept as they were given."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from octans.catalog_db.catalog import Catalog
from octans.errors import CatalogError
from octans.stats.promise import Proof


@pytest.fixture
def catalog():
    with Catalog.open() as opened:
        yield opened


def sample(offset: int = 0) -> pa.Table:
    return pa.table(
        {
            "__row": pa.array([offset + 2, offset, offset + 1], pa.int64()),
            "__role": ["search", "held_back", "held_back"],
            "__cluster": pa.array(["a", None, None], pa.string()),
            "glyph": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2)),
            "label: amount": pa.array([1, None, 3], pa.int64()),
        }
    )


def test_a_sample_comes_back_by_role_in_source_order_with_its_types(catalog):
    catalog.samples.save("p", 1, 7, sample())
    held = catalog.samples.load("p", 1, "held_back")
    assert held["__row"].to_pylist() == [0, 1]
    assert held["glyph"].to_pylist() == [[3.0, 4.0], [5.0, 6.0]]
    assert held.schema.field("glyph").type == pa.list_(pa.float32(), 2)
    assert held["label: amount"].to_pylist() == [None, 3]
    assert catalog.samples.load("P", 1)["__row"].to_pylist() == [0, 1, 2]
    assert catalog.samples.sizes("p", 1) == {"held_back": (2, 2), "search": (1, 1)}
    assert catalog.samples.run("p", 1) == 7


def test_the_newest_sample_of_a_version_is_kept(catalog):
    catalog.samples.save("p", 1, 7, sample())
    catalog.samples.save("p", 2, 8, sample(10))
    catalog.samples.save("p", 1, 9, sample(20))
    assert catalog.samples.load("p", 1)["__row"].to_pylist() == [20, 21, 22]
    assert catalog.samples.load("p", 2)["__row"].to_pylist() == [10, 11, 12]
    assert catalog.samples.run("p", 1) == 9
    tables = catalog.connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'sample\\_%' ESCAPE '\\'"
    ).fetchone()
    assert tables == (2,)


def test_no_sample_is_none_and_a_wrong_one_is_refused(catalog):
    assert catalog.samples.load("p", 1, "search") is None
    assert catalog.samples.sizes("p", 1) == {}
    assert catalog.samples.run("p", 1) is None
    with pytest.raises(CatalogError) as caught:
        catalog.samples.save("p", 1, 1, sample().drop_columns(["__cluster"]))
    assert caught.value.code == "OC0513"


def test_proofs_come_back_in_the_order_of_their_tests(catalog):
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    first = Proof("promise", "plan1", 1, 0.025, 400, 380.0, 0.93, False, at, 0.95)
    second = Proof("promise", "plan2", 2, 0.0125, 400, 395.5, 0.96, True, at, 0.95, "betting")
    other = Proof("another", "plan1", 1, 0.025, 10, 9.0, 0.5, False, at, 0.9)
    for proof in (second, other, first):
        catalog.record_proof(proof)
    assert catalog.proofs("promise") == [first, second]
    assert catalog.proofs("nothing") == []


def test_runs_are_noted_with_their_end(catalog):
    done = catalog.begin_run("select", "SELECT 1")
    failed = catalog.begin_run("analyze", "ANALYZE PIPELINE p")
    assert done != failed
    catalog.finish_run(done, rows=10, failed=1, usd=0.5, details={"wall": 1.5})
    catalog.finish_run(failed, status="failed", error="no")
    runs = catalog.show("runs").select("id, status, rows, failed, usd, error").fetchall()
    assert runs == [(done, "done", 10, 1, 0.5, None), (failed, "failed", None, None, None, "no")]


def test_a_plan_is_kept_when_it_changes_and_shows_its_last_result(catalog):
    def choose(fingerprint: str) -> int:
        return catalog.record_plan(
            fingerprint, "SELECT q", advice="BATCH(m 4)", reason="first", subjects=["p"],
            estimates={"cost": 0.5},
        )  # fmt: skip

    first = choose("aa")
    assert choose("aa") == first
    second = choose("bb")
    assert second != first
    assert choose("aa") not in (first, second)
    catalog.record_result(first, {"accuracy": 0.9})
    catalog.record_result(first, {"accuracy": 0.8}, run=3)
    shown = catalog.connection.execute("SELECT id, measured FROM octans.plans").fetchall()
    assert shown[0] == (first, '{"accuracy": 0.8}')
    assert [row[1] for row in shown[1:]] == [None, None]
