"""From sample to promise: how often an accepted SLO is violated, on five kinds of inputs.

Every repetition makes a table of rows, a dozen choices of known accuracy on every row, and goes the
way of ANALYZE and of a query AT CONFIDENCE 0.95: `stats.sampling.sample` and `split`; estimates on
the search rows; candidates in the planner's order (the cheapest whose estimate leaves a margin,
then the most accurate); `stats.promise.first_proved` on the held-back rows that the query asks
about. The accuracies lie within six points of the SLO on either side; choices are right or wrong
together (Gaussian copula, 0.7), and the cheaper ones tend to be worse.

An accepted SLO is violated where the accepted choice is right on a smaller share of the rows asked
about than was promised. Kinds of inputs: `uniform`; `sorted` by difficulty; `skewed`, a twentieth
of the rows carrying most errors; `prefiltered`, the query's WHERE keeping three tenths of the rows,
on which all choices are worse; `drifting`, the rows asked about having moved by up to one standard
deviation since, and being harder for it, where a `stale` mark by `stats.drift` counts as kept.

`violation_low_*` is the lower 95 % Clopper–Pearson limit of the share of accepted SLOs that are
violated. `false_accept_*` is the share of repetitions that accept a false choice when all choices
lie just below the SLO. `power` is how often one choice three points above passes its first test.
Beside them: what a promise is worth when the WHERE is ignored, the detector's false alarms and
power, and the coverage of every kind of interval over a grid of truths.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from octans.stats.drift import LEVEL, drift
from octans.stats.intervals import (
    Interval,
    clopper_pearson_lower,
    clustered_share,
    mean_interval,
    quantile_interval,
    wilson,
)
from octans.stats.promise import Scored, first_proved, levels, required_margin
from octans.stats.sampling import sample, split

from .contract import Goal, Options, main

KINDS = ("uniform", "sorted", "skewed", "prefiltered", "drifting")
GOALS = (
    *(Goal(f"violation_low_{kind}", 0.05, "lower") for kind in KINDS),
    Goal("power", 0.8, "higher"),
    Goal("coverage_gap", -0.01, "higher"),
)

CONFIDENCE = 0.95
THRESHOLD = 0.9
SPREAD = 0.06
"""How far the choices' accuracies reach above and below the SLO."""
ABOVE = 0.03
JUST_BELOW = 0.005
CHOICES = 12
ROWS = 10_000
SAMPLE = 4_000
HELD_BACK = 0.25
KEPT_SHARE = 0.3
"""Share of the rows that the query's WHERE keeps."""
SEEN = 512
"""Rows of executions that the detector compares."""
REPETITIONS = 1000
MOST_TESTS = 8
RESHUFFLED = 400
"""Samples per truth in the coverage of intervals."""

Array = np.ndarray


@dataclass(frozen=True)
class World:
    """What a repetition is about.

    Attributes:
        right: of the rows ANALYZE draws from, `choices x rows` booleans.
        asked: the rows the query asks about, among them; None: other rows.
        later: of other rows asked about, `choices x rows`; None where they are the same.
        before: a feature of each row ANALYZE draws from.
        after: the same of the rows asked about later.
    """

    right: Array
    asked: Array
    later: Array | None
    before: Array
    after: Array


def world(kind: str, rng: np.random.Generator, accuracies: Array, moved: float) -> World:
    """Rows and choices of these accuracies; `moved` is how far drifting rows have drifted."""
    from scipy.special import ndtri

    hard = rng.normal(size=ROWS)
    if kind == "sorted":
        hard.sort()
    feature = rng.normal(size=ROWS)
    level = ndtri(accuracies)[:, None] + np.zeros(ROWS)
    asked = np.ones(ROWS, dtype=bool)
    later, after = None, feature
    if kind == "skewed":
        level = np.where(_few(rng), *_skewed(accuracies))
    elif kind == "prefiltered":
        asked = rng.uniform(size=ROWS) < KEPT_SHARE
        level = level + np.where(asked, 0.0, _EASIER)
    elif kind == "drifting":
        after = rng.normal(moved, 1.0, size=ROWS)
        steady = level * np.sqrt(1 + _SLOPE**2)  # so that the mean over both normals is as given
        later = _right(steady - _SLOPE * after, rng.normal(size=ROWS), rng)
        level = steady - _SLOPE * feature
    return World(_right(level, hard, rng), asked, later, feature, after)


_EASIER = 0.5
"""Rows that the WHERE drops are easier by this (on the normal scale): about six points at 0.9."""
_SLOPE = 0.4
"""How much harder a row is for each standard deviation of its feature: 7 points at one, at 0.9."""


def _few(rng: np.random.Generator) -> Array:
    return rng.uniform(size=ROWS) < 0.05


def _skewed(accuracies: Array) -> tuple[Array, Array]:
    """Levels of the few hard rows (30 % right) and of the others, the mean as given."""
    from scipy.special import ndtri

    others = np.minimum((accuracies - 0.05 * 0.3) / 0.95, 0.9999)
    return np.full((len(accuracies), 1), ndtri(0.3)), ndtri(others)[:, None]


def _right(level: Array, hard: Array, rng: np.random.Generator) -> Array:
    """`choices x rows` booleans, right together through `hard`."""
    own = rng.normal(size=level.shape)
    found: Array = np.sqrt(0.7) * hard + np.sqrt(0.3) * own < level
    return found


def accepted(made: World, seed: int, cost: Array, *, filtered: bool = True) -> int | None:
    """The choice that is accepted, by the way of ANALYZE and the query; None: none is."""
    drawn = np.asarray(sample(ROWS, SAMPLE, seed))
    roles = np.asarray(split(SAMPLE, None, HELD_BACK, seed))
    search, held = drawn[roles == "search"], drawn[roles == "held_back"]
    if filtered:
        held = held[made.asked[held]]
    if not len(held):
        return None
    estimates = made.right[:, search].mean(axis=1)

    def offered() -> Iterator[int]:
        """As `planner.optimize` offers plans."""
        tried: set[int] = set()
        for test in range(1, MOST_TESTS + 1):
            least = THRESHOLD + required_margin(len(held), THRESHOLD, levels(CONFIDENCE, test))
            left = [c for c in range(len(cost)) if c not in tried]
            enough = [c for c in left if estimates[c] >= least]
            if not left:
                return
            best = min(enough, key=lambda c: cost[c]) if enough else max(
                left, key=lambda c: estimates[c]
            )  # fmt: skip
            tried.add(best)
            yield best

    return first_proved(
        offered(),
        lambda choice: Scored(made.right[choice, held].astype(float)),
        THRESHOLD,
        CONFIDENCE,
        fingerprint=str,
        promise="benchmark",
        now=lambda: datetime.now(UTC),
        max_candidates=MOST_TESTS,
    ).accepted


def violated(made: World, choice: int) -> bool:
    """Is the choice right less often than promised, on the rows asked about?"""
    rows = made.right[choice, made.asked] if made.later is None else made.later[choice]
    return bool(rows.mean() < THRESHOLD)


def marked(made: World, seed: int) -> bool:
    """Does the detector find that the rows moved, from the rows of one execution?"""
    rng = np.random.default_rng([seed, 9])
    drawn = made.before[np.asarray(sample(ROWS, SAMPLE, seed))]
    seen = made.after[rng.choice(ROWS, SEEN, replace=False)]
    noise = rng.normal(size=SAMPLE), rng.normal(size=SEEN)
    return drift({"x": drawn, "y": noise[0]}, {"x": seen, "y": noise[1]}, 1) is not None


@dataclass
class Counts:
    """Of one kind of inputs, over all repetitions."""

    repetitions: int = 0
    accepted: int = 0
    violated: int = 0
    ignoring: tuple[int, int] = (0, 0)
    unmarked: int = 0
    false: int = 0
    passed: int = 0


def repeat(kind: str, seed: int, repetitions: int, counts: Counts) -> None:
    """Count what is accepted and violated."""
    place = KINDS.index(kind)
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, place, repetition])
        own = int(rng.integers(2**31))
        moved = float(rng.uniform())
        truths = THRESHOLD + rng.uniform(-SPREAD, SPREAD, CHOICES)
        cost = truths + rng.normal(0, SPREAD / 2, CHOICES)
        made = world(kind, rng, truths, moved)
        counts.repetitions += 1
        found = accepted(made, own, cost)
        if found is not None:
            broken = violated(made, found)
            seen = broken and kind == "drifting" and marked(made, own)
            counts.accepted += 1
            counts.violated += broken and not seen
            counts.unmarked += broken
        if kind == "prefiltered":
            careless = accepted(made, own, cost, filtered=False)
            if careless is not None:
                taken, wrong = counts.ignoring
                counts.ignoring = taken + 1, wrong + violated(made, careless)
        below = world(kind, rng, np.full(CHOICES, THRESHOLD - JUST_BELOW), 0.0)
        found = accepted(below, own, cost)
        counts.false += found is not None and violated(below, found)
        above = world(kind, rng, np.full(1, THRESHOLD + ABOVE), 0.0)
        counts.passed += accepted(above, own, cost[:1]) is not None


def detector(seed: int, repetitions: int) -> dict[str, float]:
    """The share of comparisons that find drift, by how far rows moved (standard deviations)."""
    figures = {}
    for moved in (0.0, 0.2, 0.35, 0.5):
        found = 0
        for repetition in range(repetitions):
            rng = np.random.default_rng([seed, 77, round(100 * moved), repetition])
            shape = {"x": 0.0, "y": 0.0, "z": 0.0}
            before = {name: rng.normal(size=SAMPLE) for name in shape}
            after = {name: rng.normal(size=SEEN) for name in shape}
            after["x"] += moved
            found += drift(before, after, 1) is not None
        name = "drift_false_alarms" if moved == 0.0 else f"drift_found_{moved:g}"
        figures[name] = found / repetitions
    figures["drift_level"] = LEVEL
    return figures


# --- intervals ------------------------------------------------------------------------------------

Case = tuple[float, Callable[[np.random.Generator], Interval]]
"""A truth, and an interval of a sample in which it holds."""


def _shares() -> Iterator[Case]:
    for truth in np.arange(0.05, 1.0, 0.1):
        for n in (20, 100, 400):

            def draw(rng: np.random.Generator, n: int = n, p: float = truth) -> Interval:
                right = int(rng.binomial(n, p))
                return Interval(right / n, *wilson(right, n), n)

            yield float(truth), draw


def _clusters() -> Iterator[Case]:
    """Clusters of five rows with a common chance (beta, intra-class correlation 0.3)."""
    for truth in np.arange(0.05, 1.0, 0.1):
        for clusters in (20, 80):

            def draw(rng: np.random.Generator, c: int = clusters, p: float = truth) -> Interval:
                chances = rng.beta(p * 7 / 3, (1 - p) * 7 / 3, c)
                scores = (rng.uniform(size=(c, 5)) < chances[:, None]).astype(float)
                return clustered_share(scores.ravel().tolist(), np.repeat(range(c), 5).tolist())

            yield float(truth), draw


def _means(*, skewed: bool) -> Iterator[Case]:
    """Seconds of calls: normal, or gamma and log-normal of various skewness."""
    for n in (20, 50, 200):
        if not skewed:
            for spread in (0.1, 0.3, 1.0):
                yield 5.0, lambda rng, s=spread, n=n: mean_interval(rng.normal(5, s, n).tolist())
            continue
        for shape in (0.5, 1.0, 4.0):
            yield shape, lambda rng, a=shape, n=n: mean_interval(rng.gamma(a, 1.0, n).tolist())
        for spread in (0.25, 0.5, 0.75):
            truth = float(np.exp(spread**2 / 2))
            yield truth, lambda rng, s=spread, n=n: mean_interval(rng.lognormal(0, s, n).tolist())


def _quantiles(q: float) -> Iterator[Case]:
    from scipy.stats import gamma, lognorm

    for n in (20, 60, 200):
        for shape in (1.0, 4.0):
            truth = float(gamma.ppf(q, shape))

            def draw(rng: np.random.Generator, a: float = shape, n: int = n) -> Interval:
                return quantile_interval(rng.gamma(a, 1.0, n).tolist(), q)

            yield truth, draw
        for spread in (0.25, 0.75):
            truth = float(lognorm.ppf(q, spread))

            def long(rng: np.random.Generator, s: float = spread, n: int = n) -> Interval:
                return quantile_interval(rng.lognormal(0, s, n).tolist(), q)

            yield truth, long


INTERVALS: dict[str, Callable[[], Iterator[Case]]] = {
    "share": _shares,
    "clustered_share": _clusters,
    "mean": lambda: _means(skewed=False),
    "mean_skewed": lambda: _means(skewed=True),
    "p50": lambda: _quantiles(0.5),
    "p95": lambda: _quantiles(0.95),
}


def coverage(name: str, seed: int, samples: int) -> tuple[float, float]:
    """Coverage minus 0.95 and mean width ÷ truth, averaged over the grid of truths."""
    covered, widths = [], []
    for place, (truth, draw) in enumerate(INTERVALS[name]()):
        rng = np.random.default_rng([seed, 5, len(name), place])
        found = [draw(rng) for _ in range(samples)]
        covered.append(np.mean([one.low <= truth <= one.high for one in found]))
        finite = [one.high - one.low for one in found if np.isfinite(one.high - one.low)]
        widths.append(np.median(finite) / truth)
    return float(np.mean(covered)) - 0.95, float(np.median(widths))


def run(options: Options) -> dict[str, float | None]:
    """All figures, over `options.seeds` seeds."""
    repetitions = REPETITIONS // 10 if options.quick else REPETITIONS
    samples = RESHUFFLED // 10 if options.quick else RESHUFFLED
    if options.quick:
        print(f"quick: {repetitions} repetitions rather than {REPETITIONS}")
    figures: dict[str, float | None] = {}
    for kind in KINDS:
        counts = Counts()
        for seed in options.seed_range:
            repeat(kind, seed, repetitions, counts)
        figures |= _figures(kind, counts)
    figures["power"] = figures["power_uniform"]
    figures |= detector(options.first_seed, repetitions)
    gaps = []
    for name in INTERVALS:
        gap, width = coverage(name, options.first_seed, samples)
        gaps.append(gap)
        figures[f"coverage_gap_{name}"] = gap
        figures[f"width_{name}"] = width
    figures["coverage_gap"] = min(gaps)
    figures["repetitions"] = float(repetitions * options.seeds)
    return figures


def _figures(kind: str, counts: Counts) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        f"violation_low_{kind}": clopper_pearson_lower(counts.violated, counts.accepted, 0.05),
        f"violation_share_{kind}": counts.violated / max(counts.accepted, 1),
        f"accepted_{kind}": counts.accepted / counts.repetitions,
        f"false_accept_{kind}": counts.false / counts.repetitions,
        f"power_{kind}": counts.passed / counts.repetitions,
    }
    if kind == "prefiltered":
        taken, wrong = counts.ignoring
        found["violation_share_where_ignored"] = wrong / max(taken, 1)
    if kind == "drifting":
        found["violation_share_without_marks"] = counts.unmarked / max(counts.accepted, 1)
    return found


if __name__ == "__main__":
    sys.exit(main("guarantees", __doc__, run, GOALS, seeds=1, quick_seeds=1))
