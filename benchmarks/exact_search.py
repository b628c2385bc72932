"""The exact search beside CP-SAT: 12 stages × 200 choices, two limits that couple all stages.

Every instance is a chain of stages, each with 10 variants × 5 batches × 4 devices; the cost is
minimised with the sums of losses and of latencies limited. All numbers are integers, so that equal
optima are equal exactly; both sides start from the same lists and build their model within the
time taken. Three kinds of instances, by seed: `measured-like` (faster costs more, better costs
more, batches trade latency for cost), `uncorrelated` (all uniform) and `correlated` (cost rises as
loss and latency fall, almost linearly: the hardest kind of knapsack).

CP-SAT runs with 2 workers, in the fastest of its formulations on each instance: exactly-one
Booleans with linear sums; the same after dropping dominated choices; the same with a hint from a
greedy plan; element constraints (on the first two instances of a full run: they take some 100 times
as long). `cpsat_ratio` is our time ÷ the peer's best. The re-plan changes one stage's numbers by up
to 20 % and solves again, to the same proven optimum as from scratch.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from octans.planner.search.exact import Search, Solution
from octans.planner.search.frontier import frontier
from octans.planner.search.prepare import undominated
from octans.planner.search.replan import Replanner
from octans.planner.search.table import Goal, Limit, Problem, StageTable

from .contract import Goal as Target
from .contract import Options, main

Rows = list[list[int]]
"""cost, loss and latency of every choice of a stage."""
Instance = tuple[list[Rows], int, int]
"""Stages, the limit on loss, the limit on latency."""

GOALS = (
    Target("cpsat_ratio_median", 0.2, "lower"),
    Target("cpsat_ratio_max", 1.0, "lower"),
    Target("replan_ratio", 0.1, "lower"),
    Target("optima_equal", 1.0, "higher"),
)
KINDS = ("measured-like", "uncorrelated", "correlated")
REPEATS = 3
CHANGES = 5


def make(seed: int, stages: int = 12, variants: int = 10, tight: float | None = None) -> Instance:
    """The instance of a seed; its kind is the seed modulo 3."""
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    found = [_stage(rng, kind, variants) for _ in range(stages)]
    limits = []
    for dim in (1, 2):
        least = sum(min(rows[dim]) for rows in found)
        cheap = sum(rows[dim][rows[0].index(min(rows[0]))] for rows in found)
        most = max(cheap, sum(statistics.fmean(rows[dim]) for rows in found))
        share = rng.uniform(0.25, 0.6) if tight is None else tight
        limits.append(int(least + share * (most - least)))
    return found, limits[0], limits[1]


def _stage(rng: random.Random, kind: str, variants: int) -> Rows:
    """One stage's choices."""
    rows: Rows = [[], [], []]
    speeds = [(1.0, 1.0), (0.5, 2.2), (0.25, 5.0), (0.7, 1.3)]
    base = rng.uniform(0.5, 3.0)
    for place in range(variants):
        size = base * 1.6**place * rng.uniform(0.8, 1.25)
        loss = 60_000.0 * 0.72**place * rng.uniform(0.8, 1.25)
        for batch in (1, 4, 16, 64, 256):
            gain = batch ** -rng.uniform(0.2, 0.4)
            for factor, price in speeds:
                if kind == "measured-like":
                    busy = size * gain * factor * rng.uniform(0.95, 1.05)
                    entry = (1000 * busy * price, loss, 100 * busy * batch**0.5 + 10)
                elif kind == "uncorrelated":
                    entry = tuple(rng.uniform(1, 100_000) for _ in range(3))
                else:
                    a, b = rng.uniform(1, 50_000), rng.uniform(1, 50_000)
                    entry = (110_000 - a - b + rng.uniform(-20_000, 20_000), a, b)
                for row, value in zip(rows, entry, strict=True):
                    row.append(max(int(value), 1))
    return rows


def problem_of(instance: Instance) -> Problem:
    """The instance as the search's tables: what "model building" is for us."""
    stages, loss, latency = instance
    return Problem(
        tuple(_table(place, rows) for place, rows in enumerate(stages)),
        (1,),
        (Limit(("loss",), loss, 0), Limit(("latency",), latency, 1)),
        Goal(("cost",)),
        ("latency",),
    )


def _table(place: int, rows: Rows) -> StageTable:
    count = len(rows[0])
    return StageTable(
        str(place),
        1,
        (0,) * count,
        (0,) * count,
        (place - 1,) if place else (),
        (),
        {
            "cost": (tuple(rows[0]),),
            "loss": (tuple(rows[1]),),
            "latency": (tuple(rows[2]),),
        },
    )


def ours(instance: Instance) -> tuple[float, Search]:
    """Build and prove; the optimum (inf where infeasible) and the search, ready to re-plan."""
    search = Search(problem_of(instance))
    found = search.solve()
    return (found.key if isinstance(found, Solution) else math.inf), search


def peer_booleans(instance: Instance, *, filtered: bool = False, hint: bool = False) -> float:
    """CP-SAT: one Boolean per choice, exactly one per stage, linear sums."""
    from ortools.sat.python import cp_model

    stages, loss, latency = instance
    model = cp_model.CpModel()
    variables: list[cp_model.IntVar] = []
    costs: list[int] = []
    losses: list[int] = []
    latencies: list[int] = []
    for rows in stages:
        keep = range(len(rows[0]))
        if filtered:
            keep = undominated(keep, list(zip(*rows, strict=True)))
        mine = [model.new_bool_var("") for _ in keep]
        model.add_exactly_one(mine)
        variables += mine
        costs += [rows[0][o] for o in keep]
        losses += [rows[1][o] for o in keep]
        latencies += [rows[2][o] for o in keep]
        if hint:
            best = min(range(len(mine)), key=lambda at: sum(rows[d][keep[at]] for d in range(3)))
            for at, variable in enumerate(mine):
                model.add_hint(variable, at == best)
    weighted = cp_model.LinearExpr.weighted_sum
    model.add(weighted(variables, losses) <= loss)
    model.add(weighted(variables, latencies) <= latency)
    model.minimize(weighted(variables, costs))
    return _solved(model)


def peer_elements(instance: Instance) -> float:
    """CP-SAT: one integer per stage and element constraints."""
    from ortools.sat.python import cp_model

    stages, loss, latency = instance
    model = cp_model.CpModel()
    sums: list[list[cp_model.IntVar]] = [[], [], []]
    for rows in stages:
        index = model.new_int_var(0, len(rows[0]) - 1, "")
        for dim in range(3):
            value = model.new_int_var(min(rows[dim]), max(rows[dim]), "")
            model.add_element(index, rows[dim], value)
            sums[dim].append(value)
    model.add(sum(sums[1]) <= loss)
    model.add(sum(sums[2]) <= latency)
    model.minimize(sum(sums[0]))
    return _solved(model)


def _solved(model: object) -> float:
    """Solve with 2 workers; the proven optimum, inf where infeasible."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 2
    solver.parameters.max_time_in_seconds = 120.0
    status = solver.solve(model)  # type: ignore[arg-type]
    if status == cp_model.INFEASIBLE:
        return math.inf
    if status != cp_model.OPTIMAL:
        return math.nan
    return solver.objective_value


def timed(work: Callable[[], float], repeats: int = REPEATS) -> tuple[float, float]:
    """Median seconds and the value."""
    seconds = []
    value = math.nan
    for _ in range(repeats):
        gc.collect()
        start = time.perf_counter()
        value = work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), value


def peers(instance: Instance, first: bool) -> tuple[float, float, str]:
    """Seconds of the fastest formulation, its optimum, its name; each is run once."""
    works: dict[str, Callable[[], float]] = {
        "Booleans": lambda: peer_booleans(instance),
        "undominated Booleans": lambda: peer_booleans(instance, filtered=True),
        "hinted Booleans": lambda: peer_booleans(instance, filtered=True, hint=True),
    }
    if first:
        works["elements"] = lambda: peer_elements(instance)
    found = []
    for name, work in works.items():
        seconds, value = timed(work, 1)
        if not math.isnan(value):
            found.append((seconds, value, name))
    return min(found) if found else (math.nan, math.nan, "none")


def replans(instance: Instance, seed: int) -> tuple[float, float, float, bool]:
    """Seconds to re-plan, from scratch, and to get ready; and whether the optima agree.

    One stage is measured anew `CHANGES` times, every number up to ±20 % off the first. Building its
    table counts for the re-plan, building all for the solve from scratch; medians of both.
    """
    rng = random.Random(seed)
    place = rng.randrange(len(instance[0]))
    replanner = Replanner(problem_of(instance))
    replanner.solve()
    start = time.perf_counter()
    replanner.ready()
    ready = time.perf_counter() - start
    again, scratch, equal = [], [], True
    for _ in range(CHANGES):
        changed = [
            [max(int(x * rng.uniform(0.8, 1.2)), 1) for x in row] for row in instance[0][place]
        ]
        stages = [*instance[0][:place], changed, *instance[0][place + 1 :]]
        seconds, expected = timed(lambda s=stages: ours((s, *instance[1:]))[0], 1)  # type: ignore[misc]
        scratch.append(seconds)
        gc.collect()
        start = time.perf_counter()
        found = replanner.change(place, _table(place, changed))
        again.append(time.perf_counter() - start)
        equal = equal and (found.key if isinstance(found, Solution) else math.inf) == expected
        if not replanner.complements:
            replanner.ready()
    return statistics.median(again), statistics.median(scratch), ready, equal


def diamond(seed: int) -> tuple[Instance, tuple[tuple[int, ...], ...]]:
    """Ten stages with parallel branches, 60 choices each; the row's time is its longest path."""
    stages, loss, latency = make(3 * seed, stages=10, variants=3)
    parents = ((), (0,), (0,), (1,), (2,), (3, 4), (5,), (5,), (6, 7), (8,))
    return (stages, loss, int(latency * 0.7)), parents


def ours_diamond(instance: Instance, parents: Sequence[tuple[int, ...]]) -> float:
    """The DAG in our search; slots are enough for every branch."""
    problem = problem_of(instance)
    tables = tuple(
        replace(table, parents=before)
        for table, before in zip(problem.stages, parents, strict=True)
    )
    found = Search(replace(problem, stages=tables, slots=(len(tables),))).solve()
    return found.key if isinstance(found, Solution) else math.inf


def peer_diamond(instance: Instance, parents: Sequence[tuple[int, ...]]) -> float:
    """The DAG in CP-SAT: finish times, undominated Booleans."""
    from ortools.sat.python import cp_model

    stages, loss, latency = instance
    model = cp_model.CpModel()
    weighted = cp_model.LinearExpr.weighted_sum
    variables: list[cp_model.IntVar] = []
    costs: list[int] = []
    losses: list[int] = []
    done: list[cp_model.IntVar] = []
    for rows, before in zip(stages, parents, strict=True):
        keep = undominated(range(len(rows[0])), list(zip(*rows, strict=True)))
        mine = [model.new_bool_var("") for _ in keep]
        model.add_exactly_one(mine)
        variables += mine
        costs += [rows[0][o] for o in keep]
        losses += [rows[1][o] for o in keep]
        finish = model.new_int_var(0, latency, "")
        took = weighted(mine, [rows[2][o] for o in keep])
        model.add(finish >= took)
        for parent in before:
            model.add(finish >= done[parent] + took)
        done.append(finish)
    model.add(weighted(variables, losses) <= loss)
    model.minimize(weighted(variables, costs))
    return _solved(model)


def growth(options: Options) -> dict[str, float]:
    """Milliseconds by stages and by variants, and of the frontier by ε."""
    figures: dict[str, float] = {}
    seeds = [s for s in options.seed_range if s % 3 < 2][: 3 if options.quick else 8]
    seeds = seeds or [options.first_seed - options.first_seed % 3]
    for stages in (3, 6, 12, 24):
        times = [_ms(make(seed, stages=stages)) for seed in seeds]
        figures[f"ms_stages_{stages}"] = statistics.median(times)
    for variants in (2, 10, 50):
        times = [_ms(make(seed, variants=variants)) for seed in seeds]
        figures[f"ms_variants_{variants}"] = statistics.median(times)
    for epsilon in (0.5, 0.25, 0.1, 0.05):
        front, milliseconds = _front(seeds, 3, epsilon)
        figures[f"frontier_ms_eps_{epsilon}"] = milliseconds
        figures[f"frontier_points_eps_{epsilon}"] = front[0]
        figures[f"frontier_reported_eps_{epsilon}"] = front[1]
    for stages in (6, 12):
        front, milliseconds = _front(seeds, stages, 0.25)
        figures[f"frontier_ms_stages_{stages}"] = milliseconds
        figures[f"frontier_reported_stages_{stages}"] = front[1]
    return figures


def _front(seeds: Sequence[int], stages: int, epsilon: float) -> tuple[tuple[float, float], float]:
    """Median points, the largest ε reported, and median milliseconds of two frontiers."""
    found, times = [], []
    for seed in seeds[:2]:
        problem = problem_of(make(3 * seed, stages=stages))
        start = time.perf_counter()
        found.append(frontier(problem, epsilon, ("cost", "latency", "loss")))
        times.append(1000 * (time.perf_counter() - start))
    points = statistics.median(len(front.points) for front in found)
    return (points, max(front.epsilon for front in found)), statistics.median(times)


def _ms(instance: Instance) -> float:
    return 1000 * timed(lambda: ours(instance)[0])[0]


def run(options: Options) -> dict[str, float | None]:
    """All figures."""
    import ortools.sat.python.cp_model  # noqa: F401  (its import is not part of any time)

    ratios: list[float] = []
    by_kind: dict[str, list[float]] = {kind: [] for kind in KINDS}
    replan: dict[str, list[float]] = {kind: [] for kind in KINDS}
    replan_peer, ready_ratio, our_ms, peer_ms = [], [], [], []
    equal = total = infeasible = 0
    for seed in options.seed_range:
        kind = KINDS[seed % len(KINDS)]
        instance = make(seed)
        mine, value = timed(lambda instance=instance: ours(instance)[0])  # type: ignore[misc]
        tried = not options.quick and seed < options.first_seed + 2
        theirs, expected, name = peers(instance, tried)
        again, scratch, ready, same = replans(instance, seed)
        total += 1
        equal += value == expected and same
        infeasible += value == math.inf
        ratios.append(mine / theirs)
        by_kind[kind].append(mine / theirs)
        replan[kind].append(again / scratch)
        replan_peer.append(again / theirs)
        ready_ratio.append(ready / scratch)
        our_ms.append(1000 * mine)
        peer_ms.append(1000 * theirs)
        if not options.json:
            print(
                f"  seed {seed:3} {kind:13} ours {1000 * mine:8.1f} ms, CP-SAT {1000 * theirs:8.1f}"
                f" ms ({name}), re-plan {1000 * again:7.2f} of {1000 * scratch:.1f} ms"
                f"{'' if value == expected and same else '  DIFFERENT OPTIMA'}",
                flush=True,
            )
    every = [ratio for ratios_of in replan.values() for ratio in ratios_of]
    figures: dict[str, float | None] = {
        "cpsat_ratio_median": statistics.median(ratios),
        "cpsat_ratio_max": max(ratios),
        "replan_ratio": statistics.median(every),
        "replan_ratio_max": max(every),
        "replan_cpsat_ratio": statistics.median(replan_peer),
        "replan_ready_ratio": statistics.median(ready_ratio),
        "optima_equal": equal / total,
        "infeasible": float(infeasible),
        "ours_ms_median": statistics.median(our_ms),
        "cpsat_ms_median": statistics.median(peer_ms),
    }
    for kind in KINDS:
        if by_kind[kind]:
            name = kind.replace("-", "_")
            figures[f"cpsat_ratio_{name}"] = statistics.median(by_kind[kind])
            figures[f"replan_ratio_{name}"] = statistics.median(replan[kind])
    figures |= _diamonds(options)
    figures |= growth(options)
    return figures


def _diamonds(options: Options) -> dict[str, float]:
    """Parallel branches beside CP-SAT."""
    ratios, same = [], []
    for seed in options.seed_range[: 2 if options.quick else 6]:
        instance, parents = diamond(seed)
        mine, value = timed(lambda i=instance, p=parents: ours_diamond(i, p))  # type: ignore[misc]
        theirs, expected = timed(lambda i=instance, p=parents: peer_diamond(i, p), 1)  # type: ignore[misc]
        ratios.append(mine / theirs)
        same.append(value == expected)
    return {
        "dag_cpsat_ratio_median": statistics.median(ratios),
        "dag_cpsat_ratio_max": max(ratios),
        "dag_optima_equal": sum(same) / len(same),
    }


if __name__ == "__main__":
    sys.exit(main("exact_search", __doc__, run, GOALS, seeds=24, quick_seeds=4))
