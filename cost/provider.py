"""`StatsProvider`: what the cost model asks of the statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..ir.estimates import Estimate
from ..stats.cascades import CascadeStatistics
from ..stats.dependence import JointErrors

Given = tuple[str, str, str]
"""Another step's choice that a statistic is conditioned on: (context, variant, knobs text)."""


class StatsProvider(Protocol):
    """Estimates by context (a step's, falling back to its model's), variant and knobs text.

    Everything is None where nothing is known; nothing is ever made up.
    """

    def batches(self, context: str, variant: str, knobs: str, device: str) -> tuple[int, ...]:
        """The batch sizes whose latency was measured, ascending."""
        ...

    def latency(
        self, context: str, variant: str, knobs: str, device: str, batch: int, statistic: str
    ) -> Estimate | None:
        """Seconds of one call of `batch` elements: `mean`, `p50`, `p90`, `p95` or `p99`."""
        ...

    def quality(
        self, context: str, variant: str, knobs: str, given: Given | None = None
    ) -> Estimate | None:
        """Share of right elements where it ran; `given` falls back to the unconditional one."""
        ...

    def detection(self, context: str, variant: str, knobs: str, metric: str) -> Estimate | None:
        """Precision or recall of a choice, which `metric` says."""
        ...

    def row_quality(self, context: str, variant: str, knobs: str) -> Estimate | None:
        """Share of rows it gets right, measured beside joint errors."""
        ...

    def partners(self, context: str) -> tuple[str, ...]:
        """Contexts of the steps whose errors were measured together with this one's."""
        ...

    def joint(self, first: Given, second: Given) -> JointErrors | None:
        """How two choices, of an earlier and a later step, err together."""
        ...

    def cascades(self, context: str, model: str) -> tuple[CascadeStatistics, ...]:
        """The cascades measured of a step, else of its model."""
        ...

    def failure(
        self, context: str, variant: str, knobs: str, device: str, batch: int | None = None
    ) -> Estimate | None:
        """Failed elements ÷ elements, of one batch size where they are told apart."""
        ...

    def failure_seconds(
        self, context: str, variant: str, knobs: str, device: str, batch: int
    ) -> Estimate | None:
        """Seconds of the calls in which elements failed ÷ all elements, at a batch size."""
        ...

    def memory(self, context: str, variant: str, knobs: str, device: str) -> Estimate | None:
        """Bytes of the loaded variant on one slot."""
        ...

    def load(self, context: str, variant: str, knobs: str, device: str) -> Estimate | None:
        """Seconds to load the variant."""
        ...

    def energy(
        self, context: str, variant: str, knobs: str, device: str, batch: int
    ) -> tuple[Estimate, str] | None:
        """J of one call of `batch` elements, and the name of the counter it is from."""
        ...

    def tokens(self, context: str, variant: str, knobs: str) -> tuple[Estimate, Estimate] | None:
        """Input and output tokens per element."""
        ...

    def rate(self, context: str, given: Given | None = None) -> Estimate | None:
        """Share of rows whose WHEN or filter is TRUE; falls back to the unconditional one."""
        ...

    def lengths(self, context: str) -> tuple[tuple[int, float], ...] | None:
        """The probability of every length of the EACH list."""
        ...

    def length_n(self, context: str) -> int:
        """How many independent units the lengths were measured on."""
        ...

    def distinct(self, context: str) -> Estimate | None:
        """Distinct inputs ÷ inputs."""
        ...

    def end_to_end(self, subject: str) -> Mapping[str, Mapping[str, Estimate]]:
        """Assignment text → metric → what was measured of the whole."""
        ...
