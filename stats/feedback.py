"""How executions and measurements of the same thing are pooled.

By weight: every number counts with the n it rests on. So a short run hardly moves a measurement and
flips no plan, and many runs outweigh it, as they should: they are of the rows and the machine that
count. The value is the mean of both parts by n: exact for means and shares; of quantiles it lies
between both, as the quantile of both together does (our choice: a sketch of each distribution would
tell it better, for more than it is worth here). The ends of the interval are averaged likewise and
not narrowed by n: runs differ from one another by more than the calls within one tell (load, heat),
and calls of one run share that.
"""

from __future__ import annotations

from typing import NamedTuple

from .observation import Observation


class Pooled(NamedTuple):
    """A number with its interval, its n, and what failed."""

    value: float
    low: float
    high: float
    n: int
    n_failed: int

    @classmethod
    def of(cls, one: Observation) -> Pooled:
        """An observation's; without an interval it is trusted within a factor of two."""
        low = one.value / 2 if one.low is None else one.low
        high = one.value * 2 if one.high is None else one.high
        return cls(one.value, low, high, one.n, one.n_failed)


def pool(one: Pooled | None, other: Pooled) -> Pooled:
    """Both together."""
    if one is None or one.n + other.n == 0:
        return other
    share = other.n / (one.n + other.n)

    def mean(mine: float, theirs: float) -> float:
        return mine + share * (theirs - mine) if mine != theirs else mine

    return Pooled(
        mean(one.value, other.value),
        mean(one.low, other.low),
        mean(one.high, other.high),
        one.n + other.n,
        one.n_failed + other.n_failed,
    )
