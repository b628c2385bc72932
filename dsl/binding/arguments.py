"""The arguments of a call: by position or name, counted, and cast to the inputs' types."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from ...errors import BindError
from ...ir.types import Schema, SqlExpr
from ..diagnostics import nearest
from .problems import Place
from .rows import Rows
from .trees import sql_of, text_of
from .types import NULL, cast, castable, element, is_list, literal_fits


def arrange(
    place: Place, name: str, inputs: Schema, arguments: Sequence[exp.Expr], node: exp.Expr
) -> list[exp.Expr]:
    """The arguments in the order of the inputs; `input := value` names one.

    Raises:
        BindError: OC0206, too many or too few; OC0234, an unknown input name.
    """
    slots: dict[str, exp.Expr] = {}
    known = [item.name for item in inputs]
    for position, argument in enumerate(arguments):
        if isinstance(argument, exp.PropertyEQ | exp.Kwarg):
            wanted = argument.this.name.lower()
            found = next((name for name in known if name.lower() == wanted), None)
            if found is None or found in slots:
                raise no_field(place, argument.this.name, known, argument, "input")
            slots[found] = argument.expression
        elif position < len(known):
            slots[known[position]] = argument
    if len(arguments) != len(known) or len(slots) != len(known):
        signature = ", ".join(f"{item.name} {item.type}" for item in inputs)
        raise place.error(
            "OC0206",
            f"{name} takes {len(known)} argument{'s' * (len(known) != 1)}, not {len(arguments)}",
            node,
            label=f"expected {name}({signature})",
        )
    return [slots[name] for name in known]


def typed(
    rows: Rows,
    place: Place,
    name: str,
    inputs: Schema,
    trees: Sequence[exp.Expr],
    written: Sequence[exp.Expr],
    lists: Sequence[bool] | None = None,
) -> list[exp.Expr | SqlExpr]:
    """The arguments as values of the inputs' types; an EACH one as a list of them.

    Raises:
        BindError: OC0207, a type DuckDB would not cast by itself; OC0208, EACH and no list.
    """
    exprs = [sql_of(tree) for tree in trees]
    types = rows.types(exprs, place, written)
    each = lists or [False] * len(trees)
    result: list[exp.Expr | SqlExpr] = []
    for item, tree, expr, have, node, is_each in zip(
        inputs, trees, exprs, types, written, each, strict=True
    ):
        want = f"{item.type}[]" if is_each else item.type
        if is_each and not is_list(have) and have != NULL:
            raise place.error(
                "OC0208", f"EACH needs a list, not {have}", node, label=f"this is {have}"
            )
        if have == want:
            result.append(tree)
        elif castable(have, want) or literal_fits(_literal(node), want):
            result.append(cast(expr, want))
        else:
            hint = f"cast it: CAST({text_of(node)} AS {want})"
            if is_list(have) and castable(str(element(have)), item.type):
                hint = "in a pipeline, EACH calls a model for every element of a list"
            raise place.error(
                "OC0207",
                f"{name} wants {item.name} as {want}, not {have}",
                node,
                label=f"this is {have}",
                hint=hint,
            )
    return result


def no_field(
    place: Place, name: str, known: Sequence[str], node: exp.Expr, what: str = "output"
) -> BindError:
    """The error for a name that is no output, or no input, with the near ones."""
    return place.error(
        "OC0234",
        f"unknown {what} {name}",
        node,
        label=f"no such {what}",
        candidates=nearest(name, known),
        notes=(f"the {what}s are " + ", ".join(known),),
    )


def _literal(node: exp.Expr) -> str:
    if isinstance(node, exp.Neg):
        return _literal(node.this)
    if not isinstance(node, exp.Literal):
        return ""
    return "string" if node.is_string else "number"
