"""Plain SQL: what DuckDB does alone, and where it meets model calls.

`CREATE TABLE t AS SELECT model(x) …` and `INSERT INTO t SELECT model(x) …` plan the query and
stream its rows into one statement of DuckDB's, which keeps all of them or none.

Every statement, and every thread of a run, has a connection of its own. What DuckDB keeps in a
connection is therefore kept here: `SET`, `USE` and variables are repeated on every connection made
later; what cannot be repeated (temporary tables, prepared statements) is refused.

Error codes: OC0319 a statement that cannot call models; OC0321 a change of the catalog's own
tables; OC0420 DuckDB refused; OC0421 what would be gone with its connection. OC0402, cancelled, is
the executor's.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import duckdb
from sqlglot import exp

from .dsl import ast
from .dsl.binding.calls import CallSites, own_names
from .dsl.binding.problems import Place
from .dsl.binding.view import Context
from .dsl.tokens import tokenize
from .errors import OctansError, PlanError, RunError, Span
from .ir.types import Field, Schema, quote
from .result import Result

if TYPE_CHECKING:
    import pyarrow as pa

    from .catalog_db.catalog import Catalog
    from .planning import Run
    from .session import Session

RELATION = "octans_stored"
OWN_SCHEMAS = frozenset({"octans", "octans_internal"})
CHANGES = frozenset(
    {
        "ALTER",
        "COMMENT",
        "COPY",
        "CREATE",
        "DELETE",
        "DROP",
        "INSERT",
        "MERGE",
        "TRUNCATE",
        "UPDATE",
    }
)
TARGET_ENDS = frozenset({"as", "select", "where", "set", "using", "(", "values", "to", "by"})
"""What stands behind the name of what a statement changes."""
POLL_SECONDS = 0.05
"""How late Ctrl-C or a cancellation reaches DuckDB; a twentieth of the promised second."""

T = TypeVar("T")


def stoppable(
    cancel: threading.Event, cursor: duckdb.DuckDBPyConnection, work: Callable[[], T]
) -> T:
    """Do a cursor's work in a thread of its own, so that Ctrl-C and `cancel` stop it.

    DuckDB looks for Ctrl-C in the main thread only, not while it pulls from our reader, and tells
    of it as a RuntimeError.

    Raises:
        RunError: OC0402, stopped.
        KeyboardInterrupt: Ctrl-C as the work was done, or a second one.
    """
    done: list[T] = []
    failed: list[BaseException] = []
    ended = threading.Event()  # a `join` that Ctrl-C interrupts takes the thread for dead

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 -- raised again by the waiting thread
            failed.append(error)
        ended.set()

    interrupted = False
    threading.Thread(target=run, name="octans-duckdb", daemon=True).start()
    while True:
        try:
            while not ended.wait(POLL_SECONDS):
                if cancel.is_set():
                    cursor.interrupt()  # again: one that comes before the query starts is lost
            break
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            cancel.set()
    if not failed:
        if interrupted:
            raise KeyboardInterrupt
        return done[0]
    if isinstance(failed[0], duckdb.InterruptException):
        raise RunError("cancelled", code="OC0402") from failed[0]
    raise failed[0]


def refuse_own(statement: ast.PlainSql) -> Span | None:
    """The catalog's own tables are changed by Octans alone; observations may be inserted.

    Returns:
        Where in the statement's text octans.observations stands, if that is what it inserts into.

    Raises:
        PlanError: OC0321.
    """
    words = [(t.text.lower(), t) for t in tokenize(statement.text)]
    if words[0][0] == "with":
        words = words[_behind_ctes([text for text, _ in words]) :]
    verb = words[0][0].upper()
    if verb not in CHANGES:
        return None
    stop = next((i for i, (text, _) in enumerate(words) if text in TARGET_ENDS), len(words))
    if verb == "COPY" and words[stop : stop + 1] and words[stop][0] == "to":
        return None
    for i in range(1, stop):
        text, token = words[i]
        after = [word for word, _ in words[i + 1 : i + 3]]
        whole = words[i - 1][0] == "schema" or (i > 2 and words[i - 1][0] == "exists")
        if text not in OWN_SCHEMAS or not (after[:1] == ["."] or whole):
            continue
        if verb == "INSERT" and text == "octans" and after == [".", "observations"]:
            first = words[i - 2][1] if words[i - 1][0] == "." else token
            return Span(first.start, words[i + 2][1].end + 1)
        start = statement.span.start + token.start
        raise PlanError(
            f"{verb} cannot change the catalog's own tables",
            code="OC0321",
            span=Span(start, start + len(text)),
            label="Octans's own",
            hint="INSERT INTO octans.observations is what is allowed; all may be read",
        )
    return None


def _behind_ctes(words: list[str]) -> int:
    """Where what changes something begins behind `WITH name AS (…), …`; 0 where nothing does."""
    depth = 0
    for place, word in enumerate(words):
        depth += (word == "(") - (word == ")")
        if depth == 0 and words[place - 1] == ")" and word.upper() in CHANGES:
            return place
    return 0


def stores_calls(session: Session, statement: ast.PlainSql) -> bool:
    """Is this a query to be planned and stored?

    Raises:
        PlanError: OC0319, models are called where they cannot be.
    """
    ctx = Context(session.catalog)
    select = statement.select
    if select is not None:
        place = own_names(ctx, Place(select.query))
        if select.slo is not None or CallSites(ctx, place.fragment.tree).calls:
            return True
    tree = statement.tree
    if tree is not None and not isinstance(tree, exp.Command):
        calls = CallSites(ctx, tree).calls
        if calls:
            fragment = ast.Fragment(tree, statement.text, statement.span)
            raise _misplaced(statement, fragment.span_of(calls[0]))
    return False


def explained_refusal(session: Session, statement: ast.PlainSql, error: RunError) -> OctansError:
    """DuckDB does not know our models as functions: say so where only its refusal tells of a call.

    sqlglot has no tree of such statements (EXPLAIN CREATE, PREPARE, …).
    """
    found = re.search(r"Function with name \"?(\w+)\"? does not exist", error.message)
    if found is None or not Context(session.catalog).is_call(found[1].lower()):
        return error
    for token in tokenize(statement.text):
        if token.text.lower() == found[1].lower():
            start = statement.span.start + token.start
            return _misplaced(statement, Span(start, start + len(token.text)))
    return error


def _misplaced(statement: ast.PlainSql, span: Span) -> PlanError:
    """OC0319."""
    return PlanError(
        f"{_kind(statement)} cannot call models",
        code="OC0319",
        span=span,
        label="a model call",
        hint="store the answers first, CREATE TABLE answers AS SELECT …, and use that table",
    )


def _kind(statement: ast.PlainSql) -> str:
    """What the statement is called: CREATE VIEW, UPDATE, EXPLAIN, …."""
    tree = statement.tree
    kind = str(tree.args.get("kind") or "").upper() if isinstance(tree, exp.Create) else ""
    return f"{statement.text.split(None, 1)[0].upper()} {kind}".strip()


def write(
    session: Session,
    run: Run,
    fields: Schema,
    head: str,
    tail: str = "",
    observed: Span | None = None,
) -> Result:
    """Stream a planned query's rows into the DuckDB statement `head query tail`.

    `observed`: as for `run_plain`.

    Raises:
        OctansError: a model failed, or DuckDB refused; nothing is kept then.
    """
    names = [f"c{place}" for place in range(len(fields))]
    query = "SELECT " + ", ".join(
        f"CAST({name} AS {field.type}) AS {quote(field.name)}"
        for name, field in zip(names, fields, strict=True)
    )
    failure: list[OctansError] = []
    with session.catalog.cursor() as cursor:
        cursor.register(RELATION, _reader(run, names, failure))
        text = f"{head}{query} FROM {RELATION}{tail}"

        def store() -> tuple[list[tuple[int, ...]], str | None]:
            if observed is None:
                return cursor.execute(text).fetchall(), None
            from .importing import insert

            result = insert(cursor, session.catalog, text, observed)
            return result.fetchall(), result.message

        try:
            written, told = stoppable(session.cancelled, cursor, store)
        except (duckdb.Error, RunError) as error:
            if failure:
                raise failure[0] from error
            raise error if isinstance(error, RunError) else duckdb_error(error) from error
        finally:
            cursor.unregister(RELATION)
    count = written[0][0] if written and written[0] else 0
    message = f"wrote {count} rows" + (f"\n{told}" if told else "")
    return Result(message=message, failed=lambda: run.failed, timed_out=lambda: run.timed_out)


def run_plain(
    catalog: Catalog, text: str, cancel: threading.Event, observed: Span | None = None
) -> Result:
    """Run a statement of DuckDB's until it ends or `cancel` is set.

    `observed`: where octans.observations stands in its text, if that is what it inserts into.

    Raises:
        CatalogError: OC0516, an observation is no measurement.
        RunError: OC0402, stopped; OC0420, DuckDB refuses it; OC0421, it would be gone with its
            connection.
    """
    words = text.split(None, 6)
    _refuse_lost(words)

    def run() -> Result:
        if observed is not None:
            from .importing import insert

            return insert(cursor, catalog, text, observed)
        found = cursor.sql(text)
        nothing = found is None or found.columns == ["Success"]
        result = Result(message="done") if nothing else rows_of(found)
        _remember(catalog, cursor, text, words)
        return result

    try:
        with catalog.cursor() as cursor:
            return stoppable(cancel, cursor, run)
    except duckdb.Error as error:
        raise duckdb_error(error) from error


def rows_of(relation: duckdb.DuckDBPyRelation) -> Result:
    """A relation's rows, with DuckDB's types."""
    schema = tuple(
        Field(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)
    )
    return Result(relation.to_arrow_table(), schema=schema)


def duckdb_error(error: duckdb.Error) -> RunError:
    """DuckDB's refusal as ours: OC0420, first line as the message."""
    first, *rest = str(error).strip().splitlines() or ["DuckDB refused"]
    return RunError(first, code="OC0420", notes=tuple(line for line in rest if line.strip()))


def _refuse_lost(words: list[str]) -> None:
    """Temporary objects and prepared statements would be gone before anyone could use them."""
    upper = [word.upper() for word in words]
    created = upper[3:4] if upper[1:3] == ["OR", "REPLACE"] else upper[1:2]
    temporary = upper[:1] == ["CREATE"] and created in (["TEMP"], ["TEMPORARY"])
    if not temporary and upper[:1] not in (["PREPARE"], ["EXECUTE"], ["DEALLOCATE"]):
        return
    what = "temporary tables, views and macros" if temporary else "prepared statements"
    raise RunError(
        f"{what} are refused",
        code="OC0421",
        notes=("every statement has a connection of its own, which they would end with",),
        hint="leave TEMP out, and drop it when it is not needed any more" if temporary else None,
    )


def _remember(
    catalog: Catalog, cursor: duckdb.DuckDBPyConnection, text: str, words: list[str]
) -> None:
    """Repeat on later connections what was set on this one alone."""
    upper = [word.upper() for word in words]
    if upper[0] == "USE":
        catalog.remember("search_path", text)
    if upper[0] not in ("SET", "RESET"):
        return
    rest = words[2:] if upper[1] in ("SESSION", "VARIABLE") else words[1:]
    name = rest[0].partition("=")[0].lower()
    if upper[1] == "VARIABLE":
        catalog.remember(f"variable {name}", text if upper[0] == "SET" else None)
        return
    local = "SELECT scope = 'LOCAL' FROM duckdb_settings() WHERE lower(name) = ?"
    if (True,) in cursor.execute(local, [name]).fetchall():
        known = "search_path" if name == "schema" else name
        catalog.remember(known, text if upper[0] == "SET" else None)


def _reader(run: Run, names: list[str], failure: list[OctansError]) -> pa.RecordBatchReader:
    """The run's rows under other names; keeps its error, which DuckDB would turn into text."""
    import pyarrow as pa

    fields = zip(names, run.schema, strict=True)
    schema = pa.schema([field.with_name(name) for name, field in fields])

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for batch in run.batches():
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        except OctansError as error:
            failure.append(error)
            raise

    return pa.RecordBatchReader.from_batches(schema, batches())
