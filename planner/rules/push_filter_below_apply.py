"""A filter that does not read a call's answers goes before the call.

    σ_p(Apply(X, call)) = Apply(σ_p(X), call)          p reads no output of the call

Precondition: p is not volatile, and nobody else reads the unfiltered answers; under ON ERROR NULL p
reads no call's answers at all, since a failing call takes the answers of all others with it: p sees
them before the call and NULL after it. Failures of rows that p drops are no failures any more, as
in DuckDB, where a dropped row's expressions are not computed.
Counter-example: `WHERE digits.confidence > 0.9` needs the answer.
[Chaudhuri, Shim, "Optimization of Queries with User-Defined Predicates", TODS 1999]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Apply, Filter, LogicalNode
from ...ir.types import names
from .calls import below_filters
from .context import RuleContext


def push_filter_below_apply(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Apply(X))` → `Apply(Filter(X))`."""
    if not isinstance(node, Filter) or node.predicate.volatile:
        return
    apply, over = below_filters(node, ctx)
    if not isinstance(apply, Apply) or ctx.shared(apply):
        return
    independent = set(names(apply.outputs)).isdisjoint(node.predicate.columns)
    if ctx.on_error == "null":
        independent = not ctx.flow(apply).of(node.predicate.columns)
    if independent:
        yield over(apply.replace(input=Filter(apply.input, node.predicate)))
