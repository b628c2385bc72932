"""What a promise is about: the held-back rows that pass a query's WHERE, or nothing at all."""

import pytest
import session_world
from octans.errors import BindError, PlanError

PROMISE = "WITH SLO (accuracy >= {} AT CONFIDENCE 0.95)"


def hard():
    """Right but on one branch, which holds a fifth of the rows."""
    return lambda batch: [2 * x + (x % 5 == 0) for x in batch.column("x").to_pylist()]


@pytest.fixture(scope="module")
def session():
    with session_world.connect(measured=False) as made:
        made.sql(
            "DROP PIPELINE answer; CREATE OR REPLACE MODEL guess (x BIGINT) RETURNS (y BIGINT) "
            "QUALITY exact_match(y); DROP VARIANT guess.cheap; DROP VARIANT guess.tuned; "
            "DROP VARIANT guess.best; CREATE VARIANT guess.v USING python('test_population:hard');"
            "CREATE TABLE rows AS SELECT range AS id, 2 * range AS truth, range % 5 AS branch, "
            "'blob'::BLOB AS picture FROM range(2000);"
            "ANALYZE MODEL guess USING (SELECT id AS x, truth, branch, picture FROM rows) "
            "LABELS (y := truth) SAMPLE 1200"
        )
        yield made


def guarantee(session, query, least=0.6):
    (verdict,) = session.explain(f"{query} {PROMISE.format(least)}").verdicts
    return verdict.guarantee


@pytest.mark.parametrize(
    "query",
    [
        "SELECT guess(id) FROM rows WHERE branch = 0",
        "SELECT guess(id) FROM rows WHERE id % 5 = 0",
        "SELECT guess(number) FROM (SELECT id AS number, branch FROM rows) WHERE branch < 1",
        "SELECT id FROM rows WHERE guess(id) > 3 AND branch = 0",
        "SELECT k FROM (SELECT branch + 1 AS k, guess(id) AS g FROM rows) WHERE k = 1 AND g > 2",
    ],
)
def test_what_holds_for_all_is_not_promised_of_the_hard_ones(session, query):
    """80 % of all rows are right and none of this branch: a promise of 60 % would be broken."""
    assert "proved on 300 held-back rows: " in guarantee(session, "SELECT guess(id) FROM rows")
    with pytest.raises(PlanError) as caught:
        guarantee(session, query)
    assert caught.value.code == "OC0315"


def test_what_holds_for_the_easy_ones_is_promised_of_them(session):
    """A proof of the easy branches counts only their rows, and names them."""
    found = guarantee(session, "SELECT guess(id) FROM rows WHERE branch > 0", 0.75)
    assert 'held-back rows WHERE "branch" > 0: 1.0000' in found


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT guess(id) FROM rows WHERE picture IS NULL", "picture is not kept"),
        ("SELECT guess(id) FROM (SELECT id FROM rows WHERE branch = 0)", "more than a table"),
        ("SELECT guess(r.id) FROM rows r JOIN rows s ON r.id = s.id", "more than a table"),
        ("SELECT guess(id) FROM (SELECT id FROM rows LIMIT 3)", "more than a table"),
        ("WITH t AS (SELECT * FROM rows WHERE branch = 0) SELECT guess(id) FROM t", "than a table"),
        ("SELECT guess(max) FROM (SELECT max(id) AS max FROM rows)", "more than a table"),
        ("SELECT guess(id) FROM rows WHERE branch::VARCHAR = '0' AND random() < branch", "RANDOM"),
        ("SELECT guess(id) FROM rows WHERE id IN (SELECT 3)", "WHERE"),
    ],
)
def test_rows_that_cannot_be_told_are_not_promised(session, query, says):
    with pytest.raises(BindError) as caught:
        guarantee(session, query)
    assert caught.value.code == "OC0241"
    assert says in str(caught.value)
    assert caught.value.span is not None


def test_a_column_of_another_type_is_another_column(session):
    with pytest.raises(BindError) as caught:
        guarantee(session, "SELECT guess(id) FROM (SELECT id, id::VARCHAR AS branch FROM rows) "
                  "WHERE branch = '0'")  # fmt: skip
    assert caught.value.code == "OC0241"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT guess(id) FROM rows WHERE random() >= 0", "rows: "),
        ("SELECT guess(id) FROM rows LIMIT 7", "rows, of all rows that LIMIT chooses from: "),
        ("SELECT CASE WHEN branch = 1 THEN guess(id) END FROM rows", "rows: "),
        ("WITH t AS (SELECT id FROM rows) SELECT guess(id) FROM t", "rows: "),
    ],
)
def test_what_takes_no_rows_out_of_the_question(session, query, text):
    assert f"proved on 300 held-back {text}" in guarantee(session, query)


def test_from_as_analyzed_is_the_whole_of_it(session):
    """USING drew from the same join: its rows are those the query asks about."""
    joined = "rows AS r JOIN (SELECT range AS b FROM range(3)) AS s ON r.branch = s.b"
    session.sql(
        f"ANALYZE MODEL guess USING (SELECT r.id AS x, r.truth FROM {joined}) "
        "LABELS (y := truth) SAMPLE 800"
    )
    found = guarantee(session, f"SELECT guess(r.id) FROM {joined}", 0.5)
    assert "proved on 200 held-back rows: " in found


def test_too_few_rows_of_a_kind_are_told_apart_from_too_few_rows(session):
    with pytest.raises(PlanError) as caught:
        guarantee(session, "SELECT guess(id) FROM rows WHERE id < 0")
    assert caught.value.code == "OC0316"
    assert "WHERE" in str(caught.value)
