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
racing = importlib.import_module("benchmarks.racing")
heats = importlib.import_module("benchmarks.heats")
registry = importlib.import_module("benchmarks.baselines.registry")
plans = importlib.import_module("benchmarks.baselines.plans")
search = importlib.import_module("benchmarks.search")

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
def test_only_plans_that_exist_are_proposed_on_rows_that_exist(name):
    world = World(stages=3, batches=(1, 4))
    for proposal in proposals(name, world, 24):
        assert 1 <= proposal.rows <= world.rows
        sizes = [len(stage.options) for stage in world.space.stages]
        assert all(0 <= o < n for o, n in zip(proposal.assignment, sizes, strict=True))


@pytest.mark.parametrize("name", registry.BASELINES)
def test_the_same_seed_proposes_the_same_plans(name):
    world = World(stages=3)
    assert proposals(name, world, 16, seed=3) == proposals(name, world, 16, seed=3)
