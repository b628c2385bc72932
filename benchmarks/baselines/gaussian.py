"""What the two searches by Gaussian processes share: design, surrogate, candidates.

One-hot encoded parameters, `SingleTaskGP` with its default kernel and priors, acquisition over a
pool of plans (random ones and the neighbours of the best): on categorical spaces that is what
BoTorch's documentation offers beside `optimize_acqf_mixed`, and far faster. Hyperparameters are
refitted, from where they were, when there are a quarter more plans; in between they are kept and
the data are new (our choice: search time counts, and a fit takes 0.1-0.5 s).
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from botorch.acquisition import AcquisitionFunction
from botorch.exceptions.warnings import BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from gpytorch.distributions import MultitaskMultivariateNormal
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.operators import DiagLinearOperator
from linear_operator.utils.warnings import NumericalWarning
from octans.ir.slo import Slo
from octans.planner.search.protocol import Assignment, Space

from .plans import Baseline, Encoding, Shuffle

GROWTH = 1.25
"""How many times as many plans there are at the next refit of the hyperparameters."""
TOLERANCE = 1e-6
"""Relative, at which a fit ends (our choice: a fifth of the time at BoTorch's 2e-9)."""
POOL, NEAR = 500, 1
"""Random candidates, and how many of the best plans have their neighbours as candidates too."""


class Gaussian(Baseline):
    """A random design of `initial` plans, then the best of a pool by an acquisition function."""

    def __init__(
        self, space: Space, slo: Slo, *, rows: int, seed: int, sample: int, initial: int
    ) -> None:
        super().__init__(space, slo, rows=rows, seed=seed, sample=sample)
        self.initial = initial
        self._encoding = Encoding(space)
        self._random = Shuffle(space, self.rng)
        self._kept: list[_Kept] = []
        self._columns = torch.zeros(0, dtype=torch.bool)
        self._refit = 0.0

    @abstractmethod
    def targets(self) -> torch.Tensor:
        """What the surrogates learn, `plans x outputs`, in the order of `seen`."""

    @abstractmethod
    def acquisition(self, pool: Pool, targets: torch.Tensor) -> AcquisitionFunction:
        """What the next plan maximises, an output of `pool` per target."""

    @abstractmethod
    def ranked(self) -> list[Assignment]:
        """Profiled plans, the best first."""

    def propose(self) -> Assignment | None:
        """A plan of the design, then the best candidate."""
        if len(self.seen) < self.initial:
            return self._unseen()
        candidates = self._candidates()
        if not candidates:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BotorchWarning)
            warnings.simplefilter("ignore", NumericalWarning)
            models, targets = self._fitted()
            with torch.no_grad():
                pool = Pool(models, self._inputs(candidates))
                values = self.acquisition(pool, targets)(pool.places)
        return candidates[int(values.argmax())]

    def _unseen(self) -> Assignment | None:
        return next((plan for plan in self._random if plan not in self.seen), None)

    def _candidates(self) -> list[Assignment]:
        """Plans not profiled yet: all of a small space, of a large one a pool."""
        if self.space.size <= POOL:
            pool = list(Shuffle(self.space, self.rng))
        else:
            pool = list(islice(Shuffle(self.space, self.rng), POOL))
            for best in self.ranked()[:NEAR]:
                pool += self._encoding.neighbours(best)
        return [plan for plan in dict.fromkeys(pool) if plan not in self.seen]

    def _inputs(self, plans: Sequence[Assignment]) -> torch.Tensor:
        """`plans x columns`, one-hot; a value that no profiled plan has is all zeros."""
        return torch.from_numpy(self._encoding.one_hot(plans))[:, self._columns]

    def _fitted(self) -> tuple[list[SingleTaskGP], torch.Tensor]:
        plans, targets = list(self.seen), self.targets()
        self._columns = torch.from_numpy(self._encoding.one_hot(plans).any(axis=0))
        models = [SingleTaskGP(self._inputs(plans), target) for target in targets.split(1, dim=1)]
        for model, kept in zip(models, self._kept, strict=False):
            kept.give(model, self._columns)
        if len(plans) >= self._refit:
            for model in models:
                mll = ExactMarginalLogLikelihood(model.likelihood, model)
                fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"ftol": TOLERANCE}})
            self._kept = [_Kept(model, self._columns) for model in models]
            self._refit = GROWTH * len(plans)
        for model in models:
            model.eval()
        return models, targets


class Pool(Model):
    """Candidates' posteriors, all computed at once; a point is a candidate's place.

    An acquisition function asks for every candidate by itself, and each time the data are
    conditioned on anew: that took ten times as long.
    """

    def __init__(self, models: Sequence[SingleTaskGP], inputs: torch.Tensor) -> None:
        """Of `inputs`, `candidates x columns`; a model per output."""
        super().__init__()
        posteriors = [model.posterior(inputs) for model in models]
        self._means = torch.cat([one.mean for one in posteriors], dim=-1)
        self._variances = torch.cat([one.variance for one in posteriors], dim=-1)
        self.places = torch.arange(len(inputs), dtype=inputs.dtype)[:, None, None]

    @property
    def num_outputs(self) -> int:
        """How many."""
        return self._means.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        """None: the models are not batched."""
        return torch.Size([])

    def posterior(self, X: torch.Tensor, *_: Any, **__: Any) -> GPyTorchPosterior:
        """Of `b x 1 x 1` places; outputs are independent."""
        places = X[..., 0].long()
        spread = DiagLinearOperator(self._variances[places[:, 0]].clamp_min(1e-12))
        return GPyTorchPosterior(MultitaskMultivariateNormal(self._means[places], spread))


class _Kept:
    """Hyperparameters of a fit, for a model that may have more columns."""

    def __init__(self, model: SingleTaskGP, columns: torch.Tensor) -> None:
        self._parts = [part.state_dict() for part in (model.mean_module, model.likelihood)]
        self._lengths = torch.full((len(columns),), torch.nan, dtype=torch.float64)
        self._lengths[columns] = model.covar_module.lengthscale.detach().flatten()

    def give(self, model: SingleTaskGP, columns: torch.Tensor) -> None:
        """Columns that are new keep what the model begins with."""
        for part, state in zip((model.mean_module, model.likelihood), self._parts, strict=True):
            part.load_state_dict(state)
        begun = model.covar_module.lengthscale.detach().flatten()
        mine = self._lengths[columns]
        model.covar_module.lengthscale = torch.where(mine.isnan(), begun, mine)
