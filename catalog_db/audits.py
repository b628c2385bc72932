"""Rows that executions saw before any model did, and how many of them ANALYZE had not.

An audit sample is a table of the subject's inputs with the run they are of; the newest `KEPT` rows
stay. It belongs to one ANALYZE: the next compares what it measures with it, drops it, and starts
another.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .store import Store

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = 2048
"""Rows kept of a subject (our choice: twice what ANALYZE samples by default)."""

_KEY = "lower(subject) = lower(?) AND analyzed = ?"


class Audits:
    """The audit samples of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, subject: str, version: int, analyzed: int, run: int, rows: pa.Table) -> None:
        """Add rows that a run saw; the oldest beyond `KEPT` go."""
        import pyarrow as pa

        relation = f"audit_{analyzed}"
        rows = rows.append_column("__run", pa.array([run] * rows.num_rows, pa.int64()))
        self.look(subject, version, analyzed, looks=0)
        with self._store.exclusive() as cursor:
            cursor.register("audited", rows)
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS octans_internal.{relation} AS FROM audited LIMIT 0"
            )
            cursor.execute(f"INSERT INTO octans_internal.{relation} BY NAME FROM audited")
            cursor.unregister("audited")
            cursor.execute(
                f"DELETE FROM octans_internal.{relation} WHERE rowid NOT IN (SELECT rowid FROM "
                f"octans_internal.{relation} ORDER BY __run DESC, rowid DESC LIMIT {KEPT})"
            )

    def rows(self, analyzed: int) -> pa.Table | None:
        """The rows kept since an ANALYZE, the newest first; None where there are none."""
        with self._store.cursor() as cursor:
            kept = cursor.execute(
                "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'octans_internal' "
                "AND table_name = ?",
                [f"audit_{analyzed}"],
            ).fetchall()
            if not kept:
                return None
            return cursor.sql(
                f"FROM octans_internal.audit_{analyzed} ORDER BY __run DESC"
            ).to_arrow_table()

    def newest(self, subject: str, version: int) -> int | None:
        """The last ANALYZE since which rows were kept; None where there is none."""
        with self._store.cursor() as cursor:
            row = cursor.execute(
                "SELECT max(analyzed) FROM octans_internal.audits "
                "WHERE lower(subject) = lower(?) AND version = ? AND relation IN (SELECT "
                "table_name FROM duckdb_tables() WHERE schema_name = 'octans_internal')",
                [subject, version],
            ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def drop(self, analyzed: int) -> None:
        """Forget what was kept since an ANALYZE."""
        with self._store.exclusive() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS octans_internal.audit_{analyzed}")
            for relation in ("audits", "seen"):
                cursor.execute(
                    f"DELETE FROM octans_internal.{relation} WHERE analyzed = ?", [analyzed]
                )

    def look(self, subject: str, version: int, analyzed: int, *, looks: int = 1) -> int:
        """Count a comparison with the rows of an ANALYZE; how many there were, with this one."""
        with self._store.exclusive() as cursor:
            row = cursor.execute(
                f"SELECT looks FROM octans_internal.audits WHERE {_KEY}", [subject, analyzed]
            ).fetchone()
            made = (0 if row is None else int(row[0])) + looks
            cursor.execute(f"DELETE FROM octans_internal.audits WHERE {_KEY}", [subject, analyzed])
            cursor.execute(
                "INSERT INTO octans_internal.audits VALUES (?, ?, ?, ?, ?)",
                [subject, version, analyzed, f"audit_{analyzed}", made],
            )
        return made

    def count_new(self, subject: str, analyzed: int, source: str, rows: int, new: float) -> float:
        """Rows of all sources that ANALYZE had not seen; a source counts once, with its most."""
        key = [subject, analyzed, source]
        where = f"{_KEY} AND source = ?"
        with self._store.exclusive() as cursor:
            found = cursor.execute(
                f"SELECT max(new_rows) FROM octans_internal.seen WHERE {where}", key
            ).fetchone()
            most = max(new, 0.0 if found is None or found[0] is None else float(found[0]))
            cursor.execute(f"DELETE FROM octans_internal.seen WHERE {where}", key)
            cursor.execute(
                "INSERT INTO octans_internal.seen VALUES (?, ?, ?, ?, ?)", [*key, rows, most]
            )
            ((total,),) = cursor.execute(
                f"SELECT sum(new_rows) FROM octans_internal.seen WHERE {_KEY}", [subject, analyzed]
            ).fetchall()
        return float(total)

    def source_rows(self, analyzed: int) -> int | None:
        """Rows that USING gave an ANALYZE; None where it did not say."""
        with self._store.cursor() as cursor:
            row = cursor.execute(
                "SELECT details FROM octans_internal.runs WHERE id = ?", [analyzed]
            ).fetchone()
        details = json.loads(row[0]) if row is not None and row[0] is not None else {}
        found = details.get("source_rows")
        return None if found is None else int(found)
