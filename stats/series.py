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
from .sequential import shift_chance

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Piece:
    """One block's scores in [0, 1] and the unit each belongs to; `failed` rows are among them.

    `independent` says that every score is a unit of its own; `failing` are the units of the failed
    rows.
    """

    scores: Sequence[float]
    units: Sequence[Hashable]
    independent: bool
    failed: int = 0
    failing: frozenset[Hashable] = frozenset()

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

    @cached_property
    def answered(self) -> np.ndarray:
        """Those of units in which nothing failed."""
        import numpy as np

        if not self.failing:
            return self.values
        return np.asarray([mean for unit, mean in self.means.items() if unit not in self.failing])


def piece(scored: Scored, rows: Sequence[Hashable], failed: Sequence[Hashable] = ()) -> Piece:
    """Scores as `row_scores` and `element_scores` give them; `rows` stand in for no clusters.

    `failed` are the units of failed rows, one for each of them.
    """
    independent = scored.clusters is None
    units = rows if scored.clusters is None else scored.clusters
    return Piece(scored.scores, units, independent, len(failed), frozenset(failed))


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

    def parts(self, blocks: int, *, answered: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Mean scores of the units of the first blocks, and of the later ones.

        `answered`: only of units in which nothing failed.
        """
        import numpy as np

        values = [piece.answered if answered else piece.values for piece in self.pieces]
        first, rest = values[:blocks], values[blocks:]
        return np.concatenate([np.empty(0), *first]), np.concatenate([np.empty(0), *rest])


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


def calibrated(raw: Interval, own: Series, anchor: Series, alpha: float) -> Interval:
    """An estimate on few rows moved by what another choice did on the others.

    The difference estimator of two-phase sampling [Cochran 1977, Sampling Techniques, 12.6]: the
    mean on the rows seen, plus how much easier or harder the rows were to the anchor when all are
    taken. Two choices so keep the order they had on the same rows, where a short run of luck would
    reverse it. The interval is that of the few rows, which covers without this correction, and
    holds the value.

    What the anchor says of rows is taken from those that it answered: that its service began to
    fail, or its calls to time out, tells nothing of another choice. Nor does an anchor that answers
    later rows worse or better than chance explains (`shift_chance` at `alpha`, either way): rows
    come in random order, so it changed, not they. Then the estimate stays as it is (our choice).
    """
    import numpy as np

    seen = len(own.pieces)
    before, after = anchor.parts(seen, answered=True)
    if not len(before) or shift_chance(before, after) <= alpha / 2.0:
        return raw
    moved = float(np.concatenate([before, after]).mean() - before.mean())
    value = min(1.0, max(0.0, raw.value + moved))
    return Interval(value, min(raw.low, value), max(raw.high, value), raw.n)


def _looks(blocks: Sequence[np.ndarray]) -> list[int]:
    """Looks at which there was something to look at."""
    return [count for count in accumulate(map(len, blocks)) if count]
