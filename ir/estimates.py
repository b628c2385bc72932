"""`Estimate` and `Cost`: numbers that carry what is known about them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from .record import dataclass

Source = Literal["measured", "modelled", "prior"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, sample size, source and time of measurement.

    `n` counts independent units (rows, or clusters where the sample was clustered); `at` is UTC.
    A modelled estimate is computed from others: its `n` is the smallest and its `at` the oldest
    of theirs (our choice: an estimate is as good as its weakest part).
    """

    value: float
    low: float
    high: float
    n: int
    source: Source = "measured"
    at: datetime | None = None

    def scaled(self, factor: float) -> Estimate:
        """Value and interval times a known constant >= 0."""
        return Estimate(
            self.value * factor, self.low * factor, self.high * factor, self.n, self.source, self.at
        )


def weakest(parts: list[Estimate]) -> tuple[int, Source, datetime | None]:
    """What a number computed from these inherits: smallest n, weakest source, oldest time."""
    source: Source = "measured" if len(parts) == 1 else "modelled"
    if parts and all(part.source == "measured" for part in parts) and len(parts) == 1:
        source = "measured"
    if any(part.source == "modelled" for part in parts):
        source = "modelled"
    if any(part.source == "prior" for part in parts):
        source = "prior"
    times = [part.at for part in parts if part.at is not None]
    return min((part.n for part in parts), default=0), source, min(times, default=None)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a plan, or a stage, takes and gives; None is unknown, never 0.

    Per source row entering the first model stage, unless said otherwise: `cost` USD, `latency_p50`
    to `latency_p99` s, `accuracy` share in [0, 1], `energy` J, `co2` g; `memory` bytes, the peak on
    one device; `throughput` rows/s; and for a whole query of `rows` rows: `total_cost` USD, `wall`
    s, `total_energy` J.
    """

    cost: Estimate | None = None
    latency_p50: Estimate | None = None
    latency_p95: Estimate | None = None
    latency_p99: Estimate | None = None
    accuracy: Estimate | None = None
    energy: Estimate | None = None
    co2: Estimate | None = None
    memory: Estimate | None = None
    throughput: Estimate | None = None
    wall: Estimate | None = None
    total_cost: Estimate | None = None
    total_energy: Estimate | None = None
    rows: Estimate | None = None

    def metric(self, name: str) -> Estimate | None:
        """The estimate of an SLO metric by its name; None when unknown.

        Raises:
            AttributeError: no such metric.
        """
        value: Estimate | None = getattr(self, name)
        return value
