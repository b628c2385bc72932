"""`CostModel`: what one call costs under one choice, from measured statistics.

`CostModel.calls` gives a `Call` per measured batch size; what it costs in its place in a plan
(`Flow`: which share of rows runs it, how many elements) is said in `stages`. Formulas are
`compose`'s.

Unknown stays None: a call without POWER and without measured energy has none, one with a token
price but no token counts has no cost. Reasons why a call cannot be planned are in `Unplannable`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from ..ir.estimates import Estimate
from ..ir.models import Device, Variant
from ..ir.record import dataclass
from ..stats.cascades import CascadeStatistics
from . import compose as formula
from .compose import Lengths, positive, propagate
from .curves import LEVELS, BatchCurve, batch_curve, quantile_at
from .provider import StatsProvider

LATENCY_LEVELS = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}
"""The latency metrics and their levels."""


@dataclass(frozen=True)
class Call:
    """One choice at one measured batch size, wherever it stands; estimates per call or element.

    `seconds` is the mean T(b), over calls that fail too; `quantiles` the measured (level, seconds)
    of those that go well; `tokens_usd` USD per element, None where a price is declared but token
    counts are unknown; `energy` J of one call, `energy_source` the counter that told it, or POWER;
    `failure` the share of elements that fail;
    `precision` and `recall` of answers that are TRUE or FALSE; `cascade` what is known of the
    members together, of a `CascadeCall`; `smaller` the same choice at smaller measured sizes,
    ascending: what a call takes that fills no batch.
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
    smaller: tuple[Call, ...] = ()

    @property
    def singles(self) -> tuple[Call, ...]:
        """The calls it is made of: itself, or a cascade's members."""
        return (self,)

    @property
    def reach(self) -> tuple[Estimate, ...]:
        """The share of elements that reaches each of them after the first."""
        return ()

    @cached_property
    def times(self) -> BatchCurve:
        """Mean seconds of one call, up to its batch size."""
        ladder = (*self.smaller, self)
        return BatchCurve(tuple(c.batch for c in ladder), tuple(c.seconds for c in ladder))

    @cached_property
    def joules(self) -> BatchCurve | None:
        """J of one call, up to its batch size; None where its own are unknown."""
        known = [(c.batch, c.energy) for c in (*self.smaller, self) if c.energy is not None]
        if self.energy is None:
            return None
        return BatchCurve(tuple(size for size, _ in known), tuple(energy for _, energy in known))

    def sized(self, elements: float) -> Call:
        """The call that so few elements make together; itself where they fill a batch."""
        if elements >= self.batch or not self.smaller:
            return self
        size = max(elements, 1.0)
        ladder = (*self.smaller, self)
        above = next(call for call in ladder if call.batch >= size)
        return replace(
            self,
            seconds=self.times.at(size) or self.seconds,
            quantiles=tuple(
                (level, curve.at(size) or own)
                for (level, own), curve in zip(self.quantiles, self._quantile_curves, strict=True)
            ),
            energy=None if self.joules is None else self.joules.at(size),
            energy_source=above.energy_source,
            smaller=(),
        )

    @cached_property
    def _quantile_curves(self) -> tuple[BatchCurve, ...]:
        """Of each of `quantiles`, up to its batch size."""
        ladder = [(call.batch, dict(call.quantiles)) for call in (*self.smaller, self)]
        found = []
        for level, _ in self.quantiles:
            points = [(size, known[level]) for size, known in ladder if level in known]
            found.append(BatchCurve(tuple(s for s, _ in points), tuple(e for _, e in points)))
        return tuple(found)

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

    @property
    def called(self) -> tuple[Estimate, ...]:
        """The factors of the share that is called at all."""
        return self.run if self.distinct is None else (*self.run, self.distinct)

    @property
    def called_share(self) -> float:
        """The share that is called at all, as a float."""
        return math.prod(part.value for part in self.called)

    def elements(self, rows: float | None) -> float:
        """How many it is called with of so many source rows; endless where nobody says how many.

        An expectation, as selectivities, rates and lengths are.
        """
        if rows is None:
            return math.inf
        return rows * self.called_share * formula.mean_length(self.lengths)


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
        taken = self._all_calls(context, variant, knobs, device, means)
        found: list[Call] = []
        for size, well, seconds in zip(means.batches, means.seconds, taken, strict=True):
            energy, source = energies[size]
            if energy is not None and well.value > 0.0:
                energy = energy.scaled(seconds.value / well.value)
            points = tuple(
                (level, estimate)
                for level, curve in curves.items()
                if (estimate := curve.at(size)) is not None
            )
            found.append(
                Call(
                    variant, knobs, size, where, seconds, points, tokens, memory, load, quality,
                    energy, source,
                    stats.failure(context, variant, knobs, device, size),
                    precision, recall, None, tuple(found),
                )
            )  # fmt: skip
        return tuple(found)

    def _all_calls(
        self, context: str, variant: str, knobs: str, device: str, means: BatchCurve
    ) -> tuple[Estimate, ...]:
        """Mean seconds of a call by batch size, whatever becomes of it.

        (1 - f)·T(b) + b·l: where the share f of elements fails, those l seconds of every element
        went to the calls in which some failed, such as a timeout. Measured at this size or the
        nearest: at larger ones fewer calls fail more elements each. Where that is unknown, calls
        that fail take as long as others. Energy is drawn as in other calls (our choice).
        """
        known = {
            size: lost
            for size in means.batches
            if (lost := self.stats.failure_seconds(context, variant, knobs, device, size))
        }
        if not known:
            return means.seconds
        found = []
        for size, well in zip(means.batches, means.seconds, strict=True):
            near = min(known, key=lambda b: abs(math.log(b / size)))
            fails = self.stats.failure(context, variant, knobs, device, size)
            if fails is None or not fails.value:
                found.append(well)
                continue

            def mean(v: Sequence[float], size: int = size) -> float:
                return (1.0 - v[1]) * v[0] + size * v[2]

            found.append(positive(propagate(mean, [well, fails, known[near]])))
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
