"""A Gaussian process whose kernel is a weighted sum of given parts.

The parts say what can matter (which variant, which device, how large a batch, which rows both saw);
how much each does is fitted. BoTorch fits the weights, at the maximum of the marginal likelihood
times their priors; inference is written out here, as what is asked are means and variances of
thousands of candidates, and a posterior of BoTorch's makes their whole covariance first (10 ms of
every 400 candidates on one core; a test holds the two to the same numbers).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ....ir.record import dataclass

if TYPE_CHECKING:
    import torch

JITTER = 1e-8
"""Relative to the largest prior variance: keeps Cholesky factors exact enough (our choice)."""
PRIOR_SD = 1.0
"""Standard deviation of log weights around their defaults (our choice: a factor of 2.7)."""
FIT_STEPS = 50


@dataclass(frozen=True)
class Conditioned:
    """A process given data: `` `n` `` targets.

    Attributes:
        cholesky: `` `n x n` ``, of the prior covariance of what was seen.
        solved: `` `n` ``, the inverse covariance times the targets.
    """

    cholesky: torch.Tensor
    solved: np.ndarray

    def predict(self, cross: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of `` `m` `` points, above the prior mean.

        Args:
            cross: `` `m x n` ``, prior covariance of the points with what was seen.
            prior: `` `m` ``, their prior variances.
        """
        import torch

        with one_thread():
            given = torch.from_numpy(np.ascontiguousarray(cross.T))
            half = torch.linalg.solve_triangular(self.cholesky, given, upper=False)
            explained = (half * half).sum(0).numpy()
        return self.mean(cross), np.maximum(prior - explained, 1e-12)

    def mean(self, cross: np.ndarray) -> np.ndarray:
        """The mean alone, without what makes up most of the time."""
        found: np.ndarray = cross @ self.solved
        return found

    def solve(self, right: np.ndarray) -> np.ndarray:
        """The inverse covariance times `` `n x s` ``."""
        import torch

        with one_thread():
            given = torch.from_numpy(np.ascontiguousarray(right))
            found: np.ndarray = torch.cholesky_solve(given, self.cholesky).numpy()
        return found


def condition(covariance: np.ndarray, targets: np.ndarray) -> Conditioned:
    """Given targets of this prior covariance (`` `n x n` ``, noise included)."""
    import torch

    scale = float(covariance.diagonal().max(initial=1e-12))
    whole = covariance.copy()
    whole[np.diag_indices_from(whole)] += JITTER * scale
    with one_thread():
        lower = torch.linalg.cholesky(torch.from_numpy(whole))
        right = torch.from_numpy(np.ascontiguousarray(targets, float))[:, None]
        solved = torch.cholesky_solve(right, lower)[:, 0].numpy()
    return Conditioned(lower, solved)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch's: matrices here are small, and two are slower on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit(
    parts: np.ndarray, targets: np.ndarray, defaults: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """The parts' weights (variances), log-normal priors around `defaults`.

    Args:
        parts: `` `c x n x n` ``.
        targets: `` `n` ``, above the prior mean.
        defaults: `` `c` ``, positive.
        noise: `` `n x n` ``, covariance that is known and has no weight.

    Returns:
        `` `c` `` positive weights; the defaults where the optimiser fails.
    """
    from botorch.optim.fit import fit_gpytorch_mll_scipy

    with one_thread(), warnings.catch_warnings():
        # What it warns of, an end before convergence, is what FIT_STEPS asks for.
        warnings.simplefilter("ignore")
        likelihood, kernel = _modelled(parts, targets, defaults, noise)
        fit_gpytorch_mll_scipy(likelihood, options={"maxiter": FIT_STEPS})
    weights: np.ndarray = kernel.weights.detach().numpy()
    return weights if np.isfinite(weights).all() else defaults


def _modelled(
    parts: np.ndarray, targets: np.ndarray, defaults: np.ndarray, noise: np.ndarray
) -> tuple[Any, Any]:
    """The marginal likelihood to maximise, and the kernel whose weights it is of."""
    import torch
    from botorch.models import SingleTaskGP
    from gpytorch.means import ZeroMean
    from gpytorch.mlls import ExactMarginalLogLikelihood

    n = len(targets)
    scale = float(np.einsum("c,cnn->n", defaults, parts).max())
    kernel = parts_kernel(
        torch.as_tensor(parts), torch.as_tensor(np.log(defaults)), torch.as_tensor(noise)
    )
    model = SingleTaskGP(
        torch.arange(n, dtype=torch.double)[:, None],
        torch.as_tensor(targets)[:, None],
        torch.full((n, 1), max(JITTER * scale, 1e-6), dtype=torch.double),
        covar_module=kernel,
        mean_module=ZeroMean(),
        outcome_transform=None,
        input_transform=None,
    )
    return ExactMarginalLogLikelihood(model.likelihood, model), kernel


def parts_kernel(parts: torch.Tensor, logs: torch.Tensor, noise: torch.Tensor) -> Any:
    """A GPyTorch kernel over places among `` `c x n x n` `` parts, weights from exp(`logs`)."""
    import torch
    from gpytorch.kernels import Kernel
    from gpytorch.priors import NormalPrior

    class PartsKernel(Kernel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_parameter("logs", torch.nn.Parameter(logs.clone()))
            self.register_prior("logs_prior", NormalPrior(logs, PRIOR_SD), "logs")

        @property
        def weights(self) -> torch.Tensor:
            logs: torch.Tensor = self.logs
            return logs.exp()

        def forward(
            self, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False, **_: Any
        ) -> torch.Tensor:
            rows, columns = x1[..., 0].long(), x2[..., 0].long()
            if diag:
                own = torch.einsum("c,cn->n", self.weights, parts[:, rows, columns])
                return own + noise[rows, columns]
            between = torch.einsum("c,cnm->nm", self.weights, parts[:, rows][:, :, columns])
            return between + noise[rows][:, columns]

    return PartsKernel()
