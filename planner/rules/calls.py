"""What rules ask of calls: their expressions, are they volatile, the same of other inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from ...ir.logical import Call, Each, LogicalNode, Project, When, condition_of, model_call
from ...ir.types import SqlExpr


def asks(call: Call) -> tuple[SqlExpr, ...]:
    """The arguments, then the condition if there is one."""
    condition = condition_of(call)
    return model_call(call).args + (() if condition is None else (condition,))


def is_volatile(call: Call) -> bool:
    """May two evaluations of it on the same row differ?"""
    return model_call(call).volatile or any(expr.volatile for expr in asks(call))


def asking(call: Call, exprs: Sequence[SqlExpr]) -> Call:
    """The same call of other expressions, in the order `asks` gives them."""
    match call:
        case When(call=inner):
            return call.replace(condition=exprs[-1], call=asking(inner, exprs[:-1]))
        case Each(call=inner):
            return call.replace(call=asking(inner, exprs))
        case _:
            return call.replace(args=tuple(exprs))


def narrowed(node: LogicalNode, needed: frozenset[str]) -> LogicalNode:
    """A projection of only the needed columns; another node as it is."""
    if isinstance(node, Project):
        return node.replace(columns=tuple(c for c in node.columns if c.name in needed))
    return node


def rebuilt(
    plan: LogicalNode, change: Callable[[LogicalNode, LogicalNode], LogicalNode]
) -> LogicalNode:
    """The plan bottom-up; `change(old, new)` sees each node and itself above rebuilt inputs."""
    done: dict[LogicalNode, LogicalNode] = {}
    for any_node in plan.postorder():
        node = cast(LogicalNode, any_node)
        below = [done[cast(LogicalNode, child)] for child in node.children]
        done[node] = change(node, node.with_children(below))
    return done[plan]
