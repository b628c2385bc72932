"""What histories were worth to a search: a part of what ANALYZE … SEARCH says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from ...ir.slo import Slo
from .numbers import age
from .planned import constraint_text

if TYPE_CHECKING:
    from ..search.similarity.warm_start import Warmed, WarmStart

SHOWN = 3
"""Histories told one by one (our choice)."""


def warming(warm: WarmStart, now: datetime) -> Iterator[str]:
    """A line for all histories, and one for each of the few that weigh most."""
    account = warm.account()
    if not account:
        return
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
            f"search's own plans weigh {warm.own_weight:.2f}"
        )
    for one in (used or account)[:SHOWN]:
        yield f"history {_told(one, now)}"


def _told(one: Warmed, now: datetime) -> str:
    """Of what search, when, its weight, and how it ranks."""
    of = f"of {one.history.subject}, " if one.history.subject else ""
    ago = age(one.history.at, now)
    ago = f"{ago} ago, " if ago and ago != "now" else "just now, " if ago else ""
    seen = f"{len(one.history.plans)} plans, {one.history.slo}"
    ranks = "" if one.agreement is None else f", ranks {one.agreement:.0%} of the pairs as seen"
    return f"{of}{ago}{seen}: weight {one.weight:.2f}{ranks}"


def slo_text(slo: Slo) -> str:
    """Its name, else as it would be written: `(accuracy >= 0.9) MINIMIZE cost`."""
    if slo.name is not None:
        return slo.name
    goal = f"{'MAXIMIZE' if slo.objective.maximize else 'MINIMIZE'} {slo.objective.metric}"
    return f"({', '.join(constraint_text(c) for c in slo.constraints)}) {goal}"
