"""Why plans were pruned before they were profiled: a part of what ANALYZE … SEARCH says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ...cost.compose import stage_level
from ...cost.model import LATENCY_LEVELS
from ...ir.physical import Choice
from ..search.protocol import LOSS, Assignment
from ..stage_plan import NEVER_SECONDS
from .numbers import quantity, unit_of
from .planned import choices_text

if TYPE_CHECKING:
    from ..search.similarity.prune import Pruned

SHOWN = 3
"""Plans told one by one (our choice)."""
SURELY_NEVER = NEVER_SECONDS / 2.0
"""Seconds: what never ends, less the margin that pruning leaves what was seen."""


def pruning(
    found: Sequence[Pruned],
    choices: Callable[[Assignment], Mapping[str, Choice]],
    failed: Callable[[str, Choice], float],
    *,
    proving: bool = False,
) -> Iterator[str]:
    """A line of how many, and one for each of a few, no two of the same variants and knobs.

    Args:
        found: what was pruned.
        choices: what an assignment chooses, by step key.
        failed: the share of a step's elements that a choice of it failed on.
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
        yield f"pruned {_reason(one, choices, failed)}"


def _reason(
    one: Pruned,
    choices: Callable[[Assignment], Mapping[str, Choice]],
    failed: Callable[[str, Choice], float],
) -> str:
    """What it chooses, and what it takes at best beside what decided."""
    mine = choices(one.assignment)
    never = partial(_never, mine, failed)
    if one.by is None:
        return f"{choices_text(mine)}: {_values(one, 'needs', never)}"
    theirs = choices(one.by)
    plan, by = choices_text(mine, theirs), choices_text(theirs, mine)
    return f"{plan}, by {by}: {_values(one, 'the other at worst', never)}"


def _values(one: Pruned, beside: str, never: Callable[[str], str]) -> str:
    """`cost at best $0.30, needs $0.20`, dim by dim; what `never` says of a latency without end."""
    return "; ".join(
        never(dim)
        if dim in LATENCY_LEVELS and best > SURELY_NEVER
        else f"{_name(dim)} at best {_value(dim, best)}, {beside} {_value(dim, worst)}"
        for dim, best, worst in zip(one.dims, one.best, one.worst, strict=True)
    )


def _never(mine: Mapping[str, Choice], failed: Callable[[str, Choice], float], dim: str) -> str:
    """Why no row's time is known at this level: more of them fail than it leaves out."""
    share, variant = max((failed(key, choice), choice.variant) for key, choice in mine.items())
    tail = 1.0 - stage_level(LATENCY_LEVELS[dim], len(mine))
    return (
        f"{variant} failed on {share:.2%} of the elements measured: {dim} leaves a step "
        f"{tail:.2%} of the rows, and a row that fails never answers"
    )


def _name(dim: str) -> str:
    return "accuracy" if dim == LOSS else dim


def _value(dim: str, value: float) -> str:
    if dim == LOSS:
        return quantity(math.exp(-value), unit_of("accuracy"))
    return quantity(value, unit_of(dim))
