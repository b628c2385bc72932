"""Service times of single rows: a sample of source rows, the same rows at every stage.

A row's time at a stage is the model time of the batch that answered it, times ceil(elements / b)
under EACH: waiting for slots, for a batch to fill and for other stages is not in it, as
`latency_p95` is defined. Rows are drawn by a hash of their number, so every stage draws the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .chunks import Rows
from .elements import Elements

SAMPLE_ROWS = 4096
"""Rows kept at most, at least half as many of a large input: its p99 rests on 20 rows."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""Fibonacci hashing [Knuth, TAOCP 3, 6.4]: successive numbers spread evenly over 64 bits."""

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
    """Row numbers and seconds at one stage; every 2^`halvings`-th row, by hash."""

    def __init__(self) -> None:
        self.halvings = 0
        self._rows: list[Rows] = []
        self._seconds: list[Seconds] = []
        self._count = 0

    def drawn(self, rows: Rows) -> Rows:
        """Which of these rows are in the sample, as positions."""
        return np.flatnonzero(_drawn(rows, self.halvings))

    def add(self, rows: Rows, seconds: Seconds) -> None:
        """Keep drawn rows, pairwise; halve the sample when it is full."""
        self._rows.append(rows)
        self._seconds.append(seconds)
        self._count += len(rows)
        while self._count > SAMPLE_ROWS:
            self.halvings += 1
            kept, times = self.of(self.halvings)
            self._rows, self._seconds, self._count = [kept], [times], len(kept)

    @property
    def seconds(self) -> Seconds:
        """Seconds of all rows in the sample."""
        return np.concatenate([np.zeros(0), *self._seconds])

    def of(self, halvings: int) -> tuple[Rows, Seconds]:
        """Rows and seconds after so many halvings, which are at least those made."""
        if not self._rows:
            return np.zeros(0, np.int64), np.zeros(0)
        rows, seconds = np.concatenate(self._rows), np.concatenate(self._seconds)
        kept = _drawn(rows, halvings)
        return rows[kept], seconds[kept]


def _drawn(rows: Rows, halvings: int) -> NDArray[np.bool_]:
    if halvings == 0:
        return np.ones(len(rows), np.bool_)
    hashed = (rows.astype(np.uint64) * _GOLDEN) >> np.uint64(64 - halvings)
    return np.asarray(hashed == 0)


def joint(samples: Sequence[ServiceSample]) -> NDArray[np.float64]:
    """The same rows at successive stages, `rows x stages`, seconds; 0 where a row did not come.

    The rows are those of the first stage.
    """
    halvings = max(sample.halvings for sample in samples)
    rows, first = samples[0].of(halvings)
    found = np.zeros((len(rows), len(samples)))
    found[:, 0] = first
    order = np.argsort(rows)
    for place, sample in enumerate(samples[1:], 1):
        other, seconds = sample.of(halvings)
        at = np.searchsorted(rows, other, sorter=order)
        known = at < len(rows)
        at = order[at[known]]
        same = rows[at] == other[known]
        found[at[same], place] = seconds[known][same]
    return found


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
