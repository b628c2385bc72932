"""A filter goes before sorting and before removing duplicates.

    σ_p(sort(X)) = sort(σ_p(X))          σ_p(δ(X)) = δ(σ_p(X))

Precondition: p is not volatile. Sorting is stable (ties keep source order), so the order of the
rows that stay is the same.
Counter-example: `random() < 0.5` on distinct rows keeps another row than on all of them.
[Garcia-Molina, Ullman, Widom, "Database Systems", 16.2.3]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Distinct, Filter, LogicalNode, Sort
from .context import RuleContext


def push_filter_below_sort(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Sort(X))` → `Sort(Filter(X))`; likewise for `Distinct`."""
    match node:
        case Filter(input=Sort() | Distinct() as below, predicate=predicate):
            if not predicate.volatile and not ctx.shared(below):
                yield below.replace(input=Filter(below.input, predicate))
