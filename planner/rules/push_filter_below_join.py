"""A filter on one side of a join goes into that side.

    σ_p(L ⋈ R) = σ_p(L) ⋈ R          p reads columns of L alone; likewise R of an inner join

Precondition: p is not volatile; the side is one whose rows the join does not pad with NULL.
Counter-example: `WHERE r.x IS NULL` over `L LEFT JOIN R` keeps the rows without a partner;
filtering R first keeps all of L.
[Galindo-Legaria, Rosenthal, "Outerjoin Simplification and Reordering", TODS 1997]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Filter, Join, LogicalNode
from ...ir.types import names
from .calls import below_filters
from .context import RuleContext


def push_filter_below_join(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Join(L, R))` → `Join(Filter(L), R)` or `Join(L, Filter(R))`."""
    if not isinstance(node, Filter) or node.predicate.volatile:
        return
    join, over = below_filters(node, ctx)
    if not isinstance(join, Join) or join.kind == "lookup" or ctx.shared(join):
        return
    read = set(node.predicate.columns)
    if read <= set(names(join.left.schema)):
        yield over(join.replace(left=Filter(join.left, node.predicate)))
    elif join.kind in ("inner", "cross") and read <= set(names(join.right.schema)):
        yield over(join.replace(right=Filter(join.right, node.predicate)))
