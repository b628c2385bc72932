"""What calls cost follows the number of rows: no part of a batch is cheaper than one call."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from octans.cost.cascade import cascade_call
from octans.cost.compose import per_row, work
from octans.cost.model import Call, Flow
from octans.cost.stages import Taken, stage_cost
from octans.ir.estimates import Estimate
from octans.ir.models import Device
from octans.stats.cascades import CascadeStatistics

CPU = Device("cpu", "cpu", count=1, usd_per_hour=3600.0)
SIZES = (1, 4, 16, 128)
ladders = st.lists(st.floats(0.0, 5.0), min_size=4, max_size=4).map(
    lambda steps: [0.001 + sum(steps[: at + 1]) for at in range(4)]
)


def about(value, n=30):
    return Estimate(value, value * 0.9, value * 1.2, n)


def exact(value):
    return Estimate(value, value, value, 0)


def calls(seconds, joules=None, variant="m.v", **known):
    """A call at every size, with the times and energies given."""
    found = []
    for place, size in enumerate(SIZES):
        quantiles = ((0.5, about(0.9 * seconds[place])), (0.95, about(1.5 * seconds[place])))
        energy = None if joules is None else about(joules[place])
        found.append(
            Call(
                variant, "", size, CPU, about(seconds[place]), quantiles, exact(0.0), None, None,
                about(0.9), energy, "rapl", smaller=tuple(found), **known,
            )
        )  # fmt: skip
    return found


@given(st.integers(0, 1000), st.sampled_from(SIZES), ladders)
def test_elements_take_what_their_calls_take(n, batch, seconds):
    """The reference pools them as the executor does: full batches, then what is left."""
    one = calls(seconds)[SIZES.index(batch)].times.value
    expected = 0.0
    left = n
    while left > 0:
        expected += one(min(left, batch))
        left -= batch
    assert work(n, batch, one) == pytest.approx(expected)


@given(st.lists(st.floats(0.0, 500.0), min_size=2, max_size=40), st.sampled_from(SIZES), ladders)
def test_expected_elements_take_more_the_more_they_are_and_never_part_of_a_call(ns, batch, seconds):
    one = calls(seconds)[SIZES.index(batch)].times.value
    took = [(n, work(n, batch, one)) for n in sorted(ns)]
    for (fewer, low), (more, high) in pairwise(took):
        assert low <= high * (1 + 1e-9)
        # No jumps: an element more takes at most a call of one, or a step of the curve.
        steepest = max(seconds[0], *((b - a) for a, b in pairwise(seconds)))
        assert high - low <= (more - fewer) * steepest + 1e-6
    assert all(value >= min(n, 1.0) * one(1) * (1 - 1e-9) for n, value in took)


@given(st.floats(1e3, 1e6), st.sampled_from(SIZES), ladders)
def test_many_rows_take_their_share_of_full_calls_to_within_one(n, batch, seconds):
    one = calls(seconds)[SIZES.index(batch)].times.value
    assert abs(work(n, batch, one) - n * one(batch) / batch) <= one(batch) * (1 + 1e-9)
    assert per_row(1.0, 1.0, batch, one, None) == one(batch) / batch


@given(st.floats(0.01, 4.0), ladders, ladders)
def test_too_few_elements_cost_the_same_whatever_batch_they_do_not_fill(n, seconds, joules):
    """They make the same call."""
    few = [call for call in calls(seconds, joules) if call.batch >= 4]
    rows = exact(n)
    costs = [stage_cost(call, Flow(), {"latency_p95": 0.95}, rows=rows) for call in few]
    for cost in costs[1:]:
        assert cost.busy == costs[0].busy
        assert cost.cost == replace(costs[0].cost, memory=None)
        assert cost.service == costs[0].service


@pytest.mark.parametrize("rows", [0.0, 0.5, 1.0, 3.0, 100.0, 128.0, 1000.0])
def test_estimates_agree_with_the_floats_that_the_search_reads(rows):
    flow = Flow((about(0.5),), ((1, 0.5), (4, 0.5)), 10, about(0.8))
    for call in calls([0.1, 0.2, 0.3, 0.9], [1.0, 2.0, 3.0, 5.0]):
        cost = stage_cost(call, flow, {}, rows=exact(rows))
        took = Taken(call, flow.called_share, flow.lengths, rows)
        assert cost.busy.value == pytest.approx(took.busy)
        assert cost.cost.cost.value == pytest.approx(took.usd)
        assert cost.cost.energy.value == pytest.approx(took.joules)
        assert cost.total_busy.value == pytest.approx(took.busy * rows)
        assert cost.busy.low < cost.busy.value < cost.busy.high


def test_a_single_row_waits_for_a_whole_call():
    """200 ms a call at any size: one row takes 200 ms, not 200 ms / 128."""
    call = calls([0.2] * 4)[-1]
    cost = stage_cost(call, Flow(), {"latency_p50": 0.5}, rows=exact(1.0))
    assert cost.busy == about(0.2)
    assert cost.total_busy == about(0.2)
    assert cost.cost.total_cost.value == pytest.approx(0.2)
    endless = stage_cost(call, Flow(), {})
    assert endless.busy.value == pytest.approx(0.2 / 128)
    assert endless.total_busy is endless.cost.total_cost is None


def test_a_row_of_few_waits_for_a_call_of_their_size():
    call = calls([0.1, 0.2, 0.4, 1.0])[-1]
    level = {"latency_p50": 0.5}
    few, many = (stage_cost(call, Flow(), level, rows=exact(n)) for n in (4.0, 1000.0))
    assert few.service["latency_p50"].value == pytest.approx(0.9 * 0.2)
    assert many.service["latency_p50"].value == pytest.approx(0.9 * 1.0)


def test_totals_cover_what_fewer_and_more_rows_would_take():
    """Of one row to 300: from one call to three, though a row's share falls meanwhile."""
    call = calls([0.2] * 4)[-1]
    total = stage_cost(call, Flow(), {}, rows=Estimate(128.0, 1.0, 300.0, 0, "prior")).total_busy
    assert total.value == pytest.approx(0.2)
    assert total.low == pytest.approx(0.2 * 0.9)
    assert total.high == pytest.approx(3 * 0.2 * 1.2)
    assert total.source == "prior"


def test_members_of_a_cascade_pool_their_own_shares():
    """Of 64 elements a quarter reaches the second member, which fills one batch of 16."""
    cheap = calls([0.1, 0.1, 0.1, 0.1], variant="m.a")[-1]
    dear = calls([1.0, 2.0, 3.0, 9.0], variant="m.b")[2]
    reach = (about(0.25),)
    names = (("m.a", ""), ("m.b", ""))
    both = CascadeStatistics(names, (0.5,), reach, about(0.9), about(0.0), {}, 0.95)
    call = cascade_call(("m.b", ""), (cheap, dear), both)
    for rows, expected in ((64.0, 0.1 + 3.0), (128.0, 0.1 + 2 * 3.0), (4.0, 0.1 + 1.0)):
        cost = stage_cost(call, Flow(), {}, rows=exact(rows))
        assert cost.total_busy.value == pytest.approx(expected)
        parts = [member.total_busy.value for member in cost.members]
        assert math.fsum(parts) == pytest.approx(expected)
