"""What stands in a pipeline's body: its names, their fields, and which step replaces which."""

from __future__ import annotations

from dataclasses import field

from sqlglot import exp

from ...ir.logical import LogicalNode
from ...ir.record import dataclass
from .. import ast
from ..diagnostics import nearest
from .problems import Place
from .rewriting import Names
from .trees import field_of


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
            known = known_fields(tree)
            if known is not None and name.lower() not in {k.lower() for k in known}:
                raise self.place.error(
                    "OC0234",
                    f"{parts[0]} has no output {name}",
                    column,
                    label="no such output",
                    candidates=nearest(name, known),
                    notes=("its outputs are " + ", ".join(known),),
                )
            tree = body_field(tree, name)
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


def known_fields(tree: exp.Expr) -> list[str] | None:
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


def body_field(tree: exp.Expr, name: str) -> exp.Expr:
    """A field; of a conditional step's struct the output itself, NULL where it was skipped."""
    inside = _unconditional(tree)
    return field_of(inside if isinstance(inside, exp.Struct) else tree, name)


def replaced_steps(statement: ast.CreatePipeline) -> dict[str, tuple[str, ...]]:
    """For each WHEN step the earlier steps it stands in for.

    A step `d` is replaced by `s` when `d`, apart from conditions, is only used behind `s` in
    `COALESCE(s.x, d.x)`: where `s` ran and answered, the answer of `d` does not matter.
    """
    steps = statement.steps
    arguments = [argument for step in steps for argument in step.arguments]
    trees: list[exp.Expr] = [argument.expr.tree for argument in arguments]
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
