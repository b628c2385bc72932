"""A bound query means what DuckDB means: every query of `binding/queries.sql` is run twice.

Once by DuckDB, the models being macros; once by binding it and interpreting the plan row by row.
"""

from pathlib import Path

import duckdb
import pytest
from binding_catalog import MACROS, NAIVE, TABLES, demo_catalog
from naive import Naive
from octans.dsl.binder import bind_select
from octans.dsl.parser import parse_one

QUERIES = (Path(__file__).parent / "binding" / "queries.sql").read_text().splitlines()


@pytest.fixture(scope="module")
def catalog():
    return demo_catalog()


@pytest.fixture(scope="module")
def oracle():
    connection = duckdb.connect()
    connection.execute(TABLES)
    connection.execute(MACROS)
    return connection


@pytest.mark.parametrize("query", QUERIES)
def test_plan_gives_the_rows_duckdb_gives(query, catalog, oracle):
    """Rows, their order, and the visible types."""
    bound = bind_select(parse_one(query), catalog)
    assert bound.calls
    rows = Naive(catalog.connection, NAIVE).rows(bound.plan)
    expected = oracle.execute(query).fetchall()
    if "ORDER BY" not in query:
        rows, expected = sorted(rows, key=repr), sorted(expected, key=repr)
    assert rows == expected
    described = oracle.execute(f"DESCRIBE {query}").fetchall()
    assert [f.type for f in bound.fields] == [row[1] for row in described]


@pytest.mark.parametrize("query", QUERIES)
def test_columns_of_a_node_are_named_apart(query, catalog):
    """Rules and the executor find columns by name."""
    for node in bind_select(parse_one(query), catalog).plan.postorder():
        names = [field.name.lower() for field in node.schema]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("query", QUERIES)
def test_binding_twice_gives_the_same_plan(query, catalog):
    """A plan's fingerprint is a key of the plan history."""
    first, second = (bind_select(parse_one(query), catalog) for _ in range(2))
    assert first.plan.fingerprint == second.plan.fingerprint
