"""Profiling plan after plan, learning nothing: in the order of the options, or at random."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from octans.ir.slo import Slo
from octans.planner.search.protocol import Assignment, Space

from .plans import Baseline, Shuffle


class Exhaustive(Baseline):
    """Every plan in the order of the options, the last stage's fastest.

    That order shares the longest prefixes there are to share. Nothing is published of it; the order
    of options is what the catalog would list, our choice.
    """

    def __init__(self, space: Space, slo: Slo, *, rows: int, seed: int, sample: int) -> None:
        super().__init__(space, slo, rows=rows, seed=seed, sample=sample)
        self._plans: Iterator[Assignment] = itertools.product(
            *(range(len(stage.options)) for stage in space.stages)
        )

    def propose(self) -> Assignment | None:
        """The next plan."""
        return next(self._plans, None)


class Random(Baseline):
    """Plans drawn uniformly without replacement: what any search must beat."""

    def __init__(self, space: Space, slo: Slo, *, rows: int, seed: int, sample: int) -> None:
        super().__init__(space, slo, rows=rows, seed=seed, sample=sample)
        self._plans = Shuffle(space, self.rng)

    def propose(self) -> Assignment | None:
        """The next plan."""
        return next(self._plans, None)
