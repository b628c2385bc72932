"""Our search with a part of it left out, and warm starts: each as a factor of response to `near`.

`without_X` is the response without X ÷ that with it, the geometric mean over seeds and workloads
(`figures.paired`). `histories_N` is that without histories ÷ that with N. `adversarial_loss` is
that with `WARM` histories whose scores were turned around or dealt out anew, whichever is worse, ÷
that without any, less 1. Whatever did not get there counts as its whole budget: neither being slow
nor giving up is a gain. `…:ert` is the same by expected response times (`figures.ert`), in which
few seeds are mostly those that fail.

    what is left out      how
    partial_profiling     every look is at all rows
    composition           dims are learned end to end, one process over whole plans
    prices_of_profiling   improvement per plan, not per second: shared prefixes are no argument
    one_hot               plans are alike as far as their options stand near in one order
    pruning               what cannot be better than a plan profiled is considered all the same
    prefix_reuse          the evaluator computes every prefix anew; the search does not know
    warm_start            no histories, against `WARM`
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from ..baselines.registry import OURS, Settings
from ..contract import Goal, Options
from .figures import (
    Ratio,
    ert_ratio,
    mean_ratio,
    medians,
    own,
    paired,
    quartiles,
    reached,
    search_share,
)
from .heats import Heats
from .histories import POOL
from .job import Job
from .race import Race

GOALS = (Goal("adversarial_loss", 0.10, "lower"), Goal("ms_per_plan", 40.0, "lower"))
WITHOUT: Mapping[str, Settings] = {
    "partial_profiling": {"partial": False},
    "composition": {"composition": False},
    "prices_of_profiling": {"costs": 0.0},
    "one_hot": {"encoding": "ordinal"},
    "pruning": {"pruning": False},
}
"""What is left out → our search's settings without it."""
WARM = 10
SWEEP, QUICK_SWEEP = (1, 3, 10, 30, 100), (1, 3)
TWISTS = ("inverted", "shuffled")
Races = Mapping[str, Sequence[Race]]
"""By what was changed: `whole`, `without_X`, `histories_N`, a twist."""
Factor = Callable[[Sequence[Race], Sequence[Race]], Ratio]


def jobs_of(job: Job, sweep: Sequence[int]) -> dict[str, Job]:
    """What is changed → the job so; `job` has a pool of histories and is given none."""
    found = {"whole": job, "without_prefix_reuse": replace(job, reuse=False)}
    for name, settings in WITHOUT.items():
        found[f"without_{name}"] = replace(job, settings=json.dumps(settings))
    for count in sweep:
        found[f"histories_{count}"] = replace(job, histories=count)
    for twist in TWISTS:
        found[twist] = replace(job, histories=_warm(sweep), twist=twist)
    return found


def _warm(sweep: Sequence[int]) -> int:
    """Of a sweep, the histories that a warm start has."""
    return max((count for count in sweep if count <= WARM), default=sweep[0])


def figures(
    heats: Heats, blank: Job, workloads: Sequence[str], options: Options
) -> dict[str, float | None]:
    """Every figure; a table after every workload goes to `--out`."""
    default = QUICK_SWEEP if options.quick else SWEEP
    sweep = sorted({int(count) for count in options.picked.get("histories", default)})
    pool = min(POOL, 2 * sweep[-1])
    by_workload: dict[str, Races] = {}
    for workload in workloads:
        job = heats.with_histories(replace(blank, workload=workload), pool)
        changed = jobs_of(job, sweep)
        jobs = [replace(one, seed=seed) for one in changed.values() for seed in options.seed_range]
        races = heats.run(jobs)
        by_workload[workload] = {
            name: races[at * options.seeds : (at + 1) * options.seeds]
            for at, name in enumerate(changed)
        }
        if options.out is not None:
            _write(options.out / "ablation.csv", by_workload, sweep)
        print(f"{workload}: done", flush=True)
    _show(by_workload, sweep)
    return _figures(by_workload, sweep)


def _expected(theirs: Sequence[Race], ours: Sequence[Race]) -> Ratio:
    return ert_ratio(theirs, ours, "near", whole=True)


def _paired(theirs: Sequence[Race], ours: Sequence[Race]) -> Ratio:
    return paired(theirs, ours, "near")


def factors_of(races: Races, sweep: Sequence[int], factor: Factor = _paired) -> dict[str, Ratio]:
    """Of one workload, every factor by its figure's name."""
    whole = races["whole"]
    found = {
        name: factor(changed, whole)
        for name, changed in races.items()
        if name.startswith("without_")
    }
    warm = {count: factor(whole, races[f"histories_{count}"]) for count in sweep}
    found["without_warm_start"] = warm[_warm(sweep)]
    found |= {f"histories_{count}": one for count, one in warm.items()}
    return found | {twist: factor(races[twist], whole) for twist in TWISTS}


def _figures(by_workload: Mapping[str, Races], sweep: Sequence[int]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for suffix, factor in (("", _paired), (":ert", _expected)):
        factors = [factors_of(races, sweep, factor) for races in by_workload.values()]
        means = {name: mean_ratio([one[name] for one in factors]) for name in factors[0]}
        found |= {f"{name}{suffix}": mean.value for name, mean in means.items()}
        found[f"adversarial_loss{suffix}"] = max(means[twist].value for twist in TWISTS) - 1.0
    found["ms_per_plan"] = own([races["whole"] for races in by_workload.values()])["ms_per_plan"]
    for workload, races in by_workload.items():
        found |= medians(f"{workload}:{OURS}", races["whole"])
        found[f"{workload}:{OURS}:search_share"] = median(map(search_share, races["whole"]))
        found[f"{workload}:{OURS}:ms_per_plan"] = median(race.ms for race in races["whole"])
    return found


def _show(by_workload: Mapping[str, Races], sweep: Sequence[int]) -> None:
    """A row per change, a column per workload; then what the response is made of."""
    kinds = (
        ("response, seed by seed, to near", _paired),
        ("expected response time to near; ≥ and ≤ are bounds: no race got there", _expected),
    )
    for what, factor in kinds:
        factors = {name: factors_of(races, sweep, factor) for name, races in by_workload.items()}
        print(f"\nfactors of {what}")
        print(" " * 28 + "".join(f"{name:>12}" for name in (*factors, "mean")))
        for name in next(iter(factors.values())):
            ratios = [one[name] for one in factors.values()]
            print(f"{name:<28}" + "".join(f"{r!s:>12}" for r in (*ratios, mean_ratio(ratios))))
    for workload, races in by_workload.items():
        whole = races["whole"]
        spent = [race.at("near") for race in whole]
        profiling = median(one.profiling for one in spent)
        search = median(one.seconds - one.profiling for one in spent)
        print(
            f"{workload}: {profiling:.3g} s of profiling and {search:.3g} s of search to near, "
            f"{median(race.ms for race in whole):.3g} ms a plan"
        )


def _write(path: Path, by_workload: Mapping[str, Races], sweep: Sequence[int]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ["workload", "changed", "factor", "factor_ert", "ert_bound", "reached",
             "response_s_q1", "response_s", "response_s_q3", "profiling_s", "search_s", "plans",
             "ms_per_plan"]
        )  # fmt: skip
        for workload, races in by_workload.items():
            factors, erts = (factors_of(races, sweep, how) for how in (_paired, _expected))
            for name, raced in races.items():
                spent = [race.at("near") for race in raced]
                ert = erts.get(name)
                table.writerow(
                    [
                        workload,
                        name,
                        factors[name].value if name in factors else None,
                        None if ert is None else ert.value,
                        None if ert is None else ert.sign,
                        reached(raced, "near"),
                        *quartiles([one.seconds for one in spent]),
                        median(one.profiling for one in spent),
                        median(one.seconds - one.profiling for one in spent),
                        median(race.plans for race in raced),
                        median(race.ms for race in raced),
                    ]
                )
