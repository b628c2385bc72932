"""What composition is compared with: dims of whole plans, learned as one function of all options.

The same parts as an operator's process has, summed over the stages: the plain end-to-end Gaussian
process, at its best. It knows of a sum or a longest way only what it has seen of plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ....ir.record import dataclass, field
from ..features import StageFeatures
from .gp import Conditioned, condition, fit
from .operators import DEFAULTS, FITS, Moments, option_parts


@dataclass
class EndToEnd:
    """Logs of what plans take, by dim."""

    stages: tuple[StageFeatures, ...]
    _parts: list[np.ndarray] = field(default_factory=list)
    _plans: list[tuple[int, ...]] = field(default_factory=list)
    _logs: dict[str, list[float]] = field(default_factory=dict)
    _weights: dict[str, np.ndarray] = field(default_factory=dict)
    _given: dict[str, tuple[int, Conditioned, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The parts of every stage's options."""
        self._parts = [option_parts(stage) for stage in self.stages]

    def add(self, plan: tuple[int, ...], metrics: Mapping[str, float]) -> None:
        """A plan's measured values, positive."""
        self._plans.append(plan)
        for dim, value in metrics.items():
            self._logs.setdefault(dim, []).append(float(np.log(value)))

    def predict(self, dim: str, plans: np.ndarray) -> Moments:
        """Mean and variance of the log of a dim of `` `m x stages` `` plans."""
        weights = self._weights.get(dim, np.array(list(DEFAULTS.values())))
        own = float(weights[:-1].sum()) * len(self.stages)
        if dim not in self._logs:
            return np.zeros(len(plans)), np.full(len(plans), own)
        given, centre = self._conditioned(dim)
        weights = self._weights[dim]
        cross = np.zeros((len(plans), len(self._plans)))
        for parts, options, seen in zip(self._parts, plans.T, np.array(self._plans).T, strict=True):
            cross += np.tensordot(weights[:-1], parts[:, :, seen], 1)[options]
        prior = np.full(len(plans), 0.0)
        for parts, options in zip(self._parts, plans.T, strict=True):
            prior += np.tensordot(weights[:-1], parts.diagonal(axis1=1, axis2=2), 1)[options]
        mean, variance = given.predict(cross, prior)
        return mean + centre, variance

    def draw(self, dims: Sequence[str], bold: np.ndarray, rng: np.random.Generator) -> PlanDraws:
        """Draws in which all plans are off by the same quantile; see `Composition.draw`."""
        return PlanDraws(self, {dim: bold * rng.normal(size=len(bold)) for dim in dims})

    def _conditioned(self, dim: str) -> tuple[Conditioned, float]:
        seen = len(self._plans)
        known = self._given.get(dim)
        if known is None or known[0] != seen:
            logs = np.array(self._logs[dim])
            centre = float(logs.mean())
            parts = self._among()
            if dim not in self._weights or seen in FITS:
                defaults = np.array(list(DEFAULTS.values()))
                self._weights[dim] = (
                    fit(parts, logs - centre, defaults, np.zeros((seen, seen)))
                    if seen >= FITS[0]
                    else defaults
                )
            covariance = np.tensordot(self._weights[dim], parts, 1)
            known = (seen, condition(covariance, logs - centre), centre)
            self._given[dim] = known
        return known[1], known[2]

    def _among(self) -> np.ndarray:
        """`` `c x n x n` `` of the plans seen, noise last."""
        seen = np.array(self._plans).T
        total = sum(
            parts[:, options][:, :, options]
            for parts, options in zip(self._parts, seen, strict=True)
        )
        return np.concatenate([np.asarray(total), np.eye(len(self._plans))[None]])


@dataclass(frozen=True)
class PlanDraws:
    """By dim, how many standard deviations each draw is off."""

    surrogate: EndToEnd
    off: Mapping[str, np.ndarray]

    def logs(self, dim: str, plans: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Of `` `m x stages` `` plans, each under one draw."""
        mean, variance = self.surrogate.predict(dim, plans)
        found: np.ndarray = mean + self.off[dim][which] * np.sqrt(variance)
        return found
