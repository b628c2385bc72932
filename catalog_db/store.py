"""The open DuckDB file: connecting, cursors for threads, transactions, migrations."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import duckdb

from ..errors import CatalogError
from . import problems

_LATEST = 8
"""The newest schema this version knows: the number of the last file in `migrations/`."""


class Store:
    """A DuckDB database with Octans's schemas in it."""

    def __init__(self, path: str | None) -> None:
        """Open or create the database at `path`; None is in memory.

        Raises:
            CatalogError: OC0501–OC0505, see `problems`.
        """
        self.path = path
        self._lock = threading.RLock()
        self._alone = threading.RLock()
        self._connection: duckdb.DuckDBPyConnection | None = _connect(path)
        try:
            migrate(self._connection, path or ":memory:")
        except BaseException:
            self._connection.close()
            raise

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The root connection; use a cursor of it in every thread.

        Raises:
            CatalogError: OC0511, it is closed.
        """
        if self._connection is None:
            raise CatalogError("the catalog is closed", code="OC0511")
        return self._connection

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for one thread."""
        with self._lock:
            return self.connection.cursor()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor in a transaction: committed at the end, rolled back on any error.

        Raises:
            CatalogError: OC0504, DuckDB refused to write.
        """
        with self.cursor() as cursor:
            try:
                cursor.begin()
                yield cursor
                cursor.commit()
            except BaseException as cause:
                with contextlib.suppress(duckdb.Error):  # a failed commit has rolled back already
                    cursor.rollback()
                if isinstance(cause, duckdb.Error):
                    raise problems.writing(self.path, cause) from cause
                raise

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction beside no other of these: for rows that are replaced.

        DuckDB refuses the second of two transactions that delete the same row, and a query that
        went well must not fail for what is noted of it afterwards.
        """
        with self._alone, self.transaction() as cursor:
            yield cursor

    def close(self) -> None:
        """Checkpoint and close; closing twice is fine."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()


def now() -> datetime:
    """The time in UTC, without a zone, as the catalog stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _connect(path: str | None) -> duckdb.DuckDBPyConnection:
    # Python variables of ours must never answer for a table that a user misspelt.
    config: dict[str, str | bool | int | float | list[str]] = {"python_enable_replacements": False}
    try:
        return duckdb.connect(":memory:" if path is None else path, config=config)
    except duckdb.Error as cause:
        where = Path(path or ".")
        raise problems.opening(
            str(path), cause, exists=where.exists(), directory=where.absolute().parent.is_dir()
        ) from cause


@cache
def migrations() -> tuple[tuple[int, str, str], ...]:
    """Number, name and SQL of every migration, in order."""
    from importlib import resources  # a catalog that is up to date never reads the files

    folder = resources.files(f"{__package__}.migrations")
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name[:4].isdigit()),
        key=lambda entry: entry.name,
    )
    return tuple(
        (int(entry.name[:4]), entry.name[5:-4], entry.read_text(encoding="utf-8"))
        for entry in files
    )


@cache
def _views() -> str:
    """SQL that makes every view and macro, or makes it anew."""
    from importlib import resources

    file = resources.files(f"{__package__}.migrations") / "views.sql"
    return file.read_text(encoding="utf-8")


def migrate(connection: duckdb.DuckDBPyConnection, path: str) -> None:
    """Bring the schema to the newest version, all steps in one transaction.

    Raises:
        CatalogError: OC0505 for a schema newer than ours, OC0504 when the file cannot be written.
    """
    try:
        rows = connection.execute("SELECT number FROM octans_internal.migrations").fetchall()
        found = max((number for (number,) in rows), default=0)
    except duckdb.CatalogException:
        found = 0
    if found > _LATEST:
        raise problems.newer_schema(path, found, _LATEST)
    if found == _LATEST:
        return
    try:
        connection.begin()
        for number, name, sql in migrations():
            if number > found:
                connection.execute(sql)
                connection.execute(
                    "INSERT INTO octans_internal.migrations VALUES (?, ?, ?)", [number, name, now()]
                )
        connection.execute(_views())
        connection.commit()
    except duckdb.Error as cause:
        raise problems.writing(path, cause) from cause
