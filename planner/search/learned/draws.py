"""Functions drawn from what is believed, and the plans that are best under them.

A plan worth a look is one that may turn out the best. Its own uncertainty does not tell that: of
many plans that share a poor stage each may look barely possible and cheap to profile, as what it
shares is loaded, and yet all fail together. So whole functions are drawn from the joint beliefs
(Thompson sampling): a draw has one value for every variant and every pair, the same in all plans,
and only the best plan under each draw is a candidate. Draws go from shy to bold: the mean finds
what is most likely good, a whole draw what may be the best of all.

Losses are drawn by pathwise conditioning [Wilson et al. 2020]: a draw of the prior plus the update
that makes it agree with what was seen. The kernel being a sum over stages and pairs of them, a draw
is a table per stage and one per pair, and a plan's loss a sum of what it looks up there: thousands
of plans take a millisecond, so that all single changes are tried, not a few at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ....ir.record import dataclass

Tables = Sequence[np.ndarray]


@dataclass(frozen=True)
class LossDraws:
    """Losses by table, `` `s` `` draws, without the prior mean.

    Attributes:
        stages: by stage, `` `classes x s` ``.
        pairs: the places of two stages and `` `classes x classes x s` ``.
        seen: sorted keys of the plans seen, and `` `n x s` ``, what they have of their own.
        centre: added to all.
    """

    stages: Tables
    pairs: Sequence[tuple[int, int, np.ndarray]]
    seen: tuple[np.ndarray, np.ndarray]
    centre: float

    def losses(self, classes: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Of `` `m x stages` `` plans, each under one draw."""
        found = np.full(len(classes), self.centre)
        for table, own in zip(self.stages, classes.T, strict=True):
            found += table[own, which]
        for a, b, table in self.pairs:
            found += table[classes[:, a], classes[:, b], which]
        keys, own = self.seen
        at = keyed(classes, [len(table) for table in self.stages])
        place = np.minimum(np.searchsorted(keys, at), len(keys) - 1)
        return found + np.where(keys[place] == at, own[place, which], 0.0)


def keyed(classes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Plans as numbers, mixed radix."""
    keys = np.zeros(len(classes), np.int64)
    for place, size in enumerate(sizes):
        keys = keys * size + classes[:, place]
    return keys


class Drawn(Protocol):
    """Draws of every outcome."""

    @property
    def count(self) -> int:
        """How many."""

    def outcomes(self, plans: np.ndarray, which: np.ndarray) -> np.ndarray:
        """`` `m x o` `` logs of `` `m x stages` `` plans, each under one draw."""


ROUNDS = 6
"""Sweeps over all single changes, at most; a climb that gains nothing ends before (our choice)."""


def optima(
    drawn: Drawn, starts: np.ndarray, sizes: Sequence[int], limits: np.ndarray, goal: int
) -> np.ndarray:
    """The best plan under each draw, `` `s x stages` ``.

    Every draw begins with its best start and changes one stage at a time to whatever is best
    there: the least goal among what meets every limit, the least miss where nothing does.
    """
    return _climbed(drawn, starts, sizes, lambda _: _score_by_goal(limits, goal))


def safest(
    drawn: Drawn, starts: np.ndarray, sizes: Sequence[int], limits: np.ndarray
) -> np.ndarray:
    """Likewise, the plan whose tightest limit is met by most."""
    return _climbed(drawn, starts, sizes, lambda among: _score_by_miss(limits, among))


Score = Callable[[np.ndarray], np.ndarray]
"""`` `m x o` `` outcomes → `` `m` ``, less is better."""


def _climbed(
    drawn: Drawn, starts: np.ndarray, sizes: Sequence[int], scored: Callable[[np.ndarray], Score]
) -> np.ndarray:
    count, m = drawn.count, len(starts)
    outcomes = drawn.outcomes(np.tile(starts, (count, 1)), np.repeat(np.arange(count), m))
    score = scored(outcomes)
    values = score(outcomes).reshape(count, m)
    plans: np.ndarray = starts[values.argmin(axis=1)]
    own = values.min(axis=1)
    moving = np.arange(count)
    for _ in range(ROUNDS):
        before = own[moving]
        for place, size in enumerate(sizes):
            tried = np.repeat(plans[moving], size, axis=0)
            tried[:, place] = np.tile(np.arange(size), len(moving))
            values = score(drawn.outcomes(tried, np.repeat(moving, size))).reshape(-1, size)
            better = values.min(axis=1) < own[moving]
            plans[moving[better], place] = values.argmin(axis=1)[better]
            own[moving] = np.minimum(own[moving], values.min(axis=1))
        moving = moving[own[moving] < before]
        if not len(moving):
            break
    return plans


MISSED = 1e3
"""Above every goal in logs: a plan that misses a limit comes after all that meet them."""


def _score_by_goal(limits: np.ndarray, goal: int) -> Score:
    def score(outcomes: np.ndarray) -> np.ndarray:
        missed = np.maximum(outcomes - limits, 0.0).sum(axis=1)
        found: np.ndarray = np.where(missed > 0, MISSED * (1.0 + missed), outcomes[:, goal])
        return found

    return score


def _score_by_miss(limits: np.ndarray, among: np.ndarray) -> Score:
    """By the worst miss, in standard deviations of each outcome over plans."""
    asked = np.flatnonzero(np.isfinite(limits))
    scale = among[:, asked].std(axis=0) + 1e-9

    def score(outcomes: np.ndarray) -> np.ndarray:
        found: np.ndarray = ((outcomes[:, asked] - limits[asked]) / scale).max(axis=1, initial=-1e9)
        return found

    return score
