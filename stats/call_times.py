"""What calls of choices took so far, and what further ones would take by that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from ..ir.physical import Choice
from .end_to_end import Made
from .runner import StageRun

Placed = tuple[str, Made, str]
"""A step, how it is made, and the device."""


class CallTimes:
    """Seconds of calls by their size; of each size the last one counts, as first calls warm up.

    Of a choice of which no call went well here, what an element took counts.
    """

    def __init__(self) -> None:
        self._calls: dict[Placed, dict[int, float]] = {}
        self._count: Counter[Placed] = Counter()
        self._each: dict[Placed, float] = {}
        self._rows: dict[Placed, float] = {}

    def add(self, key: str, choice: Choice, run: StageRun) -> None:
        """What a run took; of outputs that were known, what they took when they were computed."""
        at = _placed(key, choice)
        seen = zip(run.batch_sizes, run.batch_seconds, strict=True)
        self._calls.setdefault(at, {}).update(seen)
        if run.elements and not run.batch_sizes:
            self._each[at] = run.busy_seconds / run.elements  # all failed
        self._count[at] += len(run.batch_sizes) + bool(run.recalled)
        if run.recalled:
            self._each[at] = run.recalled_seconds / run.recalled
        rows, elements = run.table.num_rows, run.elements + run.recalled
        if elements and rows:
            seconds = run.busy_seconds + run.recalled_seconds
            self._rows[at] = seconds / rows

    def count(self, key: str, choice: Choice) -> int:
        """Calls seen of it, at any batch size; those that were known count."""
        return self._count[_placed(key, choice)]

    def timed(self, key: str, choice: Choice) -> bool:
        """Was a full call at the choice's batch size seen?"""
        return choice.batch in self._calls.get(_placed(key, choice), {})

    def seconds(self, key: str, choice: Choice, elements: int) -> float | None:
        """Of so many elements at the choice's batch size; None: nothing was seen of it."""
        full, rest = divmod(elements, choice.batch)
        calls = [(choice.batch, full)] if full else []
        calls += [(rest, 1)] if rest else []
        found = [(self._call(_placed(key, choice), size), times) for size, times in calls]
        if any(call is None for call, _ in found):
            return None
        return math.fsum(call * times for call, times in found if call is not None)

    def row_seconds(self) -> Mapping[Placed, float]:
        """Of one row that a step ran on, in the last run of each choice."""
        return self._rows

    def _call(self, at: Placed, size: int) -> float | None:
        """One call; in proportion to the nearest size seen: batching only saves time (our choice).

        So a larger call takes at most that, and of a smaller one the first tells.
        """
        seen = self._calls.get(at)
        if not seen:
            each = self._each.get(at)
            return None if each is None else each * size
        nearest = min(seen, key=lambda other: abs(math.log(other / size)))
        return seen[nearest] * size / nearest


def _placed(key: str, choice: Choice) -> Placed:
    return key, choice.made, choice.device
