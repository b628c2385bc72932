"""Mutated queries: never an untyped exception, and never an answer DuckDB would not give.

Tokens of the queries in `binding/queries.sql` are swapped, dropped and replaced by fragments with
calls; what binds is run by the naive interpreter and, its models being macros, by DuckDB.
"""

import random
from pathlib import Path

import duckdb
import pytest
from binding_catalog import MACROS, NAIVE, TABLES, demo_catalog
from naive import Naive
from octans.dsl import ast
from octans.dsl.binder import bind_select
from octans.dsl.parser import parse
from octans.dsl.tokens import tokenize
from octans.errors import BindError, SyntaxProblem

NAMES = (
    *("id", "k", "name", "d", "numbers", "kinds", "double", "is_even", "q", "n", "a", "x"),
    *("label", "xs", "lists", "1", "2", "0", "count", "sum", "quadruple", "shout"),
)
FRAGMENTS = (
    "double(id)",
    "is_even(k)",
    "quadruple(id)",
    "sum(double(id))",
    "count(*)",
    "(SELECT max(double(k)) FROM kinds)",
    "(SELECT max(k) FROM kinds)",
    "CASE WHEN is_even(id) THEN double(id) END",
    "id + 1",
    "rank() OVER (ORDER BY double(k))",
    "divide(id, 2).quotient",
    "COALESCE(NULL, double(id))",
    "id IN (SELECT double(k) FROM kinds)",
    "*",
    "numbers.*",
)
ENDLESS = ("RECURSIVE", "range (")
"""Mutated, these may never end."""


def corpus():
    """The queries as lists of tokens."""
    text = (Path(__file__).parent / "binding" / "queries.sql").read_text()
    lines = [[line[t.start : t.end + 1] for t in tokenize(line)] for line in text.splitlines()]
    return [words for words in lines if not any(word in " ".join(words) for word in ENDLESS)]


def mutated(words, every, rng):
    """One to three changes: a name for another, a fragment for a name, a token more or less."""
    words = list(words)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [i for i, word in enumerate(words) if word.lower() in NAMES]
        change = rng.randrange(5)
        if change < 3 and places:
            words[rng.choice(places)] = rng.choice(NAMES if change else FRAGMENTS)
        elif change == 3 and len(words) > 1:
            del words[rng.randrange(len(words))]
        else:
            words.insert(rng.randrange(len(words)), rng.choice(rng.choice(every)))
    return " ".join(words)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_queries_bind_to_what_they_mean(seed):
    """Wherever both we and DuckDB accept a query, the rows are the same."""
    rng, every = random.Random(seed), corpus()
    catalog, oracle = demo_catalog(), duckdb.connect()
    oracle.execute(TABLES)
    oracle.execute(MACROS)
    compared = 0
    for _ in range(400):
        text = mutated(rng.choice(every), every, rng)
        try:
            found = [s for s in parse(text) if isinstance(s, ast.Select)]
            bound = [bind_select(statement, catalog) for statement in found]
            expected = oracle.execute(text).fetchall()
        except (SyntaxProblem, BindError, duckdb.Error):
            continue
        if len(bound) == 1 and bound[0].calls and "LIMIT" not in text:
            rows = runs(Naive(catalog.connection, NAIVE), bound[0])
            if rows is not None:
                assert sorted(map(repr, rows)) == sorted(map(repr, expected)), text
                compared += 1
    assert compared > 10


def runs(naive, bound):
    """The rows; None when a model is handed values it cannot take."""
    try:
        return naive.rows(bound.plan)
    except (duckdb.DataError, duckdb.InvalidInputException, TypeError, ZeroDivisionError):
        return None
