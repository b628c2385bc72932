"""From races to figures: paired ratios and what they are worth, medians, the table.

A race that did not get there is right-censored: what it would have needed is at least what it is
charged. A median of ratios over such races is a *bound*: a lower one if it would be larger had
those of the baseline never got there, an upper one if it would be smaller had ours not.

Two more comparisons need no such bound. The *expected response time* is what all races of a search
spent up to the target or their end ÷ how many got there (ERT [Hansen et al. 2021, COCO]), a race's
seconds in its budget, so that every seed counts alike. And *ahead* is who had the better plan,
truly, after the profiling that the baseline's race took until it ended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median, quantiles

from ..baselines.registry import BASELINES, OURS, TOOLS, Settings
from .race import NEAR, TARGETS, Race, Target

LEVEL = 0.05
"""Two-sided, of every single test."""
Key = tuple[str, str]
"""Workload, search."""
Results = Mapping[Key, Sequence[Race]]
"""By (workload, search), the races of the same seeds in the same order."""


@dataclass(frozen=True)
class Ratio:
    """A ratio; it may truly be larger or smaller where races did not get there."""

    value: float
    larger: bool = False
    smaller: bool = False

    @property
    def sign(self) -> str:
        """Empty where it is exact."""
        signs = {(True, False): "≥", (False, True): "≤", (True, True): "~"}
        return signs.get((self.larger, self.smaller), "")

    def __str__(self) -> str:
        return f"{self.sign} {self.value:.3g}".strip()


def log_ratios(theirs: Sequence[Race], ours: Sequence[Race], target: Target) -> list[float]:
    """By seed, the log of their response ÷ ours; ours, where stopped, is charged its budget."""
    return [
        math.log(a.at(target).seconds) - math.log(b.at(target, whole=True).seconds)
        for a, b in zip(theirs, ours, strict=True)
    ]


def paired(theirs: Sequence[Race], ours: Sequence[Race], target: Target) -> Ratio:
    """Geometric mean over seeds of two searches' responses, theirs ÷ ours.

    Whatever did not get there counts as its whole budget, in both: so every seed counts alike, and
    one that neither gets right is 1.
    """
    return Ratio(
        geometric_mean(
            a.at(target, whole=True).seconds / b.at(target, whole=True).seconds
            for a, b in zip(theirs, ours, strict=True)
        )
    )


def decided(theirs: Sequence[Race], ours: Sequence[Race], target: Target) -> list[float]:
    """The log ratios by which one of the two was better.

    Left out are pairs of which the baseline did not get there and is charged less than ours: it
    was stopped before ours was there, and by then nobody had won.
    """
    logs = log_ratios(theirs, ours, target)
    return [
        value
        for value, race in zip(logs, theirs, strict=True)
        if value >= 0.0 or race.reached(target)
    ]


def ratio(theirs: Sequence[Race], ours: Sequence[Race], target: Target) -> Ratio:
    """The median over seeds; see `log_ratios`."""
    logs = log_ratios(theirs, ours, target)
    middle = median(logs)
    most = median(
        value if race.reached(target) else math.inf
        for value, race in zip(logs, theirs, strict=True)
    )
    least = median(
        value if race.reached(target) else -math.inf for value, race in zip(logs, ours, strict=True)
    )
    return Ratio(math.exp(middle), most > middle, least < middle)


def mean_ratio(ratios: Sequence[Ratio]) -> Ratio:
    """The geometric mean: a bound if one of them is."""
    return Ratio(
        geometric_mean(one.value for one in ratios),
        any(one.larger for one in ratios),
        any(one.smaller for one in ratios),
    )


def ert(races: Sequence[Race], target: Target, *, whole: bool = False) -> Ratio:
    """Expected response time in budgets; larger where none got there and one at its end is taken.

    Every race is charged what it spent, however it ended (if `whole`, one that was stopped its
    budget): a search that gives up soon is run again sooner. That takes another run to have other
    luck, and what a stopped race had yet to do to be as hard as what it did. The easy seeds come
    first, so that the latter favours the stopped.
    """

    def charged(race: Race) -> float:
        if race.reached(target):
            return race.at(target).seconds / race.budget
        return 1.0 if whole and race.end == "stopped" else race.spent.seconds / race.budget

    got_there = sum(race.reached(target) for race in races)
    return Ratio(sum(map(charged, races)) / max(got_there, 1), larger=not got_there)


def ert_ratio(
    theirs: Sequence[Race], ours: Sequence[Race], target: Target, *, whole: bool = False
) -> Ratio:
    """Of theirs ÷ ours."""
    above, below = ert(theirs, target, whole=whole), ert(ours, target, whole=whole)
    return Ratio(above.value / below.value, above.larger, below.larger)


def ahead(theirs: Race, ours: Race) -> int:
    """1 where ours had the better plan when the baseline ended, -1 where it had the worse, else 0.

    A plan that truly meets the SLO is better than one that does not, or none; of two that do, the
    one whose true objective is better by more than `NEAR` of the best one's.
    """
    until = theirs.spent.profiling
    at = [value for seconds, value in ours.trace if seconds <= until]
    own, other = at[-1] if at else None, theirs.trace[-1][1] if theirs.trace else None
    if own is None or other is None:
        return (own is not None) - (other is not None)
    return (other > own + NEAR) - (own > other + NEAR)


def loses(ratios: Sequence[float]) -> bool:
    """Is the baseline significantly better: a two-sided Wilcoxon signed-rank test at `LEVEL`?

    Pairs without a difference (both at the budget) say nothing and are left out, as in Wilcoxon's
    own treatment; fewer than six left can never be significant.
    """
    from scipy.stats import wilcoxon

    different = [ratio for ratio in ratios if ratio != 0.0]
    return bool(different and wilcoxon(different, alternative="less").pvalue < LEVEL / 2)


def ratios_of(results: Results, target: Target) -> dict[str, dict[str, Ratio]]:
    """Of every baseline, and of the best tool, by workload."""
    return _by_baseline(results, lambda theirs, ours: ratio(theirs, ours, target))


def erts_of(results: Results, target: Target) -> dict[str, dict[str, Ratio]]:
    """Likewise, of expected response times."""
    return _by_baseline(results, lambda theirs, ours: ert_ratio(theirs, ours, target))


def _by_baseline(
    results: Results, compared: Callable[[Sequence[Race], Sequence[Race]], Ratio]
) -> dict[str, dict[str, Ratio]]:
    found: dict[str, dict[str, Ratio]] = {name: {} for name in _baselines(results)}
    for workload in _workloads(results):
        ours = results[workload, OURS]
        for name, by_workload in found.items():
            by_workload[workload] = compared(results[workload, name], ours)
    tools = [found[tool] for tool in TOOLS if tool in found]
    if tools:
        found["best_tool"] = {
            workload: min((tool[workload] for tool in tools), key=lambda one: one.value)
            for workload in _workloads(results)
        }
    return found


def figures_of(results: Results) -> dict[str, float | None]:
    """Every figure; those of our search are unknown where it was not raced."""
    workloads, figures = _workloads(results), dict[str, float | None]()
    if any(search == OURS for _, search in results):
        figures |= compared(results)
        figures |= own([results[workload, OURS] for workload in workloads])
    by_search: dict[str, list[Race]] = {}
    for (workload, search), races in results.items():
        figures |= medians(f"{workload}:{search}", races)
        by_search.setdefault(search, []).extend(races)
    for search, races in by_search.items():
        for target in TARGETS:
            figures[f"{search}:returned_{target}"] = returned(races, target)
    return figures


def compared(results: Results) -> dict[str, float | None]:
    """Every comparison of a baseline with ours, which was raced."""
    figures: dict[str, float | None] = {}
    for target in TARGETS:
        figures |= _mean_ratios(results, target)
    figures |= _ahead(results)
    losses = [
        (workload, search, str(target))
        for workload in _workloads(results)
        for search in _baselines(results)
        for target in TARGETS
        if loses(decided(results[workload, search], results[workload, OURS], target))
    ]
    figures["significant_losses"] = float(len(losses))
    figures |= {f"loses:{workload}:{search}:{target}": 1.0 for workload, search, target in losses}
    return figures


def _mean_ratios(results: Results, target: Target) -> dict[str, float | None]:
    """`vs_…`, `ert_vs_…`, at how many workloads each is a bound; to `near` without a suffix."""
    suffix = "" if target == "near" else f"_{target}"
    figures: dict[str, float | None] = {}
    for prefix, found in (
        ("vs", ratios_of(results, target)),
        ("ert_vs", erts_of(results, target)),
    ):
        for name, by_workload in found.items():
            ratios = list(by_workload.values())
            figure = f"{prefix}_{name}{suffix}"
            figures[figure] = mean_ratio(ratios).value
            figures[f"{figure}:lower_bounds"] = float(sum(r.larger for r in ratios))
            figures[f"{figure}:upper_bounds"] = float(sum(r.smaller for r in ratios))
    return figures


def _ahead(results: Results) -> dict[str, float | None]:
    """Of every baseline, the shares of races in which ours was ahead, and behind; see `ahead`."""
    figures: dict[str, float | None] = {}
    for name in _baselines(results):
        found = [
            ahead(theirs, ours)
            for workload in _workloads(results)
            for theirs, ours in zip(results[workload, name], results[workload, OURS], strict=True)
        ]
        figures[f"ahead_of_{name}"] = found.count(1) / len(found)
        figures[f"behind_{name}"] = found.count(-1) / len(found)
    return figures


def own(by_workload: Sequence[Sequence[Race]]) -> dict[str, float | None]:
    """What is known of our search alone."""
    races = [race for each in by_workload for race in each]
    declared = [race.declared for race in races if race.declared is not None]
    believed = [truly for race in races for truly in race.believed]
    return {
        "true_feasible": sum(declared) / len(declared) if declared else None,
        "declared": len(declared) / len(races),
        "believed_feasible": sum(believed) / len(believed) if believed else None,
        "plans_believed": float(len(believed)),
        "ms_per_plan": max(median(race.ms for race in each) for each in by_workload),
        "search_share": median(search_share(race) for race in races),
    }


def search_share(race: Race) -> float:
    """Of the response to near, the share that is search and not profiling."""
    spent = race.at("near")
    return 1.0 - spent.profiling / spent.seconds if spent.seconds else 0.0


def medians(prefix: str, races: Sequence[Race]) -> dict[str, float | None]:
    """Of what was spent up to each target; shares of races that got there and were stopped."""
    found: dict[str, float | None] = {}
    for target in TARGETS:
        spent = [race.at(target) for race in races]
        found[f"{prefix}:{target}_s"] = median(each.seconds for each in spent)
        found[f"{prefix}:{target}_profiling_s"] = median(each.profiling for each in spent)
        found[f"{prefix}:{target}_usd"] = median(each.usd for each in spent)
        found[f"{prefix}:{target}_reached"] = reached(races, target)
        found[f"{prefix}:returned_{target}"] = returned(races, target)
    found[f"{prefix}:stopped"] = stopped(races)
    return found


def reached(races: Sequence[Race], target: Target) -> float:
    """Share of races that got there."""
    return sum(race.reached(target) for race in races) / len(races)


def returned(races: Sequence[Race], target: Target) -> float:
    """Share of races of which the last incumbent is what was looked for, truly."""
    last = [race.trace[-1][1] if race.trace else None for race in races]
    got_there = map(near, last) if target == "near" else (value is not None for value in last)
    return sum(got_there) / len(races)


def near(regret: float | None) -> bool:
    """Of a plan or none, see `race.regret`."""
    return regret is not None and regret <= NEAR


def stopped(races: Sequence[Race]) -> float:
    """Share of races that were stopped."""
    return sum(race.end == "stopped" for race in races) / len(races)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


HEADER = (
    "workload", "search", "target", "reached", "response_s_q1", "response_s", "response_s_q3",
    "profiling_s_q1", "profiling_s", "profiling_s_q3", "usd_q1", "usd", "usd_q3", "search_share",
    "stopped", "plans", "ms_per_plan", "ratio", "bound", "settings",
)  # fmt: skip


def table_of(results: Results, settings: Mapping[Key, Settings]) -> list[list[object]]:
    """A row per workload, search and target, as `HEADER` says; three quartiles each."""
    rows: list[list[object]] = []
    for (workload, search), races in results.items():
        for target in TARGETS:
            spent = [race.at(target) for race in races]
            ours = results.get((workload, OURS))
            paired = None if ours is None else ratio(races, ours, target)
            rows.append(
                [
                    workload,
                    search,
                    target,
                    reached(races, target),
                    *quartiles([each.seconds for each in spent]),
                    *quartiles([each.profiling for each in spent]),
                    *quartiles([each.usd for each in spent]),
                    median(search_share(race) for race in races),
                    stopped(races),
                    median(race.plans for race in races),
                    median(race.ms for race in races),
                    None if paired is None else paired.value,
                    None if paired is None else paired.sign,
                    json.dumps(settings.get((workload, search), {})),
                ]
            )
    return rows


def show(results: Results) -> None:
    """Medians and quartiles, then the ratios with their signs, to be read."""
    for (workload, search), races in results.items():
        for target in TARGETS:
            low, middle, high = quartiles([race.at(target).seconds for race in races])
            usd = median(race.at(target).usd for race in races)
            print(
                f"{workload:<11} {search:<11} {target:<8} reached {reached(races, target):4.0%}  "
                f"returned {returned(races, target):4.0%}  stopped {stopped(races):4.0%}  "
                f"response {middle:.3g} s [{low:.3g}, {high:.3g}]  "
                f"profiling {median(race.at(target).profiling for race in races):.3g} s, "
                f"{usd:.3g} USD"
            )
    if all((workload, OURS) in results for workload in _workloads(results)):
        show_ratios(results)


def show_ratios(results: Results) -> None:
    """Those of every workload, ours among the searches."""
    workloads = _workloads(results)
    for target in TARGETS:
        for kind, found in (
            ("median response", ratios_of(results, target)),
            ("expected response time", erts_of(results, target)),
        ):
            print(f"\n{kind} to {target} ÷ ours; ≥ is a lower bound: races did not get there")
            print(" " * 12 + "".join(f"{name:>12}" for name in (*workloads, "mean")))
            for name, by_workload in found.items():
                ratios = [by_workload[workload] for workload in workloads]
                print(f"{name:<12}" + "".join(f"{r!s:>12}" for r in (*ratios, mean_ratio(ratios))))


def _workloads(results: Results) -> list[str]:
    return list(dict.fromkeys(workload for workload, _ in results))


def _baselines(results: Results) -> list[str]:
    return [name for name in BASELINES if any(search == name for _, search in results)]
