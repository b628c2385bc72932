"""The demo keeps its word: estimates that hold, a promise that is proved, a plan that is cheap."""

import io

import pytest
from octans.examples.cheques import data, demo

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


def test_measured_accuracy_lies_in_its_interval(told):
    _, rows = told
    for row in rows.values():
        assert row.accuracy is not None
        assert row.accuracy.low <= row.measured <= row.accuracy.high, row


def test_n_counts_books_of_distinct_images(told):
    _, rows = told
    for row in rows.values():
        assert row.accuracy.n * data.BOOK <= data.ANALYZE


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
    assert balanced.measured >= 0.85


def test_no_plan_measured_beats_the_most_accurate_in_both(told):
    _, rows = told
    best = rows["most accurate"]
    for row in rows.values():
        better = row.measured > best.measured and row.measured_usd < best.measured_usd
        assert not better, (row, best)


def test_the_infeasible_slo_is_an_error_that_helps(told):
    text, _ = told
    assert "error[OC0312]" in text
    assert "the most any plan reaches is" in text
    assert "Traceback" not in text
