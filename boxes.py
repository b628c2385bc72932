"""Rows as a box of text, as DuckDB draws it, that leaves no number out while text can give way.

DuckDB leaves out the columns in the middle where a box is too wide, whatever they hold. Before it
has to, in this order and only as far as needed: what is the same in all rows is said once below,
floats are rounded and texts cut, and text columns are left out from the last on and named below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from .planner.explain.layout import clean

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

SIGNIFICANT = 4
"""Digits of a float in a box that is too wide (our choice: one more than EXPLAIN shows)."""
CUT = 10
"""Columns to which a value is cut at most: a rounded float and its sign fit (our choice)."""
ELSEWHERE = "--format csv has all; in Python, .arrow()"


def box(table: pa.Table, max_rows: int | None, max_width: int | None) -> str:
    """The rows and what is said below them; column names must differ."""
    drawn, notes = "", [""]
    for shown, notes, cut in _ways(table):  # noqa: B007 -- of the last one, what was said
        drawn = _drawn(shown, max_rows, max_width, cut)
        if _whole(drawn):
            break
    return "\n".join([drawn, *notes, *_hidden(drawn, table.num_rows)])


def _ways(table: pa.Table) -> Iterator[tuple[pa.Table, list[str], int | None]]:
    """From the whole to ever less: the columns to draw, what to say of others, where to cut."""
    yield table, [], None
    same = _same(table)
    shown = table.drop_columns(list(same)) if len(same) < table.num_columns else table
    notes = []
    if same and shown is not table:
        constants = "; ".join(f"{clean(name)} = {text}" for name, text in same.items())
        notes = [f"in all {table.num_rows:,} rows: {constants}"]
    yield shown, notes, None
    rounded = _rounded(shown)
    yield rounded, notes, CUT
    left_out: list[str] = []
    for name in reversed(_texts(shown)):
        left_out.insert(0, clean(name))
        rounded = rounded.drop_columns([name])
        if rounded.num_columns:
            yield rounded, [*notes, f"columns left out: {', '.join(left_out)} ({ELSEWHERE})"], CUT


def _drawn(table: pa.Table, max_rows: int | None, max_width: int | None, cut: int | None) -> str:
    text = StringIO()
    with redirect_stdout(text):
        relation(table).show(max_rows=max_rows, max_width=max_width, max_col_width=cut)
    return text.getvalue().rstrip("\n")


def relation(table: pa.Table) -> duckdb.DuckDBPyRelation:
    """A DuckDB relation over a table, for its types and its printing."""
    import duckdb

    return duckdb.connect().from_arrow(table)


def _whole(drawn: str) -> bool:
    """Are all columns in the box? DuckDB puts a column of `…` in the place of others."""
    lines = drawn.splitlines()
    return len(lines) < 3 or "│ … │" not in lines[2]


def _same(table: pa.Table) -> dict[str, str]:
    """The one value of each column that has but one in all of several rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, str] = {}
    if table.num_rows < 2:
        return found
    types = pa.types
    compared = (types.is_integer, types.is_floating, types.is_boolean, types.is_string)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count == table.num_rows:
            found[name] = "NULL"
        elif not column.null_count and any(plain(column.type) for plain in compared):
            first = column[0]
            if pc.all(pc.equal(column, first)).as_py():
                value = first.as_py()
                found[name] = clean(str(value)) if value != "" else "''"
    return found


def _rounded(table: pa.Table) -> pa.Table:
    """Floats with so many digits as are read at a glance."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for at, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            column = table.column(at)
            short = _significant(column.cast(pa.float64()).to_numpy())
            made = pa.array(short).cast(field.type)
            kept = pc.if_else(pc.is_null(column), pa.scalar(None, field.type), made)
            table = table.set_column(at, field.name, kept)
    return table


def _significant(values: np.ndarray) -> np.ndarray:
    """Numbers at `SIGNIFICANT` digits; what is 0, not finite or too small to be scaled stays."""
    import numpy as np

    with np.errstate(all="ignore"):
        places = SIGNIFICANT - 1 - np.floor(np.log10(np.abs(values)))
        more, less = 10.0 ** np.maximum(places, 0.0), 10.0 ** np.maximum(-places, 0.0)
        short = np.round(values * more / less) * less / more
    return np.where(np.isfinite(short), short, values)


def _texts(table: pa.Table) -> Sequence[str]:
    """The columns that hold neither numbers nor times."""
    import pyarrow as pa

    kept = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal)
    return [f.name for f in table.schema if not any(is_kept(f.type) for is_kept in kept)]


def _hidden(drawn: str, rows: int) -> list[str]:
    """How many rows are not in the box: DuckDB puts dots in their place and counts those shown."""
    box, _, footer = drawn.rpartition("┘")
    shown = re.search(r"([\d,]+) shown", footer)
    if shown is None or not re.search(r"^│(\s*[·…]\s*│)+$", box, re.MULTILINE):
        return []
    return [f"{rows - int(shown[1].replace(',', '')):,} rows are hidden ({ELSEWHERE})"]
