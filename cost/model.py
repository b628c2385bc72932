"""`CostModel`: what one call costs under one choice, from measured statistics.

`CostModel.calls` gives a `Call` per measured batch size; `stage_cost` puts a call into its place in
a plan (`Flow`: which share of rows runs it, how many elements) and gives its `StageCost`;
`plan_cost` composes stages into the plan's `Cost`. Formulas are `compose`'s.

Unknown stays None: a call without POWER and without measured energy has none, one with a token
price but no token counts has no cost. Reasons why a call cannot be planned are in `Unplannable`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

from ..ir.estimates import Cost, Estimate
from ..ir.models import Device, Variant
from ..ir.record import dataclass
from ..stats.cascades import CascadeStatistics
from . import compose as formula
from .compose import Lengths, positive, propagate, share
from .curves import LEVELS, BatchCurve, batch_curve, quantile_at
from .provider import StatsProvider

LATENCY_LEVELS = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}
"""The latency metrics and their levels."""


@dataclass(frozen=True)
class Call:
    """One choice at one measured batch size, wherever it stands; estimates per call or element.

    `seconds` is the mean T(b); `quantiles` its measured (level, seconds); `tokens_usd` USD per
    element, None where a price is declared but token counts are unknown; `energy` J of one call,
    `energy_source` the counter that told it, or POWER; `failure` the share of elements that fail;
    `precision` and `recall` of answers that are TRUE or FALSE; `cascade` what is known of the
    members together, of a `CascadeCall`.
    """

    variant: str
    knobs: str
    batch: int
    device: Device
    seconds: Estimate
    quantiles: tuple[tuple[float, Estimate], ...]
    tokens_usd: Estimate | None
    memory: Estimate | None
    load: Estimate | None
    quality: Estimate | None
    energy: Estimate | None = None
    energy_source: str = ""
    failure: Estimate | None = None
    precision: Estimate | None = None
    recall: Estimate | None = None
    cascade: CascadeStatistics | None = None

    @property
    def fails(self) -> float:
        """The share of elements that fail: the point estimate, 0 where none was counted.

        As everywhere without AT CONFIDENCE the point decides: the upper end would rule out every
        choice that was measured on less than some seventy rows, whatever it did on them.
        """
        return 0.0 if self.failure is None else self.failure.value

    @cached_property
    def points(self) -> tuple[tuple[float, float], ...]:
        """`quantiles` as floats."""
        return tuple((level, estimate.value) for level, estimate in self.quantiles)

    def quantile(self, level: float) -> float:
        """Seconds of one call at a level."""
        return quantile_at(self.points, level)

    def service_seconds(self, lengths: Lengths | None, level: float, run: float) -> float:
        """A row's time at this call at a level; see `compose.service_seconds`."""
        return formula.service_seconds(self.quantile, self.batch, lengths, level, run, self.fails)

    def parts(self, flow: Flow) -> tuple[tuple[Call, Flow], ...]:
        """A cascade's members in their places; else nothing."""
        return ()

    def service(self, flow: Flow, level: float) -> Estimate | None:
        """The row's time at this call at `level`, with the quantiles' and the shares' intervals.

        None where more rows fail than the level leaves out. Failures widen the interval where some
        were seen: that none was seen on few rows would make every upper end infinite.
        """
        count = len(flow.run)
        known = [level_ for level_, _ in self.quantiles]
        seen = [self.failure] if self.failure is not None and self.fails > 0.0 else []

        def seconds(v: Sequence[float]) -> float:
            points = list(zip(known, v[count:], strict=False))
            return formula.service_seconds(
                lambda at: quantile_at(points, at),
                self.batch,
                flow.lengths,
                level,
                math.prod(v[:count]),
                v[-1] if seen else 0.0,
            )

        parts = [*flow.run, *(estimate for _, estimate in self.quantiles), *seen]
        if math.isinf(seconds([part.value for part in parts])):
            return None
        return positive(propagate(seconds, parts))


@dataclass(frozen=True, slots=True)
class Unplannable:
    """Why a choice is not planned; `code` is `no_statistics`, `memory` or `failures`."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Flow:
    """A call's place in a plan: the share of source rows that run it and its list lengths.

    `run` are the factors of the share (WHEN rate, selectivities); none is 1. `distinct` is the
    share of inputs that are called at all: it saves slot-seconds, not a row's waiting.
    """

    run: tuple[Estimate, ...] = ()
    lengths: Lengths | None = None
    length_n: int = 0
    distinct: Estimate | None = None

    @property
    def share(self) -> float:
        """The share as a float."""
        return math.prod(part.value for part in self.run)


@dataclass(frozen=True, slots=True)
class StageCost:
    """A call in its place. `cost` is per source row; `busy` slot-seconds per source row.

    `service` is the row's time at the stage for each latency metric, at the composed level;
    `factor` what it multiplies the plan's accuracy by, were it alone. A
    cascade's has the `members`, in their places.
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


class CostModel:
    """Costs of calls from a `StatsProvider` and the declared devices and prices."""

    def __init__(
        self,
        stats: StatsProvider,
        devices: Mapping[str, Device],
        variants: Mapping[str, Variant],
    ) -> None:
        """`variants` by full name, for token prices."""
        self.stats = stats
        self.devices = devices
        self.variants = variants

    def calls(
        self, context: str, variant: str, knobs: str, device: str
    ) -> tuple[Call, ...] | Unplannable:
        """A call per measured batch size, or why there is none."""
        stats, where = self.stats, self.devices[device]
        if (share := stats.failure(context, variant, knobs, device)) and share.value > 0.5:
            return Unplannable(
                "failures", f"{variant} failed on {share.value:.0%} of the elements measured"
            )
        sizes = stats.batches(context, variant, knobs, device)
        means = self._curve(context, variant, knobs, device, sizes, "mean")
        if means is None:
            return Unplannable("no_statistics", f"no latency of {variant} on {device} was measured")
        memory = stats.memory(context, variant, knobs, device)
        if memory is not None and where.memory_bytes and memory.value > where.memory_bytes:
            return Unplannable(
                "memory",
                f"{variant} takes {memory.value:.3g} B, a slot of {device} has "
                f"{where.memory_bytes:.3g} B",
            )
        curves = {
            level: curve
            for statistic, level in LEVELS.items()
            if (curve := self._curve(context, variant, knobs, device, sizes, statistic))
        }
        tokens = self._tokens_usd(context, variant, knobs)
        load = stats.load(context, variant, knobs, device)
        quality = stats.quality(context, variant, knobs)
        energies = self._energies(context, variant, knobs, where, means)
        precision = stats.detection(context, variant, knobs, "precision")
        recall = stats.detection(context, variant, knobs, "recall")
        found = []
        for size, seconds in zip(means.batches, means.seconds, strict=True):
            points = tuple(
                (level, estimate)
                for level, curve in curves.items()
                if (estimate := curve.at(size)) is not None
            )
            found.append(
                Call(
                    variant, knobs, size, where, seconds, points, tokens, memory, load, quality,
                    *energies[size],
                    stats.failure(context, variant, knobs, device, size),
                    precision, recall,
                )
            )  # fmt: skip
        return tuple(found)

    def _energies(
        self, context: str, variant: str, knobs: str, device: Device, means: BatchCurve
    ) -> dict[int, tuple[Estimate | None, str]]:
        """J of one call by batch size, and where it is from.

        A size whose own energy is not known draws the power measured at the nearest size (in
        doublings; of two the larger one, which draws no less) while it is busy; without any, the
        device's POWER. Our choice: power changes far less between sizes than energy does.
        """
        seconds = dict(zip(means.batches, means.seconds, strict=True))
        known = {
            size: energy
            for size in seconds
            if (energy := self.stats.energy(context, variant, knobs, device.name, size))
        }
        found: dict[int, tuple[Estimate | None, str]] = {}
        for size, busy in seconds.items():
            near = min(known, key=lambda b: (abs(math.log(b / size)), -b), default=None)
            if near == size:
                found[size] = known[size]
            elif near is not None and seconds[near].value > 0.0:
                joules, meter = known[near]
                parts = [busy, joules, seconds[near]]
                scaled = positive(propagate(lambda v: v[0] * v[1] / max(v[2], 1e-12), parts))
                found[size] = scaled, f"{meter} at batch {near}".lstrip()
            elif device.power_watts is not None:
                found[size] = _modelled(busy.scaled(device.power_watts)), "POWER"
            else:
                found[size] = None, ""
        return found

    def _curve(
        self,
        context: str,
        variant: str,
        knobs: str,
        device: str,
        sizes: Sequence[int],
        statistic: str,
    ) -> BatchCurve | None:
        """The monotone curve of one statistic of T(b)."""
        points = []
        for size in sizes:
            estimate = self.stats.latency(context, variant, knobs, device, size, statistic)
            if estimate is not None:
                points.append((size, estimate))
        return batch_curve(points)

    def _tokens_usd(self, context: str, variant: str, knobs: str) -> Estimate | None:
        """USD per element for tokens; an exact 0 without a token price."""
        declared = self.variants.get(variant)
        price = declared.price if declared is not None else None
        if price is None:
            return _ZERO
        tokens = self.stats.tokens(context, variant, knobs)
        if tokens is None:
            return None
        usd = price
        return positive(
            propagate(lambda v: v[0] * usd.input_usd + v[1] * usd.output_usd, list(tokens))
        )


_ZERO = Estimate(0.0, 0.0, 0.0, 0)


def run_floats(call: Call, run: float, lengths: Lengths | None) -> tuple[float, float]:
    """(USD or NaN where unknown, slot-seconds) per source row: what the search tabulates."""
    elements = formula.mean_length(lengths)
    busy = formula.busy_seconds(run, elements, call.seconds.value, call.batch)
    token = math.nan if call.tokens_usd is None else call.tokens_usd.value
    return formula.price_usd(busy, call.device.usd_per_hour, run, elements, token), busy


def stage_cost(
    call: Call, flow: Flow, levels: Mapping[str, float], quality: Estimate | None = None
) -> StageCost:
    """A call in its place; `levels` maps latency metrics to the level each stage is taken at.

    `quality` overrides the call's own (where it is measured given another step's choice).
    """
    device, batch = call.device, call.batch
    elements = formula.mean_length(flow.lengths)
    called = flow.run if flow.distinct is None else (*flow.run, flow.distinct)
    count = len(called)
    quality = quality if quality is not None else call.quality

    def busy_of(v: Sequence[float]) -> float:
        return formula.busy_seconds(math.prod(v[:count]), elements, v[count], batch)

    parts = [*called, call.seconds]
    busy = positive(propagate(busy_of, parts))
    cost = None
    if call.tokens_usd is not None:
        paid = [*parts, *([call.tokens_usd] if call.tokens_usd.value else [])]
        cost = positive(
            propagate(
                lambda v: formula.price_usd(
                    busy_of(v),
                    device.usd_per_hour,
                    math.prod(v[:count]),
                    elements,
                    v[count + 1] if len(v) > count + 1 else 0.0,
                ),
                paid,
            )
        )
    energy = co2 = None
    if call.energy is not None:
        energy = positive(
            propagate(
                lambda v: formula.energy_joules(math.prod(v[:count]), elements, v[count], batch),
                [*called, call.energy],
            )
        )
        if device.grid_g_co2_per_kwh is not None:
            co2 = energy.scaled(device.grid_g_co2_per_kwh / 3.6e6)
    service = {
        name: estimate
        for name, level in levels.items()
        if call.points and (estimate := call.service(flow, level)) is not None
    }
    run = share(propagate(math.prod, flow.run)) if flow.run else None
    accuracy = None
    if quality is not None:
        lengths = flow.lengths
        accuracy = share(propagate(lambda v: formula.each_factor(v[0], lengths), [quality]))
    return StageCost(
        Cost(
            cost=cost,
            latency_p50=service.get("latency_p50"),
            latency_p95=service.get("latency_p95"),
            latency_p99=service.get("latency_p99"),
            accuracy=accuracy,
            energy=energy,
            co2=co2,
            memory=call.memory,
            throughput=_inverse(busy),
            rows=run,
        ),
        busy,
        service,
        call.seconds,
        call.load,
        run,
        quality,
        call.energy_source,
        call.precision,
        call.recall,
        call.cascade,
        tuple(stage_cost(member, place, levels) for member, place in call.parts(flow)),
    )


def _modelled(estimate: Estimate) -> Estimate:
    """The same number, marked as computed from a declared constant."""
    source = "prior" if estimate.source == "prior" else "modelled"
    return Estimate(
        estimate.value,
        estimate.low,
        estimate.high,
        estimate.n,
        "prior" if source == "prior" else "modelled",
        estimate.at,
    )


def _inverse(busy: Estimate) -> Estimate | None:
    """Rows per second of one slot; None where nothing is ever busy."""
    if busy.value <= 0.0:
        return None
    high = math.inf if busy.low <= 0.0 else 1.0 / busy.low
    return Estimate(1.0 / busy.value, 1.0 / busy.high, high, busy.n, "modelled", busy.at)
