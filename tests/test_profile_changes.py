"""ANALYZE while a variant changes: what is said of one must not be another's later failures."""

from __future__ import annotations

from statistics import fmean

import pytest
from octans.errors import RunError
from octans.ir.physical import Choice
from octans.stats.profile import PLAIN, profile
from octans.stats.runner import CannotRun
from octans.stats.statistics import Statistics
from profiling import (
    ERRORS,
    SECONDS,
    FakeRunner,
    number,
    reading,
    request,
    result,
    rows,
)

WIDE = [list(row) for row in dict.fromkeys(map(tuple, rows(1200, "changes")))][:600]
CHOICES = {"p.read": [Choice("read.base"), Choice("read.fair")]}
"""`read.base` is always right; `read.fair`, right on 92 of 100 digits, is dominated by it."""


@pytest.fixture(autouse=True, scope="module")
def base_is_cheap():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SECONDS, "read.base", 1e-4)
        yield


@pytest.fixture(scope="module")
def steady(base_is_cheap):
    """Nothing changes."""
    return profile(request(WIDE, choices=CHOICES), FakeRunner(WIDE))


@pytest.fixture(scope="module")
def hanging(base_is_cheap):
    """By the variant that hangs: the outcome, and the elements it was called with."""
    found = {}
    for variant in ("read.base", "read.fair"):
        runner = Hanging(WIDE, variant)
        found[variant] = profile(request(WIDE, choices=ALL), runner), runner.called
    return found


class Changing(FakeRunner):
    """`read.base` answers so many different rows, then `after` says how it answers others."""

    def __init__(self, data, limit, after="fail"):
        super().__init__(data)
        self.limit, self.after = limit, after
        self.paid = set()

    def run_stage(self, stage, table):
        if stage.choice.variant != "read.base":
            return super().run_stage(stage, table)
        inputs = [tuple(digits) for digits in table.column("digits").to_pylist()]
        for digits in inputs:
            if len(self.paid) < self.limit:
                self.paid.add(digits)
        new = set(inputs) - self.paid
        if self.after == "fail":
            self.failing["read.base"] = new
        elif new:
            stage = stage.replace(choice=stage.choice.replace(variant=self.after))
        return super().run_stage(stage, table)


def truth(variant, data=WIDE):
    pairs = [(a, d) for row in data for a, d in zip(reading(variant, row), row, strict=True)]
    return fmean(a == d for a, d in pairs)


def accuracy(first, second):
    return fmean(result(first, second, row) == number(row) for row in WIDE)


def test_a_stopped_choice_is_measured_on_once_its_dominator_fails(steady):
    """What is failing from the last block on is seen in the last block."""
    (stopped,) = [done for done in steady.decided if done.variant == "read.fair"]
    for limit in (stopped.rows + 10, 515):
        outcome = profile(request(WIDE, choices=CHOICES), Changing(WIDE, limit))
        found = Statistics(outcome.observations)
        assert found.quality("p.read", "read.base", "").value < 0.9
        quality = found.quality("p.read", "read.fair", "")
        assert quality.value == pytest.approx(truth("read.fair"))
        assert quality.n == len(WIDE)
        assert found.failure("p.read", "read.fair", "", "cpu").n == len(WIDE)
        assert not any(done.variant == "read.fair" for done in outcome.decided)
        ends = found.end_to_end("p")["p.again=again.good();p.read=read.fair()"]["accuracy"]
        assert ends.n == len(WIDE)
        assert ends.value == pytest.approx(accuracy("read.fair", "again.good"))


def test_a_stopped_choice_is_measured_on_once_its_dominator_answers_worse(monkeypatch):
    monkeypatch.setitem(ERRORS, "read.worse", 0.5)
    outcome = profile(request(WIDE, choices=CHOICES), Changing(WIDE, 300, "read.worse"))
    quality = Statistics(outcome.observations).quality("p.read", "read.fair", "")
    assert quality.value == pytest.approx(truth("read.fair"))
    assert quality.n == len(WIDE)


def test_the_last_failures_of_a_dominator_are_not_anothers(steady):
    """Too few to say that it changed: it dominates still, but answers for itself alone."""
    outcome = profile(request(WIDE, choices=CHOICES), Changing(WIDE, 590))
    found = Statistics(outcome.observations)
    assert any(done.variant == "read.fair" for done in outcome.decided)
    assert found.quality("p.read", "read.base", "").value < 1.0
    expected = Statistics(steady.observations).quality("p.read", "read.fair", "")
    assert found.quality("p.read", "read.fair", "").value == pytest.approx(expected.value)


def test_what_dominates_and_stays_as_it_is_saves_rows(steady):
    plain = profile(request(WIDE, choices=CHOICES), FakeRunner(WIDE), strategy=PLAIN)
    of = ("p.read", "read.fair()")
    assert steady.evaluations[of] < plain.evaluations[of] / 2


class Hanging(FakeRunner):
    """One row in ten of a variant hangs; it is refused when it has `hung` four times."""

    def __init__(self, data, variant):
        super().__init__(data)
        self.variant, self.hung = variant, 0
        self.called = 0
        self.failing[variant] = {tuple(digits) for digits in data[::10]}

    def run_stage(self, stage, table):
        if stage.choice.variant != self.variant:
            return super().run_stage(stage, table)
        inputs = table.column("digits").to_pylist()
        called = failed = 0
        for digits in inputs:
            if self.hung == 4:
                error = RunError("4 of its calls still run", code="OC0410")
                raise CannotRun(error, stage, elements=called, failed=failed)
            hangs = tuple(digits) in self.failing[self.variant]
            self.hung += hangs
            called += len(digits)
            failed += hangs * len(digits)
            self.called += len(digits)
        return super().run_stage(stage, table)


ALL = {"p.read": [*CHOICES["p.read"], Choice("read.poor")]}


@pytest.mark.parametrize("variant", ["read.base", "read.fair"])
def test_what_hangs_is_counted_on_what_it_was_called_with_and_the_others_go_on(variant, hanging):
    """Reference or not: what it was never asked, it did not fail."""
    outcome, called = hanging[variant]
    found = Statistics(outcome.observations)
    failure = found.failure("p.read", variant, "", "cpu")
    assert failure.low < 0.1 < failure.high
    assert 4 <= failure.value * called <= 4 * 5
    assert failure.n <= called < sum(map(len, WIDE))
    assert any(f"{variant} cannot run: 4 of its calls" in note for note in outcome.notes)
    for other in {"read.base", "read.fair", "read.poor"} - {variant}:
        quality = found.quality("p.read", other, "")
        assert quality.low <= truth(other) <= quality.high
        assert found.failure("p.read", other, "", "cpu").value == 0.0
    best = "read.fair" if variant == "read.base" else "read.base"
    assert found.quality("p.read", best, "").n == len(WIDE)


def test_what_reads_a_reference_is_measured_on_one_that_runs(hanging):
    """Inputs of `again` come from the next reading, on all rows: never from a mixture."""
    outcome, _ = hanging["read.base"]
    found = Statistics(outcome.observations)
    assert "p.read: read.fair takes its place" in outcome.notes
    ran = [row for row in WIDE if sum(reading("read.fair", row)) % 10]
    assert found.rate("p.again").value == pytest.approx(len(ran) / len(WIDE))
    quality = found.quality("p.again", "again.good", "")
    assert quality.n == len(ran)
    assert quality.value == pytest.approx(truth("again.good", ran))


def test_a_choice_whose_dominator_hangs_is_measured_on():
    runner = Hanging(WIDE, "read.base")
    runner.failing["read.base"] = {tuple(digits) for digits in WIDE[::120]}
    outcome = profile(request(WIDE, choices=CHOICES), runner)
    quality = Statistics(outcome.observations).quality("p.read", "read.fair", "")
    assert quality.n == len(WIDE)
    assert quality.value == pytest.approx(truth("read.fair"))


def test_where_the_one_that_says_what_is_right_hangs_nothing_can_be_said():
    with pytest.raises(RunError) as caught:
        profile(request(WIDE, choices=ALL, labels={}), Hanging(WIDE, "read.base"))
    assert caught.value.code == "OC0410"
