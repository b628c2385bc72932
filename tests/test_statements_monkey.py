"""A user's mistake is an OctansError, never a traceback of somebody else's.

Statements that work are cut, doubled, spliced and misspelt, and run through a whole session, rows
read; whatever is raised has to be ours, with a code and a text, and InternalErrors are not allowed.
"""

import os
import random
import re

import pytest
import session_world
from octans.dsl.diagnostics import render
from octans.errors import InternalError, OctansError

SEEDS = (
    "SELECT id, answer(id) AS z FROM numbers WHERE k = 1 ORDER BY id LIMIT 3",
    "SELECT answer(id) FROM numbers WITH SLO (accuracy >= 0.9, latency_p95 <= 1 s) MINIMIZE cost",
    "SELECT k, sum(guess(id)) FROM numbers GROUP BY k HAVING sum(guess(id)) > 3 ON ERROR NULL",
    "SELECT a.id, refine(a.id, b.truth).z FROM numbers a JOIN numbers b USING (id) LIMIT 9",
    "SELECT CASE WHEN guess(id) > 3 THEN shout(name) ELSE 'x' END FROM numbers LIMIT 9",
    "WITH c AS (SELECT id, guess(id) AS y FROM numbers) SELECT max(y) FROM c WHERE y % 2 = 0",
    "SELECT picky(id) FROM numbers LIMIT 9",
    "SELECT picky(id) FROM numbers ON ERROR SKIP",
    "SELECT shout(name || 'ü') FROM numbers UNION ALL SELECT 'b' LIMIT 9",
    "SELECT guess(CAST(name AS BIGINT)) FROM numbers LIMIT 9",
    "SELECT guess(id / (id - 3)) FROM numbers LIMIT 9",
    "SELECT guess(x) FROM (VALUES (1), (NULL)) AS v(x)",
    "SELECT guess(id) OVER (ORDER BY id) FROM numbers",
    "SELECT list_transform([1, 2], lambda x: guess(x))",
    "SELECT guess(9223372036854775807)",
    "SELECT guess(id), * FROM numbers LIMIT 2",
    "SELECT DISTINCT guess(k) FROM numbers",
    "SELECT guess((SELECT max(id) FROM numbers))",
    "SELECT id FROM numbers WHERE EXISTS (SELECT 1 FROM numbers n WHERE guess(n.id) = 4)",
    "FROM numbers SELECT guess(id) LIMIT 1",
    "EXPLAIN SELECT answer(id) FROM numbers",
    "EXPLAIN (FORMAT json, ALTERNATIVES 2, STEPS) SELECT guess(id) FROM numbers",
    "EXPLAIN ANALYZE SELECT guess(id) FROM numbers WHERE k = 1",
    "EXPLAIN (WHY NOT guess.best, ADVICE 'VARIANT(guess cheap)') SELECT guess(id) FROM numbers",
    "COPY (SELECT guess(id) FROM numbers) TO '/dev/null' (FORMAT csv)",
    "CREATE OR REPLACE TABLE t AS SELECT id, guess(id) AS y FROM numbers WHERE k = 2",
    "INSERT INTO t SELECT id, guess(id) FROM numbers LIMIT 2",
    "CREATE OR REPLACE VIEW v AS SELECT id FROM numbers",
    "CREATE OR REPLACE MODEL m (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)",
    "CREATE OR REPLACE VARIANT guess.more USING python('session_world:guess', accuracy := 0.5)",
    "CREATE OR REPLACE VARIANT guess.knobs USING python('session_world:guess') KNOBS (a IN (1, 2))",
    "CREATE OR REPLACE DEVICE extra (KIND cpu, COUNT 1, MEMORY 1 GB, PRICE 1 USD PER HOUR)",
    "CREATE OR REPLACE SLO fine AS (accuracy >= 0.8, cost <= 1 USD) MINIMIZE latency",
    "CREATE OR REPLACE PIPELINE p (x BIGINT) RETURNS (y BIGINT) AS "
    "BEGIN a := guess(x); b := guess(a) WHEN a > 3; RETURN COALESCE(b, a); END",
    "ANALYZE MODEL shout USING (SELECT name AS t FROM numbers) SAMPLE 8 BUDGET 1 s",
    "ANALYZE PIPELINE answer USING (SELECT id AS x, truth FROM numbers) LABELS (z := truth) "
    "CLUSTER BY x % 3 SAMPLE 12",
    "INSERT INTO octans.observations (subject, variant, knobs, device, batch, metric, statistic, "
    "value, ci_low, ci_high, n, n_failed) SELECT 'guess', 'guess.cheap', '', 'cpu', 4, 'latency', "
    "'mean', 0.01, 0.01, 0.01, 10, 0",
    "SHOW MODELS",
    "SHOW STATISTICS FOR guess",
    "DESCRIBE guess.best",
    "DROP VARIANT IF EXISTS guess.more",
    "SET max_total_cost = 3 USD",
    "SET disabled_rules = 'order_filters, prune_calls'",
    "SET threads = 2",
    "RESET max_total_cost",
    "SELECT * FROM octans.plans",
    "SELECT 1; SELECT 2",
    "PIVOT numbers ON k USING sum(id)",
    "SUMMARIZE numbers",
    "PRAGMA table_info('numbers')",
    "CALL pragma_version()",
)
WORDS = (
    *("guess", "answer", "refine", "shout", "picky", "numbers", "id", "k", "name", "NULL", "-1"),
    *("1e400", "'", '"', "(", ")", ",", ";", "*", "::", "[]", "{}", "$1", "?", "EACH", "WHEN", "é"),
    *("WITH", "SLO", "accuracy", ">=", "0.9", "USD", "AT CONFIDENCE 0.95", "ON ERROR NULL", "SKIP"),
    *("octans.observations", "0", "''", "LIMIT", "ORDER BY", "GROUP BY ALL", "DISTINCT", "UNION"),
    *("CAST(name AS BIGINT)", "999999999999999999999", "DATE '2020-13-45'", "1/0", "unnest([1])"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """In a folder of its own: a COPY that went astray writes somewhere."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("monkey"))
    yield from connected()
    os.chdir(before)


def connected():
    with session_world.connect() as session:
        session.sql("CREATE TABLE t AS SELECT 1::BIGINT AS id, 2::BIGINT AS y")
        yield session


def tokens(text):
    return re.findall(r"\w+(?:\.\w+)*|'[^']*'|:=|<=|>=|\s+|.", text)


def mutated(rng):
    """A statement, with one to three accidents."""
    parts = tokens(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(parts))
        match rng.randrange(6):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, f" {rng.choice(WORDS)} ")
            case 2:
                parts[at] = rng.choice(WORDS)
            case 3:
                other = tokens(rng.choice(SEEDS))
                start = rng.randrange(len(other))
                parts[at:at] = other[start : start + rng.randint(1, 6)]
            case 4:
                parts = parts[: at + 1]
            case _:
                other = rng.randrange(len(parts))
                parts[at], parts[other] = parts[other], parts[at]
        parts = parts or ["SELECT"]
    return "".join(parts)


def raised(session, text):
    """Run and read it; the error for users that came out, if one did."""
    try:
        result = session.sql(text)
        if result.has_rows:
            result.arrow()
            assert result.to_text()
    except InternalError as error:
        pytest.fail(f"{text}\n{error}")
    except OctansError as error:
        return error
    return None


def behaves(session, text):
    """Only our errors for users may come out, and they can be drawn."""
    error = raised(session, text)
    if error is not None:
        assert re.fullmatch(r"OC0[1-5]\d\d", error.code), text
        assert error.message, text
        assert render(error).startswith(f"error[{error.code}]: "), text


@pytest.mark.parametrize("text", SEEDS)
def test_the_statements_themselves_behave(world, text):
    behaves(world, text)


@pytest.mark.parametrize("seed", range(10))
def test_mutated_statements_behave(world, seed):
    """Thirty each; some of them change what later ones find, which is part of the fun."""
    rng = random.Random(seed)
    for _ in range(30):
        behaves(world, mutated(rng))
    for setting in ("max_total_cost", "max_wall", "disabled_rules", "allow_priors", "seed"):
        world.sql(f"RESET {setting}")


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE octans.observations",
        "DROP TABLE IF EXISTS memory.octans.observations",
        "DROP SCHEMA octans CASCADE",
        "DROP SCHEMA IF EXISTS octans_internal CASCADE",
        "DELETE FROM octans.observations",
        "UPDATE octans_internal.runs SET id = 1",
        "TRUNCATE octans.observations",
        "ALTER TABLE octans.observations ADD COLUMN x INT",
        "CREATE OR REPLACE TABLE octans.observations AS SELECT 1",
        "CREATE OR REPLACE TABLE octans.observations AS SELECT guess(id) FROM numbers",
        "CREATE VIEW octans.models AS SELECT 1",
        "INSERT INTO octans_internal.runs VALUES (1)",
        "MERGE INTO octans.observations USING t ON true WHEN MATCHED THEN DELETE",
        "COPY octans.observations FROM 'x.csv'",
    ],
)
def test_nobody_changes_the_catalogs_own_tables(world, text):
    """Observations are append-only, definitions have statements of their own."""
    assert raised(world, text).code == "OC0321"


@pytest.mark.parametrize(
    "text",
    [
        "CREATE OR REPLACE TABLE mine AS SELECT * FROM octans.observations",
        "INSERT INTO mine SELECT * FROM octans.observations LIMIT 1",
        "COPY octans.observations TO '/dev/null' (FORMAT csv)",
        "SELECT count(*) FROM octans.plans",
    ],
)
def test_everybody_reads_them(world, text):
    assert raised(world, text) is None
