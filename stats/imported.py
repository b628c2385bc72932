"""Numbers measured elsewhere: which rows of an import are no measurement, and why.

Only what the rows say themselves is judged here. Whether they name what is declared, the catalog
knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .newest import SHARES
from .observation import STATISTICS

NEEDS = {
    **dict.fromkeys(("latency", "energy", "failure_seconds"), ("variant", "device", "batch")),
    **dict.fromkeys(("memory", "load", "unload", "failure"), ("variant", "device")),
    **dict.fromkeys(("quality", "tokens_in", "tokens_out"), ("variant",)),
}
"""What a number of a choice is looked up by, beside its subject and knobs."""

SKEW = 60_000_000
"""Microseconds by which the clocks of two machines may differ (our choice: a minute)."""
QUANTILES = ("p50", "p90", "p95", "p99")
ROOM = 1e-9
"""Relative: bounds computed in another order may be a few bits off."""

_VALUE = r"'(?:[^']|'')*'|[^\s,':=]+"
_SETTING = re.compile(rf"\s*([^\s:=,'][^:=,']*?)\s*:=\s*({_VALUE})\s*(?:,|$)")


class Imported(NamedTuple):
    """A row as it was handed in, its time in microseconds; anything may be NULL."""

    subject: str | None
    variant: str | None
    knobs: str | None
    device: str | None
    batch: int | None
    metric: str | None
    statistic: str | None
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int | None
    n_failed: int | None
    source: str | None
    given: str | None
    assignment: str | None
    variant_version: int | None
    run: int | None
    deployment: str | None
    measured_at: int | None


class Refusal(NamedTuple):
    """Why a row (the first is 1) is no measurement; what was `meant` is one of the `known`."""

    row: int
    why: str
    hint: str | None = None
    meant: str = ""
    known: tuple[str, ...] = ()


def settings(knobs: str | None) -> tuple[tuple[str, str], ...] | None:
    """Names and values of `a := 1, b := 'x'`, as written; None where it does not read so."""
    found = []
    text = (knobs or "").strip()
    at = 0
    while at < len(text):
        match = _SETTING.match(text, at)
        if match is None:
            return None
        found.append((match[1], match[2]))
        at = match.end()
    return None if text.endswith(",") else tuple(found)


def refusals(rows: Sequence[Imported], now: int) -> Iterator[Refusal]:
    """What is wrong with rows imported together at a time in microseconds, in their order."""
    quantiles: dict[tuple[object, ...], dict[str, tuple[int, float]]] = {}
    for number, row in enumerate(rows, 1):
        found = _name(number, row) or _range(number, row) or _ahead(number, row, now)
        if found is None and row.metric == "latency" and row.statistic in QUANTILES:
            assert row.value is not None
            key = (
                *(row.subject, row.variant, row.knobs, row.device, row.batch, row.given),
                *(row.assignment, row.run, row.deployment, row.measured_at),
            )
            known = quantiles.setdefault(key, {})
            known[row.statistic] = (number, row.value)
            found = _disordered(number, row.statistic, known)
        if found is not None:
            yield found


def _name(number: int, row: Imported) -> Refusal | None:
    """What is missing or misspelt; a metric that is not ours may be the user's own."""
    for field in ("subject", "metric", "statistic", "value", "n", "source", "measured_at"):
        if getattr(row, field) is None:
            return Refusal(number, f"its {field} is NULL")
    assert row.metric is not None
    assert row.statistic is not None
    if settings(row.knobs) is None:
        return Refusal(number, f"its knobs are {row.knobs}", "knobs are written a := 1, b := 'x'")
    known = STATISTICS.get(row.metric)
    if known is None:
        return None
    if not any(_is(row.statistic, name) for name in known):
        why = f"{row.metric} has no statistic {row.statistic}"
        hint = f"{row.metric} has {', '.join(known)}"
        return Refusal(number, why, hint, row.statistic, known)
    needs = NEEDS.get(row.metric)
    if needs is None:
        return None
    missing = [field for field in needs if not getattr(row, field)]
    if missing:
        return Refusal(
            number,
            f"{row.metric} needs {' and '.join(f'a {field}' for field in missing)}",
            f"it is looked up by subject, knobs, {', '.join(needs)}",
        )
    if row.batch is not None and "batch" not in needs:
        return Refusal(number, f"{row.metric} has no batch", "its batch is NULL")
    return None


def _ahead(number: int, row: Imported, now: int) -> Refusal | None:
    """A number of tomorrow would be newer than all that is measured until then."""
    assert row.measured_at is not None
    if row.measured_at <= now + SKEW:
        return None
    hint = "measured_at is in UTC: timezone('UTC', …) of a time with its zone"
    return Refusal(number, "it is measured in the future", hint)


def _is(statistic: str, name: str) -> bool:
    """Is it of that name, … being any text?"""
    head, any_text, tail = name.partition("…")
    if not any_text:
        return statistic == name
    longer = len(statistic) > len(head) + len(tail)
    return longer and statistic.startswith(head) and statistic.endswith(tail)


def _range(number: int, row: Imported) -> Refusal | None:
    """Values and bounds that cannot be."""
    value, low, high = row.value, row.ci_low, row.ci_high
    assert value is not None
    assert row.n is not None
    share = row.metric in SHARES - {"rate"}  # a rate counts elements where EACH makes several
    room = ROOM * abs(value)
    what = f"{row.metric} = {value:g}"
    why = None
    if not math.isfinite(value) or value < 0:
        why = f"{what} is no measurement: it is finite, and not negative"
    elif share and value > 1:
        why = f"{what} is no share: it lies between 0 and 1"
    elif low is not None and not low <= value + room:
        why = f"{what} lies below its ci_low = {low:g}"
    elif high is not None and not high >= value - room:
        why = f"{what} lies above its ci_high = {high:g}"
    elif low is not None and low < -room and row.metric in STATISTICS:
        why = f"its ci_low = {low:g}, and {row.metric} is never negative"
    elif high is not None and high > 1 + ROOM and share:
        why = f"its ci_high = {high:g}, and {row.metric} is at most 1"
    elif row.n < 0 or (row.n_failed or 0) < 0:
        why = f"n = {row.n}, n_failed = {row.n_failed}: counts are not negative"
    elif row.batch is not None and row.batch < 1:
        why = f"batch = {row.batch}: a call has at least one element"
    elif row.source not in ("measured", "modelled", "prior"):
        why = f"its source is {row.source}"
        return Refusal(number, why, "a source is measured, modelled or prior")
    return None if why is None else Refusal(number, why)


def _disordered(number: int, statistic: str, known: dict[str, tuple[int, float]]) -> Refusal | None:
    """Quantiles of one call rise."""
    place = QUANTILES.index(statistic)
    value = known[statistic][1]
    for other, (row, seconds) in known.items():
        below = QUANTILES.index(other) < place
        least, most = (seconds, value) if below else (value, seconds)
        if least > most * (1.0 + ROOM):
            why = f"its {statistic} = {value:g} is {'below' if below else 'above'} the {other}"
            return Refusal(number, f"{why} = {seconds:g} of row {row}", "quantiles rise")
    return None
