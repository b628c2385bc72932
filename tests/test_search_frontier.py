"""The frontier covers every plan within the ε it reports; its ends are exact."""

import importlib.util
import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from octans.planner.search.frontier import OBJECTIVES, frontier
from octans.planner.search.single import Targets
from octans.planner.search.table import Problem, StageTable

_spec = importlib.util.spec_from_file_location(
    "random_problems", Path(__file__).with_name("test_search_exact.py")
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
random_problem = _module.random_problem


def capacity_ok(problem, assignment):
    return all(
        max(problem.value(dim, assignment) for dim in limit.terms) <= limit.bound
        for limit in problem.limits
        if limit.constraint is None
    )


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.5])
def test_every_plan_is_within_the_reported_factor(epsilon):
    for seed in range(80):
        problem = random_problem(seed)
        found = frontier(problem, epsilon)
        assert found.epsilon <= epsilon + 1e-9, seed
        factor = 1.0 + found.epsilon + 1e-9
        least = [math.inf] * 3
        for one in itertools.product(*(range(s.size) for s in problem.stages)):
            if not capacity_ok(problem, one):
                continue
            values = [problem.value(dim, one) for dim in OBJECTIVES]
            least = [min(a, b) for a, b in zip(least, values, strict=True)]
            assert any(
                all(p <= factor * v + 1e-12 for p, v in zip(point.values, values, strict=True))
                for point in found.points
            ), (seed, one)
        for at, end in enumerate(found.ends):
            assert end.values[at] == pytest.approx(least[at], rel=1e-8, abs=1e-12), seed
            assert capacity_ok(problem, end.assignment)


def test_ends_of_equal_plans_are_told_apart_by_the_ties():
    """Two batch sizes, free of charge: the cheapest is the one that takes fewer slot-seconds."""
    rows = {
        "cost": ((0.0, 0.0),),
        "latency_p95": ((0.1, 0.3),),
        "loss": ((0.2, 0.2),),
        "busy": ((0.1, 0.01),),
    }
    stage = StageTable("s", 1, (0, 0), (0, 0), (), (), rows)
    problem = Problem((stage,), (1,), paths=("latency_p95",), ties=("cost", "busy"))
    assert [end.assignment for end in frontier(problem).ends] == [(1,), (0,), (1,)]
    assert frontier(replace(problem, ties=())).ends[0].assignment == (0,)


def test_boxes_cover_too(monkeypatch):
    import octans.planner.search.frontier as module

    monkeypatch.setattr(module, "MAX_LABELS", 0)
    monkeypatch.setattr(module, "MAX_SOLVES", 12)
    tried = 0
    for seed in range(60):
        problem = random_problem(seed)
        found = frontier(problem, 0.05)
        if not found.points or found.epsilon == math.inf:
            continue
        tried += 1
        factor = 1.0 + found.epsilon + 1e-9
        for one in itertools.product(*(range(s.size) for s in problem.stages)):
            if capacity_ok(problem, one):
                values = [problem.value(dim, one) for dim in OBJECTIVES]
                assert any(
                    all(p <= factor * v + 1e-12 for p, v in zip(point.values, values, strict=True))
                    for point in found.points
                ), (seed, one)
    assert tried > 20


def fan(calls):
    """Many calls of a chain of three stages with two variants and two batches, on two slots."""
    parts = ((1, 10.0, 0.186, 0.015), (2, 11.0, 0.128, 0.009), (3, 10.4, 0.0726, 0.003))
    stages = []
    for call in range(calls):
        for at, (seconds, slower, worst, best) in enumerate(parts):
            took = [1e-3 * seconds * f for f in (1.0, 2.5, slower, 2.5 * slower)]
            rows = {
                "cost": ((took[0], took[1] / 16, took[2], took[3] / 16),),
                "latency_p95": (tuple(took),),
                "loss": ((worst, worst, best, best),),
            }
            parents = (3 * call + at - 1,) if at else ()
            stages.append(
                StageTable(f"{call}.{at}", 2, (0, 0, 1, 1), (0, 0, 0, 0), parents, (), rows)
            )
    return Problem(tuple(stages), (2,), paths=("latency_p95",))


def test_many_calls_stop_by_effort_with_an_honest_factor():
    """Labels that hardly grow with the gap made the next target overflow; boxes took minutes."""
    rng = random.Random(7)
    for calls in (6, 20):
        problem = fan(calls)
        found = frontier(problem)
        assert found.effort.labels < 50_000
        factor = 1.0 + found.epsilon + 1e-9
        for _ in range(100):
            one = tuple(rng.randrange(4) for _ in problem.stages)
            values = [problem.value(dim, one) for dim in OBJECTIVES]
            assert any(
                all(p <= factor * v for p, v in zip(point.values, values, strict=True))
                for point in found.points
            )


def test_targets_rise_by_four_at_most():
    targets = Targets(1.0, 2.0, known=True)
    targets.rise(1000)
    for labels in (1001, 1002, 1003):
        gap = targets.gap
        targets.rise(labels)
        assert targets.gap == pytest.approx(4.0 * gap)
