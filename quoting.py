"""What finding a plan would take, said before anything runs: for pipelines without statistics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .analyzing import SEARCH_ROWS, choices
from .cost.compose import mean_length
from .cost.model import CostModel, Unplannable
from .drawing import HELD_BACK_SHARE
from .dsl import ast
from .dsl.binder import bind_analyze
from .dsl.printer import to_text
from .ir.estimates import Estimate
from .ir.models import knobs_text
from .ir.physical import Choice
from .ir.record import dataclass
from .ir.slo import Slo
from .knowing import statistics
from .planner.explain.numbers import quantity
from .planner.rewrite import pruned
from .planner.search.protocol import PROFILE
from .planner.search.similarity.structure import signature_of
from .planner.search.space import Pricing, space_of
from .planner.steps import StepInfo, steps
from .stats.sampling import DEFAULT_SAMPLE

if TYPE_CHECKING:
    from .session import Session
    from .stats.histories import History

SEARCHED = round(DEFAULT_SAMPLE * (1.0 - HELD_BACK_SHARE))
"""Rows searched where SAMPLE is silent."""
PLANS = (0.5, 2.0, 8.0)
"""What a search takes, in profilings of a typical plan afresh on all rows: low, middle, high."""


@dataclass(frozen=True)
class Price:
    """What one row takes at one choice (USD: slots alone), and loading it; seconds and USD."""

    seconds: Estimate
    usd_per_second: float
    load: float


@dataclass(frozen=True)
class Quote:
    """Low, middle and high of model seconds and USD; `unknown` choices are priced like the others.

    Attributes:
        plans: how many there are.
        seconds: None where no choice of some step has a price.
        usd: slots alone, tokens left out.
        sources: how many choices each source priced.
        unknown: by full name of a variant, how many of its choices nothing is known of.
    """

    plans: int
    seconds: tuple[float, ...] | None
    usd: tuple[float, ...] | None
    sources: Mapping[str, int]
    unknown: Mapping[str, int]

    def lines(self, bound: float | None) -> tuple[str, ...]:
        """To be read; `bound` is `max_profiling_cost` in USD."""
        cap = (
            "SET max_profiling_cost = … USD bounds it"
            if bound is None
            else f"max_profiling_cost bounds it at {bound:g} USD"
        )
        if self.seconds is None or self.usd is None:
            names = ", ".join([*self.unknown][:6]) + (", …" if len(self.unknown) > 6 else "")
            return (
                f"what finding one of {self.plans:,} plans would take is unknown: nothing says how "
                f"long {names} take (declare PRIOR (latency …)); {cap}",
            )
        known = ", ".join(f"{count} {source}" for source, count in self.sources.items())
        if self.unknown:
            known += f"; {sum(self.unknown.values())} more taken to be like these"
        return (
            f"finding one of {self.plans:,} plans by ANALYZE … SEARCH would take some "
            f"{_range(self.seconds, 's')} of models and {_range(self.usd, 'USD')} (modelled, "
            f"choices priced: {known}; tokens left out); {cap}",
        )


def _range(values: Sequence[float], unit: str) -> str:
    low, middle, high = values
    return f"{quantity(middle, unit)} [{quantity(low, unit)}, {quantity(high, unit)}]"


def quoted(session: Session, infos: Sequence[StepInfo], rows: int = SEARCHED) -> tuple[str, ...]:
    """What finding a plan for these steps would take, to be read; see `quote`."""
    return quote(session, infos, rows).lines(session.catalog.settings.max_profiling_cost)


def priced(session: Session, script: Iterable[ast.Statement]) -> list[tuple[str, tuple[str, ...]]]:
    """For every ANALYZE its text and what can be said of its price before it runs.

    Raises:
        BindError: the statement does not bind.
        PlanError: OC0331, a model has no variant.
    """
    found = (statement for statement in script if isinstance(statement, ast.Analyze))
    return [(to_text(statement), _priced(session, statement)) for statement in found]


def _priced(session: Session, statement: ast.Analyze) -> tuple[str, ...]:
    """What it would take, where it searches, and what bounds it."""
    bound = bind_analyze(statement, session.catalog)
    sample = DEFAULT_SAMPLE if bound.sample is None else bound.sample
    if bound.search:
        rows = max(1, round(sample * (1.0 - HELD_BACK_SHARE)))
        found = quoted(session, steps(pruned(bound.body(SEARCH_ROWS))), rows)
    else:
        found = ("what measuring every choice would take is not estimated",)
    bounds = [f"{bound.budget_seconds:g} s"] if bound.budget_seconds is not None else []
    bounds += [f"{bound.budget_usd:g} USD"] if bound.budget_usd is not None else []
    return (*found, f"its BUDGET ends it after {' or '.join(bounds)}") if bounds else found


def quote(session: Session, infos: Sequence[StepInfo], rows: int = SEARCHED) -> Quote:
    """What finding a plan for these steps would take.

    A row's seconds at a step are the mean over its choices: measured, declared as PRIOR (trusted
    within a factor of ten), or seen by searches of other pipelines (likewise: other rows). `rows`
    are searched, and a search takes `PLANS` times what a plan does. Loading every choice once is
    the high end, loading one of each step the low one.

    Raises:
        PlanError: OC0331, a model has no variant.
    """
    devices = {device.name: device for device in session.devices()}
    variants = {variant.full_name: variant for variant in session.catalog.variants()}
    costs = CostModel(statistics(session, priors=True), devices, variants)
    options = {info.key: choices(info.model, session) for info in infos}
    space = space_of(infos, options, Slo(), Pricing(devices, {}), rows, costs)
    seen = _seen(session.catalog.histories.similar(signature_of(space)))
    sources: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    prices: list[list[Price]] = []
    for info in infos:
        found = []
        for choice in options[info.key]:
            seconds = _measured(info, choice, costs) or seen.get(_definition(choice))
            if seconds is None:
                unknown[choice.variant] += 1
                continue
            sources[seconds.source] += 1
            load = costs.stats.load(
                info.context, choice.variant, knobs_text(choice.knobs), choice.device
            )
            rate = devices[choice.device].usd_per_hour / 3600.0
            found.append(Price(seconds, rate, 0.0 if load is None else load.value))
        prices.append(found)
    if not all(prices):
        return Quote(space.size, None, None, sources, unknown)
    seconds3 = tuple(_total(prices, rows, at, usd=False) for at in range(3))
    usd3 = tuple(_total(prices, rows, at, usd=True) for at in range(3))
    return Quote(space.size, seconds3, usd3, sources, unknown)


def _total(steps: Sequence[Sequence[Price]], rows: int, at: int, *, usd: bool) -> float:
    """Low, middle or high (0, 1, 2) of seconds or USD over all steps."""
    found = 0.0
    for prices in steps:
        ends = [(p.seconds.low, p.seconds.value, p.seconds.high)[at] for p in prices]
        paid = [p.usd_per_second if usd else 1.0 for p in prices]
        row = math.fsum(e * r for e, r in zip(ends, paid, strict=True)) / len(prices)
        loads = [p.load * r for p, r in zip(prices, paid, strict=True)]
        all_, one = math.fsum(loads), math.fsum(loads) / len(loads)
        found += PLANS[at] * rows * row + (one, (one + all_) / 2, all_)[at]
    return found


def _measured(info: StepInfo, choice: Choice, costs: CostModel) -> Estimate | None:
    """Seconds of a row at the batch size that takes least; a list of unknown length counts once."""
    calls = costs.calls(info.context, choice.variant, knobs_text(choice.knobs), choice.device)
    if isinstance(calls, Unplannable):
        return None
    best = min(calls, key=lambda call: call.seconds.value / call.batch)
    lengths = None if info.lists is None else costs.stats.lengths(info.context)
    return best.seconds.scaled(mean_length(lengths) / best.batch)


def _definition(choice: Choice) -> tuple[str, int, str]:
    """A variant as it is defined, on a device."""
    return choice.variant, choice.version, choice.device


def _seen(histories: Sequence[History]) -> dict[tuple[str, int, str], Estimate]:
    """By definition and device, what a row took in searches of other pipelines, latest first."""
    found: dict[tuple[str, int, str], Estimate] = {}
    for history in histories:
        for stage in history.options:
            for option in stage:
                value = option.dims.get(PROFILE)
                if value is not None:
                    at = _definition(option.choice)
                    found.setdefault(at, Estimate(value, value / 10, value * 10, 1, "modelled"))
    return found
