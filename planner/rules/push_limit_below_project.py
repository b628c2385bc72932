"""A limit goes before a projection.

    limit_n(π_c(X)) = π_c(limit_n(X))

Precondition: c is not volatile: `random()` of a sequence is drawn row by row.
Counter-example: `nextval('s')` for all rows and for ten leaves another sequence.
[Carey, Kossmann, SIGMOD 1997]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Limit, LogicalNode, Project
from .context import RuleContext


def push_limit_below_project(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Limit(Project(X))` → `Project(Limit(X))`."""
    match node:
        case Limit(input=Project(input=below, columns=columns) as project):
            if not ctx.shared(project) and not any(c.expr.volatile for c in columns):
                yield Project(node.replace(input=below), columns)
