"""Does what ANALYZE measured hold on the rows that executions saw, before any model filtered them?

What an execution observes behind a filter is of the rows that passed it. The audit sample is not,
but it has no labels. So every choice is compared with BASE on both, ANALYZE's rows and the audit
rows: how often it agrees, and how often a WHEN is TRUE. Where the interval of the difference
excludes 0, the statistic has shifted.

A shifted statistic is marked, not moved (our choice): agreement is no accuracy where there are
labels, and what was measured together with it, conditional qualities, joint errors and accuracies
of whole plans, would no longer fit. Only an ANALYZE over such rows measures them all anew. For
choices that ANALYZE stopped early its own rows would have to be run as well, which is what stopping
them saved; they are not compared.

The interval is made of both intervals [Zou & Donner 2008, "Construction of confidence limits about
effect measures: a general approach", Statistics in Medicine 27(10); for two Wilson intervals this
is Newcombe's method 10]. All comparisons of one ANALYZE together raise a false alarm with
probability `LEVEL` at most (Bonferroni). Executions may have seen the very rows that ANALYZE drew:
the two means are then correlated, and their difference varies less than is allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..errors import RunError
from ..ir.physical import Choice
from ..ir.record import dataclass
from ..ir.types import ROW
from .blocks import Block
from .drift import LEVEL
from .end_to_end import Evaluator, made
from .intervals import Interval
from .ladder import Policy
from .lineage import chain
from .measure import Measure
from .meter import Meter
from .prefixes import Recall
from .recorder import Recorder
from .request import Request
from .series import Series

AUDIT_ROWS = 512
"""Audit rows that are run at most (our choice: what one execution leaves; a share of them is known
to within 5 points)."""


class Shift(NamedTuple):
    """A statistic that does not hold on the audit rows; `variant` None: of a rate."""

    subject: str
    metric: str
    variant: str | None
    reason: str


@dataclass(frozen=True)
class _Pair:
    """One statistic on both samples; `choice` None: a rate."""

    subject: str
    choice: Choice | None
    sampled: Series
    audited: Series


def audit(
    sampled: Request,
    audited: Request,
    skipped: frozenset[tuple[str, str, str]],
    meter: Meter,
    prefixes: Recall,
    record: Recorder,
    notes: list[str],
) -> tuple[Shift, ...]:
    """Compare both samples; record what the audit rows say, with `audit` in the statistic.

    Args:
        sampled: what ANALYZE measured; its answers are recalled, as far as they are kept.
        audited: the same over the audit rows.
        skipped: step, variant and knobs of the choices that are not planned any more.
        meter: runs pieces, within what is left of the budget.
        prefixes: recalls.
        record: gets an `agreement` of each choice on both samples, and a `rate` of the audit rows.
        notes: gets why a choice could not be compared.

    Raises:
        Stopped: the budget is used up.
    """
    pairs = list(
        _pairs(_measure(sampled, meter, prefixes), _measure(audited, meter, prefixes),
               sampled, skipped, notes)
    )  # fmt: skip
    level = 1.0 - LEVEL / max(len(pairs), 1)
    shifts = []
    for pair in pairs:
        metric = "rate" if pair.choice is None else "agreement"
        statistic = "share" if pair.choice is None else "mean"
        seen = pair.audited.interval()
        if pair.choice is not None:
            record.add(pair.subject, metric, statistic, pair.sampled.interval(), choice=pair.choice)
        record.add(pair.subject, metric, f"{statistic}(audit)", seen, choice=pair.choice)
        low, high = difference(pair.audited.interval(level), pair.sampled.interval(level))
        if low > 0.0 or high < 0.0:
            shifts.append(_shift(pair, low, high))
    return tuple(shifts)


def difference(one: Interval, other: Interval) -> tuple[float, float]:
    """The interval of one mean minus another, of two independent samples."""
    apart = one.value - other.value
    low = apart - math.hypot(one.value - one.low, other.high - other.value)
    high = apart + math.hypot(one.high - one.value, other.value - other.low)
    return low, high


def _measure(request: Request, meter: Meter, prefixes: Recall) -> Measure:
    """The request's rows as one block, BASE as the truth."""
    found = chain(request.plan)
    rows = meter.scan(found.scan).sort_by(ROW)
    evaluator = Evaluator(found, meter, rows, prefixes=prefixes)
    scratch = Recorder([], meter.now, None, {})
    measure = Measure(meter, scratch, Policy(), rows.num_rows, 1)
    measure.blocks.append(Block(evaluator, range(rows.num_rows), {}, request.clusters))
    return measure


def _pairs(
    sampled: Measure,
    audited: Measure,
    request: Request,
    skipped: frozenset[tuple[str, str, str]],
    notes: list[str],
) -> Iterator[_Pair]:
    """Everything that can be compared and has been seen on both samples."""
    reference = {stage.step: stage.choice for stage in sampled.chain.stages}
    for stage in sampled.chain.stages:
        key = stage.step
        choices = (None,) if stage.when is not None else ()
        for choice in (*choices, *_others(request, key, skipped)):
            try:
                yield from _seen(
                    _rate(sampled, audited, key, reference)
                    if choice is None
                    else _agreement(sampled, audited, request, key, choice, reference)
                )
            except RunError as error:
                sampled.meter.check()
                name = "WHEN" if choice is None else choice.variant
                notes.append(f"audit of {key}: {name}: {error.message}")


def _others(
    request: Request, key: str, skipped: frozenset[tuple[str, str, str]]
) -> Iterator[Choice]:
    """The choices of a step that can be compared with its BASE, each maker once."""
    step = request.steps.get(key)
    stage = next(stage for stage in request.plan.stages if stage.step == key)
    if step is None or step.base is None or step.metric is None:
        return
    if step.metric.output not in stage.produce:
        return
    done = {made(step.base)}
    for choice in request.choices.get(key, ()):
        if made(choice) not in done and (key, *made(choice)) not in skipped:
            done.add(made(choice))
            yield choice


def _rate(sampled: Measure, audited: Measure, key: str, reference: Mapping[str, Choice]) -> _Pair:
    for measure in (sampled, audited):
        measure.rate(key, reference)
    both = [measure.series["rate", key, None] for measure in (sampled, audited)]
    return _Pair(sampled.chain.stage(key).context, None, *both)


def _agreement(
    sampled: Measure,
    audited: Measure,
    request: Request,
    key: str,
    choice: Choice,
    reference: Mapping[str, Choice],
) -> _Pair:
    step = request.steps[key]
    assert step.metric is not None
    both = [
        measure.quality(key, choice, reference, step.metric, step.base)
        for measure in (sampled, audited)
    ]
    return _Pair(sampled.chain.stage(key).context, choice, *both)


def _seen(pair: _Pair) -> Iterator[_Pair]:
    if pair.sampled.scores and pair.audited.scores:
        yield pair


def _shift(pair: _Pair, low: float, high: float) -> Shift:
    before, after = pair.sampled.interval(), pair.audited.interval()
    what = "its WHEN is TRUE" if pair.choice is None else "it agrees with BASE"
    reason = (
        f"shifted: {what} on {after.value:.1%} of {after.n} rows that executions saw, "
        f"on {before.value:.1%} of ANALYZE's {before.n} (difference {low:+.1%} to {high:+.1%})"
    )
    if pair.choice is None:
        return Shift(pair.subject, "rate", None, reason)
    return Shift(pair.subject, "quality", pair.choice.variant, reason)
