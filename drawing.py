"""The rows ANALYZE looks at: drawn, split for promises, and put into strata.

What is held back is drawn uniformly and first, features unseen: a promise needs held-back units
that are exchangeable with any other row, and a stratified draw's are not. Only the search side is
then stratified: from a uniform pool of the other rows, a proportional draw over the pool's strata
[two-phase sampling, Cochran 1977, 12.2; the pool bounds what is held in memory]. Rows in clusters
are drawn uniformly, as whole clusters may be too few; their clusters are stratified where the order
of measuring is concerned.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import duckdb

from .building import roles_with_building
from .dsl.binder import BoundAnalyze
from .errors import RunError
from .ir.record import dataclass
from .ir.types import quote
from .plain import duckdb_error
from .stats.sampling import sample, split

if TYPE_CHECKING:
    import pyarrow as pa

    from .session import Session

HELD_BACK_SHARE = 0.25
"""Share of the sample (of its clusters) kept for promises: enough to prove, little enough to leave
the estimates narrow (our choice)."""

POOL = 20_000
"""Rows whose features are looked at (our choice)."""


USING = "__using:"
"""Begins the kept columns of USING that are neither input nor label: a query's WHERE may name them.
"""


@dataclass(frozen=True)
class Drawn:
    """The sample with `__row`, `__role`, `__cluster`, inputs, labels and other columns of USING.

    It is of `source_rows` rows. `strata` holds the stratum of every search row, None where they are
    in none; `notes` say why.
    """

    table: pa.Table
    source_rows: int
    strata: tuple[int, ...] | None
    notes: tuple[str, ...]


def label_column(context: str, output: str) -> str:
    """The column of a kept sample that holds a label."""
    return f"__label:{context}:{output}"


def clusters_of(table: pa.Table) -> list[Any] | None:
    """The cluster of every row of a kept sample; None where rows are independent."""
    column = table.column("__cluster")
    return None if column.null_count == len(column) else column.to_pylist()


def draw(session: Session, bound: BoundAnalyze) -> Drawn:
    """Draw the rows of USING.

    Raises:
        RunError: OC0430, there are none.
    """
    if bound.sample == 0:
        raise RunError("SAMPLE 0 leaves no rows to analyze", code="OC0430")
    try:
        with session.catalog.cursor() as cursor:
            return _Draw(session, bound, cursor).drawn()
    except duckdb.Error as error:
        raise duckdb_error(error) from error


def pool_of(counted: int, kept: Collection[int], seed: int) -> list[int]:
    """Up to `POOL` of the places below `counted` that are not `kept`, uniformly, ascending.

    Millions of places are never listed: of the n-th that is not kept all is known but how many
    that are kept lie before it.
    """
    count = counted - len(kept)
    drawn = (
        range(count) if count <= POOL else sorted(random.Random(seed).sample(range(count), POOL))
    )
    before = [place - rank for rank, place in enumerate(sorted(kept))]
    return [place + bisect_right(before, place) for place in drawn]


class _Draw:
    def __init__(
        self, session: Session, bound: BoundAnalyze, cursor: duckdb.DuckDBPyConnection
    ) -> None:
        self.session = session
        self.bound = bound
        self.cursor = cursor
        self.seed = session.catalog.settings.seed

    def drawn(self) -> Drawn:
        """The whole draw."""
        import pyarrow as pa

        query = f"SELECT count(*) FROM ({self.bound.using})"
        ((counted,),) = self.cursor.execute(query).fetchall()
        places = sample(counted, self.bound.sample, self.seed)
        if not places:
            raise RunError("USING gives no rows to analyze", code="OC0430")
        table = self._rows(places)
        roles: list[str] = [*split(len(places), clusters_of(table), HELD_BACK_SHARE, self.seed)]
        strata: tuple[int, ...] | None = None
        notes: tuple[str, ...] = ()
        if not self.bound.uniform:
            searched = [p for p, role in zip(places, roles, strict=True) if role == "search"]
            kept = set(places) - set(searched)
            try:
                strata, searched = self._stratified(searched, kept, counted, table)
            except ImportError:
                notes = ("text needs scikit-learn to make strata of: rows are drawn uniformly",)
            places = sorted({*searched, *kept})
            table = self._rows(places)
            roles = ["held_back" if place in kept else "search" for place in places]
        roles, strata = self._without_building(table, roles, strata)
        table = table.add_column(0, "__row", pa.array(range(table.num_rows), pa.int64()))
        table = table.add_column(1, "__role", pa.array(roles))
        return Drawn(table, counted, strata, notes)

    def _without_building(
        self, table: pa.Table, roles: list[str], strata: tuple[int, ...] | None
    ) -> tuple[list[str], tuple[int, ...] | None]:
        """Roles, and strata of what is left to search, where rows entered an artefact before."""
        known = self.session.catalog.derivations.building_rows(self.bound.subject)
        found = roles_with_building(roles, table, self.bound.target, known)
        if strata is None:
            return found, None
        searched = [new for old, new in zip(roles, found, strict=True) if old == "search"]
        left = zip(strata, searched, strict=True)
        return found, tuple(stratum for stratum, role in left if role == "search")

    def _stratified(
        self, searched: list[int], kept: set[int], counted: int, table: pa.Table
    ) -> tuple[tuple[int, ...] | None, list[int]]:
        """Strata of the search rows, ascending, and their places, drawn anew where there are more.

        Raises:
            ImportError: scikit-learn is not installed.
        """
        from .stats.sequential import spread
        from .stats.strata import strata

        clusters = clusters_of(table)
        if clusters is not None or len(searched) + len(kept) == counted:
            known = dict(zip(sorted({*searched, *kept}), clusters or (), strict=False))
            own = [known[place] for place in searched] if clusters is not None else None
            found = strata(self._features(searched), own, self.seed)
            return None if found is None else tuple(found), searched
        others = pool_of(counted, kept, self.seed)
        found = strata(self._features(others), None, self.seed)
        if found is None:
            return None, searched
        chosen = sorted(spread(found, len(others), self.seed)[: len(searched)])
        return tuple(found[place] for place in chosen), [others[place] for place in chosen]

    def _rows(self, places: list[int]) -> pa.Table:
        """Inputs, labels, cluster and the other columns at these places of USING."""
        bound = self.bound
        columns = [f"{named.expr.text} AS {quote(named.name)}" for named in bound.inputs]
        columns += [
            f"{label.expr.expr.text} AS {quote(label_column(label.context, label.output))}"
            for label in bound.labels
        ]
        columns.append(f"{bound.cluster.text if bound.cluster else 'NULL'} AS __cluster")
        columns += [f"{quote(n)} AS {quote(USING + n)}" for n in self._others()]
        return self._at(places, columns)

    def _others(self) -> Iterator[str]:
        """What USING gives besides the inputs, as far as it is small: no row carries it twice."""
        inputs = {column for named in self.bound.inputs for column in named.expr.columns}
        for field in self.session.catalog.describe(f"SELECT * FROM ({self.bound.using})"):
            if field.name not in inputs and field.type != "BLOB":
                yield field.name

    def _features(self, places: list[int]) -> pa.Table:
        """What strata are made of: FEATURES, else the inputs; of bytes the size alone is read."""
        columns = []
        for place, named in enumerate(self.bound.features or self.bound.inputs):
            text = named.expr.text
            text = f"octet_length({text})" if named.type == "BLOB" else text
            columns.append(f"{text} AS f{place}")
        return self._at(places, columns)

    def _at(self, places: list[int], columns: list[str]) -> pa.Table:
        import pyarrow as pa

        self.cursor.register("octans_drawn", pa.table({"__drawn": pa.array(places, pa.int64())}))
        table: pa.Table = self.cursor.sql(
            f"SELECT {', '.join(columns)} FROM "
            f"(SELECT *, row_number() OVER () - 1 AS __place FROM ({self.bound.using})) "
            "JOIN octans_drawn ON __place = __drawn ORDER BY __place"
        ).to_arrow_table()
        return table
