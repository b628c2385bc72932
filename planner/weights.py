"""What rewrite rules weigh, from the statistics: the cheapest measured choice stands for a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..cost.provider import StatsProvider
from ..ir.models import Device, Variant, knobs_text
from ..ir.record import dataclass
from .problem import settings_of


@dataclass(frozen=True)
class Weights:
    """`StepStatistics` for rules; None where nothing is known."""

    stats: StatsProvider
    variants: Mapping[str, Sequence[Variant]]
    devices: Sequence[Device]

    def selectivity(self, subject: str) -> float | None:
        """Share of rows a filter keeps."""
        rate = self.stats.rate(subject)
        return None if rate is None else rate.value

    def seconds_per_row(self, context: str, model: str) -> float | None:
        """Slot-seconds of one row at the cheapest choice known."""
        stats, seconds = self.stats, []
        for variant in self.variants.get(model, ()):
            for knobs in map(knobs_text, settings_of(variant)):
                for device in self.devices:
                    at = (context, variant.full_name, knobs, device.name)
                    for batch in stats.batches(*at):
                        took = stats.latency(*at, batch, "mean")
                        if took is not None:
                            seconds.append(took.value / batch)
        if not seconds:
            return None
        lengths, rate = stats.lengths(context), stats.rate(context)
        per_row = sum(k * share for k, share in lengths) if lengths else 1.0
        return min(seconds) * per_row * (1.0 if rate is None else rate.value)

    def distinct(self, context: str) -> float | None:
        """Distinct inputs ÷ inputs."""
        share = self.stats.distinct(context)
        return None if share is None else share.value
