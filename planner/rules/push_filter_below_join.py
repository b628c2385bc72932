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
from .context import RuleContext


def push_filter_below_join(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Join(L, R))` → `Join(Filter(L), R)` or `Join(L, Filter(R))`."""
    match node:
        case Filter(input=Join(left=left, right=right, kind=kind) as join, predicate=predicate):
            if predicate.volatile or ctx.shared(join) or kind == "lookup":
                return
            read = set(predicate.columns)
            if read <= set(names(left.schema)):
                yield join.replace(left=Filter(left, predicate))
            elif kind in ("inner", "cross") and read <= set(names(right.schema)):
                yield join.replace(right=Filter(right, predicate))
