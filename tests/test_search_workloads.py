"""The searches' workloads: the best plan is the best, the profiler charges what it says.

Tiny synthetic worlds are drawn from seeds; the workloads of public data need
`OCTANS_PUBLIC_DATA`, a folder with the data sets.
"""

from __future__ import annotations

import math
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from octans.benchmarks.workloads import outcomes
from octans.benchmarks.workloads.best import accuracies, best_plan, plan_numbers
from octans.benchmarks.workloads.cheques_replay import Recording, cheques
from octans.benchmarks.workloads.environment import NOISE, Environment
from octans.benchmarks.workloads.instances import (
    APPLICATIONS,
    NAMES,
    drawn_plans,
    environment,
    made,
)
from octans.benchmarks.workloads.outcomes import Kind, Outcomes, Setting, Way
from octans.benchmarks.workloads.world import COST, ENERGY, LATENCY, World
from octans.ir.slo import Constraint, Objective, Slo
from octans.planner.search.protocol import SOURCE, Assignment, Proposal

REAL = os.environ.get("OCTANS_PUBLIC_DATA")
DEVICES = ("edge", "cloud")
ROWS, TRUTH_ROWS = 150, 300


def tiny(seed: int, *, rows: int = ROWS, truth_rows: int = TRUTH_ROWS) -> World:
    """A diamond of four stages, two devices and a slow link between them."""
    rng = np.random.default_rng(seed)
    usd = dict(zip(DEVICES, rng.uniform(1e-4, 1e-3, 2).tolist(), strict=True))
    drawn = Outcomes(rng, rows, truth_rows)
    twice = [Setting((("k", 1),)), Setting((("k", 3),), 0.1, 1.5, attempts=3)]
    first = drawn.stage("a", _kinds(rng, 2), usd, settings=twice, spread=0.3)
    second = drawn.stage("b", _kinds(rng, 2), usd, parents=(0,), before=first.n_classes)
    third = drawn.stage("c", _kinds(rng, 2), usd, parents=(0,), before=first.n_classes)
    last = drawn.stage("d", _kinds(rng, 1), usd, parents=(1, 2), before=second.n_classes)
    link = ((0.0, 0.05), (0.05, 0.0))
    edges = ((0, 1), (0, 2), (1, 3), (2, 3))
    return World(
        (first, second, third, last),
        DEVICES,
        rows,
        truth_rows,
        sums=(COST, ENERGY),
        transfers={(SOURCE, 0): link[:1], **dict.fromkeys(edges, link)},
    )


def _kinds(rng: np.random.Generator, count: int) -> list[Kind]:
    """Variants on both devices, one batch size on the first and two on the second."""
    found = []
    for place in range(count):
        seconds = rng.uniform(0.01, 0.2, 3)
        ways = tuple(
            Way(device, batch, float(per * (batch + 2)), float(rng.uniform(1, 9)))
            for (device, batch), per in zip(
                (("edge", 1), ("cloud", 1), ("cloud", 4)), seconds, strict=True
            )
        )
        right, repair = rng.uniform(0.6, 0.95), rng.uniform(0.05, 0.4)
        found.append(Kind(f"v{place}", float(right), ways, float(rng.uniform(1, 5)), float(repair)))
    return found


def every_plan(world: World) -> list[Assignment]:
    """All of a small one."""
    return list(product(*(range(len(stage.options)) for stage in world.stages)))


def plain_truth(world: World, plan: Assignment) -> dict[str, float]:
    """Accuracy and dims row by row and stage by stage, sharing no code with the fast way."""
    rights: list[np.ndarray] = []
    sums, ready = {COST: 0.0, ENERGY: 0.0}, []
    for k, (stage, option) in enumerate(zip(world.stages, plan, strict=True)):
        own, choice, calls = int(stage.classes[option]), stage.options[option], stage.calls
        g = int(world.stages[stage.given[0]].classes[plan[stage.given[0]]]) if stage.given else 0
        bits = np.unpackbits(stage.right[g, own].view(np.uint8), axis=-1, bitorder="little")
        bits = bits[:, 64 * -(-world.rows // 64) :][:, : world.truth_rows]
        pattern = np.zeros(world.truth_rows, int)
        if stage.parents == (SOURCE,):
            pattern[:] = len(bits) - 1
        else:
            for i, parent in enumerate(stage.parents):
                pattern += rights[parent] << i
        rights.append(bits[pattern, np.arange(world.truth_rows)].astype(int))
        work = np.ones(world.truth_rows)
        if stage.work is not None:
            work = stage.work[0, own if stage.work.shape[1] > 1 else 0, world.rows :]
        call = calls.fixed[option] + choice.batch * calls.per[option]
        sums[COST] += float(np.mean(work) * call / choice.batch * calls.usd[option])
        sums[ENERGY] += float(np.mean(work) * calls.joules[option])
        begin = 0.0
        for parent in stage.parents:
            origin = (
                0
                if parent == SOURCE
                else DEVICES.index(world.stages[parent].options[plan[parent]].device)
            )
            seconds = world.transfers[parent, k][origin][DEVICES.index(choice.device)]
            begin = max(begin, (0.0 if parent == SOURCE else ready[parent]) + seconds)
        ready.append(begin + call * float(np.quantile(work, 0.95)))
    return {"accuracy": float(np.mean(rights[-1])), **sums, LATENCY: max(ready)}


@pytest.mark.parametrize("seed", range(4))
def test_the_truth_is_what_counting_row_by_row_gives(seed: int) -> None:
    """Bit-packed answers, patterns of parents, work, transfers."""
    world = tiny(seed)
    made_of = made("tiny", world, np.random.default_rng(seed), seed)
    rng = np.random.default_rng(seed)
    plans = every_plan(world)
    chosen = [plans[i] for i in rng.choice(len(plans), 60, replace=False)]
    right, dims = plan_numbers(world, accuracies(world), np.array(chosen))
    for place, plan in enumerate(chosen):
        plain = plain_truth(world, plan)
        assert made_of.truth(plan) == pytest.approx(plain, rel=1e-5)
        assert right[place] == plain["accuracy"]
        assert {d: v[place] for d, v in dims.items()} == pytest.approx(
            {d: v for d, v in plain.items() if d != "accuracy"}, rel=1e-5
        )


@pytest.mark.parametrize("goal", [COST, ENERGY, LATENCY])
@pytest.mark.parametrize("seed", range(12))
def test_the_best_plan_is_the_best_of_all(seed: int, goal: str) -> None:
    """Against enumeration, under limits drawn from loose to tight on every dim."""
    world = tiny(seed)
    accuracy = accuracies(world)
    plans = np.array(every_plan(world))
    right, dims = plan_numbers(world, accuracy, plans)
    rng = np.random.default_rng([seed, len(goal)])
    limits = [Constraint("accuracy", ">=", float(np.quantile(right, rng.uniform(0, 0.95))))]
    for dim in (COST, ENERGY, LATENCY):
        if rng.random() < 0.6:
            limits.append(
                Constraint(dim, "<=", float(np.quantile(dims[dim], rng.uniform(0.05, 1))))
            )
    meets = np.ones(len(plans), bool)
    for limit in limits:
        values = right if limit.metric == "accuracy" else dims[limit.metric]
        meets &= np.array([limit.allows(v) for v in values])
    slo = Slo(tuple(limits), Objective(goal))
    if not meets.any():
        with pytest.raises(ValueError, match="no plan"):
            best_plan(world, slo, accuracy)
        return
    plan, value = best_plan(world, slo, accuracy)
    assert value == pytest.approx(dims[goal][meets].min(), rel=1e-12)
    found = made_environment(world, slo, accuracy)
    assert found.meets(plan)
    assert found.truth(plan)[goal] == pytest.approx(found.best, rel=1e-12)


def made_environment(world: World, slo: Slo, accuracy: np.ndarray) -> Environment:
    """With an SLO that is given."""
    return Environment("tiny", world, slo, 0, accuracy)


def instance(seed: int = 3) -> Environment:
    """A tiny instance."""
    return made("tiny", tiny(seed), np.random.default_rng(seed), seed)


def test_an_instance_follows_from_its_seed() -> None:
    """The same SLO, best plan and measurements twice; others from another seed."""
    one, two, other = instance(3), instance(3), instance(4)
    plan = one.best_assignment
    assert (one.slo, one.best, plan) == (two.slo, two.best, two.best_assignment)
    seen, again = (e.profiler().evaluate(Proposal(plan, 40)) for e in (one, two))
    assert seen == again
    assert one.slo != other.slo


def test_rows_profiled_once_are_free() -> None:
    """Again, fewer rows, and a plan that shares its first stages."""
    environment_ = instance()
    profiler = environment_.profiler()
    plan = environment_.best_assignment
    first = profiler.evaluate(Proposal(plan, 60))
    assert first.seconds > 0
    assert (profiler.seconds, profiler.usd) == (first.seconds, first.usd)
    assert "load" in first.stages[0]
    for rows in (60, 30):
        again = profiler.evaluate(Proposal(plan, rows))
        assert (again.seconds, again.usd) == (0.0, 0.0)
        assert again.scores == first.scores[:rows]
        assert not {"load", "profile"} & set(again.stages[0])
    more = profiler.evaluate(Proposal(plan, 120))
    assert 0 < more.seconds < first.seconds * 60
    assert more.scores[:60] == first.scores
    last = environment_.world.stages[-1]
    sibling = next(o for o in range(len(last.options)) if o != plan[-1])
    shared = profiler.evaluate(Proposal((*plan[:-1], sibling), 120))
    assert all("profile" not in stage for stage in shared.stages[:-1])
    plain = environment_.profiler(reuse=False)
    once, twice = (plain.evaluate(Proposal(plan, 60)) for _ in range(2))
    assert twice.seconds == pytest.approx(
        once.seconds - sum(stage["load"] for stage in once.stages)
    )


def test_an_option_of_computed_rows_is_timed_once() -> None:
    """Another device of the same class: its load and a few calls, the answers are there."""
    environment_ = instance()
    world, plan = environment_.world, environment_.best_assignment
    own = world.class_of(plan)[0]
    twin = next(
        o
        for o in np.flatnonzero(world.stages[0].classes == own).tolist()
        if world.stages[0].options[o].device != world.stages[0].options[plan[0]].device
    )
    profiler = environment_.profiler()
    seen = profiler.evaluate(Proposal(plan, 100))
    moved = profiler.evaluate(Proposal((twin, *plan[1:]), 100))
    assert moved.scores == seen.scores
    assert "profile" not in moved.stages[0]
    assert moved.stages[0]["load"] > 0
    assert moved.seconds > moved.stages[0]["load"]
    assert profiler.evaluate(Proposal((twin, *plan[1:]), 100)).seconds == 0.0


def test_what_is_measured_nears_the_truth() -> None:
    """On many rows the scores' mean and every dim come within what rows and noise allow."""
    world = tiny(5, rows=4000)
    environment_ = made("tiny", world, np.random.default_rng(5), 5)
    plan = environment_.best_assignment
    seen = environment_.profiler().evaluate(Proposal(plan, 4000))
    truth = environment_.truth(plan)
    both = math.sqrt(0.25 / 4000 + 0.25 / TRUTH_ROWS)
    assert np.mean(seen.scores) == pytest.approx(truth["accuracy"], abs=4 * both)
    for dim in (COST, ENERGY, LATENCY):
        assert seen.metrics[dim] == pytest.approx(truth[dim], rel=0.15 + NOISE)


def _unexplained(world: World) -> float:
    """Of the logarithms of accuracies, root mean square, by the best product over stages."""
    log = np.log(accuracies(world))
    fitted = log.mean()
    for axis in range(log.ndim):
        others = tuple(a for a in range(log.ndim) if a != axis)
        fitted = fitted + log.mean(axis=others, keepdims=True) - log.mean()
    return float(np.sqrt(np.mean((log - fitted) ** 2)))


def test_quality_is_not_the_product_of_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interactions leave more than shared difficulty does where there are none."""
    with_them = np.mean([_unexplained(tiny(s, truth_rows=20_000)) for s in range(4)])
    monkeypatch.setattr(outcomes, "HANDLING", 0.0)
    monkeypatch.setattr(outcomes, "REPAIRING", 0.0)
    without = np.mean([_unexplained(tiny(s, truth_rows=20_000)) for s in range(4)])
    assert with_them > 1.5 * without


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three readers of 200 strips of four glyphs, in the recording's format."""
    rng = np.random.default_rng(0)
    counts = np.full(200, 4)
    truth = rng.integers(0, 10, 800).astype(np.uint8)
    truth.reshape(-1, 4)[:, 3] = _check_digits(truth.reshape(-1, 4)[:, :3])
    answers = np.stack(
        [np.where(rng.random(800) < wrong, (truth + 1) % 10, truth) for wrong in (0.2, 0.05, 0.0)]
    )
    path = tmp_path / "cheques.npz"
    seconds = np.array([[1.0, 4.5], [2.0, 9.0], [4.0, 18.0]]) * 1e-4
    np.savez(
        path,
        names=np.array(["fast", "trees k=3", "sure"]),
        answers=answers.astype(np.uint8),
        seconds=seconds,
        loads=np.array([0.1, 0.2, 0.3]),
        batches=np.array([1, 8]),
        counts=counts,
        truth=truth,
        segment_seconds=seconds[0],
        luhn_seconds=seconds[0],
        assemble_seconds=seconds[0],
    )
    return path


def _check_digits(digits: np.ndarray) -> np.ndarray:
    """Luhn's, of numbers of three digits."""
    doubled = digits.astype(int) * np.array([2, 1, 2])
    total = (doubled - 9 * (doubled > 9)).sum(axis=1)
    return (-total % 10).astype(np.uint8)


def test_the_second_reader_costs_what_the_first_leaves(recording: Path) -> None:
    """Its work is the strips whose check digit is wrong; all right answers need none."""
    world = cheques(recording, np.random.default_rng(0))
    found = Recording(recording)
    second = world.true_numbers[3]
    share = 1 - found.valid.mean(axis=1)
    assert share[0] > share[1] > share[2] == 0
    per_glyph = 1e-4 * 4 / 3600 * 0.10
    assert second[COST][:, 0] == pytest.approx(share * per_glyph, rel=1e-4)
    assert world.accuracy((0, 2, 0, 0, 0)) == 1.0
    fast = np.where(found.valid[0], found.right[0], found.right[2])
    assert world.accuracy((0, 0, 0, 2, 0)) == pytest.approx(fast.mean())
    assert world.accuracy((0, 0, 0, 0, 0)) == pytest.approx(found.right[0].mean())
    assert found.names[1] == ("trees", (("k", 3),))


def test_times_of_a_recording_come_back(recording: Path) -> None:
    """A call at a recorded batch size takes what it took."""
    world = cheques(recording, np.random.default_rng(0))
    calls, stage = world.stages[1].calls, world.stages[1]
    taken = (calls.fixed + stage.batch * calls.per).reshape(3, 2)
    assert taken == pytest.approx(Recording(recording).seconds)


def test_a_workload_of_public_data_needs_a_folder(tmp_path: Path) -> None:
    """Said at once, not by a file that is not found."""
    with pytest.raises(ValueError, match="folder"):
        environment("speech", 0, data=None, recording=tmp_path / "none.npz")


@pytest.mark.skipif(REAL is None, reason="OCTANS_PUBLIC_DATA names no folder of public data sets")
@pytest.mark.parametrize("name", APPLICATIONS)
def test_workloads_of_public_data(name: str, tmp_path: Path) -> None:
    """The sizes and the share of feasible plans that the documentation states."""
    assert name in NAMES
    found = environment(name, 1, data=Path(str(REAL)), recording=tmp_path / "none.npz")
    assert found.space.size == 1014 if name == "cuad" else 1e4 <= found.space.size <= 2e8
    assert found.meets(found.best_assignment)
    right, dims = drawn_plans(found.world, accuracies(found.world), np.random.default_rng(9))
    meets = np.ones(len(right), bool)
    for limit in found.slo.constraints:
        values = right if limit.metric == "accuracy" else dims[limit.metric]
        meets &= values >= limit.limit if limit.operator == ">=" else values <= limit.limit
    assert 0.0005 <= meets.mean() <= 0.06
    assert found.best <= dims[found.slo.objective.metric][meets].min() * (1 + 1e-9)
