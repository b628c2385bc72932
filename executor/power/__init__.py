"""Counters of the machine's energy and memory, and whom their readings are charged to.

Owns: RAPL, NVML, which declared device they belong to, splitting between calls. Knows nothing of
plans and costs; loads `pynvml` only where a device of KIND cuda is used.
"""

from .counter import EnergyCounter, Unreadable
from .meters import Meters
from .shares import SharedMeter

__all__ = ["EnergyCounter", "Meters", "SharedMeter", "Unreadable"]
