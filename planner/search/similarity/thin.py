"""Near-duplicates of a front go: what is left covers all that was there within a stated factor.

The one mechanism for it, used by `frontier` and for any other list of plans before it is matched to
queries: the caller gives the numbers to be kept near, what a plan takes of shared devices among
them. Plans are taken in the order given, and each stays unless one that stays is within `room` of
it in every number (our choice: at most as many look-ups as plans times plans kept; the smallest
cover is NP-hard to find in three numbers and more [Koltun & Papadimitriou 2007]).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import le

from ....ir.record import dataclass


@dataclass(frozen=True)
class Thinned:
    """Which plans stay, as places in what was given.

    Attributes:
        kept: in the order given, those always kept first.
        dropped: (plan, the kept one that stands for it, the factor by which that one is worse).
    """

    kept: tuple[int, ...]
    dropped: tuple[tuple[int, int, float], ...]

    @property
    def lost(self) -> float:
        """The largest factor by which a dropped plan was better than what stands for it."""
        return max((factor for _, _, factor in self.dropped), default=1.0)


def thin(vectors: Sequence[tuple[float, ...]], room: float, always: int = 0) -> Thinned:
    """Drop plans that a kept one is at most `room` times as large as, in every number.

    Args:
        vectors: each plan's numbers, all to be small and none negative.
        room: 1 + ε; 1 drops only what is no better anywhere.
        always: how many of the first stay whatever they are.
    """
    kept = list(range(min(always, len(vectors))))
    dropped = []
    for place in range(len(kept), len(vectors)):
        vector = vectors[place]
        enough = tuple([value * room for value in vector])
        near = next((other for other in kept if all(map(le, vectors[other], enough))), None)
        if near is None:
            kept.append(place)
        else:
            dropped.append((place, near, worse(vectors[near], vector)))
    return Thinned(tuple(kept), tuple(dropped))


def worse(vector: Sequence[float], than: Sequence[float]) -> float:
    """The largest factor by which numbers exceed others, at least 1."""
    return max(map(ratio, vector, than), default=1.0)


def ratio(value: float, base: float) -> float:
    """How many times as large as `base`, at least 1."""
    if value <= base:
        return 1.0
    return value / base if base > 0.0 else float("inf")
