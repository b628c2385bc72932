"""`INSERT INTO octans.observations`: rows are judged before any of them counts.

DuckDB runs the INSERT into a table of the same columns without checks. Rows that are no measurement
are refused, all or nothing; of the others names and knobs are put as they are declared, and what
no declared choice matches is kept and said.

Error code: OC0516 a row that is no measurement.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import duckdb

from .dsl import ast
from .dsl.diagnostics import nearest
from .dsl.parser import parse_one
from .errors import CatalogError, Span
from .ir.models import Knobs, Model, Pipeline, Scalar, Variant, knobs_text
from .ir.types import quote
from .plain import rows_of
from .planner.advice import same_value
from .result import Result
from .stats.imported import Imported, Refusal, refusals, settings
from .stats.observation import STATISTICS

if TYPE_CHECKING:
    import pyarrow as pa

    from .catalog_db.catalog import Catalog

STAGED = "octans_observations"
"""As long as octans.observations, so that what DuckDB says of a place in the text stays right."""

TOLD = 5
"""Reasons named, the others counted (our choice)."""

_NAMES = ("subject", "variant", "knobs", "device")


def insert(cursor: duckdb.DuckDBPyConnection, catalog: Catalog, text: str, target: Span) -> Result:
    """Run an INSERT whose target, octans.observations, stands at `target` of its text.

    Returns:
        What DuckDB answers, with what is to be said of the rows as its message.

    Raises:
        CatalogError: OC0516, a row is no measurement; none is kept then.
        duckdb.Error: DuckDB refuses the statement.
    """
    _stage(cursor)
    try:
        answer = cursor.sql(f"{text[: target.start]}{STAGED}{text[target.end :]}")
    except duckdb.Error as error:
        raise type(error)(str(error).replace(STAGED, "octans.observations")) from error
    table = cursor.sql(f"SELECT * FROM {STAGED} ORDER BY rowid").to_arrow_table()
    rows = _rows(table)
    refused = tuple(refusals(rows, int(time.time() * 1e6)))
    if refused:
        raise _refused(refused)
    names = _Names(catalog)
    judged = [names.of(row) for row in rows]
    _keep(cursor, table, judged)
    result = rows_of(answer)
    result.message = _message(judged)
    return result


def _stage(cursor: duckdb.DuckDBPyConnection) -> None:
    """A table for what is handed in: the columns and defaults of observations, no checks, no id."""
    described = cursor.execute("DESCRIBE octans.observations").fetchall()
    columns = [
        f"{quote(name)} {kind}" + (f" DEFAULT {default}" if default and name != "id" else "")
        for name, kind, _, _, default, _ in described
    ]
    cursor.execute(f"CREATE TEMP TABLE {STAGED} ({', '.join(columns)})")


def _rows(table: pa.Table) -> list[Imported]:
    """What there is to judge of each row."""
    import pyarrow as pa

    place = table.column_names.index("measured_at")  # no datetime holds an infinite time
    numbered = table.set_column(place, "measured_at", table.column(place).cast(pa.int64()))
    columns = [numbered.column(name).to_pylist() for name in Imported._fields]
    return [Imported(*row) for row in zip(*columns, strict=True)]


def _refused(refused: Sequence[Refusal]) -> CatalogError:
    """OC0516, with the first rows."""
    first, *others = refused
    notes = [f"row {other.row}: {other.why}" for other in others[:TOLD]]
    if len(others) > TOLD:
        notes.append(f"and {len(others) - TOLD} more")
    return CatalogError(
        f"row {first.row} is no measurement: {first.why}",
        code="OC0516",
        notes=tuple(notes),
        hint=first.hint or "mend it, or leave it out by WHERE: none of the rows was kept",
        candidates=nearest(first.meant, first.known),
    )


class _Subject(NamedTuple):
    """A subject as declared, the model it calls, and why no plan looks it up; see `_Judged`."""

    name: str
    model: str | None = None
    missing: str | None = None
    unused: str | None = None


class _Judged(NamedTuple):
    """A row's subject, variant, knobs and device as declared, and why no plan looks them up.

    `missing` is not declared, and may be later; `unused` stays so.
    """

    names: tuple[str | None, ...]
    missing: str | None
    unused: str | None


class _Names:
    """Looks up what rows name; the same names once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[tuple[object, ...], _Judged] = {}
        self._subjects: dict[str, _Subject] = {}

    def of(self, row: Imported) -> _Judged:
        """What of a row is declared."""
        key = (
            *(row.subject, row.variant, row.knobs, row.device, row.metric, row.given),
            row.variant_version,
        )
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._judged(row)
        return found

    def _judged(self, row: Imported) -> _Judged:
        assert row.subject is not None
        if row.subject not in self._subjects:
            self._subjects[row.subject] = self._subject(row.subject)
        subject, model, missing, unused = self._subjects[row.subject]
        variant = self._catalog.variant(row.variant or "")
        device = self._catalog.device(row.device or "")
        if row.variant is not None and variant is None:
            missing = missing or f"there is no variant {row.variant}"
        if row.device is not None and device is None:
            missing = missing or f"there is no device {row.device}"
        own = model is not None and row.given is None  # else it is the other step's variant
        if own and variant is not None and variant.model.lower() != str(model).lower():
            unused = unused or f"{variant.full_name} is no variant of {model}"
        given = settings(row.knobs) or ()
        knobs = ", ".join(f"{name} := {_plain(value)}" for name, value in sorted(given))
        if variant is not None and row.variant_version in (None, variant.version):
            matched = matching(variant, given)
            if isinstance(matched, str):
                unused = unused or matched
            else:
                knobs = knobs_text(matched)
        if row.metric not in STATISTICS:
            unused = unused or _unplanned(row.metric or "")
        names = (
            subject,
            row.variant if variant is None else variant.full_name,
            knobs,
            row.device if device is None else device.name,
        )
        return _Judged(names, missing, unused)

    def _subject(self, name: str) -> _Subject:
        if name.startswith("filter:"):
            return _Subject(name)
        owner, _, step = name.partition(".")
        declared = self._catalog.pipeline(owner) or self._catalog.model(owner)
        if declared is None:
            return _Subject(name, missing=f"there is no model or pipeline {owner}")
        if not step:
            return _Subject(declared.name, declared.name if isinstance(declared, Model) else None)
        if isinstance(declared, Pipeline):
            body = parse_one(declared.text)
            assert isinstance(body, ast.CreatePipeline)
            for own in body.steps:
                if own.name.text.lower() == step.lower():
                    return _Subject(f"{declared.name}.{own.name.text}", own.model.text)
        full = f"{declared.name}.{step}"
        return _Subject(full, unused=f"{declared.name} has no step {step}")


def matching(variant: Variant, given: Sequence[tuple[str, str]]) -> Knobs | str:
    """The variant's setting that is written so, in the order of names, or why it has none."""
    domains = {domain.name.lower(): domain for domain in variant.knobs}
    for name, _ in given:
        if name.lower() not in domains:
            return f"{variant.full_name} has no knob {name}"
    texts = {name.lower(): text for name, text in given}
    found: list[tuple[str, Scalar]] = []
    for domain in sorted(variant.knobs, key=lambda domain: domain.name):
        text = texts.get(domain.name.lower())
        if text is None:
            return f"the knob {domain.name} of {variant.full_name} is not given"
        same = [value for value in domain.values if same_value(value, text)]
        if not same:
            return f"{variant.full_name} does not declare {domain.name} := {text}"
        found.append((domain.name, same[0]))
    return tuple(found)


def _plain(text: str) -> str:
    """A number as it is kept; other values as they are written."""
    for kind in (int, float):
        try:
            return repr(kind(text))
        except ValueError:
            continue
    return text


def _unplanned(metric: str) -> str:
    near = nearest(metric, STATISTICS)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no plan is made with {metric}{meant}"


def _keep(cursor: duckdb.DuckDBPyConnection, table: pa.Table, judged: Sequence[_Judged]) -> None:
    """Append the rows, names as declared, and why any of them is not looked up."""
    import pyarrow as pa

    ticks = "SELECT nextval('octans_internal.tick') FROM range(?)"
    fresh = sorted(tick for (tick,) in cursor.execute(ticks, [len(judged)]).fetchall())
    given = table.column("id").to_pylist()
    ids = [new if old is None else old for new, old in zip(fresh, given, strict=True)]
    changed = {"id": pa.array(ids, pa.int64())}
    for name, values in zip(_NAMES, zip(*(one.names for one in judged), strict=True), strict=False):
        changed[name] = pa.array(values, pa.string())
    for name, column in changed.items():
        table = table.set_column(table.column_names.index(name), name, column)
    reasons = pa.table(
        {
            "observation": changed["id"],
            "reason": pa.array([one.unused for one in judged], pa.string()),
        }
    )
    cursor.register("octans_judged", table)
    cursor.register("octans_reasons", reasons)
    cursor.begin()
    cursor.execute("INSERT INTO octans.observations BY NAME FROM octans_judged")
    cursor.execute(
        "INSERT INTO octans_internal.unused FROM octans_reasons WHERE reason IS NOT NULL"
    )
    cursor.commit()
    cursor.unregister("octans_judged")
    cursor.unregister("octans_reasons")


def _message(judged: Sequence[_Judged]) -> str | None:
    """What is to be said of rows that no plan looks up."""
    reasons = Counter(one.unused or one.missing for one in judged if one.unused or one.missing)
    if not reasons:
        return None
    told = [f"{why} ({count})" for why, count in reasons.most_common(TOLD)]
    if len(reasons) > TOLD:
        told.append(f"{len(reasons) - TOLD} other reasons")
    return f"note: no plan looks up {reasons.total()} of {len(judged)} rows: {', '.join(told)}"
