"""What the command line and the REPL share: running statements, printing results and errors."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TextIO

from .errors import OctansError
from .ir.record import dataclass

if TYPE_CHECKING:
    from .progress import ProgressBar
    from .result import Result
    from .session import Session

Format = Literal["table", "csv", "json"]
FORMATS: tuple[Format, ...] = ("table", "csv", "json")

OK, FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141
"""Exit codes: the shell's own for signals (128 + 2, 128 + 13)."""

CANCELLED = "OC0402"


@dataclass(frozen=True)
class Request:
    """What the command line asks for: a script, where it comes from, how to print."""

    text: str | None = None
    file: str | None = None
    catalog: str | None = None
    format: Format = "table"
    dry_run: bool = False
    progress: bool = True


def color_wanted(stream: TextIO) -> bool:
    """Colours only on a terminal, and never under NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def guarded(work: Callable[[], int]) -> int:
    """Exit code of `work`; a closed pipe ends silently, Ctrl-C with 130."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter would flush stdout again at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except OctansError as error:
        print_error(error)
        return exit_code(error)
    return code


def exit_code(error: OctansError) -> int:
    """1, or 130 for a run that was cancelled."""
    return INTERRUPTED if error.code == CANCELLED else FAILED


def print_error(error: OctansError, *, statement: int | None = None) -> None:
    """The error on stderr with carets; `statement` counts from 1 and is told behind others."""
    from .dsl.diagnostics import render

    print(render(error, color=color_wanted(sys.stderr)), file=sys.stderr)
    if statement is not None and statement > 1:
        before = "1 statement" if statement == 2 else f"{statement - 1} statements"
        print(f"  in statement {statement}; {before} before it ran", file=sys.stderr)


def run_script(session: Session, text: str, name: str | None, request: Request) -> int:
    """Run every statement and print what it gives; stops at the first error."""
    done = 0
    bar = _bar(session, request)
    try:
        for result in session.run_script(text, name):
            print_result(result, request.format, bar)
            done += 1
    except OctansError as error:
        _finish(bar)
        sys.stdout.flush()
        print_error(error, statement=done + 1)
        return exit_code(error)
    except KeyboardInterrupt:
        session.cancel()
        _finish(bar)
        print(f"interrupted in statement {done + 1}", file=sys.stderr)
        return INTERRUPTED
    finally:
        _finish(bar)
    return OK


def _bar(session: Session, request: Request) -> ProgressBar | None:
    from .progress import progress_bar

    bar = progress_bar(wanted=request.progress)
    session.progress = bar
    return bar


def _finish(bar: ProgressBar | None) -> None:
    if bar is not None:
        bar.finish()


def print_result(result: Result, format: Format = "table", bar: ProgressBar | None = None) -> None:
    """One result on stdout; messages go to stderr where stdout carries data."""
    if result.text is not None:
        _finish(bar)
        print(result.to_text(color=color_wanted(sys.stdout)))
        return
    if not result.has_rows:
        _finish(bar)
        if result.message:
            print(result.message, file=sys.stdout if format == "table" else sys.stderr)
        return
    if format == "table":
        result.arrow()
        _finish(bar)
        print(result.to_text(max_width=_terminal_width()))
        return
    write = _write_csv if format == "csv" else _write_json
    # Closed at once, also when the pipe is: an open stream holds the run, and the catalog.
    with closing(_streamed(result, bar)) as rows:
        write(result, rows)
    if result.message:
        print(result.message, file=sys.stderr)
    if result.failed_rows:
        print(f"{result.failed_rows:,} rows failed{result.timeout_note}", file=sys.stderr)


def _terminal_width() -> int | None:
    """Columns of the terminal; None, DuckDB's own choice, elsewhere."""
    return os.get_terminal_size().columns if sys.stdout.isatty() else None


def _streamed(result: Result, bar: ProgressBar | None) -> Generator[tuple[Any, ...]]:
    """Rows batch by batch; on a terminal the bar would stand among them."""
    with closing(result.batches()) as batches:
        for batch in batches:
            if sys.stdout.isatty():
                _finish(bar)
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    _finish(bar)


def _write_csv(result: Result, rows: Iterator[tuple[Any, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(result.columns)
    for row in rows:
        writer.writerow([_csv_cell(value) for value in row])


def _csv_cell(value: object) -> object:
    """NULL is empty, lists and structs are JSON, the rest as text."""
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(value, default=plain_value, ensure_ascii=False)
    return plain_value(value) if not isinstance(value, (int, float, str)) else value


def _write_json(result: Result, rows: Iterator[tuple[Any, ...]]) -> None:
    """An array with an object a line, written as the rows come."""
    from .result import unique_names

    names = unique_names(result.columns)
    lead = "["
    for row in rows:
        record = dict(zip(names, row, strict=True))
        sys.stdout.write(
            lead + json.dumps(_finite(record), default=plain_value, ensure_ascii=False)
        )
        lead = ",\n"
    sys.stdout.write("[]\n" if lead == "[" else "]\n")


def _finite(value: object) -> object:
    """JSON has no NaN and no infinities: they become text, as DuckDB prints them."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return value


def plain_value(value: object) -> str:
    """A value JSON and CSV have no form for, as text: times in ISO 8601, bytes as `\\xAB`."""
    if isinstance(value, bytes):
        return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02X}" for b in value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, timedelta)):
        return str(value)
    return str(value)


def print_estimates(session: Session, text: str, name: str | None) -> int:
    """`--dry-run`: what every query and every ANALYZE would take; nothing runs."""
    from .planner.explain.layout import clean, table
    from .planner.explain.numbers import interval, quantity

    rows = [["", "rows", "", "time", "", "cost", ""]]
    try:
        for what, cost in session.estimate(text, name):
            row = [_short(what)]
            for estimate, unit in ((cost.rows, "rows"), (cost.wall, "s"), (cost.total_cost, "USD")):
                row += [quantity(estimate.value if estimate else None, unit)]
                row += [interval(estimate, unit)]
            rows.append(row)
        quotes = [*session.quotes(text, name)]
    except OctansError as error:
        print_error(error)
        return exit_code(error)
    if len(rows) == 1 and not quotes:
        print("no statement calls a model: nothing to price")
        return OK
    lines = table(rows, right=frozenset({1, 3, 5})) if len(rows) > 1 else []
    for what, told in quotes:
        lines += [_short(what, 100), *(f"  {clean(line)}" for line in told)]
    print("\n".join(lines))
    return OK


def _short(text: str, columns: int = 40) -> str:
    from .planner.explain.layout import clean

    line = clean(" ".join(text.split()))
    return line if len(line) <= columns else line[: columns - 1] + "…"


def as_format(text: str) -> Format | None:
    """The output format of that name."""
    return text if text in FORMATS else None
