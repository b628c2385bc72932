"""ANALYZE … SEARCH through a session: what it leaves, and what it and the next one cost."""

import re

import octans
import pytest
import session_world
from octans.errors import OctansError
from search_world import ROWS, named, search


@pytest.fixture
def session():
    with session_world.connect(measured=False) as session:
        yield session


def test_searches_leave_histories(session):
    """The second one starts from the first one's, and still finds a plan."""
    for count in (1, 2):
        session.sql(f"SET seed = {count}")
        message = search(session, "MODEL guess", "(accuracy >= 0.9)").message
        assert "best plan: " in message
        found = session.sql("SELECT count(*) FROM octans_internal.histories").fetchall()
        assert found == [(count,)]
        told = re.search(r"warmed (?:at first )?by 1 history of similar searches", message)
        assert bool(told) == (count == 2)
    slo = r"\(accuracy >= 0.9\) MINIMIZE cost"
    assert re.search(rf"history of guess, (.* ago|just now), \d+ plans, {slo}: weight", message)


def test_what_a_history_saw_of_other_files_does_not_count(tmp_path):
    """The definition is as it was, the file is not; one that is again as it was counts again."""
    code = "def make(right):\n    return lambda b: [2 * x + (x % 10 >= right)"
    code += " for x in b.column('x').to_pylist()]\n"
    for name in ("good", "fair", "poor"):
        (tmp_path / f"{name}.py").write_text(code)
    with octans.connect(tmp_path / "c.duckdb", base_dir=tmp_path) as session:
        session.sql("SET progress = false; CREATE DEVICE cpu (KIND cpu, PRICE 1 USD PER HOUR)")
        session.sql("CREATE MODEL m (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)")
        for name, right in (("good", 10), ("fair", 9), ("poor", 5)):
            session.sql(f"CREATE VARIANT m.{name} USING python('{name}.py:make', right := {right})")
        session.sql("CREATE TABLE numbers AS SELECT range AS id, 2 * range AS truth, 0 AS book "
                    "FROM range(400)")  # fmt: skip

        def histories():
            search(session, "MODEL m", "(accuracy >= 0.8)")
            return session.catalog.histories.load([1])[0]

        def shown():
            asked = session.sql("SELECT id, state, reason FROM octans.histories ORDER BY id")
            return asked.fetchone()

        first = histories()
        assert shown() == (1, "fresh", None)
        assert {o.choice.version for stage in first.options for o in stage} == {1}
        assert first.changed == ()
        (tmp_path / "good.py").write_text(code + "# as before, but for this line\n")
        message = search(session, "MODEL m", "(accuracy >= 0.8)").message
        assert "history of m, " in message
        assert "not counted: files changed since: m.good" in message
        (one,) = session.catalog.histories.load([1])
        assert one.changed == ("m.good",)
        assert shown() == (1, "stale", "m.good: its files changed")
        counted = {o.choice.variant for s in one.options for o in s if o.choice.version == 1}
        assert counted == {"m.fair", "m.poor"}
        for name in ("fair", "poor"):
            (tmp_path / f"{name}.py").write_text(code + "\n")
        message = search(session, "MODEL m", "(accuracy >= 0.8)").message
        assert "left out (files changed since: m.fair, m.good, m.poor)" in message
        changed = [f"m.{name}: its files changed" for name in ("fair", "good", "poor")]
        assert shown() == (1, "unused", "; ".join(changed))
        for name in ("good", "fair", "poor"):
            (tmp_path / f"{name}.py").write_text(code)
        assert histories().changed == ()
        assert shown() == (1, "fresh", None)


def test_histories_can_be_looked_at(session):
    """What of, what for, what they saw, what came of it, and whether they can warm a search."""
    assert session.sql("SHOW HISTORIES").fetchall() == []
    message = search(session, "MODEL guess", "(accuracy >= 0.9)").message
    (row,) = session.sql("SHOW HISTORIES").arrow().to_pylist()
    assert (row["id"], row["subject"], row["rows"]) == (1, "guess", 300)
    assert row["slo"] == "(accuracy >= 0.9) MINIMIZE cost"
    assert row["plans"] == int(re.search(r"plans: (\d+) profiled", message)[1])
    assert row["age"].endswith(" s")
    assert (row["state"], row["reason"]) == ("fresh", None)
    plan = session.explain("SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.9)")
    assert row["best"] == plan.advice == named(message)
    for metric in ("accuracy", "cost"):
        known = plan.totals.metric(metric)
        told = [row[metric + end] for end in ("", "_low", "_high", "_n")]
        assert told == pytest.approx([known.value, known.low, known.high, known.n])
    search(session, "MODEL guess", "(accuracy >= 0.9999)")
    *_, (best, n) = session.sql("SELECT best, cost_n FROM octans.histories ORDER BY id").fetchall()
    assert (best, n) == (None, None), "no query gets a plan"
    session.sql("CREATE OR REPLACE VARIANT guess.cheap USING "
                "python('session_world:guess', accuracy := 0.8)")  # fmt: skip
    session.sql("DROP VARIANT guess.tuned")
    states = session.sql("SELECT DISTINCT state, reason FROM octans.histories").fetchall()
    assert states == [
        ("stale", "guess.cheap was defined anew; there is no variant guess.tuned"),
    ]
    session.sql("DROP VARIANT guess.best")
    states = session.sql("SELECT DISTINCT state FROM octans.histories").fetchall()
    assert states == [("unused",)]
    assert (
        "left out (defined anew since: guess.cheap)"
        in search(session, "MODEL guess", "(accuracy >= 0.9)").message
    )


def test_a_pipeline_never_profiled_has_a_price(session):
    """EXPLAIN says what finding a plan would take, from priors, and what bounds it."""
    query = "EXPLAIN SELECT answer(id) FROM numbers WITH SLO (accuracy >= 0.9)"

    def notes():
        with pytest.raises(OctansError) as caught:
            session.sql(query)
        assert caught.value.code == "OC0310"
        return "\n".join(caught.value.notes)

    assert "what finding one of" in notes()
    assert "is unknown: nothing says how long guess.best" in notes()
    for model, variant in (("guess", "best"), ("refine", "fast")):
        session.sql(
            f"CREATE OR REPLACE VARIANT {model}.{variant} USING "
            f"python('session_world:{model}', accuracy := 0.9) PRIOR (latency 3 ms)"
        )
    assert re.search(r"would take some \S+ m?s \[.*\] of models and \$[0-9.e-]+ \[", notes())
    assert "choices priced: 4 prior; 8 more taken to be like these" in notes()
    session.sql("SET max_profiling_cost = 2 USD")
    assert "max_profiling_cost bounds it at 2 USD" in notes()


def test_a_search_can_be_priced_without_running(session):
    """A dry run says of ANALYZE … SEARCH what OC0310 does, for its own SAMPLE and BUDGET."""
    analyze = f"ANALYZE MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE {{}}{{}}"
    goal = " SEARCH WITH SLO (accuracy >= 0.9)"
    session.sql(
        "CREATE OR REPLACE VARIANT guess.best USING "
        "python('session_world:guess', accuracy := 0.9) BASE PRIOR (latency 3 ms)"
    )
    few, many, plain = session.quotes(
        "; ".join(
            [
                analyze.format(40, goal),
                analyze.format(4000, " BUDGET 5 s, 2 USD" + goal),
                analyze.format(40, ""),
            ]
        )
    )
    assert "would take some 180 ms [" in few[1][0]
    assert "would take some 18.0 s [" in many[1][0]
    assert many[1][1] == "its BUDGET ends it after 5 s or 2 USD"
    assert plain[1] == ("what measuring every choice would take is not estimated",)
    assert session.sql("SELECT count(*) FROM octans.runs WHERE kind = 'analyze'").fetchone() == (0,)


def test_a_search_prices_other_pipelines(session):
    """What a search saw of a model is what the next pipeline of it is priced by."""
    search(session, "MODEL guess", "(accuracy >= 0.9)")
    session.sql(
        "CREATE PIPELINE twice (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y) AS BEGIN "
        "a := guess(x); b := picky(a); RETURN b; END"
    )
    with pytest.raises(OctansError) as caught:
        session.sql("EXPLAIN SELECT twice(id) FROM numbers WITH SLO (accuracy >= 0.9)")
    (line,) = [note for note in caught.value.notes if "finding" in note]
    assert "picky.only" in line


def test_what_was_replaced_has_no_price(session):
    """The times of an earlier definition are those of something else."""
    query = "EXPLAIN SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.9)"
    search(session, "MODEL guess", "(accuracy >= 0.9)")
    for variant in session.catalog.variants("guess"):
        base = "BASE" if variant.base else ""
        session.sql(
            f"CREATE OR REPLACE VARIANT {variant.full_name} USING "
            f"python('session_world:guess', accuracy := 0.9) {base}"
        )
    with pytest.raises(OctansError) as caught:
        session.sql(query)
    (line,) = [note for note in caught.value.notes if "finding" in note]
    assert "is unknown: nothing says how long guess." in line
