"""Stale is used and marked: what a number was measured of is compared with what is there now."""

import json
import os
import re

import octans
import pytest

WORDS = (
    "def make(factor=2):\n"
    "    return lambda batch: [factor * x for x in batch.column('x').to_pylist()]\n"
)
QUERY = "SELECT guess(id) FROM numbers"


def declare(session):
    session.sql(
        "SET progress = false;"
        "CREATE DEVICE cpu (KIND cpu, COUNT 1, THREADS 1);"
        "CREATE MODEL guess (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);"
        "CREATE VARIANT guess.a USING python('words.py:make');"
        "CREATE TABLE numbers AS SELECT range AS id, 2 * range AS truth FROM range(200);"
        "ANALYZE MODEL guess USING (SELECT id AS x, truth FROM numbers) LABELS (y := truth)"
    )


@pytest.fixture
def path(tmp_path):
    (tmp_path / "words.py").write_text(WORDS)
    with octans.connect(tmp_path / "c.duckdb", base_dir=tmp_path) as session:
        declare(session)
        assert stale(session) is None
    return tmp_path


def stale(session):
    """Why the one stage's statistics are stale; the note and the relation agree with it."""
    plan = session.explain(QUERY)
    (node,) = (node for node in plan.nodes if node.kind == "stage")
    shown = {row[0] for row in session.sql(
        "SELECT reason FROM octans.statistics WHERE subject = 'guess' AND metric = 'quality'"
    ).fetchall()}  # fmt: skip
    notes = [note for note in plan.notes if "stale" in note]
    assert bool(notes) == (node.stale is not None)
    if node.stale is not None:
        assert f"({node.stale}) and used all the same: run ANALYZE MODEL guess" in notes[0]
    assert node.choice.variant == "guess.a"
    return node.stale if shown == {None} or shown == {node.stale} else (node.stale, shown)


def test_a_changed_file_is_seen_at_once_and_used_until_measured_anew(path):
    (path / "words.py").write_text(WORDS.replace("factor * x", "x * factor"))
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        assert stale(session) == "guess.a: its files changed"
        text = session.sql(f"EXPLAIN {QUERY}").text
        assert "stale    guess.a: its files changed" in text
        document = json.loads(session.sql(f"EXPLAIN (FORMAT json) {QUERY}").text)
        assert [n["stale"] for n in document["nodes"] if n["kind"] == "stage"] == [
            "guess.a: its files changed"
        ]
        session.sql("ANALYZE MODEL guess USING (SELECT id AS x FROM numbers) LABELS (y := 2 * x)")
        assert stale(session) is None


def test_who_asks_the_relation_alone_sees_a_changed_file(path):
    (path / "words.py").write_text(WORDS.replace("factor * x", "x * factor"))
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        asked = "SELECT DISTINCT reason FROM octans.statistics WHERE metric = 'quality'"
        assert session.sql(asked).fetchall() == [("guess.a: its files changed",)]


def test_a_file_that_is_as_it_was_is_fresh_again(path):
    words = path / "words.py"
    words.write_text(WORDS + "\n")
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        assert stale(session) is not None
        words.write_text(WORDS)
        assert stale(session) is None


def test_a_file_that_was_only_touched_is_the_same(path):
    os.utime(path / "words.py", (1, 1))
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        assert stale(session) is None


def test_a_file_that_is_gone_is_a_change(path):
    (path / "words.py").unlink()
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        assert stale(session) == "guess.a: its files changed"


def test_another_library_is_a_change(path, monkeypatch):
    from octans.executor import artefacts

    monkeypatch.setattr(artefacts, "version", lambda name: "9.9")
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        assert str(stale(session)).endswith("to 9.9")


def test_another_device_is_a_change_for_what_was_measured_on_it(path):
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        session.sql("CREATE OR REPLACE DEVICE cpu (KIND cpu, COUNT 1, THREADS 2)")
        (node,) = (n for n in session.explain(QUERY).nodes if n.kind == "stage")
        assert node.stale == "device cpu changed"
        states = session.sql(
            "SELECT DISTINCT metric, state, reason FROM octans.statistics "
            "WHERE metric IN ('quality', 'latency') ORDER BY 1"
        ).fetchall()
        assert states == [("latency", "stale", "device cpu changed"), ("quality", "fresh", None)]


def test_age_is_the_session_s(path):
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        session.sql("SET max_statistics_age = 0 s")
        assert re.search(r"measured \d+ s ago", str(stale(session)))
        session.sql("SET max_statistics_age = NULL")
        assert stale(session) is None
        session.sql("RESET max_statistics_age")
        assert stale(session) is None


def test_show_statistics_tells_state_and_reason(path):
    (path / "words.py").write_text(WORDS + "#\n")
    with octans.connect(path / "c.duckdb", base_dir=path) as session:
        session.sql("CREATE VARIANT guess.b USING python('words.py:make')")
        shown = session.sql("SHOW STATISTICS FOR guess").arrow().to_pylist()
    assert {(row["variant"], row["state"], row["reason"]) for row in shown if row["variant"]} == {
        ("guess.a", "stale", "guess.a: its files changed"),
        ("guess.b", "missing", None),
    }
    assert all(row["age"] and row["n"] for row in shown if row["state"] == "stale")
