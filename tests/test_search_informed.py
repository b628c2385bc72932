"""What the whole sample tells: against trying every plan, and what is counted on its strength."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta
from test_search_benchmark import race_of
from test_search_workloads import every_plan, instance

best = importlib.import_module("benchmarks.workloads.best")
informed = importlib.import_module("benchmarks.racing.informed")
racing = importlib.import_module("benchmarks.racing.race")


@pytest.mark.parametrize("seed", range(4))
def test_the_informed_plan_is_the_best_of_those_whose_own_rows_suffice(seed):
    found = instance(seed)
    world, goal = found.world, found.slo.objective.metric
    on_sample = best.accuracies(world, on_sample=True)
    limit = next(c.limit for c in found.slo.constraints if c.metric == "accuracy")
    others = [c for c in found.slo.constraints if c.metric != "accuracy"]
    plans = np.array(every_plan(world))
    _, dims = best.plan_numbers(world, on_sample, plans)
    within = np.all([[c.allows(v) for v in dims[c.metric]] for c in others], axis=0)
    right = [world.scores(world.class_of(plan)).sum() for plan in map(tuple, plans.tolist())]
    own = beta(np.array(right) + 0.5, found.rows - np.array(right) + 0.5).sf(limit)
    returned = {}
    for rule, sure in (("even", 0.5), ("sure", 0.7)):
        values = np.where(within & (own >= sure), dims[goal], np.inf)
        if np.isfinite(values).any():
            returned[rule] = racing.regret(found, tuple(plans[values.argmin()].tolist()))
    told = informed.informed(found)
    assert told.even == pytest.approx(returned.get("even"))
    assert told.sure == pytest.approx(returned.get("sure", told.even))


def test_only_instances_are_compared_whose_sample_tells_a_plan_near_the_best():
    told = {
        "a": [informed.Informed(0.01, 0.2), informed.Informed(0.2, 0.2)],
        "b": [informed.Informed(None, None), informed.Informed(0.3, None)],
    }
    ours = [replace(race_of(s), trace=((1.0, r),)) for s, r in ((10.0, 0.24), (500.0, 0.3))]
    none = [replace(race_of(9.0, reached=False), trace=((1.0, None),))] * 2
    results = {
        ("a", "vulcan"): [race_of(40.0), race_of(5.0)],
        ("a", "octans"): ours,
        ("b", "vulcan"): [race_of(40.0)] * 2,
        ("b", "octans"): none,
    }
    found = informed.informed_figures(results, told)
    assert found["decidable"] == 0.25
    assert found["decidable:vs_vulcan"] == pytest.approx(4.0)
    assert found["decidable:octans:near_reached"] == 1.0
    assert found["decidable:octans:returned_near"] == 0.0
    assert found["informed_even:returned_feasible"] == 0.75
    assert found["informed:returned_near"] == 0.0
    assert found["as_informed"] == 0.75
    assert list(informed.decidable(results, told)) == [("a", "vulcan"), ("a", "octans")]


def test_an_instance_without_any_decidable_one_has_its_shares_alone():
    told = {"a": [informed.Informed(None, None)]}
    results = {("a", "vulcan"): [race_of(40.0)], ("a", "octans"): [race_of(10.0)]}
    found = informed.informed_figures(results, told)
    assert found["decidable"] == 0.0
    assert "decidable:vs_vulcan" not in found
    assert np.isfinite(found["as_informed"])
