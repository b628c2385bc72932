"""Which choices a step has, and why every other one is left out.

Error codes: OC0310 a step has no choice with statistics; OC0314 a step has no choice left (advice,
constraints on one model, memory).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

from ..cost.compose import stage_level
from ..cost.model import LATENCY_LEVELS, Call, CostModel, Unplannable
from ..errors import PlanError
from ..ir.models import Device, Knobs, Model, Variant, knobs_text
from ..ir.physical import Choice
from ..ir.record import dataclass
from ..ir.slo import Slo
from ..ir.types import identifier
from ..stats.cascades import BOUNDED
from .cascades import cascades
from .explain.numbers import quantity, unit_of
from .objectives import Needs, asked_levels
from .stage_plan import NEVER_SECONDS, StagePlan
from .steps import StepInfo

Allow = Callable[[StepInfo, Choice], str | None]
"""Why a choice is ruled out from outside (advice); None where it is not."""


@dataclass(frozen=True)
class Excluded:
    """A choice (or a whole variant, with batch None) that is not in the problem, and why.

    `code`: `no_statistics`, `memory`, `failures`, `no_quality`, `unavailable`, `advice`, `limit`,
    `no_power`, `no_tokens`, `no_latency`.
    """

    key: str
    variant: str
    knobs: Knobs
    device: str | None
    batch: int | None
    code: str
    reason: str


@dataclass(frozen=True)
class Missing:
    """A variant and knobs never measured anywhere, and the statement that would."""

    key: str
    variant: str
    knobs: Knobs
    statement: str


NAMED = 3
"""Variants, and settings of each, without statistics that are named; the others are counted."""


def missing_notes(
    missing: Iterable[Missing], why: Callable[[Missing], str | None] = lambda one: None
) -> tuple[str, ...]:
    """A line for each step and reason, so that hundreds of variants fill no screen.

    `why` says of one whether it was left out on purpose.
    """
    found: dict[tuple[str, str, str | None], dict[str, dict[str, None]]] = {}
    for one in missing:
        variants = found.setdefault((one.key, one.statement, why(one)), {})
        variants.setdefault(one.variant, {})[knobs_text(one.knobs)] = None
    return tuple(
        _missing_note(key, statement, reason, variants)
        for (key, statement, reason), variants in found.items()
    )


def _missing_note(
    key: str, statement: str, reason: str | None, variants: Mapping[str, Iterable[str]]
) -> str:
    """Which variants have no statistics at a step; a model called by itself names its step."""
    names = [f"{name}{_settings([*settings])}" for name, settings in variants.items()]
    text = ", ".join(names[:NAMED])
    if len(names) > NAMED:
        others = len(names) - NAMED
        text += f" and {others:,} other{'' if others == 1 else 's'}"
    step = "" if all(name.startswith(f"{key}.") for name in variants) else f"{key}: "
    has = "has" if len(names) == 1 else "have"
    done = "" if reason is None else f"{reason}; "
    return f"{step}{text} {has} no statistics: {done}run {statement}"


def _settings(settings: Sequence[str]) -> str:
    """` (a := 1; a := 2; a := 3 and 37 others)`; nothing where there are no knobs."""
    if settings == [""]:
        return ""
    named = "; ".join(settings[:NAMED])
    others = len(settings) - NAMED
    return f" ({named} and {others} others)" if others > 0 else f" ({named})"


def settings_of(variant: Variant) -> tuple[Knobs, ...]:
    """Every combination of a variant's knob values, knobs sorted by name."""
    domains = sorted(variant.knobs, key=lambda domain: domain.name)
    return tuple(
        tuple((domain.name, value) for domain, value in zip(domains, values, strict=True))
        for values in product(*(domain.values for domain in domains))
    )


class Gather:
    """Collects the choices of every step and the reasons of those left out."""

    def __init__(
        self,
        model: CostModel,
        needs: Needs,
        slo: Slo,
        unavailable: Mapping[str, str],
        allow: Allow | None,
        *,
        steady: bool,
    ) -> None:
        self.steady = steady
        self.model = model
        self.needs = needs
        self.slo = slo
        self.unavailable = unavailable
        self.allow = allow
        self.excluded: list[Excluded] = []
        self.missing: list[Missing] = []
        self.notes: list[str] = []

    def options(
        self,
        info: StepInfo,
        variants: Iterable[Variant],
        devices: Sequence[Device],
        confidence: str | None = None,
    ) -> list[tuple[Choice, Call]]:
        """Every plannable choice of a step; cascades where its model has that `confidence`."""
        found: list[tuple[Choice, Call]] = []
        for variant in variants:
            if variant.full_name in self.unavailable:
                reason = self.unavailable[variant.full_name]
                self._exclude(info, variant.full_name, (), None, None, "unavailable", reason)
                continue
            for knobs in settings_of(variant):
                found.extend(self._of_setting(info, variant, knobs, devices))
        if confidence is not None:
            measured = self.model.stats.cascades(info.context, info.model)
            found += list(cascades(measured, found, confidence))
        return [option for option in found if self._allowed(info, option[0])]

    def _allowed(self, info: StepInfo, choice: Choice) -> bool:
        """Is it not ruled out from outside? Members of a cascade may be: it is asked for whole."""
        reason = None if self.allow is None else self.allow(info, choice)
        if reason is None:
            return True
        variant, knobs, device, batch = choice.made[0], choice.knobs, choice.device, choice.batch
        self._exclude(info, variant, knobs, device, batch, "advice", reason)
        return False

    def _of_setting(
        self, info: StepInfo, variant: Variant, knobs: Knobs, devices: Sequence[Device]
    ) -> list[tuple[Choice, Call]]:
        """The choices of one variant and knobs, on all devices."""
        name, text = variant.full_name, knobs_text(knobs)
        found: list[tuple[Choice, Call]] = []
        unmeasured: list[tuple[str, str]] = []
        for device in devices:
            calls = self.model.calls(info.context, name, text, device.name)
            if isinstance(calls, Unplannable):
                if calls.code == "no_statistics":
                    unmeasured.append((device.name, calls.reason))
                else:
                    self._exclude(info, name, knobs, device.name, None, calls.code, calls.reason)
                continue
            for call in calls:
                choice = Choice(name, knobs, call.batch, device.name, version=variant.version)
                code, reason = self._unfit(info, choice, call)
                if code:
                    self._exclude(info, name, knobs, device.name, call.batch, code, reason)
                else:
                    found.append((choice, call))
        for device_name, reason in unmeasured:
            self._exclude(info, name, knobs, device_name, None, "no_statistics", reason)
        if len(unmeasured) == len(devices):
            self.missing.append(Missing(info.key, name, knobs, analyze_text(info)))
        return found

    def _unfit(self, info: StepInfo, choice: Choice, call: Call) -> tuple[str, str]:
        """Why this choice cannot be planned: ('', '') where it can."""
        if call.fails > 0.0:
            share = f"{choice.variant} failed on {call.fails:.2%} of the elements measured"
            if self.steady:
                return "failures", f"{share}, and ON ERROR FAIL stops at the first"
            self.notes.append(f"{info.key}: {share}")
        if call.tokens_usd is None and self.needs.cost:
            return "no_tokens", f"{choice.variant} has a token price but no token counts"
        if call.energy is None and self.needs.energy:
            return "no_power", f"device {call.device.name} declares no POWER"
        if call.device.grid_g_co2_per_kwh is None and self.needs.co2:
            return "no_power", f"device {call.device.name} declares no grid intensity"
        if not call.points and self.needs.latency:
            return "no_latency", f"no latency quantile of {choice.variant} was measured"
        if call.memory is None and self.needs.memory:
            return "memory", f"the memory of {choice.variant} was not measured"
        return "", ""

    def limited(
        self, stages: Sequence[StagePlan], models: Mapping[str, Model], rows: float | None
    ) -> list[list[tuple[Choice, Call]]] | None:
        """Options left by constraints on one model and by unknown quality; None: all.

        `rows` are the source rows of the query, if known.
        """
        changed = False
        kept: list[list[tuple[Choice, Call]]] = []
        for stage in stages:
            mine: list[tuple[Choice, Call]] = []
            for option, (choice, call) in enumerate(zip(stage.choices, stage.calls, strict=True)):
                code, reason = self._over(stages, stage, option, models, rows)
                if code:
                    changed = True
                    self._exclude(
                        stage.step, choice.made[0], choice.knobs, choice.device, choice.batch,
                        code, reason,
                    )  # fmt: skip
                else:
                    mine.append((choice, call))
            kept.append(mine)
        return kept if changed else None

    def _over(
        self,
        stages: Sequence[StagePlan],
        stage: StagePlan,
        option: int,
        models: Mapping[str, Model],
        rows: float | None,
    ) -> tuple[str, str]:
        """Does it miss a constraint on its model alone, lack its quality, or fail too often?"""
        choice, call = stage.choices[option], stage.calls[option]
        graded = models[stage.step.model].quality is not None
        if call.quality is None and self.needs.accuracy and graded:
            return "no_quality", f"the quality of {choice.variant} was not measured"
        for metric in sorted(asked_levels(self.slo)):
            if min(entries[option] for entries in stage.table.rows[metric]) >= NEVER_SECONDS:
                tail = 1.0 - stage_level(LATENCY_LEVELS[metric], len(stages))
                return (
                    "failures",
                    f"{choice.variant} failed on {call.fails:.2%} of the elements measured: "
                    f"{metric} leaves a step {tail:.2%} of the rows, and a row that fails never "
                    "answers",
                )
        for constraint in self.slo.constraints:
            if constraint.model != stage.step.model:
                continue
            if constraint.metric in BOUNDED:
                value = _assured(call, constraint.metric)
            elif constraint.metric in LATENCY_LEVELS:
                level = LATENCY_LEVELS[constraint.metric]
                most = max(flow.elements(rows) for flow in stage.flows)
                value = call.sized(most).service_seconds(stage.lengths, level, 1.0)
            else:
                continue
            limit = constraint.replace(limit=constraint.furthest)
            if value is None or not limit.allows(value):
                unit = unit_of(constraint.metric)
                shown = "unknown" if value is None else quantity(value, unit)
                return (
                    "limit",
                    f"{constraint.metric}({stage.step.model}) would be {shown} at batch "
                    f"{call.batch} on {choice.device}, the limit is "
                    f"{quantity(constraint.limit, unit)}",
                )
        return "", ""

    def _exclude(
        self,
        info: StepInfo,
        variant: str,
        knobs: Knobs,
        device: str | None,
        batch: int | None,
        code: str,
        reason: str,
    ) -> None:
        self.excluded.append(Excluded(info.key, variant, knobs, device, batch, code, reason))


def _assured(call: Call, metric: str) -> float | None:
    """The accuracy, precision or recall that a limit on one model is held against.

    Of a cascade the one-sided bound: the limit picks the threshold, and what was picked by a number
    cannot be judged by it. Of all else the point estimate, as everywhere without AT CONFIDENCE.
    """
    known = call.quality if metric == "accuracy" else getattr(call, metric)
    if call.cascade is not None:
        known = call.cascade.bounds.get(metric)
    return None if known is None else float(known.value)


def analyze_text(info: StepInfo) -> str:
    """The ANALYZE that measures a step."""
    if "." in info.context:
        pipeline, _, _ = info.context.partition(".")
        return f"ANALYZE PIPELINE {identifier(pipeline)} USING (…)"
    return f"ANALYZE MODEL {identifier(info.model)} USING (…)"


def nothing_left(info: StepInfo, gather: Gather) -> PlanError:
    """Why a step has no choice."""
    mine = [e for e in gather.excluded if e.key == info.key]
    if not mine or all(e.code in ("no_statistics", "unavailable") for e in mine):
        notes = missing_notes(m for m in gather.missing if m.key == info.key)
        notes += tuple(f"{e.variant}: {e.reason}" for e in mine if e.code == "unavailable")
        return PlanError(
            f"no statistics for any variant of {info.model}",
            code="OC0310",
            notes=notes,
            hint=f"{analyze_text(info)}, or SET allow_priors = true to plan on declared priors",
        )
    # What is measured and was ruled out says more than what was never measured.
    mine.sort(key=lambda e: e.code != "limit")
    reasons = tuple(dict.fromkeys(f"{e.variant}: {e.reason}" for e in mine))
    ungraded = any(e.code == "no_quality" for e in mine)
    return PlanError(
        f"no choice is left for {info.key}",
        code="OC0314",
        notes=reasons[:12],
        hint=f"{analyze_text(info)} LABELS (…), or declare a BASE variant" if ungraded else None,
    )
