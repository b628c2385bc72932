"""The search benchmark: every baseline is what it says, races are judged by the truth alone."""

from __future__ import annotations

import importlib
import json
import math
import random
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from octans.planner.search.protocol import Candidate, Proposal
from plan_world import World

# Benchmarks are run from the root and not installed; a bare `pytest` does not look there.
sys.path.append(str(Path(__file__).parents[1]))
racing = importlib.import_module("benchmarks.racing.race")
heats = importlib.import_module("benchmarks.racing.heats")
registry = importlib.import_module("benchmarks.baselines.registry")
plans = importlib.import_module("benchmarks.baselines.plans")
search = importlib.import_module("benchmarks.search")


@pytest.fixture(autouse=True)
def one_thread():
    """As the benchmark's workers have it; on a busy machine several are far slower."""
    torch = importlib.import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NEEDS = {"optuna_tpe": "optuna", "optuna_gp": "optuna", "smac": "smac"}
"""Packages of the `benchmarks` extra; SMAC is heavy, so a development environment may lack it."""


def made(name, world, seed=0, **settings):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    entry = registry.SEARCHES[name]
    given = {**entry.grid[0], **settings}
    return entry.make(world.space, world.slo, world.rows, seed, given)


def proposals(name, world, count, seed=0):
    baseline, profiler, found = made(name, world, seed), world.profiler(), []
    while len(found) < count and (proposal := baseline.ask()) is not None:
        found.append(proposal)
        baseline.tell(profiler.evaluate(proposal))
    return found


@pytest.mark.parametrize("name", registry.BASELINES)
def test_every_baseline_finds_the_best_plan_of_a_tiny_space(name):
    world = World(least=0.7)
    baseline = made(name, world)
    raced = racing.race(world, baseline, 1e9, real=60.0)
    assert raced.end == "near"
    assert world.meets(baseline.incumbent().assignment)
    assert raced.plans <= world.space.size


@pytest.mark.parametrize("name", registry.BASELINES)
def test_only_plans_that_exist_are_proposed_and_the_same_for_the_same_seed(name):
    world = World(stages=3, batches=(1, 4))
    found = proposals(name, world, 14, seed=3)
    for proposal in found:
        assert 1 <= proposal.rows <= world.rows
        sizes = [len(stage.options) for stage in world.space.stages]
        assert all(0 <= o < n for o, n in zip(proposal.assignment, sizes, strict=True))
    assert proposals(name, world, 14, seed=3) == found


class Scripted:
    """Proposes and returns what it is given, turn by turn."""

    def __init__(self, turns):
        self.turns, self.at = turns, -1

    def ask(self):
        self.at += 1
        return Proposal(self.turns[self.at][0], 10) if self.at < len(self.turns) else None

    def tell(self, evaluation):
        pass

    def incumbent(self):
        returned, sure = self.turns[self.at][1:]
        return None if returned is None else Candidate(returned, {}, sure, 10)


def ranked(world):
    """Plans that truly meet the SLO, the best first; and one that does not."""
    every = list(plans.Shuffle(world.space, random.Random(0)))
    good = sorted((p for p in every if world.meets(p)), key=lambda p: world.truth(p)["cost"])
    return good, next(p for p in every if not world.meets(p))


def test_a_race_is_judged_by_the_truth_and_timed_at_the_first_good_incumbent():
    world = World(least=0.7)
    good, bad = ranked(world)
    far = good[-1]
    assert world.truth(far)["cost"] > 1.05 * world.best
    script = Scripted([(bad, bad, 1.0), (far, far, 0.5), (good[0], far, 0.97), (bad, good[0], 0.9)])
    raced = racing.race(world, script, 1e9)
    # Ten rows of two stages a plan, less the prefixes that are shared.
    shared = len({p[:1] for p in (bad, far, good[0])}) + 3
    assert raced.end == "near"
    assert raced.plans == 4
    assert raced.near.profiling == pytest.approx(10 * shared)
    assert raced.feasible.profiling < raced.near.profiling
    assert raced.near.seconds >= raced.near.profiling
    assert raced.near.usd == pytest.approx(0.01 * raced.near.profiling)
    assert [value for _, value in raced.trace] == [
        None, pytest.approx(world.truth(far)["cost"] / world.best - 1.0), 0.0,
    ]  # fmt: skip
    # Declared at confidence 0.95: the bad plan and the far one; the last is not sure enough.
    assert sorted(raced.declared) == [False, True]
    assert raced.final is None


def test_a_search_that_never_gets_there_is_charged_its_budget():
    world = World(least=0.7)
    _, bad = ranked(world)
    gave_up = racing.race(world, Scripted([(bad, None, 0.0)]), 5000.0)
    assert (gave_up.end, gave_up.feasible, gave_up.near) == ("done", None, None)
    assert gave_up.at("near").seconds == pytest.approx(5000.0)
    assert gave_up.at("near").usd == pytest.approx(50.0, rel=0.01)
    spent_out = racing.race(world, Scripted([(bad, None, 0.0)] * 9), 15.0)
    assert (spent_out.end, spent_out.plans) == ("budget", 1)
    assert spent_out.at("near") == spent_out.spent
    stopped = racing.race(world, Scripted([(bad, None, 0.0)] * 9), 5000.0, real=0.0)
    assert (stopped.end, stopped.at("near")) == ("stopped", stopped.spent)
    assert stopped.at("near", whole=True).seconds == pytest.approx(5000.0)
    assert search.log_ratios([stopped], [stopped], "near")[0] < 0.0


def test_a_race_survives_being_kept():
    world = World(least=0.7)
    good, bad = ranked(world)
    for turns in ([(bad, bad, 1.0), (good[0], good[0], 1.0)], [(bad, None, 0.0)]):
        raced = racing.race(world, Scripted(turns), 100.0)
        assert racing.race_from(json.loads(json.dumps(asdict(raced)))) == raced


def race_of(seconds, *, reached=True, declared=(), final=None, ms=1.0):
    spent = racing.Spent(seconds, seconds / 2, seconds / 100)
    found = spent if reached else None
    end = "near" if reached else "budget"
    return racing.Race(found, found, spent, 1000.0, end, 5, ms, (), declared, final)


def test_ratios_are_paired_medians_and_their_mean_is_geometric():
    ours = [race_of(s, declared=(True,), final=True) for s in (10.0, 20.0, 40.0)]
    results = {
        ("a", "vulcan"): [race_of(s) for s in (40.0, 80.0, 1000.0)],
        ("a", "botorch"): [race_of(s) for s in (20.0, 40.0, 80.0)],
        ("a", "random"): [race_of(1000.0, reached=False)] * 3,
        ("a", "octans"): ours,
        ("b", "vulcan"): [race_of(s) for s in (90.0, 180.0, 360.0)],
        ("b", "botorch"): [race_of(s) for s in (80.0, 160.0, 320.0)],
        ("b", "random"): [race_of(1000.0, reached=False)] * 3,
        ("b", "octans"): [race_of(s, declared=(True, False), ms=7.0) for s in (10.0, 20.0, 40.0)],
    }
    figures = search.figures_of(results)
    assert figures["vs_vulcan"] == pytest.approx(math.sqrt(4.0 * 9.0))
    assert figures["vs_best_tool"] == pytest.approx(math.sqrt(2.0 * 8.0))
    assert figures["vs_random"] == pytest.approx(50.0)
    assert figures["significant_losses"] == 0.0
    assert figures["true_feasible"] == pytest.approx(6 / 9)
    assert figures["true_feasible_final"] == 1.0
    assert figures["ms_per_plan"] == 7.0
    assert figures["search_share"] == pytest.approx(0.5)
    assert figures["a:random:near_reached"] == 0.0
    assert figures["a:vulcan:near_s"] == 80.0


def test_a_loss_counts_only_where_it_is_significant():
    better = [math.log(0.5) - 0.01 * at for at in range(8)]
    assert search.loses(better)
    assert not search.loses([-ratio for ratio in better])
    assert not search.loses(better[:5])
    assert not search.loses([0.0] * 20)
    assert not search.loses([(-1.0) ** at * (1 + at) for at in range(20)])


def test_without_our_search_its_figures_are_left_out():
    figures = search.figures_of({("a", "vulcan"): [race_of(2.0)]})
    assert "vs_vulcan" not in figures
    assert figures["a:vulcan:near_s"] == 2.0


def job(name, seed=0, settings=None):
    return heats.Job("toy", name, json.dumps(settings or {}), seed, 50.0, 20.0, None, "")


def test_tuning_takes_the_best_setting_and_what_is_kept_is_not_run_again(tmp_path):
    grid = registry.SEARCHES["random"].grid
    count = []

    def work(jobs):
        for each in jobs:
            count.append(each)
            sample = json.loads(each.settings)["sample"]
            reached = sample == grid[1]["sample"]
            yield each, race_of(100.0 if reached else 1.0, reached=reached)

    found = heats.Heats(work, tmp_path)
    assert found.tuned(job("random"), seeds=(1, 2)) == grid[1]
    assert len(count) == len(grid) + max(len(grid) // 2, 1)
    assert heats.Heats(work, tmp_path).tuned(job("random"), seeds=(1, 2)) == grid[1]
    assert len(count) == len(grid) + max(len(grid) // 2, 1)


def test_jobs_are_raced_on_their_own_environment():
    world = World(least=0.7)
    raced = heats.raced(world, job("random", settings={"sample": 50}))
    assert raced.end == "near"
    assert raced.budget == pytest.approx(50 * 2 * world.rows)


def test_a_combination_that_is_no_option_stands_for_the_nearest():
    world = World(stages=2, variants=3, batches=(1, 4))
    encoding = plans.Encoding(world.space)
    for plan in plans.Shuffle(world.space, random.Random(1)):
        assert encoding.decode(encoding.encode(plan)) == plan
        for near in encoding.neighbours(plan):
            differ = zip(encoding.encode(plan), encoding.encode(near), strict=True)
            assert sum(a != b for a, b in differ) == 1
    assert encoding.one_hot([(0, 0), (5, 3)]).sum(axis=1).tolist() == [4.0, 4.0]


def test_a_shuffle_draws_every_plan_once():
    space = World(stages=3).space
    drawn = list(plans.Shuffle(space, random.Random(4)))
    assert len(drawn) == len(set(drawn)) == space.size
    assert drawn != sorted(drawn)
