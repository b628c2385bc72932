"""From a logical plan and statistics to the optimisation problem, and back to costs of plans.

`build_problem` tabulates every variant × knobs × device × measured batch size of every step;
`PlanProblem` keeps what the tables were made from, so that a chosen assignment gets its `Cost` with
intervals (`planner/totals.py`), and says what was left out and why.

Error codes: OC0310 a step has no choice with statistics; OC0311 a metric or direction the planner
cannot optimise; OC0314 a step has no choice left (advice, constraints on one model, memory).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..cost.model import CostModel
from ..cost.provider import StatsProvider
from ..cost.stages import StageCost
from ..ir.estimates import Cost, Estimate
from ..ir.logical import LogicalNode
from ..ir.models import Device, Model, Variant
from ..ir.physical import Choice
from ..ir.record import dataclass, field
from ..ir.slo import Slo
from .objectives import FIRST, TIES, costless, goal_of, limits_of, needs_of
from .options import Allow, Excluded, Gather, Missing, analyze_text, nothing_left, settings_of
from .search.table import Assignment, Measured, Problem, StageTable
from .stage_plan import StagePlan
from .steps import StepInfo, conditioned, steps
from .tabulate import tabulate
from .totals import Parts, plan_cost

FREE = (
    "no device that these calls can run on has a PRICE, so every plan costs $0 and cost cannot "
    "tell them apart: the fewest slot-seconds decide"
)
"""Said where the objective is cost and nothing costs anything."""


@dataclass(frozen=True)
class PlanProblem:
    """A `Problem` with its meaning.

    Attributes:
        problem: the tables.
        steps: the plan's steps, one per stage.
        stages: what each stage's table was made from.
        slo: the limits and objective it was built for.
        rows: source rows of the query, if known.
        excluded: choices left out, with reasons.
        missing: variants without statistics.
        notes: assumptions to show (a selectivity unknown, a model without quality).
        measured: class assignment → end-to-end estimates by metric.
    """

    problem: Problem
    steps: tuple[StepInfo, ...]
    stages: tuple[StagePlan, ...]
    slo: Slo
    rows: Estimate | None
    excluded: tuple[Excluded, ...]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]
    measured: Mapping[Assignment, Mapping[str, Estimate]]
    devices: tuple[Device, ...]
    _parts: Parts = field(default_factory=dict, init=False, compare=False, repr=False)

    def choices(self, assignment: Assignment) -> dict[str, Choice]:
        """The choice of every step by key."""
        return {
            stage.step.key: stage.choices[option]
            for stage, option in zip(self.stages, assignment, strict=True)
        }

    def assignment(self, choices: Mapping[str, Choice]) -> Assignment | None:
        """The option indices of these choices; None where one is not among the options."""
        found = []
        for stage in self.stages:
            choice = choices.get(stage.step.key)
            if choice is None or choice not in stage.choices:
                return None
            found.append(stage.choices.index(choice))
        return tuple(found)

    def composition(self, assignment: Assignment) -> str | None:
        """How the plan's accuracy follows from its steps'; None if it is unknown or one step's."""
        classes = self.problem.classes(assignment)
        if "accuracy" in self.measured.get(classes, ()):
            return "measured end to end"
        factors = [
            stage.factors[self.problem.given_index(place, classes)][classes[place]]
            for place, stage in enumerate(self.stages)
        ]
        graded = {place for place, factor in enumerate(factors) if factor.parts}
        if not graded or not all(factor.known for factor in factors):
            return None
        named = {p: f.dependence for p, f in enumerate(factors) if f.dependence is not None}
        if not named:
            several = sum(
                stage.qualities[self.problem.given_index(place, classes)][classes[place]]
                is not None
                for place, stage in enumerate(self.stages)
            )
            return "composed as if the steps' errors were independent" if several > 1 else None
        together = set(named) | {self.stages[place].partner for place in named}
        rest = ", the other steps as if independent" if graded - together else ""
        return f"composed with error_dependence {', '.join(named.values())}{rest}"

    def cost(self, assignment: Assignment) -> tuple[Cost, dict[str, StageCost]]:
        """The plan's cost with intervals, and every step's by key."""
        return plan_cost(
            self.problem,
            self.stages,
            self.devices,
            assignment,
            self.rows,
            self.measured.get(self.problem.classes(assignment)),
            self._parts,
        )


def build_problem(
    plan: LogicalNode,
    *,
    slo: Slo,
    stats: StatsProvider,
    models: Mapping[str, Model],
    variants: Mapping[str, Sequence[Variant]],
    devices: Sequence[Device],
    rows: Estimate | None = None,
    unavailable: Mapping[str, str] | None = None,
    allow: Allow | None = None,
    steady: bool = False,
) -> PlanProblem:
    """Tabulate every choice of every step of a plan.

    Args:
        plan: after the rewrite rules.
        slo: limits and objective; they decide which numbers are needed.
        stats: the statistics.
        models: by name.
        variants: by model name.
        devices: all declared ones.
        rows: source rows of the query, for totals.
        unavailable: variant full name → why it cannot run (its backend is missing).
        allow: rules choices out (advice).
        steady: leave out what ever failed while it was measured (one failure ends the query).

    Raises:
        PlanError: a step has no choice left, or the SLO asks for what cannot be planned.
    """
    infos = steps(plan)
    needs = needs_of(slo, rows)
    model = CostModel(stats, {d.name: d for d in devices}, _by_name(variants))
    gather = Gather(model, needs, slo, unavailable or {}, allow, steady=steady)
    calls = [
        gather.options(info, variants.get(info.model, ()), devices, models[info.model].confidence)
        for info in infos
    ]
    for info, found in zip(infos, calls, strict=True):
        if not found:
            raise nothing_left(info, gather)
    infos = conditioned(infos, answers_of(infos, variants))
    notes: list[str] = list(gather.notes)
    stages = tabulate(infos, calls, stats, models, devices, needs, rows, notes)
    kept = gather.limited(stages, models, None if rows is None else rows.value)
    if kept is not None:
        for info, found in zip(infos, kept, strict=True):
            if not found:
                raise nothing_left(info, gather)
        notes = list(gather.notes)
        stages = tabulate(infos, kept, stats, models, devices, needs, rows, notes)
    measured = _end_to_end(stages, stats)
    losses = tuple(
        Measured(classes, -math.log(max(metrics["accuracy"].value, 1e-300)))
        for classes, metrics in measured.items()
        if "accuracy" in metrics
    )
    tables = tuple(stage.table for stage in stages)
    problem = Problem(
        tables,
        tuple(device.count for device in devices),
        limits_of(slo, devices, tables),
        goal_of(slo, devices, tables),
        (*needs.levels, *((FIRST,) if needs.wall else ())),
        losses,
        TIES,
    )
    if slo.objective.metric in {"cost", "total_cost"} and costless(tables):
        notes.append(FREE)
    return PlanProblem(
        problem,
        infos,
        stages,
        slo,
        rows,
        tuple(gather.excluded),
        tuple(gather.missing),
        tuple(dict.fromkeys(notes)),
        measured,
        tuple(devices),
    )


def answers_of(
    infos: Sequence[StepInfo], variants: Mapping[str, Sequence[Variant]]
) -> dict[str, int]:
    """How many ways to answer are declared for each step: its variants times their knobs.

    Declared, not left over: advice and limits narrow the choices of a step, but not which step's
    choice the rates were measured under.
    """
    return {
        info.key: sum(len(settings_of(variant)) for variant in variants.get(info.model, ()))
        for info in infos
    }


def _by_name(variants: Mapping[str, Sequence[Variant]]) -> dict[str, Variant]:
    return {v.full_name: v for group in variants.values() for v in group}


def _end_to_end(
    stages: Sequence[StagePlan], stats: StatsProvider
) -> dict[Assignment, Mapping[str, Estimate]]:
    """Measurements of whole assignments of the one pipeline (or model) this plan calls."""
    keys = [stage.step.key for stage in stages]
    subjects = {stage.step.context.split(".")[0] for stage in stages}
    if len(subjects) != 1:
        return {}
    order = sorted(range(len(stages)), key=keys.__getitem__)
    labels = [stage.class_texts for stage in stages]
    found: dict[Assignment, Mapping[str, Estimate]] = {}
    for text, metrics in stats.end_to_end(subjects.pop()).items():
        classes = _classes_of(text, keys, labels, order)
        if classes is not None:
            found[classes] = metrics
    return found


def _classes_of(
    text: str, keys: Sequence[str], labels: Sequence[Sequence[str]], order: Sequence[int]
) -> Assignment | None:
    """The classes an assignment text names, if it names exactly this plan's steps.

    Texts may hold `;` inside quotes, so classes are matched one after the other, longest first.
    """
    classes = [0] * len(keys)
    rest = text
    for at, place in enumerate(order):
        key, mine = keys[place], labels[place]
        best = -1
        for cls, label in enumerate(mine):
            head = f"{key}={label}" + (";" if at < len(order) - 1 else "")
            if rest.startswith(head) and (best < 0 or len(label) > len(mine[best])):
                best = cls
        if best < 0:
            return None
        classes[place] = best
        rest = rest[len(f"{key}={mine[best]};") :]
    return tuple(classes) if not rest else None


__all__ = [
    "Allow",
    "Excluded",
    "Missing",
    "PlanProblem",
    "StageTable",
    "analyze_text",
    "build_problem",
    "settings_of",
]
