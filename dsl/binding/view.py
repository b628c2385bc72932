"""What binding asks of the catalog, and what one binding knows about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import duckdb
from sqlglot import exp

from ...errors import BindError
from ...ir.models import Device, Model, Pipeline, Variant
from ...ir.slo import Slo
from ...ir.types import ROW, Schema, SqlExpr
from .problems import Place
from .types import null_row


class CatalogView(Protocol):
    """The catalog as dsl sees it; names are case-insensitive."""

    def model(self, name: str) -> Model | None:
        """The model of that name."""

    def models(self) -> tuple[Model, ...]:
        """All models."""

    def variant(self, full_name: str) -> Variant | None:
        """The variant `model.variant`."""

    def variants(self, model: str) -> tuple[Variant, ...]:
        """A model's variants."""

    def device(self, name: str) -> Device | None:
        """The device of that name."""

    def devices(self) -> tuple[Device, ...]:
        """All devices."""

    def pipeline(self, name: str) -> Pipeline | None:
        """The pipeline of that name."""

    def pipelines(self) -> tuple[Pipeline, ...]:
        """All pipelines."""

    def slo(self, name: str) -> Slo | None:
        """The SLO of that name."""

    def slos(self) -> tuple[Slo, ...]:
        """All SLOs."""

    def describe(self, sql: str) -> Schema:
        """DuckDB's names and types of a query's columns; raises duckdb.Error."""


class Context:
    """The state of one binding: names taken in its plan, and the catalog's functions.

    Attributes:
        catalog: who knows.
        models: by lower-case name.
        pipelines: by lower-case name.
        undefined: why accuracy is undefined for the query, if it is.
    """

    def __init__(self, catalog: CatalogView) -> None:
        self.catalog = catalog
        self.models = {model.name.lower(): model for model in catalog.models()}
        self.pipelines = {pipeline.name.lower(): pipeline for pipeline in catalog.pipelines()}
        self.undefined: str | None = None
        self._taken: set[str] = {ROW}
        self._volatile: dict[str, bool] = {}

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of all models and pipelines."""
        return (
            *(model.name for model in self.models.values()),
            *(pipeline.name for pipeline in self.pipelines.values()),
        )

    def is_call(self, name: str | None) -> bool:
        """Is a function of that lower-case name one of ours?"""
        return name is not None and (name in self.models or name in self.pipelines)

    def volatile(self, model: Model) -> bool:
        """Has the model a VOLATILE variant?"""
        if model.name not in self._volatile:
            variants = self.catalog.variants(model.name)
            self._volatile[model.name] = any(variant.volatile for variant in variants)
        return self._volatile[model.name]

    def lose_accuracy(self, why: str) -> None:
        """Accuracy has become undefined; the first reason stays."""
        if self.undefined is None:
            self.undefined = why

    def unique(self, name: str) -> str:
        """A column name nobody has in this plan: the name itself, or with `_2`, `_3`, …."""
        return self.unique_step(name, ("",))

    def unique_step(self, step: str, outputs: Sequence[str]) -> str:
        """A step name whose columns `step.output` (or `step`, for the output '') are all free."""
        for attempt in range(1, len(self._taken) + 2):
            candidate = step if attempt == 1 else f"{step}_{attempt}"
            wanted = {f"{candidate}.{out}".rstrip(".").lower() for out in outputs}
            if not wanted & self._taken:
                self._taken |= wanted
                return candidate
        raise AssertionError("more names than attempts")

    def describe(self, sql: str, place: Place) -> Schema:
        """The columns of a query, DuckDB's refusal as a binding error.

        Raises:
            BindError: OC0201 to OC0204, OC0227, OC0228 or OC0234, DuckDB refuses the query.
        """
        try:
            return self.catalog.describe(sql)
        except duckdb.Error as error:
            raise place.refused(error, self.functions) from error

    def describes(self, sql: str) -> bool:
        """Does DuckDB accept the query?"""
        try:
            self.catalog.describe(sql)
        except duckdb.Error:
            return False
        return True

    def types(
        self,
        exprs: Sequence[SqlExpr],
        schema: Schema,
        place: Place,
        nodes: Sequence[exp.Expr] = (),
    ) -> list[str]:
        """The types of expressions over columns; one question to DuckDB for all that need one.

        `nodes` are what was written, pairwise with the expressions, to blame the right one.

        Raises:
            BindError: as `describe`.
        """
        known = {field.name: field for field in schema}
        asked: dict[str, SqlExpr] = {
            expr.text: expr for expr in exprs if plain_column(expr) is None
        }
        found: dict[str, str] = {}
        if asked:
            read = {name for expr in asked.values() for name in expr.columns}
            row = null_row(tuple(known[name] for name in sorted(read)))
            try:
                described = self.catalog.describe(f"SELECT {', '.join(asked)} FROM ({row})")
            except duckdb.Error as error:
                raise self._blamed(error, exprs, row, place, nodes) from error
            found = {text: field.type for text, field in zip(asked, described, strict=True)}
        return [
            found[expr.text] if name is None else known[name].type
            for expr in exprs
            for name in [plain_column(expr)]
        ]

    def _blamed(
        self,
        error: duckdb.Error,
        exprs: Sequence[SqlExpr],
        row: str,
        place: Place,
        nodes: Sequence[exp.Expr],
    ) -> BindError:
        """DuckDB's refusal, at the first expression it refuses by itself."""
        for expr, node in zip(exprs, nodes, strict=False):
            asked = plain_column(expr) is None
            if asked and not self.describes(f"SELECT {expr.text} FROM ({row})"):
                return place.refused(error, self.functions, node)
        return place.refused(error, self.functions)


def plain_column(expr: SqlExpr) -> str | None:
    """The column's name, when an expression is a column and nothing else."""
    if len(expr.columns) != 1:
        return None
    name = expr.columns[0]
    return name if expr.text == '"' + name.replace('"', '""') + '"' else None
