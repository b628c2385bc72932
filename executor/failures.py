"""Typed errors of running a plan.

OC0401  a model call failed on a row (ON ERROR FAIL)
OC0402  cancelled
OC0403  a variant's output has the wrong shape: columns, row count
OC0404  an optional package is missing
OC0405  a backend or derivation that this version cannot run
OC0406  a variant cannot be loaded: no such module, factory, file, or it raised
OC0407  DuckDB refused SQL of the plan while it ran
OC0408  the plan names a model, variant or device that does not exist
OC0410  calls of a variant were given up too often and still run
OC0411  a variant's files changed while it ran
"""

from __future__ import annotations

from ..errors import RunError
from .environment import Failure


class RowFailed(Exception):
    """Raised by a backend for a value it cannot answer; counted like any failed call."""


class TimeoutReason(str):
    """Why an element failed whose call was given up; of a type of its own, to be counted apart."""

    __slots__ = ()


class TimedOut(Exception):
    """A call took longer than `SET call_timeout` allows."""

    def __init__(self, seconds: float) -> None:
        self.reason = TimeoutReason(f"timed out after {seconds:g} s")
        super().__init__(self.reason)


def row_failed(failure: Failure) -> RunError:
    """OC0401: the first failing row; all rows before it were finished."""
    return RunError(
        f"{failure.step} failed on row {failure.row}: {failure.message}",
        code="OC0401",
        hint="ON ERROR NULL keeps failing rows, ON ERROR SKIP drops them; both are counted",
        rows_done=failure.row,
    )


def cancelled(rows_done: int) -> RunError:
    """OC0402."""
    return RunError(
        f"cancelled after {rows_done} finished rows", code="OC0402", rows_done=rows_done
    )


def wrong_output(variant: str, problem: str) -> RunError:
    """OC0403."""
    return RunError(f"variant {variant} {problem}", code="OC0403")


def missing_package(kind: str, package: str, extra: str) -> RunError:
    """OC0404."""
    return RunError(
        f"the backend {kind} needs the package {package}",
        code="OC0404",
        hint=f"pip install 'octans[{extra}]'",
    )


def not_available(what: str, hint: str) -> RunError:
    """OC0405."""
    return RunError(f"{what} cannot be run by this version of Octans", code="OC0405", hint=hint)


def cannot_load(variant: str, problem: str, hint: str | None = None) -> RunError:
    """OC0406."""
    return RunError(f"variant {variant} cannot be loaded: {problem}", code="OC0406", hint=hint)


def changed(variant: str) -> RunError:
    """OC0411: a further copy would answer otherwise than those that are loaded."""
    return RunError(
        f"the files of variant {variant} changed while it was running",
        code="OC0411",
        hint="run the statement again, once they are complete",
    )


def sql_failed(problem: str, rows_done: int) -> RunError:
    """OC0407."""
    return RunError(f"DuckDB stopped the query: {problem}", code="OC0407", rows_done=rows_done)


def unknown(kind: str, name: str) -> RunError:
    """OC0408."""
    return RunError(
        f"the plan uses the {kind} {name}, which does not exist",
        code="OC0408",
        hint="it was dropped after the plan was made; plan the query again",
    )


def hangs(variant: str, calls: int, seconds: float) -> RunError:
    """OC0410: every call given up leaves a thread that cannot be ended."""
    return RunError(
        f"variant {variant} is not called any more: {calls} of its calls took longer than "
        f"{seconds:g} s and still run",
        code="OC0410",
        hint="mend it and CREATE OR REPLACE it, raise call_timeout, or advise another variant",
    )


def describe(error: BaseException) -> str:
    """An exception in one line: `ValueError: bad glyph`."""
    lines = str(error).strip().splitlines()
    text = lines[0][:300] if lines else ""
    name = type(error).__name__
    if isinstance(error, RowFailed):
        return text
    return f"{name}: {text}" if text else name
