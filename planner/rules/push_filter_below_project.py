"""A filter on columns that a projection only passes on goes before it.

    σ_p(π_c(X)) = π_c(σ_p(X))          every column p reads is passed on by c under its name

Precondition: neither p nor c is volatile: `random()` drawn for fewer rows is another draw.
Counter-example: `WHERE upper_name = 'A'` over `upper(name) AS upper_name` (see
push_project_below_apply for these).
[Selinger et al., SIGMOD 1979]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Filter, LogicalNode, Project
from ..columns import passed
from .context import RuleContext


def push_filter_below_project(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Project(X))` → `Project(Filter(X))`."""
    match node:
        case Filter(input=Project(input=below, columns=columns) as project, predicate=predicate):
            volatile = predicate.volatile or any(named.expr.volatile for named in columns)
            if volatile or ctx.shared(project):
                return
            if set(predicate.columns) <= passed(columns):
                yield Project(Filter(below, predicate), columns)
