"""Re-planning after a stage changed proves the same optimum as solving from scratch."""

import random
from dataclasses import replace

import pytest
from octans.planner.search.exact import Search, Solution, solve
from octans.planner.search.replan import Replanner
from octans.planner.search.table import Limit, Problem, StageTable


def chain(rng, stages, size):
    return tuple(stage(rng, place, size) for place in range(stages))


def stage(rng, place, size):
    rows = {
        dim: (tuple(rng.randint(1, 1000) for _ in range(size)),) for dim in ("cost", "loss", "late")
    }
    parents = (place - 1,) if place else ()
    return StageTable(str(place), 1, (0,) * size, (0,) * size, parents, (), rows)


def jitter(rng, table, share):
    rows = {
        dim: (tuple(max(int(x * rng.uniform(1 - share, 1 + share)), 1) for x in entries[0]),)
        for dim, entries in table.rows.items()
    }
    return replace(table, rows=rows)


@pytest.mark.parametrize("seed", range(40))
def test_replanned_is_the_optimum(seed):
    rng = random.Random(seed)
    count = rng.randint(2, 6)
    stages = chain(rng, count, rng.randint(2, 25))
    limits = (
        Limit(("loss",), rng.randint(200, 500) * count, 0),
        Limit(("late",), rng.randint(200, 2000) * count, 1),
    )
    problem = Problem(stages, (1,), limits, paths=("late",))
    replanner = Replanner(problem)
    replanner.solve()
    for _ in range(6):
        if rng.random() < 0.7:
            replanner.ready()
        place = rng.randrange(count)
        share = rng.choice([0.02, 0.2, 0.9])
        table = jitter(rng, problem.stages[place], share)
        changed = list(problem.stages)
        changed[place] = table
        problem = replace(problem, stages=tuple(changed))
        found = replanner.change(place, table)
        expected = Search(problem).solve()
        assert isinstance(found, Solution) == isinstance(expected, Solution)
        if isinstance(found, Solution):
            assert found.key == expected.key
            assert problem.key(found.assignment) == found.key
            assert found.bound <= found.key + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_of_plans_equally_good_it_takes_the_one_that_the_exact_search_takes(seed):
    rng = random.Random(seed)
    count = rng.randint(2, 4)
    problem = Problem(
        chain(rng, count, 6), (1,), (Limit(("loss",), 600 * count, 0),), ties=("late", "loss")
    )
    levels = tuple(levelled(table) for table in problem.stages)
    problem = replace(problem, stages=levels)
    replanner = Replanner(problem)
    found, joined = replanner.solve(), 0
    for _ in range(6):
        expected = solve(problem, explain=False)
        assert isinstance(found, Solution) == isinstance(expected, Solution)
        if isinstance(found, Solution):
            assert [problem.value(dim, found.assignment) for dim in ("cost", *problem.ties)] == [
                problem.value(dim, expected.assignment) for dim in ("cost", *problem.ties)
            ]
        joined += replanner.ready()
        place = rng.randrange(count)
        table = levelled(jitter(rng, problem.stages[place], 0.5))
        stages = (*problem.stages[:place], table, *problem.stages[place + 1 :])
        problem = replace(problem, stages=stages)
        found = replanner.change(place, table)
    assert joined


def levelled(table):
    """Costs in steps of 300, so that options tie."""
    (costs,) = table.rows["cost"]
    rows = {**table.rows, "cost": (tuple(-(-cost // 300) * 300 for cost in costs),)}
    return replace(table, rows=rows)
