"""Independent model filters in the order of cost ÷ (1 − selectivity).

A filter on a call's answers costs the calls it needs and drops a share of the rows, so what the
next one costs shrinks. For filters that do not depend on each other the cheapest order is by rising
rank: cost per row ÷ share dropped. Where filters share calls, the cost of one is that of the calls
not yet made (our choice: greedy, exact for independent filters).

    σ_q(Apply_b(σ_p(Apply_a(X)))) = σ_p(Apply_a(σ_q(Apply_b(X))))      b reads no output of a

Precondition: no predicate is volatile; under ON ERROR NULL nothing is reordered, because a failed
row is kept unless a filter before the failure drops it. Unknown cost or selectivity: the written
order stays.
Counter-example: a call on the answer of another cannot go first.
[Hellerstein, Stonebraker, "Predicate Migration: Optimizing Queries with Expensive Predicates",
SIGMOD 1993; Ibaraki, Kameda, "On the Optimal Nesting Order for Computing N-Relational Joins",
TODS 1984: the rank]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ...ir.logical import Apply, Filter, LogicalNode, Project, columns_used, model_call
from ...ir.types import names
from ..columns import through
from ..steps import filter_subject
from .context import RuleContext, StepStatistics

Link = Apply | Filter


def order_filters(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """A whole chain of calls and filters → the same chain by rising rank."""
    if ctx.stats is None or ctx.on_error == "null" or not isinstance(node, Apply | Filter):
        return
    readers = ctx.readers(node)
    if len(readers) == 1 and isinstance(readers[0], Apply | Filter):
        return
    chain = _chain(node, ctx)
    filters = [link for link in chain if isinstance(link, Filter)]
    if len(filters) < 2 or any(link.predicate.volatile for link in filters):
        return
    ordered = _ordered(chain, ctx.stats)
    if ordered is None or ordered == chain:
        return
    made: LogicalNode = chain[0].input
    for link in ordered:
        made = link.replace(input=made)
    yield made if made.schema == node.schema else Project(made, through(node.schema))


def _chain(top: Link, ctx: RuleContext) -> list[Link]:
    """The calls and filters from the lowest up to `top`, read by nobody else in between."""
    found: list[Link] = [top]
    below = top.input
    while isinstance(below, Apply | Filter) and not ctx.shared(below):
        found.append(below)
        below = below.input
    return found[::-1]


def _ordered(chain: Sequence[Link], stats: StepStatistics) -> list[Link] | None:
    """Greedily the filter of least rank with the calls it still needs; None if one is unknown."""
    maker = {out: link for link in chain if isinstance(link, Apply) for out in names(link.outputs)}
    waiting = [link for link in chain if isinstance(link, Filter)]
    placed: list[Link] = []
    while waiting:
        ranked = []
        for link in waiting:
            calls = _calls_needed(link, maker, placed)
            rank = _rank(link, calls, stats)
            if rank is None:
                return None
            ranked.append((rank, calls, link))
        _, calls, link = min(ranked, key=lambda one: one[0])
        placed += [call for call in chain if isinstance(call, Apply) and call in calls]
        placed.append(link)
        waiting.remove(link)
    return placed + [link for link in chain if link not in placed]


def _calls_needed(link: Filter, maker: dict[str, Apply], placed: Sequence[Link]) -> set[Apply]:
    """The calls of the chain a filter reads, directly or through others, and not yet placed."""
    needed: set[Apply] = set()
    columns = list(link.predicate.columns)
    while columns:
        call = maker.get(columns.pop())
        if call is not None and call not in needed and call not in placed:
            needed.add(call)
            columns.extend(columns_used(call.call))
    return needed


def _rank(link: Filter, calls: set[Apply], stats: StepStatistics) -> float | None:
    """Seconds per row ÷ share of rows dropped; None when a number is unknown."""
    kept = stats.selectivity(filter_subject(link.predicate))
    seconds = 0.0
    for call in calls:
        cost = stats.seconds_per_row(model_call(call.call).context)
        if cost is None:
            return None
        seconds += cost
    if kept is None:
        return 0.0 if not calls else None
    return math.inf if kept >= 1.0 else seconds / (1.0 - kept)
