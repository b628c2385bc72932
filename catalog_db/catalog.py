"""`Catalog`: what a session knows, behind one object.

Every part works on the same `Store`; two sessions of one process on one file share it, with its
index of definitions and its queue of observations, because DuckDB lets a process open a file once.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import duckdb

from ..ir.models import Device, ExtendedStatistics, Link, Model, Pipeline, Variant
from ..ir.slo import Slo
from ..ir.types import Field, Schema
from ..stats.observation import Observation
from .artefacts import Artefacts
from .audits import Audits
from .definitions import D, Definitions, Kind
from .derivations import Derivations
from .freshness import Freshness
from .histories import Histories
from .history import History, Json, Status
from .observations import ObservationLog
from .samples import Samples
from .settings import Settings
from .store import Store
from .views import Views

if TYPE_CHECKING:
    from ..stats.promise import Proof
    from .prefixes import Checkpoint, Prefixes

_open: dict[str, _Shared] = {}
_open_lock = threading.Lock()


class _Shared:
    """An open file with what must exist once per file; counted by the catalogs that use it."""

    def __init__(self, path: str | None) -> None:
        self.users = 0
        self.store = Store(path)
        self.definitions = Definitions(self.store)
        self.log = ObservationLog(self.store, self.definitions)
        self.history = History(self.store)
        self.history.interrupt_runs()
        self.artefacts = Artefacts(path)


class Catalog:
    """Definitions, observations, samples, proofs, runs, plans and settings of one session."""

    def __init__(self, shared: _Shared) -> None:
        """Use `Catalog.open`."""
        self.settings = Settings()
        self._store = shared.store
        self._definitions = shared.definitions
        self._log = shared.log
        self.samples = Samples(shared.store)
        self._history = shared.history
        self.derivations = Derivations(shared.definitions, shared.artefacts, self.samples)
        self.histories = Histories(shared.store)
        self._views = Views(shared.store, shared.definitions)
        self._frames: dict[str, object] = {}
        self._prelude: dict[str, str] = {}
        # Also at the end of the interpreter, so that what was recorded is written.
        self._release = weakref.finalize(self, _release, shared)

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> Catalog:
        """The catalog in a file, created when there is none; None or `:memory:` is in memory.

        Raises:
            CatalogError: OC0501–OC0505, see `problems`.
        """
        named = None if path is None else os.fspath(path)
        return cls(_acquire(None if named in ("", ":memory:") else named))

    def close(self) -> None:
        """Write what was recorded and close; the last session on a file closes the file.

        Raises:
            CatalogError: OC0512, observations could not be written.
        """
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- DuckDB -----------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """The file; None in memory."""
        return self._store.path

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The root connection of the file."""
        return self._store.connection

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for one thread; users' own tables are in its schema `main`."""
        return self.cursors()()

    def cursors(self) -> Callable[[], duckdb.DuckDBPyConnection]:
        """Makes connections that see what is registered and set now, whatever comes later."""
        frames, prelude = tuple(self._frames.items()), tuple(self._prelude.values())

        def cursor() -> duckdb.DuckDBPyConnection:
            made = self._store.cursor()
            for statement in prelude:
                made.execute(statement)
            for name, table in frames:
                made.register(name, table)
            return made

        return cursor

    def register(self, name: str, table: object) -> None:
        """Make an Arrow table or data frame visible as `name` to cursors made from now on."""
        self._frames[name] = table

    def unregister(self, name: str) -> None:
        """Forget a registered table, if it is one; case is ignored."""
        for known in [known for known in self._frames if known.lower() == name.lower()]:
            del self._frames[known]

    def remember(self, what: str, statement: str | None) -> None:
        """Run a statement on every cursor from now on: one that sets what a connection keeps.

        `what` is what it sets; a later statement about the same thing takes its place, None its
        absence.
        """
        self._prelude.pop(what, None)
        if statement is not None:
            self._prelude[what] = statement

    def describe(self, sql: str) -> Schema:
        """DuckDB's names and types of a query's columns.

        Raises:
            duckdb.Error: DuckDB does not accept it.
        """
        with self.cursor() as cursor:
            rows = cursor.execute(f"DESCRIBE {sql}").fetchall()
        return tuple(Field(row[0], row[1]) for row in rows)

    # --- definitions ------------------------------------------------------------------------

    def model(self, name: str) -> Model | None:
        """The model of that name."""
        return cast("Model | None", self._definitions.get("model", name))

    def models(self) -> tuple[Model, ...]:
        """All models, by name."""
        return cast("tuple[Model, ...]", tuple(self._definitions.all("model")))

    def variant(self, full_name: str) -> Variant | None:
        """The variant `model.name`, its backend's target where an artefact of ours lies."""
        found = cast("Variant | None", self._definitions.get("variant", full_name))
        return None if found is None else self.derivations.located(found)

    def variants(self, model: str | None = None) -> tuple[Variant, ...]:
        """The variants of a model (None: of all), by name."""
        found = cast("tuple[Variant, ...]", tuple(self._definitions.all("variant")))
        return tuple(
            self.derivations.located(v)
            for v in found
            if model is None or v.model.lower() == model.lower()
        )

    def device(self, name: str) -> Device | None:
        """The device of that name."""
        return cast("Device | None", self._definitions.get("device", name))

    def devices(self) -> tuple[Device, ...]:
        """All devices, by name."""
        return cast("tuple[Device, ...]", tuple(self._definitions.all("device")))

    def links(self) -> tuple[Link, ...]:
        """All links."""
        return cast("tuple[Link, ...]", tuple(self._definitions.all("link")))

    def pipeline(self, name: str) -> Pipeline | None:
        """The pipeline of that name."""
        return cast("Pipeline | None", self._definitions.get("pipeline", name))

    def pipelines(self) -> tuple[Pipeline, ...]:
        """All pipelines, by name."""
        return cast("tuple[Pipeline, ...]", tuple(self._definitions.all("pipeline")))

    def slo(self, name: str) -> Slo | None:
        """The SLO of that name."""
        return cast("Slo | None", self._definitions.get("slo", name))

    def slos(self) -> tuple[Slo, ...]:
        """All SLOs, by name."""
        return cast("tuple[Slo, ...]", tuple(self._definitions.all("slo")))

    def extended_statistics(self) -> tuple[ExtendedStatistics, ...]:
        """All that CREATE STATISTICS declared, by name."""
        found = tuple(self._definitions.all("statistics"))
        return cast("tuple[ExtendedStatistics, ...]", found)

    def save(self, definition: D, *, replace: bool) -> D:
        """Store a definition; what comes back carries its version.

        What was recorded is written first, so that it belongs to the definitions it was made with.

        Raises:
            CatalogError: OC0506 its model is unknown, OC0507 the name is taken, OC0514 no name.
        """
        self._log.flush()
        saved = self._definitions.save(definition, replace=replace)
        if isinstance(saved, Variant):
            self.derivations.sweep()
        return saved

    def drop(self, kind: Kind, name: str, *, if_exists: bool = False) -> bool:
        """Forget a definition (a link is named `source.target`); was there one?

        Raises:
            CatalogError: OC0506 there is none, OC0508 others need it.
        """
        self._log.flush()
        there = self._definitions.drop(kind, name, if_exists=if_exists)
        if kind == "variant":
            self.derivations.sweep()
        return there

    # --- observations, samples ----------------------------------------------------------------

    def record(self, observations: Iterable[Observation]) -> None:
        """Queue observations for writing; returns at once.

        They are the deployment's that the session measures for (its setting `deployment`).
        """
        self._log.record(self.stamped(observations))

    def stamped(self, observations: Iterable[Observation]) -> list[Observation]:
        """As the deployment's that the session measures for."""
        own = self.settings.deployment
        return [one if own is None else replace(one, deployment=own) for one in observations]

    def flush(self) -> None:
        """Write everything recorded so far.

        Raises:
            CatalogError: OC0512, it cannot be written; nothing is lost.
        """
        self._log.flush()

    def observations(
        self,
        subjects: Collection[str] | None = None,
        *,
        models: Collection[str] = (),
        filters: Collection[str] = (),
    ) -> list[Observation]:
        """The newest observation of each key that is about what is declared now.

        `subjects` are contexts, None for all; those of `models` and of their variants come too.
        With what executions added, of those behind a filter only behind one of `filters`; what no
        longer holds says why in `stale`.
        """
        return self._log.read(subjects, models, filters)

    def fold(self, seen: Collection[Observation], environments: Mapping[str, int]) -> None:
        """Keep what an execution observed and pool it with what was measured before.

        `environments` is of `notice`.
        """
        self._log.fold(self.stamped(seen), environments)

    @property
    def audits(self) -> Audits:
        """Rows that executions saw before any model did."""
        return Audits(self._store)

    @property
    def freshness(self) -> Freshness:
        """What tells whether statistics still hold."""
        return self._log.freshness

    # --- prefixes -----------------------------------------------------------------------------

    def prefixes(self, checkpoint: Checkpoint | None = None) -> Prefixes:
        """Outputs of operator prefixes kept between statements, within `SET prefix_store`."""
        from .prefixes import Prefixes  # only who runs models needs it

        return Prefixes(self._store, int(self.settings.prefix_store), checkpoint)

    # --- history ------------------------------------------------------------------------------

    def begin_run(self, kind: str, text: str) -> int:
        """Note that a run starts; its number."""
        return self._history.begin_run(kind, text)

    def finish_run(
        self,
        run: int,
        *,
        status: Status = "done",
        rows: int | None = None,
        failed: int | None = None,
        usd: float | None = None,
        error: str | None = None,
        details: Json = None,
    ) -> None:
        """Note how a run ended: source rows done, rows failed, USD spent, why it failed."""
        self._history.finish_run(
            run, status=status, rows=rows, failed=failed, usd=usd, error=error, details=details
        )

    def note_split(self, run: int, held_back: str) -> None:
        """See `History.note_split`."""
        self._history.note_split(run, held_back)

    def same_split(self, run: int) -> frozenset[int]:
        """See `History.same_split`."""
        return self._history.same_split(run)

    def left_out(self, run: int) -> tuple[str, ...]:
        """See `History.left_out`."""
        return self._history.left_out(run)

    def before_run(self, run: int) -> tuple[datetime, frozenset[str]]:
        """See `History.before_run`."""
        return self._history.before_run(run)

    def run_text(self, run: int) -> str | None:
        """See `History.run_text`."""
        return self._history.run_text(run)

    def record_plan(
        self,
        fingerprint: str,
        query: str,
        *,
        advice: str,
        reason: str,
        estimates: Json = None,
        subjects: Collection[str] = (),
    ) -> int:
        """Keep a plan that was chosen, with its reasons; its number."""
        return self._history.record_plan(
            fingerprint,
            query,
            advice=advice,
            reason=reason,
            estimates=estimates,
            subjects=tuple(subjects),
        )

    def last_plan(self, query: str, reason: str) -> tuple[str, str] | None:
        """The fingerprint and the advice of the plan that a query was run to its end with last, of
        those chosen for a reason."""
        return self._history.last_plan(query, reason)

    def record_result(self, plan: int, measured: Json, *, run: int | None = None) -> None:
        """Keep what a plan did when it ran."""
        self._history.record_result(plan, measured, run=run)

    def proofs(self, promise: str) -> list[Proof]:
        """The tests made under a promise, in order."""
        return self._history.proofs(promise)

    def record_proof(self, proof: Proof) -> None:
        """Keep a test; call it before its answer is used."""
        self._history.record_proof(proof)

    # --- looking ------------------------------------------------------------------------------

    def show(self, kind: str, of: str | None = None) -> duckdb.DuckDBPyRelation:
        """The relation of SHOW `kind` [OF | FOR `of`].

        Raises:
            CatalogError: OC0506, no such kind, or nothing is called `of`.
        """
        self._log.flush()
        return self._views.show(kind, of, self.cursor())

    def describe_name(self, name: str) -> duckdb.DuckDBPyRelation | None:
        """DESCRIBE name: kind, property and value of what we declared; None when it is not ours."""
        return self._views.describe(name)


def _acquire(path: str | None) -> _Shared:
    """The open file of a path, opened at its first use; in memory each is its own."""
    with _open_lock:
        key = None if path is None else str(Path(path).resolve())
        shared = _open.get(key) if key is not None else None
        if shared is None:
            shared = _Shared(path)
            if key is not None:
                _open[key] = shared
        shared.users += 1
        return shared


def _release(shared: _Shared) -> None:
    """Give an open file back; the last one closes it, even when the last write fails."""
    with _open_lock:
        shared.users -= 1
        if shared.users > 0:
            shared.log.flush()
            return
        for key in [key for key, value in _open.items() if value is shared]:
            del _open[key]
        try:
            shared.log.close()
        finally:
            shared.artefacts.close()
            shared.store.close()
