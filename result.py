"""`Result`: what a statement gives back, handed over in whatever form is asked for.

Nothing is fetched before it is asked for. `batches()` streams once; every other accessor reads the
result whole, keeps it, and may be called again. Errors: OC0491 a library is missing, OC0492 the
result was streamed already, OC0493 there is nothing to explain.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .errors import RunError
from .ir.types import Field, Schema

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow as pa

    from .ir.explain import Explanation
    from .ir.physical import PhysicalPlan

Source = Any
"""A `pa.Table`, a `pa.RecordBatchReader`, or a function giving one of them."""

HTML_ROWS = 20
HTML_CELL = 120
"""Rows and characters a notebook shows of a result (our choice; the whole is one call away)."""


class Result:
    """Columns and rows, or a message, or an explanation; see the module."""

    def __init__(
        self,
        source: Source = None,
        *,
        schema: Schema | None = None,
        message: str | None = None,
        text: str | None = None,
        html: Callable[[], str] | None = None,
        colored: Callable[[], str] | None = None,
        explain: Callable[[], Explanation] | None = None,
        plan: PhysicalPlan | None = None,
        failed: Callable[[], int] | None = None,
        timed_out: Callable[[], int] | None = None,
    ) -> None:
        """A result.

        Args:
            source: the rows; None when there are none (DDL, EXPLAIN).
            schema: names and DuckDB types as the user sees them; from the rows when None.
            message: what a statement without rows did (`created variant classify.mlp`).
            text: the whole answer as text (EXPLAIN), also given as one row of one column.
            html: makes the same for a notebook.
            colored: makes the text with ANSI colours, for a terminal.
            explain: makes the explanation, on demand.
            plan: the physical plan that ran.
            failed: how many rows failed, known once the rows were read; likewise `timed_out`, those
                of them whose call was given up.
        """
        self.message = message
        self.text = text
        self.plan = plan
        self._html = html
        self._colored = colored
        self._source = source
        self._schema = schema
        self._explain = explain
        self._failed = failed
        self._timed_out = timed_out
        self._table: pa.Table | None = None
        self._streamed = False
        self._cursor = 0
        if text is not None and schema is None:
            self._schema = (Field("explain", "VARCHAR"),)

    @property
    def has_rows(self) -> bool:
        """Does it have columns at all? DDL does not."""
        return self._source is not None or self.text is not None

    @property
    def columns(self) -> list[str]:
        """The column names; a name may stand twice."""
        if self._schema is not None:
            return [field.name for field in self._schema]
        return list(self.arrow().column_names) if self.has_rows else []

    @property
    def types(self) -> list[str]:
        """The columns' DuckDB types."""
        if self._schema is not None:
            return [field.type for field in self._schema]
        from .boxes import relation

        return [str(kind) for kind in relation(self._unique()).types] if self.has_rows else []

    @property
    def failed_rows(self) -> int:
        """How many rows failed under ON ERROR NULL or SKIP; reads the result if nobody has."""
        if self._failed is None:
            return 0
        if not self._streamed:
            self.arrow()
        return self._failed()

    @property
    def timed_out_rows(self) -> int:
        """How many of the failed rows were given up after `SET call_timeout`.

        Where equal inputs were called once, they count as one row.
        """
        return 0 if self._timed_out is None or not self.failed_rows else self._timed_out()

    @property
    def timeout_note(self) -> str:
        """What to say of them behind the number of failed rows."""
        late = self.timed_out_rows
        return f", {late:,} of them timed out" if late else ""

    def batches(self) -> Generator[pa.RecordBatch]:
        """The rows as they come, once, in bounded memory; closing it stops the run."""
        if self._table is not None:
            yield from self._table.to_batches()
            return
        source = self._take()
        if hasattr(source, "to_batches"):
            yield from source.to_batches()
            return
        with source:
            yield from source

    def arrow(self) -> pa.Table:
        """The whole result as an Arrow table."""
        if self._table is None:
            self._table = self._read()
        return self._table

    def df(self) -> pandas.DataFrame:
        """The whole result as a pandas DataFrame."""
        _need("pandas")
        return self.arrow().to_pandas()

    def pl(self) -> polars.DataFrame:
        """The whole result as a polars DataFrame."""
        _need("polars")
        import polars

        return polars.DataFrame(self._unique())

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, or None behind the last."""
        rows = self._rows(self._cursor, 1)
        self._cursor += len(rows)
        return rows[0] if rows else None

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """The next rows, at most so many."""
        rows = self._rows(self._cursor, size)
        self._cursor += len(rows)
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows from the cursor on: all, unless `fetchone` took some."""
        return self.fetchmany(len(self))

    def __len__(self) -> int:
        return int(self.arrow().num_rows) if self.has_rows else 0

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(self), 1024):
            yield from self._rows(start, 1024)

    def explain(self, format: str = "text") -> str:
        """The explanation of the plan: `text`, `json` or `html`; with actuals once it ran.

        Raises:
            RunError: nothing was planned (OC0493).
            ValueError: no such format.
        """
        if format not in ("text", "json", "html"):
            raise ValueError(f"format is text, json or html, not {format!r}")
        return render_explanation(self.explanation(), format)

    def explanation(self) -> Explanation:
        """The explanation as data.

        Raises:
            RunError: nothing was planned (OC0493).
        """
        if self._explain is None:
            raise RunError(
                "there is no plan to explain: the statement called no model",
                code="OC0493",
                hint="EXPLAIN SELECT … shows DuckDB's plan of plain SQL",
            )
        return self._explain()

    def show(self, max_rows: int | None = None, max_width: int | None = None) -> None:
        """Print the result as DuckDB does, and how many rows failed."""
        print(self.to_text(max_rows=max_rows, max_width=max_width))

    def to_text(
        self, max_rows: int | None = None, max_width: int | None = None, *, color: bool = False
    ) -> str:
        """What `show` prints; with ANSI colours if asked, where there are any."""
        if not self.has_rows:
            return self.message or ""
        if self.text is not None:
            return self._colored() if color and self._colored is not None else self.text
        from .boxes import box

        told = [self.message] if self.message else []
        drawn = box(self._unique(), max_rows, max_width)
        return "\n".join([drawn, *told, *self._failure_note()])

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """The first rows as an HTML table; everything in it is escaped."""
        if self._html is not None:
            return f'<iframe srcdoc="{escape(self._html())}" width="100%" height="600"></iframe>'
        if not self.has_rows or self.text is not None:
            return f"<pre>{escape(self.to_text())}</pre>"
        head = "".join(
            f"<th>{escape(name)}<br><small>{escape(kind)}</small></th>"
            for name, kind in zip(self.columns, self.types, strict=True)
        )
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row) + "</tr>"
            for row in self._rows(0, HTML_ROWS)
        )
        count = len(self)
        shown = f" ({HTML_ROWS} shown)" if count > HTML_ROWS else ""
        notes = [f"{count:,} row{'' if count == 1 else 's'}{shown}", *self._failure_note()]
        foot = "".join(f"<p><small>{escape(note)}</small></p>" for note in notes)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"

    def _failure_note(self) -> list[str]:
        failed = self.failed_rows
        many = f"{failed:,} row{'' if failed == 1 else 's'} failed"
        return [many + self.timeout_note] if failed else []

    def _take(self) -> Source:
        """The rows' source, which can be read once."""
        if self._streamed:
            raise RunError(
                "the result was streamed already",
                code="OC0492",
                hint="call .arrow() first to keep the rows, or ask again",
            )
        self._streamed = True
        return self._source() if callable(self._source) else self._source

    def _read(self) -> pa.Table:
        import pyarrow as pa

        if self.text is not None:
            return pa.table({"explain": [self.text]})
        if self._source is None:
            return pa.table({})
        source = self._take()
        if isinstance(source, pa.Table):
            return source
        with source:
            return source.read_all()

    def _unique(self) -> pa.Table:
        """The table with distinct column names, as DuckDB makes them: `a`, `a_1`."""
        table = self.arrow()
        return table.rename_columns(unique_names(table.column_names))

    def _rows(self, start: int, count: int) -> list[tuple[Any, ...]]:
        """Rows as Python values; duplicate names keep their columns apart."""
        if not self.has_rows:
            return []
        columns = [column.to_pylist() for column in self.arrow().slice(start, count).columns]
        return list(zip(*columns, strict=True))


def unique_names(names: list[str]) -> list[str]:
    """Names told apart as DuckDB does: `a`, `a_1`."""
    found: list[str] = []
    for name in names:
        unique, number = name, 0
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def render_explanation(explanation: Explanation, format: str, *, color: bool = False) -> str:
    """An explanation as `text`, `json` or `html`."""
    match format:
        case "json":
            from .planner.explain.json import to_json

            return to_json(explanation)
        case "html":
            from .planner.explain.html import to_html

            return to_html(explanation)
        case _:
            from .planner.explain.text import to_text

            return to_text(explanation, color=color)


def _need(library: str) -> None:
    """Raise an error naming the extra that brings a library, if it is missing."""
    if find_spec(library) is None:
        raise RunError(
            f"{library} is not installed", code="OC0491", hint="pip install 'octans[notebook]'"
        )


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= HTML_CELL else text[: HTML_CELL - 1] + "…"
