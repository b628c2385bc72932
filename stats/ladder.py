"""Batch latencies of one choice: sizes 1, 2, 4, … until a larger batch no longer pays.

Monotone stop (after Boehm et al., pruning by monotonicity): time per element falls with the batch
size and then flattens; where it has not improved by 5 % over two doublings, larger batches only add
latency and memory. The thresholds below are our choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from ..errors import RunError
from ..ir.physical import Choice, Stage
from .intervals import Interval, mean_interval, quantile_interval
from .meter import Unaffordable
from .runner import StageRun

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class Policy:
    """How long a batch size is measured, and how far the sizes go.

    A size is measured by at least `min_calls` calls and `floor_seconds` of model time, at most
    `max_calls`; once `ceiling_seconds` are spent on it, by no more than it has (a large model is
    not repeated for the sake of its second digit), but never by fewer than two.

    `agreement` above 0 lets two calls do where they differ by no more than this share and take
    `steady_seconds` or more, and counts a size's first call where the model is warm: long calls
    vary little, and are what a ladder spends its time on. `limit_seconds` is the latency asked of a
    row: a size whose calls surely miss it ends the ladder, as larger ones take longer. Where a call
    took at most the share `flat` more than one of the size before, the next size is left out: what
    it takes lies between its neighbours.
    """

    min_calls: int = 5
    max_calls: int = 64
    floor_seconds: float = 0.02
    ceiling_seconds: float = 1.0
    max_batch: int = 4096
    min_gain: float = 0.05
    agreement: float = 0.0
    steady_seconds: float = 0.002
    limit_seconds: float | None = None
    flat: float = 0.0


def frugal(policy: Policy, limit_seconds: float | None) -> Policy:
    """The policy with about a third of the calls, a fifth of the elements (numbers: our choice).

    A tenth in two doublings leaves about as much to be gained as the time of two choices must
    differ by to count (`Strategy.cost_zone`).
    """
    return replace(
        policy,
        min_calls=min(3, policy.min_calls),
        floor_seconds=min(0.01, policy.floor_seconds),
        ceiling_seconds=min(0.25, policy.ceiling_seconds),
        min_gain=max(0.1, policy.min_gain),
        agreement=0.25,
        flat=0.15,
        limit_seconds=limit_seconds,
    )


@dataclass(frozen=True)
class Point:
    """Seconds of each full batch call of `batch` elements, warm-up left out."""

    batch: int
    seconds: tuple[float, ...]

    @property
    def per_element(self) -> float:
        """Median seconds per element: robust against a stray slow call."""
        return median(self.seconds) / self.batch

    def statistics(self) -> dict[str, Interval]:
        """mean, p50, p90, p95, p99 of a call, seconds."""
        n = len(self.seconds)
        mean = mean_interval(self.seconds)
        if n == 1:
            # One call says nothing about spread: an order of magnitude each way, our choice.
            mean = Interval(mean.value, mean.value / 10, mean.value * 10, 1)
        found = {"mean": Interval(mean.value, max(mean.low, 0.0), mean.high, n)}
        for percent in (50, 90, 95, 99):
            found[f"p{percent}"] = quantile_interval(self.seconds, percent / 100)
        return found


@dataclass(frozen=True)
class Ladder:
    """What climbing found; `problem` says why it ended early, None where it did not."""

    points: tuple[Point, ...]
    load_seconds: float | None = None
    memory_bytes: int | None = None
    problem: str | None = None

    @property
    def best_batch(self) -> int:
        """The size with the least time per element; 1 where nothing was measured."""
        best = min(self.points, key=lambda point: point.per_element, default=None)
        return best.batch if best is not None else 1

    def with_calls(self, seconds: Sequence[float]) -> Ladder:
        """The same with more calls at the best size, seconds each."""
        best = self.best_batch
        points = tuple(
            Point(p.batch, (*p.seconds, *seconds)) if p.batch == best else p for p in self.points
        )
        return replace(self, points=points)


def climb(
    stage: Stage,
    choice: Choice,
    table: pa.Table,
    elements: np.ndarray,
    run: Callable[[Stage, pa.Table], StageRun],
    policy: Policy,
    most: int | None = None,
) -> Ladder:
    """Measure one choice at doubling batch sizes.

    Args:
        stage: the stage; its own choice is replaced.
        choice: variant, knobs and device; its batch is ignored.
        table: rows that all run (WHEN is TRUE on them).
        elements: `rows` ints, elements of each row (1 without EACH).
        run: runs a stage on a table.
        policy: how long and how far; a size that `run` cannot afford ends it.
        most: the largest batch; None: all elements of the table once.
    """
    available = int(elements.sum()) if most is None else most
    points: list[Point] = []
    load: float | None = None
    memory: int | None = None
    batch = 1
    while batch <= min(available, policy.max_batch):
        sized = stage.replace(choice=choice.replace(batch=batch))
        try:
            runs, seconds = time_size(sized, table, elements, run, policy, warmed=bool(points))
        except RunError as error:
            return Ladder(tuple(points), load, memory, f"batch {batch}: {error.message}")
        except Unaffordable as refused:
            if not points:
                raise
            return Ladder(tuple(points), load, memory, f"batch {batch}: {refused}")
        load = next((r.load_seconds for r in runs if r.load_seconds is not None), None) or load
        memory = max((r.memory_bytes for r in runs if r.memory_bytes is not None), default=memory)
        if not seconds:
            why = first_failure(runs)
            problem = f"batch {batch}: no full batch succeeded" + (f": {why}" if why else "")
            return Ladder(tuple(points), load, memory, problem)
        points.append(Point(batch, tuple(seconds)))
        if _flat(points, policy.min_gain) or _too_slow(points[-1], policy.limit_seconds):
            break
        batch *= 4 if _same(points, policy.flat) else 2
    return Ladder(tuple(points), load, memory)


def _flat(points: Sequence[Point], min_gain: float) -> bool:
    """Has time per element not improved over the last two doublings?"""
    if len(points) < 3:
        return False
    return points[-1].per_element > (1.0 - min_gain) * points[-3].per_element


def _same(points: Sequence[Point], flat: float) -> bool:
    """Do the last two sizes' calls take the same, to within the share `flat`?"""
    if len(points) < 2 or not flat:
        return False
    before, last = points[-2:]
    return median(last.seconds) <= (1.0 + flat) * median(before.seconds)


def _too_slow(point: Point, limit: float | None) -> bool:
    """Does even the fastest of two or more calls miss the limit?"""
    return limit is not None and len(point.seconds) >= 2 and min(point.seconds) > limit


def time_size(
    stage: Stage,
    table: pa.Table,
    elements: np.ndarray,
    run: Callable[[Stage, pa.Table], StageRun],
    policy: Policy,
    *,
    warmed: bool,
) -> tuple[list[StageRun], list[float]]:
    """All runs made at the stage's batch size, and the seconds of its full calls.

    `warmed` says that the model ran before: a first call is then as good as the others.
    """
    batch = stage.choice.batch
    warm_up = run(stage, rows_for(stage, table, elements, batch))
    runs = [warm_up]
    seconds: list[float] = []
    if warm_up.timed_out:
        return runs, seconds  # each further call would wait as long
    once = sum(warm_up.batch_seconds)
    steady = policy.agreement > 0.0 and once >= policy.steady_seconds
    if warmed and (steady or once > policy.ceiling_seconds):
        seconds += full_batches(warm_up, batch)
    wanted = policy.min_calls
    if steady:
        runs.append(run(stage, rows_for(stage, table, elements, max(1, 2 - len(seconds)) * batch)))
        seconds += full_batches(runs[-1], batch)
        if len(seconds) >= 2 and max(seconds) <= (1.0 + policy.agreement) * min(seconds):
            return runs, seconds
    # Two rounds suffice as the first one's times are warm; the third covers a lucky fast first.
    for _ in range(3):
        spent = sum(seconds)
        mean = spent / len(seconds) if seconds else once
        wanted = max(wanted, math.ceil(policy.floor_seconds / max(mean, 1e-9)))
        affordable = max(2, math.floor(policy.ceiling_seconds / max(mean, 1e-9)))
        more = min(wanted, policy.max_calls, affordable) - len(seconds)
        if more <= 0:
            break
        runs.append(run(stage, rows_for(stage, table, elements, more * batch)))
        seconds += full_batches(runs[-1], batch)
    return runs, seconds


def first_failure(runs: Iterable[StageRun]) -> str | None:
    """Why the first row failed that did; None where none did."""
    return next((run.failed[min(run.failed)] for run in runs if run.failed), None)


def full_batches(run: StageRun, batch: int) -> list[float]:
    """Seconds of the calls of exactly `batch` elements."""
    pairs = zip(run.batch_seconds, run.batch_sizes, strict=True)
    return [seconds for seconds, size in pairs if size == batch]


def rows_for(stage: Stage, table: pa.Table, elements: np.ndarray, wanted: int) -> pa.Table:
    """Rows from the top, again from the top if need be, with exactly `wanted` elements.

    The last row's lists are cut short where it has more.
    """
    import numpy as np
    import pyarrow as pa

    total = int(elements.sum())
    rounds, rest = divmod(wanted, total)
    upto = np.cumsum(elements)
    last = int(np.searchsorted(upto, rest)) + 1 if rest else 0
    whole = np.tile(np.arange(len(elements)), rounds)
    rows = table.take(pa.array(np.concatenate([whole, np.arange(last)])))
    if stage.lists is None or not rest or upto[last - 1] == rest:
        return rows
    left = rest - int(upto[last - 1] - elements[last - 1])
    return pa.concat_tables(
        [rows.slice(0, len(rows) - 1), _cut(stage, rows.slice(len(rows) - 1), left)]
    )


def _cut(stage: Stage, row: pa.Table, elements: int) -> pa.Table:
    """A row with the first elements of the lists that the stage reads."""
    import pyarrow.compute as pc

    assert stage.lists is not None
    for name, is_list in zip(stage.args, stage.lists, strict=True):
        if is_list:
            place = row.column_names.index(name)
            column = row.column(name)
            cut = pc.list_slice(column, 0, elements).cast(column.type)
            row = row.set_column(place, row.schema.field(place), cut)
    return row
