"""Labelled rows that ANALYZE kept: the ones the search may see and the ones held back for promises.

Each sample is a table of its own in `octans_internal`, so its columns keep their types. Of every
version of a subject the newest sample is kept.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from ..errors import CatalogError
from .store import Store, now

if TYPE_CHECKING:
    import pyarrow as pa

Role = Literal["search", "held_back", "building"]
_NEEDED = ("__row", "__role", "__cluster")
_KEY = "lower(subject) = lower(?) AND version = ?"


class Samples:
    """The samples of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, subject: str, version: int, run: int, table: pa.Table) -> None:
        """Keep a sample: `__row`, `__role`, `__cluster`, then inputs and labels.

        Raises:
            CatalogError: OC0513, one of these columns is missing.
        """
        missing = [name for name in _NEEDED if name not in table.column_names]
        if missing:
            raise CatalogError(f"the sample of {subject} has no column {missing[0]}", code="OC0513")
        with self._store.transaction() as cursor:
            old = cursor.execute(
                f"SELECT relation FROM octans_internal.samples WHERE {_KEY}", [subject, version]
            ).fetchall()
            for (relation,) in old:
                cursor.execute(f"DROP TABLE octans_internal.{relation}")
            cursor.execute(f"DELETE FROM octans_internal.samples WHERE {_KEY}", [subject, version])
            ((number,),) = cursor.execute("SELECT nextval('octans_internal.sample_id')").fetchall()
            relation = f"sample_{number}"
            cursor.register("sampled", table)
            cursor.execute(f"CREATE TABLE octans_internal.{relation} AS FROM sampled")
            cursor.execute(
                "INSERT INTO octans_internal.samples VALUES (?, ?, ?, ?, ?)",
                [subject, version, run, relation, now()],
            )
            cursor.unregister("sampled")

    def set_aside(
        self,
        subject: str,
        version: int,
        artefact: str,
        places: Collection[int],
        rows: Collection[tuple[str, str]],
    ) -> None:
        """Rows that an artefact is built from: by `__row` in the sample, by hash and cluster."""
        relation = self._relation(subject, version)
        with self._store.transaction() as cursor:
            cursor.execute(
                f"UPDATE octans_internal.{relation} SET __role = 'building' "
                "WHERE list_contains(?, __row)",
                [list(places)],
            )
            cursor.execute(
                "INSERT INTO octans_internal.building_rows "
                "SELECT ?, ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
                [subject, artefact, [row for row, _ in rows], [cluster for _, cluster in rows]],
            )

    def building_rows(self, subject: str, artefacts: Collection[str]) -> dict[str, str]:
        """Hash → cluster of the subject's rows that one of these artefacts was built from."""
        with self._store.cursor() as cursor:
            found = cursor.execute(
                'SELECT DISTINCT "row", cluster FROM octans_internal.building_rows '
                "WHERE lower(subject) = lower(?) AND list_contains(?, artefact)",
                [subject, list(artefacts)],
            ).fetchall()
        return dict(found)

    def load(self, subject: str, version: int, role: Role | None = None) -> pa.Table | None:
        """The rows of one role (None: all) in source order; None when nothing was kept."""
        relation = self._relation(subject, version)
        if relation is None:
            return None
        with self._store.cursor() as cursor:
            return cursor.sql(
                f"FROM octans_internal.{relation} WHERE $1 IS NULL OR __role = $1 ORDER BY __row",
                params=[role],
            ).to_arrow_table()

    def columns(self, subject: str, version: int) -> pa.Table | None:
        """No rows, with the columns of those kept; None when nothing was kept."""
        relation = self._relation(subject, version)
        if relation is None:
            return None
        with self._store.cursor() as cursor:
            return cursor.sql(f"FROM octans_internal.{relation} LIMIT 0").to_arrow_table()

    def run(self, subject: str, version: int) -> int | None:
        """The ANALYZE that kept the sample; None when there is none."""
        with self._store.cursor() as cursor:
            row = cursor.execute(
                f"SELECT run FROM octans_internal.samples WHERE {_KEY}", [subject, version]
            ).fetchone()
        return None if row is None else int(row[0])

    def sizes(self, subject: str, version: int) -> dict[str, tuple[int, int]]:
        """Rows and clusters of each role; a NULL cluster is one of its own."""
        relation = self._relation(subject, version)
        if relation is None:
            return {}
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                "SELECT __role, count(*), count(DISTINCT __cluster) "
                "+ count(*) FILTER (__cluster IS NULL) "
                f"FROM octans_internal.{relation} GROUP BY __role ORDER BY __role"
            ).fetchall()
        return {role: (n, clusters) for role, n, clusters in rows}

    def _relation(self, subject: str, version: int) -> str | None:
        with self._store.cursor() as cursor:
            row = cursor.execute(
                f"SELECT relation FROM octans_internal.samples WHERE {_KEY}", [subject, version]
            ).fetchone()
        return None if row is None else str(row[0])
