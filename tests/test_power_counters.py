"""Counters tell the energy of the hardware they are for, and nothing once they cannot."""

import os
import sys

import pytest
from octans.executor.power import Meters, Unreadable, nvml, rapl
from octans.executor.power.memory import Footprint, Growth
from octans.ir.models import Device
from power_world import Clock, FakeLibrary, FakeNvml, Gpu, powercap


def spend(root, number, microjoules, largest):
    path = root / f"intel-rapl:{number}" / "energy_uj"
    path.write_text(str((int(path.read_text()) + microjoules) % largest))


@pytest.fixture
def gpus(monkeypatch):
    """Installs GPUs as `pynvml`."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(*gpus, **changes):
        fake = FakeNvml(*gpus, **changes)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return install


# --- RAPL -----------------------------------------------------------------------------------------


def test_packages_count_once_and_nothing_inside_or_around_them(tmp_path):
    counter = rapl.open_rapl(powercap(tmp_path, [(500, 10**9), (900, 10**9)]))
    before = counter.joules()
    spend(tmp_path, 0, 3_000_000, 10**9)
    spend(tmp_path, 1, 2_000_000, 10**9)
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("999999999999999")
    (tmp_path / "intel-rapl:2" / "energy_uj").write_text("999999999999999")
    assert counter.joules() - before == pytest.approx(5.0)
    counter.close()


def test_a_counter_that_wraps_goes_on(tmp_path):
    counter = rapl.open_rapl(powercap(tmp_path, [(9_500_000, 10_000_000)]))
    total = counter.joules()
    for _ in range(30):
        spend(tmp_path, 0, 700_000, 10_000_000)
        now = counter.joules()
        assert now - total == pytest.approx(0.7)
        total = now
    counter.close()


@pytest.mark.parametrize("content", [None, "", "many\n"])
def test_one_unreadable_package_means_no_counter(tmp_path, content):
    root = powercap(tmp_path, [(0, 10**9), (0, 10**9)])
    path = root / "intel-rapl:1" / "energy_uj"
    if content is None:  # what reading gives without permission is an OSError, as here
        path.unlink()
        path.mkdir()
    else:
        path.write_text(content)
    assert rapl.open_rapl(root) is None


def test_without_powercap_there_is_no_counter(tmp_path):
    assert rapl.open_rapl(tmp_path) is None
    assert rapl.open_rapl(tmp_path / "absent") is None


def test_a_package_that_goes_away_is_told(tmp_path):
    counter = rapl.open_rapl(powercap(tmp_path, [(0, 10**9)]))
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(Unreadable):
        counter.joules()
    counter.close()


# --- NVML -----------------------------------------------------------------------------------------


def test_the_energy_counter_is_in_millijoules(gpus):
    gpu = Gpu("GPU-a")
    gpus(gpu)
    opened = nvml.open_nvml()
    counter = opened.counter(opened.gpus)
    before = counter.joules()
    gpu.millijoules += 2_500
    assert counter.name == "nvml"
    assert counter.joules() - before == pytest.approx(2.5)


def test_a_gpu_without_a_counter_has_its_power_integrated():
    gpu, clock = Gpu("GPU-a", counter=False), Clock()
    counter = nvml.PowerOf(FakeNvml(gpu), gpu, clock)
    before = counter.joules()
    for milliwatts in (100_000, 140_000, 60_000):  # from 60 W: trapezoids of 2 s each
        clock.now += 2.0
        gpu.milliwatts = milliwatts
        after = counter.joules()
    counter.close()
    assert after - before == pytest.approx(160 + 240 + 200, abs=1e-6)


def test_power_stands_in_only_where_energy_is_not_supported(gpus):
    old, new = Gpu("GPU-a", counter=False), Gpu("GPU-b")
    dumb = Gpu("GPU-c", counter=False)
    dumb.milliwatts = None
    gpus(old, new, dumb)
    opened = nvml.open_nvml()
    names = []
    for gpu in opened.gpus:
        counter = opened.counter([gpu])
        names.append(counter and counter.name)
        if counter:
            counter.close()
    assert names == ["nvml power", "nvml", None]
    assert opened.counter([old, new]) is None, "two kinds of number do not add up"
    assert opened.counter([new, dumb]) is None


def test_a_lost_gpu_and_a_reset_counter_are_told(gpus):
    gpu = Gpu("GPU-a")
    gpus(gpu)
    opened = nvml.open_nvml()
    counter = opened.counter(opened.gpus)
    gpu.millijoules = 5
    with pytest.raises(Unreadable):
        counter.joules()
    gpu.millijoules = 1_005
    assert counter.joules() == pytest.approx(1.005), "after a reset it counts on from there"
    gpu.lost = True
    with pytest.raises(Unreadable):
        counter.joules()


def test_several_gpus_add_up(gpus):
    one, two = Gpu("GPU-a"), Gpu("GPU-b")
    gpus(one, two)
    opened = nvml.open_nvml()
    counter = opened.counter(opened.gpus)
    before = counter.joules()
    one.millijoules += 1_000
    two.millijoules += 500
    assert counter.joules() - before == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [
        (None, "abc"), ("", ""), ("1", "b"), ("2,0", "ca"), ("GPU-b", "b"), ("0, GPU-c", "ac"),
        ("0,7,1", "a"), ("-1,0", ""), ("GPU-", ""), ("MIG-1", ""),
    ],
)  # fmt: skip
def test_visible_devices_are_those_cuda_would_show(gpus, monkeypatch, chosen, seen):
    gpus(Gpu("GPU-a"), Gpu("GPU-b"), Gpu("GPU-c"))
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert "".join(gpu.uuid[-1] for gpu in nvml.open_nvml().gpus) == seen


def test_without_driver_or_package_there_is_no_nvml(gpus, monkeypatch):
    gpus(driver=False)
    assert nvml.open_nvml() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.open_nvml() is None


def test_the_real_package_degrades_too(monkeypatch):
    """Where there is no driver the real `pynvml` is refused like the fake one; else it opens."""
    import pynvml

    opened = nvml.open_nvml()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert opened is None
    else:
        assert opened is not None
        opened.close()


@pytest.fixture
def library(monkeypatch):
    """The real `pynvml` over a fake `libnvidia-ml`."""
    import pynvml

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made = FakeLibrary(Gpu("GPU-a"))
    monkeypatch.setattr(pynvml, "nvmlLib", made)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return made


def test_the_real_package_reads_energy_power_and_memory(library):
    opened = nvml.open_nvml()
    counter = opened.counter(opened.gpus)
    before = counter.joules()
    library.gpu.millijoules += 1_500
    assert (counter.name, counter.joules() - before) == ("nvml", pytest.approx(1.5))
    assert opened.memory(opened.gpus) == nvml.MemoryReading(5 << 20, 1 << 30)
    library.gpu.counter = False
    power = opened.counter(opened.gpus)
    assert power.name == "nvml power"
    power.close()
    library.gpu.milliwatts = None
    assert opened.counter(opened.gpus) is None
    library.gpu.lost = True
    assert opened.memory(opened.gpus) is None
    with pytest.raises(Unreadable):
        counter.joules()
    opened.close()


# --- which belongs to what ------------------------------------------------------------------------


def devices(*declared):
    return {device.name: device for device in declared}


def test_cpus_share_one_counter_and_gpus_are_dealt_in_order(gpus, monkeypatch, tmp_path):
    monkeypatch.setattr(rapl, "POWERCAP", powercap(tmp_path, [(0, 10**9)]))
    fake = gpus(Gpu("GPU-a"), Gpu("GPU-b"), Gpu("GPU-c"))
    meters = Meters(
        devices(
            Device("one", "cpu"), Device("first", "cuda"), Device("two", "cpu", 4),
            Device("pair", "cuda", 2), Device("elsewhere", "cuda"),
        )
    )  # fmt: skip
    assert meters.of("one") is meters.of("two") is not None
    assert meters.of("first") is not meters.of("pair")
    assert meters.of("elsewhere") is None, "no GPU is left for it"
    fake.gpus[2].millijoules += 4_000
    assert meters.memory("pair").used == 2 << 30
    assert meters.memory("one") is None
    meters.close()
    assert fake.users == 0


def test_a_machine_without_counters_meters_nothing(gpus):
    gpus(driver=False)
    meters = Meters(devices(Device("cpu", "cpu"), Device("gpu", "cuda")))
    assert meters.of("cpu") is None
    assert meters.of("gpu") is None
    meters.close()


def test_cpus_never_load_pynvml(monkeypatch):
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    meters = Meters(devices(Device("cpu", "cpu")))
    meters.of("cpu")
    meters.memory("cpu")
    assert "pynvml" not in sys.modules


# --- memory ---------------------------------------------------------------------------------------


@pytest.fixture
def growth():
    return Growth(Meters(devices(Device("gpu", "cuda"))))


def test_memory_is_this_process_s_where_the_driver_tells_it(gpus, growth):
    gpu = Gpu("GPU-a")
    gpus(gpu)
    found = Footprint()
    with growth.watch("gpu", found):
        gpu.processes = [(os.getpid(), 3 << 20), (1, 9 << 30)]
        gpu.used += 9 << 30  # another process grew
    assert found == Footprint(3 << 20, 3 << 20)
    with growth.watch("gpu", found):
        gpu.processes[0] = (os.getpid(), 5 << 20)
    assert found == Footprint(5 << 20, 5 << 20)


def test_else_memory_is_the_growth_of_the_whole_gpu(gpus, growth):
    gpu = Gpu("GPU-a")
    gpus(gpu)
    found = Footprint()
    with growth.watch("gpu", found):
        gpu.used += 7 << 20
    assert found.peak == 7 << 20
    with growth.watch("gpu", found):
        gpu.used -= 2 << 20
    assert found.peak == 7 << 20, "others may have left"


def test_growth_of_two_at_once_is_nobody_s(gpus, growth):
    gpu = Gpu("GPU-a")
    gpus(gpu)
    outer, inner, after, lost = Footprint(), Footprint(), Footprint(), Footprint()
    with growth.watch("gpu", outer), growth.watch("gpu", inner):
        gpu.used += 1 << 20
    assert (outer.peak, inner.peak) == (None, None)
    with growth.watch("gpu", after):
        gpu.used += 1 << 20
    assert after.peak == 1 << 20
    gpu.lost = True
    with growth.watch("gpu", lost):
        pass
    assert lost.peak is None


class TorchPool:
    """What is used of `torch.cuda`: a pool that takes memory from the driver and keeps it."""

    def __init__(self, gpu):
        self.gpu = gpu
        self.reserved = self.allocated = self.peak = 0
        self.cuda = self

    def is_initialized(self):
        return True

    def reset_peak_memory_stats(self, number):
        self.peak = self.allocated

    def memory_stats(self, number):
        return {
            "reserved_bytes.all.current": self.reserved,
            "allocated_bytes.all.current": self.allocated,
            "allocated_bytes.all.peak": self.peak,
        }

    def take(self, size):
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        grown = max(0, self.allocated - self.reserved)
        self.reserved += grown
        self.gpu.used += grown

    def free(self, size):
        self.allocated -= size


def test_what_pytorch_keeps_of_others_is_not_a_variant_s(gpus, growth, monkeypatch):
    """The second variant's weights fit into what the first left: the driver sees no growth."""
    gpu = Gpu("GPU-a")
    gpus(gpu)
    pool = TorchPool(gpu)
    monkeypatch.setitem(sys.modules, "torch", pool)
    first, second = Footprint(), Footprint()
    with growth.watch("gpu", first):
        gpu.used += 1 << 20  # a library's own
        pool.take(9 << 20)
        pool.take(4 << 20)
        pool.free(4 << 20)
    assert first == Footprint(10 << 20, 14 << 20)
    pool.free(9 << 20)  # closed
    with growth.watch("gpu", second):
        pool.take(6 << 20)
        pool.take(1 << 20)
        pool.free(1 << 20)
    assert second == Footprint(6 << 20, 7 << 20)
    with growth.watch("gpu", second):
        pool.take(3 << 20)
        pool.free(3 << 20)
    assert second == Footprint(6 << 20, 9 << 20), "a larger batch"
    with growth.watch("gpu", second):  # a copy that hung is closed, another takes its place
        pool.free(6 << 20)
        pool.take(6 << 20)
    with growth.watch("gpu", second):
        pool.free(6 << 20)
    with growth.watch("gpu", second):
        pool.take(6 << 20)
    assert second == Footprint(6 << 20, 9 << 20), "it is no more than one copy"
    with growth.watch("gpu", second):
        gpu.used -= pool.reserved - pool.allocated  # it gave back what it does not use
        pool.reserved = pool.allocated
    assert second == Footprint(6 << 20, 9 << 20)
