"""Decisions that stay valid under repeated looks, and blocks of rows to look after.

A fixed-size test looked at after every block errs more often than it says. Here every decision is
that of a betting test [Waudby-Smith & Ramdas 2023], see `promise.log_capital`: under "the mean is
at most m" the capital is a non-negative supermartingale from 1, so that by Ville's inequality it
ever exceeds 1/alpha with probability at most alpha, however often one looks and for whatever reason
one stops. An upper limit is the same test of 1 - x, a difference d of two choices on the same rows
that of (d + 1)/2.

Rows need not be independent for it. In a block that holds every stratum s in its share w_s, rows of
a stratum being exchangeable, the expected growth of capital at a fixed bet g is the product of
(1 - g + g·mu_s/m)^(n·w_s), which by the inequality of the means is at most (1 - g + g·mu/m)^n <= 1:
stratifying can only slow the capital of a false hypothesis. This holds at the end of a block, not
amid one, so capital is looked at there only. Rounding moves a stratum's share of a prefix by less
than one row. (The argument is ours; tests check the error by simulation.)

The paper's two-sided t-test stays as an option: at any one look it errs as stated, over k looks
up to k times as often.

Intervals of what is stopped by looking are widened for the looks: `look_level`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from .intervals import LEVEL, t_quantile
from .promise import log_capital
from .strategy import Test

if TYPE_CHECKING:
    import numpy as np

EARLY_SHARE = 0.2
"""Share of an interval's error spent on looks before the last (our choice)."""

MIN_T = 10
"""Units below which the t-test does not decide (our choice; with two it would at once)."""


def surely_above(
    units: np.ndarray, looks: Sequence[int], mean: float, alpha: float, test: Test = "betting"
) -> bool:
    """Is the mean above `mean`, said wrongly with probability at most `alpha` over all looks?

    Args:
        units: `n` independent scores in [0, 1], in the order seen.
        looks: how many units were seen at the end of each block, ascending, the last being n.
        mean: the hypothesis to refute is "at most this".
        alpha: probability of saying so wrongly; the t-test's holds for one look only.
        test: which test.
    """
    if not len(units):
        return False
    if test == "betting":
        return log_capital(units, mean, looks) >= -math.log(alpha)
    n = len(units)
    if n < MIN_T:
        return False
    # Two-sided at level alpha, as in the paper: the sign says which side.
    half = t_quantile(1.0 - alpha, n - 1) * float(units.std(ddof=1)) / math.sqrt(n)
    return bool(float(units.mean()) - half > mean)


def surely_below(
    units: np.ndarray, looks: Sequence[int], mean: float, alpha: float, test: Test = "betting"
) -> bool:
    """Is the mean below `mean`? See `surely_above`."""
    return surely_above(1.0 - units, looks, 1.0 - mean, alpha, test)


def not_worse(
    differences: np.ndarray, looks: Sequence[int], zone: float, alpha: float, test: Test = "betting"
) -> bool:
    """Is the mean of paired differences in [-1, 1] above `-zone`? See `surely_above`."""
    return surely_above((differences + 1.0) / 2.0, looks, (1.0 - zone) / 2.0, alpha, test)


def shift_chance(before: np.ndarray, after: np.ndarray) -> float:
    """Chance, at most, that random order alone sets the means of two parts so far apart.

    Given all `N` scores in [0, 1], with mean m, either part is a draw without replacement, so that
    its mean reaches p with probability at most exp(-n KL(p, m)) on that side [Hoeffding 1963,
    theorem 1 and section 6]; the lesser of the two bounds holds, as each part's mean follows from
    the other's. In the direction seen: to ask for either, ask at half the level.
    """
    import numpy as np

    if not len(before) or not len(after):
        return 1.0
    mean = float(np.concatenate([before, after]).mean())
    sides = [len(part) * _divergence(float(part.mean()), mean) for part in (before, after)]
    return math.exp(-max(sides))


def _divergence(p: float, m: float) -> float:
    """Kullback-Leibler divergence of two Bernoulli distributions; p is possible under m."""
    terms = ((p, m), (1.0 - p, 1.0 - m))
    return max(0.0, math.fsum(a * math.log(a / b) for a, b in terms if a > 0.0 and b > 0.0))


def look_level(look: int, looks: int) -> float:
    """Coverage to ask of an interval at the look-th of so many, so that all together cover `LEVEL`.

    Whichever look a choice is stopped after, its interval misses only if the interval at that look
    does: the misses are bounded by the sum over looks. The last one keeps most of the error, as
    what survives is what plans are made of; earlier ones share `EARLY_SHARE` as 1/(k(k+1)).
    """
    error = 1.0 - LEVEL
    if looks <= 1:
        return LEVEL
    if look >= looks:
        return 1.0 - (1.0 - EARLY_SHARE) * error
    return 1.0 - EARLY_SHARE * error / (look * (look + 1))


def spread(strata: Sequence[int] | None, units: int, seed: int) -> list[int]:
    """Positions of units in an order of which every prefix is a proportional draw over strata.

    A unit's place follows from a key uniform on [0, 1]: in a stratum of k units, in random order,
    the j-th gets (j + u)/k, one u for the stratum. So every prefix holds every stratum in its share
    to within a unit, and every unit is as likely as any other to be in it: plain means are
    unbiased.
    """
    groups: dict[int, list[int]] = {}
    for unit in range(units):
        groups.setdefault(0 if strata is None else strata[unit], []).append(unit)
    draw = random.Random(seed)
    placed: list[tuple[float, int]] = []
    for stratum in sorted(groups):
        group = groups[stratum]
        draw.shuffle(group)
        shift = draw.random()
        placed += [((j + shift) / len(group), unit) for j, unit in enumerate(group)]
    return [unit for _, unit in sorted(placed)]


def blocks(
    strata: Sequence[int] | None,
    rows: int,
    clusters: Sequence[Hashable] | None,
    first: int,
    growth: float,
    seed: int,
) -> list[list[int]]:
    """Rows in the order in which they are looked at, as blocks of ascending positions.

    The unit is the row, or the cluster; the order is `spread`'s.

    Args:
        strata: stratum of each row (a cluster takes its first row's); None: uniform order.
        rows: how many.
        clusters: cluster of each row; None where rows are independent.
        first: units in the first block.
        growth: units seen at the next look ÷ units seen at this one.
        seed: of the order.
    """
    members: dict[Hashable, list[int]] = {}
    for row, key in enumerate(range(rows) if clusters is None else clusters):
        members.setdefault(key, []).append(row)
    units = list(members)
    of = None if strata is None else [strata[members[unit][0]] for unit in units]
    order = [units[place] for place in spread(of, len(units), seed)]
    found: list[list[int]] = []
    start, wanted = 0, float(first)
    while start < len(order):
        stop = min(len(order), round(wanted))
        # A last block of a few units would cost a round and decide nothing.
        if len(order) - stop < (stop - start) / 2:
            stop = len(order)
        found.append(sorted(row for key in order[start:stop] for row in members[key]))
        start, wanted = stop, max(wanted * growth, stop + 1)
    return found
