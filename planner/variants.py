"""Which derived variants are worth keeping: the frontier of quality, time and size, and ladders.

A candidate reaches the frontier when against every other variant it is better, at 95 % confidence,
in at least one of quality, seconds per element and bytes of the artefact. Quality is compared on
the same rows, by the exact sign test over independent units (McNemar's test for right and wrong
answers); times by their intervals; bytes are exact. Each comparison is at 95 % by itself: with
many candidates some luck remains, which is why a promise is proved on other rows.

A ladder is one transform in steps of growing strength. Quality is taken to fall along it
([Boehm et al.], pruning by monotonicity): once a step costs too much, stronger ones are not tried,
but for one, which audits the assumption.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ..ir.record import dataclass
from ..stats.intervals import Interval, binomial_tail, mean_t

ALPHA = 0.05
MOST_LOST = 0.1
"""Quality that a step of a ladder may cost its base (our choice): what costs more, at 95 %
confidence, ends the ladder, for there is usually another model that is as bad and simpler."""


@dataclass(frozen=True)
class Point:
    """What was measured of a variant with its knobs.

    Attributes:
        name: the variant, with its knobs.
        scores: one in [0, 1] for every row of the sample, the same rows for all.
        clusters: each row's; None where rows are independent.
        seconds: per element, at the best batch size.
        size_bytes: of what is loaded; None is unknown.
    """

    name: str
    scores: Sequence[float]
    clusters: Sequence[Hashable] | None
    seconds: Interval
    size_bytes: int | None


def frontier(candidates: Sequence[Point], others: Sequence[Point]) -> dict[str, str | None]:
    """For every candidate the variant that it is no better than; None where it is kept.

    Candidates are taken in the order of their mean score, best first; then those are taken out
    that a later one makes superfluous.
    """
    order = sorted(candidates, key=lambda p: (-sum(p.scores), p.seconds.value, p.size_bytes or 0))
    found: dict[str, str | None] = {}
    kept: list[Point] = []
    for point in order:
        found[point.name] = _beaten(point, [*others, *kept])
        if found[point.name] is None:
            kept.append(point)
    for point in list(kept):
        found[point.name] = _beaten(point, [other for other in kept if other is not point])
        if found[point.name] is not None:
            kept.remove(point)
    return found


def _beaten(point: Point, others: Sequence[Point]) -> str | None:
    return next((other.name for other in others if not better(point, other)), None)


def better(a: Point, b: Point) -> bool:
    """Is `a` better than `b` in at least one respect, at 95 % confidence?"""
    smaller = a.size_bytes is not None and b.size_bytes is not None and a.size_bytes < b.size_bytes
    return smaller or a.seconds.high < b.seconds.low or _more_often_right(a, b)


def _more_often_right(a: Point, b: Point) -> bool:
    """The exact one-sided sign test over the units where they differ."""
    differences = _differences(a, b)
    wins = sum(d > 0 for d in differences)
    losses = sum(d < 0 for d in differences)
    return wins > 0 and binomial_tail(wins, wins + losses, 0.5) <= ALPHA


def falls_out(point: Point, base: Point) -> bool:
    """Does it cost more than `MOST_LOST` of the base's quality, at 95 % confidence?"""
    return mean_t(_differences(point, base)).high < -MOST_LOST


def _differences(a: Point, b: Point) -> list[float]:
    """The mean difference of scores of every independent unit."""
    pairs = [x - y for x, y in zip(a.scores, b.scores, strict=True)]
    if a.clusters is None:
        return pairs
    units: dict[Hashable, list[float]] = {}
    for cluster, difference in zip(a.clusters, pairs, strict=True):
        units.setdefault(cluster, []).append(difference)
    return [sum(values) / len(values) for values in units.values()]
