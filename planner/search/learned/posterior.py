"""A Gaussian process over places, conditioned on one measurement after another.

With K the prior covariance and L the Cholesky factor of that of what was measured, noise included,
everything asked of it follows from the rows H = L⁻¹ K(measured, all): a measurement more is a row
more, in time proportional to rows times places, where factoring anew takes the square of that of
the rows.
"""

from __future__ import annotations

import math

import numpy as np

from .gp import one_thread

FIRST_ROWS = 32
"""Room for measurements at first; doubled when it is full."""


class SequentialPosterior:
    """Of `` `m` `` places with one prior covariance and `` `t` `` sets of targets.

    Attributes:
        means: `` `m x t` ``, above the prior's.
        variance: `` `m` ``.
        covariance: `` `m x m` ``, the prior's.
    """

    def __init__(self, covariance: np.ndarray, targets: int) -> None:
        size = len(covariance)
        self.covariance = covariance
        self.means = np.zeros((size, targets))
        self.variance = covariance.diagonal().copy()
        self._count = 0
        self._rows = np.empty((FIRST_ROWS, size))
        self._lower = np.zeros((FIRST_ROWS, FIRST_ROWS))
        self._places = np.empty(FIRST_ROWS, int)
        self._noise = np.empty(FIRST_ROWS)

    def __len__(self) -> int:
        return self._count

    def add(self, place: int, targets: np.ndarray, noise: float) -> None:
        """A measurement of a place: `` `t` `` targets, above the prior mean; its variance, > 0."""
        at = self._count
        if at == len(self._rows):
            self._grow()
        rows = self._rows[:at]
        own = self.covariance[place] - rows[:, place] @ rows
        scale = math.sqrt(max(float(own[place]), 0.0) + noise)
        row = own / scale
        self._lower[at, :at] = rows[:, place]
        self._lower[at, at] = scale
        self._rows[at], self._places[at], self._noise[at] = row, place, noise
        self._count += 1
        self.means += np.outer(row, (targets - self.means[place]) / scale)
        self.variance = np.maximum(self.variance - row * row, 1e-12)

    def given(self, drawn: np.ndarray, rng: np.random.Generator, bold: np.ndarray) -> np.ndarray:
        """Draws of the prior made draws of the posterior, above its mean [Wilson et al. 2020].

        Args:
            drawn: `` `m x s` ``, of the prior, above its mean.
            rng: of the noise.
            bold: `` `s` ``, by what the noise of a draw is multiplied, as the draw was.
        """
        import torch

        count = self._count
        noise = np.sqrt(self._noise[:count])[:, None] * rng.normal(size=(count, len(bold))) * bold
        missing = -(drawn[self._places[:count]] + noise)
        with one_thread():
            lower = torch.from_numpy(self._lower[:count, :count])
            right = torch.from_numpy(missing)
            white = torch.linalg.solve_triangular(lower, right, upper=False).numpy()
        found: np.ndarray = drawn + self._rows[:count].T @ white
        return found

    def _grow(self) -> None:
        """Room for as many measurements again."""
        self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._lower = np.pad(self._lower, ((0, self._count), (0, self._count)))
        self._places = np.concatenate([self._places, np.empty_like(self._places)])
        self._noise = np.concatenate([self._noise, np.empty_like(self._noise)])
