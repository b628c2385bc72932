"""What composition predicts of plans never seen, against one process over whole plans.

As in Figure 8 of [Circinus]: plans drawn uniformly are profiled on `ROWS` rows; after the same 5,
10, 20 and 40 of them both surrogates predict what other plans truly take. The error is |log
predicted - log true|, of `PLANS` plans an instance. Both see the same evaluations and have the same
kernel parts; the compositional one sees what stages take and the DAG, the other what plans take.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean

import numpy as np
from octans.planner.search.features import features
from octans.planner.search.learned.end_to_end import EndToEnd
from octans.planner.search.learned.operators import Composition
from octans.planner.search.protocol import Proposal

from ..contract import Goal, Options
from .figures import quartiles
from .heats import Heats
from .job import Job, drawn
from .race import Environment

GOALS: tuple[Goal, ...] = ()
COUNTS = (5, 10, 20, 40)
PLANS = 500
ROWS = 100
COMPOSED, END_TO_END = "composition", "end to end"
Errors = Mapping[tuple[str, str, int], Sequence[float]]
"""(dim, surrogate, plans profiled) → errors of plans."""


def errors_of(job: Job) -> Errors:
    """Of the job's workload and seed."""
    return errors(drawn(job), job.seed)


def errors(environment: Environment, seed: int) -> dict[tuple[str, str, int], list[float]]:
    """Profile plan after plan, and predict where `COUNTS` says."""
    space = environment.space
    rng = np.random.default_rng([seed, 8])
    sizes = [len(stage.options) for stage in space.stages]
    every = np.column_stack([rng.integers(size, size=PLANS + COUNTS[-1]) for size in sizes])
    profiled, unseen = every[: COUNTS[-1]], every[COUNTS[-1] :]
    truths = [environment.truth(tuple(plan)) for plan in unseen.tolist()]
    composition, plain = Composition(space, features(space)), EndToEnd(features(space))
    profiler = environment.profiler()
    found: dict[tuple[str, str, int], list[float]] = {}
    for count, plan in enumerate(profiled.tolist(), 1):
        seen = profiler.evaluate(Proposal(tuple(plan), min(ROWS, environment.rows)))
        for place, values in enumerate(seen.stages):
            composition.add(place, plan[place], values)
        composition.refit()
        plain.add(seen.assignment, seen.metrics)
        if count not in COUNTS:
            continue
        for dim in (*space.sums, *space.paths):
            truth = np.log([one[dim] for one in truths])
            for name, surrogate in ((COMPOSED, composition), (END_TO_END, plain)):
                mean, _ = surrogate.predict(dim, unseen)
                found[dim, name, count] = np.abs(mean - truth).tolist()
    return found


def figures(
    heats: Heats, blank: Job, workloads: Sequence[str], options: Options
) -> dict[str, float | None]:
    """Median errors by workload, and the ratio of the medians; table and plot to `--out`."""
    rows: dict[tuple[str, str, str, int], tuple[float, float, float]] = {}
    for workload in workloads:
        jobs = [replace(blank, workload=workload, seed=seed) for seed in options.seed_range]
        pooled: dict[tuple[str, str, int], list[float]] = {}
        for _, found in heats.work(errors_of, jobs):
            for key, values in found.items():
                pooled.setdefault(key, []).extend(values)
        for (dim, name, count), values in sorted(pooled.items()):
            low, middle, high = rows[workload, dim, name, count] = quartiles(values)
            print(
                f"{workload:<11} {dim:<12} {name:<12} {count:>3} plans: "
                f"|log error| {middle:.3f} [{low:.3f}, {high:.3f}]",
                flush=True,
            )
        if options.out is not None:
            _write(options.out / "surrogates.csv", rows)
            _plot(options.out / "surrogates.png", rows)
    return dict(_summary(rows))


Rows = Mapping[tuple[str, str, str, int], tuple[float, float, float]]
"""(workload, dim, surrogate, plans profiled) → quartiles."""


def _summary(rows: Rows) -> Iterator[tuple[str, float]]:
    """End to end ÷ composition, geometric mean over workloads; then every median."""
    for dim in dict.fromkeys(dim for _, dim, _, _ in rows):
        for count in COUNTS:
            ratios = [
                rows[workload, dim, END_TO_END, count][1] / rows[workload, dim, COMPOSED, count][1]
                for workload, other, name, plans in rows
                if (other, name, plans) == (dim, COMPOSED, count)
            ]
            yield f"{dim}:{count}:end_to_end_error_ratio", geometric_mean(ratios)
    for (workload, dim, name, count), (_, middle, _) in rows.items():
        yield f"{workload}:{dim}:{count}:{name.replace(' ', '_')}_error", middle


def _write(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["workload", "dim", "surrogate", "plans_profiled", "q1", "median", "q3"])
        table.writerows([*key, *values] for key, values in rows.items())


def _plot(path: Path, rows: Rows) -> None:
    """A row of panels per dim, one per workload: medians with quartiles."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    workloads = list(dict.fromkeys(key[0] for key in rows))
    dims = list(dict.fromkeys(key[1] for key in rows))
    figure, axes = plt.subplots(
        len(dims),
        len(workloads),
        figsize=(3.2 * len(workloads), 2.6 * len(dims)),
        squeeze=False,
        layout="constrained",
    )
    for across, dim in zip(axes, dims, strict=True):
        for ax, workload in zip(across, workloads, strict=True):
            ax.set_visible((workload, dim, COMPOSED, COUNTS[0]) in rows)
            if not ax.get_visible():
                continue
            for name in (COMPOSED, END_TO_END):
                low, middle, high = zip(
                    *(rows[workload, dim, name, c] for c in COUNTS), strict=True
                )
                ax.plot(COUNTS, middle, marker="o", ms=3, label=name)
                ax.fill_between(COUNTS, low, high, alpha=0.2)
            ax.set(title=f"{workload}, {dim}", xscale="log", yscale="log", xlabel="plans profiled")
            ax.set_xticks(COUNTS, [str(count) for count in COUNTS])
            ax.minorticks_off()
    axes[0][0].set_ylabel("|log error|")
    axes[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)
