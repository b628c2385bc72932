"""What profiling a plan a step further is worth: what it may lead to, and its price."""

from __future__ import annotations

import math

import numpy as np

from ....ir.record import dataclass
from ..protocol import LOSS
from .acquisition import Beliefs, improvement
from .knowledge import OVERHEAD_SECONDS, Knowledge
from .settings import EVEN, Asked, Settings
from .spending import Bill

DIM_NOISE = 0.0004
"""Variance of the log of a measured dim (our choice: 2 %)."""
MOST = 4
"""Rows of a further look at a plan ÷ those before, at most; a first one is at `sure_rows` at most
(our choice: every look then halves the standard error at most)."""
HORIZONS = (1, 4, 16, 64)
"""Times the rows of a step up to which its worth is judged."""


@dataclass(frozen=True)
class Standing:
    """Where the `` `n` `` plans profiled stand.

    Attributes:
        plans: `` `n x stages` ``.
        beliefs: of them.
        rows: on which their classes were seen.
        chances: how likely they are taken to meet every limit: `Knowledge.chances`; under AT
            CONFIDENCE, `proved`.
        proved: `Knowledge.proved`.
        goals: in the unit of `Beliefs`; inf for one that is not verified.
        even: no plan is sure, and of those with no rows left that count which are likely feasible.
    """

    plans: np.ndarray
    beliefs: Beliefs
    rows: np.ndarray
    chances: np.ndarray
    proved: np.ndarray
    goals: np.ndarray
    even: bool

    @property
    def best(self) -> float:
        """The goal to improve upon; inf: no plan is verified."""
        return float(self.goals.min())


class Worth:
    """By what is known, for a sample of so many rows."""

    def __init__(self, known: Knowledge, asked: Asked, settings: Settings, rows: int) -> None:
        self.known, self.asked, self.settings, self.rows = known, asked, settings, rows

    def steps(self, plans: np.ndarray, standing: Standing | None) -> tuple[np.ndarray, np.ndarray]:
        """Log of what a step of profiling each plan is worth, and the rows to profile it on.

        A step leads to the rows that the plan's classes were seen on (only its times are new) or
        to `growth` times as many. What it is worth is what it may lead to at its best horizon, per
        second up to there: a plan is not dropped because a first block alone cannot prove it.
        """
        best = math.inf if standing is None else standing.best
        even = standing is not None and standing.even
        beliefs = self.known.beliefs(plans)
        done = self.known.rows_seen(plans)
        timed = np.array([plan in self.known.profiled for plan in map(tuple, plans.tolist())])
        bill = self.known.bill(plans)
        first = np.full(len(plans), min(self.settings.first_rows, self.rows))
        more = np.minimum(np.ceil(done * self.settings.growth), self.rows).astype(int)
        most = np.minimum(np.where(done > 0, MOST * done, self.settings.sure_rows), self.rows)
        steps = [
            (np.where(done > 0, done, self._thorough(bill, first, most)), ~timed),
            (self._thorough(bill, more, most), (done > 0) & (more > done)),
        ]
        values, worths = [], []
        little = math.log(self.settings.tolerance) if best < math.inf else -math.inf
        for rows, possible in steps:
            value, worth = self._ahead(bill, beliefs, done, rows, best, even)
            possible = possible & (value > little)
            values.append(np.where(possible, value, -np.inf))
            worths.append(np.where(possible, worth, -np.inf))
        least = np.max(values) + math.log(self.settings.least)
        worths = [
            np.where(value >= least, worth, -np.inf)
            for value, worth in zip(values, worths, strict=True)
        ]
        further = worths[1] > worths[0]
        return np.maximum(*worths), np.where(further, steps[1][0], steps[0][0])

    def standing(self) -> Standing:
        """Of all plans profiled.

        Verified are those that are sure on enough rows; where none is, those that are likely
        feasible and have no rows left: all that could be looked at says no more.
        """
        plans = self.known.plans
        beliefs = self.known.beliefs(plans)
        rows, chances = self.known.rows_seen(plans), self.known.chances(plans, beliefs)
        proved = self.known.proved(rows, chances)
        if self.asked.confidence > EVEN:
            chances = proved
        verified = (chances >= self._sure()) & (rows >= min(self.settings.sure_rows, self.rows))
        likely = (chances >= self.asked.confidence) & (rows >= self.rows)
        even = bool(likely.any()) and not verified.any()
        goals = np.where(likely if even else verified, beliefs.mean[:, self.asked.goal], math.inf)
        return Standing(plans, beliefs, rows, chances, proved, goals, even)

    def _sure(self) -> float:
        return max(self.settings.sure, self.asked.confidence)

    def _thorough(self, bill: Bill, rows: np.ndarray, most: np.ndarray) -> np.ndarray:
        """Rows of a look: at least so many, doubled while that is cheap, up to `most`.

        Cheap is what at most doubles what is paid whatever the rows (loading, and the proposal
        itself), or takes no more than `thorough` of all that was spent: looks grow with what the
        search has cost, so that neither many slight ones nor few thorough ones dominate it. What a
        plan's rows take may be known badly, and a few tell that it is hopeless: so there is a most.
        """
        if not self.settings.partial:
            return np.full(len(rows), self.rows)
        allowed = np.maximum(
            2.0 * (OVERHEAD_SECONDS + bill.seconds(0)), self.settings.thorough * self.known.spent
        )
        while True:
            twice = np.minimum(2 * rows, most)
            grows = (OVERHEAD_SECONDS + bill.seconds(twice) <= allowed) & (twice > rows)
            if not grows.any():
                return rows
            rows = np.where(grows, twice, rows)

    def _ahead(
        self,
        bill: Bill,
        beliefs: Beliefs,
        done: np.ndarray,
        rows: np.ndarray,
        best: float,
        even: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logs of value and of value per second, at each plan's best horizon."""
        first = OVERHEAD_SECONDS + bill.seconds(rows)
        on = np.exp(self._after(beliefs, done, rows, 0.5)[0])
        least = min(self.settings.sure_rows, self.rows)
        far = np.where(rows > done, np.clip(np.outer(HORIZONS, rows), least, self.rows), rows)
        done, many = np.tile(done, len(far)), beliefs.repeated(len(far))
        value = self._value(many, done, far.ravel(), best, even)
        value = np.where(far >= least, value.reshape(far.shape), -np.inf)
        rest = np.stack([OVERHEAD_SECONDS + bill.seconds(until) - first for until in far])
        worth = value - self.settings.costs * np.log(first + on * np.maximum(rest, 0.0))
        at = worth.argmax(axis=0), np.arange(len(rows))
        return value[at], worth[at]

    def _after(
        self, beliefs: Beliefs, done: np.ndarray, rows: np.ndarray, sure: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Beliefs.after`, of looking at so many rows."""
        noise = np.full(beliefs.mean.shape, DIM_NOISE)
        if LOSS in self.asked.outcomes:
            at = self.asked.outcomes.index(LOSS)
            wrong = np.expm1(np.clip(beliefs.mean[:, at], 1e-3, 5.0))
            new = (rows - done).astype(float)
            noise[:, at] = np.where(new > 0, wrong / np.maximum(new, 1.0), np.inf)
        return beliefs.after(noise, sure)

    def _value(
        self, beliefs: Beliefs, done: np.ndarray, rows: np.ndarray, best: float, even: bool
    ) -> np.ndarray:
        """Log of the probability that a plan is verified after so many rows, times what is won."""
        chance, moves = self._after(beliefs, done, rows, self._sure())
        if even:
            last, _ = self._after(beliefs, done, rows, self.asked.confidence)
            chance = np.where(rows >= self.rows, last, chance)
        if best == math.inf:
            return chance
        won = improvement(beliefs.mean[:, self.asked.goal], moves[:, self.asked.goal], best)
        value: np.ndarray = chance + won
        return value
