"""What is stopped early costs no cascade: those found are the ones that plain profiling finds.

A model of one step over rows of known hardness, four variants drawn by a seed: some are dearer than
better ones, confidences are worth more or less. Answers and times are computed, so that nothing but
the way of profiling can make a difference.
"""

from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from octans.ir.models import Metric
from octans.ir.physical import Choice, PhysicalPlan, SqlScan, SqlStep, Stage
from octans.ir.types import ROW, Field, column
from octans.stats.cascades import parse_cascade
from octans.stats.cascading import CascadesMeasure
from octans.stats.meter import Meter
from octans.stats.profile import DEFAULT, PLAIN, Aim, Limits, ProfiledStep, Request, profile
from octans.stats.runner import StageRun

ROWS = 1500
SEEDS = range(6)
NAMES = ("f.a", "f.b", "f.c", "f.d")


class World:
    """Answers, confidences and seconds of every variant on every row."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        hard = rng.random(ROWS)
        right = np.sort(rng.uniform(0.6, 0.97, len(NAMES)))
        # The dearest is the best; of the others one may be dearer than a better one.
        order = [*rng.permutation(len(NAMES) - 1), len(NAMES) - 1]
        self.seconds = {n: 1e-5 * 4.0**place for place, n in enumerate(NAMES)}
        self.clock = 0.0
        self.answers, self.sure = {}, {}
        for name, place in zip(NAMES, order, strict=True):
            noise = rng.normal(0.0, 0.15, ROWS)
            self.answers[name] = np.where(hard + noise < right[place], 1, 0)
            blur = rng.choice([0.05, 0.2, 0.6])
            self.sure[name] = np.clip(1.0 - hard + rng.normal(0.0, blur, ROWS), 0.0, 1.0)

    def scan(self, scan):
        rows = pa.array(range(ROWS), pa.int64())
        return pa.table({"x": rows, ROW: rows})

    def run_step(self, step, table):
        columns = ", ".join(f'{c.expr.text} AS "{c.name}"' for c in step.columns)
        with duckdb.connect() as connection:
            connection.register("given", table)
            return connection.sql(f"SELECT {columns}, {ROW} FROM given").arrow().read_all()

    def run_stage(self, stage, table):
        name, batch = stage.choice.variant, stage.choice.batch
        rows = table.column("x").to_numpy()
        values = (self.answers[name][rows], self.sure[name][rows])
        for field, own in zip(stage.outputs, values, strict=True):
            table = table.append_column(field.name, pa.array(own))
        sizes = [min(batch, len(rows) - at) for at in range(0, len(rows), batch)]
        seconds = [1e-6 + self.seconds[name] * size for size in sizes]
        self.clock += sum(seconds)
        return StageRun(table, seconds, sizes, len(rows), failed_elements=0)

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC)


def request(aim):
    scan = SqlScan("SELECT x FROM source", (Field("x", "BIGINT"),))
    outputs = (Field("f.y", "BIGINT"), Field("f.sure", "DOUBLE"))
    stage = Stage(scan, "f", "f", "f", ("x",), outputs, ("y", "sure"), Choice("f.d"))
    metric = Metric("exact_match", "y")
    return Request(
        "f",
        PhysicalPlan(SqlStep(stage, tuple(map(column, stage.schema)))),
        {"f": [Choice(name) for name in NAMES]},
        {"f": ProfiledStep("f", metric, Choice("f.d"), confidence="sure")},
        metric,
        {("f", "y"): pa.chunked_array([pa.array(np.ones(ROWS, dtype=np.int64))])},
        aim=aim,
    )


@cache
def profiled(seed, aim, **given):
    price = lambda choice, run: sum(run.batch_seconds)  # noqa: E731
    return profile(request(aim), World(seed), limits=Limits(price=price), **given)


def cascades(outcome):
    """Members, thresholds → quality and price of an element of what was recorded."""
    found = {}
    for seen in outcome.observations:
        if seen.metric == "cascade":
            own = found.setdefault((parse_cascade(seen.assignment), seen.variant), {})
            own[seen.statistic] = seen.value
    seconds = World(0).seconds
    return {
        cascade: (
            own["quality"],
            seconds[cascade[0][0][0][0]]
            + sum(
                own[f"reach({place})"] * seconds[name]
                for place, name in enumerate(
                    [*(name for name, _ in cascade[0][0][1:]), cascade[1]], start=1
                )
            ),
        )
        for cascade, own in found.items()
    }


def short(outcome):
    """Variants surely less accurate than asked."""
    return {done.variant for done in outcome.decided if done.reason.startswith("surely below")}


@pytest.mark.parametrize("aim", [Aim(), Aim(accuracy=0.85, maximize_accuracy=True)], ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_cascades_are_those_of_plain_profiling(seed, aim):
    """Thresholds too: neither which rows were looked at first nor how often is seen in them.

    Where a last member is surely not as accurate as asked, its cascades are not, either.
    """
    ours, plain = profiled(seed, aim), profiled(seed, aim, strategy=PLAIN)
    wanted = {found for found in cascades(plain) if found[1] not in short(ours)}
    assert set(cascades(ours)) == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cheapest_that_is_as_accurate_as_asked_is_found(seed):
    """Even by choices that were stopped as they suffice, or fall short, by themselves."""
    aim = Aim(accuracy=0.85)
    ours, plain = profiled(seed, aim), profiled(seed, aim, strategy=PLAIN)
    cheapest = {
        min(
            (
                (price, found)
                for found, (quality, price) in cascades(each).items()
                if quality >= 0.85
            ),
            default=None,
        )
        for each in (ours, plain)
    }
    assert len(cheapest) == 1


def test_without_a_second_look_at_what_was_stopped_cascades_are_lost(monkeypatch):
    """So that the tests above can fail."""
    aim = Aim(accuracy=0.85, maximize_accuracy=True)
    whole = [set(cascades(profiled(seed, aim))) for seed in SEEDS]
    monkeypatch.setattr(CascadesMeasure, "lacking", lambda *given: [])
    lost = [
        set(cascades(profiled.__wrapped__(seed, aim))) < found
        for seed, found in zip(SEEDS, whole, strict=True)
    ]
    assert sum(lost) >= 3


def test_rows_are_saved_all_the_same():
    aims = [Aim(), Aim(accuracy=0.85)]
    ours, plain = (
        sum(
            sum(profiled(seed, aim, strategy=strategy).evaluations.values())
            for seed in SEEDS
            for aim in aims
        )
        for strategy in (DEFAULT, PLAIN)
    )
    assert ours < 0.85 * plain


def test_a_budget_that_does_not_allow_the_second_look_says_so():
    """What was stopped stays so, and cascades without it are kept."""
    aim, seed = Aim(accuracy=0.85, maximize_accuracy=True), 2
    whole = World(seed)
    profile(request(aim), whole, clock=lambda: whole.clock)
    world = World(seed)
    limits = Limits(seconds=0.99 * whole.clock)
    outcome = profile(request(aim), world, limits=limits, clock=lambda: world.clock)
    (done,) = outcome.decided
    assert [note for note in outcome.notes if f"no cascade with {done.variant}: about" in note]
    assert outcome.stopped is None
    members = {name for found in cascades(outcome) for name, _ in found[0][0]}
    assert members
    assert done.variant not in members


def test_a_member_is_priced_by_its_time_and_tokens_not_by_what_evaluation_took():
    """Evaluation takes longer the fewer rows there are to look at."""
    own = Choice("f.d")
    (stage,) = request(Aim()).plan.stages
    run = StageRun(pa.table({}), (5.0,), (10,), 10, tokens_out=20)
    meter = Meter(
        SimpleNamespace(run_stage=lambda stage, table: run),
        seconds=None,
        usd=None,
        price=lambda choice, run: 2.0 * sum(run.batch_seconds) + 3.0 * (run.tokens_out or 0),
        cancelled=None,
        clock=lambda: 0.0,
    )
    assert meter.usd_in("f", own, 0.1) is None, "its tokens are not known yet"
    meter.run_stage(stage, run.table)
    assert meter.usd_in("f", own, 0.1) == pytest.approx(2.0 * 0.1 + 3.0 * 20 / 10)
