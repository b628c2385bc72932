"""What a candidate is worth profiling: expected feasible improvement, in logs.

BoTorch's analytic acquisitions [Ament et al. 2023, LogEI] over beliefs that are given as numbers:
losses and logs of dims are taken as normal and independent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....ir.record import dataclass

if TYPE_CHECKING:
    import torch


LEAST = 1e-10
"""Variance that GPyTorch rounds up to, and warns when it does."""


@dataclass(frozen=True)
class Beliefs:
    """Of `` `m` `` candidates in `` `o` `` outcomes, all of which are to be small.

    Attributes:
        mean, variance: `` `m x o` ``.
        limits: `` `o` ``, what each outcome may be at most; inf where nothing is asked.
        goal: the outcome to minimise.
    """

    mean: np.ndarray
    variance: np.ndarray
    limits: np.ndarray
    goal: int

    def repeated(self, times: int) -> Beliefs:
        """The same candidates so many times over."""
        return Beliefs(
            np.tile(self.mean, (times, 1)),
            np.tile(self.variance, (times, 1)),
            self.limits,
            self.goal,
        )

    def feasible(self) -> np.ndarray:
        """Log probability of meeting every limit, `` `m` ``."""
        return _log_below(self.limits, self.mean, self.variance)

    def after(self, noise: np.ndarray, sure: float) -> tuple[np.ndarray, np.ndarray]:
        """What a further look may bring.

        An outcome believed N(m, v) and then observed with variance t will be believed to have a
        mean drawn from N(m, v²/(v + t)) and the variance v·t/(v + t), as in expected quantile
        improvement [Picheny et al. 2013].

        Args:
            noise: `` `m x o` ``, t; inf where it is not looked at again.
            sure: probability at which a limit counts as met.

        Returns:
            Log probability that the look shows every limit as surely met, `` `m` ``; and the
            variances of the means, `` `m x o` ``.
        """
        from scipy.special import ndtri

        share = self.variance / (self.variance + noise)
        moves = np.maximum(self.variance * share, LEAST)
        left = np.sqrt(self.variance * (1.0 - share))
        return _log_below(self.limits, self.mean + float(ndtri(sure)) * left, moves), moves


def _log_below(limits: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    from scipy.special import log_ndtr

    found: np.ndarray = log_ndtr((limits - mean) / np.sqrt(variance)).sum(axis=1)
    return found


def improvement(mean: np.ndarray, variance: np.ndarray, best: float) -> np.ndarray:
    """Log of the expected improvement below `best` of `` `m` `` normal variables."""
    import torch
    from botorch.acquisition.analytic import LogExpectedImprovement

    acquisition = LogExpectedImprovement(_model(mean, variance), best, maximize=False)
    places = torch.arange(len(mean), dtype=torch.double)[:, None, None]
    with torch.no_grad():
        found: np.ndarray = acquisition(places).numpy()
    return found


def _model(mean: np.ndarray, variance: np.ndarray) -> Any:
    """Beliefs as a model of BoTorch's; a point is a candidate's place."""
    import torch
    from botorch.models.model import Model
    from botorch.posteriors.gpytorch import GPyTorchPosterior
    from gpytorch.distributions import MultivariateNormal

    means, variances = torch.as_tensor(mean), torch.as_tensor(variance)

    class Believed(Model):
        num_outputs = 1
        batch_shape = torch.Size([])

        def posterior(self, X: torch.Tensor, *_: Any, **__: Any) -> GPyTorchPosterior:
            places = X[..., 0].long()
            normal = MultivariateNormal(means[places], variances[places][..., None])
            return GPyTorchPosterior(normal)

    return Believed()
