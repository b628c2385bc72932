"""The exact search agrees with brute force, and behaves as an optimum must."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from octans.planner.search.exact import Infeasible, solve
from octans.planner.search.table import Goal, Limit, Measured, Problem, StageTable


def random_problem(seed: int) -> Problem:
    """A small pipeline: chain or DAG, WHEN-like conditional tables, slots, all kinds of limits."""
    rng = random.Random(seed)
    count = rng.randint(1, 4)
    devices = rng.randint(1, 2)
    slots = tuple(rng.randint(1, 3) for _ in range(devices))
    shape = rng.choice(["chain", "dag", "free"])
    stages: list[StageTable] = []
    for place in range(count):
        size = rng.randint(1, 6)
        classes = rng.randint(1, min(3, size))
        option_class = tuple(
            [*range(classes), *(rng.randrange(classes) for _ in range(size))][:size]
        )
        option_device = tuple(rng.randrange(devices) for _ in range(size))
        parents: tuple[int, ...] = ()
        if place and shape == "chain":
            parents = (place - 1,)
        elif place and shape == "dag":
            parents = tuple(sorted(rng.sample(range(place), rng.randint(1, min(2, place)))))
        given: tuple[int, ...] = ()
        if place and rng.random() < 0.5:
            given = tuple(sorted(rng.sample(range(place), rng.randint(1, min(2, place)))))
        blocks = math.prod(stages[p].classes for p in given)

        def table(draw, blocks=blocks, size=size):
            return tuple(tuple(draw() for _ in range(size)) for _ in range(blocks))

        rows = {
            "cost": table(lambda: rng.choice([rng.random(), rng.randint(0, 3) / 2])),
            "loss": table(lambda: rng.choice([0.0, rng.random() / 4])),
            "latency_p95": table(lambda: rng.choice([0.0, rng.random(), 0.5])),
            "latency_p50": table(lambda: rng.random() / 2),
            "energy": table(lambda: rng.random()),
        }
        for device in range(devices):
            for dim in ("memory", "busy"):
                entries = [rng.random() if d == device else 0.0 for d in option_device]
                rows[f"{dim}:{device}"] = (tuple(entries),) * blocks
        stages.append(
            StageTable(str(place), classes, option_class, option_device, parents, given, rows)
        )
    paths = ("latency_p95", "latency_p50")
    memory = tuple(f"memory:{d}" for d in range(devices))
    busy = tuple(f"busy:{d}" for d in range(devices))
    choices = [
        (("cost",), "plain"),
        (("loss",), "loss"),
        (("latency_p95",), "plain"),
        (("latency_p50",), "plain"),
        (("energy",), "plain"),
        (memory, "plain"),
        (busy, "inverse"),
    ]
    limits = []
    for at, (terms, scale) in enumerate(rng.sample(choices, rng.randint(0, 3))):
        bound = rng.uniform(0.1, 0.5) * count * (0.3 if scale == "loss" else 1.0)
        soft = None
        if rng.random() < 0.3:
            soft = bound * 0.9 if scale != "loss" else max(bound - 0.1, 0.0)
        limits.append(Limit(terms, bound, at, soft, scale))
    if rng.random() < 0.3:
        limits += [Limit((dim,), rng.uniform(0.5, 1.5)) for dim in memory]
    goal = Goal(*rng.choice([*choices, *choices[:1] * 4]))
    measured = []
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 4)):
            classes = tuple(rng.randrange(s.classes) for s in stages)
            if classes not in [known.classes for known in measured]:
                measured.append(Measured(classes, rng.random() / 3))
    return Problem(tuple(stages), slots, tuple(limits), goal, paths, tuple(measured))


def brute(problem: Problem, forbidden=(), forbidden_options=()) -> float:
    """The least key over every assignment."""
    best = math.inf
    for assignment in itertools.product(*(range(s.size) for s in problem.stages)):
        if problem.classes(assignment) in forbidden or assignment in forbidden_options:
            continue
        best = min(best, problem.key(assignment))
    return best


@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_agrees_with_brute_force(first):
    for seed in range(first, first + 50):
        problem = random_problem(seed)
        found = solve(problem)
        expected = brute(problem)
        if isinstance(found, Infeasible):
            assert expected == math.inf, seed
            continue
        assert found.key == pytest.approx(expected, rel=1e-8, abs=1e-12), seed
        assert problem.key(found.assignment) == found.key, seed
        assert found.bound <= found.key + 1e-9, seed


def levelled(problem: Problem, seed: int) -> Problem:
    """Five levels of entries in each stage: many plans are equally good, and none by chance."""
    rng = random.Random(seed)

    def stage(table):
        rows = {}
        for dim, blocks in table.rows.items():
            levels = [0.0, *(rng.random() for _ in range(4))]
            rows[dim] = tuple(tuple(levels[round(4 * min(e, 1.0))] for e in b) for b in blocks)
        return replace(table, rows=rows)

    return replace(problem, stages=tuple(map(stage, problem.stages)), measured=())


def test_of_plans_equally_good_the_best_by_the_ties_is_found():
    told = 0
    for seed in range(300):
        problem = replace(levelled(random_problem(seed), seed), ties=("cost", "energy"))
        found = solve(problem)
        if isinstance(found, Infeasible):
            continue
        key = brute(problem)
        assert problem.key(found.assignment) == pytest.approx(key), seed
        assert found.key == pytest.approx(key), seed
        mine = [problem.value(dim, found.assignment) for dim in problem.ties]
        # A soft limit may be missed by as much as the plan found misses it, no more.
        as_good = [
            one
            for one in itertools.product(*(range(s.size) for s in problem.stages))
            if problem.key(one) == pytest.approx(key, rel=1e-9, abs=1e-12)
            and all(
                max(problem.value(dim, one) for dim in limit.terms)
                <= max(
                    limit.soft_from, *(problem.value(dim, found.assignment) for dim in limit.terms)
                )
                for limit in problem.limits
                if limit.soft_from is not None
            )
        ]
        best = min([problem.value(dim, one) for dim in problem.ties] for one in as_good)
        assert mine == pytest.approx(best), seed
        told += len({tuple(problem.value(d, one) for d in problem.ties) for one in as_good}) > 1
    assert told > 50


def test_forbidden_assignments_are_left_out_and_the_next_best_is_found():
    for seed in range(150):
        problem = random_problem(seed)
        classes: set = set()
        options: set = set()
        for _ in range(4):
            found = solve(problem, forbidden=classes, forbidden_options=options, explain=False)
            expected = brute(problem, classes, options)
            if isinstance(found, Infeasible):
                assert expected == math.inf, seed
                break
            assert found.key == pytest.approx(expected, rel=1e-8, abs=1e-12), seed
            if len(classes) <= len(options):
                classes.add(problem.classes(found.assignment))
            else:
                options.add(found.assignment)
