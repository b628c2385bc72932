"""Energy from a counter to what users see: profiling, execution, EXPLAIN ANALYZE, SLOs."""

import json
import sys
import time
from dataclasses import replace

import octans
import pytest
from octans.executor.power import SharedMeter, meters
from octans.executor.runner import LocalRunner
from octans.ir.models import Backend, Device, Variant
from power_world import FakeNvml, Gpu
from toys import World, numbers, stage

WATTS = 50.0


class Steady:
    """Hardware that draws 50 W while somebody looks: joules follow from the meter's own clock."""

    name = "rapl"
    resolution_seconds = 1e-4

    def __init__(self):
        self.now = 0.0

    def clock(self):
        self.now = time.perf_counter()
        return self.now

    def joules(self):
        return WATTS * self.now

    def close(self):
        pass


@pytest.fixture
def steady(monkeypatch):
    """Every CPU is metered."""
    monkeypatch.setattr(meters, "open_rapl", Steady)
    monkeypatch.setattr(meters, "SharedMeter", lambda counter: SharedMeter(counter, counter.clock))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def ran(world, root):
    execution = world.run(root)
    execution.read_all()
    return execution, execution.actuals[root.fingerprint]


def test_a_stage_s_energy_is_its_power_times_its_time(steady, world):
    root = stage(numbers(64), "m.slow", seconds=0.004)
    execution, actual = ran(world, root)
    assert actual.energy_source == "rapl"
    assert actual.energy_joules == pytest.approx(WATTS * actual.busy_seconds)
    (seen,) = [o for o in execution.observations() if o.metric == "energy"]
    assert (seen.statistic, seen.batch, seen.n) == ("mean(rapl)", 8, 8)
    assert seen.value == pytest.approx(actual.energy_joules / 8, rel=0.2)
    assert seen.low <= seen.value <= seen.high


def test_without_a_counter_energy_is_modelled_or_unknown(world):
    root = stage(numbers(64))
    assert ran(world, root)[1].energy_joules is None
    world.devices["cpu"] = replace(world.devices["cpu"], power_watts=20.0)
    execution, actual = ran(world, root)
    assert actual.energy_source == "POWER"
    assert actual.energy_joules == pytest.approx(20.0 * actual.busy_seconds)
    assert not [o for o in execution.observations() if o.metric == "energy"], "nothing was measured"


def test_recorded_answers_draw_no_energy_here(steady, world, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": range(8), "y": range(8)}), tmp_path / "said.parquet")
    world.variants["m.said"] = Variant("m", "said", Backend("replay", "said.parquet"))
    assert ran(world, stage(numbers(8), "m.said"))[1].energy_joules is None


def test_profiling_gets_the_energy_of_each_run(steady, world):
    runner = LocalRunner(world.env())
    source = numbers(16)
    run = runner.run_stage(stage(source, "m.slow", seconds=0.002), runner.scan(source))
    assert run.energy.elements == 16
    assert run.energy.joules == pytest.approx(WATTS * run.energy.busy_seconds)
    again = runner.run_stage(stage(source, "m.slow", seconds=0.002), runner.scan(source))
    assert again.energy.elements == 16, "a run's energy is its own"
    runner.close()


def test_loads_and_unloads_are_told_a_copy_each(world):
    root = stage(numbers(64), "m.slow", seconds=0.001)
    execution, actual = ran(world, root)
    seen = {o.metric: o for o in execution.observations()}
    assert actual.load_seconds > 0
    assert actual.unload_seconds > 0
    for metric in ("load", "unload"):
        assert (seen[metric].n, seen[metric].variant) == (1, "m.slow")
        assert (seen[metric].low, seen[metric].high) == (
            pytest.approx(seen[metric].value / 2),
            pytest.approx(seen[metric].value * 2),
        )
    runner = LocalRunner(world.env())
    runner.load(root)
    runner.load(root)
    assert runner.unloads() == []
    runner.close()
    ((unloaded, seconds),) = runner.unloads()
    assert (unloaded, seconds > 0) == (root, True)


def test_a_gpu_s_energy_and_memory_reach_profiling(world, tmp_path, monkeypatch):
    gpu = Gpu("GPU-a")
    fake = FakeNvml(gpu)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake.gpu = gpu
    (tmp_path / "on_gpu.py").write_text(
        "import pynvml\n"
        "def model():\n"
        "    pynvml.gpu.used += 3 << 20\n"
        "    def call(batch):\n"
        "        pynvml.gpu.millijoules += 50 * batch.num_rows\n"
        "        pynvml.gpu.used = max(pynvml.gpu.used, (1 << 30) + (4 << 20))\n"
        "        return batch.column('x')\n"
        "    return call\n"
    )
    world.variants["m.gpu"] = Variant("m", "gpu", Backend("python", "on_gpu.py:model"))
    world.devices["gpu"] = Device("gpu", "cuda")
    source = numbers(40)
    root = stage(source, "m.gpu")
    root = root.replace(choice=root.choice.replace(device="gpu"))
    runner = LocalRunner(world.env())
    run = runner.run_stage(root, runner.scan(source))
    assert run.energy.meter == "nvml"
    assert run.energy.joules <= 40 * 0.05 + 1e-9, "at most what the calls drew"
    assert run.memory_bytes == 4 << 20, "loading and the first calls"
    gpu.lost = True
    assert runner.run_stage(root, runner.scan(source)).energy is None
    runner.close()
    assert fake.users == 0


SCRIPT = """
CREATE MODEL grade (x DOUBLE) RETURNS (g INTEGER) QUALITY exact_match(g);
CREATE VARIANT grade.exact USING python('toys_energy:exact') BASE;
CREATE DEVICE cpu (KIND cpu, THREADS 1 {power});
ANALYZE MODEL grade USING (SELECT i / 10 AS x, i // 10 AS truth FROM range(200) t(i))
  LABELS (g := truth);
"""
TOYS = """
import numpy as np


def exact():
    return lambda batch: {"g": np.floor(batch.column("x").to_numpy()).astype(np.int32)}
"""
QUERY = "SELECT grade(x) FROM range(1000) t(x)"


@pytest.fixture
def analyzed(tmp_path):
    (tmp_path / "toys_energy.py").write_text(TOYS)

    def of(power=""):
        session = octans.connect(base_dir=tmp_path)
        session.sql(SCRIPT.format(power=power))
        return session

    return of


def test_analyze_keeps_energy_and_unload_and_shows_them(steady, analyzed):
    with analyzed() as session:
        rows = session.sql(
            "SELECT metric, statistic, batch, value, ci_low, ci_high, n FROM octans.statistics "
            "WHERE metric IN ('energy', 'load', 'unload') ORDER BY 1, 3"
        ).fetchall()
        kinds = {row[0]: row for row in rows}
        assert {"energy", "load", "unload"} == set(kinds)
        assert kinds["energy"][1] == "mean(rapl)"
        assert all(low <= value <= high and n > 0 for *_, value, low, high, n in rows)
        seconds = dict(session.sql(
            "SELECT batch, value FROM octans.statistics WHERE metric = 'latency' "
            "AND statistic = 'mean'"
        ).fetchall())  # fmt: skip
        for metric, _, batch, joules, *_ in rows:
            if metric == "energy":
                assert WATTS * seconds[batch] / 4 < joules < WATTS * seconds[batch] * 4


def test_a_measured_energy_serves_an_slo_without_any_power(steady, analyzed):
    with analyzed() as session:
        explanation = session.explain(f"{QUERY} WITH SLO (energy <= 3 J) MINIMIZE energy")
        (node,) = [n for n in explanation.nodes if n.kind == "stage"]
        assert node.energy_source.startswith("rapl")
        assert explanation.totals.energy.value > 0
        assert explanation.verdicts[0].met
        with pytest.raises(octans.errors.OctansError) as caught:
            session.sql(f"EXPLAIN {QUERY} WITH SLO (energy <= 1e-12 J)")
        assert caught.value.code == "OC0312"
        with pytest.raises(octans.errors.OctansError) as caught:
            session.sql(f"EXPLAIN {QUERY} WITH SLO (co2 <= 1 g)")
        assert caught.value.code == "OC0314", "no grid intensity"


def test_explain_analyze_shows_measured_energy_and_emissions(steady, analyzed):
    """A thousand calls of one row: long enough for the counter to tell."""
    single = "ADVICE 'BATCH(grade 1)'"
    with analyzed(", GRID 360 g/kWh") as session:
        text = session.sql(f"EXPLAIN (ANALYZE, {single}) {QUERY}").text
        (line,) = [row for row in text.splitlines() if "energy  " in row and "│" in row]
        assert "rapl" in line
        assert "→" in line
        assert "unload" in text
        asked = f"EXPLAIN (ANALYZE, FORMAT json, {single}) {QUERY}"
        found = json.loads(session.sql(asked).text)
        totals = found["actual_totals"]
        assert totals["total_energy"]["source"] == "measured"
        joules = totals["energy"]["value"]
        assert totals["co2"]["value"] == pytest.approx(joules / 3.6e6 * 360)
        (node,) = [n for n in found["nodes"] if n["kind"] == "stage"]
        assert node["actuals"]["energy_source"] == "rapl"
        assert node["actuals"]["energy_joules"] == pytest.approx(totals["total_energy"]["value"])
        assert node["q_errors"]["energy"]["total"] >= 1


def test_modelled_energy_says_so_everywhere(analyzed):
    with analyzed(", POWER 40 W") as session:
        text = session.sql(f"EXPLAIN (ANALYZE) {QUERY}").text
        (line,) = [row for row in text.splitlines() if "energy  " in row and "│" in row]
        assert "modelled, POWER" in line
        found = json.loads(session.sql(f"EXPLAIN (ANALYZE, FORMAT json) {QUERY}").text)
        assert found["actual_totals"]["total_energy"]["source"] == "modelled"


def test_without_power_or_counter_nothing_is_said_of_energy(analyzed):
    with analyzed() as session:
        assert "energy" not in session.sql(f"EXPLAIN (ANALYZE) {QUERY}").text
        with pytest.raises(octans.errors.OctansError) as caught:
            session.sql(f"EXPLAIN {QUERY} WITH SLO (energy <= 3 J)")
        assert "declares no POWER" in str(caught.value.notes)


def test_an_undeclared_device_is_still_the_user_s_mistake(world):
    root = stage(numbers(4))
    root = root.replace(choice=root.choice.replace(device="nowhere"))
    with pytest.raises(octans.errors.RunError) as caught:
        world.run(root).read_all()
    assert caught.value.code == "OC0408"
