"""`Rows`: the plan being built, bottom-up, for one scope."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from ...ir.logical import (
    Apply,
    Call,
    Each,
    Filter,
    LogicalNode,
    ModelCall,
    Project,
    Residual,
    Source,
    When,
    names,
)
from ...ir.models import Model
from ...ir.node import collect
from ...ir.types import ROW, Field, NamedExpr, Schema, SqlExpr, column, quote
from .problems import Place
from .trees import conjunction, is_plain, is_true, plan_column, sql_of
from .types import null_row
from .view import Context

Guards = tuple[exp.Expr, ...]
"""Conditions over the plan's columns under which an expression is evaluated at all."""


class Rows:
    """A plan under construction; every method puts something on top of `plan`.

    Calls already made are remembered with the guards they stand under, so that equal calls of a
    scope are one call (unless volatile): `GROUP BY f(x)` and `SELECT f(x)` mean the same column.
    """

    def __init__(self, ctx: Context, plan: LogicalNode) -> None:
        self.ctx = ctx
        self.plan = plan
        self._made: dict[tuple[str, tuple[str, ...]], Schema] = {}

    @property
    def schema(self) -> Schema:
        """The columns so far."""
        return self.plan.schema

    @property
    def has_calls(self) -> bool:
        """Is there a model call in the plan?"""
        return bool(collect(self.plan, Apply))

    def types(
        self, exprs: Sequence[SqlExpr], place: Place, nodes: Sequence[exp.Expr] = ()
    ) -> list[str]:
        """The types of expressions over the columns so far; `nodes` is what was written."""
        return self.ctx.types(exprs, self.schema, place, nodes)

    def filter(self, predicate: SqlExpr) -> None:
        """Keep the rows where it is TRUE."""
        self.plan = Filter(self.plan, predicate)

    def add(self, trees: Sequence[tuple[str, exp.Expr]], place: Place) -> list[exp.Column]:
        """Compute expressions once, as columns of their own."""
        exprs = [sql_of(tree) for _, tree in trees]
        new = [
            NamedExpr(self.ctx.unique(name), expr, type_)
            for (name, _), expr, type_ in zip(trees, exprs, self.types(exprs, place), strict=True)
        ]
        self.plan = Project(self.plan, (*map(column, self.schema), *new))
        return [plan_column(named.name) for named in new]

    def add_residual(
        self,
        name: str,
        tree: exp.Expr,
        inputs: Sequence[LogicalNode],
        place: Place,
        prefix: str = "",
    ) -> exp.Column:
        """Compute an expression that holds queries over `in1`, `in2`, … as a column."""
        value = sql_of(tree)
        made = self.ctx.unique(name)
        kept = ", ".join(f"in0.{quote(field.name)}" for field in self.schema)
        sql = (
            f"{prefix}SELECT {kept + ', ' if kept else ''}{value.text} AS {quote(made)} FROM in0 "
            f"ORDER BY in0.{ROW}"
        )
        plans = (self.plan, *inputs)
        described = describe_over(self.ctx, sql, plans, place)
        fields = (*self.schema, Field(made, described[-1].type))
        self.plan = Residual(plans, sql, fields, volatile=value.volatile)
        return plan_column(made)

    def stable(self, guards: Guards, place: Place) -> Guards:
        """The guards with volatile ones computed once, as columns."""
        return tuple(
            self.add([("guard", guard)], place)[0] if sql_of(guard).volatile else guard
            for guard in guards
        )

    def apply(
        self,
        model: Model,
        args: Sequence[exp.Expr | SqlExpr],
        *,
        context: str,
        step: str,
        lists: tuple[bool, ...] | None = None,
        guards: Guards = (),
        instead_of: tuple[str, ...] = (),
        reuse: bool = True,
    ) -> Schema:
        """Call a model on every row the guards let through; the output columns it makes.

        An argument that may fail is computed only where the call runs.
        """
        volatile = self.ctx.volatile(model)
        written = tuple(arg if isinstance(arg, SqlExpr) else sql_of(arg) for arg in args)
        key = f"{context}\0{lists}\0" + "\0".join(arg.text for arg in written)
        condition = sql_of(_condition(guards)) if guards else None
        if reuse and not volatile and not any(arg.volatile for arg in written):
            for level in range(len(guards) + 1):
                found = self._made.get((key, tuple(sql_of(g).text for g in guards[:level])))
                if found is not None:
                    return found
        if condition is not None:
            written = tuple(
                expr if _safe(arg) else _guarded(expr, condition)
                for expr, arg in zip(written, args, strict=True)
            )
        inner = ModelCall(model.name, written, context, volatile)
        each = inner if lists is None else Each(inner, lists)
        call: Call = each if condition is None else When(condition, each, instead_of)
        outputs = self._outputs(model, step, lists is not None)
        self.plan = Apply(self.plan, call, outputs)
        self._made[key, tuple(sql_of(guard).text for guard in guards)] = outputs
        return outputs

    def _outputs(self, model: Model, step: str, each: bool) -> Schema:
        suffix = "[]" if each else ""
        if len(model.outputs) == 1:
            name = self.ctx.unique(step)
            return (Field(name, model.outputs[0].type + suffix),)
        prefix = self.ctx.unique_step(step, names(model.outputs))
        return tuple(Field(f"{prefix}.{f.name}", f.type + suffix) for f in model.outputs)


def _condition(guards: Guards) -> exp.Expr:
    return guards[0] if len(guards) == 1 else conjunction(guards)


def _safe(arg: exp.Expr | SqlExpr) -> bool:
    return isinstance(arg, exp.Expr) and is_plain(arg)


def _guarded(expr: SqlExpr, condition: SqlExpr) -> SqlExpr:
    return SqlExpr(
        f"CASE WHEN {condition.text} THEN {expr.text} END",
        tuple(sorted({*expr.columns, *condition.columns})),
        expr.volatile,
    )


def guarded_tree(tree: exp.Expr, guards: Guards) -> exp.Expr:
    """The expression where all guards are TRUE, NULL elsewhere."""
    if not guards:
        return tree
    branch = exp.If(this=is_true(_condition(guards)), true=tree.copy())
    return exp.Case(ifs=[branch])


def describe_over(ctx: Context, sql: str, plans: Sequence[LogicalNode], place: Place) -> Schema:
    """The columns of a residual's SQL over its inputs."""
    row = Field(ROW, "BIGINT")
    inputs = ", ".join(
        f"in{i} AS ({null_row((*plan.schema, row))})" for i, plan in enumerate(plans)
    )
    return ctx.describe(f"WITH {inputs} SELECT * FROM ({sql})", place)


def source_of(relation: str, schema: Schema) -> Source:
    """A source that passes a relation's columns through."""
    return Source(relation, tuple(column(field) for field in schema))
