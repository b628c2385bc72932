"""Machines whose energy is known: fake powercap files, a fake NVML, a clock that tests move."""

import os
from types import SimpleNamespace


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Counter:
    """A counter of hardware that draws `watts` at any time; it may be broken."""

    name = "rapl"

    def __init__(self, clock, resolution=1e-3):
        self.clock = clock
        self.resolution_seconds = resolution
        self.watts = 50.0
        self.broken = False
        self.reads = 0
        self._at, self._joules = clock(), 0.0

    def advance(self, seconds):
        self._joules += self.watts * seconds
        self.clock.now += seconds

    def joules(self):
        from octans.executor.power import Unreadable

        self.reads += 1
        if self.broken:
            raise Unreadable("gone")
        return self._joules

    def close(self):
        pass


def powercap(root, packages, *, subdomains=True):
    """Files as Linux shows them: a package each, its core and DRAM below, psys and mmio beside."""
    for number, (microjoules, largest) in enumerate(packages):
        domain(root / f"intel-rapl:{number}", f"package-{number}", microjoules, largest)
        if subdomains:
            for inner, name in enumerate(("core", "dram")):
                domain(root / f"intel-rapl:{number}:{inner}", name, 10**12, 10**15)
    if subdomains:
        domain(root / "intel-rapl-mmio:0", "package-0", 10**12, 10**15)
        domain(root / f"intel-rapl:{len(packages)}", "psys", 10**12, 10**15)
    return root


def domain(path, name, microjoules, largest):
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{largest}\n")


class NVMLError(Exception):
    """As in pynvml: a number, and a class for every kind."""

    def __init__(self, value=999):
        super().__init__(value)
        self.value = value


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class Gpu:
    """A GPU: mJ and mW as the driver tells them, bytes, processes."""

    def __init__(self, uuid, *, counter=True):
        self.uuid = uuid
        self.counter = counter
        self.lost = False
        self.millijoules = 7_000_000
        self.milliwatts = 60_000
        self.used = 1 << 30
        self.processes = []


class FakeNvml:
    """The functions, units and errors of `pynvml` that are used, over `Gpu`s."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_GpuIsLost = NVMLError_GpuIsLost
    NVMLError_LibraryNotFound = NVMLError_LibraryNotFound

    def __init__(self, *gpus, driver=True):
        self.gpus = gpus
        self.driver = driver
        self.users = 0

    def nvmlInit(self):
        if not self.driver:
            raise NVMLError_LibraryNotFound(12)
        self.users += 1

    def nvmlShutdown(self):
        self.users -= 1

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, gpu):
        return gpu.uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        self._alive(gpu)
        if not gpu.counter:
            raise NVMLError_NotSupported(3)
        return gpu.millijoules

    def nvmlDeviceGetPowerUsage(self, gpu):
        self._alive(gpu)
        if gpu.milliwatts is None:
            raise NVMLError_NotSupported(3)
        return gpu.milliwatts

    def nvmlDeviceGetMemoryInfo(self, gpu):
        self._alive(gpu)
        return SimpleNamespace(used=gpu.used, total=80 << 30, free=(80 << 30) - gpu.used)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu):
        self._alive(gpu)
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.processes]

    @staticmethod
    def _alive(gpu):
        if gpu.lost:
            raise NVMLError_GpuIsLost(15)


class FakeLibrary:
    """`libnvidia-ml` with one GPU, as `pynvml` itself calls it: by reference, with return codes."""

    SUCCESS, NOT_SUPPORTED, INSUFFICIENT_SIZE, GPU_IS_LOST = 0, 3, 7, 15

    def __init__(self, gpu):
        self.gpu = gpu
        self.nvmlInitWithFlags = lambda flags: self.SUCCESS
        self.nvmlShutdown = lambda: self.SUCCESS
        self.nvmlDeviceGetCount_v2 = lambda count: self._give(count, 1)
        self.nvmlDeviceGetHandleByIndex_v2 = lambda index, handle: self.SUCCESS

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, energy):
        return self._give(energy, self.gpu.millijoules if self.gpu.counter else None)

    def nvmlDeviceGetPowerUsage(self, handle, power):
        return self._give(power, self.gpu.milliwatts)

    def nvmlDeviceGetMemoryInfo(self, handle, memory):
        memory._obj.total, memory._obj.used = 80 << 30, self.gpu.used
        return self.GPU_IS_LOST if self.gpu.lost else self.SUCCESS

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle, count, found):
        if found is None:
            count._obj.value = 1
            return self.INSUFFICIENT_SIZE
        count._obj.value = 1
        found[0].pid, found[0].usedGpuMemory = os.getpid(), 5 << 20
        return self.SUCCESS

    def _give(self, where, value):
        if self.gpu.lost:
            return self.GPU_IS_LOST
        if value is None:
            return self.NOT_SUPPORTED
        where._obj.value = value
        return self.SUCCESS
