"""A call whose answers nobody reads is not made.

    π_c(f(Apply(X, call))) = π_c(f(X))          neither c nor f reads an output of the call

Precondition: none. That it might have failed does not matter: an unused expression is not
evaluated, as in DuckDB, so it cannot fail the row (our choice; under ON ERROR SKIP the row stays).
Counter-example: a call that only a filter reads decides which rows there are.
[Selinger et al., SIGMOD 1979; Cockroach, "PruneProjectCols"]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Apply, LogicalNode
from ...ir.types import names
from .calls import narrowed, rebuilt
from .context import RuleContext


def prune_calls(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """The whole plan without calls that nobody reads."""
    if not ctx.is_root(node):
        return
    unused = {
        apply
        for apply in node.postorder()
        if isinstance(apply, Apply) and ctx.needed(apply).isdisjoint(names(apply.outputs))
    }

    def change(old: LogicalNode, new: LogicalNode) -> LogicalNode:
        if isinstance(new, Apply) and old in unused:
            return new.input
        return narrowed(new, ctx.needed(old))

    if unused:
        yield rebuilt(node, change)
