"""Thinning keeps its bound; pruning takes nothing that could be best."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.ir.physical import Choice
from octans.planner.search.protocol import SOURCE, Evaluation, Space, StageOptions
from octans.planner.search.similarity.prune import Bounds, Ladder, bounds_of, prune
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


DIMS = ("loss", "cost", "latency_p95")


def random_space(generator):
    """Two or three stages on two devices; what an option costs of each dim is drawn once."""
    stages, truth = [], []
    for place in range(int(generator.integers(2, 4))):
        options = tuple(
            Choice(f"m{place}.v{v}", (), batch, device)
            for v in range(3)
            for batch, device in ((1, "cpu"), (8, "gpu"))
        )
        quality = np.sort(generator.random(3) * 0.2)
        cost, time, busy = 10.0 ** generator.uniform(-1, 1, (3, len(options)))
        truth.append((np.repeat(quality, 2), cost, time, busy))
        parents = (SOURCE,) if place == 0 else (int(generator.integers(-1, place)),)
        stages.append(StageOptions(f"m{place}", options, parents))
    sums = ("cost", "busy:cpu", "busy:gpu")
    transfers = {(0, 1): ((0.0, 0.3), (0.3, 0.0)), (SOURCE, 0): ((0.0, 0.2),)}
    return Space(tuple(stages), sums, ("latency_p95",), ("cpu", "gpu"), transfers), truth


def true_values(space, truth, plan):
    """The plan's dims by plain loops."""
    device = [space.stages[i].options[o].device for i, o in enumerate(plan)]
    done = []
    for i, stage in enumerate(space.stages):
        starts = []
        for parent in stage.parents:
            moved = space.transfers.get((parent, i))
            source = 0 if parent == SOURCE else space.devices.index(device[parent])
            extra = 0.0 if moved is None else moved[source][space.devices.index(device[i])]
            starts.append((0.0 if parent == SOURCE else done[parent]) + extra)
        done.append(max(starts) + truth[i][2][plan[i]])
    busy = {
        d: sum(truth[i][3][o] for i, o in enumerate(plan) if device[i] == d) for d in space.devices
    }
    loss = sum(truth[i][0][o] for i, o in enumerate(plan))
    cost = sum(truth[i][1][o] for i, o in enumerate(plan))
    return np.array([loss, cost, max(done), busy["cpu"], busy["gpu"]])


def profiled(space, truth, plan):
    """What profiling sees of it; its scores are its accuracy, without noise."""
    stages = tuple(
        {
            "cost": truth[i][1][o],
            "latency_p95": truth[i][2][o],
            f"busy:{space.stages[i].options[o].device}": truth[i][3][o],
        }
        for i, o in enumerate(plan)
    )
    score = float(np.exp(-true_values(space, truth, plan)[0]))
    return Evaluation(tuple(plan), [score] * 2000, stages, {}, 1.0, 0.0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 60))
def test_bounds_hold_and_no_plan_of_the_true_front_is_pruned(seed, n):
    generator = np.random.default_rng(seed)
    space, truth = random_space(generator)
    plans = np.array(list(itertools.product(*(range(6) for _ in space.stages))))
    seen = [profiled(space, truth, plan) for plan in plans[generator.permutation(len(plans))[:n]]]
    ladders = [Ladder(i, "loss", (0, 2, 4)) for i in range(len(space.stages))]
    bounds = bounds_of(space, plans, seen, DIMS, ladders)
    assert bounds.dims == (*DIMS, "busy:cpu", "busy:gpu")
    true = np.array([true_values(space, truth, plan) for plan in plans])
    assert (bounds.low <= true + 1e-9).all()
    assert (true <= bounds.high + 1e-9).all()
    kept, left_out = prune(plans, bounds)
    assert len(kept) + len(left_out) == len(plans)
    places = {tuple(plan): at for at, plan in enumerate(plans.tolist())}
    for one in left_out:
        mine, other = true[places[one.assignment]], true[places[one.by]]
        assert places[one.by] in kept
        assert (other <= mine + 1e-9).all()
        assert (other < mine).any()
        assert all(dim in one.reason for dim in bounds.dims)


def test_something_is_pruned_and_a_pool_saves_what_leaves_it_free():
    plans = np.array([[0], [1], [2]])
    dims = ("loss", "cost", "busy:gpu")
    low = np.array([[0.1, 1.0, 5.0], [0.3, 2.0, 6.0], [0.3, 2.0, 0.0]])
    kept, (one,) = prune(plans, Bounds(dims, low, low * 1.1))
    assert list(kept) == [0, 2]  # the last is worse in all that was asked, but takes no gpu
    assert (one.assignment, one.by) == ((1,), (0,))
    assert "busy:gpu at best 6, of the other at worst 5.5" in one.reason


def test_what_is_unknown_is_never_pruned_and_prunes_nothing():
    space, _ = random_space(np.random.default_rng(0))
    plans = np.array(list(itertools.product(*(range(6) for _ in space.stages))))
    kept, left_out = prune(plans, bounds_of(space, plans, [], DIMS))
    assert len(kept) == len(plans)
    assert left_out == ()


def test_what_is_profiled_prunes():
    """The test above must not pass because nothing ever goes."""
    left = 0
    for seed in range(5):
        space, truth = random_space(np.random.default_rng(seed))
        plans = np.array(list(itertools.product(*(range(6) for _ in space.stages))))
        seen = [profiled(space, truth, plan) for plan in plans]
        left += len(prune(plans, bounds_of(space, plans, seen, DIMS))[1])
    assert left > 10
