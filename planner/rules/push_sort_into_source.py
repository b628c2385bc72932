"""Sorting a source becomes part of its query.

    sort_k(Source ORDER BY o) = Source ORDER BY k, o

Precondition: the source has no LIMIT; the sort is stable, so the old order is the tie-break.
Counter-example: sorting the first ten rows is not taking the first ten sorted rows.
[Simmen, Shekita, Malkemus, "Fundamental Techniques for Order Optimization", SIGMOD 1996]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import LogicalNode, Sort, Source
from .context import RuleContext


def push_sort_into_source(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Sort(Source)` → `Source` with an order."""
    match node:
        case Sort(input=Source(limit=None, offset=0) as source, keys=keys):
            if not ctx.shared(source) and not any(key.expr.volatile for key in keys):
                yield source.replace(order=(*keys, *source.order))
