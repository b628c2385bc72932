"""AT CONFIDENCE: the tests are exact, the levels add up, nothing is tested twice."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from octans.stats import promise
from octans.stats.intervals import clopper_pearson_lower
from octans.stats.promise import Scored, first_proved, levels, minimum_rows, required_margin
from scipy.stats import binom

NOW = datetime(2026, 1, 1, tzinfo=UTC)
check = promise.test_candidate


def search(candidates, evaluate, threshold=0.9, confidence=0.95, **settings):
    return first_proved(
        candidates, evaluate, threshold, confidence,
        fingerprint=str, promise="p", now=lambda: NOW, **settings,
    )  # fmt: skip


def answers(right, n):
    return Scored([1.0] * right + [0.0] * (n - right))


def test_levels_add_up_to_what_may_go_wrong():
    total = sum(levels(0.95, i) for i in range(1, 60))
    assert total == pytest.approx(0.05)
    assert levels(0.95, 1) == pytest.approx(0.025)
    with pytest.raises(ValueError, match="from 1"):
        levels(0.95, 0)


@pytest.mark.parametrize("n", [30, 200, 1000])
@pytest.mark.parametrize("alpha", [0.025, 0.0125, 1e-4])
def test_binomial_verdict_is_the_exact_bound_against_the_threshold(n, alpha):
    threshold = 0.9
    for right in range(int(0.85 * n), n + 1):
        tested = check(answers(right, n).scores, None, threshold, alpha)
        assert tested.accepted == (binom.sf(right - 1, n, threshold) <= alpha)
        if abs(tested.bound - threshold) > 1e-9:
            assert tested.accepted == (tested.bound >= threshold)
        assert tested.method == "binomial"


def test_betting_is_valid_at_any_sample_size():
    """Means truly at the threshold are accepted at most as often as the level says."""
    rng = np.random.default_rng(0)
    for draw, truth in [
        (lambda n: rng.beta(9, 1, n), 0.9),
        (lambda n: (rng.random(n) < 0.9) * 1.0, 0.9),
        (lambda n: np.where(rng.random(n) < 0.2, 0.5, 1.0), 0.9),
    ]:
        for n in (20, 200):
            wrong = sum(
                promise.log_capital(draw(n).tolist(), truth) >= -math.log(0.1) for _ in range(1000)
            )
            assert wrong / 1000 <= 0.1 + 3 * math.sqrt(0.09 / 1000)


def test_betting_gains_from_small_variance():
    rng = np.random.default_rng(1)
    scores = rng.beta(80, 20, 200).tolist()
    tested = check(scores, None, 0.76, 0.0125)
    assert tested.method == "betting"
    assert tested.accepted
    assert tested.bound > clopper_pearson_lower(160, 200, 0.0125), "graded beats right-or-wrong"


def test_clusters_count_once():
    """A thousand copies of ten answers are ten answers."""
    scores = ([1.0] * 100) * 10
    clusters = [row // 100 for row in range(1000)]
    assert check(scores, None, 0.9, 0.025).accepted
    tested = check(scores, clusters, 0.9, 0.025)
    assert not tested.accepted
    assert tested.n == 10


def test_clusters_of_one_row_are_rows():
    tested = check([1.0] * 50, list(range(50)), 0.9, 0.025)
    assert (tested.method, tested.n) == ("binomial", 50)


def test_bound_and_verdict_agree_for_bets():
    rng = np.random.default_rng(2)
    for _ in range(20):
        scores = rng.beta(20, 1, 80).tolist()
        for threshold in (0.85, 0.92, 0.95):
            tested = check(scores, None, threshold, 0.025)
            assert tested.accepted == (tested.bound >= threshold) or tested.bound == threshold
            assert tested.bound <= math.fsum(scores) / 80 or tested.accepted


def test_the_same_rows_give_the_same_proof():
    rng = np.random.default_rng(3)
    scores = rng.beta(20, 1, 80).tolist()
    assert check(scores, None, 0.9, 0.025) == check(scores, None, 0.9, 0.025)


def test_impossible_scores_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        check([1.5], None, 0.9, 0.05)


@pytest.mark.parametrize(("threshold", "alpha"), [(0.9, 0.025), (0.99, 0.025), (0.5, 1e-6)])
def test_minimum_rows_is_the_least_that_a_faultless_candidate_passes(threshold, alpha):
    n = minimum_rows(threshold, alpha)
    assert check([1.0] * n, None, threshold, alpha).accepted
    assert not check([1.0] * (n - 1), None, threshold, alpha).accepted
    units = minimum_rows(threshold, alpha, "betting")
    assert promise.log_capital([1.0] * units, threshold) >= -math.log(alpha)
    assert units >= n


def test_certainty_cannot_be_proved():
    assert minimum_rows(1.0, 0.025) is None
    assert required_margin(10_000, 1.0, 0.025) == math.inf


def test_required_margin_gives_even_odds():
    rng = np.random.default_rng(4)
    for n, threshold in [(200, 0.9), (1000, 0.95)]:
        truth = threshold + required_margin(n, threshold, 0.025)
        needed = promise.needed_right(n, threshold, 0.025)
        passed = (rng.binomial(n, truth, 20_000) >= needed).mean()
        assert 0.42 < passed < 0.58
    assert required_margin(20, 0.95, 0.025) == math.inf, "even 20 of 20 would not pass"


def test_the_first_that_passes_is_taken_at_its_own_level():
    right = {"a": 90, "b": 92, "c": 99, "d": 100}
    found = search("abcd", lambda name: answers(right[name], 100))
    assert found.accepted == "c"
    assert [proof.i for proof in found.proofs] == [1, 2, 3]
    assert [proof.level for proof in found.proofs] == pytest.approx([0.025, 0.0125, 0.00625])
    assert found.proof.accepted
    assert "proved on 100 held-back rows" in found.proof.text()


def test_candidates_are_drawn_and_evaluated_no_further_than_needed():
    asked = []

    def candidates():
        for name in "abcd":
            asked.append(name)
            yield name

    search(candidates(), lambda name: answers(100, 100))
    assert asked == ["a"]


def test_earlier_tests_count_and_are_not_repeated():
    first = search("ab", lambda name: answers(90, 100))
    assert first.accepted is None
    assert first.exhausted

    def evaluate(name):
        assert name not in "ab", "its verdict stands"
        return answers(99, 100)

    second = search("abc", evaluate, earlier=first.proofs)
    assert second.accepted == "c"
    assert [proof.i for proof in second.proofs] == [3]
    third = search("abc", evaluate, earlier=(*first.proofs, *second.proofs))
    assert third.accepted == "c"
    assert third.proofs == ()


def test_one_bound_answers_every_threshold():
    rng = np.random.default_rng(6)
    for scores in ([1.0] * 96 + [0.0] * 4, rng.beta(20, 1, 100).tolist()):
        first = search("a", lambda name, s=scores: Scored(s), threshold=0.8)
        bound = first.proof.bound
        for threshold in (0.5, 0.8, bound - 1e-6, bound + 1e-6, 0.99):
            again = search("a", None, threshold=threshold, earlier=first.proofs)
            assert again.proofs == ()
            assert (again.accepted is not None) == (bound >= threshold)
            if again.proof is not None:
                assert (again.proof.threshold, again.proof.i) == (threshold, 1)


def test_a_test_that_failed_stays_failed_at_its_own_threshold():
    rng = np.random.default_rng(7)
    for _ in range(50):
        scores = rng.beta(20, 1, 60).tolist()
        tested = check(scores, None, 0.95, 0.025)
        assert tested.accepted == (tested.bound >= 0.95)


def test_tests_are_limited():
    found = search(range(100), lambda name: answers(50, 100), max_candidates=5)
    assert len(found.proofs) == 5
    assert not found.exhausted


def test_false_candidates_are_rarely_accepted():
    """Forty candidates just below the threshold on shared rows; the benchmark has the long run."""
    rng = np.random.default_rng(5)
    accepted = 0
    for _ in range(80):
        hard = rng.random(300)
        scores = [((hard + 0.05 * rng.random(300)) > 0.1265).astype(float) for _ in range(40)]
        found = search(range(40), lambda i, scores=scores: Scored(scores[i].tolist()))
        accepted += found.accepted is not None
    assert accepted / 80 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 80)
