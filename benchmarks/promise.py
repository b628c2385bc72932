"""AT CONFIDENCE keeps its promise: how often a false candidate is accepted, and a true one.

Forty candidates, all truly just below the SLO, are scored on the same held-back rows: their errors
share a common cause (a row that is hard for one is hard for all), as those of real variants do.
Each repetition offers them, in the order of their luck on the search rows, to `first_proved`, the
loop the planner runs. `false_accept` is the lower 95 % Clopper–Pearson limit of the share of
repetitions that accept one: the promise holds unless that exceeds 0.05. `power` is the share of
repetitions in which one candidate truly 3 points above is accepted at once, on 1,000 held-back
rows.

The same for clusters of unequal size (the betting test on cluster means), for graded scores (both
with a quarter of the repetitions), and for what must not be done: believing the luckiest
candidate's own bound (`naive_accept`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
from octans.stats.intervals import clopper_pearson_lower
from octans.stats.promise import Scored, first_proved

from .contract import Goal, Options, main

GOALS = (Goal("false_accept", 0.05, "lower"), Goal("power", 0.8, "higher"))

CONFIDENCE = 0.95
THRESHOLD = 0.95
BELOW = 0.0005
"""How far below the SLO the false candidates truly lie: as near as matters."""
ABOVE = 0.03
CANDIDATES = 40
ROWS = 1000
REPETITIONS = 1000

Draw = Callable[[np.random.Generator, float, int], tuple[np.ndarray, list[int] | None]]
"""`(generator, true mean, candidates)` → scores `candidates x rows` and the clusters of rows."""


def independent(rng: np.random.Generator, mean: float, count: int) -> tuple[np.ndarray, None]:
    """0/1 scores on independent rows, candidates correlated (Gaussian copula, 0.7)."""
    return _answers(rng.normal(size=ROWS), rng, mean, count), None


def clustered(rng: np.random.Generator, mean: float, count: int) -> tuple[np.ndarray, list[int]]:
    """0/1 scores on 250 clusters of 1 to 7 rows that share most of their difficulty."""
    sizes = rng.integers(1, 8, size=ROWS // 4)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    shared = rng.normal(size=len(sizes))[clusters]
    hard = np.sqrt(0.7) * shared + np.sqrt(0.3) * rng.normal(size=len(clusters))
    return _answers(hard, rng, mean, count), clusters.tolist()


def graded(rng: np.random.Generator, mean: float, count: int) -> tuple[np.ndarray, None]:
    """Scores in [0, 1] with that mean: a right answer gives 1, a wrong one a uniform share."""
    right = _answers(rng.normal(size=ROWS), rng, 2 * mean - 1, count)
    return np.where(right == 1.0, 1.0, rng.uniform(size=right.shape)), None


def _answers(hard: np.ndarray, rng: np.random.Generator, mean: float, count: int) -> np.ndarray:
    """`count x rows` scores, right with probability `mean`, correlated through `hard`."""
    from scipy.special import ndtri

    own = rng.normal(size=(count, len(hard)))
    right = np.sqrt(0.7) * hard + np.sqrt(0.3) * own < ndtri(mean)
    return np.asarray(right, dtype=np.float64)


def accepts(scores: np.ndarray, clusters: list[int] | None, order: np.ndarray) -> bool:
    """Does the planner's loop accept any of these candidates, offered in this order?"""

    def offered() -> Iterator[int]:
        yield from (int(candidate) for candidate in order)

    found = first_proved(
        offered(),
        lambda candidate: Scored(scores[candidate], clusters),
        THRESHOLD,
        CONFIDENCE,
        fingerprint=str,
        promise="benchmark",
        now=lambda: datetime.now(UTC),
    )
    return found.accepted is not None


def false_accepts(draw: Draw, seed: int, repetitions: int) -> tuple[int, int]:
    """Repetitions that accept a false candidate: by the loop, and by the luckiest one's bound."""
    proved = naive = 0
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, 1, repetition])
        scores, clusters = draw(rng, THRESHOLD - BELOW, CANDIDATES)
        searched, _ = draw(rng, THRESHOLD - BELOW, CANDIDATES)
        proved += accepts(scores, clusters, np.argsort(-searched.mean(axis=1)))
        luckiest = round(float(searched.sum(axis=1).max()))
        bound = clopper_pearson_lower(luckiest, searched.shape[1], 1.0 - CONFIDENCE)
        naive += bound >= THRESHOLD
    return proved, naive


def power(draw: Draw, seed: int, repetitions: int) -> float:
    """Share of repetitions in which a candidate `ABOVE` the SLO passes the first test."""
    passed = 0
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, 2, repetition])
        scores, clusters = draw(rng, THRESHOLD + ABOVE, 1)
        passed += accepts(scores, clusters, np.arange(1))
    return passed / repetitions


def run(options: Options) -> dict[str, float | None]:
    """All figures, over `options.seeds` seeds."""
    repetitions = 120 if options.quick else REPETITIONS
    if options.quick:
        print(f"quick: {repetitions} repetitions rather than {REPETITIONS}")
    figures: dict[str, float | None] = {}
    settings: list[tuple[str, Draw, int]] = [
        ("", independent, repetitions),
        ("_clustered", clustered, repetitions // 4),
        ("_graded", graded, repetitions // 4),
    ]
    for suffix, draw, count in settings:
        accepted = [false_accepts(draw, seed, count) for seed in options.seed_range]
        total = count * options.seeds
        proved = sum(by_loop for by_loop, _ in accepted)
        figures[f"false_accept{suffix}"] = clopper_pearson_lower(proved, total, 0.05)
        figures[f"false_accept_share{suffix}"] = proved / total
        powers = [power(draw, seed, count) for seed in options.seed_range]
        figures[f"power{suffix}"] = float(np.median(powers))
        if not suffix:
            figures["naive_accept"] = sum(by_luck for _, by_luck in accepted) / total
    figures["repetitions"] = float(repetitions * options.seeds)
    return figures


if __name__ == "__main__":
    sys.exit(main("promise", __doc__, run, GOALS, seeds=1, quick_seeds=1))
