"""Local data frames as tables: as DuckDB finds them, and anew with every statement."""

import octans
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
import session_world
from octans.errors import OctansError

QUERY = "SELECT guess(id) AS y FROM frame WITH SLO (accuracy >= 0.95)"


@pytest.fixture(scope="module")
def world():
    with session_world.connect() as session:
        yield session


@pytest.mark.parametrize(
    "make",
    [
        pd.DataFrame,
        pl.DataFrame,
        pa.table,
        pa.record_batch,
        lambda data: pl.DataFrame(data).lazy(),
        lambda data: pyarrow.dataset.dataset(pa.table(data)),
        lambda data: pa.table(data).to_reader(),
    ],
    ids=["pandas", "polars", "table", "batch", "lazy", "dataset", "reader"],
)
@pytest.mark.parametrize("query", [QUERY, "SELECT 2 * id AS y FROM frame"])
def test_every_kind_of_frame_is_a_table(world, make, query):
    frame = make({"id": [3, 5]})
    assert frame is not None
    assert world.sql(query).fetchall() == [(6,), (10,)]


def test_a_reader_can_be_read_once_and_says_so(world):
    frame = pa.table({"id": [3]}).to_reader()
    assert world.sql(QUERY).fetchall() == [(6,)]
    with pytest.raises(OctansError, match="already been consumed"):
        world.sql(QUERY).fetchall()
    assert frame is not None


def test_a_changed_frame_is_seen_anew_and_old_results_keep_theirs(world):
    frame = pa.table({"id": [3]})
    first = world.sql(QUERY)
    frame = pa.table({"id": [5, 6]})
    second = world.sql(QUERY)
    assert first.fetchall() == [(6,)]
    assert second.fetchall() == [(10,), (12,)]
    assert frame.num_rows == 2


def test_a_frame_that_is_gone_is_unknown(world):
    frame = pa.table({"id": [3]})
    assert world.sql(QUERY).fetchall() == [(6,)]
    del frame
    with pytest.raises(OctansError, match="unknown table frame") as caught:
        world.sql(QUERY)
    assert caught.value.code == "OC0202"
    with pytest.raises(OctansError, match="frame does not exist"):
        world.sql("SELECT * FROM frame")


def test_the_innermost_scope_wins(world):
    frame = pa.table({"id": [3]})

    def inner():
        frame = pa.table({"id": [5]})
        assert frame.num_rows == 1
        return world.sql(QUERY).fetchall()

    def outer():
        return world.sql(QUERY).fetchall()

    assert inner() == [(10,)]
    assert outer() == [(6,)]
    assert frame.num_rows == 1


def test_a_real_table_wins_over_a_frame(world):
    frame = pa.table({"id": [3]})
    assert world.sql(QUERY).fetchall() == [(6,)]
    world.sql("CREATE TABLE frame AS SELECT 5 AS id")
    try:
        assert world.sql(QUERY).fetchall() == [(10,)]
    finally:
        world.sql("DROP TABLE frame")
    assert world.sql(QUERY).fetchall() == [(6,)]
    assert frame.num_rows == 1


def test_a_table_expression_wins_over_a_frame(world):
    frame = pa.table({"id": [3]})
    assert world.sql(f"WITH frame AS (SELECT 5 AS id) {QUERY}").fetchall() == [(10,)]
    assert frame.num_rows == 1


def test_frames_in_every_statement_that_reads(world, tmp_path):
    frame = pa.table({"id": [3, 5], "truth": [6, 10]})
    assert world.explain(QUERY).totals.rows.value == 2
    assert "guess" in world.sql(f"EXPLAIN {QUERY}").fetchone()[0]
    target = tmp_path / "out.parquet"
    world.sql(f"COPY ({QUERY}) TO '{target}'")
    assert world.sql(f"SELECT y FROM '{target}'").fetchall() == [(6,), (10,)]
    world.sql(f"CREATE OR REPLACE TABLE kept AS {QUERY}")
    world.sql("INSERT INTO kept SELECT id FROM frame")
    assert world.sql("SELECT sum(y) FROM kept").fetchall() == [(24,)]
    world.sql("ANALYZE MODEL shout USING (SELECT 'a' || id AS t FROM frame)")
    assert frame.num_rows == 2


def test_unusual_names_and_values(world):
    frame = pl.DataFrame({"x y": [1, None], "Ü": ["straße", "日本"]})
    rows = world.sql('SELECT "x y", guess("x y"), shout("Ü") FROM frame').fetchall()
    assert [row[2] for row in rows] == ["STRASSE", "日本"]
    assert rows[1][:2] == (None, None)
    assert frame.height == 2


def test_a_frame_of_one_session_is_not_anothers(tmp_path):
    """Two sessions of one file share tables, not frames."""
    with octans.connect(tmp_path / "c.duckdb") as one, octans.connect(tmp_path / "c.duckdb") as two:
        frame = pa.table({"id": [3]})
        assert one.sql("SELECT * FROM frame").fetchall() == [(3,)]
        del frame
        with pytest.raises(OctansError):
            two.sql("SELECT * FROM frame")
