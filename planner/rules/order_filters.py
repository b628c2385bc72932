"""Independent model filters in the order of cost ÷ (1 − selectivity).

A filter on a call's answers costs the calls it needs and drops a share of the rows, so what the
next one costs shrinks. For filters that do not depend on each other the cheapest order is by rising
rank: cost per row ÷ share dropped. Filters that share calls, or need others' calls, have no rank of
their own, so up to six are ordered by trying all orders; beyond, greedily by the rank over the
calls not yet made (our choice).

    σ_q(Apply_b(σ_p(Apply_a(X)))) = σ_p(Apply_a(σ_q(Apply_b(X))))      b reads no output of a

Precondition: no predicate is volatile; under ON ERROR NULL nothing is reordered, because a failing
call takes the answers of all others with it: a filter sees them before that call, NULL after it.
Unknown cost or selectivity: the written order stays.
Counter-example: a call on the answer of another cannot go first.
[Hellerstein, Stonebraker, "Predicate Migration: Optimizing Queries with Expensive Predicates",
SIGMOD 1993; Ibaraki, Kameda, "On the Optimal Nesting Order for Computing N-Relational Joins",
TODS 1984: the rank]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations

from ...ir.logical import Apply, Filter, LogicalNode, Project, columns_used, model_call
from ...ir.types import names
from ..columns import through
from ..steps import filter_subject
from .context import RuleContext, StepStatistics

Link = Apply | Filter
Needs = Mapping[Filter, Mapping[Apply, None]]
Shares = Mapping[Filter, float]
Seconds = Mapping[Apply, float]

MOST_PERMUTED = 6
"""Filters ordered exactly: 720 orders take about 2 ms."""


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
    """The chain in the order that costs least; None if a number it takes is unknown."""
    filters = [link for link in chain if isinstance(link, Filter)]
    maker = {out: link for link in chain if isinstance(link, Apply) for out in names(link.outputs)}
    needed = {link: _calls_needed(link, maker) for link in filters}
    kept: dict[Filter, float] = {}
    seconds: dict[Apply, float] = {}
    for link in filters:
        share = stats.selectivity(filter_subject(link.predicate))
        if share is None:
            return None
        kept[link] = share
        for apply in needed[link]:
            call = model_call(apply.call)
            cost = stats.seconds_per_row(call.context, call.model)
            if cost is None:
                return None
            seconds[apply] = cost
    orders: Iterable[tuple[Filter, ...]] = permutations(filters)
    if len(filters) > MOST_PERMUTED:
        orders = (tuple(filters), _by_rank(filters, needed, kept, seconds))
    best = min(orders, key=lambda order: _seconds(order, needed, kept, seconds))
    placed: dict[Link, None] = {}
    for link in best:
        placed |= {call: None for call in chain if call in needed[link]}
        placed[link] = None
    return list(placed) + [link for link in chain if link not in placed]


def _calls_needed(link: Filter, maker: dict[str, Apply]) -> dict[Apply, None]:
    """The calls of the chain a filter reads, directly or through others."""
    needed: dict[Apply, None] = {}
    columns = list(link.predicate.columns)
    while columns:
        call = maker.get(columns.pop())
        if call is not None and call not in needed:
            needed[call] = None
            columns.extend(columns_used(call.call))
    return needed


def _seconds(order: Sequence[Filter], needed: Needs, kept: Shares, seconds: Seconds) -> float:
    """Seconds per row of the chain with its filters in this order, each call made when needed."""
    total, rows = 0.0, 1.0
    made: set[Apply] = set()
    for link in order:
        total += rows * sum(seconds[call] for call in needed[link] if call not in made)
        made.update(needed[link])
        rows *= kept[link]
    return total


def _by_rank(
    filters: Sequence[Filter], needed: Needs, kept: Shares, seconds: Seconds
) -> tuple[Filter, ...]:
    """Greedily the least rank next: seconds per row of calls not made yet ÷ share dropped."""
    waiting, placed = list(filters), []
    made: set[Apply] = set()

    def rank(link: Filter) -> float:
        cost = sum(seconds[call] for call in needed[link] if call not in made)
        return cost / (1.0 - kept[link]) if kept[link] < 1.0 else math.inf

    while waiting:
        link = min(waiting, key=rank)
        made.update(needed[link])
        placed.append(link)
        waiting.remove(link)
    return tuple(placed)
