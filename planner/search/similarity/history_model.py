"""A Gaussian process over one-hot options: what one search has seen of quality, by name.

A plan is a set of *features*: of each stage its variant, and its variant with its knobs; so plans
of two spaces share what they share, whatever place an option has in either. (A variant defined anew
is another one; device and batch change no answer.) The covariance of two plans' losses is

    k(x, x') = s² · features shared ÷ features

which is ridge regression on one-hot encodings [one-hot: Liu et al. 2025]. It is additive because
losses are: -log accuracy of a pipeline is the sum of its steps' where errors are independent; what
plans do beyond that is for the query's own model (our choice; a prediction then takes table
look-ups however many plans a history has). What a history never saw shares nothing: its prediction
is the history's mean with the prior's variance. s² is chosen by marginal likelihood on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ....ir.models import knobs_text
from ....ir.physical import Choice

if TYPE_CHECKING:
    import numpy as np

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""The grid of s², in variances of the losses seen."""
LEAST_VARIANCE = 1e-6
"""Of a loss: keeps the covariance invertible where plans are seen twice."""
MOST_PLANS = 300
"""Plans a model is fitted to, those of most rows first: fitting is cubic (our choice)."""
FEATURES = 2
"""Of each stage."""
ABSENT = -1
"""The features of a stage that a space lacks."""


def slots(models: Sequence[str]) -> tuple[str, ...]:
    """A name for each stage that other spaces share: its model, numbered where it comes again."""
    seen: dict[str, int] = {}
    found = []
    for model in models:
        seen[model] = seen.get(model, 0) + 1
        found.append(f"{model}#{seen[model]}")
    return tuple(found)


class Vocabulary:
    """Numbers of features, shared by all models of one query."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str, int, str | None], int] = {}

    def table(self, slot: str, choices: Sequence[Choice]) -> np.ndarray:
        """`options x 2` feature numbers of a stage."""
        import numpy as np

        numbers = self._numbers
        found = []
        for choice in choices:
            variant = (slot, choice.variant, choice.version)
            names = ((*variant, None), (*variant, knobs_text(choice.knobs)))
            found.append([numbers.setdefault(name, len(numbers)) for name in names])
        return np.array(found, dtype=np.int64).reshape(len(choices), FEATURES)


class HistoryModel:
    """The process fitted to plans: `n x stages x 2` features, losses and their variances `n`."""

    def __init__(self, plans: np.ndarray, losses: np.ndarray, variances: np.ndarray) -> None:
        import numpy as np
        from scipy.linalg import cho_factor, cho_solve

        self._noise = np.maximum(variances, LEAST_VARIANCE)
        spread = float(np.var(losses))
        spread = max(spread - float(np.mean(self._noise)), spread / 4.0, LEAST_VARIANCE)
        self.center = float(np.average(losses, weights=1.0 / (self._noise + spread)))
        self._residual = losses - self.center
        self._known = np.unique(plans[plans != ABSENT])
        ones = self._one_hot(plans)
        shape = ones @ ones.T
        best = -math.inf
        for scale in SCALES:
            prior = spread * scale / (plans.shape[1] * FEATURES)
            factor = cho_factor(prior * shape + np.diag(self._noise), lower=True)
            evidence = _evidence(factor, self._residual)
            if evidence > best:
                best, self._factor, self._prior = evidence, factor, prior
        self._weights = self._prior * (ones.T @ cho_solve(self._factor, self._residual))
        gained = self._prior**2 * (ones.T @ cho_solve(self._factor, ones))
        self._covariance = self._prior * np.diag(self._seen()) - gained

    def parts(self, features: np.ndarray) -> np.ndarray:
        """Of `options x 2` features of a stage, what each option adds to `center`: 0 if unseen."""
        found: np.ndarray = self._weights[self._places(features)].sum(axis=1)
        return found

    def joint(self, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean `m` and covariance `m x m` of the losses of few plans."""
        ones = self._one_hot(plans)
        covariance = ones @ self._covariance @ ones.T
        unseen = self._places(plans) == len(self._known)
        same = (plans[:, None] == plans[None, :]) & unseen[:, None]
        covariance += self._prior * same.sum(axis=(2, 3))
        return self.center + ones @ self._weights, covariance

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of losses, each plan's from all others [Rasmussen & Williams 2006,
        eq. 5.12]; its noise left aside, and no two related."""
        import numpy as np
        from scipy.linalg import cho_solve

        inverse = cho_solve(self._factor, np.eye(len(self._residual)))
        diagonal = np.diag(inverse)
        mean = self.center + self._residual - (inverse @ self._residual) / diagonal
        return mean, np.diag(np.maximum(1.0 / diagonal - self._noise, 1e-12))

    def _places(self, plans: np.ndarray) -> np.ndarray:
        """Where each feature is among those known; one past the last where it is not."""
        import numpy as np

        found = np.searchsorted(self._known, plans)
        inside = np.minimum(found, len(self._known) - 1)
        places: np.ndarray = np.where(self._known[inside] == plans, inside, len(self._known))
        return places

    def _one_hot(self, plans: np.ndarray) -> np.ndarray:
        """`n x (known + 1)`; the last column, of what is not known, is 0."""
        import numpy as np

        ones = np.zeros((len(plans), len(self._known) + 1))
        rows = np.arange(len(plans))[:, None]
        ones[rows, self._places(plans).reshape(len(plans), -1)] = 1.0
        ones[:, -1] = 0.0
        return ones

    def _seen(self) -> np.ndarray:
        """1 for what is known, 0 for the rest."""
        import numpy as np

        return np.append(np.ones(len(self._known)), 0.0)


def _evidence(factor: tuple[np.ndarray, bool], residual: np.ndarray) -> float:
    """The log marginal likelihood, without its constant."""
    import numpy as np
    from scipy.linalg import cho_solve

    fit = float(residual @ cho_solve(factor, residual))
    return -0.5 * fit - float(np.log(np.diag(factor[0])).sum())
