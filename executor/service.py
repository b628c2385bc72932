"""Service times of single rows: a sample of source rows, the same rows at every stage.

A row's time at a stage is the model time of the batch that answered it, times ceil(elements / b)
under EACH: waiting for slots, for a batch to fill and for other stages is not in it, as
`latency_p95` is defined. Rows are drawn by their number, so every stage draws the same: those that
a power of three divides, which no batch size of a power of two keeps step with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .chunks import Rows
from .elements import Elements

SAMPLE_ROWS = 6000
"""Rows kept at most, at least a third of it of a large input: its p99 rests on 20 rows."""

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class ServiceTimes:
    """Service times by stage, in plan order, of the stages called `steps`.

    `together` are sampled source rows, `rows x stages`, seconds; None where the stages do not see
    the same rows (equal inputs called once, joins). `alone` are each stage's own rows.
    """

    steps: tuple[str, ...]
    together: NDArray[np.float64] | None
    alone: tuple[Seconds, ...]


class ServiceSample:
    """Row numbers and seconds at one stage, of every `stride`-th source row."""

    def __init__(self) -> None:
        self.stride = 1
        self._rows: list[Rows] = []
        self._seconds: list[Seconds] = []
        self._count = 0

    def drawn(self, rows: Rows) -> Rows:
        """Which of these rows, ascending, are in the sample, as positions."""
        first, last = -(-int(rows[0]) // self.stride), int(rows[-1]) // self.stride
        if last - first >= len(rows):
            return np.asarray(np.flatnonzero(rows % self.stride == 0))
        wanted = np.arange(first, last + 1) * self.stride
        places = np.searchsorted(rows, wanted)
        return np.asarray(places[rows[places] == wanted])

    def add(self, rows: Rows, seconds: Seconds) -> None:
        """Keep drawn rows, pairwise; keep a third of them when they are too many."""
        self._rows.append(rows)
        self._seconds.append(seconds)
        self._count += len(rows)
        while self._count > SAMPLE_ROWS:
            self.stride *= 3
            kept, times = self.of(self.stride)
            self._rows, self._seconds, self._count = [kept], [times], len(kept)

    @property
    def seconds(self) -> Seconds:
        """Seconds of all rows in the sample."""
        return np.concatenate([np.zeros(0), *self._seconds])

    def of(self, stride: int) -> tuple[Rows, Seconds]:
        """Rows and seconds of every `stride`-th source row, a multiple of the sample's own."""
        if not self._rows:
            return np.zeros(0, np.int64), np.zeros(0)
        rows, seconds = np.concatenate(self._rows), np.concatenate(self._seconds)
        kept = rows % stride == 0
        return rows[kept], seconds[kept]


def joint(samples: Sequence[ServiceSample]) -> NDArray[np.float64]:
    """The same rows at successive stages, `rows x stages`, seconds; 0 where a row did not come.

    The rows are those of the first stage.
    """
    stride = max(sample.stride for sample in samples)
    rows, first = samples[0].of(stride)
    found = np.zeros((len(rows), len(samples)))
    found[:, 0] = first
    order = np.argsort(rows)
    for place, sample in enumerate(samples[1:], 1):
        other, seconds = sample.of(stride)
        at = np.searchsorted(rows, other, sorter=order)
        known = at < len(rows)
        at = order[at[known]]
        same = rows[at] == other[known]
        found[at[same], place] = seconds[known][same]
    return found


def by_step(
    samples: Sequence[ServiceSample], steps: Sequence[Sequence[int]], *, same: bool
) -> tuple[NDArray[np.float64] | None, tuple[Seconds, ...]]:
    """`ServiceTimes.together` and `.alone`: of several stages of one step (a cascade's) their sum.

    `steps` are positions among the samples; `same`: all stages see the same rows.
    """
    together = None
    if same:
        times = joint(samples)
        together = np.stack([times[:, list(places)].sum(axis=1) for places in steps], axis=1)
    alone = tuple(
        samples[places[0]].seconds
        if len(places) == 1
        else joint([samples[place] for place in places]).sum(axis=1)
        for places in steps
    )
    return together, alone


def row_seconds(
    elements: Elements,
    positions: Rows,
    answered: Sequence[tuple[int, float]],
    batch: int,
    called: Rows | None,
) -> Seconds:
    """Service seconds of rows at these positions of a chunk.

    `answered` are (elements, seconds) of the batches that answered the chunk, in order; `called`
    the elements that were called, None for all (the others came from the cache, in no time).
    """
    seconds = np.zeros(len(positions))
    places, active = positions, np.ones(len(positions), np.bool_)
    if elements.called is not None:
        places = np.searchsorted(elements.called, positions)
        active = places < len(elements.called)
        active[active] = elements.called[places[active]] == positions[active]
        places = places[active]
    if elements.each:
        ends = np.cumsum(elements.lengths)
        stop = ends[places]
        start = stop - elements.lengths[places]
    else:
        start, stop = places, places + 1
    if called is not None:
        start, stop = np.searchsorted(called, start), np.searchsorted(called, stop)
    calls = -(-(stop - start) // batch)
    some = calls > 0
    if some.any():
        counts, times = zip(*answered, strict=True)
        of_batch = np.searchsorted(np.cumsum(counts), start[some], side="right")
        here = np.zeros(len(start))
        here[some] = calls[some] * np.asarray(times)[of_batch]
        seconds[active] = here
    return seconds
