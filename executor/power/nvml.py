"""NVML: energy and memory of NVIDIA GPUs, through `pynvml`.

Energy is the driver's own counter where the GPU has one (since Volta), else the power drawn,
sampled by a thread and integrated by the trapezoid rule.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .counter import EnergyCounter, Together, Unreadable

RESOLUTION_SECONDS = 0.1
"""How often the driver renews its numbers: 15 to 100 ms, by GPU [Yang et al. 2024, "Accurate and
Convenient Energy Measurements for GPUs", SC24]; we take the slowest."""

SAMPLE_SECONDS = 0.02
"""Between two samples of power: no GPU renews it more often than that by much (our choice)."""


class Nvml:
    """The library, opened; `gpus` are the handles this process may use, in CUDA's order."""

    def __init__(self, pynvml: Any) -> None:
        """Open it.

        Raises:
            pynvml.NVMLError: no driver, or no permission.
        """
        self._nvml = pynvml
        pynvml.nvmlInit()
        self.gpus: tuple[Any, ...] = tuple(_visible(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES")))

    def counter(self, gpus: Sequence[Any]) -> EnergyCounter | None:
        """The energy of these GPUs together; None where one of them tells neither."""
        counters: list[EnergyCounter] = []
        for gpu in gpus:
            counter = self._counter(gpu)
            if counter is None or (counters and counter.name != counters[0].name):
                for opened in (*counters, *([counter] if counter else [])):
                    opened.close()
                return None
            counters.append(counter)
        return Together(counters) if len(counters) > 1 else next(iter(counters), None)

    def memory(self, gpus: Sequence[Any]) -> MemoryReading | None:
        """Bytes taken on these GPUs now; None where one of them does not say."""
        own: int | None = None
        used = 0
        try:
            for gpu in gpus:
                used += int(self._nvml.nvmlDeviceGetMemoryInfo(gpu).used)
                for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu):
                    if process.pid == os.getpid() and process.usedGpuMemory is not None:
                        own = (own or 0) + int(process.usedGpuMemory)
        except self._nvml.NVMLError:
            return None
        return MemoryReading(own, used)

    def close(self) -> None:
        """Close it."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            return  # the driver went first

    def _counter(self, gpu: Any) -> EnergyCounter | None:
        nvml = self._nvml
        try:
            return EnergyOf(nvml, gpu)
        except Unreadable:
            pass
        try:
            return PowerOf(nvml, gpu)
        except Unreadable:
            return None


@dataclass(frozen=True)
class MemoryReading:
    """Bytes on some GPUs: of this process, None where the driver does not tell; of everybody."""

    own: int | None
    used: int

    def grown(self, before: MemoryReading) -> int:
        """Bytes since an earlier reading, below 0 if it shrank; of everybody only where one's own
        are not told.

        In a container the driver's process numbers are the host's, so this process is not found.
        """
        if self.own is not None:
            return self.own - (before.own or 0)
        return self.used - before.used


class EnergyOf:
    """A GPU's energy counter: mJ since the driver was loaded."""

    name = "nvml"
    resolution_seconds = RESOLUTION_SECONDS

    def __init__(self, nvml: Any, gpu: Any) -> None:
        """Read it once.

        Raises:
            Unreadable: the GPU has none.
        """
        self._nvml, self._gpu, self._last = nvml, gpu, 0
        self.joules()

    def joules(self) -> float:
        """Since the driver was loaded; a reload, after which it starts anew, is told once."""
        try:
            now = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))
        except self._nvml.NVMLError as error:
            raise Unreadable(str(error)) from error
        before, self._last = self._last, now
        if now < before:
            raise Unreadable("the energy counter started anew")
        return now / 1e3

    def close(self) -> None:
        """Nothing runs."""


class PowerOf:
    """A GPU's power, mW, integrated."""

    name = "nvml power"
    resolution_seconds = RESOLUTION_SECONDS

    def __init__(self, nvml: Any, gpu: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start sampling.

        Raises:
            Unreadable: the GPU does not tell its power.
        """
        self._nvml, self._gpu, self._clock = nvml, gpu, clock
        self._lock = threading.Lock()
        self._joules = 0.0
        self._at, self._watts = clock(), self._read()
        self._closed = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="octans-power", daemon=True)
        self._sampler.start()

    def joules(self) -> float:
        """Since construction: a trapezoid for every two samples."""
        with self._lock:
            watts, now = self._read(), self._clock()
            self._joules += (watts + self._watts) / 2 * (now - self._at)
            self._at, self._watts = now, watts
            return self._joules

    def close(self) -> None:
        """Stop sampling."""
        self._closed.set()
        self._sampler.join()

    def _read(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._gpu)) / 1e3
        except self._nvml.NVMLError as error:
            raise Unreadable(str(error)) from error

    def _sample(self) -> None:
        while not self._closed.wait(SAMPLE_SECONDS):
            try:
                self.joules()
            except Unreadable:
                return  # whoever reads next is told


def open_nvml() -> Nvml | None:
    """NVML, where there is a driver and a library to speak to it; else None."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        return Nvml(pynvml)
    except pynvml.NVMLError:
        return None


def _visible(nvml: Any, chosen: str | None) -> list[Any]:
    """Handles in the order in which CUDA numbers them here.

    CUDA_VISIBLE_DEVICES lists indices or (starts of) UUIDs; what comes after the first that is no
    GPU is hidden [CUDA C++ Programming Guide, "CUDA Environment Variables"]. Slices of a GPU (MIG)
    have no counter of their own and end the list. NVML numbers by PCI bus, as CUDA does under
    CUDA_DEVICE_ORDER=PCI_BUS_ID and wherever all GPUs are alike.
    """
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    if chosen is None:
        return handles
    found: list[Any] = []
    for item in (part.strip() for part in chosen.split(",")):
        if item.isdigit() and int(item) < len(handles):
            handle = handles[int(item)]
        elif item.startswith("GPU-"):
            alike = [h for h in handles if _text(nvml.nvmlDeviceGetUUID(h)).startswith(item)]
            if len(alike) != 1:
                break
            handle = alike[0]
        else:
            break
        found.append(handle)
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
