"""Thresholds of cascades: the tolerance holds as often as promised, and the picking costs nothing.

Populations are drawn with a fixed seed, so the truth is known; a known system fails on sorted and
pre-filtered inputs because it picks on their first rows, and cascades commonly pick by the point
estimate. Both are here, so that the tests of ours can fail.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.stats.intervals import clopper_pearson_lower
from octans.stats.sampling import sample
from octans.stats.thresholds import Paired, pick, shortest

ALPHA, TOLERANCE, ROWS, TRIALS = 0.05, 0.02, 600, 300


def population(order, rows=40_000):
    """Confidence and loss of every row: the harder a row, the likelier the cheap one is wrong."""
    rng = np.random.default_rng(7)
    hard = rng.random(rows)
    if order == "pre-filtered":
        hard = hard[hard > 0.4]
    if order == "sorted":
        hard = np.sort(hard)
    confidence = np.clip(1.0 - hard + rng.normal(0.0, 0.15, len(hard)), 0.0, 1.0)
    loss = (rng.random(len(hard)) < 0.12 * hard**2).astype(float)
    return confidence, loss


def violations(order, picker, *, first_rows=False):
    """How often the loss on the whole input is past the tolerance, of `TRIALS` samples."""
    confidence, loss = population(order)
    failed = 0
    for trial in range(TRIALS):
        size = len(confidence)
        at = range(ROWS) if first_rows else sample(size, ROWS, seed=trial)
        places = np.array(at)
        threshold = picker(Paired(confidence[places], loss[places], np.zeros(ROWS)))
        failed += threshold is not None and (loss * (confidence >= threshold)).mean() > TOLERANCE
    return failed


def careless(paired):
    """The lowest threshold whose loss on the sample itself is within the tolerance."""
    order = np.argsort(-paired.confidence)
    passing = np.flatnonzero(np.cumsum(paired.loss[order]) <= TOLERANCE * len(order))
    return float(paired.confidence[order[passing[-1]]]) if len(passing) else None


def ours(paired):
    return pick(paired, TOLERANCE, ALPHA)


@pytest.mark.parametrize("order", ["uniform", "sorted", "pre-filtered"])
def test_the_tolerance_is_kept_as_often_as_promised(order):
    assert clopper_pearson_lower(violations(order, ours), TRIALS, 0.05) <= ALPHA


@pytest.mark.parametrize("order", ["uniform", "sorted", "pre-filtered"])
def test_a_threshold_picked_by_the_point_estimate_breaks_it(order):
    """So that the test above can fail."""
    assert clopper_pearson_lower(violations(order, careless), TRIALS, 0.05) > 4 * ALPHA


def test_a_threshold_picked_on_the_first_rows_of_a_sorted_input_breaks_it():
    """Even by a valid bound: its rows are not the input's."""
    assert violations("sorted", ours, first_rows=True) == TRIALS


def test_some_threshold_is_found_where_there_is_room():
    """A picker that never dares to take anything keeps every tolerance."""
    confidence, loss = population("uniform")
    places = np.array(sample(len(confidence), ROWS, seed=1))
    threshold = ours(Paired(confidence[places], loss[places], np.zeros(ROWS)))
    assert threshold is not None
    assert (confidence >= threshold).mean() > 0.3


def test_rows_of_one_cluster_are_one_unit():
    """Twenty copies of each row are no more evidence than one: the threshold is no lower."""
    confidence, loss = population("uniform")
    places = np.array(sample(len(confidence), 200, seed=3))
    once = Paired(confidence[places], loss[places], np.zeros(200))
    copies = Paired(
        np.repeat(confidence[places], 20),
        np.repeat(loss[places], 20),
        np.zeros(4000),
        np.repeat(np.arange(200), 20).tolist(),
    )
    blind = Paired(copies.confidence, copies.loss, copies.always)
    alone, told, untold = (pick(paired, 0.03, ALPHA) for paired in (once, copies, blind))
    assert untold < alone <= told


def test_clusters_keep_the_tolerance():
    """Rows of a cluster are hard together; the betting test is exact all the same."""
    rng = np.random.default_rng(11)
    hard = np.repeat(rng.random(8_000), 5)
    confidence = np.clip(1.0 - hard + rng.normal(0.0, 0.15, len(hard)), 0.0, 1.0)
    loss = (rng.random(len(hard)) < 0.12 * hard**2).astype(float)
    failed = 0
    for trial in range(TRIALS):
        clusters = np.array(sample(8_000, 200, seed=trial))
        places = (clusters[:, None] * 5 + np.arange(5)).ravel()
        units = np.repeat(clusters, 5).tolist()
        threshold = ours(Paired(confidence[places], loss[places], np.zeros(1000), units))
        failed += threshold is not None and (loss * (confidence >= threshold)).mean() > TOLERANCE
    assert clopper_pearson_lower(failed, TRIALS, 0.05) <= ALPHA


outcomes = st.lists(
    st.tuples(
        st.one_of(st.just(float("nan")), st.integers(0, 8).map(lambda x: x / 8)),
        st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0]),
        st.integers(0, 60),
    ),
    min_size=1,
    max_size=120,
)


@given(outcomes, st.sampled_from([0.05, 0.2, 0.5]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_test_is_monotone_and_the_pick_its_lowest_pass(rows, tolerance, clustered):
    """What makes one test enough: of thresholds that pass, all higher ones pass as well."""
    confidence, loss, units = map(np.array, zip(*rows, strict=True))
    paired = Paired(confidence, loss, np.zeros(len(loss)), units.tolist() if clustered else None)
    passing = [
        threshold
        for threshold in np.unique(confidence[~np.isnan(confidence)]).tolist()
        if paired.within(threshold, tolerance, ALPHA)
    ]
    known = np.unique(confidence[~np.isnan(confidence)]).tolist()
    assert passing == known[len(known) - len(passing) :]
    picked = pick(paired, tolerance, ALPHA)
    taken = None if picked is None else (confidence >= picked).tolist()
    assert taken == ((confidence >= passing[0]).tolist() if passing else None)


@given(st.floats(-1e6, 1e6, allow_nan=False), st.floats(-1e6, 1e6, allow_nan=False))
def test_a_shortened_threshold_takes_the_same_elements(one, other):
    low, high = sorted((one, other))
    if low < high:
        assert low < shortest(low, high) <= high


def test_thresholds_are_short():
    assert shortest(0.9312, 0.93456) == 0.934
    assert shortest(-float("inf"), 0.5) == 0.0


def test_the_bound_holds_what_the_test_accepts():
    confidence, loss = population("uniform")
    places = np.array(sample(len(confidence), ROWS, seed=5))
    paired = Paired(confidence[places], loss[places], np.zeros(ROWS))
    threshold = ours(paired)
    assert paired.losses(threshold).mean() < paired.upper(threshold, ALPHA) <= TOLERANCE + 1e-4
