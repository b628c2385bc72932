"""AT CONFIDENCE: exact tests of candidates on rows held back from the search.

Among many candidates the luckiest looks best, so the numbers that chose a plan cannot prove it. A
promise "accuracy >= threshold AT CONFIDENCE c" is kept so: candidates come in the order the search
prefers them, the i-th is scored once on the held-back rows and tested at level (1-c)/2^i; the first
that passes is accepted. Whatever the candidates share, the chance that any false one is ever
accepted is at most the sum of the levels, 1-c (union bound). It holds as long as the choice of the
next candidate knows of earlier tests only that they failed: scores on held-back rows must never
enter an estimate that ranks plans.

Tests are counted per held-back rows and confidence, over all thresholds: asking for 0.8000001 after
0.8 is no first test. A candidate is tested once, and its lower bound at that level answers every
threshold from then on. This costs nothing: with chance 1 - level the bound is at most the true
mean, and then no threshold that it reaches is above the truth, whichever are asked for.

The test of one candidate is exact at any sample size:

- independent rows scored 0 or 1: the binomial test (accepted when the Clopper–Pearson lower bound
  at the level reaches the threshold);
- graded scores, or rows in clusters: a betting test on the scores, or on the clusters' mean scores
  [Waudby-Smith & Ramdas 2023, "Estimating means of bounded random variables by betting", JRSS-B
  86(1), sections 4 and B.4]. Under "mean <= m" the capital
  K_t = mean over g of prod_{i<=t} (1 - g + g·x_i/m), 0 < g < 1, is a non-negative supermartingale
  starting at 1 (bets g/m lie in [0, 1/m], so that no factor is negative), and by Ville's
  inequality exceeds 1/alpha with probability <= alpha. We bet all g of a grid at once (the
  diversified Kelly bet of B.4) rather than a plug-in g: no tuning, and a plug-in that starts at 1/2
  loses its first bets against thresholds near 1. K falls as m rises, so the bound is found by
  bisection. Clusters are taken in an order drawn with a fixed seed, so that a proof is repeatable.

With clusters the promise is about the mean over clusters of the cluster's mean score (a cluster is
the independent unit, large ones count once: our choice). It equals the mean over rows where
clusters have one size.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import field, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from ..ir.record import dataclass
from .intervals import binomial_tail, clopper_pearson_lower, last_below

if TYPE_CHECKING:
    import numpy as np

Method = Literal["binomial", "betting"]
Truth = Literal["labels", "base"]
C = TypeVar("C")

BETS = tuple((j + 0.5) / 32 for j in range(32))
"""Shares g of the largest safe bet, bet all at once; even spacing resolves the best one up to
some thousand clusters, beyond which the test is powerful anyway (our choice)."""

MAX_CANDIDATES = 40
"""Levels halve: after 40 tests at c = 0.95 the next level is 4.5e-14 and needs hundreds of rows
even without one wrong answer (our choice)."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate's scores in [0, 1] on the held-back rows; failed rows are scored 0.

    `clusters` holds each row's cluster; None where rows are independent.
    """

    scores: Sequence[float]
    clusters: Sequence[Hashable] | None = None


@dataclass(frozen=True, slots=True)
class Tested:
    """The outcome of one test: `n` independent units, total score `right` over them."""

    n: int
    right: float
    bound: float
    accepted: bool
    method: Method


@dataclass(frozen=True, slots=True)
class Proof:
    """The i-th test under one promise, as the catalog keeps it.

    `promise` is the fingerprint of the subject, the held-back rows and the confidence; `plan` that
    of the plan tested; `right` the total score over `n` independent units; `bound` the lower bound
    at confidence 1 - `level`. `accepted` is for `threshold`, see `judged` for another one.

    `truth` is what the rows were scored against. The catalog does not keep it: it follows from the
    held-back rows, which have labels or have none. Nor `among`, which of the held-back rows stand
    for what was asked (` WHERE …`, '' for all): that is the question's.
    """

    promise: str
    plan: str
    i: int
    level: float
    n: int
    right: float
    bound: float
    accepted: bool
    at: datetime
    threshold: float
    method: Method = "binomial"
    truth: Truth = "labels"
    among: str = ""

    def judged(self, threshold: float, truth: Truth) -> Proof:
        """The same test's verdict on another threshold."""
        return replace(self, threshold=threshold, accepted=self.bound >= threshold, truth=truth)

    def text(self) -> str:
        """For EXPLAIN."""
        unit = "rows" if self.method == "binomial" else "units"
        verdict = "proved" if self.accepted else "not proved"
        against = " against the BASE variants' answers, no labels" if self.truth == "base" else ""
        return (
            f"{verdict} on {self.n} held-back {unit}{self.among}{against}: "
            f"{self.right / max(self.n, 1):.4f}, lower bound {self.bound:.4f} "
            f"at level {self.level:.2g} (test {self.i})"
        )


def levels(confidence: float, i: int) -> float:
    """The level of the i-th test, i = 1, 2, …: (1-c)/2^i; they sum to 1-c."""
    if i < 1:
        raise ValueError("candidates are counted from 1")
    return float((1.0 - confidence) / 2.0**i)


def test_candidate(
    scores: Sequence[float],
    clusters: Sequence[Hashable] | None,
    threshold: float,
    alpha: float,
) -> Tested:
    """Is the mean score above `threshold`, with a chance of at most `alpha` to say so wrongly?"""
    units, method = independent_units(scores, clusters)
    right = math.fsum(units)
    if method == "binomial":
        count = round(right)
        bound = clopper_pearson_lower(count, len(units), alpha)
        accepted = binomial_tail(count, len(units), threshold) <= alpha
    else:
        bound = betting_bound(units, alpha)
        accepted = bool(units) and log_capital(units, threshold) >= -math.log(alpha)
    # The bound is found by iteration; here it is known exactly on which side of it this one lies.
    bound = max(bound, threshold) if accepted else min(bound, math.nextafter(threshold, 0.0))
    return Tested(len(units), right, bound, accepted, method)


def independent_units(
    scores: Sequence[float], clusters: Sequence[Hashable] | None
) -> tuple[list[float], Method]:
    """The independent numbers behind the scores: themselves, or cluster means in a seeded order."""
    values = [float(score) for score in scores]
    if any(not 0.0 <= value <= 1.0 for value in values):
        raise ValueError("scores lie in [0, 1]")
    if clusters is not None:
        groups: dict[Hashable, list[float]] = {}
        for key, value in zip(clusters, values, strict=True):
            groups.setdefault(key, []).append(value)
        if len(groups) < len(values):
            means = [math.fsum(group) / len(group) for group in groups.values()]
            random.Random(0).shuffle(means)
            return means, "betting"
    if all(value in (0.0, 1.0) for value in values):
        return values, "binomial"
    random.Random(0).shuffle(values)
    return values, "betting"


def log_capital(
    units: Sequence[float] | np.ndarray, mean: float, looks: Sequence[int] | None = None
) -> float:
    """Logarithm of the largest capital reached against "the mean is at most `mean`".

    With `looks`, of that after so many units only (ascending, each at most `n`).
    """
    if mean <= 0.0:
        return math.inf if any(unit > 0.0 for unit in units) else 0.0
    if mean >= 1.0:
        return 0.0
    import numpy as np

    bets = np.asarray(BETS)
    gains = np.asarray(units, dtype=np.float64)[:, None] / mean - 1.0
    paths = np.cumsum(np.log1p(gains * bets), axis=0)
    top = paths.max(axis=1, keepdims=True)
    capital = top[:, 0] + np.log(np.exp(paths - top).mean(axis=1))
    if looks is not None:
        capital = capital[np.asarray(looks, dtype=np.int64) - 1]
    return max(0.0, float(capital.max(initial=0.0)))


def betting_bound(units: Sequence[float], alpha: float) -> float:
    """The largest mean the bets refute at level alpha, rounded down."""
    if not units:
        return 0.0
    mean = math.fsum(units) / len(units)

    def excess(m: float) -> float:
        return -math.log(alpha) - log_capital(units, m) if m > 0.0 else -math.inf

    # The mean itself is refuted only by an early run of luck, which no bound should rest on.
    return last_below(excess, 0.0, mean, 1e-5)


@lru_cache(maxsize=1024)
def needed_right(n: int, threshold: float, alpha: float) -> int | None:
    """The fewest right answers among `n` rows that pass the binomial test; None: none do."""
    if n <= 0 or binomial_tail(n, n, threshold) > alpha:
        return None
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if binomial_tail(middle, n, threshold) <= alpha:
            high = middle
        else:
            low = middle + 1
    return low


def required_margin(n: int, threshold: float, alpha: float) -> float:
    """How far above `threshold` the truth must lie to pass with power 1/2 on `n` rows.

    For 0/1 scores and independent rows: the binomial median is within 1/n of n·p, so power is 1/2
    at p = (k - 1/3)/(n + 1/3), k the fewest right answers that pass [Kerman 2011, the beta median].
    For clusters give their number: the betting test needs about as much when clusters are
    all-or-nothing and less otherwise. Infinite where even a perfect candidate would fail.
    """
    needed = needed_right(n, threshold, alpha)
    if needed is None:
        return math.inf
    return max(0.0, (needed - 1 / 3) / (n + 1 / 3) - threshold)


def minimum_rows(threshold: float, alpha: float, method: Method = "binomial") -> int | None:
    """The fewest held-back units on which a faultless candidate passes; None: no number is enough.

    Binomial: threshold^n <= alpha. Betting: mean over g of (1 - g + g/threshold)^n >= 1/alpha.
    """
    if threshold >= 1.0:
        return None
    if threshold <= 0.0:
        return 1
    rows = max(1, math.ceil(math.log(alpha) / math.log(threshold) - 1e-9))
    if method == "binomial":
        return rows
    growth = [math.log1p(g * (1.0 / threshold - 1.0)) for g in BETS]
    while _log_mean_exp([rows * rate for rate in growth]) < -math.log(alpha):
        rows += max(1, rows // 100)
    return rows


def _log_mean_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values) / len(values))


@dataclass(frozen=True)
class Search(Generic[C]):
    """What `first_proved` found: the accepted candidate if any, and all new proofs in order.

    `proof` is the accepted one's (perhaps an earlier one); `exhausted` is True when candidates ran
    out, False when the cap on tests ended the search or one was accepted.
    """

    accepted: C | None
    proof: Proof | None
    proofs: tuple[Proof, ...] = field(default=())
    exhausted: bool = True


def first_proved(
    candidates: Iterable[C],
    evaluate: Callable[[C], Scored],
    threshold: float,
    confidence: float,
    *,
    fingerprint: Callable[[C], str],
    promise: str,
    now: Callable[[], datetime],
    earlier: Sequence[Proof] = (),
    truth: Truth = "labels",
    max_candidates: int = MAX_CANDIDATES,
    record: Callable[[Proof], None] = lambda proof: None,
) -> Search[C]:
    """The first candidate whose held-back result proves `mean score >= threshold`.

    Args:
        candidates: in the order of preference, made without any held-back result; may be lazy.
        evaluate: scores on all held-back rows, called at most once per candidate tested.
        threshold: what is promised.
        confidence: c.
        fingerprint: a candidate's identity: one tested before keeps its bound and is not tested
            again.
        promise: the identity of the held-back rows and the confidence; kept in the proofs.
        now: the time, UTC.
        earlier: proofs already made under this promise, for whatever threshold; their tests are
            counted.
        truth: what the scores are against.
        max_candidates: how many tests this promise may take in all.
        record: keeps a proof before its verdict is used, so that no later test forgets this one.
    """
    known = {proof.plan: proof.judged(threshold, truth) for proof in earlier}
    count = max((proof.i for proof in earlier), default=0)
    made: list[Proof] = []
    for candidate in candidates:
        plan = fingerprint(candidate)
        proof = known.get(plan)
        if proof is None:
            if count >= max_candidates:
                return Search(None, None, tuple(made), exhausted=False)
            count += 1
            level = levels(confidence, count)
            scored = evaluate(candidate)
            test = test_candidate(scored.scores, scored.clusters, threshold, level)
            proof = Proof(
                promise=promise,
                plan=plan,
                i=count,
                level=level,
                n=test.n,
                right=test.right,
                bound=test.bound,
                accepted=test.accepted,
                at=now(),
                threshold=threshold,
                method=test.method,
                truth=truth,
            )
            record(proof)
            known[plan] = proof
            made.append(proof)
        if proof.accepted:
            return Search(candidate, proof, tuple(made), exhausted=False)
    return Search(None, None, tuple(made))
