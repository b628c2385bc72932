"""A call hands on only those of its answers that somebody reads.

    π_c(Apply(X, call → a, b)) = π_c(Apply(X, call → a))          c does not read b

Precondition: at least one answer is read (else see prune_calls).
Counter-example: under DISTINCT every column decides which rows are equal.
[Galindo-Legaria, Joshi, "Orthogonal Optimization of Subqueries and Aggregation", SIGMOD 2001:
column pruning]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Apply, LogicalNode, model_call
from ...ir.node import collect
from ...ir.types import names
from .calls import narrowed, rebuilt
from .context import RuleContext


def prune_outputs(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """The whole plan with calls that make only what is read."""
    if not ctx.is_root(node):
        return

    fewer = {
        apply: pruned
        for apply in collect(node, Apply)
        if (pruned := _pruned(apply, ctx)) is not apply
    }

    def change(old: LogicalNode, new: LogicalNode) -> LogicalNode:
        if isinstance(old, Apply) and isinstance(new, Apply) and old in fewer:
            return fewer[old].replace(input=new.input)
        return narrowed(new, ctx.needed(old))

    if fewer:
        yield rebuilt(node, change)


def _pruned(apply: Apply, ctx: RuleContext) -> Apply:
    """The call with the outputs that are read, if their model's names are known."""
    needed, produce = ctx.needed(apply), apply.produce
    if not produce:
        model = ctx.models.get(model_call(apply.call).model)
        produce = names(model.outputs) if model is not None else ()
    pairs = list(zip(apply.outputs, produce, strict=False))
    kept = [(out, name) for out, name in pairs if out.name in needed]
    if not kept or len(kept) == len(apply.outputs):
        return apply
    return apply.replace(
        outputs=tuple(out for out, _ in kept), produce=tuple(name for _, name in kept)
    )
