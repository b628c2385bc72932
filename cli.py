"""The command line: `octans run file.sql`, `octans -c "…"`, `octans` (a REPL), `octans demo`.

`commands.py` defines it with typer. A plain `-c` or `run` is recognised without typer, whose
import alone would be a quarter of a cold EXPLAIN; a test holds both readings to the same answer.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .console import USAGE, Request, as_format, guarded, print_estimates, run_script

CATALOG_VARIABLE = "OCTANS_CATALOG"
GARBAGE_AFTER = 100_000
"""New objects between two searches for cycles. At Python's 700 a cold EXPLAIN would spend a tenth
of its time searching what it has just imported (our choice)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        argv: the arguments behind the program's name; the process's own when None.
    """
    if argv is None:
        gc.set_threshold(GARBAGE_AFTER)
    arguments = list(sys.argv[1:] if argv is None else argv)
    request = plain(arguments)
    if request is not None:
        code = guarded(lambda: serve(request))
        if argv is None:
            _end(code)
        return code
    from .commands import application

    try:
        application(arguments, prog_name="octans")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def _end(code: int) -> None:
    """Leave at once where no model's code was loaded, which may want the ordinary way out.

    The catalog is closed. What Python would still do is to look for cycles in all modules, twice,
    and take them apart: a fifth of a cold EXPLAIN.
    """
    if f"{__package__}.executor.engine" in sys.modules or threading.active_count() > 1:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return  # the reader has gone; the ordinary way out knows what to say
    os._exit(code)


def plain(arguments: Sequence[str]) -> Request | None:
    """`-c TEXT` and `run FILE` with options in their separate form; None: typer has to look."""
    request = Request(catalog=os.environ.get(CATALOG_VARIABLE))
    words = iter(arguments)
    for word in words:
        match word:
            case "--dry-run":
                request = replace(request, dry_run=True)
            case "--no-progress":
                request = replace(request, progress=False)
            case "-c" | "--command" | "--catalog" | "--format" | "run":
                value = next(words, None)
                known = None if value is None else _with(request, word, value)
                if known is None:
                    return None
                request = known
            case _:
                return None
    return request if (request.text is None) != (request.file is None) else None


def _with(request: Request, word: str, value: str) -> Request | None:
    """The request with one option's value; None where typer should explain what is wrong."""
    if value.startswith("--") or (word == "run" and value.startswith("-") and value != "-"):
        return None
    match word:
        case "--catalog":
            return replace(request, catalog=value)
        case "--format":
            format = as_format(value)
            return None if format is None else replace(request, format=format)
        case "run":
            return None if request.file is not None else replace(request, file=value)
        case _:
            return None if request.text is not None else replace(request, text=value)


def serve(request: Request) -> int:
    """Do what is asked: a script from the command line, a file or standard input, or the REPL."""
    text, name = request.text, None
    if request.file is not None and request.file != "-":
        name = request.file
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            print(f"error: cannot read {name}: {reason}", file=sys.stderr)
            return USAGE
    elif text is None and (request.file == "-" or not sys.stdin.isatty()):
        text, name = sys.stdin.read(), "<stdin>"
    from .session import connect

    session = connect(request.catalog)
    try:
        if text is None:
            from .repl import run_repl

            return run_repl(session, request)
        if request.dry_run:
            return print_estimates(session, text, name)
        return run_script(session, text, name, request)
    finally:
        session.close()
