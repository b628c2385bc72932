"""The frontier as an inline SVG: cost against accuracy, or against latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ...ir.estimates import Cost
from ...ir.record import dataclass
from .layout import clean
from .numbers import quantity, unit_of

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 74, 16, 14, 44
"""Pixels: the plot and the margins its labels need."""


@dataclass(frozen=True)
class Point:
    """A plan on the plot; `chosen` is highlighted."""

    label: str
    cost: Cost
    chosen: bool = False


@dataclass(frozen=True)
class _Axis:
    """Maps a metric's values to pixels, logarithmically where they span more than 20-fold."""

    metric: str
    low: float
    high: float
    log: bool
    start: float
    end: float

    def at(self, value: float) -> float:
        """Pixels of a value."""
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(value))
            if self.log
            else (self.low, self.high, value)
        )
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Five values from end to end."""
        if self.log:
            ratio = self.high / self.low
            return [self.low * ratio ** (i / 4) for i in range(5)]
        return [self.low + (self.high - self.low) * i / 4 for i in range(5)]


def _axis(metric: str, values: Sequence[float], start: float, end: float) -> _Axis:
    low, high = min(values), max(values)
    log = low > 0 and high / low > 20
    if not log:
        margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
        low, high = low - margin, high + margin
        if metric == "accuracy":
            high = min(high, 1.0)
        if min(values) >= 0:
            low = max(low, 0.0)
    return _Axis(metric, low, high, log, start, end)


def pareto(points: Sequence[Point], x: str, y: str) -> str:
    """The plot as `<svg>`; '' where fewer than two plans know both metrics.

    Args:
        points: the plans; the chosen one is drawn last, on top.
        x: metric across, e.g. `accuracy`.
        y: metric up, e.g. `cost`.
    """
    known = [
        (point, a.value, b.value)
        for point in sorted(points, key=lambda p: p.chosen)
        if (a := point.cost.metric(x)) is not None
        and (b := point.cost.metric(y)) is not None
        and math.isfinite(a.value)
        and math.isfinite(b.value)
    ]
    if len(known) < 2:
        return ""
    across = _axis(x, [a for _, a, _ in known], LEFT, WIDTH - RIGHT)
    up = _axis(y, [b for _, _, b in known], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y)} over {escape(x)}">'
    ]
    parts += _grid(across, up)
    for point, x_value, y_value in known:
        name = f"{point.label}: {quantity(x_value, unit_of(x))}, {quantity(y_value, unit_of(y))}"
        kind, radius = ("chosen", 7) if point.chosen else ("plan", 4)
        parts.append(
            f'<circle class="{kind}" r="{radius}" '
            f'cx="{across.at(x_value):.1f}" cy="{up.at(y_value):.1f}">'
            f"<title>{escape(clean(name))}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def _grid(across: _Axis, up: _Axis) -> list[str]:
    """Lines, tick labels and axis names."""
    parts = []
    for value in up.ticks():
        y = up.at(value)
        label = escape(quantity(value, unit_of(up.metric)))
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for value in across.ticks():
        x = across.at(value)
        label = escape(quantity(value, unit_of(across.metric)))
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="name" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(across.metric)}</text>"
    )
    parts.append(
        f'<text class="name" transform="translate(12 {HEIGHT / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(up.metric)}</text>'
    )
    return parts
