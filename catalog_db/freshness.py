"""What the catalog keeps to tell whether a statistic still holds, and what executions add to it.

Environments: what each variant was made of when a run measured it, and is made of now. Marks: what
new rows, drift or contradicting executions made stale. Feedback: measurements pooled with the
executions since.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, NamedTuple

from ..ir.record import dataclass
from ..stats.feedback import Pooled, pool
from ..stats.observation import Observation
from ..stats.staleness import Environment, contradicted
from .store import Store, now

RATIOS = 8
"""Executions' ratios kept for each measurement: enough for the test in `stats.staleness`."""

_CHANGED = """
SELECT r.run, lower(e.variant), e.variant || ': ' || c.reason
FROM octans_internal.run_environments AS r
JOIN octans_internal.environments AS e ON e.id = r.environment
JOIN octans_internal.present AS p ON lower(p.variant) = lower(e.variant)
JOIN octans_internal.changes AS c ON c.past = e.id AND c.present = p.environment
"""
_FED = """
SELECT f.base, f.instead, f.value, f.ci_low, f.ci_high, f.n, f.n_failed, f.measured_at
FROM octans_internal.feedback AS f
WHERE (f.filter = '' OR list_contains($1, f.filter)) AND (
    f.environment = 0 OR f.environment IN (SELECT environment FROM octans_internal.present)
)
ORDER BY f.filter
"""

FedKey = tuple[int, str, int]
"""Of feedback: the measurement's id, the filter it holds behind, the variant's environment."""


class Fed(NamedTuple):
    """A measurement with the executions since; `instead` of it where it was of something else."""

    instead: bool
    value: float
    low: float
    high: float
    n: int
    n_failed: int
    at: datetime

    def fields(self) -> dict[str, Any]:
        """What of an observation it changes."""
        kept = self._asdict()
        del kept["instead"]
        return kept


class Repeat(NamedTuple):
    """An execution's observation and the measurement (with its id) of the same thing.

    `environment` is what the variant is made of now; with `instead` the measurement's was another.
    """

    id: int
    base: Observation
    seen: Observation
    environment: int
    instead: bool

    @property
    def key(self) -> FedKey:
        """Where it is pooled."""
        return self.id, self.seen.filter or "", self.environment


class _Feedback(NamedTuple):
    """A measurement pooled with `runs` executions, the newest ones' ratios to it."""

    instead: bool
    pooled: Pooled
    runs: int
    ratios: list[float]
    at: datetime


class Mark(NamedTuple):
    """What is stale: a subject with its steps; None: of every variant, device, metric."""

    subject: str
    reason: str
    variant: str | None = None
    device: str | None = None
    metric: str | None = None

    def covers(self, one: Observation) -> bool:
        """Is it about this observation?"""
        subject, own = one.subject.lower(), self.subject.lower()
        return (
            (subject == own or subject.startswith(own + "."))
            and (self.variant is None or self.variant.lower() == (one.variant or "").lower())
            and (self.device is None or self.device.lower() == (one.device or "").lower())
            and (self.metric is None or self.metric == one.metric)
        )


@dataclass(frozen=True)
class Reasons:
    """Why observations are stale: by the run's variants, and by marks with their last id.

    Marks are by their subject in lower case.
    """

    changed: Mapping[tuple[int, str], str]
    marks: Mapping[str, list[tuple[int, Mark]]]

    def of(self, number: int, one: Observation) -> str | None:
        """Why this one is; None where nothing says so."""
        if self.changed and one.run is not None:
            for name in _variants(one):
                reason = self.changed.get((one.run, name))
                if reason is not None:
                    return reason
        found = [
            (upto, mark.reason)
            for owner in accumulate(one.subject.lower().split("."), "{}.{}".format)
            for upto, mark in self.marks.get(owner, ())
            if number <= upto and mark.covers(one)
        ]
        return max(found, default=(0, None))[1]


def _variants(one: Observation) -> list[str]:
    """The variants an observation was made with, lower case."""
    if one.variant is not None:
        return [one.variant.lower()]
    parts = one.assignment.split(";") if one.assignment else ()
    return [part.partition("=")[2].partition("(")[0].strip().lower() for part in parts]


class Freshness:
    """Environments, marks and feedback of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- environments -------------------------------------------------------------------------

    def environments(self) -> dict[str, list[tuple[int, Environment]]]:
        """What each variant (lower case) was ever made of, the present one last."""
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                "SELECT lower(e.variant), e.id, e.artefact, e.libraries, e.stamps "
                "FROM octans_internal.environments AS e "
                "LEFT JOIN octans_internal.present AS p ON p.environment = e.id "
                "ORDER BY p.environment IS NOT NULL, e.id"
            ).fetchall()
        found: dict[str, list[tuple[int, Environment]]] = {}
        for variant, number, artefact, libraries, stamps in rows:
            made = Environment(artefact, json.loads(libraries), json.loads(stamps))
            found.setdefault(variant, []).append((number, made))
        return found

    def artefacts(self) -> dict[str, str]:
        """The hash of what each variant (lower case) is made of now, as far as somebody looked."""
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                "SELECT lower(p.variant), e.artefact FROM octans_internal.present AS p "
                "JOIN octans_internal.environments AS e ON e.id = p.environment"
            ).fetchall()
        return dict(rows)

    def notice(self, made: Mapping[str, Environment]) -> dict[str, int]:
        """Remember what variants are made of now; the number of each one's environment."""
        known = self.environments()
        numbers: dict[str, int] = {}
        for variant, environment in made.items():
            mine = known.get(variant.lower(), [])
            same = next((n for n, other in mine if other.same(environment)), None)
            current = mine[-1] if mine else None
            if same is not None and current is not None and current[0] == same:
                if current[1].stamps != environment.stamps:
                    self._stamp(same, environment)
                numbers[variant] = same
            else:
                numbers[variant] = self._present(variant, environment, same, mine)
        return numbers

    def _stamp(self, number: int, made: Environment) -> None:
        """The same content with other times: it need not be read again."""
        with self._store.exclusive() as cursor:
            cursor.execute(
                "UPDATE octans_internal.environments SET stamps = ? WHERE id = ?",
                [json.dumps(dict(made.stamps)), number],
            )

    def _present(
        self,
        variant: str,
        made: Environment,
        same: int | None,
        others: list[tuple[int, Environment]],
    ) -> int:
        """Make an environment the present one; say what it changed against every other."""
        with self._store.exclusive() as cursor:
            if same is None:
                ((same,),) = cursor.execute(
                    "INSERT INTO octans_internal.environments "
                    "(variant, artefact, libraries, stamps, noticed_at) "
                    "VALUES (?, ?, ?, ?, ?) RETURNING id",
                    [
                        variant,
                        made.artefact,
                        json.dumps(dict(made.libraries)),
                        json.dumps(dict(made.stamps)),
                        now(),
                    ],
                ).fetchall()
            cursor.execute(
                "DELETE FROM octans_internal.present WHERE lower(variant) = lower(?)", [variant]
            )
            cursor.execute("INSERT INTO octans_internal.present VALUES (?, ?)", [variant, same])
            for number, other in others:
                reason = other.changed(made)
                if reason is not None:
                    cursor.execute(
                        "DELETE FROM octans_internal.changes WHERE past = ? AND present = ?",
                        [number, same],
                    )
                    cursor.execute(
                        "INSERT INTO octans_internal.changes VALUES (?, ?, ?)",
                        [number, same, reason],
                    )
        assert same is not None
        return same

    def made_of(self, run: int, environments: Collection[int]) -> None:
        """What a run's variants are made of."""
        with self._store.exclusive() as cursor:
            for number in sorted(environments):
                cursor.execute(
                    "INSERT INTO octans_internal.run_environments VALUES (?, ?)", [run, number]
                )

    def environments_of(self, runs: Collection[int]) -> dict[tuple[int | None, str], int]:
        """By run and variant (lower case), what it was made of."""
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                "SELECT r.run, lower(e.variant), e.id FROM octans_internal.run_environments AS r "
                "JOIN octans_internal.environments AS e ON e.id = r.environment "
                "WHERE list_contains(?, r.run)",
                [list(runs)],
            ).fetchall()
        return {(run, variant): number for run, variant, number in rows}

    # --- marks --------------------------------------------------------------------------------

    def mark(self, mark: Mark) -> None:
        """Everything observed so far that it covers is stale."""
        with self._store.exclusive() as cursor:
            cursor.execute(
                "INSERT INTO octans_internal.marks "
                "VALUES (?, ?, ?, ?, ?, nextval('octans_internal.tick'), ?)",
                [mark.subject, mark.variant, mark.device, mark.metric, mark.reason, now()],
            )

    def marked(self, subject: str, since: int) -> str | None:
        """Why the whole of a subject was marked after the ANALYZE `since`; None: it was not."""
        with self._store.cursor() as cursor:
            row = cursor.execute(
                "SELECT reason FROM octans_internal.marks AS m WHERE lower(m.subject) = lower(?) "
                "AND m.variant IS NULL AND m.marked_at > "
                "(SELECT started_at FROM octans_internal.runs WHERE id = ?) ORDER BY upto",
                [subject, since],
            ).fetchone()
        return None if row is None else row[0]

    def reasons(self) -> Reasons:
        """Why anything is stale."""
        with self._store.cursor() as cursor:
            changed = cursor.execute(_CHANGED).fetchall()
            marks = cursor.execute(
                "SELECT upto, subject, reason, variant, device, metric FROM octans_internal.marks"
            ).fetchall()
        by_subject: dict[str, list[tuple[int, Mark]]] = {}
        for upto, *rest in marks:
            by_subject.setdefault(rest[0].lower(), []).append((upto, Mark(*rest)))
        return Reasons({(run, variant): reason for run, variant, reason in changed}, by_subject)

    # --- feedback -----------------------------------------------------------------------------

    def fed(self, filters: Collection[str]) -> dict[int, Fed]:
        """By the id of a measurement, what counts in its place; one of `filters` goes first."""
        with self._store.cursor() as cursor:
            rows = cursor.execute(_FED, [list(filters)]).fetchall()
        return {base: Fed(*rest)._replace(at=rest[-1].replace(tzinfo=UTC)) for base, *rest in rows}

    def fold(self, repeats: Collection[Repeat]) -> None:
        """Pool observations of an execution with the measurements they repeat.

        Where executions in a row contradict a measurement, it is marked.
        """
        if not repeats:
            return
        against: list[tuple[Repeat, str]] = []
        with self._store.exclusive() as cursor:
            fed = _fed_before(cursor, repeats)
            for each in repeats:
                base, now = each.base, _with(fed.get(each.key), each)
                fed[each.key] = now
                told = each.instead or base.statistic not in ("mean", "share")
                ends = Pooled.of(base)
                within = (ends.low / ends.value, ends.high / ends.value) if now.ratios else ()
                reason = None if told else contradicted(base.metric, now.ratios, *within)
                if reason is not None:
                    against.append((each, reason))
            _replace(cursor, fed)
        if against:
            self._contradicted(against)

    def _contradicted(self, against: Collection[tuple[Repeat, str]]) -> None:
        """Mark what executions contradict, once, and nothing that is stale already."""
        known = self.reasons()
        bases = [
            (each.base, reason) for each, reason in against if not known.of(each.id, each.base)
        ]
        for mark in dict.fromkeys(
            Mark(base.subject, reason, base.variant, base.device, base.metric)
            for base, reason in bases
        ):
            self.mark(mark)


def _fed_before(cursor: Any, repeats: Collection[Repeat]) -> dict[FedKey, _Feedback]:
    """What is kept of the measurements that are repeated."""
    rows = cursor.execute(
        "SELECT base, filter, environment, instead, value, ci_low, ci_high, n, n_failed, runs, "
        "ratios, measured_at FROM octans_internal.feedback WHERE list_contains(?, base)",
        [[each.id for each in repeats]],
    ).fetchall()
    wanted = {each.key for each in repeats}
    return {
        (base, filtered, made): _Feedback(instead, Pooled(*rest[:5]), *rest[5:])
        for base, filtered, made, instead, *rest in rows
        if (base, filtered, made) in wanted
    }


def _with(before: _Feedback | None, each: Repeat) -> _Feedback:
    """One more execution."""
    pooled: Pooled | None
    if before is not None:
        pooled, runs, ratios = before.pooled, before.runs, before.ratios
    else:
        pooled, runs, ratios = None if each.instead else Pooled.of(each.base), 0, []
    if each.base.value > 0:
        ratios = [*ratios, each.seen.value / each.base.value][-RATIOS:]
    together = pool(pooled, Pooled.of(each.seen))
    return _Feedback(each.instead, together, runs + 1, ratios, _utc(each.seen.at))


def _replace(cursor: Any, fed: Mapping[FedKey, _Feedback]) -> None:
    """In two statements, however many there are: each takes a millisecond or more."""
    rows = [(*key, f.instead, *f.pooled, f.runs, f.ratios, f.at) for key, f in fed.items()]
    columns = [list(column) for column in zip(*rows, strict=True)]
    cursor.execute(
        "DELETE FROM octans_internal.feedback WHERE (base, filter, environment) IN "
        "(SELECT unnest($1::BIGINT[]), unnest($2::VARCHAR[]), unnest($3::BIGINT[]))",
        columns[:3],
    )
    types = ("BIGINT", "VARCHAR", "BIGINT", "BOOLEAN", *["DOUBLE"] * 3, *["BIGINT"] * 3)
    kinds = (*types, "DOUBLE[]", "TIMESTAMP")
    values = ", ".join(f"unnest(${place}::{kind}[])" for place, kind in enumerate(kinds, 1))
    cursor.execute(f"INSERT INTO octans_internal.feedback SELECT {values}", columns)


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo is not None else at
