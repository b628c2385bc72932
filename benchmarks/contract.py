"""What every benchmark shares: its flags, its goals and its last line.

A benchmark is a function from `Options` to figures, wrapped by `main`:

    def run(options: Options) -> dict[str, float]: ...

    if __name__ == "__main__":
        sys.exit(main("engine", __doc__, run, GOALS, seeds=5, quick_seeds=1))

    python -m benchmarks.NAME [--quick] [--json] [--seeds n] [--first-seed k]
                              [--data DIR] [--out DIR]

Instances follow from the seed alone. With `--json` the last line is one object: name, figures,
goals, machine, seconds. A goal that is missed is reported, it does not fail the run: the exit
status is 0 unless the benchmark itself broke.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Options:
    """The flags; `seeds` seeds are to be used, from `first_seed` on.

    `switches` are the benchmark's own flags that were given, `picked` values of its own options.
    """

    quick: bool
    json: bool
    seeds: int
    first_seed: int
    data: Path | None
    out: Path | None
    switches: frozenset[str] = frozenset()
    picked: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def seed_range(self) -> range:
        """The seeds to use."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True)
class Goal:
    """A figure, what it should reach, and in which direction."""

    figure: str
    goal: float
    better: Better

    def met(self, value: float | None) -> bool:
        """Does the value reach the goal? An unknown one does not."""
        if value is None or math.isnan(value):
            return False
        return value <= self.goal if self.better == "lower" else value >= self.goal


def parse_options(
    name: str,
    description: str | None,
    argv: Sequence[str] | None,
    seeds: int,
    quick_seeds: int,
    switches: Mapping[str, str] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Options:
    """Read the flags; `seeds` or `quick_seeds` is the default number of seeds.

    `switches` are flags of this benchmark alone, with their help; `choices` are its options that
    pick some of so many values.
    """
    summary = (description or "").strip().splitlines()
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=summary[0] if summary else None
    )
    parser.add_argument("--quick", action="store_true", help="fewer seeds, within a minute")
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--seeds", type=int, help=f"default {seeds}, quick {quick_seeds}")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of input data, where one is needed")
    parser.add_argument("--out", type=Path, help="folder for plots and tables")
    for switch, text in (switches or {}).items():
        parser.add_argument(f"--{switch}", action="store_true", help=text)
    for option, values in (choices or {}).items():
        parser.add_argument(f"--{option}", nargs="+", choices=values, help="only these")
    args = parser.parse_args(argv)
    count = args.seeds if args.seeds is not None else quick_seeds if args.quick else seeds
    if count < 1:
        parser.error("--seeds must be at least 1")
    given = frozenset(switch for switch in switches or () if getattr(args, switch))
    picked = {option: tuple(v) for option in choices or () if (v := getattr(args, option))}
    return Options(
        args.quick, args.json, count, args.first_seed, args.data, args.out, given, picked
    )


def machine() -> str:
    """Cores, processor, Python and the libraries that figures depend on, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{cores} cores", _processor(), platform.system(), "Python " + _version()]
    for package in ("duckdb", "numpy", "ortools"):
        try:
            parts.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(parts)


def main(
    name: str,
    description: str | None,
    run: Callable[[Options], Mapping[str, float | None]],
    goals: Sequence[Goal],
    *,
    seeds: int,
    quick_seeds: int,
    argv: Sequence[str] | None = None,
    switches: Mapping[str, str] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Parse the flags, run, print figures and goals; the exit status."""
    options = parse_options(name, description, argv, seeds, quick_seeds, switches, choices)
    started = time.perf_counter()
    figures = dict(run(options))
    seconds = time.perf_counter() - started
    _print_table(name, figures, goals, options, seconds, seeds)
    if options.json:
        print(json.dumps(summary_object(name, figures, goals, seconds), allow_nan=False))
    sys.stdout.flush()
    return 0


def summary_object(
    name: str, figures: Mapping[str, float | None], goals: Sequence[Goal], seconds: float
) -> dict[str, object]:
    """The object of the last line; unknown figures are null."""
    clean = {figure: _clean(value) for figure, value in figures.items()}
    rows = []
    for goal in goals:
        value = clean.get(goal.figure)
        rows.append(
            {
                "figure": goal.figure,
                "goal": goal.goal,
                "better": goal.better,
                "value": value,
                "met": goal.met(value),
            }
        )
    return {
        "name": name,
        "figures": clean,
        "goals": rows,
        "machine": machine(),
        "seconds": round(seconds, 3),
    }


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest of repeats."""
    return median(values), min(values), max(values)


def _print_table(
    name: str,
    figures: Mapping[str, float | None],
    goals: Sequence[Goal],
    options: Options,
    seconds: float,
    full_seeds: int,
) -> None:
    quick = f" (quick: {options.seeds} of {full_seeds} seeds)" if options.quick else ""
    print(f"{name}: {seconds:.1f} s, seeds from {options.first_seed}{quick}")
    wanted = {goal.figure: goal for goal in goals}
    width = max((len(figure) for figure in [*figures, *wanted]), default=0)
    for figure in [*figures, *(figure for figure in wanted if figure not in figures)]:
        value = figures.get(figure)
        text = "unknown" if value is None else f"{value:.6g}"
        goal = wanted.get(figure)
        sign = "" if goal is None else " <= " if goal.better == "lower" else " >= "
        verdict = "" if goal is None else "  met" if goal.met(value) else "  MISSED"
        print(f"  {figure:<{width}}  {text}{sign}{'' if goal is None else goal.goal}{verdict}")


def _clean(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version() -> str:
    return platform.python_version()
