"""The learned search: its process, its two surrogates, what it proposes, and its state."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from octans.errors import InternalError, PlanError
from octans.ir.physical import Choice
from octans.ir.slo import Constraint, Objective, Slo
from octans.planner.search.features import features
from octans.planner.search.learned import LearnedSearch, Settings, candidates, draws, gp, operators
from octans.planner.search.learned.operators import Composition
from octans.planner.search.learned.quality import QualitySurrogate, seen
from octans.planner.search.protocol import SOURCE, Evaluation, Space, StageOptions
from octans.planner.search.similarity.warm_start import WarmStart, history_of
from plan_world import World

KINDS = np.repeat(np.arange(4), 5)


def parts():
    """That points are of one kind, and that they are the same."""
    return np.stack([(KINDS[:, None] == KINDS[None, :]).astype(float), np.eye(20)])


def run(search, world, steps):
    """Let it search; the evaluator and every proposal."""
    evaluator, asked = world.profiler(), []
    for _ in range(steps):
        proposal = search.ask()
        if proposal is None:
            break
        asked.append(proposal)
        search.tell(evaluator.evaluate(proposal))
    return evaluator, asked


def searching(world, **settings):
    """A search that point estimates decide, as an SLO without AT CONFIDENCE says."""
    limits = tuple(limit.replace(confidence=None) for limit in world.slo.constraints)
    slo = Slo(limits, world.slo.objective)
    return LearnedSearch(world.space, slo, rows=world.rows, seed=3, settings=Settings(**settings))


# -- the process ------------------------------------------------------------------------------


def test_inference_is_that_of_botorch():
    """What is written out equals BoTorch's posterior of the same kernel and data."""
    import torch
    from botorch.models import SingleTaskGP
    from gpytorch.means import ZeroMean

    rng = np.random.default_rng(0)
    weights, noise, among = np.array([0.7, 0.2]), np.diag(np.full(20, 0.05)), np.arange(15)
    targets = rng.normal(size=15)
    kernel = gp.parts_kernel(
        torch.as_tensor(parts()), torch.as_tensor(np.log(weights)), torch.zeros(20, 20).double()
    )
    model = SingleTaskGP(
        torch.as_tensor(among).double()[:, None],
        torch.as_tensor(targets)[:, None],
        torch.full((15, 1), 0.05).double(),
        covar_module=kernel,
        mean_module=ZeroMean(),
        outcome_transform=None,
        input_transform=None,
    )
    posterior = model.posterior(torch.arange(20).double()[:, None])
    whole = np.tensordot(weights, parts(), 1)
    given = gp.condition(whole[:15, :15] + noise[:15, :15], targets)
    mean, variance = given.predict(whole[:, :15], whole.diagonal())
    assert mean == pytest.approx(posterior.mean[:, 0].detach().numpy(), abs=1e-5)
    assert variance == pytest.approx(posterior.variance[:, 0].detach().numpy(), abs=1e-5)


def test_fitting_finds_what_matters():
    """The weight of a part that explains nothing falls below its default, the other's does not."""
    rng = np.random.default_rng(1)
    targets = rng.normal(size=4)[KINDS] * 2.0 + 0.01 * rng.normal(size=20)
    of_kind, own = gp.fit(parts(), targets, np.array([0.5, 0.5]), np.zeros((20, 20)))
    assert of_kind > 0.5 > 10 * own


# -- dims are composed ------------------------------------------------------------------------


def two_stages(transfers=None):
    def options(stage):
        return tuple(
            Choice(f"m{stage}.v{v}", (), batch, device)
            for v in range(4)
            for device in ("edge", "cloud")
            for batch in (1, 4, 16)
        )

    return Space(
        (StageOptions("a", options(0)), StageOptions("b", options(1), (0,))),
        ("cost",),
        ("latency_p95",),
        ("edge", "cloud"),
        transfers or {},
    )


def truly(choice):
    """Seconds of a call: a factor per variant and device, and a fixed part."""
    per = 0.01 * 3.0 ** int(choice.variant[-1]) * (1.0 if choice.device == "edge" else 0.2)
    return per * (2 + choice.batch)


def test_plans_never_seen_are_known_from_their_stages():
    """Half of the options of each stage were seen, none of the plans that are predicted."""
    space = two_stages()
    composition = Composition(space, features(space))
    rng = np.random.default_rng(0)
    for place, stage in enumerate(space.stages):
        for option in rng.permutation(24)[:14]:
            composition.add(place, option, {"latency_p95": truly(stage.options[option])})
    composition.refit()
    plans = candidates.samples([24, 24], 300, rng)
    mean, variance = composition.predict("latency_p95", plans)
    truth = np.log(
        [
            sum(truly(s.options[o]) for s, o in zip(space.stages, plan, strict=True))
            for plan in plans
        ]
    )
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.25 * truth.std()
    assert np.mean(np.abs(mean - truth) < 3 * np.sqrt(variance)) > 0.9


def test_paths_take_the_longest_way_and_the_transfers():
    table = ((0.0, 5.0), (5.0, 0.0))
    space = two_stages({(0, 1): table, (SOURCE, 0): ((0.0, 7.0),)})
    composition = Composition(space, features(space))
    for place, stage in enumerate(space.stages):
        for option, choice in enumerate(stage.options):
            composition.add(place, option, {"latency_p95": truly(choice)})
    names = [(c.device, c.batch) for c in space.stages[0].options]
    edge, cloud = names.index(("edge", 1)), names.index(("cloud", 1))
    plans = np.array([[edge, edge], [edge, cloud], [cloud, edge], [cloud, cloud]])
    mean, _ = composition.predict("latency_p95", plans)
    own = [[truly(s.options[o]) for s, o in zip(space.stages, p, strict=True)] for p in plans]
    expected = np.array([sum(values) for values in own]) + np.array([0.0, 5.0, 12.0, 7.0])
    assert np.exp(mean) == pytest.approx(expected, rel=0.05)


def test_what_the_catalog_knows_is_not_learned_again():
    known = {"cost": tuple(float(place + 1) for place in range(24))}
    space = two_stages()
    stages = tuple(StageOptions(s.key, s.options, s.parents, known) for s in space.stages)
    space = Space(stages, space.sums, space.paths, space.devices)
    mean, variance = Composition(space, features(space)).predict("cost", np.array([[3, 10]]))
    assert math.exp(mean[0]) == pytest.approx(4.0 + 11.0, rel=0.01)
    assert variance[0] < 1e-3


def test_a_measurement_counts_in_place_of_what_a_history_told():
    """As if the history had said nothing of those options, whichever came first."""
    space, rng = two_stages(), np.random.default_rng(5)
    told = np.where(np.arange(24) % 3 == 0, np.nan, rng.normal(size=24))
    measured = {1: 0.4, 2: -0.3, 3: 0.9, 7: 0.1}
    left_out = np.where(np.isin(np.arange(24), list(measured)), np.nan, told)
    operators = [Composition(space, features(space)).operator(0, "cost") for _ in range(3)]
    both, late, without = operators
    both.tell(told)
    without.tell(left_out)
    for option, log in measured.items():
        for operator in operators:
            operator.add(option, math.exp(log))
    late.tell(told)
    (mean, variance), (plain, spread) = both.moments(), without.moments()
    # Centres are those of what was told, and under a constant of variance 9 hardly matter.
    assert mean == pytest.approx(plain, abs=0.02)
    assert variance == pytest.approx(spread, rel=1e-3)
    assert np.allclose(late.moments()[0], mean)
    drawn = both.draw(np.ones(4000), rng)
    assert drawn.mean(axis=1) == pytest.approx(mean, abs=0.1)
    assert drawn.std(axis=1) == pytest.approx(np.sqrt(variance), rel=0.1)


def conditioned(operator):
    """The textbook's posterior of everything measured, at once."""
    start, seen = operator._started(), operator.measured
    logs, noise = operator._measurements(seen)
    mean = np.full(len(start.covariance), logs.mean()) if start.mean is None else start.mean
    given = gp.condition(start.covariance[np.ix_(seen, seen)] + np.diag(noise), logs - mean[seen])
    moved, variance = given.predict(start.covariance[:, seen], start.covariance.diagonal())
    return mean + moved, variance


@pytest.mark.parametrize("told", [False, True])
def test_a_measurement_more_gives_what_conditioning_on_all_gives(told):
    """One after another, again and again of the same options, beside what histories told."""
    rng = np.random.default_rng(3)
    space = two_stages()
    composition = Composition(space, features(space))
    size = len(space.stages[0].options)
    operator = composition.operator(0, "cost")
    if told:
        operator.tell(np.where(np.arange(size) % 3 == 0, np.nan, rng.normal(size=size)))
    rows = []
    for _ in range(3 * operators.REPEATS):
        composition.add(0, int(rng.integers(size)), {"cost": float(np.exp(rng.normal()))})
        composition.refit()
        rows.append(len(operator._given))
        for found, expected in zip(operator.moments(), conditioned(operator), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert max(rows) > size, "measurements of the same option stood apart"
    assert max(rows) <= size + operators.REPEATS, "and were put together"
    drawn = operator.draw(np.ones(20_000), rng)
    mean, variance = operator.moments()
    np.testing.assert_allclose(drawn.mean(axis=1), mean, atol=0.05)
    np.testing.assert_allclose(drawn.var(axis=1), variance, rtol=0.1)


# -- quality ----------------------------------------------------------------------------------


def test_the_luck_of_common_rows_is_told_apart():
    """Plans all right on the first rows, one of them then half wrong: the others come down too."""
    space = two_stages()
    lucky = [1.0] * 16
    rest = ([1.0, 0.0] * 300)[:496]

    def belief(long):
        surrogate = QualitySurrogate(space, features(space))
        plans = [(0, 0), (1, 2), (2, 1), (3, 3)]
        data = [seen(p, lucky) for p in plans[1:]]
        data.append(seen(plans[0], lucky + rest if long else lucky))
        surrogate.learn(data, np.zeros(len(data)))
        return surrogate.predict(np.array([[2, 1]]))[0][0]

    assert belief(True) > belief(False) + 0.05


def test_more_rows_make_surer():
    space = two_stages()

    def spread(rows):
        surrogate = QualitySurrogate(space, features(space))
        surrogate.learn([seen((0, 0), [1.0, 1.0, 0.0, 1.0] * rows)], np.zeros(1))
        return surrogate.predict(np.array([[0, 0]]))[1][0]

    assert spread(4) > spread(40) > spread(400)


def test_a_composed_estimate_is_what_is_expected_of_what_was_not_seen():
    """Losses known of single stages are the prior mean: what is learned is the residual."""
    space = two_stages()
    loss = tuple(0.1 * int(choice.variant[-1]) for choice in space.stages[0].options)
    stages = tuple(StageOptions(s.key, s.options, s.parents, {"loss": loss}) for s in space.stages)
    slo = Slo((Constraint("accuracy", ">=", 0.9),), Objective("cost"))
    search = LearnedSearch(
        Space(stages, space.sums, space.paths, space.devices), slo, rows=100, seed=0
    )
    mean = search.beliefs(np.array([[0, 0], [0, 23], [23, 23]])).mean[:, 0]
    assert mean == pytest.approx([0.0, 0.3, 0.6])


# -- functions drawn from the beliefs -----------------------------------------------------------


def knowing(steps=12):
    """A search that has seen something, and plans to ask it of."""
    world = World(stages=3)
    search = searching(world)
    run(search, world, steps)
    return search, candidates.samples(search._known.sizes, 40, np.random.default_rng(0))


def test_draws_have_the_mean_and_the_spread_of_the_beliefs():
    """Of plans never seen too; what a plan has of its own is not drawn where it was not seen."""
    search, plans = knowing()
    count = 4000
    drawn = search._known.draw(np.ones(count), np.random.default_rng(1))
    values = np.stack(
        [drawn.outcomes(np.tile(plan, (count, 1)), np.arange(count)) for plan in plans]
    )
    beliefs = search.beliefs(plans)
    spread = np.sqrt(beliefs.variance)
    loss = search.asked.outcomes.index("loss")
    apart = (values.mean(axis=1) - beliefs.mean)[:, loss]
    assert np.abs(apart / spread[:, loss]).max() < 0.15
    assert values.std(axis=1)[:, loss] == pytest.approx(spread[:, loss], rel=0.15)


def test_a_shy_draw_is_the_mean():
    search, plans = knowing()
    drawn = search._known.draw(np.zeros(1), np.random.default_rng(1))
    found = drawn.outcomes(plans, np.zeros(len(plans), int))
    loss = search.asked.outcomes.index("loss")
    assert found[:, loss] == pytest.approx(search.beliefs(plans).mean[:, loss], abs=1e-3)


def test_the_best_plan_of_a_draw_is_found_without_trying_all():
    """Climbing finds what trying every plan finds, but for few draws."""
    search, starts = knowing()
    count, asked, sizes = 24, search.asked, search._known.sizes
    drawn = search._known.draw(np.ones(count), np.random.default_rng(2))
    found = drawn.outcomes(
        draws.optima(drawn, starts, sizes, asked.limits, asked.goal), np.arange(count)
    )
    every = np.array(list(np.ndindex(*sizes)))
    right = 0
    for which in range(count):
        outcomes = drawn.outcomes(every, np.full(len(every), which))
        able = (outcomes <= asked.limits).all(axis=1)
        if not able.any():
            right += 1
            continue
        assert (found[which] <= asked.limits).all()
        right += found[which, asked.goal] <= outcomes[able, asked.goal].min() + 1e-9
    assert right >= 0.75 * count


@pytest.mark.parametrize("encoding", ["one_hot", "ordinal"])
def test_what_is_conditioned_on_is_what_was_fitted(encoding):
    """The covariance is written twice: by its parts, to fit their weights, and in one array."""
    space = two_stages()
    stages = features(space)
    quality = QualitySurrogate(space, stages, encoding)
    rng = np.random.default_rng(4)
    quality.speeds([rng.normal(size=stage.classes) for stage in stages])
    classes = np.stack([rng.integers(stage.classes, size=30) for stage in stages], axis=1)
    quality._prepare(classes)
    parts = np.tensordot(quality.weights, quality._parts(classes), 1)
    np.testing.assert_allclose(quality._cross(classes), parts, rtol=1e-12)


def test_luck_is_drawn_as_it_is_believed():
    """Of plans on 8 to 2,000 rows, two of them on as many: covariances within sampling error."""
    search, _ = knowing(6)
    quality = search._known._quality
    scores = [[1.0] * (rows - rows // 8) + [0.0] * (rows // 8) for rows in (8, 8, 64, 500, 2000)]
    data = [seen((0,), one) for one in scores]
    quality._expected = np.array([one.loss for one in data])
    graded, rows = (np.array([getattr(one, of) for one in data]) for of in ("graded", "rows"))
    believed = quality._noise(graded, rows)
    drawn = np.cov(quality._luck(40_000, np.random.default_rng(0)))
    scale = np.sqrt(np.outer(believed.diagonal(), believed.diagonal()))
    assert drawn / scale == pytest.approx(believed / scale, abs=0.03)


def test_what_is_declared_is_never_surer_than_what_is_believed():
    search, _ = knowing(40)
    standing = search._standing()
    assert (standing.chances <= np.exp(standing.beliefs.feasible()) + 1e-12).all()
    assert (standing.proved <= standing.chances + 1e-12).all()
    assert ((standing.proved >= 0) & (standing.chances <= 1)).all()


def test_certainty_of_the_surrogate_alone_verifies_and_declares_nothing():
    """A plan of which 9 rows of 10 are right, among many that are seen to do as well."""
    options = tuple(Choice(f"m.v{variant}") for variant in range(8))
    space = Space((StageOptions("m", options),), ("cost",), (), (options[0].device,))
    slo = Slo((Constraint("accuracy", ">=", 0.8),), Objective("cost"))
    search = LearnedSearch(space, slo, rows=2000, settings=Settings(first_rows=10))
    taken = {"cost": 0.01, "profile": 0.01}
    for option in range(8):
        scores = ([1.0] * 9 + [0.0]) * (1 if option == 0 else 200)
        search.tell(Evaluation((option,), scores, (taken,), {"cost": 0.01}, 1.0, 0.0))
    standing = search._standing()
    assert np.exp(standing.beliefs.feasible())[0] > 0.9
    assert standing.chances[0] < 0.9


# -- the loop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_best_plan_of_a_small_space(seed):
    world = World(seed=seed, variants=4, batches=(1, 4, 16))
    search = searching(world)
    run(search, world, 60)
    found = search.incumbent()
    assert world.meets(found.assignment)
    assert world.truth(found.assignment)["cost"] <= 1.05 * world.best


def test_where_no_plan_can_be_sure_the_best_of_the_likely_is_returned():
    """A hundred rows, all right, cannot show an accuracy of 0.995; what is cheap still counts."""
    options = tuple(Choice(f"m.v{variant}") for variant in range(8))
    space = Space((StageOptions("m", options),), ("cost",), (), (options[0].device,))
    slo = Slo((Constraint("accuracy", ">=", 0.99),), Objective("cost"))
    for seed in range(3):
        search = LearnedSearch(space, slo, rows=100, seed=seed)
        costs = 0.01 * (1.0 + np.random.default_rng(seed).permutation(8))
        while (proposal := search.ask()) is not None:
            (option,) = proposal.assignment
            taken = {"cost": float(costs[option]), "profile": 0.01}
            scores = [1.0] * proposal.rows
            metrics = {"cost": float(costs[option])}
            search.tell(Evaluation((option,), scores, (taken,), metrics, 1.0, 0.0))
        assert search.incumbent().assignment == (int(costs.argmin()),)


def test_what_is_pruned_is_not_proposed_and_pruning_can_be_left():
    world = World(seed=1, variants=4, batches=(1, 4, 16))
    search, evaluator, told = searching(world), world.profiler(), set()
    for _ in range(40):
        proposal = search.ask()
        if proposal.assignment not in told:  # else it may be a look at what it would return
            assert proposal.assignment not in {one.assignment for one in search.pruned}
        told.add(proposal.assignment)
        search.tell(evaluator.evaluate(proposal))
    assert search.pruned
    without = searching(world, pruning=False)
    run(without, world, 60)
    assert without.pruned == ()


def test_it_costs_less_than_profiling_every_plan():
    world = World(stages=3)
    search = searching(world)
    evaluator, _ = run(search, world, 200)
    everything = world.profiler()
    for plan in np.ndindex(*(len(stage.options) for stage in world.space.stages)):
        everything.evaluate(type("P", (), {"assignment": plan, "rows": world.rows})())
    assert evaluator.seconds < 0.5 * everything.seconds


def test_the_same_seed_proposes_the_same():
    world = World(stages=3)
    assert run(searching(world), world, 25)[1] == run(searching(world), world, 25)[1]


def test_a_search_goes_on_from_its_state():
    """Killed and made anew from its state as JSON, it proposes what it would have proposed."""
    world = World(stages=3)
    search, evaluator = searching(world), world.profiler()
    for _ in range(18):
        search.tell(evaluator.evaluate(search.ask()))
    again = searching(world)
    again.restore(json.loads(json.dumps(search.state())))
    for _ in range(6):
        proposal = search.ask()
        assert again.ask() == proposal
        evaluation = evaluator.evaluate(proposal)
        search.tell(evaluation)
        again.tell(evaluation)
    assert again.incumbent() == search.incumbent()


def test_its_frontier_has_no_plan_that_another_beats():
    world = World(stages=3)
    search = searching(world)
    run(search, world, 40)
    frontier = search.frontier()
    values = [
        (-c.metrics["accuracy"], c.metrics["cost"], c.metrics["latency_p95"]) for c in frontier
    ]
    assert len(values) > 1
    for one in values:
        assert not any(
            all(a <= b for a, b in zip(o, one, strict=True)) and o != one for o in values
        )


def test_rows_only_grow_and_end():
    """A plan is continued, never begun again; when every plan was seen on all rows, it is over."""
    world = World(variants=2, batches=(1,))
    _, asked = run(searching(world, tolerance=1e-9), world, 200)
    assert len(asked) < 200
    done = {}
    for proposal in asked:
        assert done.get(proposal.assignment, 0) <= proposal.rows <= world.rows
        done[proposal.assignment] = proposal.rows


def test_a_space_of_one_plan():
    world = World(stages=1, variants=1, batches=(1,), least=0.1, slowest=100.0)
    search = searching(world)
    run(search, world, 20)
    assert search.incumbent().assignment == (0,)


def test_nothing_is_returned_where_nothing_is_feasible():
    world = World(least=0.9999)
    search = searching(world)
    run(search, world, 40)
    assert search.incumbent() is None


def test_a_metric_without_a_dim_is_refused():
    world = World()
    with pytest.raises(PlanError) as caught:
        LearnedSearch(world.space, Slo((), Objective("energy")), rows=10)
    assert caught.value.code == "OC0311"


def test_an_evaluation_of_something_else_is_a_defect():
    world = World()
    with pytest.raises(InternalError):
        searching(world).tell(Evaluation((0,), [1.0], ({},), {}, 1.0, 0.0))


def test_a_history_is_where_the_next_search_begins():
    """What an earlier search of the same models saw is believed until it is seen anew."""
    world = World(stages=3, variants=4)
    first = searching(world)
    run(first, world, 40)
    told = first.state()["evaluations"]
    history = history_of(
        world.space,
        "SLO",
        [
            Evaluation(
                tuple(one["assignment"]), one["scores"], tuple(one["stages"]), one["metrics"],
                one["seconds"], one["usd"],
            )
            for one in told
        ],
    )  # fmt: skip
    plans = candidates.samples([8, 8, 8], 200, np.random.default_rng(0))
    truth = np.array(
        [[-math.log(t["accuracy"]), math.log(t["cost"])] for t in map(world.truth, plans)]
    )

    def error(prior):
        search = LearnedSearch(world.space, world.slo, rows=world.rows, seed=3, prior=prior)
        beliefs = search.beliefs(plans)
        places = [search.asked.outcomes.index(name) for name in ("loss", "cost")]
        apart = beliefs.mean[:, places] - truth
        return np.sqrt((apart**2).mean(axis=0))

    assert (error(WarmStart(world.space, [history])) < 0.6 * error(None)).all()
