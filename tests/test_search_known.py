"""The exact search behind the protocol: held to enumeration, and above the learned search."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from octans.errors import PlanError
from octans.ir.physical import Choice
from octans.ir.slo import Constraint, Objective, Slo
from octans.planner.search.known import KnownSearch
from octans.planner.search.learned import LearnedSearch
from octans.planner.search.protocol import SOURCE, Space, StageOptions
from plan_world import World

DEVICES = ("edge", "cloud")
SHAPES = {
    "chain": ((SOURCE,), (0,), (1,), (2,)),
    "diamond": ((SOURCE,), (0,), (0,), (1, 2)),
    "with the source": ((SOURCE,), (0,), (SOURCE, 1), (0, 2)),
    "two ends": ((SOURCE,), (SOURCE,), (0, 1), (0,)),
}


def known_space(seed, shape, linked):
    """Everything drawn: options, their values, and transfers of some or all edges."""
    rng = random.Random(seed)
    stages, transfers = [], {}
    for place, parents in enumerate(SHAPES[shape]):
        options = [
            Choice(f"m{place}.v{v}", (), batch, device)
            for v in range(2)
            for device in DEVICES
            for batch in rng.sample((1, 4, 16), rng.randint(1, 2))
        ]
        known = {
            dim: tuple(rng.uniform(0.01, most) for _ in options)
            for dim, most in (("loss", 0.2), ("cost", 1.0), ("energy", 3.0), ("latency_p95", 1.0))
        }
        stages.append(StageOptions(f"s{place}", tuple(options), parents, known))
        for parent in parents:
            if rng.random() < linked:
                size = 1 if parent == SOURCE else 2
                transfers[parent, place] = tuple(
                    tuple(rng.uniform(0.0, 1.0) for _ in DEVICES) for _ in range(size)
                )
    return Space(tuple(stages), ("cost", "energy"), ("latency_p95",), DEVICES, transfers)


def value(space, plan):
    """What the protocol says a plan takes, written out."""
    known = [stage.known for stage in space.stages]
    found = {
        dim: sum(k[dim][option] for k, option in zip(known, plan, strict=True))
        for dim in ("loss", "cost", "energy")
    }
    ready = []
    for place, stage in enumerate(space.stages):
        here = DEVICES.index(stage.options[plan[place]].device)
        start = 0.0
        for parent in stage.parents:
            come = 0.0 if parent == SOURCE else ready[parent]
            if (parent, place) in space.transfers:
                link = space.transfers[parent, place]
                device = space.stages[parent].options[plan[parent]].device
                come += link[0 if parent == SOURCE else DEVICES.index(device)][here]
            start = max(start, come)
        ready.append(start + known[place]["latency_p95"][plan[place]])
    accuracy = math.exp(-found.pop("loss"))
    return {"accuracy": accuracy, **found, "latency_p95": max(ready)}


def plans_of(space):
    return list(itertools.product(*(range(len(stage.options)) for stage in space.stages)))


def drawn_slo(space, seed, goal):
    """Limits that a tenth or so of the plans meet; one of three draws none that any does."""
    rng = random.Random(seed)
    values = [value(space, plan) for plan in plans_of(space)]
    late, right = (sorted(v[metric] for v in values) for metric in ("latency_p95", "accuracy"))
    if seed % 3 == 2:
        least = right[-1] + 0.001
    else:
        least = right[rng.randrange(len(right) // 2, len(right))]
    cap = late[rng.randrange(len(late) // 10, len(late))]
    limits = (Constraint("accuracy", ">=", least), Constraint("latency_p95", "<=", cap))
    return Slo(limits, Objective(goal, maximize=goal == "accuracy"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("linked", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_its_plan_is_that_of_enumeration(shape, linked, seed):
    space = known_space(seed, shape, linked)
    for goal in ("cost", "energy", "latency_p95", "accuracy"):
        slo = drawn_slo(space, seed, goal)
        every = {plan: value(space, plan) for plan in plans_of(space)}
        good = [v for v in every.values() if all(c.allows(v[c.metric]) for c in slo.constraints)]
        search = KnownSearch(space, slo)
        assert search.ask() is None
        found = search.incumbent()
        if not good:
            assert found is None
            continue
        best = min(v[goal] * (-1.0 if goal == "accuracy" else 1.0) for v in good)
        truth = every[found.assignment]
        assert abs(truth[goal]) == pytest.approx(abs(best), rel=1e-6)
        assert all(c.allows(truth[c.metric] * (1 + 1e-7)) or
                   c.allows(truth[c.metric] * (1 - 1e-7)) for c in slo.constraints)  # fmt: skip
        assert found.feasible == 1.0
        assert found.metrics == pytest.approx({m: truth[m] for m in found.metrics})


@pytest.mark.parametrize("shape", SHAPES)
def test_of_plans_equally_good_the_cheapest_is_taken_then_the_least_busy(shape):
    """Which nobody asked about: equal by the objective, plans are told apart as in any search."""
    drawn = known_space(7, shape, 0.5)
    rng = random.Random(7)
    stages = []
    for stage in drawn.stages:
        count = range(len(stage.options))
        known = {
            **stage.known,
            "energy": tuple(float(rng.randint(1, 2)) for _ in count),
            "cost": tuple(float(rng.randint(1, 2)) for _ in count),
            "busy:edge": tuple(rng.uniform(0.0, 1.0) for _ in count),
            "busy:cloud": tuple(rng.uniform(0.0, 1.0) for _ in count),
        }
        stages.append(replace(stage, known=known))
    sums = ("cost", "energy", "busy:edge", "busy:cloud")
    space = replace(drawn, stages=tuple(stages), sums=sums)
    found = KnownSearch(space, Slo((), Objective("energy"))).incumbent()

    def order(plan):
        of = [[stage.known[dim][o] for stage, o in zip(stages, plan, strict=True)] for dim in sums]
        cost, energy, *busy = map(sum, of)
        return energy, cost, sum(busy)

    every = plans_of(space)
    assert order(found.assignment) == pytest.approx(min(map(order, every)))
    assert len({order(p) for p in every if order(p)[0] == order(found.assignment)[0]}) > 2


@pytest.mark.parametrize("shape", SHAPES)
def test_its_frontier_is_that_of_enumeration(shape):
    space = known_space(5, shape, 0.7)
    slo = drawn_slo(space, 4, "cost")
    every = {plan: value(space, plan) for plan in plans_of(space)}
    asked = ("cost", "latency_p95")
    values = [(*(v[dim] for dim in asked), -v["accuracy"]) for v in every.values()]
    best = {
        one
        for one in values
        if not any(all(a <= b for a, b in zip(o, one, strict=True)) and o != one for o in values)
    }
    frontier = KnownSearch(space, slo).frontier()
    found = {(*(c.metrics[dim] for dim in asked), -c.metrics["accuracy"]) for c in frontier}
    assert len(found) == len(best) > 3
    for one, other in zip(sorted(found), sorted(best), strict=True):
        assert one == pytest.approx(other)
    meets = [all(c.allows(one.metrics[c.metric]) for c in slo.constraints) for one in frontier]
    assert [bool(one.feasible) for one in frontier] == meets == sorted(meets, reverse=True)


@pytest.mark.parametrize("seed", range(3))
def test_no_learned_search_ends_with_a_better_plan(seed):
    """Given the truth of every option, it is what profiling can at best come to."""
    world = World(seed=seed, stages=3, variants=4, slowest=1.5)
    stages = tuple(
        StageOptions(
            stage.key,
            stage.options,
            (SOURCE,) if not place else stage.parents,
            {
                "loss": tuple(-math.log(values["quality"]) for _, values in own),
                "cost": tuple(values["cost"] for _, values in own),
                "latency_p95": tuple(values["latency_p95"] for _, values in own),
            },
        )
        for place, (stage, own) in enumerate(zip(world.space.stages, world.options, strict=True))
    )
    space = Space(stages, world.space.sums, world.space.paths, world.space.devices)
    exact = KnownSearch(space, world.slo).incumbent()
    assert exact.metrics["cost"] == pytest.approx(world.best)
    learned, profiler = (
        LearnedSearch(space, world.slo, rows=world.rows, seed=seed),
        world.profiler(),
    )
    for _ in range(40):
        proposal = learned.ask()
        if proposal is None:
            break
        learned.tell(profiler.evaluate(proposal))
    found = learned.incumbent()
    assert found is not None
    assert world.truth(found.assignment)["cost"] >= exact.metrics["cost"] - 1e-9 or not world.meets(
        found.assignment
    )


def test_what_is_told_changes_nothing_and_there_is_no_state():
    world = World()
    space = known_space(0, "diamond", 1.0)
    search = KnownSearch(space, drawn_slo(space, 0, "cost"))
    before = search.incumbent()
    search.tell(world.profiler().evaluate(type("P", (), {"assignment": (0, 0), "rows": 5})()))
    assert search.incumbent() == before
    assert search.state() == {}


def test_something_unknown_is_an_error_that_names_it():
    space = known_space(1, "chain", 0.0)
    first = space.stages[0]
    holes = {**first.known, "cost": (None, *first.known["cost"][1:])}
    stages = (StageOptions(first.key, first.options, first.parents, holes), *space.stages[1:])
    less = Space(stages, space.sums, space.paths, space.devices)
    with pytest.raises(PlanError) as caught:
        KnownSearch(less, Slo((), Objective("cost")))
    assert caught.value.code == "OC0310"
    assert "m0.v0" in str(caught.value)
    KnownSearch(less, Slo((), Objective("energy")))


def test_what_no_dim_or_no_whole_plan_has_is_refused():
    space = known_space(1, "chain", 0.0)
    of_one = Slo((Constraint("cost", "<=", 1.0, model="m0"),))
    for slo in (Slo((), Objective("memory")), of_one):
        with pytest.raises(PlanError) as caught:
            KnownSearch(space, slo)
        assert caught.value.code == "OC0311"
