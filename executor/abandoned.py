"""Calls that were given up and still run: a thread in this process cannot be ended from outside."""

from __future__ import annotations

import threading
from collections import Counter

from ..ir.physical import Choice

MOST_ABANDONED = 4
"""Calls of one variant that may still run after they were given up.

Our choice: each keeps a copy of the model and maybe a core, beside the device's slots. A variant
that merely is slow comes back and hardly has as many; one that hangs has shown by then that it
does. Calls on other slots that are under way when the last one is given up may still follow it.
"""


class Abandoned:
    """Counts them, by variant; shared by all runs of a session, as the threads outlive a run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[tuple[str, int]] = Counter()

    def count(self, choice: Choice) -> int:
        """Calls of the choice's variant that were given up and still run."""
        with self._lock:
            return self._running[_key(choice)]

    def add(self, choice: Choice, calls: int) -> None:
        """One more was given up (1), or one came back (-1)."""
        with self._lock:
            self._running[_key(choice)] += calls


def _key(choice: Choice) -> tuple[str, int]:
    """Another version of a variant may be a mended one."""
    return choice.variant, choice.version
