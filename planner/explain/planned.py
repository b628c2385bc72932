"""What explaining needs to know of a plan; `planner.optimize` provides it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from ...cost.stages import StageCost
from ...ir.estimates import Cost, Estimate
from ...ir.models import knobs_text
from ...ir.physical import Cascade, Choice, PhysicalPlan
from ...ir.slo import OF_ANSWERS, UNITS, Constraint, Objective, Slo
from ..objectives import TIES
from ..search.single import RELATIVE
from .numbers import digits, quantity, unit_of

ADDITIVE = frozenset({"cost", "total_cost", "energy", "total_energy", "co2", "busy"})
"""What plans are ordered by that sums over steps."""


class Candidate(Protocol):
    """A complete plan of the configuration space: a choice for every step, and what it costs."""

    @property
    def choices(self) -> Mapping[str, Choice]:
        """By step key."""
        ...

    @property
    def cost(self) -> Cost:
        """The plan's."""
        ...

    @property
    def steps(self) -> Mapping[str, StageCost]:
        """By step key; per source row."""
        ...

    @property
    def composition(self) -> str | None:
        """How its accuracy follows from what was measured; None where it is unknown."""
        ...


class Planned(Protocol):
    """A chosen plan and what it was chosen from."""

    @property
    def physical(self) -> PhysicalPlan:
        """The plan as it runs."""
        ...

    @property
    def chosen(self) -> Candidate:
        """The choice."""
        ...

    @property
    def frontier(self) -> Sequence[Candidate]:
        """Plans none of which another one beats in everything."""
        ...

    @property
    def epsilon(self) -> float:
        """The frontier is certified within 1 + epsilon."""
        ...

    @property
    def runner_up(self) -> Candidate | None:
        """The best other plan that meets the SLO."""
        ...

    @property
    def better(self) -> Candidate | None:
        """The best plan, where the one of before was kept."""
        ...

    @property
    def slo(self) -> Slo:
        """What was asked for."""
        ...


def same_plan(one: Candidate, other: Candidate) -> bool:
    """Do they choose the same for every step?"""
    return dict(one.choices) == dict(other.choices)


def constraint_text(constraint: Constraint) -> str:
    """`latency_p95(classify) <= 20 ms`, as it would be written."""
    metric = f"custom('{constraint.custom}')" if constraint.custom else constraint.metric
    model = f"({constraint.model})" if constraint.model else ""
    text = f"{metric}{model} {constraint.operator} {limit_text(constraint)}"
    if constraint.per_token:
        text += " PER TOKEN"
    if constraint.soft is not None:
        text += f" SOFT {constraint.soft * 100:g} %"
    if constraint.confidence is not None:
        text += f" AT CONFIDENCE {constraint.confidence:g}"
    return text


def limit_text(constraint: Constraint) -> str:
    """The limit with its unit: `0.95`, `20 ms`, `5 USD`."""
    unit = UNITS.get(constraint.metric, "")
    if unit in ("s", "B", "J", "g"):
        number, _, suffix = quantity(constraint.limit, unit).partition(" ")
        return f"{_short(number)} {suffix}"
    number = f"{constraint.limit:.9f}".rstrip("0").rstrip(".")
    number = number if 1e-6 <= abs(constraint.limit) < 1e12 else digits(constraint.limit)
    return f"{number} {unit}".strip()


def _short(number: str) -> str:
    """Without zeros behind the point."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def reached(candidate: Candidate, constraint: Constraint) -> Estimate | None:
    """What a plan reaches in a constraint's metric, for one model alone if it names one."""
    if constraint.custom is not None or constraint.metric not in UNITS:
        return None
    if constraint.model is None:
        return _metric(candidate.cost, constraint.metric)
    found = [
        estimate
        for key, choice in candidate.choices.items()
        if choice.variant.partition(".")[0] == constraint.model and key in candidate.steps
        if (estimate := of_step(candidate.steps[key], constraint.metric)) is not None
    ]
    worst = max if constraint.operator == "<=" else min
    return worst(found, key=lambda estimate: estimate.value, default=None)


def of_step(step: StageCost, metric: str) -> Estimate | None:
    """A step's own metric; its accuracy, precision and recall are those of its answers."""
    if metric == "busy":
        return step.busy
    if metric in OF_ANSWERS:
        return step.quality if metric == "accuracy" else getattr(step, metric)
    return _metric(step.cost, metric)


def _metric(cost: Cost, metric: str) -> Estimate | None:
    return cost.metric(metric) if hasattr(cost, metric) else None


def allows(constraint: Constraint, value: float) -> bool:
    """Within the limit, or within its SOFT margin?"""
    return constraint.replace(limit=constraint.furthest).allows(value)


def misses(candidate: Candidate, slo: Slo) -> tuple[Constraint, ...]:
    """The constraints a plan does not meet, or not knowably."""
    return tuple(
        constraint
        for constraint in slo.constraints
        if (value := reached(candidate, constraint)) is None or not allows(constraint, value.value)
    )


def rank(plan: Candidate, objective: Objective) -> tuple[float, ...]:
    """What plans are ordered by, the best first: see `planner.objectives`."""
    value = _metric(plan.cost, objective.metric)
    known = math.inf if value is None else value.value
    cost = math.inf if plan.cost.cost is None else plan.cost.cost.value
    return -known if objective.maximize else known, cost, slot_seconds(plan)


def slot_seconds(plan: Candidate) -> float:
    """Of one source row."""
    return math.fsum(step.busy.value for step in plan.steps.values())


def decided_by(one: Candidate, other: Candidate, objective: Objective) -> tuple[str, bool] | None:
    """The first of the objective, `cost` and `busy` in which they differ, and whether `one` is the
    better in it; None where they differ in none."""
    names = (objective.metric, *TIES)
    for name, a, b in zip(names, rank(one, objective), rank(other, objective), strict=True):
        if a != b and not math.isclose(a, b, rel_tol=RELATIVE):
            return name, a < b
    return None


def too_close(one: Candidate, other: Candidate, metric: str) -> bool:
    """Does the 95 % interval of the difference of two plans hold 0?

    From the plans' own intervals, as if they were independent [Zou & Donner 2008, "Construction of
    confidence limits about effect measures", Statistics in Medicine 27]. Of sums, the steps at
    which both do and take the same are left out: what is shared tells nothing apart.
    """
    if metric in ADDITIVE:
        pairs = []
        for key in one.choices:
            mine, theirs = (of_step(plan.steps[key], metric) for plan in (one, other))
            if mine != theirs or one.choices[key] != other.choices[key]:
                pairs.append((mine, theirs))
    else:
        pairs = [(_metric(one.cost, metric), _metric(other.cost, metric))]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known or len(known) < len(pairs):
        return False
    gap = math.fsum(b.value - a.value for a, b in known)
    if gap < 0:
        gap, known = -gap, [(b, a) for a, b in known]
    ends = (end for a, b in known for end in (a.high - a.value, b.value - b.low))
    return gap <= math.hypot(*ends)


def short_choice(choice: Choice) -> str:
    """`classify.forest (trees := 100) · batch 64 · cpu`; a cascade's members in their order."""
    parts = []
    for member in choice.members:
        knobs = f" ({knobs_text(member.knobs)})" if member.knobs else ""
        parts.append(f"{member.variant}{knobs} · batch {member.batch}")
    if isinstance(choice, Cascade):
        for place, threshold in enumerate(choice.thresholds, 1):
            parts[place] = f"below {threshold:g} {parts[place]}"
    return f"{', '.join(parts)} · {choice.device}"


def differences(other: Candidate, chosen: Candidate) -> tuple[str, ...]:
    """Step by step, what the other plan does instead; only what differs is named."""
    found = []
    for key, mine in chosen.choices.items():
        theirs = other.choices.get(key)
        if theirs is None or theirs == mine:
            continue
        if theirs.made != mine.made:
            found.append(f"{key}: {short_choice(theirs)} instead of {short_choice(mine)}")
            continue
        parts = []
        sizes, own = (" ".join(str(m.batch) for m in c.members) for c in (theirs, mine))
        if sizes != own:
            parts.append(f"batch {sizes} instead of {own}")
        if theirs.device != mine.device:
            parts.append(f"on {theirs.device} instead of {mine.device}")
        found.append(f"{key}: {', '.join(parts) or short_choice(theirs)}")
    return tuple(found)


def choices_text(choices: Mapping[str, Choice], beside: Mapping[str, Choice] | None = None) -> str:
    """`digits: classify.mlp · batch 64 · cpu; …`, only where it differs from `beside`, if given."""
    return "; ".join(
        f"{key}: {short_choice(choice)}"
        for key, choice in choices.items()
        if beside is None or choice != beside.get(key)
    )


def changes(other: Candidate, chosen: Candidate) -> str:
    """What the other plan chooses where it differs: `digits: classify.mlp · batch 64 · cpu; …`."""
    shared = {key: other.choices[key] for key in chosen.choices if key in other.choices}
    return choices_text(shared, chosen.choices)


def value_text(estimate: Estimate | None, metric: str) -> str:
    """A metric's value with its unit."""
    return quantity(estimate.value if estimate is not None else None, unit_of(metric))
