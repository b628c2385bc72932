"""What an expression is made of: its aggregates, windows and queries."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from .trees import is_aggregate, is_query, walk_scope

_WRAPPERS = exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls


def aggregates(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The outermost aggregates of a tree (with their FILTER), not those that are windows."""
    if is_query(tree):
        return
    found = as_aggregate(tree)
    if found is not None:
        yield found
        return
    if isinstance(tree, exp.Window):
        inner = tree.this
        while isinstance(inner, _WRAPPERS):
            inner = inner.this
        children = [*inner.iter_expressions()]
        children += [part for part in tree.iter_expressions() if part is not tree.this]
    else:
        children = list(tree.iter_expressions())
    for child in children:
        yield from aggregates(child)


def as_aggregate(tree: exp.Expr) -> exp.Expr | None:
    """The tree, when it is an aggregate (with what qualifies it)."""
    inner = tree
    while isinstance(inner, _WRAPPERS):
        inner = inner.this
    return tree if is_aggregate(inner) else None


def windows(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The windows in an expression."""
    return (node for node in walk_scope(tree) if isinstance(node, exp.Window))


def holds_query(node: exp.Expr) -> bool:
    """The smallest predicate or value with a query directly in it."""
    if is_query(node) or isinstance(node, exp.Exists):
        return True
    if isinstance(node, exp.In):
        return node.args.get("query") is not None
    if isinstance(node, exp.Array):
        return any(is_query(item) for item in node.expressions)
    return isinstance(node, exp.Binary) and any(
        isinstance(side, exp.Any | exp.All) for side in (node.left, node.right)
    )


def operands(node: exp.Expr) -> list[exp.Expr]:
    """What stands beside the query in a node that `holds_query`."""
    return [
        child
        for child in node.iter_expressions()
        if not is_query(child) and not isinstance(child, exp.Any | exp.All)
    ]
