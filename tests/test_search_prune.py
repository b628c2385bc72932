"""Pruning takes nothing that could be best, and says why it took what it took."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.ir.models import Derivation
from octans.ir.physical import Choice
from octans.planner.explain.pruned import pruning
from octans.planner.search.protocol import SOURCE, Evaluation, Ladder, Space, StageOptions
from octans.planner.search.similarity.prune import Pruned, Pruner
from octans.planner.search.space import _rungs
from octans.planner.stage_plan import NEVER_SECONDS

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
    ladders = tuple(Ladder(place, "loss", (0, 2, 4)) for place in range(len(stages)))
    sums = ("cost", "busy:cpu", "busy:gpu")
    transfers = {(0, 1): ((0.0, 0.3), (0.3, 0.0)), (SOURCE, 0): ((0.0, 0.2),)}
    space = Space(tuple(stages), sums, ("latency_p95",), ("cpu", "gpu"), transfers, ladders)
    return space, truth


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


def limits(**asked):
    return dict.fromkeys(DIMS, math.inf) | asked


def everything(space):
    return np.array(list(itertools.product(*(range(6) for _ in space.stages))))


def told(pruner, space, truth, plans):
    for plan in plans:
        pruner.add(profiled(space, truth, plan))
    return pruner


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
def test_bounds_hold_and_what_is_pruned_is_beaten_or_misses(seed, n, limited):
    """So no plan of the true front that meets the limits is ever pruned."""
    generator = np.random.default_rng(seed)
    space, truth = random_space(generator)
    plans = everything(space)
    asked = limits(loss=0.3, cost=4.0) if limited else limits()
    chosen = plans[generator.permutation(len(plans))[:n]]
    pruner = told(Pruner(space, asked), space, truth, chosen)
    assert pruner.dims == (*DIMS, "busy:cpu", "busy:gpu")
    assert not pruner.violated
    bounds = pruner.bounds(plans)
    true = {tuple(plan): true_values(space, truth, plan) for plan in plans.tolist()}
    values = np.array(list(true.values()))
    assert (bounds.low <= values + 1e-9).all()
    assert (values <= bounds.high + 1e-9).all()
    left_out = [*pruner.left_out(plans)]
    gone = {one.assignment for one in left_out}
    assert [tuple(plan) not in gone for plan in plans.tolist()] == pruner.kept(plans).tolist()
    for one in left_out:
        mine = true[one.assignment]
        if one.by is None:
            assert all(mine[pruner.dims.index(dim)] > asked[dim] for dim in one.dims)
        else:
            assert one.by in map(tuple, chosen.tolist())
            assert (true[one.by] <= mine + 1e-9).all()
            assert (true[one.by] < mine).any()
        assert all(best >= worst for best, worst in zip(one.best, one.worst, strict=True))


def test_something_is_pruned_by_plans_and_by_limits():
    """The test above must not pass because nothing ever goes."""
    by_plan = by_limit = 0
    for seed in range(5):
        space, truth = random_space(np.random.default_rng(seed))
        plans = everything(space)
        pruner = told(Pruner(space, limits(cost=4.0)), space, truth, plans)
        left_out = [*pruner.left_out(plans)]
        by_limit += sum(one.by is None for one in left_out)
        by_plan += sum(one.by is not None for one in left_out)
    assert by_plan > 10
    assert by_limit > 10


def one_stage(options):
    """A space of single options, each with its device, and what it takes."""
    choices = tuple(Choice(f"m.v{at}", (), 1, device) for at, (device, *_) in enumerate(options))
    space = Space((StageOptions("m", choices),), ("cost", "busy:gpu"), (), ("cpu", "gpu"))
    pruner = Pruner(space, {"cost": math.inf})
    for at, (_, cost, busy) in enumerate(options):
        stage = {"cost": cost} | ({"busy:gpu": busy} if busy else {})
        pruner.add(Evaluation((at,), [1.0] * 9, (stage,), {}, 1.0, 0.0))
    return pruner


def test_a_pool_saves_what_leaves_it_free():
    """The last is dearer than the first, but takes no gpu."""
    pruner = one_stage([("gpu", 1.0, 2.0), ("gpu", 2.0, 4.0), ("cpu", 2.0, 0.0)])
    (one,) = pruner.left_out(np.array([[0], [1], [2]]))
    assert (one.assignment, one.by, one.dims) == ((1,), (0,), ("cost", "busy:gpu"))
    assert one.best == pytest.approx((1.6, 3.2))
    assert one.worst == pytest.approx((1.25, 2.5))


def test_what_is_unknown_is_never_pruned():
    space, truth = random_space(np.random.default_rng(0))
    plans = everything(space)
    pruner = Pruner(space, limits())
    assert pruner.kept(plans).all()
    told(pruner, space, truth, plans[:1])
    unseen = (plans != plans[0]).all(axis=1)
    assert pruner.kept(plans)[unseen].all()


def loss_ladder(*shares, audited=()):
    """Variants on one ladder, seen on 1,000 rows with such a share right, but for one more."""
    choices = tuple(Choice(f"m.v{at}") for at in range(len(shares) + 1))
    ladders = (Ladder(0, "loss", tuple(range(len(choices))), frozenset(audited)),)
    devices = (choices[0].device,)
    space = Space((StageOptions("m", choices),), ("cost",), (), devices, ladders=ladders)
    pruner = Pruner(space, {"loss": -math.log(0.9), "cost": math.inf})
    for at, share in enumerate(shares):
        right = round(1000 * share)
        scores = [1.0] * right + [0.0] * (1000 - right)
        pruner.add(Evaluation((at,), scores, ({"cost": 1.0},), {}, 1.0, 0.0))
    return pruner


def test_further_down_a_ladder_nothing_meets_what_a_milder_one_misses():
    pruner = loss_ladder(0.95, 0.8)
    seen, stronger = pruner.left_out(np.array([[0], [1], [2]]))
    assert (seen.assignment, stronger.assignment) == ((1,), (2,))
    assert seen.by is stronger.by is None
    assert stronger.dims == ("loss",)
    assert stronger.worst == pytest.approx((-math.log(0.9),))
    assert loss_ladder(0.95, 0.89).kept(np.array([[2]])).all(), "0.89 may be luck"


def test_a_ladder_that_what_is_seen_contradicts_prunes_no_more():
    pruner = loss_ladder(0.8, 0.95)
    assert pruner.violated
    assert pruner.kept(np.array([[0], [1], [2]])).tolist() == [False, True, True]


def test_what_is_audited_is_not_pruned_and_may_end_the_ladder():
    assert loss_ladder(0.8, audited=[1]).kept(np.array([[1]])).all()
    assert not loss_ladder(0.8).kept(np.array([[1]])).any()
    assert loss_ladder(0.8, 0.95, audited=[1]).violated
    assert not loss_ladder(0.8, 0.7, audited=[1]).violated


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_what_moves_by_a_quarter_between_plans_prunes_nothing_that_may_be_best(seed):
    """What a stage takes depends on the rest of the plan: each plan sees it up to 12 % off."""
    generator = np.random.default_rng(seed)
    space, truth = random_space(generator)
    plans = everything(space)
    pruner = Pruner(space, limits(cost=4.0))
    for plan in plans[generator.permutation(len(plans))[:40]]:
        seen = profiled(space, truth, plan)
        stages = tuple(
            {dim: value * generator.uniform(0.9, 1.12) for dim, value in stage.items()}
            for stage in seen.stages
        )
        pruner.add(replace(seen, stages=stages))
    true = {tuple(plan): true_values(space, truth, plan) for plan in plans.tolist()}
    for one in pruner.left_out(plans):
        if one.by is None:
            assert true[one.assignment][1] > 4.0
        else:
            assert (true[one.by] <= true[one.assignment] + 1e-9).all()


def test_of_a_stage_that_rows_may_skip_only_what_is_known_counts():
    """Seven of the first eight rows ran a step that four of ten do, or none did."""
    options = tuple(Choice(f"m.v{at}", (), 1, "cpu") for at in range(3))
    for steady in (True, False):
        known = {"cost": (None, None, 0.01)}
        stage = StageOptions("m", options, known=known, steady=steady)
        pruner = Pruner(Space((stage,), ("cost",), (), ("cpu",)), {"cost": 0.9})
        for option, seen in ((0, 2.0), (1, 1e-12)):
            pruner.add(Evaluation((option,), [1.0] * 8, ({"cost": seen},), {}, 1.0, 0.0))
        kept = pruner.kept(np.array([[0], [1], [2]])).tolist()
        assert kept == ([False, True, False] if steady else [True, True, True])


def test_reasons_are_told_with_units_and_no_two_of_the_same_variants():
    def named(assignment):
        variants = (("big", 1), ("big", 16), ("small", 1), ("tiny", 1))
        variant, batch = variants[assignment[0]]
        return {"q.m": Choice(f"m.{variant}", (), batch, "gpu")}

    beaten = [Pruned((at,), (2,), ("cost", "loss"), (0.4, 0.2), (0.3, 0.1)) for at in (0, 1)]
    missing = Pruned((3,), None, ("loss", "latency_p95"), (0.2231, 0.5), (0.1053, 0.2))
    assert [*pruning([*beaten, missing], named, healthy)] == [
        "pruned before they were profiled: 2 that cannot beat one that was and 1 that cannot meet "
        "a limit",
        "pruned q.m: m.big · batch 1 · gpu, by q.m: m.small · batch 1 · gpu: cost at best $0.400, "
        "the other at worst $0.300; accuracy at best 81.9 %, the other at worst 90.5 %",
        "pruned q.m: m.tiny · batch 1 · gpu: accuracy at best 80.0 %, needs 90.0 %; latency_p95 at "
        "best 500 ms, needs 200 ms",
    ]
    assert [*pruning([], named, healthy)] == []
    proving, _ = pruning([missing], named, healthy, proving=True)
    assert proving.endswith(": 1 that cannot meet a limit with the margin of its proof")


def healthy(key, choice):
    """No choice fails."""
    return 0.0


@pytest.mark.parametrize("by", [None, (1,)])
def test_a_time_without_end_is_told_by_the_failures_behind_it(by):
    """A plan of which more rows fail than the quantile leaves out has none, not a large one."""
    space = Space(
        (StageOptions("q.m", (Choice("m.flaky"), Choice("m.fine")), (SOURCE,)),),
        (), ("latency_p95",), ("cpu",),
    )  # fmt: skip
    pruner = Pruner(space, {"latency_p95": 0.02 if by is None else math.inf})
    for plan, seconds in (((0,), NEVER_SECONDS), ((1,), 0.01)):
        pruner.add(Evaluation(plan, [1.0], ({"latency_p95": seconds},), {}, 1.0, 0.0))
    (one,) = pruner.left_out(np.array([[0]]))
    assert one.by == by

    def named(assignment):
        return {"q.m": space.stages[0].options[assignment[0]]}

    def failed(key, choice):
        return 0.0933 if choice.variant == "m.flaky" else 0.0

    _, told = pruning([one], named, failed)
    assert told.endswith(
        ": m.flaky failed on 9.33% of the elements measured: latency_p95 leaves a step 5.00% of "
        "the rows, and a row that fails never answers"
    )


def test_a_lineage_is_a_ladder_from_its_base_on():
    """By strength, per transform and knobs; the first of two that are as strong; no lone rung."""
    derived = {
        "m.int8": Derivation("m.base", "quantize", ("int8",)),
        "m.fp16": Derivation("m.base", "quantize", ("fp16",)),
        "m.half": Derivation("m.base", "prune", (0.5,)),
        "m.again": Derivation("m.base", "prune", (0.5,)),
        "m.lost": Derivation("m.gone", "prune", (0.5,)),
        "m.own": Derivation("m.base", "distil", ()),
    }
    options = tuple(
        Choice(variant, knobs, batch, "cpu")
        for variant in ("m.int8", "m.base", "m.half", "m.fp16", "m.again", "m.lost", "m.own")
        for knobs in ((("k", 1),), (("k", 2),))
        for batch in (1, 4)
    )
    rungs = [[options[at] for at in ladder] for ladder in _rungs(options, derived)]
    told = sorted([[f"{o.variant}{dict(o.knobs)['k']}" for o in ladder] for ladder in rungs])
    assert told == [
        ["m.base1", "m.fp161", "m.int81"],
        ["m.base1", "m.half1"],
        ["m.base2", "m.fp162", "m.int82"],
        ["m.base2", "m.half2"],
    ]
    assert {option.batch for ladder in rungs for option in ladder} == {1}
