"""That the benchmark of guarantees measures what it says, in miniature."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

# Benchmarks are run from the root and not installed; a bare `pytest` does not look there.
sys.path.append(str(Path(__file__).parents[1]))
guarantees = importlib.import_module("benchmarks.guarantees")
Options = importlib.import_module("benchmarks.contract").Options


@pytest.mark.parametrize("kind", guarantees.KINDS)
def test_choices_have_the_accuracy_they_claim_on_the_rows_asked_about(kind):
    """Else violations would be counted of choices that are not what they are taken for."""
    truths = np.linspace(0.85, 0.95, 3)
    found = []
    for seed in range(20):
        made = guarantees.world(kind, np.random.default_rng([seed]), truths, 0.0)
        asked = made.right[:, made.asked] if made.later is None else made.later
        found.append(asked.mean(axis=1))
    assert np.mean(found, axis=0) == pytest.approx(truths, abs=0.006)


def test_a_promise_that_ignores_the_where_would_be_broken():
    """The rows the query does not ask about are easier: a choice just too bad passes on them."""
    rng = np.random.default_rng([5])
    made = guarantees.world("prefiltered", rng, np.full(4, 0.885), 0.0)
    assert guarantees.accepted(made, 5, np.zeros(4)) is None
    careless = guarantees.accepted(made, 5, np.zeros(4), filtered=False)
    assert careless is not None
    assert guarantees.violated(made, careless)


def test_drift_makes_harder_and_is_marked():
    made = guarantees.world("drifting", np.random.default_rng([1]), np.full(3, 0.92), 1.0)
    assert made.later is not None
    assert made.later.mean() < made.right.mean() - 0.03
    assert guarantees.marked(made, 1)
    still = guarantees.world("drifting", np.random.default_rng([1]), np.full(3, 0.92), 0.0)
    assert not guarantees.marked(still, 1)


def test_figures_follow_from_the_seed(monkeypatch):
    monkeypatch.setattr(guarantees, "REPETITIONS", 3)
    monkeypatch.setattr(guarantees, "RESHUFFLED", 2)
    options = Options(False, False, 1, 3, None, None)
    first, second = guarantees.run(options), guarantees.run(options)
    assert first == second
    assert first["repetitions"] == 3
    assert {goal.figure for goal in guarantees.GOALS} <= set(first)
