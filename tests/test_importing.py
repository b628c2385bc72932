"""INSERT INTO octans.observations: what is refused, what is put as declared, what is not used."""

import math

import pytest
import session_world
from hypothesis import given
from hypothesis import strategies as st
from octans.errors import CatalogError, RunError
from octans.importing import matching
from octans.ir.models import KnobDomain, Variant, knobs_text
from octans.stats.imported import settings

COLUMNS = "subject, variant, knobs, device, batch, metric, statistic, value, ci_low, ci_high, n"
GOOD = {
    "subject": "guess",
    "variant": "guess.best",
    "knobs": "",
    "device": "cpu",
    "batch": 1,
    "metric": "latency",
    "statistic": "mean",
    "value": 0.01,
    "ci_low": None,
    "ci_high": None,
    "n": 30,
}
QUALITY = {"metric": "quality", "device": None, "batch": None, "value": 0.9}


@pytest.fixture
def session():
    with session_world.connect(measured=False) as session:
        yield session


def insert(session, *rows, columns=COLUMNS):
    """Insert rows that differ from `GOOD` in this; what the session answers."""
    names = columns.split(", ")
    values = ", ".join(f"({', '.join(sql((GOOD | row)[name]) for name in names)})" for row in rows)
    return session.sql(f"INSERT INTO octans.observations ({columns}) VALUES {values}")


def sql(value):
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"'{value}'::DOUBLE" if value == math.inf else repr(value)


def states(session):
    found = session.sql(
        "SELECT subject, variant, knobs, device, metric, state, reason FROM octans.statistics "
        "WHERE metric IS NOT NULL"
    ).fetchall()
    return {row[:5]: row[5:] for row in found}


@pytest.mark.parametrize(
    "target",
    [
        "memory.octans.observations",
        '"octans"."observations"',
        "OCTANS . Observations",
        "octans.observations AS o",
    ],
)
@pytest.mark.parametrize("before", ["", "WITH a AS (SELECT 1 AS b), c (d) AS (FROM a) "])
def test_however_the_table_is_named_its_rows_are_judged(session, target, before):
    session.sql("CREATE TABLE octans_observations (subject INTEGER)")
    columns = "(subject, metric, value)"
    with pytest.raises(CatalogError, match="has no statistic mean"):
        session.sql(f"{before}INSERT INTO {target} {columns} SELECT 'guess', 'rate', 0.5")
    session.sql(
        f"{before}INSERT INTO {target} BY NAME "
        "SELECT 'guess' AS subject, 'distinct' AS metric, 'share' AS statistic, 0.5 AS value"
    )
    assert states(session) == {("guess", None, "", None, "distinct"): ("fresh", None)}
    assert session.sql("FROM octans_observations").fetchall() == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"statistic": "p5"}, "no statistic p5"),
        ({"metric": "failure", "batch": None, "value": 0.1}, "no statistic mean"),
        ({"device": None}, "needs a device"),
        ({"variant": None, "batch": None}, "needs a variant and a batch"),
        (QUALITY | {"variant": None}, "needs a variant"),
        (QUALITY | {"batch": 4}, "has no batch"),
        (QUALITY | {"value": 1.2}, "no share"),
        (QUALITY | {"ci_low": 0.8, "ci_high": 1.2}, "at most 1"),
        ({"value": -1.0}, "not negative"),
        ({"ci_low": -0.1, "ci_high": 0.2}, "never negative"),
        ({"ci_low": 0.1, "ci_high": 0.2}, "below its ci_low"),
        ({"ci_low": 0.001, "ci_high": 0.002}, "above its ci_high"),
        ({"n": -1}, "not negative"),
        ({"batch": -1}, "at least one element"),
        ({"subject": None}, "its subject is NULL"),
        ({"value": None}, "its value is NULL"),
        ({"value": math.inf}, "it is finite"),
        ({"knobs": "accuracy = 1"}, "its knobs are accuracy = 1"),
        ({"knobs": "a := 1,"}, "its knobs are"),
    ],
)
def test_a_row_that_is_no_measurement_is_refused_with_all_others(session, wrong, why):
    with pytest.raises(CatalogError, match=why) as caught:
        insert(session, {}, wrong, {})
    assert caught.value.code == "OC0516"
    assert caught.value.message.startswith("row 2 ")
    assert not states(session)


def test_a_misspelt_statistic_is_told_what_is_near(session):
    with pytest.raises(CatalogError) as caught:
        insert(session, {"statistic": "p59"})
    assert "p50" in caught.value.candidates
    assert "p50" in caught.value.hint


def test_quantiles_of_one_call_rise(session):
    p50, p95 = {"statistic": "p50", "value": 9.0}, {"statistic": "p95", "value": 0.5}
    for rows in ((p50, p95), (p95, p50)):
        with pytest.raises(CatalogError, match=r"row 2 .* of row 1"):
            insert(session, *rows)
    insert(session, p50, p95 | {"batch": 2})
    insert(session, p50, p95 | {"value": 9.0})


def test_a_number_of_the_future_is_refused(session):
    """It would outrank all that is measured until then."""
    columns = "subject, variant, metric, statistic, value, n, measured_at"
    text = (
        f"INSERT INTO octans.observations ({columns}) SELECT 'answer', 'm.a', 'quality', 'mean', "
        "0.5, 10, now()::TIMESTAMP + INTERVAL "
    )
    with pytest.raises(CatalogError, match="in the future") as caught:
        session.sql(text + "8 HOUR")
    assert caught.value.code == "OC0516"
    assert "UTC" in caught.value.hint
    session.sql(text + "1 SECOND")


def test_numbers_of_a_run_that_is_not_here_are_planned_with(session):
    """They come with the number of a run of another catalog."""
    declared = "python('session_world:guess', accuracy := 0.9)"
    session.sql(f"CREATE VARIANT guess.elsewhere USING {declared}")
    columns = f"{COLUMNS}, run"
    row = {"variant": "guess.elsewhere", "run": 999_999}
    insert(session, row, row | QUALITY, columns=columns)
    text = session.sql("EXPLAIN SELECT guess(id) FROM numbers").text
    assert "no statistics: run ANALYZE MODEL guess" in " ".join(text.split())


def test_names_and_knobs_are_put_as_they_are_declared(session):
    """So that a plan finds what differs in case, blanks or digits."""
    shouted = {
        "subject": "GUESS",
        "variant": "Guess.Tuned",
        "knobs": " Accuracy:=0.920 ",
        "device": "CPU",
    }
    quantiles = [{"statistic": f"p{percent}"} for percent in (50, 90, 95, 99)]
    result = insert(session, *(shouted | each for each in ({}, *quantiles)))
    assert result.message is None
    insert(session, shouted | QUALITY | {"device": None})
    key = ("guess", "guess.tuned", "accuracy := 0.92")
    assert states(session) == {
        (*key, "cpu", "latency"): ("fresh", None),
        (*key, None, "quality"): ("fresh", None),
    }
    plan = session.sql("EXPLAIN SELECT guess(id) FROM numbers WITH SLO (latency_p95 <= 1 s)").text
    assert "VARIANT(guess guess.tuned accuracy=0.92)" in plan


def test_rows_that_nothing_declared_matches_are_kept_noted_and_unused(session):
    wrong = {
        "there is no device gpu": {"device": "gpu"},
        "there is no variant guess.new": {"variant": "guess.new"},
        "there is no model or pipeline gess": {"subject": "gess"},
        "refine.fast is no variant of guess": {"variant": "refine.fast"},
        "answer has no step last": {"subject": "answer.last"},
        "guess.best is no variant of refine": {"subject": "answer.again"},
        "guess.best has no knob depth": {"knobs": "depth := 3"},
        "guess.tuned does not declare accuracy := 0.5": {
            "variant": "guess.tuned",
            "knobs": "accuracy := 0.5",
        },
        "the knob accuracy of guess.tuned is not given": {"variant": "guess.tuned"},
        "no plan is made with latencies; did you mean latency?": {"metric": "latencies"},
    }
    for reason, row in wrong.items():
        result = insert(session, row, {})
        assert result.fetchall() == [(2,)]
        assert f"1 of 2 rows: {reason} (1)" in result.message
    found = states(session)
    assert found.pop(("guess", "guess.best", "", "cpu", "latency")) == ("fresh", None)
    assert {reason for _, reason in found.values()} == set(wrong)
    assert {state for state, _ in found.values()} == {"unused"}
    assert "10 of 11 rows" in insert(session, {}, *wrong.values()).message
    assert "not measured" in str(session.sql("SHOW VARIANTS OF guess").fetchall())


def test_what_is_declared_later_is_used_then(session):
    late = {"variant": "guess.late", "device": "h100"}
    insert(session, late, {"variant": "guess.late"} | QUALITY)
    session.sql("CREATE DEVICE h100 (KIND cuda, COUNT 1, MEMORY 80 GB, PRICE 2 USD PER HOUR)")
    session.sql("CREATE VARIANT guess.late USING python('session_world:guess', accuracy := 0.9)")
    assert set(states(session).values()) == {("fresh", None)}
    plan = session.explain("SELECT guess(id) FROM numbers")
    assert plan.totals.accuracy.value == 0.9


def test_what_octans_measured_may_be_imported_again(session):
    session.sql("CREATE STATISTICS pair (error_dependence) ON answer.first, answer.again")
    session.sql(
        "ANALYZE PIPELINE answer USING (SELECT id AS x, truth FROM numbers) "
        "LABELS (z := truth, first.y := truth, again.z := truth) SAMPLE 80"
    )
    count, metrics = session.sql(
        "SELECT count(*), count(DISTINCT metric) FROM octans.observations"
    ).fetchone()
    assert metrics >= 10
    result = session.sql(
        "INSERT INTO octans.observations BY NAME SELECT * EXCLUDE (id) FROM octans.observations"
    )
    assert result.fetchall() == [(count,)]
    assert result.message is None


def test_answers_of_models_are_judged_too(session):
    insert(session, {}, {} | QUALITY)
    query = "SELECT 'guess', 'quality', guess(id) FROM numbers WHERE id = 7"
    with pytest.raises(CatalogError, match="needs a variant"):
        session.sql(f"INSERT INTO octans.observations (subject, metric, value) {query}")
    own = "SELECT 'guess', 'likes', guess(id) FROM numbers WHERE id = 7"
    result = session.sql(f"INSERT INTO octans.observations (subject, metric, value) {own}")
    assert result.message.startswith("wrote 1 rows")
    assert "no plan is made with likes" in result.message


def test_what_duckdb_refuses_names_the_table_that_was_meant(session):
    with pytest.raises(RunError) as caught:
        session.sql("INSERT INTO octans.observations (subject, colour) SELECT 'guess', 'red'")
    assert caught.value.code == "OC0420"
    assert 'Table "octans.observations" does not have a column' in caught.value.message
    empty = session.sql(
        f"INSERT INTO octans.observations ({COLUMNS}) SELECT {COLUMNS} FROM octans.observations"
    )
    assert empty.fetchall() == [(0,)]


VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=8),
)


@given(
    st.dictionaries(st.from_regex(r"[a-z]( ?[a-z_0-9]){0,4}", fullmatch=True), VALUES, max_size=3)
)
def test_every_setting_is_read_as_it_is_written(values):
    knobs = tuple(sorted(values.items()))
    domains = tuple(KnobDomain(name, (value,)) for name, value in knobs)
    given_knobs = settings(knobs_text(knobs))
    assert given_knobs is not None
    assert matching(Variant("m", "v", None, knobs=domains), given_knobs) == knobs
