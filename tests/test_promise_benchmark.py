"""The benchmark contract, and that the promise's benchmark measures what it says."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

# Benchmarks are run from the root and not installed; a bare `pytest` does not look there.
sys.path.append(str(Path(__file__).parents[1]))
promise = importlib.import_module("benchmarks.promise")
contract = importlib.import_module("benchmarks.contract")
Goal, Options = contract.Goal, contract.Options


def test_the_last_line_is_the_contract_s_object(capsys):
    def run(options):
        assert (options.quick, options.seeds, options.first_seed) == (True, 2, 7)
        return {"speed": 2.0, "share": None, "odd": float("inf")}

    goals = [Goal("speed", 1.5, "higher"), Goal("share", 0.1, "lower")]
    argv = ["--quick", "--json", "--seeds", "2", "--first-seed", "7"]
    assert contract.main("demo", "A demo.", run, goals, seeds=5, quick_seeds=1, argv=argv) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    found = json.loads(lines[-1])
    assert set(found) == {"name", "figures", "goals", "machine", "seconds"}
    assert found["figures"] == {"speed": 2.0, "share": None, "odd": None}
    assert [goal["met"] for goal in found["goals"]] == [True, False]
    assert any("quick: 2 of 5 seeds" in line for line in lines)


def test_seeds_default_by_mode():
    assert contract.parse_options("demo", None, [], 5, 1).seed_range == range(0, 5)
    assert contract.parse_options("demo", None, ["--quick"], 5, 1).seed_range == range(0, 1)
    with pytest.raises(SystemExit):
        contract.parse_options("demo", None, ["--seeds", "0"], 5, 1)


def test_a_missing_figure_misses_its_goal():
    (goal,) = contract.summary_object("demo", {}, [Goal("x", 1.0, "lower")], 0.1)["goals"]
    assert goal["met"] is False


@pytest.mark.parametrize("draw", [promise.independent, promise.graded])
def test_candidates_have_the_truth_they_claim(draw):
    """Else `false_accept` would be about candidates that are not false."""
    means = [draw(np.random.default_rng([seed]), 0.9, 40)[0].mean() for seed in range(60)]
    assert np.mean(means) == pytest.approx(0.9, abs=4 * np.std(means) / np.sqrt(60))


def test_clusters_have_the_truth_they_claim():
    means = []
    for seed in range(60):
        scores, clusters = promise.clustered(np.random.default_rng([seed]), 0.9, 5)
        sizes = np.bincount(clusters)
        means.append(np.mean([np.bincount(clusters, weights=row) / sizes for row in scores]))
    assert np.mean(means) == pytest.approx(0.9, abs=4 * np.std(means) / np.sqrt(60))


def test_figures_follow_from_the_seed(monkeypatch):
    monkeypatch.setattr(promise, "REPETITIONS", 8)
    options = Options(False, False, 1, 3, None, None)
    first, second = promise.run(options), promise.run(options)
    assert first == second
    assert first["repetitions"] == 8
    assert first["power"] == 1.0
