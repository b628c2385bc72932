"""RAPL: the energy of the machine's processor packages, from Linux's powercap files.

Only the domains named `package-N` count: core, uncore and DRAM domains lie inside a package's
directory, `psys` contains packages, and `intel-rapl-mmio` shows the same packages again. Memory
outside the package is not in it. AMD's processors appear under the same names.
[Linux, Documentation/power/powercap/powercap.rst]
"""

from __future__ import annotations

import threading
from pathlib import Path

from .counter import Unreadable

POWERCAP = Path("/sys/class/powercap")

RESOLUTION_SECONDS = 1e-3
"""How often the counter moves [Khan et al. 2018, "RAPL in Action", ACM TOMPECS 3(2)]."""

TICK_SECONDS = 10.0
"""How often it is read in any case: it wraps after a minute at the earliest (64 kJ at 1 kW)."""


class RaplCounter:
    """The sum of all packages, in J; wraps are counted as long as there is one a tick at most."""

    name = "rapl"
    resolution_seconds = RESOLUTION_SECONDS

    def __init__(self, domains: list[Path]) -> None:
        """Read every domain once.

        Raises:
            Unreadable: one of them cannot be read.
        """
        self._domains = domains
        self._ranges = [_microjoules(domain / "max_energy_range_uj") for domain in domains]
        self._last = [_microjoules(domain / "energy_uj") for domain in domains]
        self._total = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="octans-rapl", daemon=True)
        self._ticker.start()

    def joules(self) -> float:
        """Since construction."""
        with self._lock:
            for place, domain in enumerate(self._domains):
                now = _microjoules(domain / "energy_uj")
                moved = now - self._last[place]
                self._total += moved if moved >= 0 else moved + self._ranges[place]
                self._last[place] = now
            return self._total / 1e6

    def close(self) -> None:
        """End the ticker."""
        self._closed.set()

    def _tick(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            try:
                self.joules()
            except Unreadable:
                return  # whoever reads next is told


def open_rapl(root: Path | None = None) -> RaplCounter | None:
    """The counter of this machine's packages; None where there is none to read."""
    root = POWERCAP if root is None else root
    try:
        found = [
            domain
            for domain in sorted(root.glob("intel-rapl:*"))
            if domain.name.count(":") == 1
            and (domain / "name").read_text().strip().startswith("package")
        ]
        return RaplCounter(found) if found else None
    except (OSError, Unreadable):
        return None


def _microjoules(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
