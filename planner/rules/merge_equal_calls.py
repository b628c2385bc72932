"""The same call on the same rows is made once.

    Apply_b(f(Apply_a(X))) = π_{*, a AS b}(f(Apply_a(X)))          a and b are the same call

`f` are calls, filters, sorts, limits, and projections that pass on what the call reads and what it
answered. Two branches that call the same of the same input share one call, too.

Precondition: the call and its arguments are not volatile; model, arguments, EACH and condition are
equal (the context, where statistics are kept, may differ: the first one's stays).
Counter-example: `judge(text)` twice with a volatile judge asks for two opinions.
[Cocke, "Global Common Subexpression Elimination", 1970]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import (
    Apply,
    Call,
    Each,
    Filter,
    Limit,
    LogicalNode,
    Project,
    Sort,
    When,
    columns_used,
)
from ...ir.node import collect
from ...ir.types import NamedExpr, names
from ..columns import passed, reference, through
from .calls import is_volatile
from .context import RuleContext


def merge_equal_calls(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Apply(…Apply(X))` of equal calls → a projection that names the first one's answers."""
    if not isinstance(node, Apply) or is_volatile(node.call):
        return
    for twin, available in _twins(node, ctx):
        if len(twin.outputs) != len(node.outputs) or twin.produce != node.produce:
            continue
        if available is None:
            base: LogicalNode = twin
        elif set(names(twin.outputs)) <= available:
            base = node.input
        else:
            continue
        renamed = tuple(
            NamedExpr(new.name, reference(old), new.type)
            for new, old in zip(node.outputs, twin.outputs, strict=True)
        )
        yield Project(base, (*through(node.input.schema), *renamed))


def _twins(node: Apply, ctx: RuleContext) -> Iterator[tuple[Apply, frozenset[str] | None]]:
    """Equal calls: on the way down, with the columns still theirs; or of the same input."""
    wanted = _work(node.call)
    available = frozenset(names(node.input.schema))
    below = node.input
    while isinstance(below, Apply | Filter | Project | Sort | Limit):
        if isinstance(below, Apply) and _work(below.call) == wanted:
            yield below, available
        if isinstance(below, Project):
            available &= passed(below.columns)
        if not available.issuperset(columns_used(node.call)):
            break
        below = below.input
    for other in collect(ctx.root, Apply):
        if other == node:
            break
        if other.input == node.input and _work(other.call) == wanted:
            yield other, None


def _work(call: Call) -> Call:
    """The call without what does not change its answers."""
    match call:
        case When(call=inner):
            return call.replace(call=_work(inner), instead_of=())
        case Each(call=inner):
            return call.replace(call=_work(inner))
        case _:
            return call.replace(context="")
