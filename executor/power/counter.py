"""What every energy counter offers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol


class Unreadable(Exception):
    """A counter gives no number any more; the text says why."""


class EnergyCounter(Protocol):
    """Energy drawn by a piece of hardware since some moment.

    Attributes:
        name: `rapl`, `nvml` or `nvml power`.
        resolution_seconds: the step in which the number moves.
    """

    name: str
    resolution_seconds: float

    def joules(self) -> float:
        """The energy so far; only differences mean something.

        Raises:
            Unreadable: the hardware does not answer, or its counter started anew.
        """
        ...

    def close(self) -> None:
        """Stop counting."""
        ...


class Together:
    """Several counters of one kind as one: the GPUs of a device with several slots."""

    def __init__(self, counters: Sequence[EnergyCounter]) -> None:
        self._counters = tuple(counters)
        self.name = self._counters[0].name
        self.resolution_seconds = max(each.resolution_seconds for each in self._counters)

    def joules(self) -> float:
        """Their sum."""
        return sum(each.joules() for each in self._counters)

    def close(self) -> None:
        """Close them all."""
        with ExitStack() as stack:
            for each in self._counters:
                stack.callback(each.close)
