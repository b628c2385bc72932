"""Partial pooling: one deployment's own numbers drawn towards those of the others.

A deployment's true number is one draw of a population of deployments. Its estimate weighs its own
measurement against the population's centre by how sure either is (empirical Bayes [Efron & Morris
1975, "Data analysis using Stein's estimator and its generalizations", JASA 70]): with no rows of
its own it is the centre, with many it is its own. The population is estimated from the others, the
pipeline's own rows among them as one more, never from the one that is being estimated: then the
estimate moves towards its own number, one way, as its own rows grow.

- Shares: beta-binomial. Own share p of n rows, population mean m and size M (a Beta(mM, (1-m)M)):
  (n·p + M·m) ÷ (n + M); the between-deployment variance by moments [Kleinman 1973, "Proportions
  with extraneous variance", JASA 68].
- Positive means and quantiles: normal-normal on their logarithms (times are positive and skewed:
  our choice), the between-deployment variance by [DerSimonian & Laird 1986, "Meta-analysis in
  clinical trials", Controlled Clinical Trials 7].

Few deployments say little about how deployments differ, and one (the pipeline's own rows, say) says
nothing. The between-variance therefore starts from `_PRIOR_DEGREES` degrees of freedom of a prior
(a scaled inverse chi-squared [Gelman et al. 2013, 3.2]). It is weakly informative: its scale, our
choice, says that users usually differ by some points of accuracy and some tens of per cent of time,
and its few degrees that a handful of deployments may say otherwise. Intervals take Student's t at
the degrees of freedom there are [Higgins, Thompson & Spiegelhalter 2009, "A re-evaluation of
random-effects meta-analysis", JRSS A 172: the predictive interval of a new study].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir.estimates import Estimate, weakest
from .intervals import LEVEL, t_quantile, z_quantile

_PRIOR_DEGREES = 4.0
_PRIOR_CORRELATION = 0.05
"""Between-deployment variance of a share, as a part of m(1-m): 0.90 spreads with sd 0.067."""
_PRIOR_LOG_SD = math.log(2.0) / z_quantile(LEVEL)
"""Of log means: within a factor of two of each other, as for imported numbers."""


def pooled_share(own: Estimate | None, others: Sequence[Estimate]) -> Estimate:
    """A share in [0, 1] of one deployment.

    Args:
        own: its own measurement.
        others: those of at least one other; with none, `own` alone is the answer.
    """
    if not others:
        assert own is not None
        return own
    sizes = [effective_size(one) for one in others]
    mean, centre_variance, correlation = _population(others, sizes)
    spread = mean * (1.0 - mean)
    z, t = z_quantile(LEVEL), t_quantile(LEVEL, _PRIOR_DEGREES + len(others) - 1.0)
    weight = 1.0 / correlation - 1.0
    n = effective_size(own) if own is not None else 0.0
    value = mean if own is None else (n * own.value + weight * mean) / (n + weight)
    # The interval takes the population as less certain than the point does: t, not z.
    unsure = weight * (z / t) ** 2
    pull = unsure / (n + unsure)
    inner = max(value * (1.0 - value), spread * pull)
    variance = inner / (n + unsure) + (pull * t / z) ** 2 * centre_variance
    size = inner / variance if inner > 0.0 else n + unsure
    low, high = _beta_interval(value, size)
    return _behind(value, low, high, own, others)


def pooled_mean(own: Estimate | None, others: Sequence[Estimate]) -> Estimate:
    """A positive mean (or quantile) of one deployment; arguments as for `pooled_share`.

    A number that is 0 has no logarithm: then the own one alone counts, else the weakest other.
    """
    known = [one for one in others if one.value > 0.0]
    if not known or (own is not None and own.value <= 0.0):
        return own if own is not None else min(others, key=lambda one: one.n)
    logs = [math.log(one.value) for one in known]
    variances = [_log_variance(one) for one in known]
    tau2 = _between(logs, variances)
    weights = [1.0 / (tau2 + variance) for variance in variances]
    centre = math.fsum(w * y for w, y in zip(weights, logs, strict=True)) / math.fsum(weights)
    z, t = z_quantile(LEVEL), t_quantile(LEVEL, _PRIOR_DEGREES + len(known) - 1.0)
    unsure = tau2 * (t / z) ** 2
    centre_variance = (t / z) ** 2 / math.fsum(weights)
    if own is None:
        value, variance = centre, unsure + centre_variance
    else:
        within = _log_variance(own)
        keep, kept = tau2 / (tau2 + within), unsure / (unsure + within)
        value = keep * math.log(own.value) + (1.0 - keep) * centre
        variance = kept * within + (1.0 - kept) ** 2 * centre_variance
    half = z * math.sqrt(variance)
    return _behind(math.exp(value), math.exp(value - half), math.exp(value + half), own, others)


def effective_size(share: Estimate) -> float:
    """The rows whose Wilson interval is as wide as this share's; 0 where nothing is known.

    With u = z²/n, width² = (4u·p(1-p) + u²) ÷ (1 + u)²: a quadratic in u.
    """
    width2 = (share.high - share.low) ** 2
    if width2 >= 1.0:
        return 0.0
    if width2 <= 0.0:
        return float(share.n)
    b, c = 2.0 * width2 - 4.0 * share.value * (1.0 - share.value), width2
    # Widths of an interval cut at 0 or 1 can be narrower than any n gives: then n itself.
    a = width2 - 1.0
    root = b * b - 4.0 * a * c
    u = (-b - math.sqrt(root)) / (2.0 * a) if root >= 0.0 else 0.0
    return z_quantile(LEVEL) ** 2 / u if u > 0.0 else float(share.n)


def _beta_interval(mean: float, size: float) -> tuple[float, float]:
    """Quantiles of a Beta of that mean and size; neither count below Jeffreys' half."""
    from scipy.special import betaincinv

    right, wrong = max(mean * size, 0.5), max((1.0 - mean) * size, 0.5)
    tail = (1.0 - LEVEL) / 2.0
    return float(betaincinv(right, wrong, tail)), float(betaincinv(right, wrong, 1.0 - tail))


def _population(others: Sequence[Estimate], sizes: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the shares, its variance, and the intraclass correlation 1/(M + 1)."""
    total = math.fsum(sizes)
    if total <= 0.0:
        return math.fsum(one.value for one in others) / len(others), 0.25, 0.5
    mean = math.fsum(n * one.value for n, one in zip(sizes, others, strict=True)) / total
    spread = mean * (1.0 - mean)
    excess = 0.0
    if len(others) > 1 and spread > 0.0:
        heterogeneity = math.fsum(
            n * (one.value - mean) ** 2 for n, one in zip(sizes, others, strict=True)
        )
        unequal = total - math.fsum(n * n for n in sizes) / total
        degrees = len(others) - 1.0
        # E[heterogeneity] = spread · (degrees + correlation · (unequal - degrees)).
        room = unequal - degrees
        excess = max(0.0, heterogeneity / spread - degrees) / room if room > 0.0 else 0.0
    correlation = _with_prior(excess, _PRIOR_CORRELATION, len(others))
    correlation = min(max(correlation, 1e-6), 0.99)
    # Weighted by what each says about the mean, its own rows and the population's spread.
    precisions = [1.0 / (correlation + (1.0 - correlation) / n) for n in sizes if n > 0.0]
    shares = [one.value for n, one in zip(sizes, others, strict=True) if n > 0.0]
    whole = math.fsum(precisions)
    centre = math.fsum(w * p for w, p in zip(precisions, shares, strict=True)) / whole
    # A mean of 0 or 1 on few rows is no proof that nothing varies: half a wrong row is added.
    guarded = min(max(centre, 0.5 / (total + 1.0)), 1.0 - 0.5 / (total + 1.0))
    return centre, guarded * (1.0 - guarded) / whole, correlation


def _between(logs: Sequence[float], variances: Sequence[float]) -> float:
    """The between-deployment variance of logarithms."""
    tau2 = 0.0
    if len(logs) > 1:
        weights = [1.0 / max(variance, 1e-12) for variance in variances]
        total = math.fsum(weights)
        mean = math.fsum(w * y for w, y in zip(weights, logs, strict=True)) / total
        q = math.fsum(w * (y - mean) ** 2 for w, y in zip(weights, logs, strict=True))
        scale = total - math.fsum(w * w for w in weights) / total
        tau2 = max(0.0, (q - (len(logs) - 1.0)) / scale) if scale > 0.0 else 0.0
    return _with_prior(tau2, _PRIOR_LOG_SD**2, len(logs))


def _with_prior(estimated: float, prior: float, groups: int) -> float:
    """An estimated variance of `groups` and a prior one, weighed by degrees of freedom."""
    degrees = groups - 1.0
    return (_PRIOR_DEGREES * prior + degrees * estimated) / (_PRIOR_DEGREES + degrees)


def _log_variance(one: Estimate) -> float:
    """Of the logarithm, from the interval; its upper half where the lower one reaches 0."""
    z = z_quantile(LEVEL)
    if one.low > 0.0 and math.isfinite(one.high):
        return ((math.log(one.high) - math.log(one.low)) / (2.0 * z)) ** 2
    if math.isfinite(one.high):
        return (math.log(max(one.high / one.value, 1.0)) / z) ** 2
    return math.log(10.0) ** 2  # one call alone: an order of magnitude, as for its upper bound


def _behind(
    value: float, low: float, high: float, own: Estimate | None, others: Sequence[Estimate]
) -> Estimate:
    """The estimate: `n` counts all rows behind it; its age is the own one's, else the oldest."""
    n = sum(one.n for one in others) + (own.n if own is not None else 0)
    _, source, at = weakest(list(others) if own is None else [own])
    low, high = min(low, value), max(high, value)
    return Estimate(value, low, high, n, "prior" if source == "prior" else "modelled", at)
