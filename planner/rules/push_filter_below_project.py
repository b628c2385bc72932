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
from .calls import below_filters
from .context import RuleContext


def push_filter_below_project(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Project(X))` → `Project(Filter(X))`."""
    if not isinstance(node, Filter) or node.predicate.volatile:
        return
    project, over = below_filters(node, ctx)
    if not isinstance(project, Project) or ctx.shared(project):
        return
    if any(named.expr.volatile for named in project.columns):
        return
    if set(node.predicate.columns) <= passed(project.columns):
        yield over(project.replace(input=Filter(project.input, node.predicate)))
