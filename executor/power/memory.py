"""Memory that a variant takes on a GPU: loading it, and what its calls add.

Only of devices of KIND cuda; on the CPU the backends measure their loads (`MemoryMeter`). Growth is
counted while one variant alone is on the device: with two at once nobody knows whose it is.

What the driver sees of PyTorch is its pool, which keeps what was freed: a variant loaded after
another was closed would seem to take nothing. So the pool is left out of what the driver tells, and
what was allocated from it is asked of PyTorch. What a process takes once, the CUDA context and what
libraries load into it, is in the number of the variant that was the first to need it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .meters import Meters


@dataclass
class Footprint:
    """Bytes a variant takes on a device; unknown until it was once alone there.

    Attributes:
        held: between calls, by all copies.
        peak: the most at any time.
    """

    held: int = 0
    peak: int | None = None


@dataclass(frozen=True)
class Pool:
    """Bytes of PyTorch's pool on some GPUs: taken from the driver, in use now, in use at most."""

    reserved: int = 0
    allocated: int = 0
    peak: int = 0


class Growth:
    """Watches the memory of devices while variants are on them."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._lock = threading.Lock()
        self._entered: dict[str, int] = {}
        self._inside: dict[str, int] = {}

    @contextmanager
    def watch(self, device: str, footprint: Footprint) -> Iterator[None]:
        """Add to a variant's footprint what is added in the block, where it alone is calling."""
        before = self._meters.memory(device)
        if before is None:
            yield
            return
        with self._lock:
            alone = not self._inside.get(device)
            self._inside[device] = self._inside.get(device, 0) + 1
            number = self._entered[device] = self._entered.get(device, 0) + 1
        gpus = self._meters.gpu_numbers(device)
        pool = _pool(gpus, afresh=alone)
        try:
            yield
        finally:
            after, pool_after = self._meters.memory(device), _pool(gpus)
            with self._lock:
                self._inside[device] -= 1
                alone = alone and self._entered[device] == number
        if alone and after is not None:
            outside = max(0, after.grown(before) - (pool_after.reserved - pool.reserved))
            most = footprint.held + outside + pool_after.peak - pool.allocated
            held = footprint.held + outside + pool_after.allocated - pool.allocated
            footprint.held = max(0, held)  # a copy given up is closed in some later block
            footprint.peak = max(footprint.peak or 0, footprint.held, most)


def _pool(gpus: Sequence[int], *, afresh: bool = False) -> Pool:
    """PyTorch's pool on these GPUs; `afresh` lets its peak begin now. Empty where it has none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return Pool()
    found = Pool()
    for gpu in gpus:
        if afresh:
            torch.cuda.reset_peak_memory_stats(gpu)
        stats = torch.cuda.memory_stats(gpu)
        found = Pool(
            found.reserved + stats.get("reserved_bytes.all.current", 0),
            found.allocated + stats.get("allocated_bytes.all.current", 0),
            found.peak + stats.get("allocated_bytes.all.peak", 0),
        )
    return found
