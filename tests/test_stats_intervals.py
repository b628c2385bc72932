"""Intervals cover as often as they say, on fixed seeds, and never collapse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from octans.stats.intervals import (
    binomial_tail,
    clopper_pearson_lower,
    clustered_share,
    mean_t,
    quantile_interval,
    wilson,
)
from scipy.special import betaincinv
from scipy.stats import binom

REPEATS = 400
SLACK = 3 * math.sqrt(0.05 * 0.95 / REPEATS)
"""Three standard errors of an observed coverage at 95 %."""


def test_binomial_tail_is_exact_where_it_is_tiny():
    for k, n, p in [(0, 5, 0.3), (5, 5, 0.3), (990, 1000, 0.95), (3, 1000, 0.5), (60, 100, 0.1)]:
        assert binomial_tail(k, n, p) == pytest.approx(binom.sf(k - 1, n, p), rel=1e-9)


def test_clopper_pearson_agrees_with_the_beta_quantile():
    for right, n, alpha in [(480, 500, 0.01), (3, 500, 1e-10), (1, 3, 0.3), (999, 1000, 0.0125)]:
        exact = betaincinv(right, n - right + 1, alpha)
        bound = clopper_pearson_lower(right, n, alpha)
        assert exact - 1e-9 <= bound <= exact + 1e-13, "rounded down, so the test stays exact"
    assert clopper_pearson_lower(0, 10, 0.05) == 0.0
    assert clopper_pearson_lower(10, 10, 0.05) == pytest.approx(0.05**0.1)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_wilson_covers(share):
    rng = np.random.default_rng(1)
    hits = 0
    for right in rng.binomial(300, share, size=REPEATS):
        low, high = wilson(float(right), 300)
        hits += low <= share <= high
    assert hits / REPEATS >= 0.95 - SLACK


def test_wilson_without_rows_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.6, 0.9, 0.97])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_clustered_intervals_cover(share, correlation):
    """Beta-binomial clusters of unequal size; the interval knows clusters only."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(REPEATS):
        sizes = rng.integers(1, 8, size=120)
        if correlation:
            spread = 1 / correlation - 1
            chances = rng.beta(share * spread, (1 - share) * spread, size=120)
        else:
            chances = np.full(120, share)
        clusters = np.repeat(np.arange(120), sizes)
        scores = (rng.random(len(clusters)) < chances[clusters]).astype(float)
        found = clustered_share(scores.tolist(), clusters.tolist())
        assert found.n == 120
        hits += found.low <= share <= found.high
    assert hits / REPEATS >= 0.95 - SLACK


def test_ignoring_clusters_would_not_cover():
    """Why clusters matter: the same rows taken for independent give far too narrow intervals."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(REPEATS):
        chances = rng.beta(0.9, 0.1, size=60)
        scores = (rng.random((60, 8)) < chances[:, None]).astype(float).ravel()
        found = clustered_share(scores.tolist(), None)
        hits += found.low <= 0.9 <= found.high
    assert hits / REPEATS < 0.8


@pytest.mark.parametrize(
    "scores",
    [[1.0] * 30, [0.0] * 30, [0.8] * 30, [1.0, 0.0] * 15],
    ids=["all right", "all wrong", "all equal", "clusters alike"],
)
def test_intervals_never_collapse(scores):
    found = clustered_share(scores, [row // 2 for row in range(30)])
    assert found.high - found.low > 0.1
    assert found.low <= found.value <= found.high


def test_one_cluster_bounds_nothing():
    found = clustered_share([1.0, 1.0, 0.0], ["a", "a", "a"])
    assert (found.low, found.high, found.n) == (0.0, 1.0, 1)


def test_graded_scores_are_narrower_than_right_or_wrong():
    rng = np.random.default_rng(4)
    graded = clustered_share(rng.normal(0.8, 0.05, 200).tolist(), None)
    binary = clustered_share((rng.random(200) < 0.8).astype(float).tolist(), None)
    assert graded.high - graded.low < (binary.high - binary.low) / 3


def test_mean_t_covers():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(REPEATS):
        found = mean_t(rng.normal(3.0, 1.0, 8).tolist())
        hits += found.low <= 3.0 <= found.high
    assert hits / REPEATS >= 0.95 - SLACK
    assert mean_t([1.0]).low == -math.inf, "one value alone bounds nothing"


@pytest.mark.parametrize(("n", "q"), [(7, 0.5), (10, 0.95), (60, 0.95), (300, 0.95), (300, 0.99)])
def test_quantile_intervals_cover_skewed_latencies(n, q):
    rng = np.random.default_rng(6)
    truth = math.exp(0.5 * {0.5: 0.0, 0.95: 1.6448536, 0.99: 2.3263479}[q])
    hits = above = 0
    for _ in range(REPEATS):
        found = quantile_interval(rng.lognormal(0.0, 0.5, n).tolist(), q)
        hits += found.low <= truth <= found.high
        above += found.high >= truth
    assert above / REPEATS >= 0.975 - SLACK, "a few fast calls must not pass for a bound"
    assert hits / REPEATS >= 0.95 - SLACK
