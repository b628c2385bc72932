"""ANALYZE … SEARCH after files changed: the plan it names rests on numbers of what is there now."""

import re

import octans
import pytest

CODE = """
import time
def make(right, wait):
    def call(batch):
        time.sleep(wait * batch.num_rows)
        return [2 * x + (x % 100 >= right) for x in batch.column('x').to_pylist()]
    return call
"""
VARIANTS = (("good", 100, 4e-4), ("fair", 93, 1e-4), ("close", 92, 1e-4), ("poor", 50, 1e-5))
SEARCH = """ANALYZE MODEL m USING (SELECT id AS x, truth FROM numbers) LABELS (y := truth)
SAMPLE 400 {budget} SEARCH WITH SLO (accuracy >= 0.8) MINIMIZE cost"""


@pytest.fixture
def session(tmp_path):
    with octans.connect(tmp_path / "c.duckdb", base_dir=tmp_path) as session:
        session.sql("SET progress = false; CREATE DEVICE cpu (KIND cpu, PRICE 1 USD PER HOUR)")
        session.sql("CREATE MODEL m (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)")
        for name, right, wait in VARIANTS:
            (tmp_path / f"{name}.py").write_text(CODE)
            session.sql(
                f"CREATE VARIANT m.{name} USING "
                f"python('{name}.py:make', right := {right}, wait := {wait})"
            )
        session.sql("CREATE TABLE numbers AS SELECT range AS id, 2 * range AS truth "
                    "FROM range(2000)")  # fmt: skip
        yield session


def searched(session, budget=""):
    return session.sql(SEARCH.format(budget=budget)).message


def named(message):
    return re.search(r"best plan(?: so far)?: VARIANT\(m (\S+)\)", message)[1]


def explained(session):
    query = "EXPLAIN SELECT m(id) FROM numbers WITH SLO (accuracy >= 0.8) MINIMIZE cost"
    return session.sql(query).text


def changed(tmp_path, code, *names):
    for name in names:
        (tmp_path / f"{name}.py").write_text(code)


def test_a_plan_that_stale_numbers_make_look_good_is_measured_again(session, tmp_path):
    assert named(searched(session)) in {"m.fair", "m.close"}
    changed(tmp_path, CODE.replace(">= right", ">= right - 80"), "fair", "close")
    changed(tmp_path, CODE + "# as before\n", "good", "poor")
    message = searched(session)
    assert named(message) == "m.good"
    assert "m.good" in explained(session)
    assert "stale" not in explained(session)
    assert re.search(r"by stale statistics \(m.\w+: its files changed\) a query would", message)
    assert "statistics of m are stale" not in message


def test_what_cannot_be_measured_again_is_not_named(session, tmp_path):
    assert named(searched(session)) in {"m.fair", "m.close"}
    changed(tmp_path, "raise ImportError('gone')", "fair", "close")
    message = searched(session)
    assert "measured again in vain: variant m." in message
    assert named(message) == "m.good"
    assert "m.good" in explained(session)


def test_a_plan_that_no_budget_is_left_for_is_marked(session, tmp_path):
    searched(session)
    changed(tmp_path, CODE + "# as before\n", *(name for name, *_ in VARIANTS))
    message = searched(session, "BUDGET 0.000001 USD")
    assert re.search(r"note: statistics of m are stale \(m.\w+: its files changed\)", message)
