"""A filter on a source becomes part of its query.

    σ_p(Source) = Source WHERE p

Precondition: the source has no LIMIT, and p gives the same answer wherever it is computed.
Counter-example: the first ten rows, of these the red ones, is not the first ten red rows.
[Selinger et al., "Access Path Selection in a Relational DBMS", SIGMOD 1979: search arguments]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Filter, LogicalNode, Source
from .context import RuleContext


def push_filter_into_source(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Source)` → `Source` with one more predicate."""
    match node:
        case Filter(input=Source(limit=None, offset=0) as source, predicate=predicate):
            if not predicate.volatile and not ctx.shared(source):
                yield source.replace(predicates=(*source.predicates, predicate))
