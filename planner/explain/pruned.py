"""Why plans were pruned before they were profiled: a part of what ANALYZE … SEARCH says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ...ir.physical import Choice
from ..search.protocol import LOSS, Assignment
from .numbers import quantity, unit_of
from .planned import choices_text

if TYPE_CHECKING:
    from ..search.similarity.prune import Pruned

SHOWN = 3
"""Plans told one by one (our choice)."""


def pruning(
    found: Sequence[Pruned],
    choices: Callable[[Assignment], Mapping[str, Choice]],
    *,
    proving: bool = False,
) -> Iterator[str]:
    """A line of how many, and one for each of a few, no two of the same variants and knobs.

    Args:
        found: what was pruned.
        choices: what an assignment chooses, by step key.
        proving: a limit is to be proved, and with it the margin that takes.
    """
    limit = "cannot meet a limit" + (" with the margin of its proof" if proving else "")
    beaten = [one for one in found if one.by is not None]
    missing = [one for one in found if one.by is None]
    counts = [
        f"{len(some):,} that {why}"
        for some, why in ((beaten, "cannot beat one that was"), (missing, limit))
        if some
    ]
    if counts:
        yield f"pruned before they were profiled: {' and '.join(counts)}"
    told: dict[tuple[tuple[str, str], ...], Pruned] = {}
    for one in (*beaten, *missing):
        told.setdefault(tuple(choice.made for choice in choices(one.assignment).values()), one)
    for one in [*told.values()][:SHOWN]:
        yield f"pruned {_reason(one, choices)}"


def _reason(one: Pruned, choices: Callable[[Assignment], Mapping[str, Choice]]) -> str:
    """What it chooses, and what it takes at best beside what decided."""
    mine = choices(one.assignment)
    if one.by is None:
        return f"{choices_text(mine)}: {_values(one, 'needs')}"
    theirs = choices(one.by)
    plan, by = choices_text(mine, theirs), choices_text(theirs, mine)
    return f"{plan}, by {by}: {_values(one, 'the other at worst')}"


def _values(one: Pruned, beside: str) -> str:
    """`cost at best $0.30, needs $0.20`, dim by dim."""
    return "; ".join(
        f"{_name(dim)} at best {_value(dim, best)}, {beside} {_value(dim, worst)}"
        for dim, best, worst in zip(one.dims, one.best, one.worst, strict=True)
    )


def _name(dim: str) -> str:
    return "accuracy" if dim == LOSS else dim


def _value(dim: str, value: float) -> str:
    if dim == LOSS:
        return quantity(math.exp(-value), unit_of("accuracy"))
    return quantity(value, unit_of(dim))
