"""Batch curves: seconds of one call by batch size, piecewise linear and monotone.

Measured times may fall where they should rise (noise). They are made monotone by isotonic
regression: pool adjacent violators, each block the mean weighted by sample size [Ayer et al. 1955,
"An empirical distribution function for sampling with incomplete information"]. The blocks of the
values pool the intervals' ends too. Between measured batches the curve is linear; below the
smallest it is flat (a smaller call takes no longer); beyond the largest it is not defined.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from ..ir.estimates import Estimate, weakest
from ..ir.record import dataclass

LEVELS = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
"""The measured quantiles of a call's latency."""


@dataclass(frozen=True, slots=True)
class BatchCurve:
    """Seconds of one call at ascending batch sizes, non-decreasing."""

    batches: tuple[int, ...]
    seconds: tuple[Estimate, ...]

    @property
    def largest(self) -> int:
        """The largest measured batch: beyond it nothing is known."""
        return self.batches[-1]

    def at(self, size: float) -> Estimate | None:
        """Seconds of a call of `size` elements; None beyond the largest measured one."""
        if size > self.largest:
            return None
        place, share = self._place(size)
        if share == 1.0:
            return self.seconds[place]
        return _between(self.seconds[place - 1], self.seconds[place], share)

    def value(self, size: float) -> float:
        """`at` as a float, of a size up to the largest."""
        place, share = self._place(size)
        high = self.seconds[place].value
        if share == 1.0:
            return high
        low = self.seconds[place - 1].value
        return low + share * (high - low)

    def _place(self, size: float) -> tuple[int, float]:
        """The measured size at or above this one, and how far on the way to it from the last."""
        place = bisect_left(self.batches, size)
        if place == 0 or self.batches[place] == size:
            return place, 1.0
        left = self.batches[place - 1]
        return place, (size - left) / (self.batches[place] - left)


def _between(low: Estimate, high: Estimate, share: float) -> Estimate:
    """Linear between two measured points."""
    n, source, at = weakest([low, high])
    return Estimate(
        low.value + share * (high.value - low.value),
        low.low + share * (high.low - low.low),
        low.high + share * (high.high - low.high),
        n,
        "modelled" if source == "measured" else source,
        at,
    )


def batch_curve(points: Sequence[tuple[int, Estimate]]) -> BatchCurve | None:
    """The monotone curve through measured points; None without any."""
    if not points:
        return None
    ordered = sorted(points, key=lambda point: point[0])
    values = [estimate.value for _, estimate in ordered]
    blocks = isotonic_blocks(values, [max(estimate.n, 1) for _, estimate in ordered])
    seconds: list[Estimate] = []
    for start, stop in blocks:
        pooled = _pooled([estimate for _, estimate in ordered[start:stop]])
        seconds.extend([pooled] * (stop - start))
    return BatchCurve(tuple(batch for batch, _ in ordered), tuple(seconds))


def isotonic_blocks(values: Sequence[float], weights: Sequence[float]) -> list[tuple[int, int]]:
    """Half-open index ranges that pool adjacent violators; their weighted means do not fall."""
    blocks: list[tuple[int, int, float, float]] = []
    for place, (value, weight) in enumerate(zip(values, weights, strict=True)):
        block = (place, place + 1, value, float(weight))
        while blocks and blocks[-1][2] > block[2]:
            start, _, mean, heavy = blocks.pop()
            both = heavy + block[3]
            block = (start, block[1], (mean * heavy + block[2] * block[3]) / both, both)
        blocks.append(block)
    return [(start, stop) for start, stop, _, _ in blocks]


def _pooled(parts: Sequence[Estimate]) -> Estimate:
    """The weighted mean of a block, one estimate for all of it."""
    if len(parts) == 1:
        return parts[0]
    weights = [max(part.n, 1) for part in parts]
    whole = sum(weights)
    n, source, at = weakest(list(parts))

    def mean(values: list[float]) -> float:
        return sum(v * w for v, w in zip(values, weights, strict=True)) / whole

    return Estimate(
        mean([part.value for part in parts]),
        mean([part.low for part in parts]),
        mean([part.high for part in parts]),
        n,
        "modelled" if source == "measured" else source,
        at,
    )


def quantile_at(points: Sequence[tuple[float, float]], level: float) -> float:
    """The quantile at `level` from measured (level, seconds), levels ascending, at least one.

    Linear in -log(1 - level) (an exponential tail is a straight line in it) between measured
    levels and beyond the last one, with the slope of the last two; flat below the first, whose
    value is then an upper bound. Made non-decreasing by a running maximum. Our choice: profiles
    give up to p99, and a plan of many calls asks for a little more.
    """
    running: list[tuple[float, float]] = []
    highest = 0.0
    for known, value in points:
        highest = max(highest, value)
        running.append((-math.log1p(-known), highest))
    x = -math.log1p(-min(level, 1.0 - 1e-12))
    if len(running) == 1 or x <= running[0][0]:
        return running[0][1]
    place = 1
    while place < len(running) - 1 and x > running[place][0]:
        place += 1
    (x0, y0), (x1, y1) = running[place - 1], running[place]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
