"""What a filter computes from columns older than a call is computed before the call.

    σ_p(π_c(Apply(X, call))) = σ_p(π_c'(Apply(π_{X.*, e}(X), call)))

where e are the columns of c that p reads and that are computed, from columns of X alone; c' passes
them on. The filter can then follow below the call. Only done for a filter's sake: computing early
what nobody filters by saves nothing, and may raise an error for a row that a call's answer drops.

Precondition: e is not volatile, and its names are free in X and among the outputs.
Counter-example: `round(digits.confidence)` reads the call's answer.
[Hellerstein, "Optimization Techniques for Queries with Expensive Methods", TODS 1998: pullup and
pushdown of computed attributes]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Apply, Filter, LogicalNode, Project
from ...ir.types import column, names
from ..columns import passed, through
from .calls import below_filters
from .context import RuleContext


def push_project_below_apply(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Project(Apply(X)))` → `Filter(Project(Apply(Project(X))))`."""
    if not isinstance(node, Filter) or node.predicate.volatile:
        return
    project, over = below_filters(node, ctx)
    if not isinstance(project, Project) or ctx.shared(project):
        return
    apply = project.input
    if not isinstance(apply, Apply) or ctx.shared(apply):
        return
    read = set(node.predicate.columns) - passed(project.columns)
    early = tuple(named for named in project.columns if named.name in read)
    old = set(names(apply.input.schema))
    computable = all(set(c.expr.columns) <= old and not c.expr.volatile for c in early)
    if not early or not computable or read & set(names(apply.schema)):
        return
    lower = apply.replace(input=Project(apply.input, (*through(apply.input.schema), *early)))
    late = tuple(column(c.field) if c.name in read else c for c in project.columns)
    yield Filter(over(Project(lower, late)), node.predicate)
