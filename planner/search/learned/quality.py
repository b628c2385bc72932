"""The quality surrogate: a process over plans' loss, -log of accuracy.

A loss is a sum of what stages do on their own and of what they do together; the first is what a
composed estimate of the statistics predicts, where there is one, and what is learned is the
*residual*. Parts of the kernel: per stage, that two plans have the same variant, the same class
(variant and knobs), or classes of like speed; for every pair of stages, neighbours or not (a late
one may repair what the first spoilt), that both have the same variants; and that the plans answer
alike altogether.

Plans are seen on the first rows of one sample, so that the luck of these rows is in all of their
scores. The mean of n rows has variance s²/n, and those of two plans on n and m rows have covariance
r·s·t·min(1/n, 1/m), r being how their scores correlate row by row. So a plan of few rows is judged
beside what others did on just these, as the difference estimator of two-phase sampling does
[Cochran 1977, 12.6].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ....ir.record import dataclass, field
from ..features import Encoding, StageFeatures
from ..protocol import Space
from .draws import LossDraws, keyed
from .gp import Conditioned, condition, fit

STAGE_PARTS = {"variant": 0.004, "class": 0.001, "speed": 0.004}
"""Variances of log accuracy: 6 % between variants (our choice, fitted later)."""
PAIR = 0.002
"""Stages together, 4 %: where a stage repairs or spoils what another did, a sum of what each does
is far off, and a search that is sure of the sum never looks (our choice). Most pairs do nothing and
few do much, so that a variance fitted to all rules the few out: fitting may only raise it."""
WHOLE = 0.0003
"""Of a plan alone, 1.7 %; fitting may only raise it too. The plans that matter combine the best of
every stage, where a sum promises most and is most wrong: fitted over all plans, what is left to a
plan alone comes out small, and 2,000 rows of its own would say less than the sum does."""
CONSTANT = 0.02
SHARE_ROWS = 64
COMMON_SHARE, COMMON_PAIRS = 0.3, 20
"""Share of the rows' luck that plans have in common, before anything is seen, and the pairs of
plans that this counts for (our choice)."""
FITS = (8, 16, 32, 64, 128, 256)
"""Plans seen at which the weights are fitted anew."""
SPEED_SCALE = 1.0
"""Length scale of the logs of speeds, in their standard deviations."""
LINE_SCALE = 0.2
"""Length scale on the line of the ordinal encoding."""
FEATURES = 64


@dataclass(frozen=True)
class Seen:
    """A plan's scores so far.

    Attributes:
        classes: of its stages.
        loss: of their mean.
        graded: their variance ÷ that of right and wrong of the same mean, at most 1.
        right: their sum.
        scores: in the sample's order.
    """

    classes: tuple[int, ...]
    loss: float
    graded: float
    right: float
    scores: np.ndarray

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.scores)


def seen(classes: Sequence[int], scores: Sequence[float] | np.ndarray) -> Seen:
    """A plan's classes and its scores in [0, 1], at least one.

    The mean is shrunk by one row that is right and one that is wrong [Agresti & Coull 1998]:
    nothing is certain of a plan that has only been right so far.
    """
    values = np.asarray(scores, float)
    mean = (values.sum() + 1.0) / (len(values) + 2.0)
    graded = min(
        1.0,
        (float(values.var()) + 1e-9) / (float(values.mean()) * (1 - float(values.mean())) + 1e-9),
    )
    return Seen(tuple(classes), -float(np.log(mean)), graded, float(values.sum()), values)


def common_share(data: Sequence[Seen]) -> float:
    """Mean correlation of plans' scores, row by row, on the rows that all of some length saw."""
    able = [one for one in data if one.rows >= SHARE_ROWS]
    if len(able) < 2:
        return COMMON_SHARE
    rows = min(one.rows for one in able)
    scores = np.stack([one.scores[:rows] for one in able])
    scores = scores[scores.std(axis=1) > 0]
    pairs = len(scores) * (len(scores) - 1) / 2
    if not pairs:
        return COMMON_SHARE
    total = (np.corrcoef(scores).sum() - len(scores)) / 2
    share = (COMMON_SHARE * COMMON_PAIRS + total) / (COMMON_PAIRS + pairs)
    return float(np.clip(share, 0.0, 0.95))


@dataclass
class QualitySurrogate:
    """Losses of all plans of a space.

    Attributes:
        space: the space.
        stages: its features.
        encoding: of classes.
        weights: of the parts, in the order of `defaults`.
    """

    space: Space
    stages: tuple[StageFeatures, ...]
    encoding: Encoding = "one_hot"
    weights: np.ndarray = field(default_factory=lambda: np.empty(0))
    next_fit: int = 0
    _speeds: list[np.ndarray] = field(default_factory=list)
    _pairs: list[tuple[int, int]] = field(default_factory=list)
    _centre: float = 0.0
    _share: float = COMMON_SHARE
    _expected: np.ndarray = field(default_factory=lambda: np.empty(0))
    _given: Conditioned | None = None
    _blocks: list[np.ndarray] = field(default_factory=list)
    _together: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _targets: np.ndarray = field(default_factory=lambda: np.empty(0))
    _deviations: np.ndarray = field(default_factory=lambda: np.empty(0))
    _shares: np.ndarray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        """The pairs of stages and the default weights."""
        self._pairs = list(combinations(range(len(self.stages)), 2))
        if not len(self.weights):
            self.weights = self.defaults()
        self._speeds = [np.zeros(stage.classes) for stage in self.stages]

    def defaults(self) -> np.ndarray:
        """A weight for each part: constant, stages' parts, pairs, the whole."""
        stages = list(STAGE_PARTS.values()) * len(self.stages)
        return np.array([CONSTANT, *stages, *[PAIR] * len(self._pairs), WHOLE])

    def speeds(self, logs: Sequence[np.ndarray]) -> None:
        """Log seconds of every stage's classes, as far as known: like speeds answer alike."""
        self._speeds = []
        for values in logs:
            deviation = values.std()
            self._speeds.append((values - values.mean()) / deviation if deviation > 0 else values)

    def learn(self, data: Sequence[Seen], prior: np.ndarray) -> None:
        """Condition on what was seen; fit the weights where enough was since the last time.

        Args:
            data: `` `n` `` plans.
            prior: `` `n` ``, the losses expected before anything was seen.
        """
        losses = np.array([one.loss for one in data]) - prior
        rows = np.array([one.rows for one in data])
        graded = np.array([one.graded for one in data])
        self._centre = float(np.average(losses, weights=np.sqrt(rows)))
        targets = losses - self._centre
        self._expected = np.full(len(data), self._centre) + prior
        classes = np.array([one.classes for one in data]).reshape(len(data), len(self.stages))
        if self.next_fit < len(FITS) and len(data) >= FITS[self.next_fit]:
            while self.next_fit < len(FITS) and len(data) >= FITS[self.next_fit]:
                self.next_fit += 1
            self._share = common_share(data)
            self.weights = fit(
                self._parts(classes), targets, self.defaults(), self._noise(graded, rows)
            )
            together = slice(1 + len(STAGE_PARTS) * len(self.stages), None)
            self.weights[together] = np.maximum(self.weights[together], self.defaults()[together])
        self._prepare(classes)
        covariance = self._cross(classes)
        self._targets = targets
        for _ in range(2):
            self._given = condition(covariance + self._noise(graded, rows), targets)
            self._expected = self._given.mean(covariance) + self._centre + prior

    def predict(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean, above the prior one, and variance of the loss of `` `m x stages` `` plans."""
        prior = np.full(len(classes), self._prior_variance())
        if self._given is None:
            return np.zeros(len(classes)), prior
        mean, variance = self._given.predict(self._cross(classes), prior)
        return mean + self._centre, variance

    def draw(self, bold: np.ndarray, rng: np.random.Generator) -> LossDraws:
        """Draws of the losses of all plans, see `Composition.draw`; something must be seen."""
        assert self._given is not None
        seen, count = self._seen_classes, len(bold)
        stages = [self._prior_table(place, count, rng) * bold for place in range(len(self.stages))]
        stages[0] += np.sqrt(self.weights[0]) * rng.normal(size=count) * bold
        at = 1 + len(STAGE_PARTS) * len(self.stages)
        deep = [np.sqrt(weight) for weight in self.weights[at:-1]]
        own = np.sqrt(self.weights[-1]) * rng.normal(size=(len(seen), count)) * bold
        variants = [s.class_variant for s in self.stages]
        pairs = [
            d * rng.normal(size=(variants[a].max() + 1, variants[b].max() + 1, count)) * bold
            for d, (a, b) in zip(deep, self._pairs, strict=True)
        ]
        drawn: np.ndarray = own + sum(table[c] for table, c in zip(stages, seen.T, strict=True))
        of = [(variants[a][seen[:, a]], variants[b][seen[:, b]]) for a, b in self._pairs]
        for table, (first, second) in zip(pairs, of, strict=True):
            drawn += table[first, second]
        missing = self._targets[:, None] - drawn - self._luck(count, rng) * bold
        update = self._given.solve(missing)
        stages[0] += self.weights[0] * update.sum(axis=0)
        for table, block in zip(stages, self._blocks, strict=True):
            table += block @ update
        for d, table, places in zip(deep, pairs, of, strict=True):
            np.add.at(table, places, d * d * update)
        keys = keyed(seen, [s.classes for s in self.stages])
        order = np.argsort(keys)
        return LossDraws(
            stages,
            [
                (a, b, table[variants[a]][:, variants[b]])
                for (a, b), table in zip(self._pairs, pairs, strict=True)
            ],
            (keys[order], (own + self.weights[-1] * update)[order]),
            self._centre,
        )

    def _prior_table(self, place: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """`` `classes x count` `` draws of a stage's own parts, before anything is seen."""
        stage, at = self.stages[place], 1 + len(STAGE_PARTS) * place
        variant, own, speed = np.sqrt(self.weights[at : at + len(STAGE_PARTS)])
        if self.encoding == "ordinal":
            deep = float(np.sqrt(self.weights[at : at + len(STAGE_PARTS)].sum()))
            return _smooth(stage.line / LINE_SCALE, count, rng) * deep
        found: np.ndarray = speed * _smooth(self._speeds[place] / SPEED_SCALE, count, rng)
        found += variant * rng.normal(size=(stage.classes, count))[stage.class_variant]
        found += own * rng.normal(size=found.shape)
        return found

    def _prior_variance(self) -> float:
        """Of any plan: every part is 1 on its diagonal."""
        return float(self.weights.sum())

    def _near(self, place: int, of: np.ndarray, to: np.ndarray) -> np.ndarray:
        """`` `m x n` ``: how alike speeds are, or with ordinal encoding places in one order."""
        if self.encoding == "ordinal":
            line = self.stages[place].line / LINE_SCALE
        else:
            line = self._speeds[place] / SPEED_SCALE
        found: np.ndarray = np.subtract.outer(line[of], line[to])
        np.square(found, out=found)
        found *= -0.5
        np.exp(found, out=found)
        return found

    def _similarity(self, place: int, of: np.ndarray, to: np.ndarray) -> np.ndarray:
        """`` `c x m x n` ``: the parts of `STAGE_PARTS` between `` `m` `` and `` `n` `` classes."""
        near = self._near(place, of, to)
        if self.encoding == "ordinal":
            return np.stack([near] * len(STAGE_PARTS))
        same = (of[:, None] == to[None, :]).astype(float)
        return np.stack([self._same_variant(place, of, to).astype(float), same, near])

    def _weighted(self, place: int, to: np.ndarray) -> np.ndarray:
        """`` `classes x n` ``: the weighted sum of `_similarity` of all classes, in one array."""
        stage, at = self.stages[place], 1 + len(STAGE_PARTS) * place
        alike, same, near = self.weights[at : at + len(STAGE_PARTS)]
        every = np.arange(stage.classes)
        found = self._near(place, every, to)
        if self.encoding == "ordinal":
            found *= alike + same + near
            return found
        found *= near
        np.add(found, alike, out=found, where=self._same_variant(place, every, to))
        found[to, np.arange(len(to))] += same
        return found

    def _same_variant(self, place: int, of: np.ndarray, to: np.ndarray) -> np.ndarray:
        """`` `m x n` ``, of bool."""
        variants = self.stages[place].class_variant
        found: np.ndarray = variants[of][:, None] == variants[to][None, :]
        return found

    def _alike(self, place: int, to: np.ndarray) -> np.ndarray:
        """`` `classes x n` ``: the first of `STAGE_PARTS`, which pairs of stages multiply."""
        every = np.arange(self.stages[place].classes)
        if self.encoding == "ordinal":
            return self._near(place, every, to)
        return self._same_variant(place, every, to).astype(float)

    def _parts(self, classes: np.ndarray) -> np.ndarray:
        """`` `c x n x n` ``, to fit."""
        found = [np.ones((len(classes), len(classes)))]
        variants = []
        for place, own in enumerate(classes.T):
            similar = self._similarity(place, own, own)
            found += list(similar)
            variants.append(similar[0])
        found += [variants[a] * variants[b] for a, b in self._pairs]
        found.append((classes[:, None, :] == classes[None, :, :]).all(axis=2).astype(float))
        return np.stack(found)

    def _noise(self, graded: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`` `n x n` ``: a plan's own luck, and that of the rows it was seen on.

        A row's variance is that of the accuracy *expected* of the plan, not of the one seen: a
        plan that was lucky would seem more certain than one that was not. Of p = exp(-loss) it is
        p(1 - p), so of the loss (1 - p)/p.
        """
        wrong = np.expm1(np.clip(self._expected, 0.005, 5.0))
        self._deviations = np.sqrt(graded * wrong)
        self._shares = 1.0 / rows.astype(float)
        common = np.minimum.outer(self._shares, self._shares)
        common *= np.outer(self._deviations, self._deviations)
        own = (1.0 - self._share) * common.diagonal()
        common *= self._share
        common[np.diag_indices_from(common)] += own
        return common

    def _luck(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`` `n x s` `` draws of that noise: a Brownian motion has covariance min(1/n, 1/m)."""
        order = np.argsort(self._shares)
        steps = np.sqrt(np.diff(self._shares[order], prepend=0.0))
        common = np.empty((len(order), count))
        common[order] = np.cumsum(steps[:, None] * rng.normal(size=common.shape), axis=0)
        own = np.sqrt(self._shares)[:, None] * rng.normal(size=common.shape)
        luck = np.sqrt(self._share) * common + np.sqrt(1.0 - self._share) * own
        found: np.ndarray = self._deviations[:, None] * luck
        return found

    def _prepare(self, classes: np.ndarray) -> None:
        """Weighted similarity of every class with each plan seen, a row per class."""
        self._blocks, self._together = [], []
        for place, own in enumerate(classes.T):
            self._blocks.append(self._weighted(place, own))
        at = 1 + len(STAGE_PARTS) * len(self.stages)
        alike = [self._alike(place, own) for place, own in enumerate(classes.T) if self._pairs]
        for weight, (a, b) in zip(self.weights[at:], self._pairs, strict=False):
            self._together.append((weight * alike[a], alike[b]))
        self._seen_classes = classes

    def _cross(self, classes: np.ndarray) -> np.ndarray:
        """`` `m x n` ``: prior covariance of plans with those seen."""
        found: np.ndarray = self._blocks[0][classes[:, 0]]
        found += self.weights[0]
        for block, own in zip(self._blocks[1:], classes.T[1:], strict=True):
            found += block[own]
        for (a, b), (first, second) in zip(self._pairs, self._together, strict=True):
            found += first[classes[:, a]] * second[classes[:, b]]
        same = np.ones(found.shape, bool)
        for own, theirs in zip(classes.T, self._seen_classes.T, strict=True):
            same &= own[:, None] == theirs[None, :]
        np.add(found, self.weights[-1], out=found, where=same)
        return found


def _smooth(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`` `m x count` `` draws of a unit squared-exponential process of scale 1 on a line.

    By random Fourier features [Rahimi & Recht 2007]: its covariance need not be factored.
    """
    phases = rng.uniform(0.0, 2.0 * np.pi, FEATURES)
    waves = np.cos(np.outer(points, rng.normal(size=FEATURES)) + phases)
    found: np.ndarray = np.sqrt(2.0 / FEATURES) * waves @ rng.normal(size=(FEATURES, count))
    return found


__all__ = ["QualitySurrogate", "Seen", "seen"]
