"""The demo keeps its word: estimates that hold, a promise that is proved, a plan that is cheap."""

import io

import pytest
from octans.examples.cheques import data, demo
from octans.stats.intervals import Interval

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    out = io.StringIO()
    rows = demo.tour(out, tmp_path_factory.mktemp("cheques"), demo.MEASURED_STRIPS)
    return out.getvalue(), {row.name: row for row in rows}


def test_parts_share_no_image():
    images = [data.part(name)[0] for name in ("training", "analyze", "measuring")]
    assert sum(len(part) for part in images) <= 1797
    seen = [{image.tobytes() for image in part} for part in images]
    # Two of the 1,797 images may be equal pixel by pixel; a part in the wrong place would be many.
    assert sum(len(a & b) for a, b in zip(seen, [*seen[1:], seen[0]], strict=True)) <= 2


def test_measured_accuracy_agrees_with_the_estimate(told):
    _, rows = told
    for row in rows.values():
        assert row.accuracy is not None
        low, high = demo.difference(row.accuracy, row.measured)
        assert low <= 0.0 <= high, row


def test_the_difference_carries_both_uncertainties():
    estimate, measured = Interval(0.95, 0.93, 0.97, 200), Interval(0.92, 0.90, 0.94, 200)
    low, high = demo.difference(estimate, measured)
    assert (low, high) == pytest.approx((-0.03 - 0.02 * 2**0.5, -0.03 + 0.02 * 2**0.5))
    assert high < 0.0
    nearer = Interval(0.925, 0.905, 0.945, 200)
    low, high = demo.difference(estimate, nearer)
    assert nearer.value < estimate.low
    assert low < 0.0 < high


def test_n_counts_books_of_distinct_images(told):
    _, rows = told
    for row in rows.values():
        assert row.accuracy.n * data.BOOK <= data.ANALYZE
        assert row.measured.n * data.BOOK <= data.MEASURING


def test_accuracy_is_known_to_three_points(told):
    _, rows = told
    for row in rows.values():
        assert (row.accuracy.high - row.accuracy.low) / 2 <= 0.03, row


def test_the_balanced_plan_is_proved_and_cheap(told):
    _, rows = told
    balanced, dearest = rows["balanced"], rows["most accurate"]
    assert "proved on" in balanced.proved
    assert balanced.usd.value <= dearest.usd.value / 3
    assert balanced.measured_usd <= dearest.measured_usd / 3
    assert balanced.measured.value >= 0.85


def test_no_plan_measured_beats_the_most_accurate_in_both(told):
    _, rows = told
    best = rows["most accurate"]
    for row in rows.values():
        more = row.measured.value > best.measured.value
        better = more and row.measured_usd < best.measured_usd
        assert not better, (row, best)


def test_the_infeasible_slo_is_an_error_that_helps(told):
    text, _ = told
    assert "error[OC0312]" in text
    assert "the most any plan reaches is" in text
    assert "Traceback" not in text
