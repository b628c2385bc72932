"""A call on looked-up answers is made where they are looked up, once for equal inputs.

    Apply(L ⋈_{lookup} R, call) = L ⋈_{lookup} Apply(R, call)          call reads columns of R alone

Every row of L has exactly one match, so the call's arguments are a function of that match.

Precondition: the call, its arguments and condition are not volatile; columns of L that are keys
count as columns of R, where an argument is nothing else.
Counter-example: `f(answer, id)` has other inputs in every row of L.
[Yan, Larson, "Eager Aggregation and Lazy Aggregation", VLDB 1995: work below a join on its keys]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import (
    Apply,
    Join,
    LogicalNode,
    Project,
    columns_used,
)
from ...ir.types import SqlExpr, column, field_named, names
from ..columns import is_column, passed, reference
from .calls import asking, asks, is_volatile
from .context import RuleContext


def push_apply_below_lookup(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Apply(Join(lookup, L, R))` → `Join(lookup, L, Apply(R))`."""
    match node:
        case Apply(input=Join(kind="lookup") as join):
            made = _pushed(node, join, frozenset(names(join.schema)), ctx)
            if made is not None:
                yield made
        case Apply(input=Project(input=Join(kind="lookup") as join, columns=columns) as project):
            made = _pushed(node, join, passed(columns), ctx)
            if made is not None and not ctx.shared(project):
                yield Project(made, (*columns, *(column(out) for out in node.outputs)))


def _pushed(apply: Apply, join: Join, visible: frozenset[str], ctx: RuleContext) -> Join | None:
    """The join with the call on its right; None where the call needs more than that side."""
    if is_volatile(apply.call):
        return None
    if ctx.shared(join) or ctx.shared(join.right) or not set(columns_used(apply.call)) <= visible:
        return None
    keys = dict(join.keys)
    asked = [_on_right(expr, keys, join.right) for expr in asks(apply.call)]
    if any(expr is None for expr in asked):
        return None
    known = [expr for expr in asked if expr is not None]
    return join.replace(right=apply.replace(input=join.right, call=asking(apply.call, known)))


def _on_right(expr: SqlExpr, keys: dict[str, str], right: LogicalNode) -> SqlExpr | None:
    """The expression over the right side, if that can be said without reading SQL."""
    hidden = set(keys.values())
    if set(expr.columns) <= set(names(right.schema)) - hidden:
        return expr
    for name in expr.columns:
        if is_column(expr, name) and name in keys:
            return reference(field_named(right.schema, keys[name]))
    return None
