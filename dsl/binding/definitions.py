"""Declarations: CREATE MODEL, VARIANT, DEVICE, LINK, PIPELINE and SLO as catalog objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import assert_never

import duckdb
from sqlglot import exp

from ...errors import Span
from ...ir.models import (
    Backend,
    Derivation,
    Device,
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
from .pipelines import Body, BodyNames, NoQueries
from .problems import Place, problem
from .rewriting import Rewriter
from .rows import Rows, source_of
from .slos import bind_constraint, bind_objective
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
)
Declared = Model | Variant | Device | Link | Pipeline | Slo

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
            return _device(stmt)
        case ast.CreateLink():
            return _link(stmt)
        case ast.CreatePipeline():
            return _pipeline(stmt, catalog)
        case ast.CreateSlo():
            constraints = tuple(bind_constraint(item, catalog) for item in stmt.constraints)
            objective = Objective() if stmt.objective is None else bind_objective(stmt.objective)
            return Slo(constraints, objective, stmt.name.text)
    assert_never(stmt)


def _unique(found: Iterable[ast.Name], what: str) -> None:
    seen: set[str] = set()
    for name in found:
        if name.text.lower() in seen:
            raise problem(
                "OC0220", f"{what} {name.text} is declared twice", name.span, label="again here"
            )
        seen.add(name.text.lower())


def _schema(columns: Sequence[ast.Column], what: str, catalog: CatalogView) -> Schema:
    """The columns with DuckDB's own spelling of their types; one question for all of them."""
    _unique((column.name for column in columns), what)
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
    return Metric(ref.name.text.lower(), output.name, tuple(arg.value for arg in ref.args))


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
    return Variant(
        model.name,
        name,
        _backend(stmt.backend),
        _derivation(stmt, model, name, catalog),
        _knobs(stmt.knobs),
        _price(stmt.prices),
        tuple(_prior(ref) for ref in stmt.priors),
        stmt.base,
        stmt.volatile,
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
    _unique((option.name for option in ref.options), "option")
    options = tuple(sorted((option.name.text, option.value.value) for option in ref.options))
    return Backend(ref.kind.text.lower(), str(ref.target.value), options)


def _derivation(
    stmt: ast.CreateVariant, model: Model, name: str, catalog: CatalogView
) -> Derivation | None:
    ref = stmt.derivation
    if ref is None:
        return None
    known = [variant.full_name for variant in catalog.variants(model.name)]
    base = catalog.variant(ref.base.text)
    if base is None or base.full_name.lower() == f"{model.name}.{name}".lower():
        raise problem(
            "OC0223",
            f"unknown variant {ref.base.text}"
            if base is None
            else f"{base.full_name} cannot be derived from itself",
            ref.base.span,
            label="no such variant" if base is None else "itself",
            candidates=nearest(ref.base.text, known),
        )
    if base.model != model.name:
        raise problem(
            "OC0223",
            f"{base.full_name} is a variant of {base.model}, not of {model.name}",
            ref.base.span,
            label="a variant of another model",
        )
    args = tuple(argument.value for argument in ref.args)
    return Derivation(base.full_name, ref.transform.text.lower(), args)


def _knobs(refs: Sequence[ast.KnobRef]) -> tuple[KnobDomain, ...]:
    _unique((ref.name for ref in refs), "knob")
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


_DEVICE_UNITS = {
    "memory": ("B", "memory_bytes"),
    "price": ("USD/h", "usd_per_hour"),
    "power": ("W", "power_watts"),
    "grid": ("g/kWh", "grid_g_co2_per_kwh"),
}
_DEVICE_COUNTS = ("count", "threads")
_DEVICE_WORDS = ("kind", "tier")
_DEVICE_KEYS = (*_DEVICE_WORDS, *_DEVICE_COUNTS, *_DEVICE_UNITS)


def _device(stmt: ast.CreateDevice) -> Device:
    _unique((item.key for item in stmt.items), "item")
    found: dict[str, object] = {}
    for item in stmt.items:
        key = item.key.text.lower()
        if key in _DEVICE_WORDS:
            found[key] = _word(item)
        elif key in _DEVICE_COUNTS:
            found[key] = _count(item)
        elif key in _DEVICE_UNITS:
            unit, name = _DEVICE_UNITS[key]
            found[name] = _amount(item, unit)
        else:
            raise _unknown_item(item, _DEVICE_KEYS, "device")
    if "kind" not in found:
        raise problem(
            "OC0230",
            f"device {stmt.name.text} has no KIND",
            stmt.span,
            hint="KIND cpu, or KIND cuda",
        )
    return Device(stmt.name.text, **found)  # type: ignore[arg-type]


def _link(stmt: ast.CreateLink) -> Link:
    _unique((item.key for item in stmt.items), "item")
    found: dict[str, float] = {"latency": 0.0}
    for item in stmt.items:
        key = item.key.text.lower()
        units = {"bandwidth": "B/s", "latency": "s"}
        if key not in units:
            raise _unknown_item(item, tuple(units), "link")
        found[key] = _amount(item, units[key])
    if not found.get("bandwidth"):
        raise problem("OC0230", "a link needs a BANDWIDTH above 0", stmt.span)
    return Link(stmt.source.text, stmt.target.text, found["bandwidth"], found["latency"])


def _unknown_item(item: ast.DeviceItem, known: Sequence[str], what: str) -> Exception:
    listed = [key.upper() for key in known]
    return problem(
        "OC0230",
        f"a {what} has no {item.key.text}",
        item.key.span,
        label="unknown item",
        candidates=nearest(item.key.text.upper(), listed),
        notes=("there are " + ", ".join(listed),),
    )


def _word(item: ast.DeviceItem) -> str:
    match item.value:
        case ast.Name(text=text):
            return text.lower() if item.key.text.lower() == "kind" else text
        case ast.Literal_(value=str() as text):
            return text
    raise problem("OC0230", f"{item.key.text} takes a name", item.value.span, label="not a name")


def _count(item: ast.DeviceItem) -> int:
    value = item.value.value if isinstance(item.value, ast.Literal_ | ast.Quantity) else None
    dimension = item.value.dimension if isinstance(item.value, ast.Quantity) else ""
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    if not whole or dimension or int(str(value).partition(".")[0]) < 1:
        raise problem(
            "OC0230", f"{item.key.text} takes a whole number from 1", item.value.span, label="here"
        )
    assert isinstance(value, int | float)
    return int(value)


def _amount(item: ast.DeviceItem, unit: str) -> float:
    if not isinstance(item.value, ast.Quantity):
        value = item.value.value if isinstance(item.value, ast.Literal_) else None
        if value == 0 and not isinstance(value, bool):
            return 0.0
        raise problem("OC0230", f"{item.key.text} takes a quantity with its unit", item.value.span)
    amount = require(item.value, unit, item.key.text.upper())
    if amount < 0:
        raise problem("OC0230", f"{item.key.text} cannot be negative", item.value.span)
    return int(amount) if unit == "B" else amount


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
