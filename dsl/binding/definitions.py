"""Declarations: CREATE MODEL, VARIANT, DEVICE, LINK, PIPELINE, SLO and STATISTICS as objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import assert_never

import duckdb
from sqlglot import exp

from ...errors import Span
from ...ir.models import (
    Backend,
    Device,
    ExtendedStatistics,
    KnobDomain,
    Link,
    Metric,
    Model,
    Pipeline,
    Prior,
    Scalar,
    TokenPrice,
    Variant,
)
from ...ir.slo import METRICS, UNITS, Objective, Slo
from ...ir.types import Field, Schema, names
from .. import ast
from ..diagnostics import nearest
from ..printer import to_text
from ..units import require
from .bodies import BodyNames, NoQueries
from .derivations import bind_derivation
from .devices import bind_device, bind_link, unique
from .pipelines import Body
from .problems import Place, problem
from .rewriting import Rewriter
from .rows import Rows, source_of
from .slos import bind_constraint, bind_objective
from .statistics import bind_statistics
from .trees import plan_column
from .types import is_number
from .view import CatalogView, Context

Definition = (
    ast.CreateModel
    | ast.CreateVariant
    | ast.CreateDevice
    | ast.CreateLink
    | ast.CreatePipeline
    | ast.CreateSlo
    | ast.CreateStatistics
)
Declared = Model | Variant | Device | Link | Pipeline | Slo | ExtendedStatistics

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def bind_definition(stmt: Definition, catalog: CatalogView) -> Declared:
    """The object a CREATE declares.

    Raises:
        BindError: unknown types, names, units; duplicates; a body that does not bind.
    """
    match stmt:
        case ast.CreateModel():
            return _model(stmt, catalog)
        case ast.CreateVariant():
            return _variant(stmt, catalog)
        case ast.CreateDevice():
            return bind_device(stmt)
        case ast.CreateLink():
            return bind_link(stmt)
        case ast.CreatePipeline():
            return _pipeline(stmt, catalog)
        case ast.CreateSlo():
            constraints = tuple(bind_constraint(item, catalog) for item in stmt.constraints)
            objective = Objective() if stmt.objective is None else bind_objective(stmt.objective)
            return Slo(constraints, objective, stmt.name.text)
        case ast.CreateStatistics():
            return bind_statistics(stmt, catalog)
    assert_never(stmt)


def _schema(columns: Sequence[ast.Column], what: str, catalog: CatalogView) -> Schema:
    """The columns with DuckDB's own spelling of their types; one question for all of them."""
    unique((column.name for column in columns), what)
    listed = ", ".join(f"CAST(NULL AS {column.type})" for column in columns)
    try:
        described = catalog.describe(f"SELECT {listed}") if columns else ()
    except duckdb.Error as error:
        raise _unknown_type(columns, catalog) from error
    return tuple(
        Field(column.name.text, field.type)
        for column, field in zip(columns, described, strict=True)
    )


def _unknown_type(columns: Sequence[ast.Column], catalog: CatalogView) -> Exception:
    for column in columns:
        try:
            catalog.describe(f"SELECT CAST(NULL AS {column.type})")
        except duckdb.Error:
            return problem(
                "OC0227", f"unknown type {column.type}", column.span, label="no such type"
            )
    raise AssertionError("one of the types is refused")


def _metric(ref: ast.MetricRef | None, outputs: Schema) -> Metric | None:
    if ref is None:
        return None
    output = _output(ref.output, outputs, "QUALITY")
    args = tuple(arg.value for arg in ref.args)
    target = None if ref.target is None else str(ref.target.value)
    return Metric(ref.name.text.lower(), output.name, args, target)


def _output(name: ast.Name, outputs: Schema, what: str) -> Field:
    for field in outputs:
        if field.name.lower() == name.text.lower():
            return field
    raise problem(
        "OC0221",
        f"{what} names {name.text}, which is not an output",
        name.span,
        label="not an output",
        candidates=nearest(name.text, names(outputs)),
        notes=("the outputs are " + ", ".join(names(outputs)),),
    )


def _not_taken(name: ast.Name, other: object, kind: str) -> None:
    """Models and pipelines are both functions: a name is one or the other."""
    if other is not None:
        raise problem(
            "OC0220",
            f"{name.text} is already a {kind}",
            name.span,
            label="models and pipelines share one namespace",
        )


def _model(stmt: ast.CreateModel, catalog: CatalogView) -> Model:
    _not_taken(stmt.name, catalog.pipeline(stmt.name.text), "pipeline")
    inputs = _schema(stmt.inputs, "input", catalog)
    outputs = _schema(stmt.outputs, "output", catalog)
    confidence = None
    if stmt.confidence is not None:
        field = _output(stmt.confidence, outputs, "CONFIDENCE")
        confidence = field.name
        if not is_number(field.type):
            raise problem(
                "OC0207", f"a confidence is a number, not {field.type}", stmt.confidence.span
            )
    prompt = None
    if stmt.prompt is not None:
        prompt = str(stmt.prompt.value)
        _check_prompt(prompt, stmt.prompt.span, inputs)
    quality = _metric(stmt.quality, outputs)
    return Model(stmt.name.text, inputs, outputs, quality, confidence, prompt)


def _check_prompt(prompt: str, span: Span, inputs: Schema) -> None:
    known = {field.name.lower() for field in inputs}
    for found in _PLACEHOLDER.finditer(prompt):
        name = found[1]
        if name is not None and name.lower() not in known:
            raise problem(
                "OC0231",
                f"the prompt names {{{name}}}, which is not an input",
                span,
                candidates=nearest(name, names(inputs)),
                hint="write {{ and }} for braces",
            )


def _variant(stmt: ast.CreateVariant, catalog: CatalogView) -> Variant:
    if len(stmt.name.parts) != 2:
        raise problem(
            "OC0225",
            "a variant's name is model.variant",
            stmt.name.span,
            label="expected model.variant",
        )
    model = catalog.model(stmt.name.parts[0])
    if model is None:
        known = [item.name for item in catalog.models()]
        raise problem(
            "OC0225",
            f"unknown model {stmt.name.parts[0]}",
            stmt.name.span,
            label="no such model",
            candidates=nearest(stmt.name.parts[0], known),
        )
    name = stmt.name.parts[1]
    if stmt.base:
        _check_base(stmt, model, name, catalog)
    knobs, price = _knobs(stmt.knobs), _price(stmt.prices)
    priors = tuple(_prior(ref) for ref in stmt.priors)
    if stmt.derivation is None:
        backend = _backend(stmt.backend)
        return Variant(
            model.name, name, backend, None, knobs, price, priors, stmt.base, stmt.volatile
        )
    derivation, base = bind_derivation(stmt.derivation, f"{model.name}.{name}", model, catalog)
    return Variant(
        model.name,
        name,
        None,
        derivation,
        knobs or base.knobs,
        price or base.price,
        priors,
        stmt.base,
        stmt.volatile or base.volatile,
    )


def _check_base(stmt: ast.CreateVariant, model: Model, name: str, catalog: CatalogView) -> None:
    for other in catalog.variants(model.name):
        if other.base and other.name.lower() != name.lower():
            raise problem(
                "OC0222",
                f"{model.name} has the BASE variant {other.full_name} already",
                stmt.name.span,
                label="a second BASE",
                hint="a model has one ground truth; declare the other one again without BASE",
            )


def _backend(ref: ast.BackendRef | None) -> Backend | None:
    if ref is None:
        return None
    unique((option.name for option in ref.options), "option")
    options = tuple(sorted((option.name.text, option.value.value) for option in ref.options))
    return Backend(ref.kind.text.lower(), str(ref.target.value), options)


def _knobs(refs: Sequence[ast.KnobRef]) -> tuple[KnobDomain, ...]:
    unique((ref.name for ref in refs), "knob")
    found = []
    for ref in refs:
        seen: set[tuple[type, Scalar]] = set()
        for literal in ref.values:
            value = literal.value
            if (type(value), value) in seen:
                raise problem(
                    "OC0224",
                    f"knob {ref.name.text} has the value {value!r} twice",
                    literal.span,
                    label="again here",
                )
            seen.add((type(value), value))
        if not ref.values:
            raise problem("OC0224", f"knob {ref.name.text} has no values", ref.name.span)
        found.append(KnobDomain(ref.name.text, tuple(literal.value for literal in ref.values)))
    return tuple(found)


def _price(refs: Sequence[ast.PriceRef]) -> TokenPrice | None:
    if not refs:
        return None
    sides: dict[str, float] = {}
    for ref in refs:
        if ref.side in sides:
            raise problem("OC0220", f"the {ref.side} price is given twice", ref.span)
        sides[ref.side] = ref.usd_per_token
    return TokenPrice(sides.get("input", 0.0), sides.get("output", 0.0))


def _prior(ref: ast.PriorRef) -> Prior:
    metric = ref.metric.text.lower()
    metric = "latency_p95" if metric == "latency" else metric
    if metric not in METRICS:
        raise problem(
            "OC0216",
            f"unknown metric {ref.metric.text}",
            ref.metric.span,
            label="no such metric",
            candidates=nearest(metric, sorted(METRICS)),
        )
    return Prior(metric, require(ref.value, UNITS[metric], metric))


def _pipeline(stmt: ast.CreatePipeline, catalog: CatalogView) -> Pipeline:
    _not_taken(stmt.name, catalog.model(stmt.name.text), "model")
    inputs = _schema(stmt.inputs, "input", catalog)
    outputs = _schema(stmt.outputs, "output", catalog)
    quality = _metric(stmt.quality, outputs)
    pipeline = Pipeline(stmt.name.text, inputs, outputs, to_text(stmt), quality)
    ctx = Context(catalog)
    place = Place(stmt.result)
    rows = Rows(ctx, source_of("body", tuple(Field(ctx.unique(f.name), f.type) for f in inputs)))
    caller = bare_rewriter(ctx, rows, place)
    values: list[exp.Expr] = [plan_column(field.name) for field in rows.schema]
    stack = (pipeline.name.lower(),)
    Body(caller, pipeline.name, stmt, place, (), stack).bind(inputs, values, outputs)
    return pipeline


def bare_rewriter(ctx: Context, rows: Rows, place: Place) -> Rewriter:
    """A rewriter for a body bound outside any query."""
    return Rewriter(ctx, rows, BodyNames(place), place, NoQueries())
