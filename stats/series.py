"""What was seen of one target, block after block: scores, and the independent units behind them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from ..ir.record import dataclass, field
from .intervals import LEVEL, Interval, clustered_share
from .promise import Scored

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Piece:
    """One block's scores in [0, 1] and the unit each belongs to; `failed` rows are among them.

    `independent` says that every score is a unit of its own.
    """

    scores: Sequence[float]
    units: Sequence[Hashable]
    independent: bool
    failed: int = 0

    @cached_property
    def means(self) -> dict[Hashable, float]:
        """Mean score of every unit."""
        if self.independent:
            return dict(zip(self.units, self.scores, strict=True))
        groups: dict[Hashable, list[float]] = {}
        for unit, score in zip(self.units, self.scores, strict=True):
            groups.setdefault(unit, []).append(score)
        # A mean of equal scores can pass 1 by a rounding error.
        return {unit: min(1.0, math.fsum(own) / len(own)) for unit, own in groups.items()}

    @cached_property
    def named(self) -> tuple[Hashable, ...]:
        """The units, in the order of `values`."""
        return tuple(self.means)

    @cached_property
    def values(self) -> np.ndarray:
        """Mean score of every unit, `n` floats."""
        import numpy as np

        return np.fromiter(self.means.values(), float, len(self.means))


def piece(scored: Scored, rows: Sequence[Hashable], failed: int = 0) -> Piece:
    """Scores as `row_scores` and `element_scores` give them; `rows` stand in for no clusters."""
    if scored.clusters is None:
        return Piece(scored.scores, rows, True, failed)
    return Piece(scored.scores, scored.clusters, False, failed)


@dataclass
class Series:
    """The pieces of one target, one for each block so far."""

    pieces: list[Piece] = field(default_factory=list)

    @property
    def scores(self) -> list[float]:
        """All scores."""
        return [score for piece in self.pieces for score in piece.scores]

    @property
    def failed(self) -> int:
        """Failed rows."""
        return sum(piece.failed for piece in self.pieces)

    def interval(self, level: float = LEVEL) -> Interval:
        """Their mean; see `clustered_share`."""
        independent = all(piece.independent for piece in self.pieces)
        units = None if independent else [unit for piece in self.pieces for unit in piece.units]
        return clustered_share(self.scores, units, level)

    def units(self) -> tuple[np.ndarray, list[int]]:
        """Mean score of every unit, and how many there were after each block."""
        import numpy as np

        values = [piece.values for piece in self.pieces]
        return np.concatenate([np.empty(0), *values]), _looks(values)


def paired(first: Series, second: Series) -> tuple[np.ndarray, list[int]]:
    """Differences first − second on the units that both saw, and their number after each block."""
    import numpy as np

    values = []
    for one, other in zip(first.pieces, second.pieces, strict=False):
        if one.named == other.named:
            values.append(one.values - other.values)
        else:
            theirs = other.means
            both = [mean - theirs[unit] for unit, mean in one.means.items() if unit in theirs]
            values.append(np.asarray(both))
    return np.concatenate([np.empty(0), *values]), _looks(values)


def calibrated(raw: Interval, difference: float, anchor: float) -> Interval:
    """An estimate on few rows moved by what another choice did on the others.

    The difference estimator of two-phase sampling [Cochran 1977, Sampling Techniques, 12.6]: the
    anchor's mean over all rows plus the mean difference on the rows both saw. Two choices so keep
    the order they had on the same rows, where a short run of luck would reverse it. The interval is
    that of the few rows, which covers without this correction, and holds the value.
    """
    value = min(1.0, max(0.0, anchor + difference))
    return Interval(value, min(raw.low, value), max(raw.high, value), raw.n)


def _looks(blocks: Sequence[np.ndarray]) -> list[int]:
    """Looks at which there was something to look at."""
    return [count for count in accumulate(map(len, blocks)) if count]
