"""Expressions rewritten over the plan's columns, their model calls put into the plan.

A call is evaluated where SQL would evaluate it: in a CASE branch, or behind the first argument of
COALESCE, it becomes conditional (`When`). Queries inside an expression are computed by a residual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Protocol

from sqlglot import exp

from ...ir.logical import LogicalNode
from ...ir.models import Model
from ...ir.record import dataclass
from ...ir.types import Schema, quote
from .arguments import arrange, no_field, typed
from .problems import Place
from .rows import Guards, Rows
from .trees import (
    field_of,
    function_name,
    is_aggregate,
    is_not_true,
    is_plan_column,
    is_query,
    is_true,
    plan_column,
    sql_of,
    struct_of,
    text_of,
    wrapped,
)
from .view import Context


class Names(Protocol):
    """What the names in an expression stand for."""

    def resolve(self, column: exp.Column) -> exp.Expr:
        """A column reference over the plan's columns."""

    def instead(self, node: exp.Expr) -> exp.Expr | None:
        """What a whole node was already computed as."""


class Queries(Protocol):
    """How queries inside expressions are bound."""

    def with_calls(self, node: exp.Expr) -> bool:
        """Does the tree hold a model call, or read a CTE that does?"""

    def nested(self, node: exp.Expr, names: Names) -> LogicalNode:
        """The plan of a query inside an expression."""

    def prefix(self, node: exp.Expr) -> str:
        """The WITH clause a query's text needs, '' for none."""


@dataclass
class Rewriter:
    """Rewrites expressions of one scope on top of `rows`.

    `context` and `step` name the calls found: what their statistics are kept under, and the column.
    `inline` leaves queries in the text and collects their plans in `inputs` (aggregated scopes).
    """

    ctx: Context
    rows: Rows
    names: Names
    place: Place
    queries: Queries
    context: Callable[[Model], str] = field(default=lambda model: model.name)
    step: Callable[[Model], str] = field(default=lambda model: model.name)
    stack: tuple[str, ...] = ()
    inline: bool = False
    inputs: list[LogicalNode] = field(default_factory=list)
    _bound: list[frozenset[str]] = field(default_factory=list)

    def expr(self, node: exp.Expr, guards: Guards = ()) -> exp.Expr:
        """The expression over the plan's columns; `guards` hold where it is evaluated.

        Raises:
            BindError: unknown names, misplaced or mistyped calls.
        """
        done = self.names.instead(node)
        if done is not None:
            return done.copy()
        if isinstance(node, exp.Window) or is_aggregate(node):
            guards = ()  # they look at every row, not only at those that get here
        match node:
            case exp.Star() | exp.Column(this=exp.Star()):
                return self._star(node)
            case exp.Column():
                return self._column(node)
            case exp.Dot():
                return self._dot(node, guards)
            case exp.Lambda() | exp.Comprehension():
                return self._lambda(node, guards)
            case exp.In() if node.args.get("query") is not None:
                return self._query(node, guards)
            case exp.Exists() | exp.Any() | exp.All():
                return self._query(node, guards)
            case _ if is_query(node):
                return self._query(node, guards)
            case _ if isinstance(node, exp.Binary) and _quantified(node):
                return self._query(node, guards)
            case _ if self.ctx.is_call(function_name(node)):
                return self.call(node, guards)
        return self._conditional(node, guards)

    def _conditional(self, node: exp.Expr, guards: Guards) -> exp.Expr:
        if not self._has_call(node):
            return self.children(node, guards)
        match node:
            case exp.Case():
                return self._case(node, guards)
            case exp.If():
                branch = exp.If(this=node.this, true=node.args.get("true"))
                case = exp.Case(ifs=[branch], default=node.args.get("false"))
                return self._case(case, guards)
            case exp.Coalesce():
                return self._coalesce(node, guards)
            case exp.Window() | exp.Filter() | exp.Try() | exp.Distinct() | exp.Order():
                self._refuse_wrapped(node)
        return self.children(node, guards)

    def _refuse_wrapped(self, node: exp.Expr) -> None:
        inside = node.this
        if isinstance(node, exp.Try) and self._has_call(node):
            raise self.place.error(
                "OC0214",
                "a model call cannot stand inside TRY",
                node,
                hint="a failed call is not an SQL error; use ON ERROR NULL",
            )
        if isinstance(inside, exp.Expr) and self.ctx.is_call(function_name(inside)):
            what = "OVER" if isinstance(node, exp.Window) else "FILTER"
            if isinstance(node, exp.Window | exp.Filter):
                raise self.place.error(
                    "OC0214", f"{inside.name} is a model, not an aggregate: no {what}", inside
                )

    def children(self, node: exp.Expr, guards: Guards = ()) -> exp.Expr:
        """The node itself, with everything below it rewritten."""

        def one(value: object) -> object:
            match value:
                case exp.Expr():
                    return self.expr(value, guards)
                case list():
                    return [one(item) for item in value]
                case _:
                    return value

        return type(node)(**{key: one(value) for key, value in node.args.items()})

    def _has_call(self, node: exp.Expr) -> bool:
        return any(self.ctx.is_call(function_name(part)) for part in node.walk())

    def _column(self, node: exp.Column) -> exp.Expr:
        first = node.parts[0].name.lower() if node.parts else ""
        if is_plan_column(node) or any(first in bound for bound in self._bound):
            return node.copy()
        return self.names.resolve(node)

    def _star(self, node: exp.Expr) -> exp.Expr:
        """`count(*)`'s star."""
        if isinstance(node.parent, exp.AggFunc) and isinstance(node, exp.Star):
            return node.copy()
        raise self.place.error(
            "OC0228", "a star cannot stand inside an expression", node, hint="write COLUMNS(*)"
        )

    def _dot(self, node: exp.Dot, guards: Guards) -> exp.Expr:
        inside = node.expression
        if self.ctx.is_call(function_name(inside)):
            name = function_name(inside)
            raise self.place.error(
                "OC0214",
                f"{name} cannot be called with a dot",
                inside,
                hint=f"write {name}({text_of(node.this)}, …)",
            )
        below = self.expr(node.this, guards)
        if isinstance(inside, exp.Identifier):
            return self.field(below, inside.name, node)
        return exp.Dot(this=below, expression=self.expr(inside, guards))

    def field(self, tree: exp.Expr, name: str, node: exp.Expr) -> exp.Expr:
        """`tree.name`, checked when the struct is built in place.

        Raises:
            BindError: OC0234, there is no such field.
        """
        found = field_of(tree, name)
        if isinstance(tree, exp.Struct) and isinstance(found, exp.Anonymous) and found.expressions:
            known = [item.name for item in tree.expressions]
            if found.expressions[0] is tree:
                raise no_field(self.place, name, known, node)
        return found

    def _lambda(self, node: exp.Expr, guards: Guards) -> exp.Expr:
        if self._has_call(node):
            call = next(p for p in node.walk() if self.ctx.is_call(function_name(p)))
            raise self.place.error(
                "OC0211",
                f"{function_name(call)} cannot be called inside a lambda or a comprehension",
                call,
                hint="in a pipeline, EACH calls a model for every element of a list",
            )
        if isinstance(node, exp.Lambda):
            params = [part.name.lower() for part in node.expressions]
        else:
            params = [part.name.lower() for part in node.expression.find_all(exp.Identifier)]
        self._bound.append(frozenset(params))
        rewritten = self.children(node, guards)
        self._bound.pop()
        for column in rewritten.find_all(exp.Column):
            if is_plan_column(column) and column.name.lower() in params:
                raise self.place.error(
                    "OC0229",
                    f"the parameter {column.name} hides a column of that name",
                    node,
                    hint="give the parameter another name",
                )
        return rewritten

    def _case(self, node: exp.Case, guards: Guards) -> exp.Expr:
        """CASE in its searched form, each call under the conditions that lead to it."""
        operand = self.expr(node.this, guards) if node.this is not None else None
        if operand is not None:
            operand = self._once(operand)
        earlier: list[exp.Expr] = []
        branches = []
        for branch in node.args["ifs"]:
            test = self.expr(branch.this, (*guards, *earlier))
            if operand is not None:
                test = exp.EQ(this=wrapped(operand.copy()), expression=wrapped(test))
            test = self._once(test)
            value = self.expr(branch.args["true"], (*guards, *earlier, is_true(test)))
            branches.append(exp.If(this=test, true=value))
            earlier.append(is_not_true(test))
        default = node.args.get("default")
        if default is not None:
            default = self.expr(default, (*guards, *earlier))
        return exp.Case(ifs=branches, default=default)

    def _coalesce(self, node: exp.Coalesce, guards: Guards) -> exp.Expr:
        values: list[exp.Expr] = []
        earlier: list[exp.Expr] = []
        for argument in (node.this, *node.expressions):
            value = self._once(self.expr(argument, (*guards, *earlier)))
            values.append(value)
            earlier.append(exp.Is(this=wrapped(value.copy()), expression=exp.null()))
        return exp.Coalesce(this=values[0], expressions=values[1:])

    def _once(self, tree: exp.Expr) -> exp.Expr:
        """A volatile expression as a column: its value is used twice."""
        if not sql_of(tree).volatile:
            return tree
        return self.rows.add([("value", tree)], self.place)[0]

    def _query(self, node: exp.Expr, guards: Guards) -> exp.Expr:
        """An expression with a query in it, computed by a residual."""
        inputs: list[LogicalNode] = []
        first = 1 + len(self.inputs)
        prefixes: list[str] = []

        def one(value: object) -> object:
            if isinstance(value, list):
                return [one(item) for item in value]
            if not isinstance(value, exp.Expr):
                return value
            if isinstance(value, exp.Any | exp.All):
                return type(value)(**{key: one(part) for key, part in value.args.items()})
            return replace(value) if is_query(value) else self.expr(value, guards)

        def replace(query: exp.Expr) -> exp.Expr:
            if not self.queries.with_calls(query):
                self._uncorrelated(query)
                prefixes.append(self.queries.prefix(query))
                return query.copy()
            plan = self.queries.nested(query, self.names)
            inputs.append(plan)
            return _reading(plan.schema, first + len(inputs) - 1)

        tree = (
            replace(node)
            if is_query(node)
            else type(node)(**{key: one(value) for key, value in node.args.items()})
        )
        if isinstance(tree, exp.Select):
            tree = exp.Subquery(this=tree)
        if self.inline:
            self.inputs.extend(inputs)
            return tree
        prefix = next(filter(None, prefixes), "")
        return self.rows.add_residual("subquery", tree, inputs, self.place, prefix)

    def _uncorrelated(self, query: exp.Expr) -> None:
        text = self.queries.prefix(query) + text_of(query)
        if not self.ctx.describes(f"SELECT * FROM ({text})"):
            raise self.place.error(
                "OC0212",
                "a correlated subquery cannot stand here beside model calls",
                query,
                hint="compute it in a subquery in FROM, below the calls",
            )

    def call(self, node: exp.Expr, guards: Guards = ()) -> exp.Expr:
        """A call of a model or a pipeline: into the plan, its value out."""
        name = str(function_name(node))
        arguments = list(node.expressions)
        if name in self.ctx.pipelines:
            from .pipelines import inline  # a body is made of expressions: a cycle by nature

            pipeline = self.ctx.pipelines[name]
            arranged = arrange(self.place, pipeline.name, pipeline.inputs, arguments, node)
            trees = [self.expr(argument, guards) for argument in arranged]
            return inline(self, pipeline, trees, arranged, guards, node)
        model = self.ctx.models[name]
        arranged = arrange(self.place, model.name, model.inputs, arguments, node)
        trees = [self.expr(argument, guards) for argument in arranged]
        outputs = self.rows.apply(
            model,
            typed(self.rows, self.place, model.name, model.inputs, trees, arranged),
            context=self.context(model),
            step=self.step(model),
            guards=guards,
        )
        return value_of(model, outputs)


def value_of(model: Model, outputs: Schema) -> exp.Expr:
    """What a call stands for: its one output, or the struct of them."""
    if len(outputs) == 1:
        return plan_column(outputs[0].name)
    fields = zip(model.outputs, outputs, strict=True)
    return struct_of([(field.name, plan_column(made.name)) for field, made in fields])


def _quantified(node: exp.Binary) -> bool:
    return any(isinstance(side, exp.Any | exp.All) for side in (node.left, node.right))


def _reading(schema: Schema, index: int) -> exp.Subquery:
    """`(SELECT … FROM inK)`."""
    columns = [exp.column(exp.to_identifier(f.name, quoted=True)) for f in schema]
    table = exp.Table(this=exp.Identifier(this=f"in{index}", quoted=False))
    return exp.Subquery(this=exp.Select(expressions=columns, from_=exp.From(this=table)))


def from_input(schema: Schema, wanted: Sequence[str], index: int) -> str:
    """`SELECT "plan name" AS "user name", … FROM inK`."""
    listed = ", ".join(
        f"{quote(have.name)} AS {quote(name)}" for have, name in zip(schema, wanted, strict=True)
    )
    return f"SELECT {listed} FROM in{index}"
