"""Which counter belongs to which declared device.

A device of KIND cpu is this machine's processors: RAPL, all packages, shared by all such devices.
Devices of KIND cuda take this process's GPUs in the order they are declared in, each as many as it
has slots; one for which none is left has no counter, and its energy is modelled.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...ir.models import Device
from .rapl import open_rapl
from .shares import SharedMeter

if TYPE_CHECKING:
    from .nvml import MemoryReading, Nvml


class Meters:
    """This machine's counters, opened when a stage first runs on what they count."""

    def __init__(self, devices: Mapping[str, Device]) -> None:
        self._devices = devices
        self._lock = threading.Lock()
        self._opened: dict[str, SharedMeter | None] = {}
        self._nvml: Nvml | None = None
        self._nvml_tried = False

    def of(self, device: str) -> SharedMeter | None:
        """The meter of a device; None where nothing counts its energy."""
        if device not in self._devices:
            return None
        kind = self._devices[device].kind
        key = "cpu" if kind == "cpu" else device
        with self._lock:
            if key not in self._opened:
                self._opened[key] = self._open(device, kind)
            return self._opened[key]

    def memory(self, device: str) -> MemoryReading | None:
        """Bytes taken on a device of KIND cuda; None elsewhere, and where nobody tells."""
        with self._lock:
            gpus = self._gpus(device)
            return self._nvml.memory(gpus) if self._nvml is not None and gpus else None

    def gpu_numbers(self, device: str) -> range:
        """The numbers, as CUDA counts them here, of the GPUs of a device of KIND cuda."""
        with self._lock:
            first = self._first_gpu(device)
            return range(first, first + len(self._gpus(device)))

    def close(self) -> None:
        """Stop all counters."""
        with self._lock:
            for meter in self._opened.values():
                if meter is not None:
                    meter.close()
            self._opened.clear()
            if self._nvml is not None:
                self._nvml.close()
            self._nvml, self._nvml_tried = None, False

    def _open(self, device: str, kind: str) -> SharedMeter | None:
        if kind == "cpu":
            counter = open_rapl()
            return None if counter is None else SharedMeter(counter)
        gpus = self._gpus(device)
        energy = self._nvml.counter(gpus) if self._nvml is not None and gpus else None
        return None if energy is None else SharedMeter(energy)

    def _gpus(self, device: str) -> tuple[Any, ...]:
        """The GPUs of a device of KIND cuda."""
        if self._devices[device].kind != "cuda":
            return ()
        if not self._nvml_tried:
            from .nvml import open_nvml

            self._nvml, self._nvml_tried = open_nvml(), True
        if self._nvml is None:
            return ()
        first = self._first_gpu(device)
        return self._nvml.gpus[first : first + self._devices[device].count]

    def _first_gpu(self, device: str) -> int:
        """How many GPUs the devices declared before it take."""
        first = 0
        for name, other in self._devices.items():
            if name == device:
                break
            first += other.count if other.kind == "cuda" else 0
        return first
