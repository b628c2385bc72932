"""The compositional surrogate: one small process per operator and dim, joined along the DAG.

What a stage takes is a matter of its own option alone: so it is learned from every plan that had
the option, and plans never seen are known as far as their stages are. A stage's log of a dim is a
sum of what the device does, what the variant does on any device and on this one, and how both grow
with the batch. The sum over stages, or the longest way through them with the transfers between
devices, is computed, not learned.

Our choice, where [Circinus] says only that its latency surrogate is accurate where a plain
end-to-end GP is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ....ir.record import dataclass, field
from ..features import StageFeatures, longest
from ..protocol import Space
from .gp import condition, fit
from .posterior import SequentialPosterior

if TYPE_CHECKING:
    from .prior import Prior

Moments = tuple[np.ndarray, np.ndarray]
"""Mean and variance of a log."""
Measured = tuple[float, float]
"""Of one option, the log measured and its variance."""

DEFAULTS = {
    "constant": 9.0, "device": 1.0, "variant": 1.0, "class": 0.3, "knobs": 0.3,
    "variant on device": 0.1, "batch": 0.3, "batch by device": 0.05, "batch by class": 0.02,
    "option": 0.002, "noise": 0.003,
}  # fmt: skip
"""Variances of log seconds: factors of e^3 over all, e between variants or devices, 5 % of noise
(our choice; they are fitted once there is something to fit to)."""
KNOWN_NOISE = 1e-6
PRIOR_NOISE = 0.1
"""Variance of the log of what another query's history says of an option (our choice: a third)."""
FITS = (6, 12, 24, 48, 96)
"""Options seen at which an operator's weights are fitted anew."""
REPEATS = 64
"""Measurements of options measured before that stand apart; beyond, all are put together."""


@dataclass
class Operator:
    """What is known of one stage's options in one dim: `` `m` `` options.

    Catalog and histories are conditioned on once for all, as what this search starts from; what it
    measures itself, one after another. In place of what a history told of an option, not beside it:
    the measurement is taken for what, with the history, would be believed of it alone.
    """

    parts: np.ndarray
    weights: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    known: np.ndarray
    """`m`, logs that the catalog knows, NaN elsewhere; `told` likewise, of histories."""
    told: np.ndarray
    next_fit: int = 0
    _start: Start | None = None
    _root: np.ndarray | None = None
    _moments: Moments | None = None
    _given: SequentialPosterior | None = None
    _taken: dict[int, Measured] = field(default_factory=dict)
    """What `_given` was conditioned on: of an option a mean above the prior's and a variance."""
    _new: list[int] = field(default_factory=list)
    """Options measured since."""

    def add(self, option: int, value: float) -> None:
        """One more measurement of an option, positive."""
        self.sums[option] += np.log(value)
        self.counts[option] += 1.0
        if np.isnan(self.known[option]):
            self._new.append(option)

    def tell(self, logs: np.ndarray) -> None:
        """What histories say of every option, `` `m` ``; NaN where nothing."""
        self.told = np.where(np.isfinite(self.known), np.nan, logs)
        self._start = self._root = self._moments = self._given = None

    @property
    def measured(self) -> np.ndarray:
        """Options that this search measured and the catalog does not know."""
        return np.flatnonzero((self.counts > 0) & np.isnan(self.known))

    def refit(self) -> None:
        """Take in what was measured; fit the weights first where enough was since the last time."""
        self._fit()
        self._settle()

    def _fit(self) -> None:
        known = np.isfinite(self.known)
        seen = np.flatnonzero(known | (self.counts > 0))
        if self.next_fit >= len(FITS) or len(seen) < FITS[self.next_fit]:
            return
        while self.next_fit < len(FITS) and len(seen) >= FITS[self.next_fit]:
            self.next_fit += 1
        counts = np.maximum(self.counts[seen], 1.0)
        logs = np.where(known[seen], self.known[seen], self.sums[seen] / counts)
        noise = np.diag(np.where(known[seen], KNOWN_NOISE, 1.0 / counts))
        parts = np.concatenate([self.parts[:, seen][:, :, seen], noise[None]])
        defaults = np.array(list(DEFAULTS.values()))
        self.weights = fit(parts, logs - logs.mean(), defaults, np.zeros_like(noise))
        self._start = self._root = self._moments = self._given = None

    def _settle(self) -> None:
        """Take in what was measured since.

        After every measurement, whether anything is asked then or not: so what follows is a matter
        of what was measured, in which order, alone.
        """
        seen = self.measured
        if not len(seen) or (self._given is not None and not self._new):
            return
        start = self._started()
        logs, variances = self._measurements(seen)
        base = np.zeros(len(seen)) if start.mean is None else start.mean[seen]
        now = dict(zip(seen.tolist(), zip(logs - base, variances, strict=True), strict=True))
        new = dict.fromkeys(self._new)
        more = [(option, _beyond(self._taken.get(option), now[option])) for option in new]
        apart = self._given is not None and len(self._given) + len(new) <= len(seen) + REPEATS
        if not apart or any(variance <= 0.0 for _, (_, variance) in more):
            self._given, more = SequentialPosterior(start.covariance, targets=2), [*now.items()]
        assert self._given is not None
        for option, (log, variance) in more:
            self._given.add(option, np.array([log, 1.0]), variance)
        self._taken, self._new, self._moments = now, [], None

    def moments(self) -> Moments:
        """Of every option's log."""
        self._settle()
        if self._moments is None:
            self._moments = self._conditioned()
        return self._moments

    def draw(self, bold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`` `m x s` `` draws of every option's log, by pathwise conditioning."""
        from scipy.linalg.blas import dtrmm

        count = len(bold)
        mean, _ = self.moments()
        covariance = self._started().covariance
        if self._root is None:
            self._root = np.linalg.cholesky(covariance + KNOWN_NOISE * np.eye(len(covariance)))
        normal = rng.normal(size=(len(self._root), count)) * bold
        found: np.ndarray = dtrmm(1.0, self._root.T, normal, lower=0, trans_a=1)
        if self._given is not None:
            found = self._given.given(found, rng, bold)
        return found + mean[:, None]

    def _measurements(self, seen: np.ndarray) -> Moments:
        """What was measured of these options, see the class; means and variances of their logs."""
        logs, variance = self.sums[seen] / self.counts[seen], self.weights[-1] / self.counts[seen]
        told = self.told[seen]
        instead = np.isfinite(told) & (variance < PRIOR_NOISE / 2.0)
        if not instead.any():
            return logs, variance + KNOWN_NOISE
        precision = 1.0 / variance - np.where(instead, 1.0 / PRIOR_NOISE, 0.0)
        total = logs / variance - np.where(instead, np.nan_to_num(told) / PRIOR_NOISE, 0.0)
        return total / precision, 1.0 / precision + KNOWN_NOISE

    def _started(self) -> Start:
        """What catalog and histories make of the prior."""
        if self._start is None:
            covariance: np.ndarray = np.tensordot(self.weights[:-1], self.parts, 1)
            logs = np.where(np.isfinite(self.known), self.known, self.told)
            before = np.flatnonzero(np.isfinite(logs))
            mean = None
            if len(before):
                noise = np.where(np.isfinite(self.known[before]), 0.0, PRIOR_NOISE) + KNOWN_NOISE
                cross, centre = covariance[:, before], float(logs[before].mean())
                given = condition(cross[before] + np.diag(noise), logs[before] - centre)
                mean = centre + cross @ given.solved
                covariance = covariance - cross @ given.solve(np.ascontiguousarray(cross.T))
            self._start = Start(mean, covariance)
        return self._start

    def _conditioned(self) -> Moments:
        start, given = self._started(), self._given
        if given is None:
            spread = np.maximum(start.covariance.diagonal(), 1e-12)
            return (np.zeros(len(spread)) if start.mean is None else start.mean), spread
        if start.mean is not None:
            return start.mean + given.means[:, 0], given.variance
        # The mean is that of what was measured. It moves with every measurement, and the process
        # is linear in it: what targets of 1 would give tells how much of it is left.
        mean = float(np.mean([log for log, _ in self._taken.values()]))
        return given.means[:, 0] + mean * (1.0 - given.means[:, 1]), given.variance


def _beyond(taken: Measured | None, now: Measured) -> Measured:
    """The measurement that makes of what was taken what is measured now.

    Its variance is not positive where there is none, as what is measured now says less.
    """
    if taken is None:
        return now
    precision = 1.0 / now[1] - 1.0 / taken[1]
    if precision <= 0.0:
        return now[0], 0.0
    return (now[0] / now[1] - taken[0] / taken[1]) / precision, 1.0 / precision


@dataclass(frozen=True)
class Start:
    """Of every option before the search; the mean is None where nothing is known of any."""

    mean: np.ndarray | None
    covariance: np.ndarray


def option_parts(stage: StageFeatures) -> np.ndarray:
    """`` `c x m x m` ``, in the order of `DEFAULTS`, without the noise."""

    def same(values: np.ndarray) -> np.ndarray:
        equal: np.ndarray = values[:, None] == values[None, :]
        return equal.astype(float)

    device, variant = same(stage.option_device), same(stage.option_variant)
    own = same(stage.option_class)
    knobs = stage.knobs[stage.option_class][:, stage.option_class]
    apart = stage.log_batch[:, None] - stage.log_batch[None, :]
    middle = stage.log_batch - stage.log_batch.mean()
    batch = np.exp(-0.5 * (apart / 3.0) ** 2) + np.outer(middle, middle) / 4.0
    return np.stack(
        [
            np.ones_like(own), device, variant, own, knobs, variant * device,
            batch, batch * device, batch * own, np.eye(stage.size),
        ]
    )  # fmt: skip


@dataclass
class Composition:
    """What plans take in every dim, from what their stages do."""

    space: Space
    stages: tuple[StageFeatures, ...]
    operators: dict[tuple[int, str], Operator] = field(default_factory=dict)
    _parts: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, stage: int, option: int, values: Mapping[str, float]) -> None:
        """What a stage was measured to take; a dim it takes nothing of is left out."""
        for dim, value in values.items():
            if value > 0.0:
                self.operator(stage, dim).add(option, value)

    def told(self, stage: int, dim: str, values: np.ndarray) -> None:
        """What histories say of a stage's options, `` `m` ``; NaN where nothing."""
        self.operator(stage, dim).tell(np.log(np.where(values > 0, values, np.nan)))

    def refit(self) -> None:
        """Every operator's weights, where it is time."""
        for operator in self.operators.values():
            operator.refit()

    def operator(self, stage: int, dim: str) -> Operator:
        """The process of one stage and dim, with what the catalog knows."""
        found = self.operators.get((stage, dim))
        if found is None:
            if stage not in self._parts:
                self._parts[stage] = option_parts(self.stages[stage])
            size = self.stages[stage].size
            known = self.space.stages[stage].known.get(dim) or (None,) * size
            values = [math.nan if value is None or value <= 0.0 else value for value in known]
            found = Operator(
                self._parts[stage],
                np.array(list(DEFAULTS.values())),
                np.zeros(size),
                np.zeros(size),
                np.log(values),
                np.full(size, np.nan),
            )
            self.operators[stage, dim] = found
        return found

    def predict(self, dim: str, plans: np.ndarray) -> Moments:
        """Mean and variance of the log of a plan's value.

        Args:
            dim: a sum or a path.
            plans: `` `m x stages` ``, option indices.
        """
        means, variances = [], []
        for place in range(len(self.stages)):
            mean, variance = self.operator(place, dim).moments()
            expected = np.exp(mean + np.minimum(variance, 4.0) / 2.0)
            means.append(expected[plans[:, place]])
            spread = expected**2 * np.expm1(np.minimum(variance, 4.0))
            variances.append(spread[plans[:, place]])
        if dim in self.space.paths:
            total, spread = longest(self.space, self.stages, plans, means, variances)
        else:
            total, spread = np.sum(means, axis=0), np.sum(variances, axis=0)
        relative = np.log1p(spread / total**2)
        return np.log(total) - relative / 2.0, np.maximum(relative, 1e-10)

    def draw(self, dims: Sequence[str], bold: np.ndarray, rng: np.random.Generator) -> DimDraws:
        """Draws of what every option takes.

        Args:
            dims: which.
            bold: `` `s` ``, by what a draw's distance from the mean is multiplied.
            rng: of all that is drawn.
        """
        tables = {
            dim: [
                np.exp(np.clip(self.operator(place, dim).draw(bold, rng), -60.0, 60.0))
                for place in range(len(self.stages))
            ]
            for dim in dims
        }
        return DimDraws(self, tables)


@dataclass(frozen=True)
class DimDraws:
    """By dim and stage, `` `options x s` `` values."""

    composition: Composition
    tables: Mapping[str, Sequence[np.ndarray]]

    def logs(self, dim: str, plans: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Of `` `m x stages` `` plans, each under one draw."""
        values = [t[o, which] for t, o in zip(self.tables[dim], plans.T, strict=True)]
        if dim in self.composition.space.paths:
            space, stages = self.composition.space, self.composition.stages
            total, _ = longest(space, stages, plans, values, [np.zeros(len(plans))] * len(values))
        else:
            total = np.sum(values, axis=0)
        found: np.ndarray = np.log(total)
        return found


def tell_histories(composition: Composition, prior: Prior) -> None:
    """Everything histories say of single stages."""
    for place in range(len(composition.stages)):
        for dim, values in prior.dims(place).items():
            composition.told(place, dim, values)
