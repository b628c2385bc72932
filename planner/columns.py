"""Which columns of each node anybody reads, and expressions that only pass a column on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never, cast

from ..ir.logical import (
    Apply,
    Distinct,
    Filter,
    Join,
    Limit,
    LogicalNode,
    Project,
    Residual,
    Sort,
    Source,
    columns_used,
)
from ..ir.types import Field, NamedExpr, Schema, SqlExpr, column, names, quote

Demand = dict[LogicalNode, frozenset[str]]


def is_column(expr: SqlExpr, name: str) -> bool:
    """Is the expression this column and nothing else?"""
    return expr.text == quote(name)


def passed(columns: Iterable[NamedExpr]) -> frozenset[str]:
    """The columns handed on unchanged under their own name."""
    return frozenset(named.name for named in columns if is_column(named.expr, named.name))


def reference(field: Field) -> SqlExpr:
    """The expression that reads a column."""
    return column(field).expr


def through(schema: Schema) -> tuple[NamedExpr, ...]:
    """All columns of a schema passed on."""
    return tuple(column(field) for field in schema)


def demand(plan: LogicalNode, *, pruned: bool = True) -> Demand:
    """For every node the columns its readers need; the root's are all needed.

    A call whose outputs nobody needs asks nothing of its input if such calls are `pruned`.
    """
    needed: dict[LogicalNode, frozenset[str]] = {plan: frozenset(names(plan.schema))}
    for any_node in reversed(list(plan.postorder())):
        node = cast(LogicalNode, any_node)
        for child, columns in _asked(node, needed.get(node, frozenset()), pruned):
            needed[child] = needed.get(child, frozenset()) | columns
    return needed


def _asked(
    node: LogicalNode, wanted: frozenset[str], pruned: bool
) -> tuple[tuple[LogicalNode, frozenset[str]], ...]:
    """What a node asks of its inputs when these columns of it are wanted."""
    match node:
        case Source():
            return ()
        case Apply(input=below, call=call, outputs=outputs):
            made = frozenset(names(outputs))
            made_for_nobody = pruned and not wanted & made
            used = frozenset() if made_for_nobody else frozenset(columns_used(call))
            return ((below, (wanted - made) | used),)
        case Filter(input=below, predicate=predicate):
            return ((below, wanted | frozenset(predicate.columns)),)
        case Project(input=below, columns=columns):
            read = (named.expr.columns for named in columns if named.name in wanted)
            return ((below, frozenset(name for some in read for name in some)),)
        case Join(left=left, right=right, condition=condition, keys=keys):
            wanted |= frozenset(condition.columns if condition is not None else ())
            wanted |= frozenset(name for pair in keys for name in pair)
            return tuple((side, wanted & frozenset(names(side.schema))) for side in (left, right))
        case Distinct(input=below):
            return ((below, frozenset(names(below.schema))),)
        case Sort(input=below, keys=keys):
            return ((below, wanted | frozenset(c for key in keys for c in key.expr.columns)),)
        case Limit(input=below):
            return ((below, wanted),)
        case Residual(inputs=inputs):
            return tuple((below, frozenset(names(below.schema))) for below in inputs)
        case _:
            assert_never(node)
