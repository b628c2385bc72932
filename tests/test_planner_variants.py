"""Which derived variants reach the frontier, and when a ladder ends."""

from hypothesis import given
from hypothesis import strategies as st
from octans.planner.variants import MOST_LOST, Point, better, falls_out, frontier
from octans.stats.intervals import Interval


def point(name, right, of=200, us=10.0, size=1000, clusters=None):
    """A variant that is right on the first `right` rows."""
    scores = tuple(float(row < right) for row in range(of))
    return Point(name, scores, clusters, Interval(us, 0.95 * us, 1.05 * us, 50), size)


def test_what_is_as_good_faster_and_smaller_makes_others_superfluous():
    base = point("base", 190)
    found = frontier(
        [point("same", 190), point("half", 190, us=5.0), point("tiny", 189, size=9)], [base]
    )
    assert found == {"same": "base", "half": None, "tiny": None}


def test_better_answers_have_to_be_better_beyond_chance():
    base = point("base", 180)
    assert not better(point("four", 184), base), "4 of 4: p = 0.06"
    assert better(point("five", 185), base), "5 of 5: p = 0.03"
    clusters = tuple(row // 50 for row in range(200))
    assert not better(
        point("five", 185, clusters=clusters), point("base", 180, clusters=clusters)
    ), "five rows of one cluster are one unit"


def test_overlapping_times_are_no_advantage():
    assert not better(point("a", 100, us=9.6), point("b", 100, us=10.0))


def test_a_later_candidate_takes_an_earlier_one_out():
    base = point("base", 190, us=3.0, size=4000)
    found = frontier([point("fp16", 190, size=2000), point("int8", 189, size=1000)], [base])
    assert found == {"fp16": "int8", "int8": None}


def test_a_ladder_ends_where_the_loss_is_beyond_doubt():
    base = point("base", 190)
    assert not falls_out(point("a", 185), base)
    assert not falls_out(point("b", round(190 - 200 * MOST_LOST) - 4), base), "within the noise"
    assert falls_out(point("c", 140), base)


@st.composite
def points(draw, prefix):
    return [
        point(
            f"{prefix}{i}",
            draw(st.integers(0, 40)),
            of=40,
            us=draw(st.sampled_from([1.0, 1.02, 2.0, 5.0])),
            size=draw(st.sampled_from([None, 10, 20])),
        )
        for i in range(draw(st.integers(1, 5)))
    ]


@given(points("new"), points("old"))
def test_all_that_is_kept_beats_everything_else_somewhere(candidates, others):
    """And what is dropped is no better than something that is still there."""
    found = frontier(candidates, others)
    by_name = {p.name: p for p in (*candidates, *others)}
    kept = [by_name[name] for name, beaten in found.items() if beaten is None]
    for one in kept:
        assert all(better(one, other) for other in (*kept, *others) if other is not one)
    assert set(found) == {p.name for p in candidates}
    for name, beaten in found.items():
        assert beaten is None or not better(by_name[name], by_name[beaten])
