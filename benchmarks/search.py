"""How soon does a search find a plan that meets the SLO, and how soon one near the best?

Every search runs on the same environments, pipelines of which nothing is known beforehand, with its
own evaluator, which computes no prefix twice. *Response* is the seconds of profiling plus those of
search (CPU time, one thread), until its incumbent first truly meets the SLO (`feasible`), and until
it does so with an objective within 5 % of the best feasible plan's (`near`). A search that does not
get there is taken to have at its budget, or when it was stopped: that favours it. Ratios are a
baseline's response to `near` ÷ ours, paired by seed: the median over seeds, then the geometric mean
over workloads; `vs_best_tool` takes the tool with the smallest ratio of each workload.
`significant_losses` counts workload × baseline × target where a Wilcoxon signed-rank test on the
log ratios, two-sided at 5 %, finds the baseline better; it is not corrected for the number of
tests, which counts more losses, not fewer. Baselines are tuned per workload, on seeds that are used
for nothing else. `declared` is the share of our races at the end of which a plan was proved on
held-back rows, as a query AT CONFIDENCE proves it, and `true_feasible` the share of these plans
that truly meet the whole SLO; `believed_feasible` is that of all plans the search itself was sure
of at confidence.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .baselines.registry import BASELINES, OURS, SEARCHES, Settings
from .contract import Goal, Options, main, parse_options
from .racing import ablation, surrogates
from .racing.figures import HEADER, Key, figures_of, show, table_of
from .racing.heats import Heats, pool
from .racing.informed import all_told, informed_figures, show_decidable
from .racing.job import Job
from .racing.race import Race
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
RECORDING = "cheques.npz"
SCRATCH = Path(tempfile.gettempdir()) / "octans-benchmarks"
"""Where the recording, races and histories are kept without `--out`."""
SWITCHES = {
    "ablation": "our search with a part of it left out, each as a factor; warm starts",
    "surrogates": "what composition predicts, against an end-to-end process",
}
CHOICES = {
    "workloads": NAMES,
    "searches": BASELINES,
    "histories": tuple(map(str, ablation.SWEEP)),
}


@dataclass(frozen=True)
class Limits:
    """Of races.

    Attributes:
        plans: the budget of response time, in profilings of a typical plan afresh on all rows.
        cpu: seconds of CPU time after which a baseline is stopped, so that the benchmark ends: a
            slow library may then not have spent its budget. It is charged what it had spent.
        ours: likewise our own, which is then charged its whole budget.
        tuning: likewise a baseline while it is tuned.
    """

    plans: float
    cpu: float
    ours: float
    tuning: float


FULL = Limits(plans=60.0, cpu=8.0, ours=60.0, tuning=4.0)
QUICK = Limits(plans=60.0, cpu=2.0, ours=8.0, tuning=2.0)


def _workloads(options: Options) -> tuple[str, ...]:
    if options.data is None:
        print("Without --data only the cheques are searched: the others are made from its tables.")
        return (CHEQUES,)
    return tuple(options.picked.get("workloads", QUICK_WORKLOADS if options.quick else NAMES))


def _searches(options: Options) -> list[str]:
    searches = options.picked.get("searches", QUICK_SEARCHES if options.quick else BASELINES)
    return [*searches, OURS]


@contextmanager
def _prepared(options: Options, workloads: Sequence[str]) -> Iterator[tuple[Heats, Job]]:
    """Workers, and a job to fill in; the recording of the cheques is there before they are."""
    folder = options.out if options.out is not None else SCRATCH
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / RECORDING
    if CHEQUES in workloads and not recording.exists():
        print(f"Recording the cheque pipeline into {recording}: a minute or two.", flush=True)
        environment(CHEQUES, 0, data=None, recording=recording)
    limits = QUICK if options.quick else FULL
    data = None if options.data is None else str(options.data)
    with pool(workers=len(os.sched_getaffinity(0))) as work:
        blank = Job("", OURS, "{}", 0, limits.plans, limits.ours, data, str(recording))
        yield Heats(work, folder), blank


def run(options: Options) -> dict[str, float | None]:
    """The figures; the table and the plot go to `--out` after every workload."""
    settings: dict[Key, Settings] = {}
    results: dict[Key, Sequence[Race]] = {}
    workloads = _workloads(options)
    with _prepared(options, workloads) as (heats, blank):
        for workload in workloads:
            chosen, races = _raced(heats, replace(blank, workload=workload), options)
            settings |= chosen
            results |= races
            if options.out is not None:
                _write(options.out, results, settings)
            print(f"{workload}: done", flush=True)
        drawn = [
            replace(blank, workload=workload, seed=seed)
            for workload in workloads
            for seed in options.seed_range
        ]
        told = all_told(heats.work, drawn)
    show(results)
    show_decidable(results, told)
    return figures_of(results) | informed_figures(results, told)


def _raced(
    heats: Heats, blank: Job, options: Options
) -> tuple[dict[Key, Settings], dict[Key, Sequence[Race]]]:
    """Baselines tuned, then everybody raced, on one workload."""
    limits = QUICK if options.quick else FULL
    settings: dict[Key, Settings] = {}
    for search in _searches(options):
        grid = SEARCHES[search].grid
        job = replace(blank, search=search, cpu=limits.tuning)
        tune = len(grid) > 1 and not options.quick
        settings[blank.workload, search] = heats.tuned(job) if tune else grid[0]
    jobs = [
        replace(
            blank,
            search=search,
            settings=json.dumps(chosen),
            seed=seed,
            cpu=limits.ours if search == OURS else limits.cpu,
            to_end=search == OURS,
        )
        for (_, search), chosen in settings.items()
        for seed in options.seed_range
    ]
    races = heats.run(jobs)
    by_key = {
        key: races[at * options.seeds : (at + 1) * options.seeds] for at, key in enumerate(settings)
    }
    return settings, by_key


def _write(
    folder: Path, results: Mapping[Key, Sequence[Race]], settings: Mapping[Key, Settings]
) -> None:
    with (folder / "search.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *table_of(results, settings)])
    plot_regret(results, folder / "regret.png", OURS)


def run_ablation(options: Options) -> dict[str, float | None]:
    """Our search without its parts, and with histories: see `racing/ablation.py`."""
    workloads = _workloads(options)
    with _prepared(options, workloads) as (heats, blank):
        return ablation.figures(heats, blank, workloads, options)


def run_surrogates(options: Options) -> dict[str, float | None]:
    """Errors of prediction: see `racing/surrogates.py`."""
    workloads = _workloads(options)
    with _prepared(options, workloads) as (heats, blank):
        return surrogates.figures(heats, blank, workloads, options)


if __name__ == "__main__":
    given = parse_options("search", __doc__, None, 20, 2, SWITCHES, CHOICES).switches
    runs = {
        "ablation": (run_ablation, ablation.GOALS),
        "surrogates": (run_surrogates, surrogates.GOALS),
    }
    wanted, goals = next((runs[switch] for switch in SWITCHES if switch in given), (run, GOALS))
    sys.exit(
        main(
            "search",
            __doc__,
            wanted,
            goals,
            seeds=20,
            quick_seeds=2,
            switches=SWITCHES,
            choices=CHOICES,
        )
    )
