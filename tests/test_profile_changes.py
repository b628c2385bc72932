"""ANALYZE while a variant changes: what is said of one must not be another's later failures."""

from __future__ import annotations

from statistics import fmean

import pytest
from octans.ir.physical import Choice
from octans.stats.profile import PLAIN, profile
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


@pytest.fixture(autouse=True)
def base_is_cheap(monkeypatch):
    monkeypatch.setitem(SECONDS, "read.base", 1e-4)


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


def test_a_stopped_choice_is_measured_on_once_its_dominator_fails():
    """What is failing from the last block on is seen in the last block."""
    steady = profile(request(WIDE, choices=CHOICES), FakeRunner(WIDE))
    (stopped,) = [done for done in steady.decided if done.variant == "read.fair"]
    for limit in (stopped.rows + 10, 300, 515):
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


def test_the_last_failures_of_a_dominator_are_not_anothers():
    """Too few to say that it changed: it dominates still, but answers for itself alone."""
    steady = Statistics(profile(request(WIDE, choices=CHOICES), FakeRunner(WIDE)).observations)
    outcome = profile(request(WIDE, choices=CHOICES), Changing(WIDE, 590))
    found = Statistics(outcome.observations)
    assert any(done.variant == "read.fair" for done in outcome.decided)
    assert found.quality("p.read", "read.base", "").value < 1.0
    expected = steady.quality("p.read", "read.fair", "")
    assert found.quality("p.read", "read.fair", "").value == pytest.approx(expected.value)


def test_what_dominates_and_stays_as_it_is_saves_rows():
    steady = profile(request(WIDE, choices=CHOICES), FakeRunner(WIDE))
    plain = profile(request(WIDE, choices=CHOICES), FakeRunner(WIDE), strategy=PLAIN)
    of = ("p.read", "read.fair()")
    assert steady.evaluations[of] < plain.evaluations[of] / 2
