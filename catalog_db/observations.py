"""The append-only log of observations: buffered writing, and reading what still holds.

`record` only appends to a queue, so that no model call waits for the disk. The queue is written as
Arrow appends when it is large, every `_PERIOD_S` seconds by a thread, before every read, and at
close. What `flush` has written survives a crash of the process.

Reading gives the newest observation of each key that is about what is declared now. The view
`octans_internal.judged` says the same in SQL; here it is done in Python because it stands on the
path of every EXPLAIN and is three times as fast there.
"""

from __future__ import annotations

import dataclasses
import math
import re
import threading
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import duckdb

from ..errors import CatalogError, InternalError
from ..ir.estimates import Source
from ..stats.observation import Observation
from . import columns, problems
from .definitions import Definitions
from .freshness import Freshness, Repeat
from .store import Store

_LARGE = 10_000
"""Observations in the queue that make the thread write at once (about 1 MB)."""
_CHUNK = 50_000
"""Rows of one append: below DuckDB's row group (122,880), so ids follow the order of arrival."""
_PERIOD_S = 1.0

_ROW = tuple(f.name for f in dataclasses.fields(Observation) if f.name not in ("filter", "stale"))
_FLOATS = ("value", "low", "high")
_WHOLES = ("n", "n_failed", "batch", "subject_version", "variant_version", "run")
_RENAMED = {"at": "measured_at", "low": "ci_low", "high": "ci_high"}
_SEEN = (*(n for n in _ROW if n not in ("given", "assignment", "source")), "filter")
"""The fields kept of what an execution observed."""
_KEY = (
    "subject", "metric", "statistic", "variant", "knobs", "device", "batch", "given", "assignment",
    "deployment",
)  # fmt: skip
_READ = (*_KEY, *(name for name in _ROW if name not in _KEY), "id")
"""What is read: the fields of the key, the others, the id."""
_EMPTY = {"knobs": "coalesce(knobs, '')", "assignment": "coalesce(assignment, '')"}
_EMPTY |= {"n_failed": "coalesce(n_failed, 0)"}
_SELECT = "SELECT {} FROM octans.observations".format(
    ", ".join(_EMPTY.get(name, _RENAMED.get(name, name)) for name in _READ)
)
_NEWEST = """{}{} AND id IN (
    SELECT unnest(CASE WHEN max(id) = max_by(id, measured_at) THEN [max(id)] ELSE list(id) END)
    FROM octans.observations{} GROUP BY {}, subject_version, variant_version
)"""
"""Without what a later and newer row of the same key and versions replaces: whatever is about what
is declared now is so after it, too. Else every ANALYZE would make the next plan slower."""
_AT, _ID = _READ.index("at"), _READ.index("id")
_DEVICE, _SOURCE = _READ.index("device"), _READ.index("source")
_RUN = _READ.index("run")
_SUBJECT_VERSION, _VARIANT_VERSION = _READ.index("subject_version"), _READ.index("variant_version")

POOLED = frozenset({"latency", "failure", "failure_seconds", "rate", "load"})
"""What executions add to. A distribution of lengths is kept whole, a peak is no mean."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LITERALS = r"'(?:[^']|'')*'"
_ASSIGNED = r";[^=;]*=([^(;]+)\("


class ObservationLog:
    """The observations of one store; every method may be called from any thread."""

    def __init__(self, store: Store, definitions: Definitions) -> None:
        self._store = store
        self._definitions = definitions
        self.freshness = Freshness(store)
        self._queue: deque[Observation] = deque()
        self._writing = threading.Lock()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def record(self, observations: Iterable[Observation]) -> None:
        """Queue observations; returns at once.

        Raises:
            CatalogError: OC0511, the catalog is closed.
            InternalError: an observation that the table would refuse.
        """
        if self._closing:
            raise CatalogError("the catalog is closed", code="OC0511")
        accepted = list(observations)
        for observation in accepted:
            _check(observation)  # a bad one in the queue would block all behind it
        self._queue.extend(accepted)
        if self._thread is None:
            self._start()
        elif len(self._queue) >= _LARGE:
            with self._wake:
                self._wake.notify()

    def flush(self) -> None:
        """Write everything recorded so far.

        Raises:
            CatalogError: OC0512, it cannot be written; nothing is lost, the next flush tries again.
        """
        with self._writing:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(_CHUNK, len(self._queue)))]
                try:
                    _append(self._store, batch, "octans.observations", _ROW)
                except BaseException as cause:
                    self._queue.extendleft(reversed(batch))
                    if isinstance(cause, duckdb.Error):
                        raise problems.unwritten(len(self._queue), cause) from cause
                    raise

    def close(self) -> None:
        """Write what is left and stop the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.flush()

    def read(
        self,
        subjects: Collection[str] | None,
        models: Collection[str] = (),
        filters: Collection[str] = (),
    ) -> list[Observation]:
        """The newest observation of each key that is about what is declared now.

        `subjects` are contexts, None for all; those of `models` and of their variants come too.
        What executions added to a measurement since is in it; of those behind a filter only what
        was seen behind one of `filters`. What no longer holds says why in `stale`.
        """
        return self._pooled(*self._newest(subjects, models), filters)

    def fold(self, seen: Collection[Observation], environments: Mapping[str, int]) -> None:
        """Keep what an execution observed, and pool it with the measurements it repeats.

        `environments` tells, by variant, what each is made of now. The first selectivity of a
        filter is its measurement, a modelled one where it is of the rows that passed another, which
        the first of all rows replaces; of models only what was measured of this very context is
        pooled, for one execution's batch size is no measurement of a model.
        """
        judge, newest = self._newest({one.subject for one in seen}, ())
        ran = {row[_RUN] for row in newest.values() if row[_RUN] is not None}
        runs = self.freshness.environments_of(ran)
        first, repeats = [], []
        for one in seen:
            row = newest.get(tuple(getattr(one, name) for name in _KEY))
            of_filter = one.subject.startswith("filter:")
            if of_filter and (row is None or (row[_SOURCE] == "modelled" and not one.filter)):
                source: Source = "modelled" if one.filter else "measured"
                first.append(dataclasses.replace(one, source=source))
            elif row is not None and one.metric in POOLED:
                (base,) = judge.observations([row])
                made = environments.get(one.variant or "", 0)
                then = runs.get((base.run, (one.variant or "").lower()), made)
                one = dataclasses.replace(one, subject_version=base.subject_version)
                repeats.append(Repeat(row[_ID], base, one, made, instead=made > 0 and then != made))
        _append(self._store, list(seen), "octans.executions", _SEEN)
        self.record(first)
        self.freshness.fold(repeats)

    def _newest(
        self, subjects: Collection[str] | None, models: Collection[str]
    ) -> tuple[_Judge, dict[tuple[Any, ...], tuple[Any, ...]]]:
        """By key, the newest row that is about what is declared now."""
        if self._queue:
            self.flush()
        where, parameters = _condition(subjects, models)
        with self._store.cursor() as cursor:
            query = _NEWEST.format(_SELECT, where, where, ", ".join(_KEY))
            rows = cursor.execute(query, parameters).fetchall()
        judge = _Judge(self._definitions)
        newest: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for row in rows:
            admitted = judge.admit(row)
            if admitted is not None:
                key = admitted[: len(_KEY)]
                other = newest.get(key)
                if other is None or (row[_AT], row[_ID]) >= (other[_AT], other[_ID]):
                    newest[key] = admitted
        return judge, newest

    def _pooled(
        self,
        judge: _Judge,
        newest: dict[tuple[Any, ...], tuple[Any, ...]],
        filters: Collection[str],
    ) -> list[Observation]:
        """The rows as observations, each with what executions added and why it is stale."""
        made = judge.observations(newest.values())
        if not made:
            return made
        fed = self.freshness.fed(filters)
        why = self.freshness.reasons()
        found = []
        for row, one in zip(newest.values(), made, strict=True):
            together = fed.get(row[_ID])
            reason = None
            if together is None or not together.instead:
                reason = judge.redefined(row) or why.of(row[_ID], one)
            if together is not None or reason is not None:
                changes = {} if together is None else together.fields()
                one = dataclasses.replace(one, **changes, stale=reason)
            found.append(one)
        return found

    def _start(self) -> None:
        with self._wake:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(
                    target=self._run, name="octans-observations", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            with self._wake:
                self._wake.wait(_PERIOD_S)
            try:
                self.flush()
            except CatalogError:
                continue  # the queue still holds them; a read, flush or close reports it


class _Known(NamedTuple):
    """A current definition: its name as declared, its version and since when it holds."""

    name: str | None
    version: int | None
    since: int
    versioned: bool = True

    def holds(self, version: int | None, tick: int) -> bool:
        """Is an observation of that version, or with none appended at that tick, about this?"""
        if not self.versioned:
            return True
        return tick > self.since if version is None else version == self.version


_NOTHING = _Known(None, None, -1, versioned=False)
"""What an observation without a variant or a device is about."""


class _Judge:
    """Which observations are about the current definitions; remembers names it has resolved."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._subjects: dict[str | None, _Known | None] = {}
        self._variants: dict[str | None, _Known | None] = {None: _NOTHING}
        self._devices: dict[str | None, _Known | None] = {None: _NOTHING}
        self._assignments: dict[str, int | None] = {"": -1}

    def admit(self, row: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A row of `_SELECT`, names as declared, if it is about what is declared now."""
        name, variant_name, device_name, assignment = row[0], row[3], row[5], row[8]
        if name not in self._subjects:
            self._subjects[name] = self._subject(name)
        if variant_name not in self._variants:
            self._variants[variant_name] = self._named("variant", variant_name)
        if device_name not in self._devices:
            self._devices[device_name] = self._named("device", device_name)
        if assignment not in self._assignments:
            self._assignments[assignment] = self._assigned(assignment)
        subject, variant = self._subjects[name], self._variants[variant_name]
        device, since = self._devices[device_name], self._assignments[assignment]
        if subject is None or variant is None or device is None or since is None:
            return None
        tick = row[_ID]
        if tick <= since:
            return None
        versions_hold = subject.holds(row[_SUBJECT_VERSION], tick) and variant.holds(
            row[_VARIANT_VERSION], tick
        )
        if not versions_hold:
            return None
        if (name, variant_name, device_name) == (subject.name, variant.name, device.name):
            return row
        return (subject.name, *row[1:3], variant.name, row[4], device.name, *row[6:])

    def redefined(self, row: tuple[Any, ...]) -> str | None:
        """Why a row admitted is stale by its device, if it is."""
        device = self._devices[row[_DEVICE]]
        if device is None or row[_ID] > device.since:
            return None
        return f"device {device.name} changed"

    def observations(self, rows: Collection[tuple[Any, ...]]) -> list[Observation]:
        """Admitted rows as observations, versions filled in.

        They are made a column at a time through the slots' descriptors: the constructor of a frozen
        dataclass would take half of the time of the whole read.
        """
        made = [object.__new__(Observation) for _ in rows]
        if not made:
            return made
        fields = dict(zip(_READ, zip(*rows, strict=True), strict=True))
        fields["at"] = tuple(at.replace(tzinfo=UTC) for at in fields["at"])
        fields["filter"] = fields["stale"] = (None,) * len(made)
        for name, known in (("subject", self._subjects), ("variant", self._variants)):
            versions = fields[f"{name}_version"]
            if None in versions:
                fields[f"{name}_version"] = tuple(
                    found.version if version is None and (found := known[key]) else version
                    for key, version in zip(fields[name], versions, strict=True)
                )
        for name, setter in _SETTERS.items():
            deque(map(setter, made, fields[name]), maxlen=0)
        return made

    def _subject(self, name: str) -> _Known | None:
        """A model, a pipeline, a step of one, or a filter (which has no versions)."""
        if name.startswith("filter:"):
            return _Known(name, 1, -1, versioned=False)
        for owner in (name, name.partition(".")[0]):
            for kind in ("pipeline", "model"):
                entry = self._definitions.entry(kind, owner)
                if entry is not None:
                    declared = entry.name + name[len(owner) :]
                    self._subjects[declared] = _Known(declared, entry.version, entry.since)
                    return self._subjects[declared]
        return None

    def _named(self, kind: str, name: str | None) -> _Known | None:
        entry = self._definitions.entry(kind, name or "")
        if entry is None:
            return None
        known = _Known(entry.name, entry.version, entry.since)
        (self._variants if kind == "variant" else self._devices)[entry.name] = known
        return known

    def _assigned(self, assignment: str) -> int | None:
        """The tick of the newest definition an assignment names; None when one is gone."""
        names = re.findall(_ASSIGNED, ";" + re.sub(_LITERALS, "", assignment))
        entries = [self._definitions.entry("variant", name.strip()) for name in names]
        known = [entry.since for entry in entries if entry is not None]
        return max(known, default=-1) if len(known) == len(names) else None


_SETTERS = {field: vars(Observation)[field].__set__ for field in (*_ROW, "filter", "stale")}


_SHARES = frozenset(
    {"quality", "row_quality", "joint_errors", "failure", "accuracy", "distinct", "length"}
)
"""Metrics that lie between 0 and 1; a rate counts elements where EACH makes several of a row."""


def _check(observation: Observation) -> None:
    batch = observation.batch
    room = 1e-9 * abs(observation.value)
    if (
        not (math.isfinite(observation.value) and observation.value >= 0)
        or (observation.value > 1 and observation.metric in _SHARES)
        or (observation.low is not None and not observation.low <= observation.value + room)
        or (observation.high is not None and not observation.high >= observation.value - room)
        or observation.n < 0
        or (batch is not None and batch < 1)
    ):
        raise InternalError(
            f"an observation of {observation.subject} is no measurement: {observation.metric} = "
            f"{observation.value}, n = {observation.n}, batch = {batch}",
            code="OC0906",
        )


def _condition(subjects: Collection[str] | None, models: Collection[str]) -> tuple[str, list[Any]]:
    """WHERE clause and parameters that choose the subjects."""
    if subjects is None:
        return " WHERE TRUE", []
    clause = " WHERE (list_contains($1, lower(subject))"
    parameters: list[Any] = [[name.lower() for name in subjects]]
    if models:
        clause += " OR list_contains($2, lower(split_part(subject, '.', 1)))"
        clause += " OR list_contains($2, lower(split_part(variant, '.', 1)))"
        parameters.append([name.lower() for name in models])
    return f"{clause})", parameters


def _append(store: Store, batch: list[Observation], relation: str, fields: Sequence[str]) -> None:
    """Write these fields of observations, in order, as one Arrow append."""
    import pyarrow as pa  # only who measures needs it, so EXPLAIN does not load it

    arrays = []
    for name in fields:
        values = [getattr(observation, name) for observation in batch]
        if name == "at":
            arrays.append(columns.numbers([_microseconds(at) for at in values], "q"))
        elif name in _FLOATS or name in _WHOLES:
            arrays.append(columns.numbers(values, "d" if name in _FLOATS else "q"))
        else:
            arrays.append(columns.texts(values))
    named = [_RENAMED.get(name, name) for name in fields]
    table = pa.table(arrays, names=named)
    listed = ", ".join(named)
    read = listed.replace("measured_at", "make_timestamp(measured_at)")
    with store.cursor() as cursor:
        cursor.register("recorded", table)
        cursor.execute(f"INSERT INTO {relation} ({listed}) SELECT {read} FROM recorded")
        cursor.unregister("recorded")


def _microseconds(at: datetime) -> int:
    """Since 1970 UTC; a time without a zone is UTC already."""
    return ((at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
