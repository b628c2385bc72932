"""Profiling whole plans within a budget: what cannot fit is refused before it runs."""

import itertools

import profiling
import pytest
from octans.ir.physical import Choice
from octans.stats.meter import Meter, Stopped
from octans.stats.plan_profile import PlanProfiler
from octans.stats.plan_seen import Broken, TooDear

DATA = profiling.rows(120)
ROW_SECONDS = 5 * (profiling.FIXED_SECONDS + max(profiling.SECONDS.values()))
"""A row at batch 1: five elements at most, a call each."""


def profiler(*, seconds=None, usd=None):
    """Of the digits' pipeline; a model second costs a USD."""
    runner = profiling.FakeRunner(DATA)
    meter = Meter(
        runner,
        seconds=seconds,
        usd=usd,
        price=lambda _, run: sum(run.batch_seconds),
        cancelled=None,
        clock=runner.seconds,
    )
    return PlanProfiler(profiling.request(DATA), meter), runner


def plan(read, again, batch):
    return {"p.read": Choice(read, batch=batch), "p.again": Choice(again, batch=batch)}


PLANS = [
    (plan(read, again, batch), units)
    for units, batch, read, again in itertools.product(
        (8, 64), (64, 1, 16), ("read.base", "read.poor"), ("again.weak", "again.good")
    )
]


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("unit", ["seconds", "usd"])
def test_a_budget_is_passed_by_no_more_than_a_row(unit, limit):
    """However dear the batch that is asked for, and whatever is known of it."""
    one, runner = profiler(**{unit: limit})
    refused = 0
    for choices, units in PLANS:
        try:
            one.evaluate(choices, units)
        except TooDear:
            refused += 1
        except Stopped:
            break
    assert runner.clock <= limit + ROW_SECONDS
    assert refused or runner.clock >= limit or limit == 0.3


def test_blocks_that_do_not_fit_are_left_out():
    """The first rows' scores are kept: fewer rows than were asked for, not none."""
    whole, _ = profiler()
    everything = whole.evaluate(plan("read.base", "again.good", 16), 64)
    some, runner = profiler(seconds=0.1)
    found = some.evaluate(plan("read.base", "again.good", 16), 64)
    assert 8 <= len(found.scores) < len(everything.scores)
    assert found.scores == everything.scores[: len(found.scores)]
    assert runner.clock <= 0.1


def test_without_a_budget_nothing_is_tried_alone():
    one, runner = profiler()
    one.evaluate(plan("read.base", "again.good", 16), 8)
    assert runner.calls[0] == ("read.base", 16, 8)


def test_a_first_call_that_warms_up_refuses_nothing():
    """A second row tells what calls take from then on."""

    class Cold(profiling.FakeRunner):
        def run_stage(self, stage, table):
            run = super().run_stage(stage, table)
            if len(self.calls) > 1:
                return run
            self.clock += 0.2
            return type(run)(
                run.table, [0.2 + s for s in run.batch_seconds], run.batch_sizes, run.elements
            )

    runner = Cold(DATA)
    meter = Meter(
        runner, seconds=0.5, usd=None, price=None, cancelled=None, clock=lambda: runner.clock
    )
    one = PlanProfiler(profiling.request(DATA), meter)
    assert len(one.evaluate(plan("read.base", "again.good", 16), 8).scores) == 8


@pytest.mark.parametrize("works", [False, True])
def test_what_fails_says_why(works):
    """At every size, or only at a batch: told apart, with the first reason."""

    class Failing(profiling.FakeRunner):
        def run_stage(self, stage, table):
            run = super().run_stage(stage, table)
            if works and stage.choice.batch == 1:
                return run
            failed = dict.fromkeys(range(table.num_rows), "ValueError: boom")
            return type(run)(run.table, [], [], run.elements, failed, failed_elements=run.elements)

    runner = Failing(DATA)
    meter = Meter(runner, seconds=None, usd=None, price=None, cancelled=None, clock=runner.seconds)
    one = PlanProfiler(profiling.request(DATA), meter)
    if works:
        one.evaluate(plan("read.base", "again.good", 1), 8)
    with pytest.raises(Broken, match=r"failed: ValueError|succeeded: ValueError") as caught:
        one.evaluate(plan("read.base", "again.good", 16), 8)
    assert caught.value.sized == works
