"""A call in its place in a plan: what it costs a source row, and all rows of the query.

The same formulas twice: over floats for the search (`Taken`), and through `propagate` for a chosen
plan (`stage_cost`).

What calls cost depends on how many rows the query has: elements that fill no batch make one call,
which takes what a call of its size takes, whatever batch was chosen. Numbers per source row are
those of the rows expected, taken as they are; totals take the rows' interval too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from ..ir.estimates import Cost, Estimate, weakest
from ..ir.record import dataclass
from ..stats.cascades import CascadeStatistics
from . import compose as formula
from .compose import Lengths, positive, propagate, share
from .curves import BatchCurve
from .model import Call, Flow


@dataclass(frozen=True, slots=True)
class StageCost:
    """A call in its place. `cost` is per source row; `busy` slot-seconds per source row.

    `total_busy` are the slot-seconds of all rows, as `total_cost` and `total_energy` of `cost` are
    of all rows, and `first` the seconds of its first call; None where nobody says how many rows
    there are. `service` is the row's time at the stage
    for each latency metric, at the composed level. A cascade's has the `members`, in their places.
    """

    cost: Cost
    busy: Estimate
    service: Mapping[str, Estimate]
    seconds: Estimate
    load: Estimate | None
    run: Estimate | None
    quality: Estimate | None
    energy_source: str = ""
    precision: Estimate | None = None
    recall: Estimate | None = None
    cascade: CascadeStatistics | None = None
    members: tuple[StageCost, ...] = ()
    total_busy: Estimate | None = None
    first: Estimate | None = None


class Taken:
    """What a source row takes of a call, at the point estimates; NaN where unknown."""

    def __init__(
        self, call: Call, run: float, lengths: Lengths | None, rows: float | None = None
    ) -> None:
        """`run` is the share of source rows that call it; `rows` None: they are endlessly many."""
        self.call, self.run, self.rows = call, run, rows
        self.elements = formula.mean_length(lengths)
        self._runs = (run, *(run * reach.value for reach in call.reach))

    @cached_property
    def busy(self) -> float:
        """Slot-seconds."""
        return self._sum(single.times for single in self.call.singles)

    @property
    def usd(self) -> float:
        """USD."""
        hourly, tokens = self.call.device.usd_per_hour, self.call.tokens_usd
        token = math.nan if tokens is None else tokens.value
        return formula.price_usd(self.busy, hourly, self.run, self.elements, token)

    @property
    def joules(self) -> float:
        """J."""
        return self._sum(single.joules for single in self.call.singles)

    @property
    def first(self) -> float:
        """Seconds of the first call, of every member of a cascade: of all rows, not per row."""
        rows = math.inf if self.rows is None else self.rows
        return sum(
            formula.first_call(run, self.elements, single.batch, single.times.value, rows)
            for single, run in zip(self.call.singles, self._runs, strict=True)
        )

    def _sum(self, curves: Iterable[BatchCurve | None]) -> float:
        """Over the single calls, from what one of a size takes."""
        total = 0.0
        for single, run, curve in zip(self.call.singles, self._runs, curves, strict=True):
            if curve is None:
                return math.nan
            total += formula.per_row(run, self.elements, single.batch, curve.value, self.rows)
        return total


Growth = Callable[[float, Callable[[Taken], float]], float]
"""How one of the numbers of `Taken` changes with the rows: its share of what it is at those
expected."""


def growth(call: Call, flow: Flow, rows: float) -> Growth:
    """How what a source row takes changes from what it is at `rows`; 1 of what is 0 or unknown."""
    base = Taken(call, flow.called_share, flow.lengths, rows)

    def part(moved: float, of: Callable[[Taken], float]) -> float:
        if moved == rows or not of(base) > 0.0:
            return 1.0
        return of(Taken(call, flow.called_share, flow.lengths, moved)) / of(base)

    return part


def stage_cost(
    call: Call,
    flow: Flow,
    levels: Mapping[str, float],
    quality: Estimate | None = None,
    rows: Estimate | None = None,
) -> StageCost:
    """A call in its place.

    Args:
        call: the call.
        flow: its place.
        levels: latency metric to the level each stage is taken at.
        quality: overrides the call's own (where it is measured given another step's choice).
        rows: source rows of the query; None: endlessly many.
    """
    device = call.device
    place = _Place(call, flow, None if rows is None else rows.value)
    quality = quality if quality is not None else call.quality
    busy, usd, energy = place.busy(), place.usd(), place.joules()
    intensity = device.grid_g_co2_per_kwh
    service = {
        name: estimate
        for name, level in levels.items()
        if call.points and (estimate := place.made.service(flow, level)) is not None
    }
    run = share(propagate(math.prod, flow.run)) if flow.run else None
    accuracy = None
    if quality is not None:
        accuracy = share(propagate(lambda v: formula.each_factor(v[0], flow.lengths), [quality]))
    total_busy = total_usd = total_energy = None
    if rows is not None:
        grow = growth(call, flow, rows.value)
        total_busy = _total(busy, rows, grow, lambda took: took.busy)
        if usd is not None:
            total_usd = _total(usd, rows, grow, lambda took: took.usd)
        if energy is not None:
            total_energy = _total(energy, rows, grow, lambda took: took.joules)
    return StageCost(
        Cost(
            cost=usd,
            latency_p50=service.get("latency_p50"),
            latency_p95=service.get("latency_p95"),
            latency_p99=service.get("latency_p99"),
            accuracy=accuracy,
            energy=energy,
            co2=None if energy is None or intensity is None else energy.scaled(intensity / 3.6e6),
            memory=call.memory,
            throughput=_inverse(busy),
            total_cost=total_usd,
            total_energy=total_energy,
            rows=run,
        ),
        busy,
        service,
        place.made.seconds,
        call.load,
        run,
        quality,
        place.made.energy_source,
        call.precision,
        call.recall,
        call.cascade,
        tuple(stage_cost(m, at, levels, rows=rows) for m, at in call.parts(flow)),
        total_busy,
        None if rows is None else place.first(rows.value),
    )


class _Place:
    """What a call takes in its place, with intervals.

    What goes in: the shares of rows that call it, the shares of elements that reach a cascade's
    later members, and of each single call what it takes at the size that its elements give it. The
    rest of its batch curve moves with that in proportion (our choice: errors of one choice's
    timings are taken to go together, which is the safe side).
    """

    def __init__(self, call: Call, flow: Flow, rows: float | None) -> None:
        self.call, self.rows = call, rows
        self.made = call.sized(flow.elements(rows))
        self.elements = formula.mean_length(flow.lengths)
        self.called = len(flow.called)
        self.shares = (*flow.called, *call.reach)

    def busy(self) -> Estimate:
        """Slot-seconds."""
        seconds = self._seconds()
        return positive(propagate(self._taken(self._times(), seconds), [*self.shares, *seconds]))

    def first(self, rows: float) -> Estimate:
        """Seconds of its first call."""

        def one(run: float, batch: int, at: Callable[[float], float]) -> float:
            return formula.first_call(run, self.elements, batch, at, rows)

        seconds = self._seconds()
        total = self._taken(self._times(), seconds, one)
        return positive(propagate(total, [*self.shares, *seconds]))

    def joules(self) -> Estimate | None:
        """J; None where one is unknown."""
        curves = [c.joules for c in self.call.singles]
        known = [curve for curve in curves if curve is not None]
        joules = [c.energy for c in self.made.singles if c.energy is not None]
        if len(known) < len(curves):
            return None
        return positive(propagate(self._taken(known, joules), [*self.shares, *joules]))

    def usd(self) -> Estimate | None:
        """USD; None where tokens are unknown."""
        call, tokens = self.call, self.call.tokens_usd
        if tokens is None:
            return None
        seconds = self._seconds()
        parts = [*self.shares, *seconds]
        busy, count = self._taken(self._times(), seconds), len(parts)
        hourly = call.device.usd_per_hour

        def usd(v: Sequence[float]) -> float:
            run = math.prod(v[: self.called])
            token = v[count] if len(v) > count else 0.0
            return formula.price_usd(busy(v), hourly, run, self.elements, token)

        return positive(propagate(usd, [*parts, *([tokens] if tokens.value else [])]))

    def _seconds(self) -> list[Estimate]:
        return [single.seconds for single in self.made.singles]

    def _times(self) -> list[BatchCurve]:
        return [single.times for single in self.call.singles]

    def _per_row(self, run: float, batch: int, one: Callable[[float], float]) -> float:
        return formula.per_row(run, self.elements, batch, one, self.rows)

    def _taken(
        self,
        curves: Sequence[BatchCurve],
        bases: Sequence[Estimate],
        of: Callable[[float, int, Callable[[float], float]], float] | None = None,
    ) -> Callable[[Sequence[float]], float]:
        """What a source row takes, from the shares and what a call takes at each single's size.

        Or `of` of every single's share of rows, its batch size, and what its calls take.
        """
        of = of or self._per_row
        called, first = self.called, len(self.shares)
        singles = self.call.singles

        def total(v: Sequence[float]) -> float:
            run, found = math.prod(v[:called]), 0.0
            reached = (1.0, *v[called:first])
            for single, reach, curve, base, moved in zip(
                singles, reached, curves, bases, v[first:], strict=False
            ):
                one = _scaled(curve, moved / base.value if base.value else 1.0)
                found += of(run * reach, single.batch, one)
            return found

        return total


def _scaled(curve: BatchCurve, factor: float) -> Callable[[float], float]:
    """The curve's values, each times the factor."""
    return lambda size: factor * curve.value(size)


def _total(
    per_row: Estimate, rows: Estimate, grow: Growth, of: Callable[[Taken], float]
) -> Estimate:
    """For all rows, with the ends of both intervals (the safe side)."""
    if rows.low == rows.high:
        return per_row.scaled(rows.value)
    n, source, at = weakest([per_row, rows])
    value = per_row.value * rows.value
    low = per_row.low * rows.low * grow(rows.low, of)
    high = per_row.high * rows.high * grow(rows.high, of)
    return Estimate(value, min(low, value), max(high, value), n, source, at)


def _inverse(busy: Estimate) -> Estimate | None:
    """Rows per second of one slot; None where nothing is ever busy."""
    if busy.value <= 0.0:
        return None
    high = math.inf if busy.low <= 0.0 else 1.0 / busy.low
    return Estimate(1.0 / busy.value, 1.0 / busy.high, high, busy.n, "modelled", busy.at)
