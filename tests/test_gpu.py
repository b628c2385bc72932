"""Energy and memory on a real NVIDIA GPU; skipped where there is none.

`pytest tests/test_gpu.py -rA -s` there shows the figures.
"""

import itertools
import time

import pytest
from octans.executor.power import nvml
from octans.executor.runner import LocalRunner
from octans.ir.models import Backend, Device, Variant
from octans.stats.energy import joules_per_call
from toys import World, numbers, stage

torch = pytest.importorskip("torch")

SIDE = 4096
SECONDS = 4.0


@pytest.fixture(scope="module")
def opened():
    found = nvml.open_nvml()
    if found is None or not found.gpus or not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    yield found
    found.close()


def busy(seconds, each=lambda: None):
    """Keep the GPU busy with matrix products; call `each` after every few."""
    left = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(8):
            left @ left
        torch.cuda.synchronize()
        each()


def test_the_counter_tells_what_its_power_adds_up_to(opened):
    """Two ways to the same joules: the driver's counter, and its power integrated here."""
    gpu = opened.gpus[0]
    nvidia = opened._nvml
    busy(SECONDS / 2)  # the driver's power is a mean over the last second or so
    counted, integrated = nvml.EnergyOf(nvidia, gpu), nvml.PowerOf(nvidia, gpu)
    try:
        before = counted.joules(), integrated.joules()
        busy(SECONDS)
        joules = counted.joules() - before[0], integrated.joules() - before[1]
    finally:
        integrated.close()
    print(f"\n{SECONDS} s busy: {joules[0]:.1f} J counted, {joules[1]:.1f} J integrated")
    assert joules[0] == pytest.approx(joules[1], rel=0.1)


def test_the_counter_moves_within_its_resolution(opened):
    counter = nvml.EnergyOf(opened._nvml, opened.gpus[0])
    moves = []

    def look():
        now = counter.joules()
        if not moves or now != moves[-1][1]:
            moves.append((time.perf_counter(), now))

    busy(SECONDS, look)
    gaps = sorted(b[0] - a[0] for a, b in itertools.pairwise(moves))
    print(f"\nmoves every {gaps[len(gaps) // 2] * 1e3:.1f} ms, at most {gaps[-1] * 1e3:.1f} ms")
    assert gaps[len(gaps) // 2] <= nvml.RESOLUTION_SECONDS


def test_memory_is_what_was_allocated(opened):
    torch.zeros(1, device="cuda")
    torch.cuda.empty_cache()  # or it would come from what is kept
    before = opened.memory(opened.gpus[:1])
    held = torch.zeros(1 << 30, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    after = opened.memory(opened.gpus[:1])
    print(f"\n{before} → {after}")
    assert after.grown(before) == pytest.approx(1 << 30, rel=0.02)
    del held


MODELS = """
import pyarrow.compute as pc
import torch


def wide(side, dtype="float32"):
    torch.manual_seed(7)
    weights = torch.randn(side, side, device="cuda", dtype=getattr(torch, dtype)) / side**0.5

    def call(batch):
        x = torch.tensor(batch.column("x").to_numpy(), device="cuda")
        rows = x[:, None].expand(-1, side).to(weights.dtype)
        for _ in range(200):
            rows = torch.tanh(rows @ weights)
        assert torch.isfinite(rows).all().cpu()
        return pc.multiply(batch.column("x"), 2)

    return call
"""
BATCH = 256
CALLS = {"full": 32, "half": 256, "small": 256}


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    (tmp_path / "on_gpu.py").write_text(MODELS)
    for name, options in {
        "full": {"side": 8192, "dtype": "float32"},
        "half": {"side": 8192, "dtype": "bfloat16"},
        "small": {"side": 4096, "dtype": "bfloat16"},
    }.items():
        backend = Backend("python", "on_gpu.py:wide", tuple(options.items()))
        world.variants[f"m.{name}"] = Variant("m", name, backend)
    world.devices["gpu"] = Device("gpu", "cuda")
    return world


def on_gpu(name):
    source = numbers(CALLS[name] * BATCH)
    root = stage(source, f"m.{name}", batch=BATCH)
    return root.replace(choice=root.choice.replace(device="gpu")), source


def test_each_variant_is_charged_what_the_gpu_drew_for_it(opened, world):
    """Profiling and execution; the whole's energy is read here too, by another counter."""
    whole = nvml.EnergyOf(opened._nvml, opened.gpus[0])
    per_call = {}
    for name in CALLS:
        root, source = on_gpu(name)
        runner = LocalRunner(world.env())
        rows = runner.scan(source)
        runner.run_stage(root, rows)
        before = whole.joules()
        energy = runner.run_stage(root, rows).energy
        drawn = whole.joules() - before
        runner.close()
        execution = world.run(root)
        execution.read_all()
        (seen,) = [o for o in execution.observations() if o.metric == "energy"]
        each = per_call[name] = joules_per_call(energy, BATCH)
        print(f"\n{name}: {each.value:.3f} [{each.low:.3f}, {each.high:.3f}] J a call")
        print(
            f"{energy.joules:.1f} of {drawn:.1f} J, {energy.watts:.0f} W, {energy.windows} windows"
        )
        print(f"executed: {seen.value:.3f} [{seen.low:.3f}, {seen.high:.3f}] J a call")
        assert energy.meter == "nvml"
        assert energy.elements == CALLS[name] * BATCH
        assert energy.joules == pytest.approx(drawn, rel=0.1, abs=2 * energy.edge_joules)
        assert seen.statistic == "mean(nvml)"
        assert seen.value == pytest.approx(each.value, rel=0.25)
    assert per_call["full"].low > per_call["half"].high
    assert per_call["half"].low > per_call["small"].high


@pytest.mark.parametrize("name", ["full", "half", "small"])
def test_a_variant_s_memory_is_its_weights_and_what_a_call_needs(opened, world, name):
    """Also of one that runs after others in a process: PyTorch keeps what those freed."""
    root, source = on_gpu(name)
    runner = LocalRunner(world.env())
    found = runner.run_stage(root, runner.scan(source)).memory_bytes
    runner.close()
    weights = {"full": 8192**2 * 4, "half": 8192**2 * 2, "small": 4096**2 * 2}[name]
    print(f"\n{name}: {found} bytes, {weights} of them weights")
    assert weights <= found <= 4 * weights
