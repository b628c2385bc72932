"""Replacement scans: data frames and Arrow tables of the caller's scope, named as tables."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from sqlglot import exp

if TYPE_CHECKING:
    from .catalog_db.catalog import Catalog


def register_frames(catalog: Catalog, tree: exp.Expression, caller: FrameType | None) -> None:
    """Register every unqualified table of `tree` that DuckDB does not know but the caller does.

    As in DuckDB, tables and views come first, then the innermost scope that has the name. A frame
    is anything that can export itself as an Arrow stream (pandas, polars, pyarrow).
    """
    wanted = dict.fromkeys(_tables(tree))
    if caller is None or not wanted:
        return
    with catalog.cursor() as cursor:
        known = {
            row[0].lower()
            for row in cursor.execute(
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = 'main' AND table_catalog <> 'temp'"
            ).fetchall()
        }
    for name in wanted:
        if name.lower() in known:
            continue
        frame = _find(name, caller)
        if frame is not None:
            catalog.register(name, frame)


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
            if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
                return value
        frame = frame.f_back
    return None
