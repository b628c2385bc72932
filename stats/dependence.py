"""Errors that occur together: what is kept of two steps, for the quality of a pipeline.

Two steps' answers are scored row by row under a pair of choices, the second on what the first one
really answered. With S in [0, 1] a row's score at a step (the product over its elements under EACH;
1 where the step did not run), stored with subject = second step, `given` = first step:

=============== ==============================================================================
both_right      E[S₁·S₂]; first_right E[S₁·(1-S₂)]; second_right E[(1-S₁)·S₂]; both_wrong the rest
second_if_first E[S₁·S₂] ÷ E[S₁]: the second's quality where the first is right
together        E[S₁·S₂]; where the second stands in for the first, E[S₂ if it ran, else S₁]
=============== ==============================================================================

Where the second stands in, the four shares are over the rows it ran on. `row_quality` of the first
is E[S₁]. With it, the chance that both are right is row_quality · second_if_first, and the two are
estimated from different rows, so their errors add in quadrature like those of independent steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..ir.estimates import Estimate
from ..ir.models import ExtendedStatistics
from ..ir.record import dataclass

CELLS = ("both_right", "first_right", "second_right", "both_wrong")


@dataclass(frozen=True, slots=True)
class JointErrors:
    """How two choices err together.

    Attributes:
        name: of the statistics that CREATE STATISTICS declared.
        cells: the four shares, in the order of `CELLS`; None where no row was answered by both.
        second_if_first: the second's quality where the first is right; None where it never is.
        together: the chance that the pair is right.
    """

    name: str
    cells: tuple[float, float, float, float] | None
    second_if_first: Estimate | None
    together: Estimate

    @property
    def information(self) -> float | None:
        """Mutual information of the two being right, in nats: 0 where errors are independent."""
        if self.cells is None:
            return None
        both, first, second, neither = self.cells
        one, other = both + first, both + second
        pairs = (
            (both, one * other),
            (first, one * (1.0 - other)),
            (second, (1.0 - one) * other),
            (neither, (1.0 - one) * (1.0 - other)),
        )
        return sum(
            seen * math.log(seen / alone) for seen, alone in pairs if seen > 0.0 and alone > 0.0
        )


def declared_pairs(
    declared: Iterable[ExtendedStatistics], steps: Sequence[tuple[str, str, str]]
) -> tuple[tuple[str, str], ...]:
    """The pairs of step keys that the statistics are on, the earlier step first.

    `steps` are (key, context, model) in plan order.
    """
    declared = tuple(declared)
    found = []
    for at, (second, *other) in enumerate(steps):
        for first, *one in steps[:at]:
            if any(names_pair(each, one, other) for each in declared):
                found.append((first, second))
    return tuple(found)


def names_pair(declared: ExtendedStatistics, one: Sequence[str], other: Sequence[str]) -> bool:
    """Are the statistics on these two calls? Each is (context, model)."""
    pair = (declared.first, declared.second)
    return any(a in one and b in other for a, b in (pair, pair[::-1]))
