"""What EXPLAIN says below the tree: totals beside the SLO, the frontier, why, and what else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from ...ir.estimates import Cost
from ...ir.explain import Explanation, PlanSummary, Verdict
from .layout import Palette, clean, pad, table, width, wrap
from .numbers import UNKNOWN, full, interval, provenance, quantity, times, unit_of

Section = tuple[str, list[str]]

TOTALS = (
    "accuracy", "cost", "total_cost", "latency_p50", "latency_p95", "latency_p99",
    "throughput", "wall", "energy", "total_energy", "co2", "memory",
)  # fmt: skip
"""The order of totals; a metric neither known, asked for nor in `ALWAYS` is left out."""

ALWAYS = frozenset({"accuracy", "cost", "total_cost", "latency_p95", "wall"})
FRONTIER = ("cost", "accuracy", "latency_p95", "throughput")


def sections(explanation: Explanation, palette: Palette, columns: int) -> Iterator[Section]:
    """Titles with their lines, in the order of print; what is empty is not there."""
    yield "Totals", _totals(explanation, palette)
    if plans := _frontier(explanation):
        yield _frontier_title(explanation), plans
    if explanation.runner_up is not None:
        yield "Runner-up", _plan_story(explanation.runner_up, columns - 2)
    for title, items in (
        ("What would flip the choice", explanation.flips),
        ("Why not", explanation.why_not),
    ):
        if items:
            yield title, bullets(items, columns - 2)
    if explanation.alternatives:
        yield "Alternatives", _alternatives(explanation.alternatives, columns - 2)
    if explanation.steps:
        yield "Steps", bullets(explanation.steps, columns - 2, number=True)
    if explanation.failures:
        yield "Failures", bullets(explanation.failures, columns - 2)
    if explanation.notes:
        yield "Notes", bullets(explanation.notes, columns - 2)
    if explanation.advice_report:
        yield "Advice given", bullets(explanation.advice_report, columns - 2)
    if explanation.advice:
        yield "Advice", advice_lines(explanation.advice)


def bullets(items: Sequence[str], columns: int, *, number: bool = False) -> list[str]:
    """Wrapped items, each behind a mark, continuation lines indented below it."""
    lines: list[str] = []
    for index, item in enumerate(items, 1):
        mark = f"{index}. " if number else "- "
        first, *more = wrap(item, columns - len(mark))
        lines.append(mark + first)
        lines += [" " * len(mark) + line for line in more]
    return lines


def advice_lines(advice: str) -> list[str]:
    """A line for each step; given back with its line breaks it means the same."""
    parts = re.split(r"(?<=\)) (?=VARIANT\(|CASCADE\()", clean(advice))
    return [part.rstrip() for part in parts if part]


def verdict_text(verdict: Verdict) -> str:
    """`met, proved …`, `not met, no guarantee`, `unknown`."""
    state = "unknown" if verdict.met is None else "met" if verdict.met else "not met"
    return f"{state}, {clean(verdict.guarantee)}" if verdict.guarantee else state


def _totals(explanation: Explanation, palette: Palette) -> list[str]:
    """One row a metric, then one for each constraint on it (or on one model alone)."""
    asked = {v.constraint.metric for v in explanation.verdicts if v.constraint.model is None}
    ran = explanation.actual_totals
    rows: list[list[str]] = []
    for metric in ("rows", *TOTALS):
        estimate = explanation.totals.metric(metric)
        actual = ran.metric(metric) if ran is not None else None
        if estimate is None and actual is None and metric not in ALWAYS | asked:
            continue
        unit = unit_of(metric)
        value = estimate.value if estimate is not None else None
        row = ["source rows" if metric == "rows" else metric, quantity(value, unit)]
        if ran is not None:
            known = actual.value if actual is not None else None
            row += [f"→ {quantity(known, unit)}", _total_q(metric, value, known)]
        rows.append([*row, interval(estimate, unit), provenance(estimate, explanation.at)])
    if explanation.actual_rows is not None:
        rows.append(["result rows", "", f"→ {explanation.actual_rows:,}"])
    return table(rows, right=frozenset({1})) + _verdicts(
        explanation.verdicts, palette, explanation.at
    )


def _total_q(metric: str, estimate: float | None, actual: float | None) -> str:
    q = q_error(metric, estimate, actual)
    return "" if q is None else f"q {times(q)}"


def q_error(metric: str, estimate: float | None, actual: float | None) -> float | None:
    """max(e/a, a/e); for accuracy on the error rate, where 0.99 for 0.98 is a factor of two.

    None where either is unknown or exactly one of them is 0 (the ratio has no bound).
    """
    if estimate is None or actual is None:
        return None
    if metric == "accuracy":
        estimate, actual = 1.0 - estimate, 1.0 - actual
    if estimate == actual:
        return 1.0
    if estimate <= 0 or actual <= 0:
        return None
    return max(estimate / actual, actual / estimate)


def _verdicts(verdicts: Sequence[Verdict], palette: Palette, now: datetime | None) -> list[str]:
    if not verdicts:
        return []
    limits = [clean(verdict.text) for verdict in verdicts]
    column = max(map(width, limits))
    lines = [""]
    for verdict, limit in zip(verdicts, limits, strict=True):
        style = "yellow" if verdict.met is None else "green" if verdict.met else "red"
        line = f"SLO  {pad(limit, column)}  {palette.paint(verdict_text(verdict), style)}"
        if verdict.constraint.model is not None or verdict.constraint.custom is not None:
            line += f"  {full(verdict.estimate, unit_of(verdict.constraint.metric), now)}"
        lines.append(line)
    return lines


def _frontier_title(explanation: Explanation) -> str:
    if explanation.epsilon is None:
        return "Frontier"
    if explanation.epsilon == 0:
        return "Frontier (exact)"
    return f"Frontier (certified within 1 + ε, ε = {explanation.epsilon:g})"


def cost_cells(cost: Cost, metrics: Sequence[str] = FRONTIER) -> list[str]:
    """The values of some metrics with their units."""
    cells = []
    for metric in metrics:
        estimate = cost.metric(metric)
        cells.append(quantity(estimate.value if estimate else None, unit_of(metric)))
    return cells


def _frontier(explanation: Explanation) -> list[str]:
    plans = [("this plan", explanation.totals, "")]
    plans += [(end.label, end.cost, end.note) for end in explanation.ends]
    if explanation.runner_up is not None:
        plans.append(("runner-up", explanation.runner_up.cost, ""))
    if len(plans) == 1:
        return []
    return plan_table(plans)


def plan_table(plans: Sequence[tuple[str, Cost, str]]) -> list[str]:
    """Plans in rows, metrics in columns; a metric nobody knows is left out."""
    metrics = [m for m in FRONTIER if any(cost.metric(m) is not None for _, cost, _ in plans)]
    header = ["", *metrics, ""]
    rows = [[clean(name), *cost_cells(cost, metrics), clean(note)] for name, cost, note in plans]
    return table([header, *rows], right=frozenset(range(1, len(metrics) + 1)))


def _plan_story(plan: PlanSummary, columns: int) -> list[str]:
    lines = wrap(plan.note, columns) if plan.note else []
    lines += bullets(plan.differs, columns)
    return lines or [UNKNOWN]


def _alternatives(plans: Sequence[PlanSummary], columns: int) -> list[str]:
    lines = plan_table([(plan.label, plan.cost, plan.note) for plan in plans])
    for plan in plans:
        lines += ["", f"{clean(plan.label)}:", *bullets(plan.differs, columns)]
        if plan.advice:
            lines += ["  " + line for line in advice_lines(plan.advice)]
    return lines
