"""From a chosen plan, and what a run of it did, to the `Explanation` that renderers print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime

from ...ir.estimates import Cost, Estimate
from ...ir.explain import Explanation, NodeActuals, PlanSummary, Verdict
from ...ir.record import dataclass
from ...ir.slo import Constraint, Objective, Slo
from ...ir.types import SqlExpr
from .advice import advice_text
from .flips import flips
from .nodes import Expected, explain_nodes
from .numbers import percent, quantity, unit_of
from .planned import (
    Candidate,
    Planned,
    allows,
    constraint_text,
    decided_by,
    differences,
    misses,
    rank,
    reached,
    same_plan,
    slot_seconds,
    too_close,
)
from .sections import q_error

ENDS = (
    ("cheapest", "cost", False),
    ("fastest", "latency_p95", False),
    ("most accurate", "accuracy", True),
)
"""The frontier's ends: label, metric, whether more is better."""


@dataclass(frozen=True)
class Ran:
    """What a run did: nodes by fingerprint, totals as points, rows of the result, failures."""

    nodes: Mapping[str, NodeActuals]
    totals: Cost
    rows: int | None = None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What surrounds a plan: the query, the time, and what others have to say of it.

    Attributes:
        query: the canonical text.
        at: now, UTC.
        scans: rows of `SqlScan`s by fingerprint.
        selectivity: the share of rows a predicate keeps, where measured.
        guarantees: what is proved, by constraint; others AT CONFIDENCE or not have none.
        alternatives: how many other plans to list.
        planning_seconds: how long planning took.
        stale: by step, why the statistics of its choice may no longer hold.
    """

    query: str
    at: datetime
    scans: Mapping[str, Estimate] = field(default_factory=dict)
    selectivity: Callable[[SqlExpr], Estimate | None] = lambda predicate: None
    guarantees: Mapping[Constraint, str] = field(default_factory=dict)
    alternatives: int = 0
    steps: tuple[str, ...] = ()
    why_not: tuple[str, ...] = ()
    advice_report: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    planning_seconds: float | None = None
    stale: Mapping[str, str] = field(default_factory=dict)


def explain(planned: Planned, context: Context, ran: Ran | None = None) -> Explanation:
    """The explanation of a chosen plan; with actuals and q-errors where it ran."""
    chosen, slo = planned.chosen, planned.slo
    rivals = _distinct([*planned.frontier, *([planned.runner_up] if planned.runner_up else [])])
    expected = Expected(
        chosen.steps, chosen.cost.rows, context.scans, context.selectivity, context.stale
    )
    return Explanation(
        query=context.query,
        nodes=explain_nodes(planned.physical.root, expected, ran.nodes if ran else {}),
        totals=chosen.cost,
        objective=objective_text(slo.objective),
        verdicts=_verdicts(chosen, slo, context.guarantees, ran),
        ends=ends(planned.frontier, chosen, slo),
        runner_up=_runner_up(planned),
        flips=flips(chosen, rivals, slo),
        alternatives=_alternatives(rivals, chosen, slo, context.alternatives),
        frontier=tuple(
            summary(f"plan {number}", plan, chosen, slo)
            for number, plan in enumerate(planned.frontier, 1)
        ),
        epsilon=planned.epsilon,
        advice=advice_text(chosen.choices),
        advice_report=context.advice_report,
        why_not=context.why_not,
        steps=context.steps,
        notes=(*_kept(planned), *_composed(chosen), *_cascaded(chosen), *context.notes),
        fingerprint=planned.physical.fingerprint,
        planning_seconds=context.planning_seconds,
        actual_totals=ran.totals if ran else None,
        actual_rows=ran.rows if ran else None,
        failures=ran.failures if ran else (),
        at=context.at,
    )


def _kept(planned: Planned) -> Iterator[str]:
    """Why it is not the best plan by the estimates."""
    chosen, better = planned.chosen, planned.better
    if better is not None:
        instead = "; ".join(differences(better, chosen))
        text = lost_by(better, chosen, planned.slo.objective)
        yield f"kept, as the query ran before: no other plan is surely better; {instead}: {text}"


def _composed(chosen: Candidate) -> tuple[str, ...]:
    """Where the accuracy comes from."""
    return () if chosen.composition is None else (f"accuracy: {chosen.composition}",)


def _cascaded(chosen: Candidate) -> Iterator[str]:
    """What the thresholds of its cascades were picked for."""
    for key, step in chosen.steps.items():
        if step.cascade is not None:
            loss, last = step.cascade.loss, step.cascade.members[-1]
            yield (
                f"{key}: at most {quantity(loss.high, 'share')} less accurate than {last[0]} "
                f"alone, at confidence {step.cascade.confidence:g} "
                f"({quantity(loss.value, 'share')} measured, n = {loss.n:,})"
            )


def objective_text(objective: Objective) -> str:
    """`MINIMIZE cost`."""
    return f"{'MAXIMIZE' if objective.maximize else 'MINIMIZE'} {objective.metric}"


def summary(label: str, plan: Candidate, chosen: Candidate, slo: Slo) -> PlanSummary:
    """A plan in a list: what it misses, and how it differs from the chosen one."""
    if same_plan(plan, chosen):
        note = "this plan"
    else:
        missed = misses(plan, slo)
        note = "misses " + ", ".join(map(constraint_text, missed)) if missed else ""
        if plan.composition not in (chosen.composition, None):
            note += f"{'; ' if note else ''}accuracy {plan.composition}"
    return PlanSummary(label, advice_text(plan.choices), plan.cost, note, differences(plan, chosen))


def ends(frontier: Sequence[Candidate], chosen: Candidate, slo: Slo) -> tuple[PlanSummary, ...]:
    """The cheapest, the fastest and the most accurate plan, where anybody knows."""
    found = []
    for label, metric, maximize in ENDS:
        known = [plan for plan in frontier if plan.cost.metric(metric) is not None]
        if known:
            best = min(known, key=lambda plan: rank(plan, Objective(metric, maximize)))
            found.append(summary(label, best, chosen, slo))
    return tuple(found)


def lost_by(loser: Candidate, winner: Candidate, objective: Objective) -> str:
    """`cost $0.000023 against $0.000021, +9.5 %`, and whether that is within noise; of equally good
    plans what decided instead."""
    mine: float | None
    theirs: float | None
    decided, _ = decided_by(winner, loser, objective) or (objective.metric, False)
    if decided == "busy":
        name, unit = "slot-seconds of a row", "s"
        mine, theirs = slot_seconds(winner), slot_seconds(loser)
    else:
        name, unit = decided, unit_of(decided)
        mine, theirs = (_value(plan.cost.metric(decided)) for plan in (winner, loser))
    text = f"{name} {quantity(theirs, unit)} against {quantity(mine, unit)}"
    if mine and theirs is not None:
        text += f", {percent(theirs / mine - 1)}"
    if decided != objective.metric:
        return f"{text}, being equal in {objective.metric}"
    return f"{text}: too close to tell" if too_close(winner, loser, decided) else text


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def unproved(rival: Candidate, chosen: Candidate, slo: Slo) -> bool:
    """Is it better by the objective? AT CONFIDENCE it then was not chosen for want of a proof."""
    promised = any(c.confidence is not None for c in slo.constraints)
    return promised and is_better(rival, chosen, slo)


def is_better(rival: Candidate, chosen: Candidate, slo: Slo) -> bool:
    """By the objective, and what decides where that does not?"""
    _, better = decided_by(rival, chosen, slo.objective) or ("", False)
    return better


def _runner_up(planned: Planned) -> PlanSummary | None:
    rival, chosen, slo = planned.runner_up, planned.chosen, planned.slo
    if rival is None:
        return None
    why = "lost by"
    if unproved(rival, chosen, slo):
        why = "not proved, though it has"
    elif planned.better is not None and is_better(rival, chosen, slo):
        why = "not surely better, though it has"
    note = f"{why} {lost_by(rival, chosen, slo.objective)}"
    return PlanSummary(
        "runner-up", advice_text(rival.choices), rival.cost, note, differences(rival, chosen)
    )


def _alternatives(
    rivals: Sequence[Candidate], chosen: Candidate, slo: Slo, count: int
) -> tuple[PlanSummary, ...]:
    """The best other plans: those that meet the SLO first, then in the order of plans."""
    if count <= 0:
        return ()

    def order(plan: Candidate) -> tuple[int, tuple[float, ...]]:
        return len(misses(plan, slo)), rank(plan, slo.objective)

    others = sorted((plan for plan in rivals if not same_plan(plan, chosen)), key=order)
    return tuple(
        summary(f"alternative {number}", plan, chosen, slo)
        for number, plan in enumerate(others[:count], 1)
    )


def _verdicts(
    chosen: Candidate, slo: Slo, guarantees: Mapping[Constraint, str], ran: Ran | None
) -> tuple[Verdict, ...]:
    """Every constraint beside what the plan reaches and, after a run, reached."""
    found = []
    for constraint in slo.constraints:
        estimate = reached(chosen, constraint)
        actual = None
        if ran is not None and constraint.model is None and constraint.custom is None:
            known = ran.totals.metric(constraint.metric)
            actual = known.value if known is not None else None
        found.append(
            Verdict(
                constraint,
                constraint_text(constraint),
                estimate,
                None if estimate is None else allows(constraint, estimate.value),
                guarantees.get(constraint, "no guarantee"),
                actual,
                q_error(constraint.metric, estimate.value if estimate else None, actual),
            )
        )
    return tuple(found)


def _distinct(plans: Sequence[Candidate]) -> list[Candidate]:
    found: list[Candidate] = []
    for plan in plans:
        if not any(same_plan(plan, other) for other in found):
            found.append(plan)
    return found
