"""Pipelines inlined: the steps of a body as calls on top of the rows that ask for them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from sqlglot import exp

from ...ir.logical import LogicalNode
from ...ir.models import Pipeline
from ...ir.types import Schema
from .. import ast
from ..diagnostics import nearest
from ..parser import parse_one
from .calls import own_names
from .problems import Place
from .rewriting import Names, Rewriter, value_of
from .rows import Guards, guarded_tree
from .trees import (
    field_of,
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


@dataclass
class BodyNames:
    """The names in a body: inputs and earlier steps."""

    place: Place
    values: dict[str, exp.Expr] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)

    def define(self, name: str, tree: exp.Expr) -> None:
        """Bind a name to its value."""
        self.values[name.lower()] = tree
        self.written[name.lower()] = name

    def instead(self, node: exp.Expr) -> exp.Expr | None:
        """Nothing is computed ahead in a body."""
        return None

    def resolve(self, column: exp.Column) -> exp.Expr:
        """The value of an input or a step, or a field of it.

        Raises:
            BindError: OC0234, no input or step of that name.
        """
        parts = [part.name for part in column.parts]
        tree = self.values.get(parts[0].lower())
        if tree is None:
            raise self.place.error(
                "OC0234",
                f"unknown name {parts[0]}",
                column,
                label="no such input or earlier step",
                candidates=nearest(parts[0], tuple(self.written.values())),
            )
        tree = tree.copy()
        for name in parts[1:]:
            known = _known_fields(tree)
            if known is not None and name.lower() not in {k.lower() for k in known}:
                raise self.place.error(
                    "OC0234",
                    f"{parts[0]} has no output {name}",
                    column,
                    label="no such output",
                    candidates=nearest(name, known),
                    notes=("its outputs are " + ", ".join(known),),
                )
            tree = _field(tree, name)
        return tree


class NoQueries:
    """Queries in a body may not call models."""

    def with_calls(self, node: exp.Expr) -> bool:
        """Calls inside queries of a body are refused before."""
        return False

    def nested(self, node: exp.Expr, names: Names) -> LogicalNode:
        """Never asked: `with_calls` is false."""
        raise AssertionError("a body has no queries with calls")

    def prefix(self, node: exp.Expr) -> str:
        """There are no CTEs around a body."""
        return ""


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
    guards: Guards,
    node: exp.Expr,
) -> exp.Expr:
    """A call of a pipeline: its steps into the caller's rows, its value out.

    Raises:
        BindError: OC0226, it calls itself; OC0207, a mistyped argument; whatever the body holds.
    """
    name = pipeline.name.lower()
    if name in caller.stack:
        raise caller.place.error(
            "OC0226", f"pipeline {pipeline.name} calls itself", node, label="called again here"
        )
    written = [*arguments]
    typed = caller.typed(pipeline.name, pipeline.inputs, arguments, written)
    values: list[exp.Expr] = []
    for item, tree, value in zip(pipeline.inputs, arguments, typed, strict=True):
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
        steps = [step for step in self.statement.steps if step.name.text]
        self.instead = replaced_steps(self.statement)
        for step in steps:
            self._check_new(step)
            self.names.define(step.name.text, self._step(step, step.name.text))
        last = next((step for step in self.statement.steps if not step.name.text), None)
        if last is not None:
            result = self._step(last, RETURN)
            place = self._at(self.statement.result)
        else:
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

    def _step(self, step: ast.Step, name: str) -> exp.Expr:
        ctx = self.caller.ctx
        guards = self.guards
        if step.when is not None:
            guards = self._when(step.when, name)
        target = step.model.text.lower()
        place = Place(
            ast.Fragment(self.statement.result.tree, step.model.text, step.model.span),
            self.place.text,
            self.place.name,
        )
        if not ctx.is_call(target):
            raise place.error(
                "OC0201",
                f"unknown model {step.model.text}",
                step.model.span,
                label="no such model or pipeline",
                candidates=nearest(step.model.text, ctx.functions),
            )
        trees = [self._expr(argument.expr, name, guards) for argument in step.arguments]
        lists = tuple(argument.each for argument in step.arguments)
        written = [argument.expr.tree for argument in step.arguments]
        if target in ctx.pipelines:
            return self._inner(step, name, target, trees, lists, guards, place)
        model = ctx.models[target]
        if len(trees) != len(model.inputs):
            spans = self._rewriter(self._arguments_place(step, place), name)
            spans.arrange(
                model.name,
                model.inputs,
                written,
                step.arguments[0].expr.tree if step.arguments else exp.null(),
            )
        typed = [
            self._rewriter(self._at(argument.expr), name).typed(
                model.name, (item,), [tree], [argument.expr.tree], [argument.each]
            )[0]
            for item, tree, argument in zip(model.inputs, trees, step.arguments, strict=True)
        ]
        earlier = () if step.when is None else self.instead.get(step.name.text.lower(), ())
        made = self.caller.rows.apply(
            model,
            typed,
            context=f"{self.name}.{name}",
            step=name if name != RETURN else f"{self.name}.{RETURN}",
            lists=lists if any(lists) else None,
            guards=guards,
            instead_of=tuple(f"{self.name}.{other}" for other in earlier),
        )
        value = value_of(model, made)
        return guarded_tree(value, guards) if step.when is not None and len(made) > 1 else value

    def _arguments_place(self, step: ast.Step, place: Place) -> Place:
        fragment = ast.Fragment(exp.null(), self.statement.result.text, step.span)
        return Place(fragment, place.text, place.name)

    def _inner(
        self,
        step: ast.Step,
        name: str,
        target: str,
        trees: list[exp.Expr],
        lists: tuple[bool, ...],
        guards: Guards,
        place: Place,
    ) -> exp.Expr:
        pipeline = self.caller.ctx.pipelines[target]
        if any(lists):
            span = next(a.span for a in step.arguments if a.each)
            raise place.error(
                "OC0205",
                f"EACH calls a model; {pipeline.name} is a pipeline",
                span,
                hint="use EACH at the models inside it",
            )
        rewriter = self._rewriter(self._arguments_place(step, place), name)
        if len(trees) != len(pipeline.inputs):
            written = [argument.expr.tree for argument in step.arguments]
            rewriter.arrange(pipeline.name, pipeline.inputs, written, exp.null())
        value = inline(rewriter, pipeline, trees, guards, exp.null())
        return guarded_tree(value, guards) if step.when is not None else value

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
        arranged = inner.arrange(model.name, model.inputs, tree.expressions, tree)
        trees = [inner.expr(argument, self.guards) for argument in arranged]
        made = self.caller.rows.apply(
            model,
            inner.typed(model.name, model.inputs, trees, arranged),
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
            known = _known_fields(result)
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
            fields = [_field(result, name) for name in wanted]
        exprs = [sql_of(tree) for tree in fields]
        types = rows.types(exprs, place)
        return [
            self._as(tree, have, declared.type, declared.name, place)
            for tree, have, declared in zip(fields, types, outputs, strict=True)
        ]

    def _one(self, result: exp.Expr, name: str) -> exp.Expr:
        """One output: RETURN's value, or the only field of a struct of that name."""
        known = _known_fields(result)
        if known is not None and [k.lower() for k in known] == [name.lower()]:
            return _field(result, name)
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


def _known_fields(tree: exp.Expr) -> list[str] | None:
    """The field names of a struct built in place, also a conditional one."""
    inside = _unconditional(tree)
    if isinstance(inside, exp.Struct):
        return [item.name for item in inside.expressions]
    return None


def _unconditional(tree: exp.Expr) -> exp.Expr:
    """The struct of a skipped step is CASE WHEN it ran THEN struct END."""
    if isinstance(tree, exp.Case) and len(tree.args["ifs"]) == 1 and not tree.args.get("default"):
        inside: exp.Expr = tree.args["ifs"][0].args["true"]
        return inside
    return tree


def _field(tree: exp.Expr, name: str) -> exp.Expr:
    """A field; of a conditional step's struct the output itself, NULL where it was skipped."""
    inside = _unconditional(tree)
    return field_of(inside if isinstance(inside, exp.Struct) else tree, name)


def replaced_steps(statement: ast.CreatePipeline) -> dict[str, tuple[str, ...]]:
    """For each WHEN step the earlier steps it stands in for.

    A step `d` is replaced by `s` when `d`, apart from conditions, is only used behind `s` in
    `COALESCE(s.x, d.x)`: where `s` ran and answered, the answer of `d` does not matter.
    """
    steps = [step for step in statement.steps if step.name.text]
    trees: list[exp.Expr] = [
        argument.expr.tree for step in statement.steps for argument in step.arguments
    ]
    if all(step.name.text for step in statement.steps):
        trees.append(statement.result.tree)
    found: dict[str, tuple[str, ...]] = {}
    for position, step in enumerate(steps):
        if step.when is None:
            continue
        earlier = [
            other.name.text
            for other in steps[:position]
            if _stands_in(step.name.text, other.name.text, trees)
        ]
        found[step.name.text.lower()] = tuple(earlier)
    return found


def _stands_in(this: str, that: str, trees: list[exp.Expr]) -> bool:
    uses = [use for tree in trees for use in _uses(tree, that)]
    return bool(uses) and all(_behind(use, this) for use in uses)


def _uses(tree: exp.Expr, name: str) -> list[exp.Column]:
    return [c for c in tree.find_all(exp.Column) if c.parts[0].name.lower() == name.lower()]


def _behind(use: exp.Column, this: str) -> bool:
    coalesce = use.parent
    if not isinstance(coalesce, exp.Coalesce):
        return False
    arguments = [coalesce.this, *coalesce.expressions]
    place = next(i for i, argument in enumerate(arguments) if argument is use)
    rest = [part.name.lower() for part in use.parts[1:]]
    return any(
        isinstance(argument, exp.Column)
        and [part.name.lower() for part in argument.parts] == [this.lower(), *rest]
        for argument in arguments[:place]
    )
