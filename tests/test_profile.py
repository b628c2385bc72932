"""ANALYZE measures what is true, on the rows it says, and stops when told."""

from __future__ import annotations

import threading
from itertools import pairwise
from statistics import fmean

import duckdb
import pyarrow as pa
import pytest
from octans.errors import InternalError, PlanError, RunError
from octans.executor.environment import Environment
from octans.executor.runner import LocalRunner
from octans.ir.models import Backend, Device, Metric, Model, Variant
from octans.ir.physical import Choice, PhysicalPlan, StopAfter
from octans.ir.types import ROW, Field
from octans.stats.held_back import held_back_scores
from octans.stats.ladder import Policy
from octans.stats.lineage import chain
from octans.stats.profile import PLAIN, Aim, Limits, ProfiledStep, profile
from octans.stats.sequential import blocks
from octans.stats.statistics import Statistics
from octans.stats.strategy import DEFAULT
from profiling import (
    ERRORS,
    FIXED_SECONDS,
    SECONDS,
    FakeRunner,
    fits,
    number,
    plan,
    reading,
    request,
    result,
    rows,
)

DATA = rows(300)
READS = ("read.poor", "read.fair", "read.base")


@pytest.fixture(scope="module")
def measured():
    runner = FakeRunner(DATA)
    return profile(request(DATA), runner), runner


@pytest.fixture(scope="module")
def statistics(measured):
    return Statistics(measured[0].observations)


def right_elements(variant, data):
    return [
        a == d for digits in data for a, d in zip(reading(variant, digits), digits, strict=True)
    ]


def test_quality_is_the_share_of_right_elements(statistics):
    for variant in READS:
        estimate = statistics.quality("p.read", variant, "")
        assert estimate.value == pytest.approx(fmean(right_elements(variant, DATA)))
        assert estimate.low < estimate.value <= estimate.high
        assert estimate.n == len(DATA), "rows are the units: elements of a row depend on each other"


def test_rate_and_quality_follow_the_conditioning_choice(statistics):
    for first in READS:
        ran = [d for d in DATA if not fits(reading(first, d))]
        given = ("p.read", first, "")
        assert statistics.rate("p.again", given).value == pytest.approx(len(ran) / len(DATA))
        for second in ("again.good", "again.weak"):
            if ran:
                quality = statistics.quality("p.again", second, "", given)
                assert quality.value == pytest.approx(fmean(right_elements(second, ran)))
                assert quality.n == len(ran)


def test_a_replaced_step_is_scored_where_it_was_kept(statistics):
    for first in READS:
        kept = [d for d in DATA if fits(reading(first, d))]
        quality = statistics.quality("p.read", first, "", ("p.read", first, ""))
        assert quality.value == pytest.approx(fmean(right_elements(first, kept)))


def test_every_assignment_is_measured_end_to_end(statistics):
    found = statistics.end_to_end("p")
    assert len(found) == 6
    for first in READS:
        for second in ("again.good", "again.weak"):
            right = [result(first, second, d) == number(d) for d in DATA]
            estimate = found[f"p.again={second}();p.read={first}()"]["accuracy"]
            assert estimate.value == pytest.approx(fmean(right))
            assert estimate.n == len(DATA)


def test_lengths_distinct_memory_and_load(statistics):
    pmf = dict(statistics.lengths("p.read"))
    assert pmf == pytest.approx({3: 1 / 3, 4: 1 / 3, 5: 1 / 3})
    assert statistics.length_n("p.read") == len(DATA)
    assert statistics.distinct("p.read").value == len({tuple(d) for d in DATA}) / len(DATA)
    assert statistics.memory("p.read", "read.base", "", "cpu").value == 1000
    assert statistics.load("p.read", "read.base", "", "cpu").value == 0.5


def test_latencies_are_those_of_full_batches(statistics):
    for variant in READS:
        batches = statistics.batches("p.read", variant, "", "cpu")
        assert batches[:2] == (1, 2)
        for batch in batches:
            mean = statistics.latency("p.read", variant, "", "cpu", batch, "mean")
            assert mean.value == pytest.approx(FIXED_SECONDS + batch * SECONDS[variant])


def test_sizes_double_and_leave_out_only_what_lies_between_equals(statistics):
    plain = Statistics(profile(request(DATA), FakeRunner(DATA), strategy=PLAIN).observations)
    for variant in READS:
        every = plain.batches("p.read", variant, "", "cpu")
        assert every == tuple(2**i for i in range(len(every)))
        kept = statistics.batches("p.read", variant, "", "cpu")
        assert kept[0] == 1
        for before, after in pairwise(kept):
            assert after in (2 * before, 4 * before)
            if after == 4 * before:
                smaller = FIXED_SECONDS + before / 2 * SECONDS[variant]
                assert FIXED_SECONDS + before * SECONDS[variant] <= 1.15 * smaller


def test_batches_stop_growing_when_they_no_longer_pay(statistics):
    # Seconds per element are s + F/b: quadrupling b gains 5 % until F/b falls below about 0.07 s.
    for variant in READS:
        per = SECONDS[variant]
        last = statistics.batches("p.read", variant, "", "cpu")[-1]
        gain = (per + FIXED_SECONDS / last) / (per + FIXED_SECONDS / (last / 4))
        assert gain > 0.9
        before = last / 2
        gain = (per + FIXED_SECONDS / before) / (per + FIXED_SECONDS / (before / 4))
        assert gain <= 0.95


def test_prefixes_are_computed_once(measured):
    _, runner = measured
    whole = [call for call in runner.calls if call[2] == len(DATA) and call[0].startswith("read")]
    # Apart from the ladder's calls, each reading of all rows is made once for all assignments.
    assert len([c for c in whole if c[0] == "read.poor" and c[1] >= 16]) <= 3
    again = [c for c in runner.calls if c[0] == "again.weak"]
    assert len([c for c in again if c[1] >= 16]) <= 12


def test_a_large_model_is_not_repeated_needlessly():
    slow = dict(SECONDS) | {"read.base": 5.0}
    runner = FakeRunner(DATA)
    whole = sum(map(len, DATA)) * 5.0
    SECONDS.update(slow)
    try:
        profile(request(DATA, choices={}, metric=None, steps={}), runner, policy=Policy())
    finally:
        SECONDS["read.base"] = 4e-4
    # One pass over all rows, and at three batch sizes a warm-up and at most three calls.
    assert runner.clock < whole + 5.0 * (4 * 1 + 4 * 2 + 4 * 4) + 10


def test_failed_elements_are_wrong_and_counted():
    runner = FakeRunner(DATA)
    bad = {tuple(d) for d in DATA[::10]}
    runner.failing = {"read.fair": bad}
    statistics = Statistics(profile(request(DATA), runner).observations)
    fine = [d for d in DATA if tuple(d) not in bad]
    right = sum(right_elements("read.fair", fine))
    quality = statistics.quality("p.read", "read.fair", "")
    assert quality.value == pytest.approx(right / sum(map(len, DATA)))
    failed = len(DATA) - len(fine)
    failure = statistics.failure("p.read", "read.fair", "", "cpu")
    assert failure.value == pytest.approx(failed / sum(map(len, DATA)))
    ends = statistics.end_to_end("p")["p.again=again.good();p.read=read.fair()"]["accuracy"]
    right_rows = sum(result("read.fair", "again.good", d) == number(d) for d in fine)
    assert ends.value == pytest.approx(right_rows / len(DATA))


def test_clusters_are_the_units():
    clusters = [row // 5 for row in range(len(DATA))]
    found = Statistics(profile(request(DATA, clusters=clusters), FakeRunner(DATA)).observations)
    assert found.quality("p.read", "read.poor", "").n == 60
    ends = found.end_to_end("p")["p.again=again.weak();p.read=read.poor()"]["accuracy"]
    assert ends.n == 60
    assert found.rate("p.again").n == 60


def test_without_labels_agreement_with_base_counts():
    steps = {
        "p.read": ProfiledStep("p.read", Metric("exact_match", "digit"), Choice("read.fair")),
        "p.again": ProfiledStep("p.again", Metric("exact_match", "digit"), Choice("again.good")),
    }
    outcome = profile(request(DATA, labels={}, steps=steps), FakeRunner(DATA))
    found = Statistics(outcome.observations)
    agree = [
        a == b
        for d in DATA
        for a, b in zip(reading("read.poor", d), reading("read.fair", d), strict=True)
    ]
    assert found.quality("p.read", "read.poor", "").value == pytest.approx(fmean(agree))
    same = [
        result("read.poor", "again.weak", d) == result("read.fair", "again.good", d) for d in DATA
    ]
    ends = found.end_to_end("p")["p.again=again.weak();p.read=read.poor()"]["accuracy"]
    assert ends.value == pytest.approx(fmean(same))


def test_no_truth_is_said_not_invented():
    steps = {"p.read": ProfiledStep("p.read", Metric("exact_match", "digit"))}
    outcome = profile(request(DATA, labels={}, steps=steps), FakeRunner(DATA))
    assert Statistics(outcome.observations).quality("p.read", "read.poor", "") is None
    assert any("no label for digit" in note for note in outcome.notes)
    assert any(note.startswith("end to end: no label") for note in outcome.notes)


def test_a_budget_keeps_what_was_measured_and_names_the_rest():
    runner = FakeRunner(DATA)
    outcome = profile(request(DATA), runner, limits=Limits(seconds=1.5), clock=runner.seconds)
    assert outcome.stopped is not None or outcome.left_out
    assert outcome.observations
    assert "end to end" in " ".join(outcome.left_out)
    found = Statistics(outcome.observations)
    assert found.quality("p.read", "read.base", "") is not None, "the reference comes first"


def spending(usd, **settings):
    """USD are model seconds; every step is reached under the reference choices."""
    limits = Limits(usd=usd, price=lambda choice, run: sum(run.batch_seconds))
    asked = request(DATA, plan=plan("read.poor", "again.good"))
    return profile(asked, FakeRunner(DATA), limits=limits, **settings)


@pytest.mark.parametrize("strategy", [DEFAULT, PLAIN], ids=["default", "plain"])
def test_money_is_not_overspent(strategy):
    """What would cost more than is left is not begun: no block, no larger batch."""
    whole = spending(None, strategy=strategy)
    for share in (0.05, 0.4, 0.95):
        outcome = spending(share * whole.usd, strategy=strategy)
        # Batches that are not full cost more an element than what is known of them.
        assert 0.0 < outcome.usd <= 1.02 * share * whole.usd
        assert outcome.left_out
    assert any("USD are needed, more than the budget leaves" in w for w in outcome.left_out)
    assert not spending(1.01 * whole.usd, strategy=strategy).left_out


@pytest.mark.parametrize("strategy", [DEFAULT, PLAIN], ids=["default", "plain"])
def test_the_first_run_of_a_choice_is_of_one_row(strategy):
    """Nobody knows what it costs, so a bound in USD is passed by no more than that.

    The sure reader leaves nothing to read again: `again` is first called under another one, on all
    rows that one is unsure of.
    """
    runner = FakeRunner(DATA)
    limits = Limits(usd=1e9, price=lambda choice, run: sum(run.batch_seconds))
    profile(request(DATA), runner, strategy=strategy, limits=limits)
    first = {}
    for variant, _, count in runner.calls:
        first.setdefault(variant, count)
    assert {"again.good", "again.weak"} < set(first)
    assert set(first.values()) == {1}


def test_a_ladder_that_money_ends_keeps_its_smaller_sizes():
    whole = Statistics(spending(None).observations).batches("p.read", "read.poor", "", "cpu")
    outcome = spending(0.05)
    kept = Statistics(outcome.observations).batches("p.read", "read.poor", "", "cpu")
    assert 0 < len(kept) < len(whole)
    assert kept == whole[: len(kept)]
    assert any("USD are needed" in note for note in outcome.notes)


def test_cancelling_keeps_what_was_measured():
    event = threading.Event()
    done = []

    def progress(place, total, text):
        done.append((place, total, text))
        if place == 4:
            event.set()

    outcome = profile(
        request(DATA), FakeRunner(DATA), limits=Limits(cancelled=event), progress=progress,
        strategy=PLAIN,
    )  # fmt: skip
    assert outcome.stopped == "cancelled"
    assert outcome.observations
    assert len(outcome.left_out) == done[0][1] - 4


def test_a_variant_that_cannot_run_is_infeasible_not_fatal():
    class Broken(FakeRunner):
        def run_stage(self, stage, table):
            if stage.choice.variant == "read.poor":
                raise RunError("no such file", code="OC0401")
            return super().run_stage(stage, table)

    outcome = profile(request(DATA), Broken(DATA))
    found = Statistics(outcome.observations)
    failure = found.failure("p.read", "read.poor", "", "cpu")
    assert (failure.value, failure.n) == (1.0, 1), "it was asked once, and for no row"
    assert found.quality("p.read", "read.poor", "") is None
    assert not any("read.poor" in text for text in found.end_to_end("p"))
    assert any("read.poor cannot run: no such file" in note for note in outcome.notes)


def test_where_no_choice_can_run_it_is_an_error():
    class Broken(FakeRunner):
        def run_stage(self, stage, table):
            raise RunError("no such file", code="OC0401")

    with pytest.raises(RunError):
        profile(request(DATA), Broken(DATA))


def test_what_was_measured_before_an_error_is_kept():
    class Broken(FakeRunner):
        def run_stage(self, stage, table):
            if stage.model == "again":
                raise RunError("out of memory", code="OC0401")
            return super().run_stage(stage, table)

    kept = []
    with pytest.raises(RunError):
        profile(request(DATA), Broken(DATA), keep=kept)
    assert Statistics(kept).quality("p.read", "read.base", "").value == 1.0


def test_where_base_fails_the_end_to_end_answer_is_wrong():
    """NULL for NULL would be right, were it an answer."""
    runner = FakeRunner(DATA)
    runner.failing["read.base"] = {tuple(DATA[0]), tuple(DATA[1])}
    only = {"p.again": [Choice("again.good")]}
    without = request(DATA, labels={}, choices={**request(DATA).choices, **only})
    found = Statistics(profile(without, runner).observations)
    for text, metrics in found.end_to_end("p").items():
        right = [
            result(text.split("read=")[1][:-2], "again.good", d) == number(d) for d in DATA[2:]
        ]
        assert metrics["accuracy"].n == len(DATA)
        assert metrics["accuracy"].value == pytest.approx(sum(right) / len(DATA))


def test_many_assignments_are_picked_by_the_caller(monkeypatch):
    monkeypatch.setattr("octans.stats.work.MAX_ASSIGNMENTS", 4)
    asked = []

    def pick(observations):
        asked.append(len(observations))
        return [{"p.read": Choice("read.fair"), "p.again": Choice("again.weak")}]

    outcome = profile(request(DATA), FakeRunner(DATA), pick=pick)
    assert asked
    found = Statistics(outcome.observations).end_to_end("p")
    assert list(found) == ["p.again=again.weak();p.read=read.fair()"]


def test_observations_carry_run_time_and_versions():
    outcome = profile(request(DATA[:40], versions={"p.read": 3, "p": 2}), FakeRunner(DATA[:40]))
    for row in outcome.observations:
        assert row.run == 7
        assert row.at.tzinfo is not None
        assert row.subject_version == {"p.read": 3, "p": 2}.get(row.subject, 1)
        assert row.low <= row.value <= row.high


def test_ancestors_are_found_through_columns():
    found = chain(plan())
    assert found.ancestors == {"p.read": frozenset(), "p.again": frozenset({"p.read"})}


def test_only_chains_can_be_profiled():
    with pytest.raises(InternalError):
        chain(PhysicalPlan(StopAfter(plan().root, 3)))


def test_held_back_scores_are_the_truth_and_share_work():
    data = rows(80, "held back")
    runner = FakeRunner(data)
    evaluate = held_back_scores(request(data), runner)
    for first in READS:
        for second in ("again.good", "again.weak"):
            scored = evaluate({"p.read": Choice(first), "p.again": Choice(second)})
            right = [float(result(first, second, d) == number(d)) for d in data]
            assert scored.scores == right
    assert sum(variant.startswith("read") for variant, _, _ in runner.calls) == 3


def test_nothing_can_be_proved_without_a_truth():
    with pytest.raises(PlanError) as caught:
        held_back_scores(request(DATA, labels={}), FakeRunner(DATA))
    assert caught.value.code == "OC0370"


def test_the_engine_s_runner_profiles_the_same_pipeline():
    """The fake runner and the engine's agree on everything but time."""
    module = "profiling"
    variants = {
        name: Variant(
            name.split(".")[0], name.split(".")[1],
            Backend("python", f"{module}:{name.replace('.', '_')}"),
        )
        for name in (*READS, "again.good", "again.weak")
    }  # fmt: skip
    models = {
        name: Model(name, (Field("digits", "INTEGER"),), (Field("digit", "INTEGER"),))
        for name in ("read", "again")
    }
    data = rows(40)
    connection = duckdb.connect()
    connection.register("given", pa.table({"digits": pa.array(data, pa.list_(pa.int32()))}))
    connection.execute("CREATE TABLE source AS SELECT * FROM given")
    devices = {"cpu": Device("cpu", "cpu", 1, 1)}
    runner = LocalRunner(Environment(connection.cursor, models, variants, devices))
    try:
        found = Statistics(
            profile(request(data), runner, policy=Policy(floor_seconds=0.0)).observations
        )
    finally:
        runner.close()
    expected = Statistics(profile(request(data), FakeRunner(data)).observations)
    assert found.lengths("p.read") == expected.lengths("p.read")
    assert found.batches("p.read", "read.base", "", "cpu")[0] == 1
    assert found.latency("p.read", "read.base", "", "cpu", 1, "mean").value > 0
    assert set(found.end_to_end("p")) == set(expected.end_to_end("p"))
    # The engine's models misread every digit alike; those called base and good read rightly.
    assert found.quality("p.read", "read.base", "").value == 1.0
    for text, metrics in found.end_to_end("p").items():
        if "read.base" in text:
            assert metrics["accuracy"].value == 1.0
    assert found.rate("p.again", ("p.read", "read.poor", "")).value == 1.0
    assert found.failure("p.read", "read.base", "", "cpu").value == 0.0


WIDE = rows(600)
"""Rows for decisions that take some."""

ASKED = request(WIDE, aim=Aim(accuracy=0.9))


def answered(outcome):
    return sum(outcome.evaluations.values())


@pytest.fixture(scope="module")
def asked():
    return profile(ASKED, FakeRunner(WIDE)), profile(ASKED, FakeRunner(WIDE), strategy=PLAIN)


def test_plain_measures_every_choice_on_every_row(asked):
    _, plain = asked
    assert not plain.decided
    assert plain.saved == 0.0
    ends = Statistics(plain.observations).end_to_end("p")
    assert {metrics["accuracy"].n for metrics in ends.values()} == {len(WIDE)}


def test_what_is_decided_is_not_measured_further_and_right(asked):
    ours, plain = asked
    assert answered(ours) < answered(plain)
    assert sum(ours.timings.values()) < sum(plain.timings.values())
    assert ours.saved > 0.2
    truths = Statistics(plain.observations).end_to_end("p")
    found = Statistics(ours.observations).end_to_end("p")
    assert set(found) == set(truths)
    for text, metrics in found.items():
        estimate, truth = metrics["accuracy"], truths[text]["accuracy"].value
        assert estimate.low <= truth <= estimate.high
        if estimate.n < len(WIDE):
            assert (estimate.value >= 0.9) == (truth >= 0.9)
    for done in ours.decided:
        assert done.reason
        assert 0 < done.rows < len(WIDE)


def test_the_same_outcomes_make_the_same_observations(asked):
    again = profile(ASKED, FakeRunner(WIDE))
    assert again.observations == asked[0].observations
    assert again.evaluations == asked[0].evaluations


def test_a_choice_that_is_worse_and_dearer_is_dominated():
    data, slow = rows(600), {"read.worse": 9e-4}
    ERRORS["read.worse"] = 0.3
    SECONDS.update(slow)
    choices = {"p.read": [Choice("read.base"), Choice("read.worse")]}
    try:
        outcome = profile(request(data, choices=choices), FakeRunner(data))
    finally:
        del SECONDS["read.worse"], ERRORS["read.worse"]
    (done,) = outcome.decided
    assert (done.step, done.variant) == ("p.read", "read.worse")
    assert "dominated by read.base" in done.reason
    found = Statistics(outcome.observations)
    kept = found.quality("p.read", "read.worse", "")
    assert kept.value < found.quality("p.read", "read.base", "").value
    assert 0 < kept.n == done.rows
    assert found.batches("p.read", "read.worse", "", "cpu"), "what was measured stays"


def test_a_choice_that_is_better_or_cheaper_is_not_dominated(measured):
    outcome, _ = measured
    assert not any(done.variant.startswith("read") for done in outcome.decided)


def test_a_model_that_mostly_fails_is_given_up_early():
    runner = FakeRunner(WIDE)
    runner.failing["read.fair"] = {tuple(d) for d in WIDE if len(d) > 3} | {tuple(WIDE[0])}
    choices = {"p.read": [Choice("read.base"), Choice("read.fair")]}
    outcome = profile(request(WIDE, choices=choices), runner)
    done = next(done for done in outcome.decided if done.variant == "read.fair")
    assert "fails on" in done.reason
    assert done.rows < len(WIDE)


def test_a_latency_asked_for_ends_the_ladder():
    aim = Aim(latency=FIXED_SECONDS + 10 * SECONDS["read.base"])
    found = Statistics(profile(request(DATA, aim=aim), FakeRunner(DATA)).observations)
    sizes = found.batches("p.read", "read.base", "", "cpu")
    assert sizes[-1] >= 10, "the first that misses is seen to miss"
    assert sizes[-2] <= 10


def test_rows_on_which_a_step_ran_are_not_run_again():
    """Whichever reading let it run, it rereads the same digits in the same way."""
    reread = [d for d in DATA if not all(fits(reading(first, d)) for first in READS)]
    once = profile(request(DATA), FakeRunner(DATA), strategy=PLAIN).evaluations
    assert once["p.again", "again.good()"] == sum(map(len, reread))


class Rarely(FakeRunner):
    """Few rows reach the second step, none of them in the first block, whatever is read."""

    def __init__(self, data, reach):
        super().__init__(data)
        self.reach = reach

    def run_step(self, step, table):
        found = super().run_step(step, table)
        if "p.again.when" not in found.column_names:
            return found
        reached = pa.array([row in self.reach for row in found.column(ROW).to_pylist()])
        place = found.column_names.index("p.again.when")
        return found.set_column(place, "p.again.when", reached)


def rarely(reach, **changes):
    """Profiled, where only the rows of the sample at these places of the blocks' order reach it."""
    order = [row for block in blocks(None, len(DATA), None, 32, DEFAULT.growth, 0) for row in block]
    runner = Rarely(DATA, {order[place] for place in reach})
    return profile(request(DATA, **changes), runner), runner


@pytest.mark.parametrize("reach", [[40], [299], [150, 151, 160]])
@pytest.mark.parametrize("accuracy", [None, 0.5])
def test_a_step_is_timed_on_the_first_rows_that_reach_it(reach, accuracy):
    """Also where all was decided before the block they are in."""
    found, _ = rarely(reach, aim=Aim(accuracy=accuracy))
    times = Statistics(found.observations)
    for variant in ("again.good", "again.weak"):
        assert times.batches("p.again", variant, "", "cpu")[0] == 1
        mean = times.latency("p.again", variant, "", "cpu", 1, "mean")
        assert mean.value == pytest.approx(FIXED_SECONDS + 2e-4)
    assert not [note for note in found.notes if "reaches" in note]


def test_no_row_reaches_a_step_is_said_of_the_whole_sample_alone():
    found, runner = rarely([])
    said = {f"p.again: {v}: no row of the sample reaches it" for v in ("again.good", "again.weak")}
    assert said <= set(found.notes)
    assert not any(variant.startswith("again") for variant, _, _ in runner.calls)


def test_a_step_that_another_choice_alone_lets_run_is_timed():
    """The reference always fits, so only where read.poor or read.fair is chosen is it reread."""
    found = profile(request(DATA), FakeRunner(DATA))
    assert Statistics(found.observations).batches("p.again", "again.good", "", "cpu")
    assert not [note for note in found.notes if "reaches" in note]


def test_looking_for_rows_that_reach_a_step_stays_within_the_budget():
    limits = Limits(usd=0.02, price=lambda choice, run: run.elements * 1e-5)
    order = [row for block in blocks(None, len(DATA), None, 32, DEFAULT.growth, 0) for row in block]
    result = profile(request(DATA), Rarely(DATA, {order[-1]}), limits=limits)
    assert result.usd <= 0.02
