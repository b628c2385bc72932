"""What need not be measured any further: decided choices and plans, and why.

Looked at after every block, each rule by a test that stays valid however often (`sequential`):

- a choice that surely fails on more than half of its rows cannot be planned;
- a plan is decided once its end-to-end accuracy is surely below what is asked, or surely above it
  (where more accuracy is not the objective). A model analysed alone is its own plan. A step's
  quality says nothing certain about a pipeline's accuracy, so steps of pipelines are not held
  against the SLO, only plans are; what an SLO asks of one model is held against its steps;
- a choice (or plan) is dominated once another is surely no more than `zone` less accurate on the
  same rows, is not behind on the rows seen, and wherever it runs the other can be placed such that
  it takes no more seconds per element, seconds per call and USD, to within `cost_zone`. That a
  better and cheaper step does not make a pipeline worse is an assumption, the planner's own when it
  composes steps; whole plans are compared end to end without it;
- where the cheapest is asked for, what is dearer in everything than what surely meets the accuracy
  asked for cannot be chosen;
- a choice is done when every plan that holds it is.

That tests hold supposes that later rows are like earlier ones, as rows in random order are, unless
what answers them changes: a service whose quota is used up, say. So what dominates is watched on:
once its later rows are worse than random order explains, or it cannot run any more, it dominates
nothing, and what was stopped because of it is measured further, on the rows it was spared.

Each rule errs on one choice with probability at most alpha = 1 - confidence; dominance shares it
among all that costs allow to be dominators (union bound). What is decided keeps its statistics: a
planner short of a device may still choose what is dominated where devices are free.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from ..ir.record import dataclass
from .sequential import not_worse, shift_chance, surely_above, surely_below
from .series import Series, paired
from .strategy import Strategy

K = TypeVar("K", bound=Hashable)

Costs = Sequence[tuple[float, ...]]
"""Of each way to place it: numbers that are better the lower."""

RIVALS = 3
"""Rivals a choice is tested against at each look, those furthest ahead first (our choice: who does
not lose to them loses to nobody yet; all are counted in the level)."""


@dataclass(frozen=True)
class Verdict(Generic[K]):
    """Why something is measured no further, after how many rows, and what dominates it.

    `meets`: because it surely meets what is asked; `short`: because it surely does not.
    """

    reason: str
    rows: int
    by: K | None = None
    meets: bool = False
    short: bool = False


def final(done: Mapping[K, Verdict[K]], by: K) -> K:
    """The dominator that was not itself dominated later."""
    while (verdict := done.get(by)) is not None and verdict.by is not None:
        by = verdict.by
    return by


@dataclass(frozen=True)
class Judge:
    """The tests at a strategy's settings; `confidence` is the asked one."""

    strategy: Strategy
    confidence: float

    @property
    def alpha(self) -> float:
        """Probability of a wrong decision."""
        return 1.0 - self.confidence

    def worsened(self, seen: Series, blocks: int, looks: int) -> bool:
        """Is it surely worse after so many blocks than it was on them?

        A false alarm costs rows and no verdict; its probability is at most alpha over all looks.
        """
        before, after = seen.parts(blocks)
        if not len(before) or not len(after) or after.mean() >= before.mean():
            return False
        return shift_chance(before, after) <= self.alpha / looks

    def failing(self, failures: Series) -> str | None:
        """Does it surely fail on more than half of the rows?"""
        units, looks = failures.units()
        if surely_above(units, looks, 0.5, self.alpha, self.strategy.test):
            return f"fails on {units.mean():.0%} of the rows"
        return None

    def against(
        self,
        seen: Series,
        asked: float,
        rows: int,
        *,
        above: bool = False,
        least: float | None = None,
    ) -> Verdict[K] | None:
        """Is it surely below what is asked, or (where that is enough) above?

        With `least`, below that: in between it is allowed, and what is not penalised may be worth
        more.
        """
        units, looks = seen.units()
        test = self.strategy.test
        floor = asked if least is None else least
        if surely_below(units, looks, floor, self.alpha, test):
            reason = f"surely below the accuracy of {floor:g} asked for"
            return Verdict(reason, rows, short=True)
        if above and surely_above(units, looks, asked, self.alpha, test):
            reason = f"surely above the accuracy of {asked:g} asked for"
            return Verdict(reason, rows, meets=True)
        return None

    def needless(
        self, own: K, winners: Sequence[K], costs: Mapping[K, Costs], rows: int
    ) -> Verdict[K] | None:
        """Is it dearer in everything than what surely meets the accuracy asked for?"""
        if any(_not_dearer(costs[winner], costs[own], 0.0) for winner in winners):
            return Verdict("dearer than what surely meets the accuracy asked for", rows)
        return None

    def dominator(
        self, own: K, rivals: Sequence[K], seen: Callable[[K], Series], costs: Mapping[K, Costs]
    ) -> K | None:
        """Which rival dominates it, if one does."""
        zone = self.strategy.cost_zone
        able = [rival for rival in rivals if _not_dearer(costs[rival], costs[own], zone)]
        tests = [(rival, *paired(seen(rival), seen(own))) for rival in able]
        ahead = [test for test in tests if len(test[1]) and test[1].mean() >= 0.0]
        ahead.sort(key=lambda test: -float(test[1].mean()))
        for rival, differences, looks in ahead[:RIVALS]:
            zone, level = self.strategy.zone, self.alpha / len(able)
            if not_worse(differences, looks, zone, level, self.strategy.test):
                return rival
        return None


def least(costs: Costs) -> Costs:
    """Without the placements that another one is no worse than in any number."""
    kept: list[tuple[float, ...]] = []
    for numbers in sorted(set(costs)):
        if not any(_within(other, numbers, 0.0) for other in kept):
            kept.append(numbers)
    return kept


def _not_dearer(rival: Costs, own: Costs, zone: float) -> bool:
    """Wherever the one is placed, can the other be placed such that it takes no more?"""
    return bool(own) and all(any(_within(other, one, zone) for other in rival) for one in own)


def _within(rival: tuple[float, ...], own: tuple[float, ...], zone: float) -> bool:
    return len(rival) == len(own) and all(
        r <= o * (1.0 + zone) for r, o in zip(rival, own, strict=True)
    )
