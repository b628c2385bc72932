"""Thinning keeps its bound."""

from hypothesis import given, settings
from hypothesis import strategies as st
from octans.planner.search.similarity.thin import thin, worse

numbers = st.floats(0.0, 1e6, allow_subnormal=False)
fronts = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.tuples(*[numbers] * width), max_size=40)
)


@settings(deadline=None)
@given(fronts, st.floats(1.0, 3.0), st.integers(0, 5))
def test_every_plan_dropped_has_a_kept_one_within_the_room(vectors, room, always):
    found = thin(vectors, room, always)
    assert sorted((*found.kept, *(place for place, _, _ in found.dropped))) == list(
        range(len(vectors))
    )
    assert set(range(min(always, len(vectors)))) <= set(found.kept)
    for place, by, factor in found.dropped:
        assert by in found.kept
        assert worse(vectors[by], vectors[place]) == factor <= room * (1 + 1e-12)
    assert 1.0 <= found.lost <= room * (1 + 1e-12)
    for at, place in enumerate(found.kept[always:], always):  # none was kept for nothing
        assert all(
            any(a > b * room for a, b in zip(vectors[other], vectors[place], strict=True))
            for other in found.kept[:at]
        )


@given(fronts)
def test_a_wider_room_never_loses_more_than_it_says_and_one_drops_only_what_is_no_better(vectors):
    for place, by, factor in thin(vectors, 1.0).dropped:
        assert factor == 1.0
        assert all(a <= b for a, b in zip(vectors[by], vectors[place], strict=True))
