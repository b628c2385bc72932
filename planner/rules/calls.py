"""What rules ask of calls: their expressions, are they volatile, the same of other inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from ...ir.logical import Call, Each, Filter, LogicalNode, Project, When, condition_of, model_call
from ...ir.types import SqlExpr
from .context import RuleContext


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


def below_filters(
    node: Filter, ctx: RuleContext
) -> tuple[LogicalNode, Callable[[LogicalNode], LogicalNode]]:
    """What lies under a filter and the filters next below it, and how to put these on another node.

    Filters commute, so one that cannot sink does not hold up those above it.
    """
    skipped: list[Filter] = []
    below = node.input
    while isinstance(below, Filter) and not below.predicate.volatile and not ctx.shared(below):
        skipped.append(below)
        below = below.input

    def over(base: LogicalNode) -> LogicalNode:
        for one in reversed(skipped):
            base = one.replace(input=base)
        return base

    return below, over


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
