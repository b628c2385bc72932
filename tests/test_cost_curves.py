"""Batch curves are monotone and never extrapolated; intervals propagate as documented."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from octans.cost.compose import (
    instead_factor,
    propagate,
    run_level,
    schedule,
    service_seconds,
    stage_level,
)
from octans.cost.curves import batch_curve, isotonic_blocks, quantile_at
from octans.ir.estimates import Estimate

times = st.lists(st.tuples(st.floats(0.001, 10.0), st.integers(1, 500)), min_size=1, max_size=12)


@given(times)
def test_curves_never_fall_and_keep_the_weighted_mean(points):
    batches = [2**place for place in range(len(points))]
    estimates = [Estimate(v, v * 0.9, v * 1.1, n) for v, n in points]
    curve = batch_curve(list(zip(batches, estimates, strict=True)))
    values = [seconds.value for seconds in curve.seconds]
    assert all(a <= b + 1e-12 for a, b in pairwise(values))
    weighted = sum(v * n for v, n in points)
    kept = sum(v * n for v, (_, n) in zip(values, points, strict=True))
    assert kept == pytest.approx(weighted)
    for batch in range(1, batches[-1] + 1):
        at = curve.at(batch)
        assert at.low <= at.value + 1e-12
        assert at.value <= at.high + 1e-12
    assert curve.at(batches[-1] + 1) is None


def test_monotone_measurements_are_left_alone():
    assert isotonic_blocks([1.0, 2.0, 3.0], [1, 1, 1]) == [(0, 1), (1, 2), (2, 3)]
    assert isotonic_blocks([1.0, 3.0, 2.0], [1, 1, 1]) == [(0, 1), (1, 3)]


@given(st.floats(0.01, 0.999), st.floats(0.01, 0.999))
def test_quantiles_rise_with_their_level(a, b):
    points = [(0.5, 1.0), (0.9, 1.5), (0.95, 1.4), (0.99, 3.0)]
    low, high = sorted((a, b))
    assert quantile_at(points, low) <= quantile_at(points, high) + 1e-12


def test_measured_quantiles_are_met():
    points = [(0.5, 1.0), (0.9, 1.5), (0.99, 3.0)]
    for level, value in points:
        assert quantile_at(points, level) == pytest.approx(value)
    assert quantile_at(points, 0.999) > 3.0


def test_errors_of_a_sum_and_of_a_product_add_in_quadrature():
    a, b = Estimate(10.0, 9.0, 11.0, 50), Estimate(20.0, 18.0, 22.0, 30)
    total = propagate(sum, [a, b])
    assert (total.value, total.n, total.source) == (30.0, 30, "modelled")
    assert total.high - 30.0 == pytest.approx(math.hypot(1.0, 2.0))
    product = propagate(math.prod, [a, b])
    assert product.high - 200.0 == pytest.approx(math.hypot(20.0, 20.0))


def test_a_rarely_run_stage_takes_no_time_at_common_levels():
    assert run_level(0.95, 0.04) is None
    assert run_level(0.95, 0.5) == pytest.approx(0.9)
    assert service_seconds(lambda level: 1.0, 1, None, 0.95, 0.04) == 0.0
    assert service_seconds(lambda level: 1.0, 4, ((9, 1.0),), 0.95, 1.0) == 3.0
    assert stage_level(0.95, 5) == pytest.approx(0.99)


def test_a_replacement_takes_the_place_of_the_replaced_answer():
    assert instead_factor(0.25, 0.8, 0.9) == pytest.approx(0.75 * 0.8 + 0.25 * 0.9)


def test_parallel_stages_overlap_only_on_different_slots():
    diamond = [(), (0,), (0,), (1, 2)]
    service = [1.0, 2.0, 3.0, 1.0]
    assert schedule(diamond, service, [0, 0, 0, 0], [2]) == 5.0
    assert schedule(diamond, service, [0, 0, 0, 0], [1]) == 7.0
    assert schedule(diamond, service, [0, 0, 1, 0], [1, 1]) == 5.0
