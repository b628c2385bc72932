"""The profiling benchmark compares fairly: outcomes are replayed exactly, halving halves."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from octans.stats.profile import PLAIN, Strategy

# Benchmarks are run from the root and not installed; a bare `pytest` does not look there.
sys.path.append(str(Path(__file__).parents[1]))
profiling = importlib.import_module("benchmarks.profiling")
simulated = importlib.import_module("benchmarks.workloads.simulated")
baseline = importlib.import_module("benchmarks.baselines.halving")
contract = importlib.import_module("benchmarks.contract")

ROWS = 60


def workload():
    def variants(*given):
        return tuple(
            simulated.Simulated(name, accuracy, {"slow": 2 * seconds, "fast": seconds})
            for name, accuracy, seconds in given
        )

    return simulated.Workload(
        "toy",
        (
            ("hear", variants(("a", 0.6, 1e-4), ("b", 0.9, 1e-3))),
            ("say", variants(("a", 0.7, 1e-4), ("b", 0.95, 2e-3))),
        ),
        {"slow": 1.0, "fast": 4.0},
    )


@pytest.fixture(scope="module")
def planner():
    with simulated.declared(simulated.Instance(workload(), ROWS, seed=3)) as made:
        yield profiling.Planner(made)


@pytest.mark.parametrize("strategy", [PLAIN, Strategy()])
def test_profiling_sees_the_outcomes_that_were_drawn(planner, strategy):
    result = profiling.profiled(planner, ROWS, strategy).result
    instance = planner.made.instance
    seen = {o.assignment: o for o in result.observations if o.metric == "accuracy"}
    assert len(seen) == 4
    for first in "ab":
        for second in "ab":
            text = f"work.hear_step=hear.{first}();work.say_step=say.{second}()"
            if seen[text].n == ROWS:
                drawn = instance.accuracy([f"hear.{first}", f"say.{second}"], slice(0, ROWS))
                assert seen[text].value == pytest.approx(drawn)


def test_outcomes_follow_from_the_seed_and_the_published_accuracy():
    first, again, other = (simulated.Instance(workload(), ROWS, seed) for seed in (3, 3, 4))
    assert (first.right["say.a"] == again.right["say.a"]).all()
    assert (first.right["say.a"] != other.right["say.a"]).any()
    assert first.accuracy(["say.a"], slice(ROWS, None)) == pytest.approx(0.7, abs=0.02)
    both = first.accuracy(["hear.a", "say.a"], slice(ROWS, None))
    assert both > 0.6 * 0.7 + 0.02, "rows hard for one step are hard for the next"


def test_a_plan_that_misses_or_costs_more_is_not_good(planner):
    instance = planner.made.instance
    best = ("hear.b", "slow"), ("say.b", "slow")
    dear = ("hear.b", "fast"), ("say.b", "fast")
    poor = ("hear.a", "slow"), ("say.a", "slow")
    asked = instance.true_accuracy(best) - 0.04
    assert profiling.is_good(instance, best, asked)
    assert not profiling.is_good(instance, dear, asked)
    assert not profiling.is_good(instance, poor, asked)
    assert not profiling.is_good(instance, None, asked)


def test_the_exhaustive_profile_of_a_large_sample_decides_well():
    with simulated.declared(simulated.Instance(workload(), 400, seed=5)) as made:
        planner = profiling.Planner(made)
        plain = profiling.profiled(planner, 400, PLAIN)
    assert plain.made.good == len(planner.asked)
    # Two steps of two variants: each step's own answers once, the second's under either first.
    assert plain.made.evaluations == 400 * (2 + 4)
    assert plain.alone.evaluations == 400 * 4 * 2


def test_values_that_prefixes_agree_on_are_evaluated_once(planner):
    """Both first variants right: one evaluation of each second one; else one for each answer."""
    strategy = Strategy(early_stop=False)
    made = profiling.profiled(planner, ROWS, strategy).made
    right = planner.made.instance.right
    both = int((right["hear.a"] & right["hear.b"])[:ROWS].sum())
    assert made.evaluations == ROWS * 2 + 2 * (both + 2 * (ROWS - both))


def test_halving_keeps_the_frontier_and_gives_the_rest_few_rows():
    truth = {f"arm{i}": i / 20 for i in range(16)}
    cost = {arm: (i if i % 2 else 20 + i) for i, arm in enumerate(truth)}
    tuning = baseline.Tuning(first=8, keep=2)
    known = baseline.halving(list(truth), cost, lambda arm, rows: truth[arm], 1000, tuning)
    rows = {arm: n for arm, (_, n) in known.items()}
    assert rows["arm15"] == max(rows.values()) == 8 * 2**3
    assert rows["arm14"] == 8, "dominated by a cheaper and better one"
    assert sorted(rows.values()).count(8) == 8, "half of the arms go each round"


def test_without_data_it_says_so(capsys):
    options = contract.parse_options("profiling", None, ["--quick"], 1, 1)
    assert profiling.run(options) == {}
    assert "without --data" in capsys.readouterr().out
