"""What need not be measured any further: decided choices and plans, and why.

Looked at after every block, each rule by a test that stays valid however often (`sequential`):

- a choice that surely fails on more than half of its rows cannot be planned;
- a plan is decided once its end-to-end accuracy is surely below what is asked, or surely above it
  (where more accuracy is not the objective). A model analysed alone is its own plan. A step's
  quality says nothing certain about a pipeline's accuracy, so steps of pipelines are not held
  against the SLO, only plans are; what an SLO asks of one model is held against its steps;
- a choice (or plan) is dominated once another is surely no more than `zone` less accurate on the
  same rows, is not behind on the rows seen, and takes no more seconds per element, seconds per
  call and USD on every device, to within `cost_zone`. That a better and cheaper step does not make
  a pipeline worse is an assumption, the planner's own when it composes steps; whole plans are
  compared end to end without it;
- where the cheapest is asked for, what is dearer in everything than what surely meets the accuracy
  asked for cannot be chosen;
- a choice is done when every plan that holds it is.

Each rule errs on one choice with probability at most alpha = 1 - confidence; dominance shares it
among all possible dominators (union bound). What is decided keeps its statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from ..ir.record import dataclass
from .sequential import not_worse, surely_above, surely_below
from .series import Series, paired
from .strategy import Strategy

if TYPE_CHECKING:
    import numpy as np

K = TypeVar("K", bound=Hashable)

Costs = Mapping[str, tuple[float, ...]]
"""By device: numbers that are better the lower."""

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

    def failing(self, failures: Series) -> str | None:
        """Does it surely fail on more than half of the rows?"""
        units, looks = failures.units()
        if surely_above(units, looks, 0.5, self.alpha, self.strategy.test):
            return f"fails on {units.mean():.0%} of the rows"
        return None

    def against(
        self, seen: Series, asked: float, rows: int, *, above: bool = False
    ) -> Verdict[K] | None:
        """Is it surely below what is asked, or (where that is enough) above?"""
        units, looks = seen.units()
        test = self.strategy.test
        if surely_below(units, looks, asked, self.alpha, test):
            reason = f"surely below the accuracy of {asked:g} asked for"
            return Verdict(reason, rows, short=True)
        if above and surely_above(units, looks, asked, self.alpha, test):
            reason = f"surely above the accuracy of {asked:g} asked for"
            return Verdict(reason, rows, meets=True)
        return None

    def needless(
        self, own: K, winners: Sequence[K], cost: Callable[[K], Costs], rows: int
    ) -> Verdict[K] | None:
        """Is it dearer in everything than what surely meets the accuracy asked for?"""
        mine = cost(own)
        if any(_not_dearer(cost(winner), mine, 0.0) for winner in winners):
            return Verdict("dearer than what surely meets the accuracy asked for", rows)
        return None

    def dominator(
        self, own: K, rivals: Sequence[K], seen: Callable[[K], Series], cost: Callable[[K], Costs]
    ) -> K | None:
        """Which rival dominates it, if one does."""
        ahead: list[tuple[float, int]] = []
        tests: dict[int, tuple[np.ndarray, list[int]]] = {}
        mine = cost(own)
        for place, rival in enumerate(rivals):
            if not _not_dearer(cost(rival), mine, self.strategy.cost_zone):
                continue
            differences, looks = paired(seen(rival), seen(own))
            if len(differences) and differences.mean() >= 0.0:
                ahead.append((-float(differences.mean()), place))
                tests[place] = (differences, looks)
        level = self.alpha / max(len(rivals), 1)
        for _, place in sorted(ahead)[:RIVALS]:
            differences, looks = tests[place]
            zone, test = self.strategy.zone, self.strategy.test
            if not_worse(differences, looks, zone, level, test):
                return rivals[place]
        return None


def _not_dearer(rival: Costs, own: Costs, zone: float) -> bool:
    """On every device where the one was measured the other was, and takes no more of anything."""
    return bool(own) and all(
        device in rival
        and len(rival[device]) == len(numbers)
        and all(r <= o * (1.0 + zone) for r, o in zip(rival[device], numbers, strict=True))
        for device, numbers in own.items()
    )
