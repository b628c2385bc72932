"""Profiling that stops as soon as it knows: the row-evaluations it saves, at decisions as good.

Pipelines of two steps over public measurements (`--data`), outcomes of rows synthetic. For a set
of SLOs the planner picks a plan from the statistics of each way of profiling; a decision is good
if its plan truly meets the SLO to within 0.02 and costs no more than 1.05 times the cheapest that
meets it with 0.02 to spare (what a sample of this size cannot tell apart counts as equal).
`rows_saved` compares with fixed-size uniform profiling, which runs every complete assignment by
itself on every row of a sample: the smallest sample whose share of good decisions is no lower than
ours; `rows_saved_shared` is the same where that too runs no prefix twice. `vs_halving` compares
with the best tuning of successive halving (which shares prefixes) of which the same holds, or if
none decides as well, with the one that decides best (`good_halving` says how well). All are ratios
of summed row-evaluations, `…_seconds` of model seconds, batch ladders included. `…_asked` are the
same where profiling knows the one SLO it is for. `analyze_ratio` is real: seconds of ANALYZE of the
cheque pipeline by default ÷ with the plain strategy.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from octans.ir.slo import Constraint, Objective, Slo
from octans.planner.problem import build_problem
from octans.planner.search.exact import Solution, solve
from octans.stats.observation import Observation, assignment_text
from octans.stats.prefixes import Recall
from octans.stats.profile import PLAIN, Aim, Limits, ProfileResult, Strategy, profile
from octans.stats.statistics import Statistics

from .baselines.halving import Tuning, halving
from .contract import Goal, Options, main
from .workloads.cheques import analyze_figures
from .workloads.imported import workloads
from .workloads.simulated import (
    Declared,
    Instance,
    MemoryStore,
    Plan,
    SimulatedRunner,
    declared,
    identify,
)

GOALS = (
    Goal("rows_saved", 5.0, "higher"),
    Goal("rows_saved_seconds", 5.0, "higher"),
    Goal("vs_halving", 1.3, "higher"),
    Goal("vs_halving_seconds", 1.3, "higher"),
    Goal("analyze_ratio", 0.5, "lower"),
)

ROWS = 800
SIZES = (25, 50, 100, 200, 400, ROWS)
QUICK_SIZES = (50, 200, ROWS)
TUNINGS = tuple(
    Tuning(first, keep) for first in (8, 16, 32, 64, 128, 256, 512) for keep in (1, 4, 12, 24)
)
QUICK_TUNINGS = TUNINGS[1::3]
QUICK_PIPELINES = ("speech", "search")
ACCURACY_ZONE, COST_ZONE = 0.02, 0.05
"""What counts as equally good: the zones of the default strategy."""
SLOS = 6
OFF = {
    "stratify": Strategy(stratify=False),
    "early_stop": Strategy(early_stop=False),
    "ladders": Strategy(ladders=False),
}


@dataclass(frozen=True)
class Made:
    """What one way of profiling cost and decided."""

    evaluations: int
    seconds: float
    plans: tuple[Plan | None, ...]
    good: int


def slos(instance: Instance) -> list[tuple[Slo, float]]:
    """SLOs and their accuracy thresholds, halfway between plans of the true frontier."""
    best = 0.0
    frontier = []
    for plan in sorted(instance.plans(), key=instance.cost):
        accuracy = instance.true_accuracy(plan)
        if accuracy > best + ACCURACY_ZONE:
            best = accuracy
            frontier.append(accuracy)
    steps = np.unique(np.linspace(0, len(frontier) - 1, SLOS).round().astype(int))
    found = [
        (frontier[step] + (frontier[step - 1] if step else frontier[step] - 0.05)) / 2
        for step in steps
    ]
    return [
        *((Slo((Constraint("accuracy", ">=", at),)), at) for at in found),
        (Slo((), Objective("accuracy", True)), frontier[-1]),
    ]


def is_good(instance: Instance, plan: Plan | None, threshold: float) -> bool:
    """Does the plan truly do what was asked, about as cheaply as can be?"""
    if plan is None or instance.true_accuracy(plan) < threshold - ACCURACY_ZONE:
        return False
    safe = threshold + ACCURACY_ZONE
    able = [p for p in instance.plans() if instance.true_accuracy(p) >= safe]
    cheapest = min((instance.cost(p) for p in able), default=float("inf"))
    return instance.cost(plan) <= (1 + COST_ZONE) * cheapest


class Planner:
    """Plans of the real planner, from observations."""

    def __init__(self, made: Declared) -> None:
        self.made = made
        self.asked = slos(made.instance)
        self._judged: dict[tuple[Plan | None, float], bool] = {}

    def decide(self, observations: Sequence[Observation]) -> tuple[Plan | None, ...]:
        """A plan for every SLO; None where it finds none."""
        stats = Statistics(observations)
        return tuple(self._plan(stats, slo) for slo, _ in self.asked)

    def good(self, plans: Sequence[Plan | None]) -> int:
        """How many decisions are good."""
        return sum(
            self._judge(plan, threshold)
            for plan, (_, threshold) in zip(plans, self.asked, strict=True)
        )

    def _judge(self, plan: Plan | None, threshold: float) -> bool:
        key = (plan, threshold)
        if key not in self._judged:
            self._judged[key] = is_good(self.made.instance, plan, threshold)
        return self._judged[key]

    def _plan(self, stats: Statistics, slo: Slo) -> Plan | None:
        catalog = self.made.session.catalog
        models = {model.name: model for model in catalog.models()}
        problem = build_problem(
            self.made.body,
            slo=slo,
            stats=stats,
            models=models,
            variants={name: catalog.variants(name) for name in models},
            devices=catalog.devices(),
        )
        solution = solve(problem.problem, explain=False)
        if not isinstance(solution, Solution):
            return None
        chosen = problem.choices(solution.assignment)
        return tuple(
            (chosen[stage.step.key].variant, chosen[stage.step.key].device)
            for stage in problem.stages
        )


@dataclass(frozen=True)
class Profiled:
    """One run of the profiler: as it was, and had every assignment been run by itself."""

    made: Made
    alone: Made
    result: ProfileResult


def profiled(planner: Planner, rows: int, strategy: Strategy, aim: Aim | None = None) -> Profiled:
    """Profile the sample's first rows and decide; nothing is known from before."""
    instance = planner.made.instance
    runner = SimulatedRunner(instance, rows)
    recall = None if strategy == PLAIN else Recall(runner, identify, MemoryStore())
    result = profile(
        replace(planner.made.request(rows), aim=aim or Aim()),
        recall or runner,
        limits=Limits(price=instance.price),
        strategy=strategy,
        clock=runner.clock,
        prefixes=recall,
    )
    plans = planner.decide(result.observations)
    good = planner.good(plans)
    count = sum(result.evaluations.values())
    made = Made(count, runner.seconds, plans, good)
    lonely = alone(instance, result)
    fastest = {name: min(per.values()) for name, per in instance.per.items()}
    shared = Counter({v.removesuffix("()"): n for (_, v), n in result.evaluations.items()})
    more = sum(n * fastest[variant] for variant, n in (lonely - shared).items())
    return Profiled(made, Made(lonely.total(), runner.seconds + more, plans, good), result)


def alone(instance: Instance, result: ProfileResult) -> Counter[str]:
    """Row-evaluations by variant, had every assignment been run by itself on its rows."""
    seen = {o.assignment: o.n for o in result.observations if o.metric == "accuracy"}
    found: Counter[str] = Counter()
    for arm in {tuple(variant for variant, _ in plan) for plan in instance.plans()}:
        found.update(dict.fromkeys(arm, seen[text_of(instance, arm)]))
    return found


def text_of(instance: Instance, arm: Sequence[str]) -> str:
    """How observations name an assignment."""
    keys = [f"work.{model}_step" for model, _ in instance.workload.steps]
    return assignment_text({key: (variant, "") for key, variant in zip(keys, arm, strict=True)})


def halved(planner: Planner, plain: ProfileResult, tuning: Tuning) -> Made:
    """Successive halving over assignments, deciding from its own accuracies.

    A prefix's answers on a row are made once, as for ours. Times are those of plain profiling.
    """
    instance = planner.made.instance
    arms = sorted({tuple(variant for variant, _ in plan) for plan in instance.plans()})
    cost = {
        arm: min(instance.cost(p) for p in instance.plans() if tuple(v for v, _ in p) == arm)
        for arm in arms
    }
    reached: dict[tuple[str, ...], int] = {}

    def accuracy(arm: tuple[str, ...], rows: int) -> float:
        for end in range(1, len(arm) + 1):
            reached[arm[:end]] = max(reached.get(arm[:end], 0), rows)
        return instance.accuracy(arm, slice(0, rows))

    known = halving(arms, cost, accuracy, ROWS, tuning)
    texts = {text_of(instance, arm): arm for arm in arms}
    observations = []
    for seen in plain.observations:
        if seen.metric == "accuracy":
            value, n = known[texts[seen.assignment]]
            seen = replace(seen, value=value, low=value, high=value, n=n)
        observations.append(seen)
    plans = planner.decide(observations)
    seconds = sum(rows * min(instance.per[prefix[-1]].values()) for prefix, rows in reached.items())
    return Made(sum(reached.values()), seconds, plans, planner.good(plans))


@dataclass
class Totals:
    """Sums over pipelines and seeds by way of profiling."""

    evaluations: dict[object, int]
    seconds: dict[object, float]
    good: dict[object, int]
    decisions: int = 0
    equal: int = 0
    asked: int = 0
    instances: int = 0

    def add(self, way: object, made: Made) -> None:
        """One more instance."""
        self.evaluations[way] = self.evaluations.get(way, 0) + made.evaluations
        self.seconds[way] = self.seconds.get(way, 0.0) + made.seconds
        self.good[way] = self.good.get(way, 0) + made.good

    def cheapest(self, ways: Sequence[object], ours: str = "ours") -> object:
        """The way of fewest evaluations whose decisions are as good as ours; none is: the best."""
        share = self.good[ours] / (self.asked if ours == "asked" else self.decisions)
        needed = min(share, max(self.good[way] for way in ways) / self.decisions)
        as_good = [way for way in ways if self.good[way] / self.decisions >= needed]
        return min(as_good, key=lambda way: self.evaluations[way])

    def ratios(self, name: str, way: object, ours: str = "ours") -> dict[str, float | None]:
        """Row-evaluations and seconds of a way ÷ ours; one asked for, an SLO's mean ones."""
        share = self.asked / self.instances if ours == "asked" else 1.0
        return {
            name: self.evaluations[way] * share / self.evaluations[ours],
            f"{name}_seconds": self.seconds[way] * share / self.seconds[ours],
        }


def simulated(options: Options) -> dict[str, float | None]:
    """Everything on pipelines over imported tables."""
    if options.data is None:
        print("without --data: no pipelines over public measurements")
        return {}
    ways = Ways(QUICK_SIZES, QUICK_TUNINGS, 3) if options.quick else Ways(SIZES, TUNINGS, 1)
    totals = Totals({}, {}, {})
    ratios: list[float] = []
    for seed in options.seed_range:
        for workload in workloads(options.data, seed):
            if options.quick and workload.name not in QUICK_PIPELINES:
                continue
            with declared(Instance(workload, ROWS, seed)) as made:
                ratio = _one(Planner(made), totals, ways)
            ratios.append(ratio)
            print(f"  seed {seed}, {workload.name}: uniform ÷ ours on the same rows {ratio:.2f}")
    return _figures(totals, ratios, ways)


@dataclass(frozen=True)
class Ways:
    """What to compare with, and every how many SLOs is asked of profiling by itself."""

    sizes: tuple[int, ...]
    tunings: tuple[Tuning, ...]
    every: int


def _one(planner: Planner, totals: Totals, ways: Ways) -> float:
    """All ways on one instance; uniform evaluations ÷ ours on the whole sample."""
    ours = profiled(planner, ROWS, Strategy())
    totals.add("ours", ours.made)
    totals.add("without_reuse", ours.alone)
    totals.decisions += len(planner.asked)
    totals.instances += 1
    for size in ways.sizes:
        plain = profiled(planner, size, PLAIN)
        totals.add(size, plain.alone)
        totals.add(("shared", size), plain.made)
    totals.equal += sum(a == b for a, b in zip(ours.made.plans, plain.made.plans, strict=True))
    for tuning in ways.tunings:
        totals.add(tuning, halved(planner, plain.result, tuning))
    for name, strategy in OFF.items():
        totals.add(f"without_{name}", profiled(planner, ROWS, strategy).made)
    for place in range(0, len(planner.asked), ways.every):
        slo, threshold = planner.asked[place]
        aim = Aim(accuracy=threshold if slo.constraints else None)
        aim = replace(aim, maximize_accuracy=slo.objective.maximize)
        asked = profiled(planner, ROWS, Strategy(), aim).made
        own = [asked.plans[place] if at == place else None for at in range(len(planner.asked))]
        totals.add("asked", replace(asked, good=planner.good(own)))
        totals.asked += 1
    return plain.alone.evaluations / ours.made.evaluations


def _figures(totals: Totals, ratios: Sequence[float], ways: Ways) -> dict[str, float | None]:
    shared = [("shared", size) for size in ways.sizes]
    uniform, tuning = totals.cheapest(ways.sizes), totals.cheapest(ways.tunings)
    figures: dict[str, float | None] = {
        **totals.ratios("rows_saved", uniform),
        "uniform_rows": float(uniform) if isinstance(uniform, int) else None,
        **totals.ratios("rows_saved_shared", totals.cheapest(shared)),
        **totals.ratios("rows_saved_same_sample", ROWS),
        "rows_saved_same_sample_min": min(ratios),
        "rows_saved_same_sample_max": max(ratios),
        **totals.ratios("vs_halving", tuning),
        "vs_halving_first": float(tuning.first) if isinstance(tuning, Tuning) else None,
        "vs_halving_keep": float(tuning.keep) if isinstance(tuning, Tuning) else None,
        "good_halving": totals.good[tuning] / totals.decisions,
        **totals.ratios("rows_saved_asked", totals.cheapest(ways.sizes, "asked"), "asked"),
        **totals.ratios("vs_halving_asked", totals.cheapest(ways.tunings, "asked"), "asked"),
        "equal_decisions": totals.equal / totals.decisions,
        "good_ours": totals.good["ours"] / totals.decisions,
        "good_asked": totals.good["asked"] / totals.asked,
    }
    for size in ways.sizes:
        figures[f"good_uniform_{size}"] = totals.good[size] / totals.decisions
    for name in ("without_reuse", *(f"without_{name}" for name in OFF)):
        figures |= totals.ratios(f"{name}_rows", name)
        figures[f"{name}_good"] = totals.good[name] / totals.decisions
    return figures


def run(options: Options) -> dict[str, float | None]:
    """All figures."""
    figures = simulated(options)
    if options.quick:
        print(
            f"quick: pipelines {', '.join(QUICK_PIPELINES)}, fewer ways; the cheque pipeline is "
            "left out (its models take half a minute to train)"
        )
        return figures
    if options.out is not None:
        return figures | analyze_figures(options.out / "cheques", options.seeds)
    with tempfile.TemporaryDirectory() as folder:
        return figures | analyze_figures(Path(folder), options.seeds)


if __name__ == "__main__":
    sys.exit(main("profiling", __doc__, run, GOALS, seeds=3, quick_seeds=1))
