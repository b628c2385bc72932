"""Pipelines inlined: the steps of a body as calls on top of the rows that ask for them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from sqlglot import exp

from ...ir.models import Model, Pipeline
from ...ir.record import dataclass
from ...ir.types import Schema, SqlExpr
from .. import ast
from ..diagnostics import nearest
from ..parser import parse_one
from .arguments import arrange, typed
from .bodies import BodyNames, NoQueries, body_field, known_fields, replaced_steps
from .calls import own_names
from .problems import Place
from .rewriting import Rewriter, value_of
from .rows import Guards, guarded_tree
from .trees import (
    function_name,
    is_plain,
    is_query,
    sql_of,
    struct_of,
    typed_as,
    wrapped,
)
from .types import castable, struct_fields

RETURN = "return"
"""The step name of a call that is the RETURN."""


def declaration(pipeline: Pipeline) -> ast.CreatePipeline:
    """The parsed text of a stored pipeline."""
    return _parsed(pipeline.text)


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> ast.CreatePipeline:
    """Statements are immutable and binding copies what it changes, so one parse serves all uses."""
    statement = parse_one(text)
    assert isinstance(statement, ast.CreatePipeline)
    return statement


def inline(
    caller: Rewriter,
    pipeline: Pipeline,
    arguments: list[exp.Expr],
    written: Sequence[exp.Expr],
    guards: Guards,
    node: exp.Expr,
) -> exp.Expr:
    """A call of a pipeline: its steps into the caller's rows, its value out.

    `written` are the arguments before they were rewritten, pairwise.

    Raises:
        BindError: OC0226, it calls itself; OC0207, a mistyped argument; whatever the body holds.
    """
    name = pipeline.name.lower()
    if name in caller.stack:
        raise caller.place.error(
            "OC0226", f"pipeline {pipeline.name} calls itself", node, label="called again here"
        )
    cast = typed(caller.rows, caller.place, pipeline.name, pipeline.inputs, arguments, written)
    values: list[exp.Expr] = []
    for item, tree, value in zip(pipeline.inputs, arguments, cast, strict=True):
        if isinstance(value, exp.Expr) and is_plain(value):
            values.append(value)
            continue
        target = tree if value is tree else typed_as(tree, item.type)
        guarded = guarded_tree(target, guards)
        values.append(caller.rows.add([(f"{pipeline.name}.{item.name}", guarded)], caller.place)[0])
    statement = declaration(pipeline)
    place = Place(statement.result, pipeline.text, f"pipeline {pipeline.name}")
    body = Body(caller, pipeline.name, statement, place, guards, (*caller.stack, name))
    outputs = body.bind(pipeline.inputs, values, pipeline.outputs)
    if len(outputs) == 1:
        return wrapped(outputs[0])
    listed = zip(pipeline.outputs, outputs, strict=True)
    return struct_of([(made.name, tree) for made, tree in listed])


@dataclass
class Body:
    """Binds one body on top of the caller's rows."""

    caller: Rewriter
    name: str
    statement: ast.CreatePipeline
    place: Place
    guards: Guards
    stack: tuple[str, ...]

    def bind(self, inputs: Schema, values: list[exp.Expr], outputs: Schema) -> list[exp.Expr]:
        """The values of the outputs, in the order of RETURNS.

        Raises:
            BindError: whatever is wrong in the body.
        """
        self.names = BodyNames(self.place)
        for item, value in zip(inputs, values, strict=True):
            self.names.define(item.name, value)
        self.instead = replaced_steps(self.statement)
        for step in self.statement.steps:
            self._check_new(step)
            self.names.define(step.name.text, self._step(step))
        result, place = self._result()
        return self._outputs(result, outputs, place)

    def _check_new(self, step: ast.Step) -> None:
        if step.name.text.lower() in self.names.values:
            raise self.place.error(
                "OC0220",
                f"{step.name.text} is already an input or a step",
                step.name.span,
                label="used twice",
            )

    def _at(self, fragment: ast.Fragment) -> Place:
        return own_names(self.caller.ctx, Place(fragment, self.place.text, self.place.name))

    def _rewriter(self, place: Place, step: str, *, whole: bool = False) -> Rewriter:
        """Calls inside are kept under `pipeline.step.model`, a whole step as `pipeline.step`."""
        self._refuse_queries(place)
        self.names.place = place
        kept = f"{self.name}.{step}"
        return Rewriter(
            self.caller.ctx,
            self.caller.rows,
            self.names,
            place,
            NoQueries(),
            context=lambda model: kept if whole else f"{kept}.{model.name}",
            stack=self.stack,
        )

    def _refuse_queries(self, place: Place) -> None:
        for node in place.fragment.tree.walk():
            if is_query(node) and any(
                self.caller.ctx.is_call(function_name(part)) for part in node.walk()
            ):
                raise place.error("OC0212", "a query in a body cannot call models", node)

    def _expr(self, fragment: ast.Fragment, step: str, guards: Guards) -> exp.Expr:
        place = self._at(fragment)
        return self._rewriter(place, step).expr(place.fragment.tree, guards)

    def _step(self, step: ast.Step) -> exp.Expr:
        """A step's call into the rows; the value its name stands for."""
        name = step.name.text
        guards = self.guards if step.when is None else self._when(step.when, name)
        trees = [self._expr(argument.expr, name, guards) for argument in step.arguments]
        target = step.model.text.lower()
        if target in self.caller.ctx.pipelines:
            value = self._pipeline(step, trees, guards)
            return value if step.when is None else guarded_tree(value, guards)
        model = self._model(step)
        lists = tuple(argument.each for argument in step.arguments)
        earlier = () if step.when is None else self.instead[name.lower()]
        made = self.caller.rows.apply(
            model,
            self._typed(step, model, trees),
            context=f"{self.name}.{name}",
            step=name,
            lists=lists if any(lists) else None,
            guards=guards,
            instead_of=tuple(f"{self.name}.{other}" for other in earlier),
        )
        value = value_of(model, made)
        return guarded_tree(value, guards) if step.when is not None and len(made) > 1 else value

    def _typed(
        self, step: ast.Step, model: Model, trees: list[exp.Expr]
    ) -> list[exp.Expr | SqlExpr]:
        self._count(step, model.name, model.inputs)
        return [
            typed(
                self.caller.rows,
                self._at(argument.expr),
                model.name,
                (item,),
                [tree],
                [argument.expr.tree],
                [argument.each],
            )[0]
            for item, tree, argument in zip(model.inputs, trees, step.arguments, strict=True)
        ]

    def _count(self, step: ast.Step, name: str, inputs: Schema) -> None:
        if len(step.arguments) != len(inputs):
            written = [argument.expr.tree for argument in step.arguments]
            arrange(self._whole(step), name, inputs, written, exp.null())

    def _whole(self, step: ast.Step) -> Place:
        """Errors about a whole call are drawn under all of the step."""
        fragment = ast.Fragment(exp.null(), "", step.span)
        return Place(fragment, self.place.text, self.place.name)

    def _model(self, step: ast.Step) -> Model:
        ctx = self.caller.ctx
        found = ctx.models.get(step.model.text.lower())
        if found is None:
            raise self.place.error(
                "OC0201",
                f"unknown model {step.model.text}",
                step.model.span,
                label="no such model or pipeline",
                candidates=nearest(step.model.text, ctx.functions),
            )
        return found

    def _pipeline(self, step: ast.Step, trees: list[exp.Expr], guards: Guards) -> exp.Expr:
        """A step that is itself a pipeline: its steps here."""
        pipeline = self.caller.ctx.pipelines[step.model.text.lower()]
        each = next((argument for argument in step.arguments if argument.each), None)
        if each is not None:
            raise self.place.error(
                "OC0205",
                f"EACH calls a model; {pipeline.name} is a pipeline",
                each.span,
                hint="use EACH at the models inside it",
            )
        self._count(step, pipeline.name, pipeline.inputs)
        rewriter = self._rewriter(self._whole(step), step.name.text)
        written = [argument.expr.tree for argument in step.arguments]
        return inline(rewriter, pipeline, trees, written, guards, exp.null())

    def _when(self, fragment: ast.Fragment, step: str) -> Guards:
        condition = self._expr(fragment, step, self.guards)
        place = self._at(fragment)
        rows = self.caller.rows
        type_ = rows.types([sql_of(condition)], place)[0]
        if type_ not in ("BOOLEAN", '"NULL"'):
            raise place.error(
                "OC0209",
                f"WHEN must be BOOLEAN, not {type_}",
                fragment.tree,
                label=f"this is {type_}",
            )
        return (*self.guards, *rows.stable((condition,), place))

    def _result(self) -> tuple[exp.Expr, Place]:
        """RETURN's expression; a call that is all of it is the step `return`."""
        place = self._at(self.statement.result)
        tree = place.fragment.tree
        name = function_name(tree)
        ctx = self.caller.ctx
        calls = [n for n in tree.walk() if ctx.is_call(function_name(n))]
        if name is None or not ctx.is_call(name) or name in ctx.pipelines:
            whole = len(calls) == 1 and calls[0].name.lower() in ctx.models
            return self._rewriter(place, RETURN, whole=whole).expr(tree, self.guards), place
        model = ctx.models[name]
        inner = self._rewriter(place, RETURN)
        arranged = arrange(place, model.name, model.inputs, tree.expressions, tree)
        trees = [inner.expr(argument, self.guards) for argument in arranged]
        made = self.caller.rows.apply(
            model,
            typed(self.caller.rows, place, model.name, model.inputs, trees, arranged),
            context=f"{self.name}.{RETURN}",
            step=model.name,
            guards=self.guards,
        )
        return value_of(model, made), place

    def _outputs(self, result: exp.Expr, outputs: Schema, place: Place) -> list[exp.Expr]:
        """RETURN's value taken apart by name, each of the declared type."""
        rows = self.caller.rows
        if len(outputs) == 1:
            fields = [self._one(result, outputs[0].name)]
        else:
            known = known_fields(result)
            if known is None:
                type_ = rows.types([sql_of(result)], place)[0]
                shape = struct_fields(type_)
                known = None if shape is None else [f.name for f in shape]
            wanted = [f.name for f in outputs]
            if known is None or {k.lower() for k in known} != {w.lower() for w in wanted}:
                raise place.error(
                    "OC0210",
                    f"RETURN must give a struct of {', '.join(wanted)}",
                    place.fragment.tree,
                    label="not that struct" if known is None else "gives " + ", ".join(known),
                )
            fields = [body_field(result, name) for name in wanted]
        exprs = [sql_of(tree) for tree in fields]
        types = rows.types(exprs, place)
        return [
            self._as(tree, have, declared.type, declared.name, place)
            for tree, have, declared in zip(fields, types, outputs, strict=True)
        ]

    def _one(self, result: exp.Expr, name: str) -> exp.Expr:
        """One output: RETURN's value, or the only field of a struct of that name."""
        known = known_fields(result)
        if known is not None and [k.lower() for k in known] == [name.lower()]:
            return body_field(result, name)
        return result

    def _as(self, tree: exp.Expr, have: str, want: str, name: str, place: Place) -> exp.Expr:
        if have == want:
            return tree
        if not castable(have, want):
            raise place.error(
                "OC0210",
                f"RETURN gives {name} as {have}, RETURNS declares {want}",
                place.fragment.tree,
                label=f"this is {have}",
                hint=f"cast it: CAST(… AS {want})",
            )
        return typed_as(tree, want)
