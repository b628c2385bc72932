"""Below a LIMIT, rows are sorted before they are called, so that the LIMIT can stop the calls.

    limit(f(sort(Apply(X)))) = limit(f(Apply(sort(X))))          the keys read no output of the call

Without a LIMIT nothing is gained: sorting the (narrower) answers at the end is as good, and the
first call need not wait for it.

Precondition: calls and filters keep the order of rows, which the engine promises; keys are not
volatile.
Counter-example: `ORDER BY digits.confidence LIMIT 10` must see every answer.
[Carey, Kossmann, "On Saying 'Enough Already!' in SQL", SIGMOD 1997: stop operators]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Apply, Filter, Limit, LogicalNode, Project, Sort
from ...ir.types import names
from ..columns import passed
from .context import RuleContext


def push_sort_below_apply(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Limit(…(Sort(Apply(X))))` → `Limit(…(Apply(Sort(X))))`."""
    match node:
        case Limit(input=below, count=int()):
            above: list[Apply | Filter | Project | Limit] = [node]
            while isinstance(below, Apply | Filter | Project) and not ctx.shared(below):
                above.append(below)
                below = below.input
            if not isinstance(below, Sort) or ctx.shared(below):
                return
            path = _path(below, ctx)
            if not path:
                return
            made: LogicalNode = below.replace(input=path[-1].input)
            for link in (*reversed(path), *reversed(above)):
                made = link.with_children((made,))
            yield made


def _path(sort: Sort, ctx: RuleContext) -> list[Apply | Filter | Project]:
    """What the sort can go below, down to the lowest call."""
    if any(key.expr.volatile for key in sort.keys):
        return []
    read = {name for key in sort.keys for name in key.expr.columns}
    path: list[Apply | Filter | Project] = []
    below = sort.input
    while not ctx.shared(below):
        match below:
            case Apply(outputs=outputs) if read.isdisjoint(names(outputs)):
                path.append(below)
            case Filter(predicate=predicate) if not predicate.volatile:
                path.append(below)
            case Project(columns=columns) if read <= passed(columns):
                path.append(below)
            case _:
                break
        below = below.input
    while path and not isinstance(path[-1], Apply):
        path.pop()
    return path
