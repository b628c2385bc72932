"""Regret against profiling cost: a panel per workload, a line per search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from .race import Race

POINTS = 60
NOTHING = 1.0
"""The regret shown as long as there is no plan that truly meets the SLO, and of any above it."""


def plot_regret(results: Mapping[tuple[str, str], Sequence[Race]], file: Path, ours: str) -> None:
    """Draw the median regret over seeds against profiling seconds, and save it.

    A race that ended goes on at what it ended with.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    workloads = list(dict.fromkeys(workload for workload, _ in results))
    columns = min(len(workloads), 3)
    rows = math.ceil(len(workloads) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5 * columns, 3.6 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(workloads) :]:
        ax.set_visible(False)
    for ax, workload in zip(axes.flat, workloads, strict=False):
        mine = {search: races for (name, search), races in results.items() if name == workload}
        times = _times([race for races in mine.values() for race in races])
        for search, races in mine.items():
            values = [median(regret_at(race, at) for race in races) for at in times]
            ax.plot(times, values, label=search, lw=2.5 if search == ours else 1.2)
        ax.set(title=workload, xscale="log", xlabel="profiling seconds")
        ax.set_yscale("symlog", linthresh=0.01)
        ax.set_ylabel("regret")
        ax.axhline(0.05, color="grey", lw=0.8, ls=":")
    axes.flat[0].legend(fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _times(races: Sequence[Race]) -> list[float]:
    ends = [race.spent.profiling for race in races if race.spent.profiling > 0.0]
    starts = [at for race in races for at, _ in race.trace if at > 0.0]
    low, high = math.log(min(starts, default=1.0)), math.log(max(ends, default=1.0))
    return [math.exp(low + (high - low) * at / (POINTS - 1)) for at in range(POINTS)]


def regret_at(race: Race, seconds: float) -> float:
    """Of the incumbent after so many seconds of profiling."""
    found = NOTHING
    for at, value in race.trace:
        if at > seconds:
            break
        found = NOTHING if value is None else min(value, NOTHING)
    return found
