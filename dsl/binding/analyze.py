"""ANALYZE: the subject's inputs, labels and clusters over the rows of USING, and its plan."""

from __future__ import annotations

from typing import Literal

from sqlglot import exp

from ...errors import BindError
from ...ir.logical import LogicalNode, Project, Source
from ...ir.models import Model, Pipeline
from ...ir.record import dataclass
from ...ir.slo import Slo
from ...ir.types import Field, NamedExpr, Schema, SqlExpr, column, identifier, names, quote
from .. import ast
from ..diagnostics import nearest
from .budgets import bind_budget
from .calls import CallSites
from .definitions import bare_rewriter
from .pipelines import Body, declaration
from .problems import Place, problem
from .rewriting import value_of
from .rows import Rows
from .slos import bind_slo
from .trees import field_of, is_plan_column, plan_column, sql_of, text_of
from .types import cast, castable
from .view import CatalogView, Context


@dataclass(frozen=True)
class BoundLabel:
    """What an output should be, over USING's columns; `context` is the subject, or a step's."""

    context: str
    output: str
    expr: NamedExpr


@dataclass(frozen=True)
class BoundAnalyze:
    """An ANALYZE ready to run. Expressions are over the columns of `using`."""

    kind: Literal["pipeline", "model"]
    subject: str
    version: int
    using: str
    inputs: tuple[NamedExpr, ...]
    labels: tuple[BoundLabel, ...]
    cluster: SqlExpr | None
    sample: int | None
    uniform: bool
    budget_seconds: float | None
    budget_usd: float | None
    features: tuple[NamedExpr, ...]
    search: bool
    slo: Slo
    target: Model | Pipeline
    catalog: CatalogView

    def body(self, relation: str, keep: tuple[NamedExpr, ...] = ()) -> LogicalNode:
        """The subject's plan over a relation that has its inputs as columns.

        `keep` are expressions over the relation that pass through. The columns are those of `keep`,
        then the subject's outputs.
        """
        return subject_plan(self.target, self.catalog, relation, keep)


def subject_plan(
    target: Model | Pipeline,
    catalog: CatalogView,
    relation: str,
    keep: tuple[NamedExpr, ...] = (),
) -> LogicalNode:
    """A model's or a pipeline's plan over `relation`: the kept columns, then its outputs."""
    ctx = Context(catalog)
    kept = tuple(NamedExpr(ctx.unique(k.name), k.expr, k.type) for k in keep)
    inputs = tuple(
        NamedExpr(ctx.unique(f.name), SqlExpr(quote(f.name), (f.name,)), f.type)
        for f in target.inputs
    )
    rows = Rows(ctx, Source(relation, (*inputs, *kept)))
    values: list[exp.Expr] = [plan_column(item.name) for item in inputs]
    trees = _outputs(ctx, rows, target, values)
    outputs = [
        NamedExpr(_free(field.name, names(target_schema(kept))), sql_of(tree), field.type)
        for field, tree in zip(target.outputs, trees, strict=True)
    ]
    return Project(rows.plan, (*(column(item.field) for item in kept), *outputs))


def target_schema(kept: tuple[NamedExpr, ...]) -> Schema:
    """The kept columns as fields."""
    return tuple(item.field for item in kept)


def _free(name: str, taken: tuple[str, ...]) -> str:
    attempt, candidate = 1, name
    while candidate in taken:
        attempt += 1
        candidate = f"{name}_{attempt}"
    return candidate


def _outputs(
    ctx: Context, rows: Rows, target: Model | Pipeline, values: list[exp.Expr]
) -> list[exp.Expr]:
    if isinstance(target, Model):
        made = rows.apply(target, values, context=target.name, step=target.name)
        value = value_of(target, made)
        if len(made) == 1:
            return [value]
        return [field_of(value, field.name) for field in target.outputs]
    statement = declaration(target)
    place = Place(statement.result, target.text, f"pipeline {target.name}")
    caller = bare_rewriter(ctx, rows, place)
    body = Body(caller, target.name, statement, place, (), (target.name.lower(),))
    return body.bind(target.inputs, values, target.outputs)


def bind_analyze(stmt: ast.Analyze, catalog: CatalogView) -> BoundAnalyze:
    """Everything ANALYZE needs of the rows of USING.

    Raises:
        BindError: an unknown subject, a missing input, a label that is no output, a wrong budget,
            an impossible SLO.
    """
    target = _target(stmt, catalog)
    if stmt.search and stmt.slo is None:
        raise problem(
            "OC0242",
            "SEARCH needs an SLO: it looks for plans that meet one",
            stmt.span,
            hint="add WITH SLO (…), and an objective where it is not the cost",
        )
    ctx = Context(catalog)
    place = Place(stmt.using)
    _refuse_calls(ctx, place, "USING")
    using = text_of(stmt.using.tree)
    if isinstance(stmt.using.tree, exp.Subquery):
        using = text_of(stmt.using.tree.this)
    schema = ctx.describe(f"SELECT * FROM ({using})", place)
    over = _Over(ctx, using, schema)
    cluster = None if stmt.cluster is None else over.bind("cluster", stmt.cluster).expr
    seconds, usd = bind_budget(stmt.budget)
    return BoundAnalyze(
        stmt.kind,
        target.name,
        target.version,
        using,
        tuple(_input(item, stmt, schema) for item in target.inputs),
        tuple(_label(label, target, over) for label in stmt.labels),
        cluster,
        stmt.sample,
        stmt.uniform,
        seconds,
        usd,
        tuple(over.bind(f"feature_{i}", f) for i, f in enumerate(stmt.features, 1)),
        stmt.search,
        bind_slo(stmt.slo, stmt.objective, catalog),
        target,
        catalog,
    )


@dataclass(frozen=True)
class _Over:
    """Expressions over the columns of USING."""

    ctx: Context
    using: str
    schema: Schema

    def bind(self, name: str, fragment: ast.Fragment) -> NamedExpr:
        place = Place(fragment)
        _refuse_calls(self.ctx, place, "ANALYZE")
        if isinstance(fragment.tree, exp.Star | exp.Columns) or fragment.tree.find(exp.Columns):
            raise place.error(
                "OC0228", "one value is wanted here, not several columns", fragment.tree
            )

        def one(node: exp.Expr) -> exp.Expr:
            if not isinstance(node, exp.Column) or is_plan_column(node):
                return node
            parts = [part.name for part in node.parts]
            found = next((f for f in self.schema if f.name.lower() == parts[0].lower()), None)
            if found is None:
                raise place.error(
                    "OC0203",
                    f"unknown column {parts[0]}",
                    node,
                    label="not a column of USING",
                    candidates=nearest(parts[0], names(self.schema)),
                )
            tree: exp.Expr = plan_column(found.name)
            for part in parts[1:]:
                tree = field_of(tree, part)
            return tree

        expr = sql_of(fragment.tree.copy().transform(one))
        return NamedExpr(name, expr, self.ctx.types([expr], self.schema, place)[0])


def _refuse_calls(ctx: Context, place: Place, what: str) -> None:
    sites = CallSites(ctx, place.fragment.tree)
    if sites.calls:
        raise place.error(
            "OC0214",
            f"{what} cannot call models",
            sites.calls[0],
            hint="store the rows in a table first",
        )


def _target(stmt: ast.Analyze, catalog: CatalogView) -> Model | Pipeline:
    model, pipeline = catalog.model(stmt.name.text), catalog.pipeline(stmt.name.text)
    found = model if stmt.kind == "model" else pipeline
    if found is not None:
        return found
    other = pipeline if stmt.kind == "model" else model
    if other is not None:
        kind = "pipeline" if stmt.kind == "model" else "model"
        raise problem(
            "OC0205",
            f"{stmt.name.text} is a {kind}",
            stmt.name.span,
            hint=f"write ANALYZE {kind.upper()} {identifier(stmt.name.text)}",
        )
    known = catalog.models() if stmt.kind == "model" else catalog.pipelines()
    raise problem(
        "OC0201",
        f"unknown {stmt.kind} {stmt.name.text}",
        stmt.name.span,
        label=f"no such {stmt.kind}",
        candidates=nearest(stmt.name.text, [item.name for item in known]),
    )


def _input(item: Field, stmt: ast.Analyze, schema: Schema) -> NamedExpr:
    found = next((f for f in schema if f.name.lower() == item.name.lower()), None)
    if found is None:
        raise problem(
            "OC0232",
            f"USING gives no column {item.name}, an input of {stmt.name.text}",
            stmt.using.span,
            label="columns: " + ", ".join(names(schema)),
            candidates=nearest(item.name, names(schema)),
            hint=f"name it: … AS {item.name}",
        )
    expr = SqlExpr(quote(found.name), (found.name,))
    if found.type == item.type:
        return NamedExpr(item.name, expr, item.type)
    if not castable(found.type, item.type):
        raise problem(
            "OC0207",
            f"{stmt.name.text} wants {item.name} as {item.type}, not {found.type}",
            stmt.using.span,
            hint=f"cast it: CAST({found.name} AS {item.type})",
        )
    return NamedExpr(item.name, cast(expr, item.type), item.type)


def _label(label: ast.Label, target: Model | Pipeline, over: _Over) -> BoundLabel:
    """`output := …` of the subject, or `step.output := …` of a step of it."""
    parts = label.output.parts
    context, outputs = target.name, target.outputs
    if len(parts) == 2 and isinstance(target, Pipeline):
        context, outputs = _step(parts[0], label, target, over.ctx)
    wanted = parts[-1].lower()
    if len(parts) == 1 and isinstance(target, Pipeline) and not _has(outputs, wanted):
        steps = {step.name.text.lower() for step in declaration(target).steps}
        if wanted in steps:
            context, outputs = _step(parts[0], label, target, over.ctx)
            wanted = outputs[0].name.lower() if len(outputs) == 1 else wanted
    found = next((f for f in outputs if f.name.lower() == wanted), None)
    if found is None or len(parts) > 2:
        raise _no_output(label, outputs)
    return BoundLabel(context, found.name, over.bind(found.name, label.expr))


def _has(outputs: Schema, lower: str) -> bool:
    return any(field.name.lower() == lower for field in outputs)


def _no_output(label: ast.Label, outputs: Schema) -> BindError:
    return problem(
        "OC0221",
        f"LABELS names {label.output.text}, which is not an output",
        label.output.span,
        label="not an output",
        candidates=nearest(label.output.parts[-1], names(outputs)),
        notes=("the outputs are " + ", ".join(names(outputs)),),
    )


def _step(name: str, label: ast.Label, target: Pipeline, ctx: Context) -> tuple[str, Schema]:
    steps = declaration(target).steps
    found = next((step for step in steps if step.name.text.lower() == name.lower()), None)
    if found is None:
        known = [step.name.text for step in steps]
        raise problem(
            "OC0234",
            f"{target.name} has no step {name}",
            label.output.span,
            label="no such step",
            candidates=nearest(name, known),
        )
    model = ctx.models.get(found.model.text.lower())
    if model is None:
        raise problem(
            "OC0205",
            f"step {name} calls a pipeline; label its own outputs when analysing it",
            label.output.span,
        )
    return f"{target.name}.{found.name.text}", model.outputs
