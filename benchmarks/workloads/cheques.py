"""The cheque pipeline, for real: its ANALYZE by default and plain, on the same strips.

Plain profiling runs every choice and assignment on every row: it is the exhaustive profile, and
what the planner chooses from it is the truth the default's choices are held against. Plans are the
same where variants, knobs, and cascades with their thresholds are; batches follow from times alone.
Times of two runs differ, so it is also said how often two plain runs in a row lead to the same.
"""

from __future__ import annotations

import io
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import octans
from octans.errors import PlanError
from octans.examples.cheques import demo
from octans.session import Session
from octans.stats import profile as profiling
from octans.stats.profile import PLAIN, ProfileResult, Strategy

SLOS = (
    "WITH SLO () MINIMIZE cost",
    "WITH SLO (accuracy >= 0.90) MINIMIZE cost",
    "WITH SLO (accuracy >= 0.92) MINIMIZE cost",
    "WITH SLO (accuracy >= 0.94) MINIMIZE cost",
    "WITH SLO (accuracy >= 0.96) MINIMIZE cost",
    "WITH SLO () MAXIMIZE accuracy",
)


def analyze_figures(folder: Path, repeats: int) -> dict[str, float | None]:
    """Seconds and row-evaluations of the demo's ANALYZE, default and plain; are plans the same?

    `folder` keeps the trained models. The two run alternately, each on a fresh catalog, after
    one run that is not counted: whichever is first imports the models' libraries.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    demo.prepare(folder, demo.Narrator(io.StringIO()), demo.QUICK_STRIPS, quick=True)
    before = _analyzed(folder, PLAIN)
    ratios, evaluations, alone, equal, again = [], [], [], [], []
    for _ in range(repeats):
        ours = _analyzed(folder, Strategy())
        plain = _analyzed(folder, PLAIN)
        ratios.append(ours[0] / plain[0])
        evaluations.append(sum(plain[1].values()) / sum(ours[1].values()))
        alone.append(by_itself(plain[1]) / sum(ours[1].values()))
        equal.append(_share_equal(ours[2], plain[2]))
        again.append(_share_equal(before[2], plain[2]))
        before = plain
        print(f"  cheques: {ours[0]:.1f} s by default, {plain[0]:.1f} s plain")
    return {
        "analyze_ratio": median(ratios),
        "analyze_ratio_min": min(ratios),
        "analyze_ratio_max": max(ratios),
        "analyze_rows_saved": median(evaluations),
        "analyze_rows_saved_alone": median(alone),
        "analyze_equal_plans": median(equal),
        "analyze_equal_plans_min": min(equal),
        "analyze_equal_plain": median(again),
    }


def _share_equal(one: Sequence[str | None], other: Sequence[str | None]) -> float:
    """Share of SLOs for which the same plan was chosen."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(SLOS)


def by_itself(evaluations: Mapping[tuple[str, str], int]) -> int:
    """Row-evaluations, at least, had every assignment been run by itself.

    Of plain profiling's, by step and variant: those of the step that runs on most elements, once
    for every assignment of the other steps. What the others take themselves is left out: how often
    they run depends on the assignment.
    """
    steps: dict[str, list[int]] = {}
    for (step, _), count in evaluations.items():
        steps.setdefault(step, []).append(count)
    main = max((s for s in steps if len(steps[s]) > 1), key=lambda step: max(steps[step]))
    others = math.prod(len(counts) for step, counts in steps.items() if step != main)
    return sum(steps[main]) * others


def _analyzed(
    folder: Path, strategy: Strategy
) -> tuple[float, Mapping[tuple[str, str], int], list[str | None]]:
    """Seconds of the script's ANALYZE, its row-evaluations, and the plans chosen afterwards."""
    statements = [text for _, group in demo.chapters(demo.script()) for text in group]
    place = next(i for i, text in enumerate(statements) if text.startswith("ANALYZE"))
    back = Path.cwd()
    os.chdir(folder)
    try:
        with octans.connect(base_dir=folder) as session:
            for text in statements[:place]:
                session.sql(text)
            with _strategy(strategy) as results:
                start = time.perf_counter()
                session.sql(statements[place])
                seconds = time.perf_counter() - start
            (result,) = results
            plans = [_plan(session, slo) for slo in SLOS]
    finally:
        os.chdir(back)
    return seconds, result.evaluations, plans


@contextmanager
def _strategy(strategy: Strategy) -> Iterator[list[ProfileResult]]:
    """Have ANALYZE profile by this strategy; its results."""
    usual, results = profiling.profile, []

    def profile(*args: Any, **given: Any) -> ProfileResult:
        results.append(usual(*args, **(given | {"strategy": strategy})))
        return results[-1]

    profiling.profile = profile
    try:
        yield results
    finally:
        profiling.profile = usual


def _plan(session: Session, slo: str) -> str | None:
    """The variants, knobs and cascades of the plan chosen; None where there is none."""
    try:
        advice = session.explain(f"{demo.QUERY} {slo}").advice
    except PlanError:
        return None
    return " ".join(re.findall(r"(?:VARIANT|CASCADE)\([^)]*\)", advice))
