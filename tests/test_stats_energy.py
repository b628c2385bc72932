"""What a call's energy is, how sure that is, and what planning makes of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from octans.cost.model import CostModel, Flow
from octans.cost.stages import stage_cost
from octans.ir.models import Device
from octans.ir.physical import Choice
from octans.stats.energy import Energy, Metered, energy_statistic, joules_per_call, pooled
from octans.stats.intervals import repeated
from octans.stats.observation import Observation
from octans.stats.profile import Limits, Policy, profile
from octans.stats.recorder import Recorder
from octans.stats.statistics import Statistics
from profiling import FIXED_SECONDS, SECONDS, FakeRunner, request, rows
from toys import numbers, stage

AT = datetime(2026, 1, 1, tzinfo=UTC)


def energy(joules, elements, *, edge=0.0, seconds=1.0, meter="rapl", split=False):
    """What a counter charged in windows of these joules and elements."""
    joules, elements = np.asarray(joules, float), np.asarray(elements, float)
    moments = (float(joules @ joules), float(elements @ elements), float(joules @ elements))
    return Energy(
        meter, float(joules.sum()), int(elements.sum()), len(joules), seconds, len(joules), edge,
        1e-3, split, moments,
    )  # fmt: skip


def test_a_call_takes_its_share_of_all_joules():
    found = joules_per_call(energy([2.0, 4.0], [10, 20]), 5)
    assert found.value == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0, abs=1e-6)
    assert found.high == pytest.approx(1.0, abs=1e-6), "windows agree: nothing is uncertain"


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Windows of unequal numbers of elements, joules scattered about 0.3 J an element."""
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(600):
        elements = rng.integers(5, 50, size=8)
        joules = elements * 0.3 + rng.normal(0, 1.0, size=8)
        found = joules_per_call(energy(joules, elements), 1)
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / 600 <= 0.99


def test_a_counter_s_step_widens_the_interval():
    plain = joules_per_call(energy([2.0, 2.1, 1.9], [10, 10, 10]), 1)
    stepped = joules_per_call(energy([2.0, 2.1, 1.9], [10, 10, 10], edge=1.5), 1)
    assert stepped.high - stepped.value == pytest.approx(
        np.hypot(plain.high - plain.value, 1.5 / 30)
    )
    assert stepped.low < plain.low


def test_one_window_is_trusted_within_a_factor_of_two():
    found = joules_per_call(energy([3.0], [3]), 2)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 1.0, 4.0))


@pytest.mark.parametrize("unknown", [energy([1.0], [4], edge=0.6), energy([0.0, 0.0], [4, 4])])
def test_what_the_counter_cannot_tell_is_unknown_not_small(unknown):
    assert joules_per_call(unknown, 1) is None
    assert unknown.watts is None


def test_runs_of_one_meter_pool():
    both = pooled([energy([1.0], [2], edge=3e-3), energy([2.0, 3.0], [4, 6], edge=4e-3)])
    whole = energy([1.0, 2.0, 3.0], [2, 4, 6], edge=5e-3, seconds=2.0)
    assert both.moments == pytest.approx(whole.moments)
    assert (both.joules, both.elements, both.edge_joules) == pytest.approx((6.0, 12, 5e-3))
    assert pooled([]) is None


def test_the_first_run_warms_up_and_is_left_out():
    metered = Metered()
    metered.add(8, energy([90.0], [8]), [1.0])
    metered.add(8, None, [1.0])
    assert metered.at(8).joules == 90.0
    metered.add(8, energy([1.0], [8]), [1.0])
    assert metered.at(8).joules == 1.0


def test_short_calls_do_not_count_as_elements_of_full_ones():
    """A call of 8 takes 4 s, one of a single element 2 s, both at 10 W: a call of 8 takes 40 J."""
    metered = Metered()
    metered.add(8, energy([40.0, 20.0], [8, 1], seconds=6.0), [4.0])
    assert joules_per_call(metered.at(8), 8).value == pytest.approx(40.0)


def test_a_slow_counter_is_given_longer_runs_until_it_tells():
    metered = Metered()
    metered.add(4, energy([0.01], [4], edge=0.1, seconds=0.01), [0.01])
    asked = []

    def run(calls):
        asked.append(calls)
        charged = energy([0.5] * calls, [4] * calls, edge=0.1, seconds=0.01 * calls)
        metered.add(4, charged, [0.01] * calls)

    metered.top_up(4, 0.01, run)
    assert asked == [1], "4 ms at 10 ms a call"
    metered.top_up(4, 0.01, run)
    assert len(asked) == 1, "what is known is not measured again"
    Metered().top_up(4, 0.01, run)
    assert len(asked) == 1, "where nothing meters, nothing is repeated"


def test_a_counter_that_never_tells_is_not_asked_forever():
    metered = Metered()
    metered.add(4, energy([0.0], [4], edge=0.1, seconds=0.01), [0.01])
    asked = []
    metered.top_up(4, 0.01, asked.append)
    assert 1 <= len(asked) <= 3


def test_observations_name_their_counter():
    rows = []
    metered = Metered()
    for batch in (1, 4):
        charged = energy([2.0, 2.0], [batch, batch], meter="nvml", split=batch == 4)
        metered.add(batch, charged, [0.5, 0.5])
    metered.add(16, energy([0.1], [16], edge=1.0), [1.0])
    choice = Choice("m.v", (), 4, "gpu")
    metered.record(Recorder(rows, lambda: AT, 7, {}), stage(numbers(1)), choice)
    assert [(row.metric, row.statistic, row.batch, row.value) for row in rows] == [
        ("energy", "mean(nvml)", 1, 2.0),
        ("energy", "mean(nvml, split)", 4, 2.0),
    ]
    assert {row.device for row in rows} == {"gpu"}


def test_repeated_times():
    assert repeated([2.0]).high == 4.0
    many = repeated([1.0, 1.2, 0.8])
    assert many.low < many.value < many.high
    assert many.n == 3


# --- what planning makes of it --------------------------------------------------------------------


def observed(metric, value, *, statistic="mean", batch=None, subject="m", **more):
    settings = {"n": 50, "at": AT, "low": value * 0.9, "high": value * 1.1} | more
    return Observation(
        subject, metric, statistic, value, variant="m.v", device="d", batch=batch, **settings
    )


LATENCIES = [observed("latency", s, batch=b) for b, s in ((1, 0.01), (4, 0.02), (64, 0.1))]


def test_a_number_of_its_own_beats_one_that_was_shared():
    old = observed("energy", 1.0, statistic="mean(rapl)", batch=4)
    later = AT + timedelta(days=1)
    shared = observed("energy", 9.0, statistic="mean(rapl, split)", batch=4, at=later)
    found = Statistics([*LATENCIES, shared, old]).energy("m", "m.v", "", "d", 4)
    assert (found[0].value, found[1]) == (1.0, "rapl")
    found = Statistics([*LATENCIES, shared]).energy("m", "m.v", "", "d", 4)
    assert (found[0].value, found[1]) == (9.0, "rapl, split")
    imported = observed("energy", 2.0, batch=4, at=later)
    found = Statistics([*LATENCIES, imported, old]).energy("m", "m.v", "", "d", 4)
    assert (found[0].value, found[1]) == (2.0, "")


def test_a_step_s_energy_goes_with_its_own_latency_or_its_model_s():
    of_model = observed("energy", 1.0, statistic="mean(rapl)", batch=4)
    found = Statistics([*LATENCIES, of_model])
    assert found.energy("p.s", "m.v", "", "d", 4)[0].value == 1.0
    own = observed("latency", 0.5, batch=4, subject="p.s")
    found = Statistics([*LATENCIES, of_model, own])
    assert found.energy("p.s", "m.v", "", "d", 4) is None, "of calls that took another time"


def calls(*rows, power=None, grid=None):
    device = Device("d", "cpu", power_watts=power, grid_g_co2_per_kwh=grid)
    model = CostModel(Statistics([*LATENCIES, *rows]), {"d": device}, {})
    return {call.batch: call for call in model.calls("m", "m.v", "", "d")}


def test_without_measurements_energy_is_power_times_busy_time():
    found = calls(power=100.0)
    assert found[4].energy.value == pytest.approx(2.0)
    assert (found[4].energy.source, found[4].energy_source) == ("modelled", "POWER")
    assert all(call.energy is None for call in calls().values()), "unknown is not 0"


def test_a_measured_energy_beats_power_and_lends_its_power_to_other_sizes():
    found = calls(observed("energy", 0.6, statistic="mean(rapl)", batch=4), power=1000.0)
    assert (found[4].energy.value, found[4].energy.source) == (0.6, "measured")
    assert found[4].energy_source == "rapl"
    for batch, seconds in ((1, 0.01), (64, 0.1)):
        assert found[batch].energy.value == pytest.approx(30.0 * seconds)
        assert found[batch].energy.source == "modelled"
        assert found[batch].energy_source == "rapl at batch 4"
        assert found[batch].energy.low < found[batch].energy.value < found[batch].energy.high


def test_the_nearest_size_lends_its_power():
    found = calls(
        observed("energy", 0.1, statistic="mean(rapl)", batch=1),
        observed("energy", 5.0, statistic="mean(rapl)", batch=64),
    )
    assert found[4].energy.value == pytest.approx(0.02 * 10.0), "two doublings to 1, four to 64"


def test_energy_and_emissions_of_a_row():
    call = calls(observed("energy", 0.6, statistic="mean(rapl)", batch=4), grid=360.0)[4]
    whole = stage_cost(call, Flow(), {})
    assert whole.cost.energy.value == pytest.approx(0.15)
    assert (whole.cost.energy.source, whole.energy_source) == ("measured", "rapl")
    assert whole.cost.co2.value == pytest.approx(0.15 / 3.6e6 * 360)
    flow = Flow(lengths=((2, 0.5), (4, 0.5)), length_n=10)
    assert stage_cost(call, flow, {}).cost.energy.value == pytest.approx(0.45)


def test_the_statistic_says_what_counted():
    assert energy_statistic(energy([1.0], [1], split=True)) == "mean(rapl, split)"


# --- profiling ------------------------------------------------------------------------------------


VARIANTS = {"read.poor", "read.fair", "read.base", "again.good", "again.weak"}
"""All: BASE misreads no row, but `read.poor` does, and those reach `again`."""


class MeteredRunner(FakeRunner):
    """Draws 100 W while busy; the counter moves every `step` seconds."""

    def __init__(self, data, step):
        super().__init__(data)
        self.step = step

    def run_stage(self, stage, table):
        run = super().run_stage(stage, table)
        seconds = sum(run.batch_seconds)
        joules = [100.0 * s for s in run.batch_seconds]
        counted = energy(joules, run.batch_sizes, edge=100.0 * self.step, seconds=seconds)
        return replace(run, energy=replace(counted, resolution_seconds=self.step))


def profiled(step, **limits):
    data = rows(80)
    runner = MeteredRunner(data, step)
    found = profile(
        request(data), runner, limits=Limits(**limits), policy=Policy(max_batch=16),
        clock=runner.seconds,
    )  # fmt: skip
    energies = {
        (o.subject, o.variant, o.batch): o for o in found.observations if o.metric == "energy"
    }
    return energies, found


def test_profiling_measures_joules_a_call_at_every_batch_size():
    energies, _ = profiled(1e-5)
    variants = {variant for _, variant, _ in energies}
    assert variants == VARIANTS
    for (_, variant, batch), seen in energies.items():
        seconds = FIXED_SECONDS + batch * SECONDS.get(variant, 2e-4)
        assert seen.value == pytest.approx(100.0 * seconds, rel=0.1)
        assert seen.low <= 100.0 * seconds <= seen.high
    assert len(energies) > 2 * len(variants)


def test_a_slow_counter_tells_at_least_the_best_batch_size():
    energies, _ = profiled(0.1)
    assert {variant for _, variant, _ in energies} == VARIANTS


def test_a_budget_too_small_for_a_slow_counter_costs_only_the_energy():
    energies, found = profiled(3.0, seconds=4.0)
    assert not energies
    assert found.stopped is None
    assert not found.left_out
    assert any(o.metric == "accuracy" for o in found.observations)
