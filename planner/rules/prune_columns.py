"""Sources and projections compute only columns that somebody reads.

    π_c(f(Source(a, b))) = π_c(f(Source(a)))          neither c nor f reads b

A source column that only its own WHERE or ORDER BY reads stays there, hidden.

Precondition: the source or projection is not DISTINCT, nor below one.
Counter-example: `SELECT DISTINCT a, b` has other rows than `SELECT DISTINCT a`.
[Galindo-Legaria, Joshi, SIGMOD 2001: column pruning]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import LogicalNode, Source
from .calls import narrowed, rebuilt
from .context import RuleContext


def prune_columns(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """The whole plan with narrower sources and projections."""
    if not ctx.is_root(node):
        return

    def change(old: LogicalNode, new: LogicalNode) -> LogicalNode:
        needed = ctx.needed(old)
        if isinstance(new, Source):
            return _narrow_source(new, needed)
        return narrowed(new, needed)

    made = rebuilt(node, change)
    if made != node:
        yield made


def _narrow_source(source: Source, needed: frozenset[str]) -> Source:
    """Produce what is needed, hide what only predicates and order read, drop the rest."""
    if source.distinct:
        return source
    read = {name for predicate in source.predicates for name in predicate.columns}
    read |= {name for key in source.order for name in key.expr.columns}
    rest = (*(c for c in source.columns if c.name not in needed), *source.hidden)
    return source.replace(
        columns=tuple(c for c in source.columns if c.name in needed),
        hidden=tuple(c for c in rest if c.name in read),
    )
