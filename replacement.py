"""Replacement scans: data frames and Arrow tables of the caller's scope, named as tables."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import duckdb
from sqlglot import exp

from .ir.types import quote

if TYPE_CHECKING:
    from .catalog_db.catalog import Catalog


def register_frames(catalog: Catalog, tree: exp.Expression, caller: FrameType | None) -> None:
    """Register every unqualified table of `tree` that DuckDB does not know but the caller does.

    As in DuckDB, tables and views come first, then the innermost scope that has the name. A frame
    is what DuckDB can scan (pandas, polars, pyarrow). What an earlier
    statement registered under these names is forgotten: names mean what they mean now.
    """
    wanted = dict.fromkeys(_tables(tree))
    if caller is None or not wanted:
        return
    for name in wanted:
        catalog.unregister(name)
    with catalog.cursor() as cursor:
        frames = {name: frame for name in wanted if (frame := _find(name, caller)) is not None}
        for name, frame in frames.items():
            if not _known(cursor, name):
                catalog.register(name, frame)


def _known(cursor: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Has DuckDB a table or view of that name where it would look for it?"""
    try:
        cursor.execute(f"DESCRIBE {quote(name)}")
    except duckdb.CatalogException:
        return False
    except duckdb.Error:
        return True  # there is one, with a defect that the statement will tell
    return True


def _tables(tree: exp.Expression) -> Iterator[str]:
    """Unqualified table names that are no CTE's."""
    named = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Identifier) and not table.db and table.name not in named:
            yield table.name


def _find(name: str, frame: FrameType | None) -> object | None:
    """The innermost value of that name which is a frame."""
    while frame is not None:
        for scope in (frame.f_locals, frame.f_globals):
            value = scope.get(name)
            if _is_frame(value):
                return value
        frame = frame.f_back
    return None


def _is_frame(value: object) -> bool:
    """Can DuckDB scan it: does it export Arrow, or is it a lazy frame or a data set?"""
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        return True
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    return (library, kind.__name__) == ("polars", "LazyFrame") or (
        library == "pyarrow" and hasattr(value, "scanner")
    )
