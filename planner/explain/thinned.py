"""What the search of the frontier left out, and by what: a part of EXPLAIN (STEPS)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from ...ir.physical import Choice
from ..search.frontier import Dropped, Frontier
from ..search.similarity.thin import ratio
from ..search.table import Assignment
from .numbers import digits
from .planned import choices_text

SHOWN = 10
"""Plans told one by one, those that were better by most first (our choice)."""
NAMES = {"loss": "error", "busy": "slot-seconds"}
"""Dims by what a reader calls them; a factor on loss holds for 1 - accuracy."""


class Choices(Protocol):
    """The problem, as far as it names what an assignment chooses."""

    def choices(self, assignment: Assignment) -> Mapping[str, Choice]:
        """By step key."""


def thinning(found: Frontier, problem: Choices) -> tuple[str, ...]:
    """A line of what was searched, one of what was thinned, and one for each plan left out."""
    return tuple(_lines(found, problem))


def _lines(found: Frontier, problem: Choices) -> Iterator[str]:
    effort = found.effort
    yield (
        f"frontier: {effort.labels:,} partial plans made; left out {effort.by_limit:,} beyond a "
        f"device's capacity and {effort.dominated:,} that another beats or stands for"
    )
    dropped = sorted(found.dropped, key=lambda one: -one.factor)
    yield (
        f"frontier: {len(found.points) + len(dropped):,} plans, {len(dropped):,} thinned: one kept "
        f"stands for each within 1 + ε, ε = {digits(found.epsilon)}"
    )
    for one in dropped[:SHOWN]:
        yield f"thinned {_thinned(one, found.objectives, problem)}"
    if len(dropped) > SHOWN:
        yield f"thinned {len(dropped) - SHOWN:,} more, by smaller factors"


def _thinned(one: Dropped, objectives: tuple[str, ...], problem: Choices) -> str:
    """What a plan chooses, what stands for it, and in what that is worse."""
    mine, theirs = problem.choices(one.point.assignment), problem.choices(one.by.assignment)
    plan, by = choices_text(mine, theirs), choices_text(theirs, mine)
    lost = ", ".join(
        f"{NAMES.get(dim, dim)} {(factor - 1.0) * 100:.1f} % more"
        for dim, value, base in zip(objectives, one.by.values, one.point.values, strict=True)
        if (factor := ratio(value, base)) > 1.0
    )
    return f"{plan}, for which stands {by}: {lost or 'no worse anywhere'}"
