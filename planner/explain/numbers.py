"""Numbers for people: `12.3 ms`, `$0.000021`, `96.2 %`, `[94.8, 97.3]`, `n = 450, 3 min`.

What is unknown prints as `?`, never as 0. Three significant digits (our choice: finer than any
interval a sample of a few hundred rows gives).
"""

from __future__ import annotations

import math
from datetime import datetime

from ...ir.estimates import Estimate
from ...ir.slo import UNITS

UNKNOWN = "?"

_STEPS: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")),
    "B": ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1, " B")),
    "J": ((1e6, " MJ"), (1e3, " kJ"), (1, " J"), (1e-3, " mJ"), (1e-6, " µJ")),
    "g": ((1e3, " kg"), (1, " g"), (1e-3, " mg"), (1e-6, " µg")),
}
"""From the largest: a value is shown in the first unit it reaches."""


def unit_of(metric: str) -> str:
    """The base unit of an SLO metric as a kind for `quantity`; `rows` for a count."""
    if metric == "rows":
        return "rows"
    return UNITS.get(metric, "number") or "share"


def _decimals(value: float, significant: int = 3) -> int:
    """Decimal places that show so many significant digits."""
    if value == 0 or not math.isfinite(value):
        return 0
    _, exponent = f"{value:.{significant - 1}e}".split("e")
    return max(0, significant - 1 - int(exponent))


SMALLEST = 1e-6
"""Below it numbers have an exponent (our choice: `$0.000021` is still read at a glance)."""


def digits(value: float, significant: int = 3, *, like: float | None = None) -> str:
    """So many significant digits, thousands separated, no exponent down to `SMALLEST`.

    `like` lends its decimal places, so that the ends of an interval match its value. Trailing zeros
    go where there are many decimals: `$0.00003`.
    """
    if not math.isfinite(value):
        return "∞" if value > 0 else UNKNOWN
    if value == 0:
        return "0"
    if abs(like or value) < SMALLEST:
        mantissa, exponent = f"{value:.{significant - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    places = _decimals(like or value, significant)
    text = f"{value:,.{min(places, 12)}f}"
    return text.rstrip("0").rstrip(".") if places > 4 else text


def _scale(value: float, unit: str) -> tuple[float, str, str]:
    """Divide by this, put that before, this behind."""
    match unit:
        case "share":
            return 0.01, "", " %"
        case "USD":
            return 1.0, "$", ""
        case "/s":
            return 1.0, "", " /s"
        case "rows" | "number":
            return 1.0, "", ""
    for size, suffix in _STEPS[unit]:
        if abs(value) >= size * 0.9995:
            return size, "", suffix
    size, suffix = _STEPS[unit][-1] if value else (1.0, f" {unit}")
    return size, "", suffix


def _bare(value: float, unit: str, size: float, like: float | None = None) -> str:
    """The number alone, in units of `size`, with the decimal places of `like`."""
    scaled = value / size
    if unit == "share" and math.isfinite(scaled):
        return f"{scaled:.1f}" if scaled < 99.95 or scaled == 100 else f"{scaled:.2f}"
    if unit == "rows" and math.isfinite(scaled):
        return f"{scaled:,.0f}" if scaled >= 100 or scaled == round(scaled) else digits(scaled)
    return digits(scaled, like=None if like is None else like / size)


def quantity(value: float | None, unit: str) -> str:
    """A value with its unit (a base unit, `share`, `rows` or `number`); `?` when unknown."""
    if value is None:
        return UNKNOWN
    size, before, behind = _scale(value, unit)
    return f"{before}{_bare(value, unit, size)}{behind}"


def interval(estimate: Estimate | None, unit: str) -> str:
    """`[low, high]` in the unit the value is shown in; empty when unknown or exact."""
    if estimate is None or estimate.low == estimate.high == estimate.value:
        return ""
    size, _, _ = _scale(estimate.value, unit)
    ends = (_bare(end, unit, size, estimate.value) for end in (estimate.low, estimate.high))
    return f"[{', '.join(ends)}]"


def age(at: datetime | None, now: datetime | None) -> str:
    """How long ago: `3 min`; empty when unknown."""
    if at is None or now is None:
        return ""
    seconds = max(0.0, (now - at).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "now"


def provenance(estimate: Estimate | None, now: datetime | None) -> str:
    """Sample size, age and, unless measured, the source: `n = 450, 3 min, modelled`.

    What was measured elsewhere, with an uncertainty that nobody published, says `n unknown`.
    """
    if estimate is None:
        return ""
    parts = [f"n = {estimate.n:,}"] if estimate.n else []
    if not estimate.n and estimate.source == "measured" and estimate.low < estimate.high:
        parts.append("n unknown")
    if aged := age(estimate.at, now):
        parts.append(aged)
    if estimate.source != "measured":
        parts.append(estimate.source)
    return ", ".join(parts)


def full(estimate: Estimate | None, unit: str, now: datetime | None = None) -> str:
    """Value, interval and provenance on one line; `?` when unknown."""
    if estimate is None:
        return UNKNOWN
    parts = [quantity(estimate.value, unit), interval(estimate, unit), provenance(estimate, now)]
    return " ".join(part for part in parts if part)


def percent(share: float) -> str:
    """A signed change: `+9.5 %`, `−12 %`; in multiples from +900 % on."""
    if not math.isfinite(share):
        return "∞"
    if share >= 9:
        return f"×{digits(1 + share, 2)}"
    return f"{'−' if share < 0 else '+'}{digits(abs(share) * 100, 2)} %"


def times(ratio: float | None) -> str:
    """A q-error: `1.25×`; `?` when unknown."""
    return UNKNOWN if ratio is None else f"{digits(ratio, 3)}×"
