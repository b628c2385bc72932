"""A pipeline's steps as a `Space`, and what was seen of a plan as an `Evaluation` of it.

Dims are priced by the cost model's own formulas (`cost/compose.py`), from a few calls instead of
statistics: a search compares plans by them, and what it finds is measured again before a plan is
chosen by it. Two things are simpler than in planning: a row's time is the longest way through the
DAG, without waiting for slots, and joint limits of a device are not asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from ...cost import compose as formula
from ...cost.curves import quantile_at
from ...cost.model import LATENCY_LEVELS, Call, CostModel, Unplannable
from ...cost.stages import Taken
from ...errors import PlanError
from ...ir.models import Derivation, Device, Knobs, TokenPrice, knobs_text
from ...ir.physical import Choice
from ...ir.record import dataclass
from ...ir.slo import Constraint, Objective, Slo
from ...stats.lineages import Lineage, lineage, strength
from ...stats.plan_seen import PlanSeen, StageSeen, quantiles
from ...stats.promise import levels, required_margin
from ..stage_plan import NEVER_SECONDS
from ..steps import StepInfo
from .protocol import (
    LOAD,
    LOSS,
    PROFILE,
    SOURCE,
    Assignment,
    Evaluation,
    Ladder,
    Space,
    StageOptions,
)

BATCHES = (1, 4, 16, 64)
"""Batch sizes that a search tells apart (our choice): what it finds gets a whole ladder."""
SUMS = frozenset({"cost", "energy"})
LEAST = 1e-12
"""Dims are positive: a step that no row reaches takes next to nothing."""


def searchable(slo: Slo, held_back: int) -> Slo:
    """The SLO as a search reads it: limits as far as SOFT lets them go, totals as their rates.

    An accuracy AT CONFIDENCE is proved later, on `held_back` independent units: what is looked for
    is one that passes the first test with power 1/2, where so few can prove anything.

    Raises:
        PlanError: OC0311, a metric that no search weighs, or a limit on one model.
    """
    limits = []
    for constraint in slo.constraints:
        _weighed(constraint.metric, constraint.model)
        if constraint.limit <= 0.0:
            raise PlanError(
                f"SEARCH cannot weigh a limit of {constraint.limit:g} on {constraint.metric}",
                code="OC0311",
                hint="leave it out, or ask for more than nothing",
            )
        limit = constraint.furthest
        if constraint.metric == "accuracy" and constraint.confidence is not None:
            margin = required_margin(held_back, limit, levels(constraint.confidence, 1))
            limit = limit if math.isinf(margin) else limit + margin
        limits.append(Constraint(constraint.metric, constraint.operator, limit))
    goal = slo.objective.metric.removeprefix("total_")
    _weighed(goal, None)
    return Slo(tuple(limits), Objective(goal, slo.objective.maximize))


def _weighed(metric: str, model: str | None) -> None:
    if model is not None:
        raise PlanError(
            f"SEARCH weighs whole plans, not {metric}({model}) of one model",
            code="OC0311",
            hint="ANALYZE without SEARCH measures every choice of every model",
        )
    if metric not in {"accuracy", *SUMS, *LATENCY_LEVELS}:
        known = ", ".join(sorted({"accuracy", *SUMS, *LATENCY_LEVELS}))
        raise PlanError(
            f"SEARCH cannot weigh {metric}",
            code="OC0311",
            hint=f"it weighs {known}; ANALYZE without SEARCH measures every choice",
        )


@dataclass(frozen=True)
class Pricing:
    """What turns seconds and tokens into dims: devices by name, token prices by variant."""

    devices: Mapping[str, Device]
    tokens: Mapping[str, TokenPrice]

    def joules_known(self) -> bool:
        """Does every device say what it draws?"""
        return all(device.power_watts is not None for device in self.devices.values())


def space_of(
    infos: Sequence[StepInfo],
    choices: Mapping[str, Sequence[Choice]],
    slo: Slo,
    pricing: Pricing,
    elements: int,
    costs: CostModel,
    without: Collection[tuple[str, Choice]] = (),
    derivations: Mapping[str, Derivation] | None = None,
    audited: Collection[str] = (),
) -> Space:
    """All plans: every choice of every step at every batch size of `BATCHES` up to `elements`.

    Args:
        infos: the steps, in topological order.
        choices: by step key, batch size 1.
        slo: as `searchable` gives it; its metrics are the dims.
        pricing: of devices and tokens.
        elements: the largest batch, as a rule the rows of the sample.
        costs: what the catalog already knows, of this pipeline's steps or of their models.
        without: step keys and choices (with batch sizes) that are left out.
        derivations: of variants that are taken to answer no better than milder ones of their
            lineage, by full name.
        audited: variants of which this is not concluded.

    Raises:
        PlanError: OC0311, energy is asked for and a device declares no POWER.
    """
    asked = {slo.objective.metric, *(constraint.metric for constraint in slo.constraints)}
    if "energy" in asked and not pricing.joules_known():
        raise PlanError(
            "SEARCH reckons energy from POWER, which not every device declares",
            code="OC0311",
            hint="CREATE OR REPLACE DEVICE … (…, POWER … W)",
        )
    place = {info.key: at for at, info in enumerate(infos)}
    batches = [batch for batch in BATCHES if batch <= max(elements, 1)]
    sums = tuple(sorted(asked & SUMS))
    paths = tuple(sorted(asked & set(LATENCY_LEVELS)))
    stages = []
    for info in infos:
        sized = (choice.replace(batch=b) for choice in choices[info.key] for b in batches)
        options = tuple(choice for choice in sized if (info.key, choice) not in without)
        parents = tuple(sorted(place[key] for key in info.predecessors)) or (SOURCE,)
        known = _known(info, options, costs, (*sums, *paths), len(infos))
        stages.append(StageOptions(info.key, options, parents, known, _steady(info)))
    ladders = tuple(
        Ladder(at, LOSS, rungs, frozenset(r for r in rungs if stage.options[r].variant in audited))
        for at, stage in enumerate(stages)
        for rungs in _rungs(stage.options, derivations or {})
    )
    return Space(tuple(stages), sums, paths, tuple(pricing.devices), ladders=ladders)


def _steady(info: StepInfo) -> bool:
    """Does every row take alike of this step?"""
    some = info.when is not None or info.filters or info.limited or info.distinct
    return not some and info.lists is None


def _rungs(
    options: Sequence[Choice], derivations: Mapping[str, Derivation]
) -> Iterator[tuple[int, ...]]:
    """Places of options of one lineage with the same knobs, the base first, then by strength.

    Two of the same strength are told apart by nothing: the first counts.
    """
    first: dict[tuple[str, Knobs], int] = {}
    for at, option in enumerate(options):
        first.setdefault((option.variant, option.knobs), at)
    found: dict[tuple[Lineage, Knobs], dict[float, int]] = {}
    for (variant, knobs), at in first.items():
        derivation = derivations.get(variant)
        far = None if derivation is None else strength(derivation)
        if derivation is not None and far is not None:
            found.setdefault((lineage(derivation), knobs), {}).setdefault(far, at)
    for ((base, _), knobs), by_strength in found.items():
        begin = [first[base, knobs]] if (base, knobs) in first else []
        rungs = (*begin, *(by_strength[far] for far in sorted(by_strength)))
        if len(rungs) > 1:
            yield rungs


def _known(
    info: StepInfo, options: Sequence[Choice], costs: CostModel, dims: Sequence[str], stages: int
) -> dict[str, tuple[float | None, ...]]:
    """By dim, what statistics say of every option at its own batch size; None where nothing."""
    lengths = None if info.lists is None else costs.stats.lengths(info.context)
    rate = None if info.when is None else costs.stats.rate(info.context)
    if (info.lists is not None and lengths is None) or (info.when is not None and rate is None):
        return {}  # measured of the model alone: how much of it a row here takes is not known
    run = 1.0 if rate is None else rate.value
    calls: dict[Choice, Call] = {}
    for one in dict.fromkeys(option.replace(batch=1) for option in options):
        measured = costs.calls(info.context, one.variant, knobs_text(one.knobs), one.device)
        if not isinstance(measured, Unplannable):
            calls |= {one.replace(batch=call.batch): call for call in measured}

    def of(value: Callable[[Call], float | None]) -> tuple[float | None, ...]:
        return tuple(value(calls[o]) if o in calls else None for o in options)

    def loss(call: Call) -> float | None:
        if call.quality is None:
            return None
        right = formula.when_factor(run, formula.each_factor(call.quality.value, lengths))
        return -math.log(max(right, LEAST))

    def service(level: float) -> Callable[[Call], float | None]:
        def seconds(call: Call) -> float | None:
            return call.service_seconds(lengths, level, run) if call.points else None

        return seconds

    found: dict[str, tuple[float | None, ...]] = {
        LOSS: of(loss),
        LOAD: of(lambda call: None if call.load is None else call.load.value),
        PROFILE: of(lambda call: Taken(call, run, lengths).busy),
    }
    for dim in dims:
        if dim == "cost":
            found[dim] = of(lambda call: _or_none(Taken(call, run, lengths).usd))
        elif dim == "energy":
            found[dim] = of(lambda call: _or_none(Taken(call, run, lengths).joules))
        else:
            found[dim] = of(service(formula.stage_level(LATENCY_LEVELS[dim], stages)))
    return {dim: values for dim, values in found.items() if any(v is not None for v in values)}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def evaluation_of(
    space: Space, assignment: Assignment, seen: PlanSeen, pricing: Pricing
) -> Evaluation:
    """What was seen of a plan, in the space's dims."""
    stages = []
    for stage, option in zip(space.stages, assignment, strict=True):
        stages.append(_dims(space, stage.options[option], seen.stages[stage.key], pricing))
    metrics = {dim: math.fsum(values[dim] for values in stages) for dim in space.sums}
    for dim in space.paths:
        done: list[float] = []
        for stage, values in zip(space.stages, stages, strict=True):
            before = max((done[p] for p in stage.parents if p != SOURCE), default=0.0)
            done.append(before + values[dim])
        metrics[dim] = max(done)
    return Evaluation(assignment, seen.scores, tuple(stages), metrics, seen.seconds, seen.usd)


def _dims(space: Space, choice: Choice, seen: StageSeen, pricing: Pricing) -> dict[str, float]:
    """One stage's dims per source row."""
    device = pricing.devices[choice.device]
    elements = formula.mean_length(seen.lengths)
    mean = math.fsum(seen.seconds) / len(seen.seconds) if seen.seconds else 0.0
    busy = formula.per_row(seen.run, elements, choice.batch, lambda size: mean, None)
    found: dict[str, float] = {}
    if "cost" in space.sums:
        price, tokens = pricing.tokens.get(choice.variant), seen.tokens or (0.0, 0.0)
        token = 0.0
        if price is not None:
            token = tokens[0] * price.input_usd + tokens[1] * price.output_usd
        found["cost"] = formula.price_usd(busy, device.usd_per_hour, seen.run, elements, token)
    if "energy" in space.sums:
        found["energy"] = busy * (device.power_watts or 0.0)
    points = quantiles(seen.seconds)
    for dim in space.paths:
        level = formula.stage_level(LATENCY_LEVELS[dim], len(space.stages))
        found[dim] = (
            formula.service_seconds(
                lambda at: quantile_at(points, at),
                choice.batch, seen.lengths, level, seen.run, seen.failed,
            )
            if points
            else 0.0
        )  # fmt: skip
    found = {dim: min(max(value, LEAST), NEVER_SECONDS) for dim, value in found.items()}
    if seen.per_row is not None:
        found[PROFILE] = max(seen.per_row, LEAST)
    if seen.load is not None:
        found[LOAD] = max(seen.load, LEAST)
    return found
