"""Definitions by name: an index in memory over an append-only table.

Saving appends a row, dropping appends one without a body; nothing is ever changed in place. What a
redefinition makes stale gets a new version with it, in the same transaction: a model's variants
and the pipelines that call it, a variant's derivations. Their old statistics stay, attached to the
versions they were measured on. A name that was dropped and comes back continues its versions.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Literal, TypeVar, assert_never

import duckdb

from ..errors import CatalogError
from ..ir.models import Device, ExtendedStatistics, Link, Model, Pipeline, Variant
from ..ir.record import dataclass
from ..ir.slo import Slo
from ..ir.types import quote
from . import codec, problems
from .codec import Definition
from .store import Store, now

Kind = Literal["model", "variant", "device", "link", "pipeline", "slo", "statistics"]
D = TypeVar("D", bound=Definition)

_OWNERS = ("model", "pipeline")
"""What statistics are created on."""
_STRINGS = r"'(?:[^']|'')*'|--[^\n]*|/\*(?:.|\n)*?\*/"


@dataclass(slots=True)
class Entry:
    """The newest row of a name; `body` None: dropped. `since`: see the migration."""

    kind: str
    name: str
    version: int
    since: int
    body: str | None
    _decoded: Definition | None = field(default=None, repr=False)

    @property
    def definition(self) -> Definition:
        """The definition, decoded at its first use."""
        if self._decoded is None:
            self._decoded = codec.loads(self.body or "null")
        return self._decoded


class Definitions:
    """All definitions of one store; safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._load()

    def get(self, kind: Kind, name: str) -> Definition | None:
        """The definition of that name, whatever its case; None when there is none."""
        entry = self.entry(kind, name)
        return None if entry is None else entry.definition

    def entry(self, kind: str, name: str) -> Entry | None:
        """The newest row of a name that is not dropped."""
        entry = self._entries.get((kind, name.lower()))
        return entry if entry is not None and entry.body is not None else None

    def all(self, kind: Kind) -> Iterator[Definition]:
        """Every definition of a kind, by name."""
        with self._lock:
            entries = [e for e in self._entries.values() if e.kind == kind and e.body is not None]
        return (entry.definition for entry in sorted(entries, key=lambda e: e.name.lower()))

    def save(self, definition: D, *, replace: bool) -> D:
        """Store a definition; what comes back carries its version.

        Raises:
            CatalogError: OC0506 its model is unknown, OC0507 the name is taken, OC0514 no name.
        """
        kind, name = kind_of(definition), name_of(definition)
        with self._lock:
            self._check(kind, name, definition, replace=replace)
            affected = tuple(self._stale(kind, name)) if self.entry(kind, name) else ()
            with self._store.transaction() as cursor:
                rows = [self._append(cursor, kind, name, definition)]
                rows += [self._append(cursor, e.kind, e.name, e.definition) for e in affected]
            self._remember(rows)
            saved = rows[0].definition
        assert isinstance(saved, type(definition))
        return saved

    def drop(self, kind: Kind, name: str, *, if_exists: bool) -> bool:
        """Forget a definition; was there one?

        Raises:
            CatalogError: OC0506 there is none, OC0508 others need it.
        """
        with self._lock:
            entry = self.entry(kind, name)
            if entry is None:
                if if_exists:
                    return False
                raise problems.unknown(kind, name, self.near(kind, name))
            dependants = [f"{e.kind} {e.name}" for e in self._needing(kind, entry.name)]
            if dependants:
                raise problems.needed(kind, entry.name, dependants)
            with self._store.transaction() as cursor:
                rows = [self._append(cursor, kind, entry.name, None)]
            self._remember(rows)
            return True

    def near(self, kind: Kind, name: str) -> tuple[str, ...]:
        """The names of that kind that differ by the fewest edits, when those are few."""
        names = [e.name for e in self._entries.values() if e.kind == kind and e.body is not None]
        limit = max(1, len(name) // 3)
        distances = {other: _edits(name.lower(), other.lower(), limit) for other in names}
        best = min(distances.values(), default=limit + 1)
        return tuple(sorted(n for n, d in distances.items() if d == best)) if best <= limit else ()

    def _load(self) -> None:
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                "SELECT kind, name, version, since, body::VARCHAR "
                "FROM octans_internal.definitions ORDER BY tick"
            ).fetchall()
        self._remember(Entry(*row) for row in rows)

    def _remember(self, rows: Iterable[Entry]) -> None:
        for row in rows:
            self._entries[row.kind, row.name.lower()] = row

    def _check(self, kind: Kind, name: str, definition: Definition, *, replace: bool) -> None:
        if not name:
            raise CatalogError(f"a {kind} needs a name to be stored", code="OC0514")
        if not replace and self.entry(kind, name):
            raise problems.taken(kind, name, kind)
        other: dict[Kind, Kind] = {"model": "pipeline", "pipeline": "model"}
        if kind in other and self.entry(other[kind], name):
            raise problems.taken(kind, name, other[kind])
        if isinstance(definition, Variant):
            if not self.entry("model", definition.model):
                near = self.near("model", definition.model)
                raise problems.unknown("model", definition.model, near)
            derivation = definition.derivation
            if derivation is not None and not self.entry("variant", derivation.base):
                raise problems.unknown("variant", derivation.base, self.near("variant", name))

    def _append(
        self,
        cursor: duckdb.DuckDBPyConnection,
        kind: str,
        name: str,
        definition: Definition | None,
    ) -> Entry:
        """Append a row with the next version of a name; a drop keeps the version it ends."""
        before = self._entries.get((kind, name.lower()))
        version = 1 if before is None else before.version + (definition is not None)
        if definition is not None and not isinstance(definition, Link | Slo):
            definition = definition.replace(version=version)
        body = None if definition is None else codec.dumps(definition)
        ((tick,),) = cursor.execute("SELECT nextval('octans_internal.tick')").fetchall()
        since = tick
        if before is None:
            since = 0  # measurements imported before the declaration are of it
        elif isinstance(definition, Device) and before.body is not None:
            since = before.since if _same_hardware(before.definition, definition) else tick
        cursor.execute(
            "INSERT INTO octans_internal.definitions VALUES (?, ?, ?, ?, ?, ?, ?)",
            [tick, kind, name, version, since, body, now()],
        )
        return Entry(kind, name, version, since, body, definition)

    def _needing(self, kind: Kind, name: str) -> Iterator[Entry]:
        """What would dangle without a definition."""
        for entry in sorted(self._entries.values(), key=lambda e: (e.kind, e.name.lower())):
            if entry.body is not None and (entry.kind, entry.name) != (kind, name):
                match entry.definition:
                    case Variant(model=model) if kind == "model" and _same(model, name):
                        yield entry
                    case Variant(derivation=derivation) if kind == "variant":
                        if derivation is not None and _same(derivation.base, name):
                            yield entry
                    case Pipeline(text=text) if kind in ("model", "pipeline"):
                        if _calls(text, name):
                            yield entry
                    case ExtendedStatistics(first=first, second=second) if kind in _OWNERS:
                        if any(_same(one.partition(".")[0], name) for one in (first, second)):
                            yield entry
                    case _:
                        pass

    def _stale(self, kind: Kind, name: str) -> Iterator[Entry]:
        """What a redefinition makes stale, transitively, each once, causes before effects."""
        found: dict[tuple[str, str], Entry] = {}
        queue: list[tuple[Kind, str]] = [(kind, name)]
        while queue:
            at_kind, at_name = queue.pop(0)
            for entry in self._needing(at_kind, at_name):
                key = (entry.kind, entry.name.lower())
                if key not in found and key != (kind, name.lower()):
                    found[key] = entry
                    queue.append((kind_of(entry.definition), entry.name))
        return iter(found.values())


def kind_of(definition: Definition) -> Kind:
    """The kind of a definition."""
    match definition:
        case Model():
            return "model"
        case Variant():
            return "variant"
        case Device():
            return "device"
        case Link():
            return "link"
        case Pipeline():
            return "pipeline"
        case Slo():
            return "slo"
        case ExtendedStatistics():
            return "statistics"
        case _:
            assert_never(definition)


def name_of(definition: Definition) -> str:
    """The name a definition is kept under; '' for an SLO without one."""
    match definition:
        case Variant():
            return definition.full_name
        case Link():
            return f"{definition.source}.{definition.target}"
        case Slo():
            return definition.name or ""
        case _:
            return definition.name


def _same(a: str, b: str) -> bool:
    return a.lower() == b.lower()


def _same_hardware(before: Definition, after: Device) -> bool:
    """Do measurements made on the device still hold? Slots, price, power and tier move no clock."""
    return (
        isinstance(before, Device)
        and (before.kind, before.threads) == (after.kind, after.threads)
        and before.memory_bytes == after.memory_bytes
    )


def _calls(text: str, name: str) -> bool:
    """Does a pipeline's canonical text call `name`? Strings and comments are no calls."""
    bare = re.sub(_STRINGS, " ", text)
    body = bare[bare.lower().find("begin") :]
    pattern = rf'(?<![\w."]){re.escape(name)}\s*\(|"{re.escape(quote(name)[1:-1])}"\s*\('
    return re.search(pattern, body, re.IGNORECASE) is not None


def _edits(a: str, b: str, limit: int) -> int:
    """Levenshtein distance, or `limit + 1` when it is larger."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return min(row[-1], limit + 1)
