"""Warm start: histories that rank well lead, those that do not are left out, names decide."""

import itertools
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.catalog_db.catalog import Catalog
from octans.ir.physical import Choice
from octans.planner.explain.warmed import warming
from octans.planner.search.protocol import SOURCE, Evaluation, Space, StageOptions
from octans.planner.search.similarity.history_model import HistoryModel
from octans.planner.search.similarity.ranking import Judge
from octans.planner.search.similarity.structure import (
    signature_of,
    similarity,
    structure_kernel,
)
from octans.planner.search.similarity.warm_start import WarmStart, history_of

MODELS = ("detect", "classify", "describe")
VARIANTS = 6


def space(order=range(VARIANTS), models=MODELS, versions=()):
    """`versions` are those of variants that were defined anew, by number."""
    anew = dict(versions)
    stages = tuple(
        StageOptions(
            model,
            tuple(
                Choice(f"{model}.v{v}", (("k", v % 2),), 8, "cpu", version=anew.get(v, 1))
                for v in order
            ),
            (place - 1 if place else SOURCE,),
        )
        for place, model in enumerate(models)
    )
    return Space(stages, ("cost",), (), ("cpu",))


def accuracy(assignment, order=range(VARIANTS), sign=1.0):
    """A loss additive in what the variants are called, whatever place they have."""
    names = [list(order)[o] for o in assignment]
    worth = [0.02, 0.10, 0.05, 0.17, 0.01, 0.13]
    total = sum(worth[name] * (1 + stage / 2) for stage, name in enumerate(names))
    return float(np.exp(-total if sign > 0 else total - 0.8))


def evaluations(plans, order=range(VARIANTS), sign=1.0, rows=400, seed=0):
    generator = np.random.default_rng(seed)
    found = []
    for plan in plans:
        scores = generator.random(rows) < accuracy(plan, order, sign)
        stages = tuple({"cost": 1.0 + list(order)[o]} for o in plan)
        found.append(Evaluation(tuple(plan), [float(s) for s in scores], stages, {}, 1.0, 0.0))
    return found


def plans(n, seed):
    everything = list(itertools.product(range(VARIANTS), repeat=len(MODELS)))
    picked = np.random.default_rng(seed).choice(len(everything), n, replace=False)
    return [everything[at] for at in picked]


def history(order=range(VARIANTS), sign=1.0, seed=1):
    return history_of(space(order), "MINIMIZE cost", evaluations(plans(60, seed), order, sign))


def seen(n, seed):
    chosen = plans(n, seed)
    true = np.array([-np.log(accuracy(plan)) for plan in chosen])
    noise = np.full(n, 0.015**2)
    losses = true + np.random.default_rng(seed).normal(0.0, 0.015, n)
    return np.array(chosen), losses, noise


def expected(warm, plans):
    return sum(table[o] for table, o in zip(warm.losses(), np.asarray(plans).T, strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_an_inverted_history_has_no_weight_after_eight_plans(seed):
    warm = WarmStart(space(), [history(sign=-1.0)], seed)
    assert warm.losses() is not None  # nothing seen speaks against it yet
    warm.update(*seen(8, seed))
    assert sum(member.weight for member in warm.members) == 0.0
    assert warm.losses() is None


@pytest.mark.parametrize("seed", range(8))
def test_a_good_history_leads_among_inverted_ones(seed):
    good = history(order=(3, 1, 0, 5, 2, 4))  # the same variants in other places
    warm = WarmStart(space(), [*(history(sign=-1.0, seed=s) for s in range(9)), good], seed)
    chosen = seen(12, seed)
    warm.update(*chosen)
    assert [member.place for member in warm.members if member.weight > 0] == [9]
    assert warm.members[0].weight > 0.5
    everything = np.array(list(itertools.product(range(VARIANTS), repeat=3)))
    true = np.array([-np.log(accuracy(plan)) for plan in everything])
    assert np.corrcoef(expected(warm, everything), true)[0, 1] > 0.95


def test_of_ten_histories_that_know_nothing_hardly_ever_one_leads():
    """Each held to a level by itself, one of ten would most of the time; one that knows still does.

    Of one stage, where the own model has nothing to set against it.
    """
    variants = range(40)
    one = Space(
        (StageOptions("m", tuple(Choice(f"m.v{v}") for v in variants), (SOURCE,)),),
        ("cost",), (), ("cpu",),
    )  # fmt: skip
    generator = np.random.default_rng(0)
    true = generator.uniform(0.4, 0.95, len(variants))

    def told(accuracies, rows=400):
        scores = generator.random((len(variants), rows)) < accuracies[:, None]
        looks = [
            Evaluation((v,), scores[v].astype(float).tolist(), ({"cost": 1.0},), {}, 1.0, 0.0)
            for v in variants
        ]
        return history_of(one, "", looks)

    led = known = 0
    for seed in range(40):
        chosen = generator.choice(len(variants), 12, replace=False)
        losses = -np.log(true[chosen]) + generator.normal(0.0, 0.03, 12)
        blind = [told(generator.permutation(true)) for _ in range(10)]
        for histories in (blind, [*blind[:9], told(true)]):
            warm = WarmStart(one, histories, seed)
            warm.update(chosen[:, None], losses, np.full(12, 0.03**2))
            if histories is blind:
                led += warm.losses() is not None
            else:
                known += warm.members[0].place == 9
    assert led <= 8
    assert known >= 38


def test_one_plan_that_stands_out_is_no_evidence_by_itself():
    """Of six plans one stands out, and in a history some one of them: a match comes one time in
    six, however near the shuffles' normal distribution puts it to never."""
    losses, told = np.full(6, 0.4), np.full(6, 0.4)
    losses[2] = told[2] = 0.05
    judge = Judge(losses, np.full(6, 1e-3), np.random.default_rng(0))
    assert judge.chance(told) > 0.1
    ranked = Judge(np.linspace(0.1, 0.6, 6), np.full(6, 1e-4), np.random.default_rng(0))
    assert ranked.chance(np.linspace(0.2, 0.3, 6)) < 0.02


def test_the_own_model_takes_over():
    """Of a history that is only half right, less is left the more is seen."""
    half = history_of(
        space(),
        "",
        [
            one
            for plan in plans(80, 5)
            for one in evaluations([plan], sign=1.0 if plan[0] < 3 else -1.0, seed=plan[1])
        ],
    )
    warm = WarmStart(space(), [half])
    shares = []
    for n in (8, 40, 120):
        warm.update(*seen(n, 3))
        shares.append(warm.own_weight)
    assert shares[-1] > 0.9
    assert shares[0] <= shares[-1]


def test_what_a_history_never_saw_has_its_mean():
    known = WarmStart(space(), [history()])
    fresh = WarmStart(space((*range(VARIANTS), 7, 8, 9)), [history()])
    unseen, seen_there = expected(fresh, [[7, 8, 8], [0, 0, 0]])
    losses = [-np.log(accuracy(plan)) for plan in plans(60, 1)]
    assert unseen == pytest.approx(np.mean(losses), abs=0.1)
    assert seen_there == pytest.approx(expected(known, [[0, 0, 0]])[0])


def test_dims_come_by_the_very_option():
    warm = WarmStart(space((4, 0, 9)), [history()])
    assert list(warm.dims(1)["cost"][:2]) == [5.0, 1.0]
    assert np.isnan(warm.dims(1)["cost"][2])


def test_it_accounts_for_each_history():
    """Its weight in the end, and how many pairs of plans it ranks as they were seen."""
    warm = WarmStart(space(), [history(sign=-1.0), history()])
    assert [(one.weight, one.agreement) for one in warm.account()] == [(0.5, None)] * 2
    warm.update(*seen(8, 0))
    good, inverted = warm.account()
    assert (good.history, inverted.history) == (history(), history(sign=-1.0))
    assert good.agreement > 0.9
    assert inverted.agreement < 0.5
    assert inverted.weight == 0.0
    assert good.weight + warm.own_weight == pytest.approx(1.0)
    assert WarmStart(space(models=("a", "b", "c")), [history()]).account() == ()


def test_what_histories_did_is_told():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    mine = replace(history(), subject="shop", at=at)
    now = at + timedelta(hours=3)
    warm = WarmStart(space(), [mine, history(sign=-1.0)])
    first, *others = warming(warm, now)
    assert first == "warmed by 2 histories of similar searches, by likeness: too few plans to " \
        "compare ranks"  # fmt: skip
    assert others[0] == "history of shop, 3 h ago, 60 plans, MINIMIZE cost: weight 0.50"
    warm.update(*seen(8, 0))
    first, *others = warming(warm, now)
    assert "2 histories of similar searches: 1 with a weight in the end" in first
    assert len(others) == 1
    assert re.fullmatch(
        r"history of shop, .*: weight [\d.]+, ranks \d+% of the pairs as seen", *others
    )
    alone = WarmStart(space(), [history(sign=-1.0)])
    alone.update(*seen(8, 0))
    assert next(warming(alone, now)).endswith("in the end none ranks as was seen")
    assert list(warming(WarmStart(space(models=("a",)), [mine]), now)) == []


def test_what_was_replaced_is_not_what_a_history_saw():
    """The same name with another definition: its quality and times are those of something else."""
    known = WarmStart(space(), [history()])
    partly = WarmStart(space(versions={3: 2}), [history()])
    assert [m.weight for m in partly.members] == [1.0]
    for stage, before in zip(partly.losses()[1:], known.losses()[1:], strict=True):
        assert stage[3] == 0.0
        assert np.delete(stage, 3) == pytest.approx(np.delete(before, 3))
    assert np.isnan(partly.dims(0)["cost"][3])
    *_, line = warming(partly, datetime(2026, 1, 1, tzinfo=UTC))
    assert line.endswith("; not counted: defined anew since: classify.v3, describe.v3, detect.v3")
    wholly = WarmStart(space(versions=dict.fromkeys(range(VARIANTS), 2)), [history()])
    assert (wholly.members, wholly.losses()) == ((), None)


def test_what_had_other_files_is_not_what_a_history_saw():
    """As with another definition; what else it saw counts, and both is told."""
    anew = WarmStart(space(versions={3: 2}), [history()])
    changed = history().without({"DETECT.v3", "classify.v3", "describe.v3"})
    partly = WarmStart(space(), [changed])
    for table, other in zip(partly.losses(), anew.losses(), strict=True):
        assert table == pytest.approx(other)
    assert np.isnan(partly.dims(0)["cost"][3])
    assert "detect.v3" not in changed.signature.variants
    now = datetime(2026, 1, 1, tzinfo=UTC)
    *_, line = warming(partly, now)
    assert line.endswith("; not counted: files changed since: classify.v3, describe.v3, detect.v3")


def test_histories_of_which_nothing_is_left_are_told_with_the_reason():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    names = [f"{model}.v{at}" for model in MODELS for at in range(VARIANTS)]
    gone = WarmStart(space(), [history().without(names)])
    assert (gone.members, gone.losses()) == ((), None)
    (line,) = warming(gone, now)
    assert line.startswith("history 60 plans, MINIMIZE cost: left out (files changed since: class")
    anew = WarmStart(space(versions=dict.fromkeys(range(VARIANTS), 2)), [history()] * 5)
    *lines, more = warming(anew, now)
    assert ["left out (defined anew since: classify.v0, " in line for line in lines] == [True] * 3
    assert more == "histories left out likewise: 2 more"
    other = WarmStart(space((7, 8)), [history()])
    assert other.losses() is None
    (line,) = warming(other, now)
    assert line.endswith("left out (no variant that it saw is there)")


def test_nothing_in_common_is_nothing_to_say():
    warm = WarmStart(space(models=("a", "b", "c")), [history()])
    assert warm.members == ()
    assert warm.losses() is None
    assert warm.dims(0) == {}
    warm.update(*seen(8, 0))
    assert warm.losses() is None


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 25), st.integers(0, 10_000), st.floats(1e-6, 0.1))
def test_a_prediction_is_a_sum_of_parts_whatever_was_seen(n, seed, noise):
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, 5, (n, 3, 2)) + 10 * np.arange(6).reshape(3, 2)
    model = HistoryModel(chosen, generator.random(n), np.full(n, noise))
    asked = generator.integers(0, 7, (9, 3, 2)) + 10 * np.arange(6).reshape(3, 2)
    joint, covariance = model.joint(asked)
    parts = sum(model.parts(asked[:, stage]) for stage in range(3))
    assert model.center + parts == pytest.approx(joint)
    assert np.linalg.eigvalsh(covariance).min() > -1e-8


@pytest.mark.parametrize("n", [4, 8, 15])
def test_weights_and_the_own_share_add_to_one_and_follow_from_the_seed(n):
    histories = [history(seed=1), history(sign=-1.0), history(seed=2)]
    one, other = WarmStart(space(), histories, 7), WarmStart(space(), histories, 7)
    for warm in (one, other):
        warm.update(*seen(n, n))
    assert sum(m.weight for m in one.members) + one.own_weight == pytest.approx(1.0)
    assert one.members == other.members


def test_structure_is_symmetric_and_most_like_itself():
    chain, swapped = signature_of(space()), signature_of(space(models=MODELS[::-1]))
    other = signature_of(space(models=("detect", "read", "describe")))
    assert structure_kernel(chain, chain) == pytest.approx(1.0)
    assert similarity(chain, chain) == pytest.approx(1.0)
    for one in (swapped, other):
        assert structure_kernel(chain, one) == pytest.approx(structure_kernel(one, chain))
        assert 0.0 < structure_kernel(chain, one) < 1.0
    assert similarity(chain, swapped) > similarity(chain, other)


def test_structure_tells_models_apart_whatever_their_letters():
    """One letter of a stage's model is no reason to fail, nor to take it for another model."""
    one = signature_of(space(models=("é", "日本")))
    other = signature_of(space(models=("è", "日本")))
    assert structure_kernel(one, one) == pytest.approx(1.0)
    assert 0.0 < structure_kernel(one, other) < 1.0


def test_the_catalog_keeps_histories_and_finds_those_that_share_most(tmp_path):
    near = history()
    apart = history_of(space(models=("x", "y", "z")), "", [])
    partly = history_of(space(models=("detect", "y", "z")), "", evaluations(plans(5, 0)))
    path = tmp_path / "c.duckdb"
    with Catalog.open(path) as catalog:
        assert catalog.histories.add([apart, partly, near]) == (1, 2, 3)
    with Catalog.open(path) as catalog:
        found = catalog.histories.similar(signature_of(space()))
        assert found == (near, partly)
        assert catalog.histories.similar(signature_of(space()), most=1) == (near,)
        anew = space(versions=dict.fromkeys(range(VARIANTS), 2))
        later = history_of(anew, "", evaluations(plans(5, 0)))
        catalog.histories.add([later, near])
        assert catalog.histories.similar(signature_of(anew), most=1) == (later,)
        assert catalog.histories.load([3, 1, 99]) == (near, apart)
        assert found[0].at is not None
        (number,) = catalog.histories.add([replace(near, subject="shop")])
        assert catalog.histories.load([number])[0].subject == "shop"
        assert catalog.histories.add([near]) == (7,)
