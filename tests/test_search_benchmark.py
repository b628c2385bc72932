"""The search benchmark: every baseline is what it says, races are judged by the truth alone."""

from __future__ import annotations

import importlib
import json
import math
import random
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from octans.planner.search.protocol import Candidate, Proposal
from plan_world import World

# Benchmarks are run from the root and not installed; a bare `pytest` does not look there.
sys.path.append(str(Path(__file__).parents[1]))
racing = importlib.import_module("benchmarks.racing.race")
heats = importlib.import_module("benchmarks.racing.heats")
jobs = importlib.import_module("benchmarks.racing.job")
histories = importlib.import_module("benchmarks.racing.histories")
ablation = importlib.import_module("benchmarks.racing.ablation")
surrogates = importlib.import_module("benchmarks.racing.surrogates")
contract = importlib.import_module("benchmarks.contract")
figures = importlib.import_module("benchmarks.racing.figures")
proofs = importlib.import_module("benchmarks.racing.proofs")
search = importlib.import_module("benchmarks.search")
registry = importlib.import_module("benchmarks.baselines.registry")
plans = importlib.import_module("benchmarks.baselines.plans")


@pytest.fixture(autouse=True)
def one_thread():
    """As the benchmark's workers have it; on a busy machine several are far slower."""
    torch = importlib.import_module("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NEEDS = {"optuna_tpe": "optuna", "optuna_gp": "optuna", "smac": "smac"}
"""Packages of the `benchmarks` extra; SMAC is heavy, so a development environment may lack it."""


def made(name, world, seed=0, **settings):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    entry = registry.SEARCHES[name]
    given = {**entry.grid[0], **settings}
    return entry.make(world.space, world.slo, world.rows, seed, given)


def proposals(name, world, count, seed=0):
    baseline, profiler, found = made(name, world, seed), world.profiler(), []
    while len(found) < count and (proposal := baseline.ask()) is not None:
        found.append(proposal)
        baseline.tell(profiler.evaluate(proposal))
    return found


@pytest.mark.parametrize("name", registry.BASELINES)
def test_every_baseline_finds_the_best_plan_of_a_tiny_space(name):
    world = World(least=0.7)
    baseline = made(name, world)
    raced = racing.race(world, baseline, 1e9, cpu=60.0)
    assert raced.end == "near"
    assert world.meets(baseline.incumbent().assignment)
    assert raced.plans <= world.space.size


@pytest.mark.parametrize("name", registry.BASELINES)
def test_only_plans_that_exist_are_proposed_and_the_same_for_the_same_seed(name):
    world = World(stages=3, batches=(1, 4))
    found = proposals(name, world, 14, seed=3)
    for proposal in found:
        assert 1 <= proposal.rows <= world.rows
        sizes = [len(stage.options) for stage in world.space.stages]
        assert all(0 <= o < n for o, n in zip(proposal.assignment, sizes, strict=True))
    assert proposals(name, world, 14, seed=3) == found


class Scripted:
    """Proposes and returns what it is given, turn by turn."""

    def __init__(self, turns):
        self.turns, self.at = turns, -1

    def ask(self):
        self.at += 1
        return Proposal(self.turns[self.at][0], 10) if self.at < len(self.turns) else None

    def tell(self, evaluation):
        pass

    def incumbent(self):
        returned, sure = self.turns[self.at][1:]
        return None if returned is None else Candidate(returned, {}, sure, 10)


def ranked(world):
    """Plans that truly meet the SLO, the best first; and one that does not."""
    every = list(plans.Shuffle(world.space, random.Random(0)))
    good = sorted((p for p in every if world.meets(p)), key=lambda p: world.truth(p)["cost"])
    return good, next(p for p in every if not world.meets(p))


def test_a_race_is_judged_by_the_truth_and_timed_at_the_first_good_incumbent():
    world = World(least=0.7)
    good, bad = ranked(world)
    far = good[-1]
    assert world.truth(far)["cost"] > 1.05 * world.best
    script = Scripted([(bad, bad, 1.0), (far, far, 0.5), (good[0], far, 0.97), (bad, good[0], 0.9)])
    raced = racing.race(world, script, 1e9)
    # Ten rows of two stages a plan, less the prefixes that are shared.
    shared = len({p[:1] for p in (bad, far, good[0])}) + 3
    assert raced.end == "near"
    assert raced.plans == 4
    assert raced.near.profiling == pytest.approx(10 * shared)
    assert raced.feasible.profiling < raced.near.profiling
    assert raced.near.seconds >= raced.near.profiling
    assert raced.near.usd == pytest.approx(0.01 * raced.near.profiling)
    assert [value for _, value in raced.trace] == [
        None, pytest.approx(world.truth(far)["cost"] / world.best - 1.0), 0.0,
    ]  # fmt: skip
    # Believed at confidence 0.95: the bad plan and the far one; the last is not sure enough.
    assert sorted(raced.believed) == [False, True]


def believed(world, plan, accuracy):
    return Candidate(plan, {**world.truth(plan), "accuracy": accuracy}, 1.0, 10)


def test_what_is_declared_was_proved_whatever_a_search_believes():
    """Searches that believe all their plans to be right: few of those declared truly miss."""
    kept = []
    for seed in range(60):
        world = World(seed, least=0.7, slowest=9.0)
        edge = [p for p in plans.Shuffle(world.space, random.Random(seed))
                if 0.66 <= world.truth(p)["accuracy"] <= 0.74]  # fmt: skip
        found = proofs.promised(world, [believed(world, plan, 0.99) for plan in edge], 0.95)
        assert found.tests <= len(edge)
        kept += [] if found.kept is None else [found.kept]
    assert kept, "some were good enough to be proved"
    assert kept.count(False) <= 0.05 * 60 + 3
    assert proofs.promised(world, [], 0.95) == proofs.Promised(0, None)


def test_a_search_that_never_gets_there_is_charged_its_budget():
    world = World(least=0.7)
    _, bad = ranked(world)
    gave_up = racing.race(world, Scripted([(bad, None, 0.0)]), 5000.0)
    assert (gave_up.end, gave_up.feasible, gave_up.near) == ("done", None, None)
    assert gave_up.at("near").seconds == pytest.approx(5000.0)
    assert gave_up.at("near").usd == pytest.approx(50.0, rel=0.01)
    spent_out = racing.race(world, Scripted([(bad, None, 0.0)] * 9), 15.0)
    assert (spent_out.end, spent_out.plans) == ("budget", 1)
    assert spent_out.at("near") == spent_out.spent
    stopped = racing.race(world, Scripted([(bad, None, 0.0)] * 9), 5000.0, cpu=0.0)
    assert (stopped.end, stopped.at("near")) == ("stopped", stopped.spent)
    assert stopped.at("near", whole=True).seconds == pytest.approx(5000.0)
    assert figures.log_ratios([stopped], [stopped], "near")[0] < 0.0


def test_a_race_survives_being_kept():
    world = World(least=0.7)
    good, bad = ranked(world)
    for turns in ([(bad, bad, 1.0), (good[0], good[0], 1.0)], [(bad, None, 0.0)]):
        raced = racing.race(world, Scripted(turns), 100.0)
        assert racing.race_from(json.loads(json.dumps(asdict(raced)))) == raced


def race_of(seconds, *, reached=True, believed=(), declared=None, ms=1.0):
    spent = racing.Spent(seconds, seconds / 2, seconds / 100)
    found = spent if reached else None
    end = "near" if reached else "budget"
    return racing.Race(found, found, spent, 1000.0, end, 5, ms, (), believed, declared)


def test_ratios_are_paired_medians_and_their_mean_is_geometric():
    ours = [race_of(s, believed=(True,), declared=True) for s in (10.0, 20.0, 40.0)]
    results = {
        ("a", "vulcan"): [race_of(s) for s in (40.0, 80.0, 1000.0)],
        ("a", "botorch"): [race_of(s) for s in (20.0, 40.0, 80.0)],
        ("a", "random"): [race_of(1000.0, reached=False)] * 3,
        ("a", "octans"): ours,
        ("b", "vulcan"): [race_of(s) for s in (90.0, 180.0, 360.0)],
        ("b", "botorch"): [race_of(s) for s in (80.0, 160.0, 320.0)],
        ("b", "random"): [race_of(1000.0, reached=False)] * 3,
        ("b", "octans"): [race_of(s, believed=(True, False), ms=7.0) for s in (10.0, 20.0, 40.0)],
    }
    found = figures.figures_of(results)
    assert found["vs_vulcan"] == pytest.approx(math.sqrt(4.0 * 9.0))
    assert found["vs_best_tool"] == pytest.approx(math.sqrt(2.0 * 8.0))
    assert found["vs_random"] == pytest.approx(50.0)
    assert found["ert_vs_vulcan"] == pytest.approx(math.sqrt(16.0 * 9.0))
    assert found["ert_vs_vulcan_feasible:lower_bounds"] == 0.0
    assert found["ert_vs_random:lower_bounds"] == 2.0
    assert found["significant_losses"] == 0.0
    assert found["believed_feasible"] == pytest.approx(6 / 9)
    assert found["true_feasible"] == 1.0
    assert found["declared"] == 0.5
    assert found["ms_per_plan"] == 7.0
    assert found["search_share"] == pytest.approx(0.5)
    assert found["a:random:near_reached"] == 0.0
    assert found["a:vulcan:near_s"] == 80.0


def test_a_loss_counts_only_where_it_is_significant():
    better = [math.log(0.5) - 0.01 * at for at in range(8)]
    assert figures.loses(better)
    assert not figures.loses([-ratio for ratio in better])
    assert not figures.loses(better[:5])
    assert not figures.loses([0.0] * 20)
    assert not figures.loses([(-1.0) ** at * (1 + at) for at in range(20)])


def test_a_pair_that_nobody_won_is_no_loss():
    """A baseline that was stopped early is charged less than ours needed; that proves nothing."""
    stopped = [race_of(10.0 + at, reached=False) for at in range(8)]
    ours = [race_of(40.0) for _ in stopped]
    assert not figures.loses(figures.decided(stopped, ours, "near"))
    faster = [race_of(10.0 + at) for at in range(8)]
    assert figures.loses(figures.decided(faster, ours, "near"))
    later = [race_of(90.0 + at, reached=False) for at in range(8)]
    assert figures.decided(later, ours, "near") == figures.log_ratios(later, ours, "near")


def test_a_part_left_out_does_not_look_better_for_being_stopped_sooner():
    stopped = replace(race_of(10.0, reached=False), end="stopped")
    later = replace(race_of(500.0, reached=False), end="stopped")
    found = figures.ert_ratio([race_of(90.0), stopped], [race_of(90.0), later], "near", whole=True)
    assert found == figures.Ratio(1.0)
    assert figures.ert_ratio([race_of(90.0), stopped], [race_of(90.0), later], "near").value < 0.2


def test_what_is_returned_is_what_a_race_ends_with():
    """Not what it passed on the way, however good that was."""
    traces = [((1.0, None), (2.0, 0.01)), ((1.0, 0.01), (2.0, None)), ((1.0, 0.2),), ()]
    races = [replace(race_of(9.0), trace=trace) for trace in traces]
    assert figures.returned(races, "feasible") == 0.5
    assert figures.returned(races, "near") == 0.25
    found = figures.figures_of({("a", "vulcan"): races[:2], ("b", "vulcan"): races[2:]})
    assert found["vulcan:returned_feasible"] == 0.5
    assert found["a:vulcan:returned_near"] == 0.5


def test_seed_by_seed_whatever_fails_counts_as_its_budget():
    there, failed = race_of(10.0), race_of(90.0, reached=False)
    given_up = replace(failed, end="done")
    assert figures.paired([failed, there], [there, there], "near").value == pytest.approx(10.0)
    assert figures.paired([given_up], [failed], "near").value == pytest.approx(1.0)
    assert figures.paired([there], [given_up], "near").value == pytest.approx(0.01)


def test_without_our_search_its_figures_are_left_out():
    found = figures.figures_of({("a", "vulcan"): [race_of(2.0)]})
    assert "vs_vulcan" not in found
    assert found["a:vulcan:near_s"] == 2.0


@pytest.mark.parametrize(
    ("theirs", "ours", "sign"),
    [
        ((True, True, True), (True, True, True), ""),
        ((True, True, False), (True, True, True), ""),
        ((True, False, False), (True, True, True), "≥"),
        ((True, True, True), (True, False, False), "≤"),
        ((False, False, False), (False, False, False), "~"),
    ],
)
def test_a_ratio_is_a_bound_where_races_that_did_not_get_there_could_move_it(theirs, ours, sign):
    """Ratios are 2, 4 and 8: one race of three that would be later leaves the median."""
    seconds = (20.0, 40.0, 80.0)
    baseline = [race_of(s, reached=there) for s, there in zip(seconds, theirs, strict=True)]
    own = [race_of(10.0, reached=there) for there in ours]
    found = figures.ratio(baseline, own, "near")
    assert found.sign == sign
    assert str(found).endswith(f"{found.value:.3g}")
    ends = figures.mean_ratio([found, figures.Ratio(1.0)])
    assert ends.sign == sign
    assert ends.value == pytest.approx(math.sqrt(found.value))


def test_the_expected_response_time_charges_what_failed_too():
    """Every race's spending counts, however it ended."""
    theirs = [race_of(100.0), race_of(300.0, reached=False), race_of(200.0, reached=False)]
    ours = [race_of(50.0), race_of(100.0), replace(race_of(10.0, reached=False), end="stopped")]
    assert figures.ert(theirs, "near").value == pytest.approx(0.6)
    assert figures.ert(ours, "near").value == pytest.approx((0.05 + 0.1 + 0.01) / 2)
    assert figures.ert_ratio(theirs, ours, "near").value == pytest.approx(0.6 / 0.08)
    assert figures.ert_ratio(theirs[1:], ours, "near").sign == "≥"
    assert figures.ert_ratio(theirs, ours[2:], "near").sign == "≤"


@pytest.mark.parametrize(
    ("theirs", "ours", "who"),
    [
        ([(5.0, 0.5)], [(5.0, 0.2)], 1),
        ([(5.0, 0.22)], [(5.0, 0.2)], 0),
        ([(5.0, 0.0)], [(5.0, 0.2)], -1),
        ([(5.0, 9.0)], [(5.0, None)], -1),
        ([(5.0, None)], [(5.0, 9.0)], 1),
        ([], [], 0),
        ([(5.0, 0.5)], [(5.0, 0.9), (11.0, 0.0)], -1),
    ],
)
def test_who_is_ahead_is_judged_when_the_baseline_ends(theirs, ours, who):
    """After 10 seconds of profiling: what ours finds later does not count."""
    first = replace(race_of(20.0), trace=tuple(theirs))
    assert figures.ahead(first, replace(race_of(900.0), trace=tuple(ours))) == who


def job(name, seed=0, settings=None, **given):
    text = json.dumps(settings or {})
    return jobs.Job("toy", name, text, seed, 50.0, 20.0, None, "", **given)


def test_tuning_takes_the_best_setting_and_what_is_kept_is_not_run_again(tmp_path):
    grid = registry.SEARCHES["random"].grid
    count = []

    def work(task, given):
        for each in given:
            count.append(each)
            sample = json.loads(each.settings)["sample"]
            reached = sample == grid[1]["sample"]
            yield each, race_of(100.0 if reached else 1.0, reached=reached)

    found = heats.Heats(work, tmp_path)
    assert found.tuned(job("random"), seeds=(1, 2)) == grid[1]
    assert len(count) == len(grid) + max(len(grid) // 2, 1)
    assert heats.Heats(work, tmp_path).tuned(job("random"), seeds=(1, 2)) == grid[1]
    assert len(count) == len(grid) + max(len(grid) // 2, 1)


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    """Our own races too; and races of other settings, limits or histories are others."""
    every = [job(name, seed) for name in ("random", "octans") for seed in range(3)]
    done = []

    def killed(task, given):
        for each in given[:4]:
            yield each, race_of(1.0 + each.seed)
        raise KeyboardInterrupt

    def work(task, given):
        for each in given:
            done.append(each)
            yield each, race_of(1.0 + each.seed)

    with pytest.raises(KeyboardInterrupt):
        heats.Heats(killed, tmp_path).run(every)
    found = heats.Heats(work, tmp_path).run(every)
    assert done == every[4:]
    assert [race.near.seconds for race in found] == [1.0, 2.0, 3.0] * 2
    others = [job("octans", histories=1), job("octans", reuse=False), job("octans", to_end=True)]
    heats.Heats(work, tmp_path).run(others)
    assert done == every[4:] + others


def test_workloads_and_searches_are_picked_by_name(tmp_path):
    def picked(*given):
        return contract.parse_options("search", "", given, 20, 2, search.SWITCHES, search.CHOICES)

    some = picked("--data", str(tmp_path), "--workloads", "code", "cuad", "--searches", "vulcan")
    assert search._workloads(some) == ("code", "cuad")
    assert search._searches(some) == ["vulcan", "octans"]
    every = picked("--data", str(tmp_path))
    assert search._workloads(every) == search.NAMES
    assert search._searches(every) == [*registry.BASELINES, "octans"]
    with pytest.raises(SystemExit):
        picked("--workloads", "none such")


def test_jobs_are_raced_on_their_own_environment():
    world = World(least=0.7)
    raced = heats.raced(world, job("random", settings={"sample": 50}))
    assert raced.end == "near"
    assert raced.budget == pytest.approx(50 * 2 * world.rows)


def cpu_and_clock(job):
    """Seconds of CPU time and of the clock that a product of matrices takes, and torch's threads.

    For a worker: with more than one thread CPU time is the larger.
    """
    torch = importlib.import_module("torch")
    np = importlib.import_module("numpy")
    matrix = np.random.default_rng(0).normal(size=(700, 700))
    matrix @ matrix
    tensor = torch.as_tensor(matrix)
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(10):
        matrix @ matrix
        tensor @ tensor
    return time.process_time() - cpu, time.perf_counter() - clock, torch.get_num_threads()


def test_a_worker_has_one_thread():
    with heats.pool(1) as work:
        ((_, (cpu, clock, threads)),) = work(cpu_and_clock, [job("octans")])
    assert threads == 1
    assert cpu < 1.2 * clock + 0.05


def test_a_pool_of_candidates_has_the_acquisition_values_of_its_models():
    """Posteriors computed all at once, for BoTorch's functions over one and over several models."""
    torch = importlib.import_module("torch")
    models = importlib.import_module("botorch.models")
    analytic = importlib.import_module("botorch.acquisition.analytic")
    gaussian = importlib.import_module("benchmarks.baselines.gaussian")
    draw = torch.Generator().manual_seed(0)
    seen, unseen = ((torch.rand(n, 12, generator=draw) < 0.3).double() for n in (20, 15))
    values = torch.randn(20, 3, generator=draw).double()
    own = [models.SingleTaskGP(seen, column) for column in values.split(1, dim=1)]
    limits = {1: (None, 0.0), 2: (None, 0.1)}
    for model in own:
        model.eval()
    with torch.no_grad():
        one, all_ = gaussian.Pool(own[:1], unseen), gaussian.Pool(own, unseen)
        for pool, model, acquisition in (
            (one, own[0], lambda m: analytic.LogExpectedImprovement(m, 0.2)),
            (all_, models.ModelListGP(*own), lambda m: analytic.LogConstrainedExpectedImprovement(
                m, 0.2, 0, limits, maximize=False)),
        ):  # fmt: skip
            expected = acquisition(model)(unseen.unsqueeze(1))
            assert torch.allclose(acquisition(pool)(pool.places), expected, atol=1e-9)


# -- ablations, histories, surrogates ---------------------------------------------------------


@pytest.fixture
def toys(monkeypatch):
    """Jobs are of the toy pipeline."""
    for module in (histories, heats, surrogates):
        monkeypatch.setattr(module, "drawn", lambda job: World(seed=1, stages=3, variants=4))


def here(task, given):
    """Work without processes."""
    for each in given:
        yield each, task(each)


def test_histories_are_finished_searches_and_are_made_once(tmp_path, toys):
    runner = heats.Heats(here, tmp_path)
    warm = runner.with_histories(job("octans"), 2)
    given = histories.drawn_histories(replace(warm, histories=2))
    assert len(given) == 2
    assert all(len(one.plans) > 4 for one in given)
    assert runner.with_histories(job("octans"), 2) == warm
    again = heats.Heats(lambda task, given: here(pytest.fail, given), tmp_path)
    assert again.with_histories(job("octans"), 2) == warm
    assert histories.drawn_histories(replace(warm, histories=1)) == given[:1]


@pytest.mark.parametrize("twist", ["inverted", "shuffled"])
def test_adversarial_histories_have_the_same_plans_and_other_scores(tmp_path, toys, twist):
    warm = replace(heats.Heats(here, tmp_path).with_histories(job("octans"), 1), histories=1)
    (true,), (false,) = (
        histories.drawn_histories(replace(warm, twist=how)) for how in ("none", twist)
    )
    means, others = ([plan.mean for plan in one.plans] for one in (true, false))
    assert [(p.options, p.n) for p in false.plans] == [(p.options, p.n) for p in true.plans]
    assert false.options == true.options
    assert others != means
    if twist == "shuffled":
        assert sorted(others) == sorted(means)
    else:
        assert [max(means) + min(means) - mean for mean in means] == pytest.approx(others)


def test_every_ablation_is_raced_and_its_factor_is_against_the_whole(tmp_path, toys):
    options = contract.Options(True, False, 1, 300, None, tmp_path)
    short = replace(job("octans"), plans=4.0, cpu=0.5)
    found = ablation.figures(heats.Heats(here, tmp_path), short, ["toy"], options)
    kept = [
        json.loads(json.loads(line)["job"])
        for line in (tmp_path / heats.KEPT).read_text().splitlines()
    ]
    changed = ablation.jobs_of(job("octans"), ablation.QUICK_SWEEP)
    assert len({json.dumps(one) for one in kept}) == len(kept) == len(changed)
    for name in ("partial_profiling", "composition", "one_hot", "prefix_reuse", "warm_start"):
        assert found[f"without_{name}"] > 0.0
    worse = max(found["inverted"], found["shuffled"])
    assert found["adversarial_loss"] == pytest.approx(worse - 1.0)
    assert found["without_warm_start"] == found["histories_3"]
    assert (tmp_path / "ablation.csv").read_text().count("\n") == len(changed) + 1


@pytest.mark.parametrize(
    ("sweep", "warm"), [((1, 3, 10, 30), 10), ((1, 3), 3), ((3, 30), 3), ((30, 100), 30)]
)
def test_any_sweep_has_a_warm_start_among_its_numbers(sweep, warm):
    """`--histories` takes any of them: the most that is not above ten, else the least."""
    changed = ablation.jobs_of(job("octans"), sweep)
    assert changed["inverted"].histories == changed["shuffled"].histories == warm
    factors = ablation.factors_of({name: [race_of(1.0)] for name in changed}, sweep)
    assert factors["without_warm_start"] == factors[f"histories_{warm}"]


def test_composition_predicts_better_than_a_process_over_whole_plans(toys):
    """Four stages of 27 options: 40 plans have seen most options and next to no plan."""
    world = World(seed=1, stages=4, variants=9, batches=(1, 4, 16))
    found = surrogates.errors(world, 300)
    assert {count for _, _, count in found} == set(surrogates.COUNTS)
    for dim in ("cost", "latency_p95"):
        composed, plain = (
            statistics.median(found[dim, name, 40])
            for name in (surrogates.COMPOSED, surrogates.END_TO_END)
        )
        assert composed < 0.5 * plain


def test_a_combination_that_is_no_option_stands_for_the_nearest():
    world = World(stages=2, variants=3, batches=(1, 4))
    encoding = plans.Encoding(world.space)
    for plan in plans.Shuffle(world.space, random.Random(1)):
        assert encoding.decode(encoding.encode(plan)) == plan
        for near in encoding.neighbours(plan):
            differ = zip(encoding.encode(plan), encoding.encode(near), strict=True)
            assert sum(a != b for a, b in differ) == 1
    assert encoding.one_hot([(0, 0), (5, 3)]).sum(axis=1).tolist() == [4.0, 4.0]


def test_a_shuffle_draws_every_plan_once():
    space = World(stages=3).space
    drawn = list(plans.Shuffle(space, random.Random(4)))
    assert len(drawn) == len(set(drawn)) == space.size
    assert drawn != sorted(drawn)
