"""What was measured of a stage as observations: batch latencies, list lengths, distinct inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..ir.physical import Choice, Stage
from .energy import Metered
from .grading import element_counts
from .intervals import Interval, seconds_lost, wilson
from .ladder import Ladder
from .recorder import Recorder
from .runner import Lost

if TYPE_CHECKING:
    import pyarrow as pa


def record_ladder(
    record: Recorder,
    stage: Stage,
    choice: Choice,
    ladder: Ladder,
    metered: Metered,
    failed: int,
) -> None:
    """Latency and energy of every batch size, peak memory, loading.

    Latencies are of the calls that went well: how many elements failed goes with them.
    """
    metered.record(record, stage, choice)
    for point in ladder.points:
        for statistic, interval in point.statistics().items():
            record.add(
                stage.context, "latency", statistic, interval,
                choice=choice, device=choice.device, batch=point.batch, n_failed=failed,
            )  # fmt: skip
    if ladder.memory_bytes is not None:
        value = float(ladder.memory_bytes)
        record.add(
            stage.context, "memory", "peak", Interval(value, value, value, 1),
            choice=choice, device=choice.device,
        )  # fmt: skip
    if ladder.load_seconds is not None:
        value = ladder.load_seconds
        # One loading says nothing about spread: an order of magnitude each way, as of one call.
        record.add(
            stage.context, "load", "mean", Interval(value, value / 10, value * 10, 1),
            choice=choice, device=choice.device,
        )  # fmt: skip


def record_lost(record: Recorder, stage: Stage, choice: Choice, lost: Mapping[int, Lost]) -> None:
    """What failures took at every batch size at which there were some."""
    for batch, seen in sorted(lost.items()):
        if seen.seconds:
            interval = seconds_lost(seen.seconds, seen.failed, seen.elements)
            record.add(
                stage.context, "failure_seconds", "mean", interval,
                choice=choice, device=choice.device, batch=batch, n_failed=seen.failed,
            )  # fmt: skip


def record_lengths(record: Recorder, stage: Stage, table: pa.Table, units: int) -> None:
    """The distribution of EACH lengths over rows of so many independent units."""
    import numpy as np

    lengths, counts = np.unique(element_counts(stage, table), return_counts=True)
    rows, at = table.num_rows, record.now()
    n = min(units, rows)
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        share = count / rows
        record.add(
            stage.context, "length", f"pmf({length})",
            Interval(share, *wilson(share * n, n), n), at=at,
        )  # fmt: skip


def record_distinct(record: Recorder, stage: Stage, table: pa.Table) -> None:
    """Distinct argument rows ÷ rows.

    A larger input repeats more than its sample, so the lower end is the Good–Turing estimate of
    the chance that one more row is new: the share of inputs seen once.
    """
    counts: dict[str, int] = {}
    for row in zip(*(table.column(name).to_pylist() for name in stage.args), strict=True):
        # The text, not the values: lists and structs do not hash.
        text = repr(row)
        counts[text] = counts.get(text, 0) + 1
    if not stage.args:
        return
    rows = table.num_rows
    once = sum(1 for count in counts.values() if count == 1)
    share = len(counts) / rows
    low, high = wilson(len(counts), rows)
    record.add(
        stage.context, "distinct", "share",
        Interval(share, min(low, once / rows), high, rows),
    )  # fmt: skip
