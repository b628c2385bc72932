"""A limit on a source becomes part of its query; DuckDB then stops reading.

    limit_{n,m}(Source LIMIT a OFFSET b) = Source LIMIT min(n, a − m) OFFSET b + m

Precondition: nobody else reads the source's other rows.
Counter-example: the left side of a self-join limited, its right side not.
[Carey, Kossmann, SIGMOD 1997]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Limit, LogicalNode, Source
from .context import RuleContext


def push_limit_into_source(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Limit(Source)` → `Source` with a limit."""
    match node:
        case Limit(input=Source() as source, count=count, offset=offset):
            if ctx.shared(source):
                return
            left = None if source.limit is None else max(0, source.limit - offset)
            limits = [limit for limit in (left, count) if limit is not None]
            yield source.replace(limit=min(limits, default=None), offset=source.offset + offset)
