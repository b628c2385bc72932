"""What would flip the choice: how far one number may move before another plan is better.

One number at a time, the others as they are, against every plan of the frontier (our choice: joint
ranges have no readable form). A plan's price is the sum of its steps'. Another plan is dearer by
`d`. It wins once a step of the chosen plan that it does differently, of cost `c`, rises by the
share `d / c`, or once its own step, of cost `c`, falls by `d / c`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...ir.models import Knobs
from ...ir.slo import Constraint, Slo
from .numbers import percent, quantity, unit_of
from .planned import (
    ADDITIVE,
    Candidate,
    allows,
    changes,
    constraint_text,
    limit_text,
    misses,
    of_step,
    reached,
    same_plan,
    short_choice,
    value_text,
)

_PER_ROW = {"total_cost": "cost", "total_energy": "energy"}
_FAR = 9.0
"""Rises beyond ten-fold are left out: nobody waits for them (our choice)."""


def flips(chosen: Candidate, rivals: Sequence[Candidate], slo: Slo) -> tuple[str, ...]:
    """Sentences, the nearest flip of each kind first."""
    others = [rival for rival in rivals if not same_plan(rival, chosen)]
    feasible = [rival for rival in others if not misses(rival, slo)]
    found: list[str] = []
    if slo.objective.metric in ADDITIVE and not slo.objective.maximize:
        found += _rises(chosen, feasible, _PER_ROW.get(slo.objective.metric, slo.objective.metric))
        found += _falls(chosen, feasible, _PER_ROW.get(slo.objective.metric, slo.objective.metric))
    for constraint in slo.constraints:
        found += _margin(chosen, constraint)
        found += _loosened(chosen, others, constraint, slo)
    return tuple(found)


def _share(change: float) -> str:
    """`14 %`, without a sign."""
    return percent(change).removeprefix("+")


def _gap(chosen: Candidate, rival: Candidate, metric: str) -> float | None:
    """By how much the rival is dearer; None if unknown or it is not."""
    mine, theirs = chosen.cost.metric(metric), rival.cost.metric(metric)
    if mine is None or theirs is None or theirs.value < mine.value:
        return None
    return theirs.value - mine.value


def _rises(chosen: Candidate, rivals: Sequence[Candidate], metric: str) -> Iterator[str]:
    """Per step of the chosen plan: how much dearer it may become."""
    found: list[tuple[float, str]] = []
    for key, choice in chosen.choices.items():
        step = chosen.steps.get(key)
        price = of_step(step, metric) if step is not None else None
        if price is None or price.value <= 0:
            continue
        best: tuple[float, Candidate] | None = None
        for rival in rivals:
            gap = _gap(chosen, rival, metric)
            if gap is None or rival.choices.get(key) == choice:
                continue
            if best is None or gap / price.value < best[0]:
                best = gap / price.value, rival
        if best is not None and best[0] <= _FAR:
            instead = changes(best[1], chosen)
            found.append(
                (best[0], f"{key} becomes {_share(best[0])} dearer ({metric}): then {instead}")
            )
    yield from (text for _, text in sorted(found))


def _falls(chosen: Candidate, rivals: Sequence[Candidate], metric: str) -> Iterator[str]:
    """Per choice that is not in the plan: how much cheaper it must become; the nearest few."""
    found: dict[tuple[str, str, Knobs], tuple[float, str]] = {}
    for rival in rivals:
        gap = _gap(chosen, rival, metric)
        changed = [key for key in chosen.choices if rival.choices.get(key) != chosen.choices[key]]
        if gap is None or len(changed) != 1:
            continue
        (key,) = changed
        step = rival.steps.get(key)
        price = of_step(step, metric) if step is not None else None
        if price is None or price.value <= 0 or gap >= price.value:
            continue
        theirs = rival.choices[key]
        nearer = gap / price.value, f"{key}: {short_choice(theirs)}"
        kind = key, theirs.variant, theirs.knobs
        found[kind] = min(nearer, found.get(kind, nearer))
    for fall, name in sorted(found.values())[:3]:
        yield f"{name} becomes {_share(fall)} cheaper ({metric})"


def _margin(chosen: Candidate, constraint: Constraint) -> Iterator[str]:
    """How far what the plan reaches may move until it misses the limit."""
    value = reached(chosen, constraint)
    if value is None or not allows(constraint, value.value):
        return
    name = f"{constraint.metric}({constraint.model})" if constraint.model else constraint.metric
    verb = "rises above" if constraint.operator == "<=" else "falls below"
    now = quantity(value.value, unit_of(constraint.metric))
    if constraint.metric == "accuracy":
        moved = f"{(value.value - constraint.limit) * 100:.1f} points"
    else:
        moved = percent(constraint.limit / value.value - 1) if value.value else "any"
    yield f"{name} {verb} {limit_text(constraint)} (now {now}, margin {moved})"


def _loosened(
    chosen: Candidate, others: Sequence[Candidate], constraint: Constraint, slo: Slo
) -> Iterator[str]:
    """The nearest better plan that only this constraint keeps out."""
    metric, up = slo.objective.metric, slo.objective.maximize
    mine = chosen.cost.metric(metric) if metric != "custom" else None
    if mine is None:
        return
    best: tuple[float, Candidate] | None = None
    for rival in others:
        theirs, value = rival.cost.metric(metric), reached(rival, constraint)
        if theirs is None or value is None or misses(rival, slo) != (constraint,):
            continue
        if (theirs.value > mine.value) if up else (theirs.value < mine.value):
            distance = abs(value.value - constraint.limit)
            if best is None or distance < best[0]:
                best = distance, rival
    if best is None:
        return
    rival = best[1]
    value, theirs = reached(rival, constraint), rival.cost.metric(metric)
    if value is None or theirs is None:
        return
    change = percent(theirs.value / mine.value - 1) if mine.value else ""
    yield (
        f"{constraint_text(constraint)} is loosened to "
        f"{value_text(value, constraint.metric)}: then {changes(rival, chosen)} "
        f"({metric} {value_text(theirs, metric)}, {change})"
    )
