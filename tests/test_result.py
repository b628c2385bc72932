"""Results: lazy, in every form, escaped where shown, honest about failures."""

import math
import sys

import pyarrow as pa
import pytest
from explain_samples import explained
from octans.boxes import _rounded
from octans.errors import RunError
from octans.ir.types import Field
from octans.result import HTML_ROWS, Result, unique_names

TABLE = pa.table({"id": [1, 2, 3], "name": ["a", None, "<b>"]})


def reader(rows=3, failing=None):
    """A stream that counts how often it is opened."""
    opened = []

    def source():
        opened.append(True)
        schema = pa.schema([("id", pa.int64())])
        batches = (pa.record_batch([pa.array([i])], schema=schema) for i in range(rows))
        return pa.RecordBatchReader.from_batches(schema, batches)

    return source, opened


def test_nothing_is_fetched_before_it_is_asked_for():
    source, opened = reader()
    result = Result(source, schema=(Field("id", "BIGINT"),))
    assert (result.columns, result.types) == (["id"], ["BIGINT"])
    assert opened == []
    assert result.fetchall() == [(0,), (1,), (2,)]
    assert result.arrow().num_rows == len(result) == 3
    assert opened == [True]


def test_batches_stream_once_and_say_so():
    source, opened = reader(5)
    result = Result(source)
    assert [batch.num_rows for batch in result.batches()] == [1] * 5
    with pytest.raises(RunError) as caught:
        result.arrow()
    assert caught.value.code == "OC0492"
    assert opened == [True]


def test_batches_may_be_asked_for_again_once_the_rows_are_kept():
    result = Result(TABLE)
    result.arrow()
    assert sum(batch.num_rows for batch in result.batches()) == 3
    assert sum(batch.num_rows for batch in result.batches()) == 3


def test_fetchone_walks_and_fetchall_takes_the_rest():
    result = Result(TABLE)
    assert result.fetchone() == (1, "a")
    assert result.fetchmany(1) == [(2, None)]
    assert result.fetchall() == [(3, "<b>")]
    assert result.fetchone() is None


def test_every_form_holds_the_same_rows():
    result = Result(TABLE)
    rows = TABLE.to_pydict()
    assert result.arrow().equals(TABLE)
    pytest.importorskip("polars")
    assert result.pl().to_dict(as_series=False) == rows
    pytest.importorskip("pandas")
    assert result.df()["id"].tolist() == rows["id"]
    assert list(result) == result.fetchall()


def test_duplicate_names_keep_their_columns():
    table = pa.table([[1], [2], [3]], names=["a", "a", "a_1"])
    result = Result(table)
    assert result.columns == ["a", "a", "a_1"]
    assert result.fetchall() == [(1, 2, 3)]
    assert unique_names(result.columns) == ["a", "a_1", "a_1_1"]
    assert "a_1" in result.to_text()


@pytest.mark.parametrize(("library", "call"), [("pandas", "df"), ("polars", "pl")])
def test_a_missing_library_names_the_extra(monkeypatch, library, call):
    monkeypatch.setattr("octans.result.find_spec", lambda name: None)
    with pytest.raises(RunError) as caught:
        getattr(Result(TABLE), call)()
    assert caught.value.code == "OC0491"
    assert library in caught.value.message
    assert "octans[notebook]" in caught.value.hint


def test_it_prints_as_duckdb_does():
    text = repr(Result(TABLE))
    assert text.startswith("┌")
    assert "int64" in text
    assert "NULL" in text


WIDE = pa.table(
    {
        "subject": [f"a pipeline with a long name.step {i}" for i in range(50)],
        "unit": ["per element of a list"] * 50,
        "nothing": pa.nulls(50, pa.string()),
        "value": [i / 7 for i in range(50)],
        "low": [i / 7e6 for i in range(50)],
        "reason": [f"for reasons that take long to tell, the {i}th" for i in range(50)],
        "n": list(range(50)),
        "source": [f"a file on a far machine, the {i}th" for i in range(50)],
        "remark": [f"nothing much to be said of {i}" for i in range(50)],
    }
)


@pytest.mark.parametrize("columns", [170, 120, 100, 80])
def test_a_narrow_box_leaves_no_number_out_and_says_what_it_hides(columns):
    """What has to go are texts; what is the same in all rows is said once."""
    text = Result(WIDE).to_text(max_width=columns)
    box = [line for line in text.splitlines() if line.startswith("│")]
    assert max(map(len, box)) <= columns
    head = [name.strip() for name in box[0].strip("│").split("│")]
    assert {"value", "low", "n"} <= set(head)
    assert "in all 50 rows: unit = per element of a list; nothing = NULL" in text
    assert "30 rows are hidden (--format csv has all" in text
    left_out = {"subject", "reason", "source", "remark"} - set(head)
    assert bool(left_out) == ("columns left out: " in text)
    assert all(name in text for name in left_out)


@pytest.mark.parametrize("rows", [45, 1_500_000])
def test_hidden_rows_are_counted(rows):
    """Whatever DuckDB's own account looks like: it wraps texts, and abbreviates large numbers."""
    table = pa.table({"n": range(rows), "text": pa.repeat("some long text " * 10, rows)})
    text = Result(table).to_text(max_width=80)
    assert f"{rows - 20:,} rows are hidden (--format csv has all" in text
    assert "hidden" not in Result(table.slice(0, 15)).to_text(max_width=80)


def test_what_fits_is_drawn_whole():
    text = Result(WIDE).to_text(max_rows=100, max_width=1000)
    assert str(6 / 7) in text
    assert "in all" not in text
    assert "hidden" not in text
    assert "left out" not in text
    assert "hidden" not in Result(WIDE.slice(0, 0)).to_text()


def test_failed_rows_are_told():
    result = Result(TABLE, failed=lambda: 2)
    assert "2 rows failed" in result.to_text()
    assert "2 rows failed" in result._repr_html_()
    assert Result(TABLE, failed=lambda: 0).to_text() == Result(TABLE).to_text()


def test_failed_rows_are_known_once_the_rows_were_read():
    counted = []
    source, _ = reader()
    result = Result(source, failed=lambda: len(counted))
    result.arrow()
    counted.append(1)
    assert result.failed_rows == 1


def test_a_message_is_all_ddl_has():
    result = Result(message="created model classify")
    assert repr(result) == "created model classify"
    assert (result.columns, result.fetchall(), result.has_rows) == ([], [], False)


def test_an_explanation_is_text_and_a_row():
    result = Result(text="Plan …", explain=explained)
    assert result.to_text() == "Plan …"
    assert result.fetchall() == [("Plan …",)]
    assert result.explain().startswith("Plan  MINIMIZE cost")
    assert result.explain("json").startswith("{")
    assert result.explain("html").startswith("<!DOCTYPE html>")
    with pytest.raises(ValueError, match="text, json or html"):
        result.explain("yaml")


def test_explaining_what_called_no_model_is_a_typed_error():
    with pytest.raises(RunError) as caught:
        Result(TABLE).explain()
    assert caught.value.code == "OC0493"


def test_html_is_escaped_and_cut():
    evil = "<script>alert(1)</script>"
    many = pa.table({evil: [evil + "x" * 1000] * (HTML_ROWS + 5)})
    html = Result(many)._repr_html_()
    assert "<script" not in html
    assert html.count("<tr>") == HTML_ROWS + 1
    assert f"{HTML_ROWS + 5} rows ({HTML_ROWS} shown)" in html
    assert "x" * 200 not in html


def test_html_of_an_explanation_cannot_leave_its_frame():
    html = Result(text="t", html=lambda: '<p class="a">"</p>')._repr_html_()
    assert '<p class="a">' not in html
    assert "&lt;p class=&quot;a&quot;&gt;" in html


def test_a_text_result_needs_neither_pandas_nor_rich():
    """EXPLAIN's way to the terminal stays light."""
    import subprocess

    code = (
        "import sys\nfrom octans.result import Result\nprint(Result(text='p').to_text())\n"
        "heavy = {'pandas', 'polars', 'rich', 'pyarrow', 'numpy', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_floats_of_a_narrow_box_are_those_that_four_digits_write():
    """Column by column, not value by value: a million rows take as long as reading them."""
    values = [0.0, 1.23456, -98765.4, 2.00005e-7, 0.3, 1e-300, 1.7e308, math.inf, -math.inf, None]
    table = pa.table({"double": values, "float": pa.array([1.23456, *[None] * 9], pa.float32())})
    rounded = _rounded(table)
    assert rounded.schema == table.schema
    *found, unknown = rounded["double"].to_pylist()
    assert found == pytest.approx([float(f"{v:.4g}") for v in values[:-1]], rel=1e-15)
    assert unknown is None
    assert rounded["float"].to_pylist() == [pytest.approx(1.235, rel=1e-6), *[None] * 9]
