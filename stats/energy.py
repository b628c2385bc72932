"""Energy of a stage over a run, as a counter of the machine charged it, and what one call takes.

Counters are slow: RAPL moves every millisecond, a GPU's every tenth of a second, calls take
microseconds. So energy is counted over windows of many calls and divided by what they computed
(`Energy`, kept as sums whatever the number of windows); a single call is never measured. Nothing is
subtracted: neither what the hardware draws when idle nor, with RAPL, what other processes draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..ir.physical import Choice, Stage
from ..ir.record import dataclass
from .intervals import Interval, t_quantile

if TYPE_CHECKING:
    from .recorder import Recorder

LARGEST_EDGE = 0.5
"""A run whose counter may be off by more than this share says nothing of its energy: the factor of
two that numbers without a known spread are trusted within (our choice)."""

TOP_UP_ROUNDS = 3
"""Further runs made at most so that a slow counter can tell a fast call's energy."""


@dataclass(frozen=True)
class Energy:
    """What a counter charged to one stage.

    Attributes:
        meter: the counter: `rapl`, `nvml` (its energy counter) or `nvml power` (power integrated).
        joules: charged over all windows.
        elements: computed in them; elements of short and of failing calls count too. Of `Metered`:
            those of full calls that take as long.
        calls: batch calls ended in them.
        busy_seconds: model time in them.
        windows: how many.
        edge_joules: how far the joules may be off because the counter moves in steps: its power
            times its step, once for every uninterrupted span, spans added in quadrature.
        resolution_seconds: the counter's step.
        split: some window was shared with another stage's calls, and divided by busy time.
        moments: sums over windows of joules², elements² and joules × elements.
    """

    meter: str
    joules: float
    elements: float
    calls: int
    busy_seconds: float
    windows: int
    edge_joules: float
    resolution_seconds: float
    split: bool
    moments: tuple[float, float, float]

    @property
    def label(self) -> str:
        """The meter, and whether its energy was divided: `rapl`, `nvml, split`."""
        return f"{self.meter}, split" if self.split else self.meter

    @property
    def watts(self) -> float | None:
        """Mean power while busy; None where that is not known well enough."""
        known = self.busy_seconds > 0 and 0 < self.joules * LARGEST_EDGE >= self.edge_joules
        return self.joules / self.busy_seconds if known else None


def pooled(parts: Sequence[Energy]) -> Energy | None:
    """All windows of several runs of one meter; None of none."""
    if not parts:
        return None
    squares, elements, products = zip(*(part.moments for part in parts), strict=True)
    return Energy(
        parts[0].meter,
        math.fsum(part.joules for part in parts),
        sum(part.elements for part in parts),
        sum(part.calls for part in parts),
        math.fsum(part.busy_seconds for part in parts),
        sum(part.windows for part in parts),
        math.hypot(*(part.edge_joules for part in parts)),
        parts[0].resolution_seconds,
        any(part.split for part in parts),
        (math.fsum(squares), math.fsum(elements), math.fsum(products)),
    )


def joules_per_call(energy: Energy, batch: int) -> Interval | None:
    """J of one call of `batch` elements: all joules ÷ all elements × batch; None if unknown.

    The interval is that of a ratio of means over windows [Cochran 1977, Sampling Techniques, 6.4],
    Student's t, the counter's step added in quadrature. One window says nothing of the spread: a
    factor of two, as for other single numbers. n counts calls.
    """
    if energy.watts is None or not energy.elements:
        return None
    ratio = energy.joules / energy.elements
    value, edge = ratio * batch, energy.edge_joules / energy.elements * batch
    windows = energy.windows
    if windows < 2:
        low, high = value / 2, value * 2
    else:
        squares, elements, products = energy.moments
        residual = max(0.0, squares - 2 * ratio * products + ratio * ratio * elements)
        error = math.sqrt(windows / (windows - 1) * residual) / energy.elements * batch
        spread = t_quantile(0.95, windows - 1) * error
        low, high = value - spread, value + spread
    down, up = math.hypot(value - low, edge), math.hypot(high - value, edge)
    return Interval(value, max(0.0, value - down), value + up, max(1, energy.calls))


def energy_statistic(energy: Energy) -> str:
    """The statistic an observation of it has: `mean(rapl)`, `mean(nvml, split)`."""
    return f"mean({energy.label})"


class Metered:
    """The energies of one choice's runs, by batch size."""

    def __init__(self) -> None:
        self._runs: dict[int, list[Energy]] = {}

    def add(self, batch: int, energy: Energy | None, full_seconds: Sequence[float]) -> None:
        """Keep what a run at this batch size was charged; None where nothing was metered.

        `full_seconds` are those of the run's full calls. Short calls draw more an element, so the
        joules are taken to belong to as many full calls as fill the time: power hardly depends on
        how full a call is (our choice).
        """
        if energy is None or not energy.windows or not energy.elements or not full_seconds:
            return
        worth = energy.busy_seconds * len(full_seconds) * batch / math.fsum(full_seconds)
        factor = worth / energy.elements
        squares, elements, products = energy.moments
        moments = (squares, elements * factor * factor, products * factor)
        self._runs.setdefault(batch, []).append(replace(energy, elements=worth, moments=moments))

    def at(self, batch: int) -> Energy | None:
        """All runs at a batch size; the first, which warms up, is left out where there are more."""
        runs = self._runs.get(batch, [])
        return pooled(runs[1:] if len(runs) > 1 else runs)

    def top_up(self, batch: int, seconds: float, run: Callable[[int], object]) -> None:
        """Have `run(calls)` make further calls until the counter can tell their energy.

        Args:
            batch: the size to measure.
            seconds: of one call.
            run: makes so many calls of that size, which come back through `add`.
        """
        for _ in range(TOP_UP_ROUNDS):
            energy = self.at(batch)
            if energy is None or energy.watts is not None or seconds <= 0.0:
                return
            wanted = 2.0 * energy.resolution_seconds / LARGEST_EDGE
            run(math.ceil(wanted / seconds))

    def record(self, record: Recorder, stage: Stage, choice: Choice) -> None:
        """An observation for every batch size whose energy is known."""
        for batch in sorted(self._runs):
            energy = self.at(batch)
            interval = None if energy is None else joules_per_call(energy, batch)
            if energy is not None and interval is not None:
                record.add(
                    stage.context, "energy", energy_statistic(energy), interval,
                    choice=choice, device=choice.device, batch=batch,
                )  # fmt: skip
