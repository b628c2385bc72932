"""SHOW and DESCRIBE: what the catalog holds, as relations for people to read.

`SHOW kind` reads the view `octans.kind`; the relations here choose and order columns for a screen.
"""

from __future__ import annotations

import dataclasses

import duckdb

from ..errors import CatalogError
from ..ir.models import KnobDomain, Metric, knobs_text, scalar_text
from ..ir.node import Value
from . import problems
from .codec import Definition
from .definitions import Definitions, Kind, kind_of
from .store import Store

KINDS: tuple[Kind, ...] = (
    "model", "variant", "device", "link", "pipeline", "slo", "statistics",
)  # fmt: skip

_AGE = "CASE WHEN measured_at IS NOT NULL THEN octans_internal.span(seconds) END"
_ABOUT = (
    "(lower(subject) = lower($1) OR starts_with(lower(subject), lower($1) || '.') "
    "OR lower(variant) = lower($1) OR starts_with(lower(variant), lower($1) || '.'))"
)
_SHOW = {
    "models": "FROM octans.models",
    "variants": "SELECT variant, lineage, backend, options, knobs, base, bytes, version, state "
    "FROM octans_internal.lineage WHERE $1 IS NULL OR lower(model) = lower($1) ORDER BY path",
    "devices": "FROM octans.devices",
    "links": "FROM octans.links",
    "pipelines": "FROM octans.pipelines",
    "slos": "FROM octans.slos",
    "extended_statistics": "FROM octans.extended_statistics",
    "deployments": "FROM octans.deployments",
    "jobs": "FROM octans.jobs",
    "runs": "FROM octans.runs",
    "histories": "SELECT id, subject, slo, "
    "octans_internal.span(epoch(now()::TIMESTAMP - kept_at)::BIGINT) AS age, plans, rows, best, "
    "accuracy, accuracy_low, accuracy_high, accuracy_n, cost, cost_low, cost_high, cost_n, state, "
    "reason FROM octans.histories",
    "plans": "SELECT id, chosen_at, reason, advice, measured, fingerprint, query FROM octans.plans "
    "WHERE $1 IS NULL OR list_contains(list_transform(subjects, lambda s: lower(s)), lower($1))",
    "statistics": "SELECT subject, metric, statistic, variant, knobs, device, batch, given, "
    f"assignment, deployment, value, ci_low, ci_high, n, n_failed, {_AGE} AS age, source, state, "
    "reason FROM (SELECT *, epoch(now()::TIMESTAMP - measured_at)::BIGINT AS seconds "
    f"FROM octans.statistics WHERE $1 IS NULL OR {_ABOUT}) "
    "ORDER BY subject, metric, variant, knobs, device, batch, given, assignment, deployment, "
    "statistic",
    "observations": "SELECT * FROM (SELECT * FROM octans.observations UNION ALL BY NAME "
    f"SELECT * FROM octans.executions) WHERE $1 IS NULL OR {_ABOUT} ORDER BY measured_at, id",
}


class Views:
    """The relations of one store."""

    def __init__(self, store: Store, definitions: Definitions) -> None:
        self._store = store
        self._definitions = definitions

    def show(
        self, kind: str, of: str | None, cursor: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        """The relation of SHOW `kind` [OF | FOR `of`], on a cursor with the session's settings.

        Raises:
            CatalogError: OC0506, no such kind, or nothing is called `of`.
        """
        sql = _SHOW.get(kind.lower())
        if sql is None:
            raise problems.unknown("relation", f"octans.{kind}", _SHOW)
        if of is not None:
            self._check(kind, of)
        return cursor.sql(sql, params=[of]) if "$1" in sql else cursor.sql(sql)

    def describe(self, name: str) -> duckdb.DuckDBPyRelation | None:
        """Everything declared under a name: kind, property, value; None when it is not ours."""
        found = [self._definitions.get(kind, name) for kind in KINDS]
        rows = [row for definition in found if definition for row in _properties(definition)]
        if not rows:
            return None
        cursor = self._store.cursor()
        texts = [list(column) for column in zip(*rows, strict=True)]
        return cursor.sql(
            "SELECT unnest($1::VARCHAR[]) AS kind, unnest($2::VARCHAR[]) AS property, "
            "unnest($3::VARCHAR[]) AS value",
            params=texts,
        )

    def _check(self, kind: str, of: str) -> None:
        """A misspelt name must not look like an empty answer."""
        owner = of.partition(".")[0]
        kinds: tuple[Kind, ...] = ("model",) if kind == "variants" else KINDS
        if kind != "variants" and of.startswith("filter:"):
            return
        if any(self._definitions.entry(k, name) for k in kinds for name in (of, owner)):
            return
        near = {n for k in kinds for n in self._definitions.near(k, of)}
        what = "model" if kind == "variants" else "model, variant, pipeline or device"
        raise CatalogError(
            f"there is no {what} {of}", code="OC0506", candidates=tuple(sorted(near))
        )


def _properties(definition: Definition) -> list[tuple[str, str, str | None]]:
    kind = kind_of(definition)
    return [
        (kind, field.name, _text(field.name, getattr(definition, field.name)))
        for field in dataclasses.fields(definition)
    ]


def _text(name: str, value: object) -> str | None:
    """A field for people: schemas and knobs as they are written, other values as they are."""
    match value:
        case None | ():
            return None
        case str():
            return value
        case bool() | int() | float():
            return scalar_text(value)
        case Metric(name=metric, output=output, args=args, target=target):
            first = [output] if target is None else [scalar_text(target), output]
            return f"{metric}({', '.join([*first, *map(scalar_text, args)])})"
        case KnobDomain(name=knob, values=values):
            return f"{knob} IN ({', '.join(map(scalar_text, values))})"
        case tuple() if name == "options":
            return knobs_text(value)
        case tuple():
            return ", ".join(_text(name, item) or "" for item in value)
        case Value():
            shown = (
                _text(f.name, getattr(value, f.name))
                for f in dataclasses.fields(value)  # type: ignore[arg-type]
            )
            return " ".join(text for text in shown if text is not None)
        case _:
            return str(value)
