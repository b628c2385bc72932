"""Rows that an inner join will drop never reach the calls below it.

    Apply(L, call) ⋈_c R = Apply(L ⋉_c R, call) ⋈_c R          c reads no output of the call

The join itself stays above: pushed below, a join with several partners a row would multiply the
calls, and no statistic here knows how many there are. The semi-join gives its saving without the
risk (our choice), at the price of matching twice in DuckDB.

Precondition: inner join; c is not volatile. The semi-join goes below all calls c does not read.
Counter-example: a left join drops no row of L.
[Bernstein, Chiu, "Using Semi-Joins to Solve Relational Queries", JACM 1981]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import Apply, Filter, Join, LogicalNode, Project
from ...ir.types import SqlExpr, names
from ..columns import passed
from .context import RuleContext


def push_join_below_apply(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Join(Apply(L), R)` → `Join(Apply(SemiJoin(L, R)), R)`; either side."""
    match node:
        case Join(left=left, right=right, kind="inner", condition=SqlExpr() as condition):
            if condition.volatile:
                return
            reduced = _reduced(left, right, condition, ctx)
            if reduced is not None:
                yield node.replace(left=reduced)
                return
            reduced = _reduced(right, left, condition, ctx)
            if reduced is not None:
                yield node.replace(right=reduced)


def _reduced(
    side: LogicalNode, other: LogicalNode, condition: SqlExpr, ctx: RuleContext
) -> LogicalNode | None:
    """The side with the semi-join below its calls; None if none is passed or it is there."""
    if any(isinstance(node, Apply) for node in other.postorder()):
        return None
    read = set(condition.columns) - set(names(other.schema))
    path: list[LogicalNode] = []
    base, passed_calls = side, 0
    while not ctx.shared(base):
        match base:
            case Apply(input=below, outputs=outputs) if read.isdisjoint(names(outputs)):
                passed_calls += 1
            case Filter(input=below):
                pass
            case Project(input=below, columns=columns) if read <= passed(columns):
                pass
            case _:
                break
        path.append(base)
        base = below
    if not passed_calls or _is_reduced(base, other, condition):
        return None
    made: LogicalNode = Join(base, other, "semi", condition)
    for node in reversed(path):
        made = node.with_children((made,))
    return made


def _is_reduced(base: LogicalNode, other: LogicalNode, condition: SqlExpr) -> bool:
    """Is this very semi-join already there?"""
    match base:
        case Join(kind="semi", right=right, condition=SqlExpr() as known):
            return right == other and known == condition
        case _:
            return False
