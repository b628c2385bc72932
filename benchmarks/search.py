"""How soon does a search find a plan that meets the SLO, and how soon one near the best?

Every search runs on the same environments, pipelines of which nothing is known beforehand, with its
own evaluator, which computes no prefix twice. *Response* is the seconds of profiling plus those of
search, until its incumbent first truly meets the SLO (`feasible`), and until it does so with an
objective within 5 % of the best feasible plan's (`near`). A search that does not get there is taken
to have at its budget, or when it was stopped: that favours it. Ratios are a baseline's response to
`near` ÷ ours, paired by seed: the median over seeds, then the geometric mean over workloads;
`vs_best_tool` takes the tool with the smallest ratio of each workload. `significant_losses` counts
workload × baseline × target where a Wilcoxon signed-rank test on the log ratios, two-sided at 5 %,
finds the baseline better; it is not corrected for the number of tests, which counts more losses,
not fewer. Baselines are tuned per workload, on seeds that are used for nothing else.
`true_feasible` is the share of all plans our search ever declared feasible at confidence that truly
are.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean, median, quantiles

from .baselines.registry import BASELINES, OURS, SEARCHES, TOOLS, Settings
from .contract import Goal, Options, main, parse_options
from .racing.heats import Heats, Job, Key, Work, pool
from .racing.race import TARGETS, Race, Target
from .racing.regret_plot import plot_regret
from .workloads.instances import CHEQUES, NAMES, environment

GOALS = (
    Goal("vs_vulcan", 10.0, "higher"),
    Goal("vs_videostorm", 10.0, "higher"),
    Goal("vs_best_tool", 4.0, "higher"),
    Goal("significant_losses", 0.0, "lower"),
    Goal("true_feasible", 0.95, "higher"),
    Goal("ms_per_plan", 40.0, "lower"),
)
QUICK_WORKLOADS = ("speech", "cuad")
QUICK_SEARCHES = ("random", "videostorm", "vulcan", "botorch")
PLANS, QUICK_PLANS = 12.0, 12.0
"""The budget of response time, in profilings of a typical plan afresh on all rows."""
REAL, QUICK_REAL = 15.0, 3.0
"""Real seconds after which a race is stopped, so that the benchmark ends: slow libraries may then
not have spent their budget. They are charged what they had spent; `stopped` is their share."""
OURS_LONGER = 4.0
"""Times as long our own races may take: stopped, they are charged their whole budget."""
RECORDING = "cheques.npz"
SCRATCH = Path(tempfile.gettempdir()) / "octans-benchmarks"
"""Where the recording is kept without `--out`."""
SWITCHES = {"ablation": "our search with a part of it left out, each as a factor"}
ABLATIONS: dict[str, Settings] = {
    "partial_profiling": {"partial": False},
    "composition": {"composition": False},
    "prices_of_profiling": {"costs": 0.0},
    "one_hot": {"encoding": "ordinal"},
}
"""What is left out → our search's settings without it, for `--ablation`."""
LEVEL = 0.05
"""Two-sided, of every single test."""
Results = Mapping[Key, Sequence[Race]]
"""By (workload, search), the races of the same seeds in the same order."""


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def log_ratios(theirs: Sequence[Race], ours: Sequence[Race], target: Target) -> list[float]:
    """By seed, the log of their response ÷ ours; ours, where stopped, is charged its budget."""
    return [
        math.log(a.at(target).seconds) - math.log(b.at(target, whole=True).seconds)
        for a, b in zip(theirs, ours, strict=True)
    ]


def loses(ratios: Sequence[float]) -> bool:
    """Is the baseline significantly better: a two-sided Wilcoxon signed-rank test at `LEVEL`?

    Pairs without a difference (both at the budget) say nothing and are left out, as in Wilcoxon's
    own treatment; fewer than six left can never be significant.
    """
    from scipy.stats import wilcoxon

    different = [ratio for ratio in ratios if ratio != 0.0]
    return bool(different and wilcoxon(different, alternative="less").pvalue < LEVEL / 2)


def figures_of(results: Results) -> dict[str, float | None]:
    """Every figure; those of our search are unknown where it was not raced."""
    workloads = list(dict.fromkeys(workload for workload, _ in results))
    searches = [name for name in BASELINES if any(search == name for _, search in results)]
    figures: dict[str, float | None] = {}
    if any(search == OURS for _, search in results):
        for target in TARGETS:
            figures |= _ratios(results, workloads, searches, target)
        losses = [
            (workload, search, str(target))
            for workload in workloads
            for search in searches
            for target in TARGETS
            if loses(log_ratios(results[workload, search], results[workload, OURS], target))
        ]
        figures["significant_losses"] = float(len(losses))
        figures |= {
            f"loses:{workload}:{search}:{target}": 1.0 for workload, search, target in losses
        }
        figures |= _own([results[workload, OURS] for workload in workloads])
    for (workload, search), races in results.items():
        figures |= _medians(f"{workload}:{search}", races)
    return figures


def _ratios(
    results: Results, workloads: Sequence[str], searches: Sequence[str], target: Target
) -> dict[str, float | None]:
    """`vs_...` of every baseline and of the best tool; to `near` they have no suffix."""
    suffix = "" if target == "near" else f"_{target}"
    found: dict[str, list[float]] = {search: [] for search in searches}
    for workload in workloads:
        for search in searches:
            ratios = log_ratios(results[workload, search], results[workload, OURS], target)
            found[search].append(math.exp(median(ratios)))
    tools = [found[tool] for tool in TOOLS if tool in found]
    if tools:
        found["best_tool"] = [min(each) for each in zip(*tools, strict=True)]
    return {f"vs_{search}{suffix}": geometric_mean(each) for search, each in found.items()}


def _own(by_workload: Sequence[Sequence[Race]]) -> dict[str, float | None]:
    """What is known of our search alone."""
    races = [race for each in by_workload for race in each]
    declared = [truly for race in races for truly in race.declared]
    final = [race.final for race in races if race.final is not None]
    return {
        "true_feasible": sum(declared) / len(declared) if declared else None,
        "true_feasible_final": sum(final) / len(final) if final else None,
        "plans_declared": float(len(declared)),
        "ms_per_plan": max(median(race.ms for race in each) for each in by_workload),
        "search_share": median(_search_share(race) for race in races),
    }


def _search_share(race: Race) -> float:
    """Of the response to near, the share that is search and not profiling."""
    spent = race.at("near")
    return 1.0 - spent.profiling / spent.seconds if spent.seconds else 0.0


def _medians(prefix: str, races: Sequence[Race]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for target in TARGETS:
        spent = [race.at(target) for race in races]
        found[f"{prefix}:{target}_s"] = median(each.seconds for each in spent)
        found[f"{prefix}:{target}_profiling_s"] = median(each.profiling for each in spent)
        found[f"{prefix}:{target}_usd"] = median(each.usd for each in spent)
        found[f"{prefix}:{target}_reached"] = sum(r.reached(target) for r in races) / len(races)
    found[f"{prefix}:stopped"] = sum(race.end == "stopped" for race in races) / len(races)
    return found


HEADER = (
    "workload", "search", "target", "reached", "response_s_q1", "response_s", "response_s_q3",
    "profiling_s_q1", "profiling_s", "profiling_s_q3", "usd_q1", "usd", "usd_q3", "search_share",
    "stopped", "plans", "ms_per_plan", "settings",
)  # fmt: skip


def table_of(results: Results, settings: Mapping[Key, Settings]) -> list[list[object]]:
    """A row per workload, search and target, as `HEADER` says; three quartiles each."""
    rows: list[list[object]] = []
    for (workload, search), races in results.items():
        for target in TARGETS:
            spent = [race.at(target) for race in races]
            rows.append(
                [
                    workload,
                    search,
                    target,
                    sum(race.reached(target) for race in races) / len(races),
                    *quartiles([each.seconds for each in spent]),
                    *quartiles([each.profiling for each in spent]),
                    *quartiles([each.usd for each in spent]),
                    median(_search_share(race) for race in races),
                    sum(race.end == "stopped" for race in races) / len(races),
                    median(race.plans for race in races),
                    median(race.ms for race in races),
                    json.dumps(settings.get((workload, search), {})),
                ]
            )
    return rows


def _show(rows: Sequence[Sequence[object]]) -> None:
    """Medians and quartiles, to be read."""
    for row in rows:
        workload, search, target, reached, *numbers = row
        shown = [f"{value:.3g}" for value in numbers[:9]]  # type: ignore[str-format]
        print(
            f"{workload:<11} {search:<11} {target:<8} reached {reached:.0%}  "  # type: ignore[str-format]
            f"response {shown[1]} s [{shown[0]}, {shown[2]}]  "
            f"profiling {shown[4]} s [{shown[3]}, {shown[5]}]  "
            f"{shown[7]} USD [{shown[6]}, {shown[8]}]"
        )


def _workloads(options: Options) -> tuple[str, ...]:
    if options.data is None:
        print("Without --data only the cheques are searched: the others are made from its tables.")
        return (CHEQUES,)
    return QUICK_WORKLOADS if options.quick else NAMES


def _searches(options: Options) -> list[str]:
    return [*(QUICK_SEARCHES if options.quick else BASELINES), OURS]


@contextmanager
def _prepared(options: Options, workloads: Sequence[str]) -> Iterator[tuple[Work, Job]]:
    """Workers, and a job to fill in; the recording of the cheques is there before they are."""
    folder = options.out if options.out is not None else SCRATCH
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / RECORDING
    if CHEQUES in workloads and not recording.exists():
        print(f"Recording the cheque pipeline into {recording}: a minute or two.", flush=True)
        environment(CHEQUES, 0, data=None, recording=recording)
    plans, real = (QUICK_PLANS, QUICK_REAL) if options.quick else (PLANS, REAL)
    data = None if options.data is None else str(options.data)
    with pool(workers=len(os.sched_getaffinity(0))) as work:
        yield work, Job("", OURS, "{}", 0, plans, real, data, str(recording))


def run(options: Options) -> dict[str, float | None]:
    """The figures; the table and the plot go to `--out`."""
    workloads, searches = _workloads(options), _searches(options)
    settings: dict[Key, Settings] = {}
    results: dict[Key, Sequence[Race]] = {}
    with _prepared(options, workloads) as (work, blank):
        heats = Heats(work, options.out)
        for workload in workloads:
            for search in searches:
                job = replace(blank, workload=workload, search=search)
                grid = SEARCHES[search].grid
                tune = len(grid) > 1 and not options.quick
                settings[workload, search] = heats.tuned(job) if tune else grid[0]
        keys = list(settings)
        jobs = [
            replace(
                blank,
                workload=workload,
                search=search,
                settings=json.dumps(chosen),
                seed=seed,
                real=blank.real * (OURS_LONGER if search == OURS else 1.0),
            )
            for (workload, search), chosen in settings.items()
            for seed in options.seed_range
        ]
        races = heats.run(jobs)
        for at, key in enumerate(keys):
            results[key] = races[at * options.seeds : (at + 1) * options.seeds]
    rows = table_of(results, settings)
    _show(rows)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        with (options.out / "search.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *rows])
        plot_regret(results, options.out / "regret.png", OURS)
    return figures_of(results)


def ablation(options: Options) -> dict[str, float | None]:
    """How many times as long our search takes without a part of it."""
    workloads = _workloads(options)
    found: dict[str, list[float]] = {name: [] for name in ABLATIONS}
    with _prepared(options, workloads) as (work, blank):
        heats = Heats(work, None)
        for workload in workloads:
            longer = replace(blank, workload=workload, real=blank.real * OURS_LONGER)
            seeds = [replace(longer, seed=seed) for seed in options.seed_range]
            whole = heats.run(seeds)
            for name, without in ABLATIONS.items():
                races = heats.run([replace(job, settings=json.dumps(without)) for job in seeds])
                found[name].append(math.exp(median(log_ratios(races, whole, "near"))))
    return {f"without_{name}": geometric_mean(each) for name, each in found.items()}


if __name__ == "__main__":
    wanted = "ablation" in parse_options("search", __doc__, None, 20, 2, SWITCHES).switches
    sys.exit(
        main(
            "search",
            __doc__,
            ablation if wanted else run,
            () if wanted else GOALS,
            seeds=20,
            quick_seeds=2,
            switches=SWITCHES,
        )
    )
