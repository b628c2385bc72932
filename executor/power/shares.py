"""A counter's energy, charged to the stages whose calls keep its hardware busy.

The counter is read when calls begin and end, but no more often than it can tell apart. Between two
readings lies a window. Of a window's energy the share of time in which at least one call ran is
charged, divided between stages by the seconds their calls ran in it. What the hardware draws when
idle is charged along with the calls; what it draws while none runs is charged to nobody.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ...ir.physical import Stage
from ...stats.energy import Energy
from .counter import EnergyCounter, Unreadable

WINDOW_STEPS = 5.0
"""A window lasts at least so many steps of its counter: 5 ms with RAPL, so that reading it stays
below a hundredth of the time (our choice)."""


@dataclass
class _Share:
    """What a stage's calls did in the open window."""

    seconds: float = 0.0
    elements: int = 0
    calls: int = 0


@dataclass
class _Account:
    """What a stage was charged so far."""

    joules: float = 0.0
    elements: int = 0
    calls: int = 0
    busy_seconds: float = 0.0
    windows: int = 0
    edges: float = 0.0
    split: bool = False
    moments: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def charge(self, joules: float, share: _Share, edge: float, *, split: bool) -> None:
        self.joules += joules
        self.elements += share.elements
        self.calls += share.calls
        self.busy_seconds += share.seconds
        self.windows += 1
        self.edges = math.hypot(self.edges, edge)
        self.split |= split
        self.moments[0] += joules * joules
        self.moments[1] += share.elements * share.elements
        self.moments[2] += joules * share.elements


class SharedMeter:
    """Shared by all threads that call on one piece of hardware."""

    def __init__(
        self, counter: EnergyCounter, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._counter = counter
        self._clock = clock
        self._least = WINDOW_STEPS * counter.resolution_seconds
        self._lock = threading.Lock()
        self._tokens = itertools.count()
        self._running: dict[int, tuple[Stage, float]] = {}
        self._shares: dict[Stage, _Share] = {}
        self._accounts: dict[Stage, _Account] = {}
        self._opened: tuple[float, float] | None = None
        self._fresh = True
        self._busy_from = self._idle_from = self._covered = 0.0

    def begin(self, stage: Stage) -> int:
        """A call of the stage begins; give the number back with `end`."""
        with self._lock:
            now = self._clock()
            if not self._running:
                if now - self._idle_from > self._least:
                    self._opened = None  # idle time would be charged with the calls before it
                if self._opened is None:
                    self._open(now)
                self._busy_from = now
            token = next(self._tokens)
            self._running[token] = stage, now
            return token

    def end(self, token: int, elements: int) -> None:
        """That call is over; it computed so many elements."""
        with self._lock:
            now = self._clock()
            stage, since = self._running.pop(token)
            share = self._shares.setdefault(stage, _Share())
            share.seconds += now - since
            share.elements += elements
            share.calls += 1
            if not self._running:
                self._covered += now - self._busy_from
                self._idle_from = now
            if self._opened is not None and now - self._opened[0] >= self._least:
                self._settle(now)

    def take(self, stage: Stage) -> Energy | None:
        """What the stage was charged since it was last asked; None of nothing."""
        with self._lock:
            if stage in self._shares:
                self._settle(self._clock())
            account = self._accounts.pop(stage, None)
            if account is None:
                return None
            first, second, third = account.moments
            return Energy(
                self._counter.name,
                account.joules,
                account.elements,
                account.calls,
                account.busy_seconds,
                account.windows,
                account.edges,
                self._counter.resolution_seconds,
                account.split,
                (first, second, third),
            )

    def close(self) -> None:
        """Stop the counter."""
        self._counter.close()

    def _open(self, now: float) -> None:
        """Begin a window with a reading; without one what runs is not charged."""
        self._shares.clear()
        self._covered = 0.0
        self._fresh = True
        try:
            self._opened = now, self._counter.joules()
        except Unreadable:
            self._opened = None

    def _settle(self, now: float) -> None:
        """End the window, charge its energy, and begin the next one where it ended."""
        if self._opened is None:
            self._shares.clear()
            return
        try:
            joules = self._counter.joules()
        except Unreadable:
            self._opened = None
            self._shares.clear()
            return
        for token, (stage, since) in self._running.items():
            self._shares.setdefault(stage, _Share()).seconds += now - since
            self._running[token] = stage, now
        if self._running:
            self._covered += now - self._busy_from
            self._busy_from = now
        began, before = self._opened
        self._charge(joules - before, now - began)
        self._opened = now, joules
        self._fresh = False
        self._shares.clear()
        self._covered = 0.0

    def _charge(self, joules: float, seconds: float) -> None:
        busy = math.fsum(share.seconds for share in self._shares.values())
        if seconds <= 0.0 or busy <= 0.0:
            return
        charged = joules * min(1.0, self._covered / seconds)
        split = len(self._shares) > 1
        step = joules / seconds * self._counter.resolution_seconds
        for stage, share in self._shares.items():
            part = share.seconds / busy
            account = self._accounts.setdefault(stage, _Account())
            begins = self._fresh or split or not account.windows
            account.charge(charged * part, share, step * part if begins else 0.0, split=split)
