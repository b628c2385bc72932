"""Memory that a variant takes on a GPU: loading it, and what its calls add.

Only of devices of KIND cuda; on the CPU the backends measure their loads (`MemoryMeter`). Growth is
counted while one variant alone is on the device: with two at once nobody knows whose it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .meters import Meters


@dataclass
class Grown:
    """Bytes that were added on the device; None where that is not known."""

    bytes: int | None = None


class Growth:
    """Watches the memory of devices while variants are on them."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._lock = threading.Lock()
        self._entered: dict[str, int] = {}
        self._inside: dict[str, int] = {}

    @contextmanager
    def watch(self, device: str) -> Iterator[Grown]:
        """Bytes added while in the block, told when it has been left."""
        grown = Grown()
        before = self._meters.memory(device)
        if before is None:
            yield grown
            return
        with self._lock:
            alone = not self._inside.get(device)
            self._inside[device] = self._inside.get(device, 0) + 1
            number = self._entered[device] = self._entered.get(device, 0) + 1
        try:
            yield grown
        finally:
            after = self._meters.memory(device)
            with self._lock:
                self._inside[device] -= 1
                alone = alone and self._entered[device] == number
            if alone and after is not None:
                grown.bytes = after.grown(before)
