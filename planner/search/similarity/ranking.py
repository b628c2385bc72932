"""Which model ranks plans as they were seen: weighted misrankings, chance, and draws.

Misranked pairs over all pairs, each weighed by how surely its two losses differ, is (1 - τ) / 2 of
a weighted Kendall τ. Models are compared by draws of their predictions, as RGPE does [Feurer,
Letham & Bakshy 2018]; the weights and the test against chance are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SAMPLES = 256
"""Draws, and shuffles."""
CHANCE = 0.1
"""Share of those that pass which may know nothing, in the mean (our choice: one of ten)."""
MOST_PAIRS = 300
"""Pairs compared, drawn at random where there are more: ranking 30 histories takes some 20 ms."""


class Judge:
    """Counts misranked pairs; `weights` are how surely the losses of each pair differ."""

    def __init__(
        self, losses: np.ndarray, variances: np.ndarray, generator: np.random.Generator
    ) -> None:
        import numpy as np
        from scipy.special import erf

        self._generator = generator
        pairs = np.stack(np.triu_indices(len(losses), 1))
        if pairs.shape[1] > MOST_PAIRS:
            pairs = generator.choice(pairs, MOST_PAIRS, axis=1, replace=False)
        self._one, self._other = pairs
        apart = losses[self._one] - losses[self._other]
        noise = np.sqrt(2.0 * (variances[self._one] + variances[self._other]))
        self._weights = erf(np.abs(apart) / noise)  # 2 Φ(|Δ| / σ) - 1
        self._signs = np.sign(apart)
        self._total = max(float(self._weights.sum()), 1e-12)
        self._orders = np.array(
            [generator.permutation(len(losses)) for _ in range(SAMPLES)], dtype=np.int64
        )

    def misranked(self, predicted: np.ndarray) -> np.ndarray:
        """Weighted share of misranked pairs of each row of `samples x n`; a tie is half of one."""
        import numpy as np

        signs = np.sign(predicted[:, self._one] - predicted[:, self._other])
        wrong = 0.5 * (1.0 - signs * self._signs)
        shares: np.ndarray = wrong @ self._weights / self._total
        return shares

    def expected(self, mean: np.ndarray) -> float:
        """What a model's mean misranks: (1 - weighted Kendall τ) / 2."""
        return float(self.misranked(mean[None, :])[0])

    def chance(self, mean: np.ndarray) -> float:
        """How likely a model that knows nothing misranks as few pairs, in (0, 1].

        The permutation test of its predictions, the model's own order counted among the shuffles
        [Phipson & Smyth 2010]: exact however few plans there are and however many are tied.
        """
        import numpy as np

        shuffled = self.misranked(mean[self._orders])
        as_few = int(np.sum(shuffled <= self.expected(mean) + 1e-12))
        return (1 + as_few) / (1 + len(shuffled))

    def draws(self, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Misranked shares in `SAMPLES` draws of the predictions."""
        import numpy as np

        values, vectors = np.linalg.eigh(covariance)  # may be singular: equal plans
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        noise = self._generator.standard_normal((SAMPLES, len(mean)))
        return self.misranked(mean + noise @ root.T)


def passing(chances: Sequence[float]) -> np.ndarray:
    """Which of several models know something: `CHANCE` is the rate of false discoveries.

    The step-up test of Benjamini & Hochberg [1995]. Each held to `CHANCE` by itself, of ten that
    know nothing two out of three times one would pass.
    """
    import numpy as np

    found = np.array(chances)
    order = np.sort(found)
    able = order <= CHANCE * np.arange(1, len(found) + 1) / len(found)
    limit = order[able][-1] if able.any() else -1.0
    told: np.ndarray = found <= limit
    return told


def won(drawn: np.ndarray) -> np.ndarray:
    """Share of draws in which each model is best, `models x draws`; a tie is shared."""
    best = drawn <= drawn.min(axis=0) + 1e-12
    shares: np.ndarray = (best / best.sum(axis=0)).mean(axis=1)
    return shares
