"""A limit goes before a call, which is then made for these rows only.

    limit_n(Apply(X, call)) = Apply(limit_n(X), call)

Precondition: the call is not volatile (language: never moved across a LIMIT); not ON ERROR SKIP,
where LIMIT counts the rows that stay after failed ones were dropped; no filter stands between.
Counter-example: ON ERROR SKIP and the second of three rows fails: `LIMIT 2` is rows one and three.
[Carey, Kossmann, SIGMOD 1997: a non-reductive operator lets the stop below it]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Apply, Limit, LogicalNode
from .calls import is_volatile
from .context import RuleContext


def push_limit_below_apply(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Limit(Apply(X))` → `Apply(Limit(X))`."""
    match node:
        case Limit(input=Apply(input=below, call=call) as apply):
            if not is_volatile(call) and ctx.on_error != "skip" and not ctx.shared(apply):
                yield apply.replace(input=node.replace(input=below))
