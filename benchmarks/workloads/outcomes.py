"""Who answers which row rightly, drawn from the seed: SYNTHETIC, as no table publishes it.

A row has a difficulty at every stage, half of it shared by all stages. A class of options is right
where a Gaussian copula of that difficulty (0.7) and its own luck (0.3) falls below the normal
quantile of its accuracy; most of the luck is the variant's, shared by its knobs. Two interactions
keep a plan's quality from being the product of its stages': what a class makes of right answers
depends on the class that gave them (the threshold moves by a normal draw of 0.15 for every pair),
and it may put right what came wrong, at a rate of its own that depends still more on where it came
from (0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from octans.ir.models import Knobs
from octans.ir.physical import Choice
from octans.planner.search.protocol import SOURCE

from .world import Calls, Floats, StageTruth, pack

DIFFICULTY = 0.7
SHARED = 0.5
VARIANT_LUCK = 0.6
"""Share of a class's luck that its variant's other knob settings have too."""
HANDLING, REPAIRING = 0.15, 0.5
"""Standard deviations of the interactions, in normal quantiles."""
PARTLY = 0.6
"""Of two parents one is right: the accuracy is this share of what it is where both are."""
TRUTH_ROWS = 20_000
FIXED_ELEMENTS = 2.0
"""A call takes as long as so many elements before its first one."""


@dataclass(frozen=True)
class Way:
    """A variant on a device at a batch size: seconds of a call, joules and USD of an element."""

    device: str
    batch: int
    seconds: float
    joules: float = 0.0
    fee: float = 0.0


@dataclass(frozen=True)
class Setting:
    """Knobs, what they add to the normal quantile of the accuracy, and to what they multiply time.

    With `attempts` the class tries so often, until one is right; how many that takes is counted
    as if what it is given were right.
    """

    knobs: Knobs = ()
    shift: float = 0.0
    factor: float = 1.0
    attempts: int = 1


@dataclass(frozen=True)
class Kind:
    """A variant, maybe with knobs set: its accuracy on rows that come rightly, its repairs of
    others, where it runs and how long it loads."""

    name: str
    accuracy: float
    ways: tuple[Way, ...]
    load: float
    repair: float = 0.0
    knobs: Knobs = ()


class Outcomes:
    """The rows of one instance; stages are drawn in order."""

    def __init__(self, rng: np.random.Generator, rows: int, truth_rows: int = TRUTH_ROWS) -> None:
        self.rng, self.rows, self.total = rng, rows, rows + truth_rows
        self.common = rng.normal(size=self.total)

    def stage(
        self,
        key: str,
        kinds: Sequence[Kind],
        usd: dict[str, float],
        *,
        settings: Sequence[Setting] = (Setting(),),
        parents: tuple[int, ...] = (SOURCE,),
        before: int = 0,
        spread: float = 0.0,
    ) -> StageTruth:
        """A stage with all variants under all settings.

        Args:
            key: its name.
            kinds: the variants.
            usd: per second of every device.
            settings: of every variant.
            parents: of the stage.
            before: how many classes its first parent has; 0 of a stage that reads the rows.
            spread: standard deviation of the logarithm of a row's work.
        """
        pairs = [(kind, setting) for kind in kinds for setting in settings]
        thresholds = self._thresholds(pairs, len(settings), len(parents), before)
        hard = np.sqrt(SHARED) * self.common + np.sqrt(1 - SHARED) * self._normal()
        luck = [self._normal() for _ in kinds]
        work = np.exp(spread * self._normal() - spread**2 / 2)[None, None].astype(np.float32)
        right = np.zeros((*thresholds.shape, self.total), bool)
        tries = np.ones((len(pairs), self.total), np.float32)
        for c, (_, setting) in enumerate(pairs):
            open_ = np.ones((len(thresholds), thresholds.shape[2], self.total), bool)
            for _ in range(setting.attempts):
                level = self._level(hard, luck[c // len(settings)])
                open_ &= level >= thresholds[:, c, :, None]
                if setting.attempts > 1:
                    tries[c] += level >= np.mean(thresholds[:, c, -1])
            right[:, c] = ~open_
            tries[c] = np.minimum(tries[c], setting.attempts)
        if any(setting.attempts > 1 for setting in settings):
            work = work * tries[None]
        return StageTruth(
            key,
            *_options(key, pairs, usd),
            pack(self.rows, right),
            parents=parents,
            given=parents[:1] if before else (),
            work=work if spread or len(work[0]) > 1 else None,
        )

    def _normal(self) -> Floats:
        return self.rng.normal(size=self.total)

    def _level(self, hard: Floats, luck: Floats) -> Floats:
        own = np.sqrt(VARIANT_LUCK) * luck + np.sqrt(1 - VARIANT_LUCK) * self._normal()
        level: Floats = np.sqrt(DIFFICULTY) * hard + np.sqrt(1 - DIFFICULTY) * own
        return level

    def _thresholds(
        self, pairs: Sequence[tuple[Kind, Setting]], settings: int, parents: int, before: int
    ) -> NDArray[np.float64]:
        """`` `g x class x pattern` ``; the pairs of a variant share its interactions."""
        from scipy.special import ndtri

        patterns = 2**parents if before else 1
        found = np.zeros((max(before, 1), len(pairs), patterns))
        for c, (kind, setting) in enumerate(pairs):
            for pattern in range(patterns):
                share = pattern.bit_count() / parents if before else 1.0
                rate = kind.accuracy if share == 1 else PARTLY * kind.accuracy
                found[:, c, pattern] = ndtri(rate if share else kind.repair) + setting.shift
        for first in range(0, len(pairs) if before else 0, settings):
            drawn = self.rng.normal(size=(before, 1, patterns))
            drawn[..., :-1] *= REPAIRING
            drawn[..., -1:] *= HANDLING
            found[:, first : first + settings] += drawn
        return found


def _options(
    key: str, pairs: Sequence[tuple[Kind, Setting]], usd: dict[str, float]
) -> tuple[list[Choice], Calls]:
    """Every option of a stage with its calls."""
    choices, rows = [], []
    for kind, setting in pairs:
        for way in kind.ways:
            choices.append(
                Choice(
                    f"{key}.{kind.name}",
                    tuple(sorted(kind.knobs + setting.knobs)),
                    way.batch,
                    way.device,
                )
            )
            per = way.seconds * setting.factor / (way.batch + FIXED_ELEMENTS)
            rows.append(
                (FIXED_ELEMENTS * per, per, usd[way.device], way.fee,
                 way.joules * setting.factor, kind.load)
            )  # fmt: skip
    return choices, Calls(*np.array(rows).T)
