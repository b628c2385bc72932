"""What histories were worth to a search: a part of what ANALYZE … SEARCH says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ...ir.slo import Slo
from .numbers import age
from .planned import constraint_text

if TYPE_CHECKING:
    from ...stats.histories import History
    from ..search.similarity.warm_start import Warmed, WarmStart

SHOWN = 3
"""Histories of a kind told one by one (our choice)."""


def warming(warm: WarmStart, now: datetime) -> Iterator[str]:
    """A line for all histories, and one for each of the few that weigh most or were left out."""
    account = warm.account()
    if account:
        yield from _used(account, warm.own_weight, now)
    for history, why in warm.left_out[:SHOWN]:
        yield f"history {_which(history, now)}: left out ({why})"
    if len(warm.left_out) > SHOWN:
        yield f"histories left out likewise: {len(warm.left_out) - SHOWN} more"


def _used(account: Sequence[Warmed], own: float, now: datetime) -> Iterator[str]:
    used = [one for one in account if one.weight > 0.0]
    compared = any(one.agreement is not None for one in account)
    many = f"{len(account)} {'history' if len(account) == 1 else 'histories'}"
    if not used:
        yield f"warmed at first by {many} of similar searches: in the end none ranks as was seen"
    elif not compared:
        yield f"warmed by {many} of similar searches, by likeness: too few plans to compare ranks"
    else:
        yield (
            f"warmed by {many} of similar searches: {len(used)} with a weight in the end, the "
            f"search's own plans weigh {own:.2f}"
        )
    for one in (used or account)[:SHOWN]:
        yield f"history {_told(one, now)}"


def _told(one: Warmed, now: datetime) -> str:
    """Of what search, when, its weight, how it ranks, and what of it does not count."""
    ranks = "" if one.agreement is None else f", ranks {one.agreement:.0%} of the pairs as seen"
    changes = f"; not counted: {one.changes}" if one.changes else ""
    return f"{_which(one.history, now)}: weight {one.weight:.2f}{ranks}{changes}"


def _which(history: History, now: datetime) -> str:
    """Of what search, and when."""
    of = f"of {history.subject}, " if history.subject else ""
    ago = age(history.at, now)
    ago = f"{ago} ago, " if ago and ago != "now" else "just now, " if ago else ""
    return f"{of}{ago}{len(history.plans)} plans, {history.slo}"


def slo_text(slo: Slo) -> str:
    """Its name, else as it would be written: `(accuracy >= 0.9) MINIMIZE cost`."""
    if slo.name is not None:
        return slo.name
    goal = f"{'MAXIMIZE' if slo.objective.maximize else 'MINIMIZE'} {slo.objective.metric}"
    return f"({', '.join(constraint_text(c) for c in slo.constraints)}) {goal}"
