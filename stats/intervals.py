"""Confidence intervals for shares, means and quantiles, none of them ever degenerate by accident.

Shares use Wilson's score interval [Wilson 1927]; with clusters (or weights) its modified form at
the effective sample size [Franco, Little, Louis, Slud 2019, "Comparative study of confidence
intervals for proportions in complex sample surveys", J. Survey Stat. Methodol. 7(3)], with the
t-correction for few clusters of [Korn & Graubard 1998, "Confidence intervals for proportions with
small expected number of positive counts", Survey Methodology 24]. Latency quantiles use order
statistics, means of skewed values a bootstrap. Everything on the way to a proof (`binomial_tail`,
`clopper_pearson_lower`) is plain Python; only t quantiles, tolerance bounds and the bootstrap
import scipy or numpy, when they are asked for.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from statistics import NormalDist

from ..ir.record import dataclass

LEVEL = 0.95
"""Coverage of every interval of an `Estimate`."""


RESAMPLES = 999
LEAST_RESAMPLED, MOST_RESAMPLED = 8, 1000
"""Fewer values have too few different resamples; of more a mean is normal enough (our choice)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, its interval, and the number of independent units behind it."""

    value: float
    low: float
    high: float
    n: int


@lru_cache(maxsize=64)
def z_quantile(level: float) -> float:
    """Two-sided normal quantile: 1.96 at 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


@lru_cache(maxsize=256)
def t_quantile(level: float, df: float) -> float:
    """Two-sided Student quantile with `df` > 0 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + level / 2))


def wilson(right: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share; `n` may be an effective (fractional) size.

    Without observations nothing is known: [0, 1].
    """
    if n <= 0:
        return 0.0, 1.0
    z2 = z_quantile(level) ** 2
    share = right / n
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if share == 0.0 else max(0.0, center - half)
    high = 1.0 if share == 1.0 else min(1.0, center + half)
    return low, high


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X >= k) for X ~ Binomial(n, p), to full relative precision where it is small.

    Terms are summed outwards from `k`, away from the mode, until they no longer count.
    """
    if k <= 0:
        return 1.0
    if k > n or p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    if k > n * p:
        return min(1.0, _sum_upwards(k, n, p))
    return max(0.0, 1.0 - _sum_upwards(n - k + 1, n, 1.0 - p))


def _sum_upwards(k: int, n: int, p: float) -> float:
    """P(X >= k) by summing from k on; accurate for k at or above the mode."""
    log_first = (
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(p)
        + (n - k) * math.log1p(-p)
    )
    odds = p / (1.0 - p)
    term = total = 1.0
    for i in range(k, n):
        term *= (n - i) / (i + 1) * odds
        total += term
        if term < total * 1e-17:
            break
    return math.exp(log_first) * total


def clopper_pearson_lower(right: int, n: int, alpha: float) -> float:
    """Exact lower confidence bound of a share [Clopper & Pearson 1934]: P(bound > truth) <= alpha.

    The p at which `binomial_tail(right, n, p)` equals alpha, rounded down.
    """
    if right <= 0 or n <= 0:
        return 0.0
    if right == n:
        return float(alpha ** (1.0 / n))

    def excess(p: float) -> float:
        tail = binomial_tail(right, n, p)
        return math.log(tail / alpha) if tail > 0.0 else -math.inf

    return last_below(excess, 0.0, right / n, 1e-12)


def last_below(
    excess: Callable[[float], float], low: float, high: float, tolerance: float
) -> float:
    """The largest x, to within `tolerance` and never above it, at which `excess` is <= 0.

    `excess` rises on [low, high] and is <= 0 at `low`. False position with halved weights [Illinois
    method, Dowell & Jarratt 1971], every fourth step a bisection: the count of steps is bounded.
    """
    at_low, at_high = excess(low), excess(high)
    if at_high <= 0.0:
        return high
    step = 0
    # Bisections alone halve the bracket every fourth step, so this ends after 4·log2(1/tolerance).
    while high - low > tolerance:
        step += 1
        middle = (low + high) / 2
        if step % 4 and math.isfinite(at_low) and math.isfinite(at_high):
            middle = high - at_high * (high - low) / (at_high - at_low)
            # A step beyond the root by a hair closes the bracket from the other side.
            middle = min(max(middle, low + tolerance / 2), high - tolerance / 2)
        value = excess(middle)
        if value <= 0.0:
            low, at_low, at_high = middle, value, at_high / 2
        else:
            high, at_high, at_low = middle, value, at_low / 2
    return low


def mean_t(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of independent values with Student's interval; one value alone bounds nothing."""
    n = len(values)
    if n == 0:
        return Interval(math.nan, -math.inf, math.inf, 0)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile(level, n - 1) * spread / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of independent values of any shape; as `mean_t` where they are not skewed.

    Student's interval misses the mean of skewed values too often and on one side: they count as
    skewed where n < 25·G1², G1 their sample skewness [Cochran 1977, "Sampling Techniques", 2.15].
    Then each end is the farther of Student's and of the studentised bootstrap's (the quantiles of
    (m* - m)/s*, `RESAMPLES` resamples, fixed seed) [Hall 1988, "Theoretical comparison of bootstrap
    confidence intervals"]. scipy's BCa did no better than Student's on samples of 20; see
    docs/benchmarks/guarantees.md. The farther of both, because a sample that looks symmetric by
    luck is the one that misses (our choice).
    """
    plain = mean_t(values, level)
    if not LEAST_RESAMPLED <= plain.n <= MOST_RESAMPLED or not _skewed(values, plain.value):
        return plain
    import numpy as np

    sample = np.asarray(values, dtype=np.float64)
    n = plain.n
    rng = np.random.default_rng(0)
    drawn = sample[rng.integers(0, n, (RESAMPLES, n))]
    spreads = drawn.std(axis=1, ddof=1)
    spread = float(sample.std(ddof=1))
    varied = spreads > 1e-9 * spread
    ratios = (drawn.mean(axis=1)[varied] - sample.mean()) / spreads[varied]
    lower, upper = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    low, high = plain.value - float(upper) * spread, plain.value - float(lower) * spread
    return Interval(plain.value, min(plain.low, low), max(plain.high, high), n)


def _skewed(values: Sequence[float], mean: float) -> bool:
    """Cochran's rule: are there too few values for their skewness?"""
    n = len(values)
    second = math.fsum((v - mean) ** 2 for v in values) / n
    if second <= 0.0:
        return False
    skewness = math.fsum((v - mean) ** 3 for v in values) / n / second**1.5
    return bool(n < 25.0 * skewness**2)


def clustered_share(
    scores: Sequence[float], clusters: Sequence[Hashable] | None, level: float = LEVEL
) -> Interval:
    """Mean of scores in [0, 1] with a cluster-robust interval; `n` counts clusters.

    The mean is over scores (a ratio of cluster totals); its linearised variance is
    C/(C-1) · sum_c r_c² / N², r_c = sum_{i in c} (x_i - mean). The interval is Wilson's at the
    effective size mean·(1-mean)/variance, shrunk by (z/t)². The degrees of freedom of t are
    (sum r²)² / sum r⁴ - 1 [Satterthwaite 1946], C-1 where clusters are alike and fewer where a few
    bad clusters carry the variance: near 1, C-1 would cover 90 % where 95 % are promised. For 0/1
    scores the effective size is at most N (our choice: a design effect below one, estimated from
    few wrong answers, is noise) and for all scores at least Kish's N²/sum N_c², what clusters of
    identical scores are worth; that also keeps an interval from collapsing where nothing varies.

    Args:
        scores: `N` scores.
        clusters: `N` cluster keys; None when every score is independent.
        level: coverage.
    """
    total = len(scores)
    if total == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    binary = all(score in (0.0, 1.0) for score in scores)
    mean = min(1.0, max(0.0, math.fsum(scores) / total))
    if clusters is None and binary:
        return Interval(mean, *wilson(mean * total, total, level), total)
    residuals, kish = _clusters(scores, clusters, mean)
    count = len(residuals)
    if count < 2:
        return Interval(mean, 0.0, 1.0, count)
    effective = kish * (z_quantile(level) / t_quantile(level, count - 1.0)) ** 2
    squares = math.fsum(r * r for r in residuals)
    variance = count / (count - 1) * squares / total**2
    # Rounding leaves a variance of 1e-34 where all clusters agree; it must not count as knowledge.
    if variance > 1e-18 and 0.0 < mean < 1.0:
        estimated = mean * (1.0 - mean) / variance
        estimated = min(estimated, float(total)) if binary else estimated
        degrees = max(1.0, squares**2 / math.fsum(r**4 for r in residuals) - 1.0)
        estimated *= (z_quantile(level) / t_quantile(level, degrees)) ** 2
        effective = max(effective, estimated)
    return Interval(mean, *wilson(mean * effective, effective, level), count)


def _clusters(
    scores: Sequence[float], clusters: Sequence[Hashable] | None, mean: float
) -> tuple[list[float], float]:
    """Sum over each cluster of score minus mean, and Kish's effective number of clusters."""
    if clusters is None:
        return [score - mean for score in scores], float(len(scores))
    sums: dict[Hashable, float] = {}
    sizes: dict[Hashable, int] = {}
    for key, score in zip(clusters, scores, strict=True):
        sums[key] = sums.get(key, 0.0) + (score - mean)
        sizes[key] = sizes.get(key, 0) + 1
    kish = len(scores) ** 2 / math.fsum(size * size for size in sizes.values())
    return list(sums.values()), kish


def repeated(values: Sequence[float]) -> Interval:
    """Mean of at least one positive value, with Student's interval cut at 0.

    One alone says nothing of its spread: a factor of two, as for imported numbers (our choice).
    """
    mean = mean_t(values)
    if mean.n == 1:
        return Interval(mean.value, mean.value / 2, mean.value * 2, 1)
    return Interval(mean.value, max(0.0, mean.low), mean.high, mean.n)


def seconds_lost(seconds: float, failed: int, elements: int) -> Interval:
    """Of the calls in which elements failed, for every element called: with the share's interval.

    Where calls were repeated and then none failed, a factor of two (our choice).
    """
    mean, share = seconds / elements, failed / elements
    low, high = wilson(failed, elements)
    ends = (low / share, high / share) if failed else (0.5, 2.0)
    return Interval(mean, mean * ends[0], mean * ends[1], elements)


def quantile_interval(values: Sequence[float], q: float, level: float = LEVEL) -> Interval:
    """The q-quantile of positive independent values, with an order-statistic interval.

    [x_(r), x_(s)] covers the quantile with probability P(r <= Binomial(n, q) < s), whatever the
    distribution [David & Nagaraja 2003, 7.1]. Where `n` is too small for an upper order statistic
    (below 59 for a one-sided p95) the upper end is a log-normal tolerance bound, never below the
    largest value seen (our choice: latencies are positive and skewed; a few fast calls must not
    pass for a bound); a lower end that no order statistic gives is the smallest value.
    """
    n = len(values)
    if n == 0:
        return Interval(math.nan, 0.0, math.inf, 0)
    ordered = sorted(values)
    alpha = (1.0 - level) / 2
    # P(x_(r) > quantile) = P(Bin(n, q) <= r-1); P(x_(s) < quantile) = P(Bin(n, q) >= s).
    ranks = range(1, n + 1)
    lower = bisect_left(ranks, True, key=lambda r: 1.0 - binomial_tail(r, n, q) > alpha)
    upper = bisect_left(ranks, True, key=lambda s: binomial_tail(s, n, q) <= alpha) + 1
    value = quantile(ordered, q)
    low = ordered[lower - 1] if lower else ordered[0]
    if upper <= n:
        return Interval(value, min(low, value), max(ordered[upper - 1], value), n)
    return Interval(value, min(low, value), _lognormal_upper(ordered, q, alpha), n)


def _lognormal_upper(ordered: Sequence[float], q: float, alpha: float) -> float:
    """Upper tolerance bound of the q-quantile of a log-normal [Hahn & Meeker 1991, 4.4]."""
    n = len(ordered)
    if n < 2 or ordered[0] <= 0.0:
        # One call tells nothing about its spread: an order of magnitude, our choice.
        return ordered[-1] * 10.0
    from scipy.special import nctdtrit

    logs = [math.log(value) for value in ordered]
    mean = math.fsum(logs) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in logs) / (n - 1))
    shift = NormalDist().inv_cdf(q) * math.sqrt(n)
    factor = float(nctdtrit(n - 1, shift, 1.0 - alpha)) / math.sqrt(n)
    return max(ordered[-1], math.exp(min(mean + factor * spread, 700.0)))


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values, linear between them [Hyndman & Fan 1996, type 7]."""
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
