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
from .context import RuleContext


def push_project_below_apply(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Filter(Project(Apply(X)))` → `Filter(Project(Apply(Project(X))))`."""
    match node:
        case Filter(
            input=Project(input=Apply(input=below) as apply, columns=columns) as project,
            predicate=predicate,
        ):
            if predicate.volatile or ctx.shared(project) or ctx.shared(apply):
                return
            read = set(predicate.columns) - passed(columns)
            early = tuple(named for named in columns if named.name in read)
            old = set(names(below.schema))
            computable = all(
                set(named.expr.columns) <= old and not named.expr.volatile for named in early
            )
            clash = read & set(names(apply.schema))
            if not early or not computable or clash:
                return
            lower = apply.replace(input=Project(below, (*through(below.schema), *early)))
            late = tuple(column(c.field) if c.name in read else c for c in columns)
            yield Filter(Project(lower, late), predicate)
