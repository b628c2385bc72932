"""Thresholds of a cascade with a finite-sample guarantee that the picking does not break.

What a threshold is picked by is a *monotone* loss: an element loses where the cascade took the
answer of an earlier member and the last one would have done better, by how much better. As the
threshold falls more elements are taken, so every single element's loss can only grow. For a nested
family of rules whose loss is monotone, picking the lowest threshold at which an upper confidence
bound on the mean loss, valid for one threshold, stays within the tolerance keeps the promise

    P( mean loss at the threshold picked <= tolerance ) >= 1 - alpha

without any correction for the number of thresholds tried [Bates, Angelopoulos, Lei, Malik & Jordan
2021, "Distribution-free, risk-controlling prediction sets", J. ACM 68(6), Theorem 1; the
fixed-sequence special case of Angelopoulos et al. 2021, "Learn then Test"]. The candidates may then
be the confidences seen themselves. A picker that looks at the point estimate, as cascades commonly
do, or at the first rows of a sorted input, keeps no such promise; neither does SUPG [Kang et al.
2020, PVLDB 13(11)], whose bounds hold asymptotically, as BARGAIN [Zeighami, Shankar & Parameswaran
2025, "Cut costs, not accuracy"] shows, which like us tests by betting.

The bound is exact at any sample size: Clopper–Pearson's where losses are 0 or 1 and rows are
independent, else a betting test on the units' mean losses (`promise`). Rows of one cluster, and
elements of one row, are one unit. Of a cascade with several thresholds each is picked for its share
of the tolerance at its share of alpha: an element's loss is at most the sum over the members that
could take it, so the sums hold together by the union bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ..ir.record import dataclass
from .intervals import binomial_tail, clopper_pearson_lower
from .promise import betting_bound, log_capital

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Paired:
    """What an earlier member and the last one did on the same `n` elements.

    Attributes:
        confidence: of the earlier member, `n`; NaN where it is unknown.
        loss: what is lost where the earlier member's answer is taken, `n` in [0, 1].
        always: lost in any case, `n` in [0, 1]; the sum of both is at most 1.
        units: the independent unit of each element; None where each is one.
    """

    confidence: np.ndarray
    loss: np.ndarray
    always: np.ndarray
    units: Sequence[Hashable] | None = None

    @cached_property
    def unit_of(self) -> np.ndarray:
        """`n` ints: units numbered in an order drawn with a fixed seed, which no loss can bend."""
        import numpy as np

        if self.units is None:
            return np.random.default_rng(0).permutation(len(self.loss))
        numbers: dict[Hashable, int] = {}
        places = np.array([numbers.setdefault(unit, len(numbers)) for unit in self.units], int)
        order = np.random.default_rng(0).permutation(len(numbers))
        return np.asarray(order[places] if len(places) else places)

    @cached_property
    def counts(self) -> np.ndarray:
        """Elements of every unit."""
        import numpy as np

        return np.bincount(self.unit_of)

    @property
    def independent(self) -> bool:
        """Is every element a unit of its own?"""
        return bool((self.counts == 1).all())

    @cached_property
    def binomial(self) -> bool:
        """Are the units' losses 0 or 1 whatever the threshold? The same test then serves all."""
        import numpy as np

        values = np.concatenate([self.loss, self.always, self.loss + self.always])
        return self.independent and bool(np.isin(values, (0.0, 1.0)).all())

    def losses(self, threshold: float) -> np.ndarray:
        """Mean loss of every unit at a threshold; an unknown confidence is never taken."""
        import numpy as np

        lost = self.always + np.where(self.confidence >= threshold, self.loss, 0.0)
        means = np.bincount(self.unit_of, weights=lost) / self.counts
        return np.asarray(np.clip(means, 0.0, 1.0))

    def within(self, threshold: float, tolerance: float, alpha: float) -> bool:
        """Is the mean loss at one threshold within the tolerance, wrongly so at most at alpha?"""
        right = 1.0 - self.losses(threshold)
        if not self.binomial:
            return log_capital(right, 1.0 - tolerance) >= -math.log(alpha)
        return binomial_tail(round(float(right.sum())), len(right), 1.0 - tolerance) <= alpha

    def upper(self, threshold: float, alpha: float) -> float:
        """The one-sided bound on the mean loss at one threshold, at level alpha."""
        right = 1.0 - self.losses(threshold)
        if not self.binomial:
            return 1.0 - betting_bound(right.tolist(), alpha)
        return 1.0 - clopper_pearson_lower(round(float(right.sum())), len(right), alpha)


def pick(paired: Paired, tolerance: float, alpha: float) -> float | None:
    """The lowest threshold whose mean loss is within the tolerance, with probability 1 - alpha.

    None where no threshold lets the earlier member answer anything: escalating everything loses
    nothing, and is no cascade.
    """
    return _lowest(paired, lambda threshold: paired.within(threshold, tolerance, alpha))


def lowest(paired: Paired, tolerance: float) -> float | None:
    """The lowest threshold whose mean loss on these rows is within the tolerance.

    It promises nothing. It is what a pick on more rows like these may come down to.
    """
    return _lowest(paired, lambda threshold: float(paired.losses(threshold).mean()) <= tolerance)


def _lowest(paired: Paired, passes: Callable[[float], bool]) -> float | None:
    """The lowest confidence seen that passes, of a monotone test, in few decimals."""
    import numpy as np

    candidates = np.unique(paired.confidence[~np.isnan(paired.confidence)])
    low, high = 0, len(candidates)
    while low < high:  # the test is monotone: those from `high` on pass, those before `low` do not
        middle = (low + high) // 2
        if passes(float(candidates[middle])):
            high = middle
        else:
            low = middle + 1
    if high == len(candidates):
        return None
    below = float(candidates[high - 1]) if high else -math.inf
    return shortest(below, float(candidates[high]))


def shortest(above: float, most: float) -> float:
    """The number of fewest decimals in (above, most]: as a threshold it takes what `most` takes."""
    for digits in range(18):
        scale = 10.0**digits
        rounded = math.floor(most * scale) / scale
        if above < rounded <= most:
            return rounded
    return most
