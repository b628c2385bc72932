"""What a learned search knows: everything told, both surrogates, and what was spent."""

from __future__ import annotations

import math

import numpy as np

from ....ir.record import dataclass
from ..features import features
from ..protocol import LOSS, PROFILE, Assignment, Evaluation, Space, StageOptions
from .acquisition import Beliefs
from .draws import LossDraws
from .end_to_end import EndToEnd, PlanDraws
from .operators import Composition, DimDraws, tell_histories
from .prior import Prior
from .quality import QualitySurrogate, Seen, seen
from .settings import Asked, Settings
from .spending import Bill, Spending

OVERHEAD_SECONDS = 0.05
"""What a proposal takes beside profiling, added to its price: a free one is not infinitely good."""


class Knowledge:
    """Of one space.

    Attributes:
        told: every evaluation, in order.
        seen: by classes, the scores on most rows.
        profiled: by plan, its classes.
    """

    def __init__(self, space: Space, asked: Asked, settings: Settings, prior: Prior | None) -> None:
        self.space, self.asked, self.prior = space, asked, prior
        self.first_rows = settings.first_rows
        self._stages = features(space)
        self._composition = Composition(space, self._stages)
        self._dims = self._composition if settings.composition else EndToEnd(self._stages)
        self._quality = QualitySurrogate(space, self._stages, settings.encoding)
        self._spending = Spending(space, self._stages, self._composition)
        self.told: list[Evaluation] = []
        self.seen: dict[Assignment, Seen] = {}
        self.profiled: dict[Assignment, Assignment] = {}
        self._profiling = 0.0
        self._composed = [_losses(stage) for stage in space.stages]
        if prior is not None:
            tell_histories(self._composition, prior)

    @property
    def sizes(self) -> list[int]:
        """Options of every stage."""
        return [stage.size for stage in self._stages]

    @property
    def plans(self) -> np.ndarray:
        """`` `n x stages` ``, the plans profiled."""
        return np.array(list(self.profiled), int).reshape(-1, len(self._stages))

    @property
    def spent(self) -> float:
        """Seconds of profiling and of proposals so far."""
        return self._profiling + OVERHEAD_SECONDS * len(self.told)

    def learn(self, evaluation: Evaluation) -> None:
        """A plan was profiled."""
        plan = evaluation.assignment
        self.told.append(evaluation)
        self._profiling += evaluation.seconds
        self._spending.add(evaluation)
        for place, values in enumerate(evaluation.stages):
            self._composition.add(place, plan[place], values)
        self._composition.refit()
        if isinstance(self._dims, EndToEnd):
            self._dims.add(plan, evaluation.metrics)
        classes = tuple(self.classes_of(np.array([plan]))[0].tolist())
        self.profiled[plan] = classes
        known = self.seen.get(classes)
        if known is None or len(evaluation.scores) > known.rows:
            self.seen[classes] = seen(classes, evaluation.scores)
        self._learn()

    def bill(self, plans: np.ndarray) -> Bill:
        """What profiling `` `m x stages` `` plans takes."""
        return self._spending.bill(plans)

    def beliefs(self, plans: np.ndarray) -> Beliefs:
        """What is believed of `` `m x stages` `` plans, an outcome a column."""
        means, variances = [], []
        for outcome in self.asked.outcomes:
            mean, variance = (
                self._loss(plans) if outcome == LOSS else self._dims.predict(outcome, plans)
            )
            means.append(mean)
            variances.append(variance)
        return Beliefs(
            np.stack(means, axis=1),
            np.stack(variances, axis=1),
            self.asked.limits,
            self.asked.goal,
        )

    def chances(self, plans: np.ndarray, beliefs: Beliefs) -> np.ndarray:
        """Probability that plans profiled meet every limit, `` `n` ``.

        The surrogate may be surer than it should of a plan picked among thousands for what it says
        of it. So of the accuracy the lesser of two probabilities counts: the surrogate's, and that
        after the plan's own scores alone (a Beta posterior, Jeffreys' prior).
        """
        from scipy.special import betainc, log_ndtr

        chance: np.ndarray = np.exp(beliefs.feasible())
        if LOSS in self.asked.outcomes:
            at = self.asked.outcomes.index(LOSS)
            limit = float(np.exp(-self.asked.limits[at]))
            seen = [self.seen[c] for c in map(tuple, self.classes_of(plans).tolist())]
            rows = np.array([one.rows for one in seen])
            right = np.array([one.right for one in seen])
            own = 1.0 - betainc(right + 0.5, rows - right + 0.5, limit)
            apart = (beliefs.limits[at] - beliefs.mean[:, at]) / np.sqrt(beliefs.variance[:, at])
            chance *= np.minimum(own / np.exp(np.maximum(log_ndtr(apart), -700.0)), 1.0)
        return chance

    def proved(self, rows: np.ndarray, chances: np.ndarray) -> np.ndarray:
        """The same of plans that would be declared at the first look that suffices.

        A plan is looked at again and again, with more rows each time: its chance to miss is taken
        once for each look (the union bound).
        """
        looks = 1.0 + np.log2(np.maximum(rows / self.first_rows, 1.0))
        found: np.ndarray = np.maximum(1.0 - looks * (1.0 - chances), 0.0)
        return found

    def draw(self, bold: np.ndarray, rng: np.random.Generator) -> Draws:
        """Functions drawn from the beliefs, see `Composition.draw`; a plan must be profiled."""
        dims = [outcome for outcome in self.asked.outcomes if outcome != LOSS]
        losses = self._quality.draw(bold, rng) if LOSS in self.asked.outcomes else None
        return Draws(self, len(bold), losses, self._dims.draw(dims, bold, rng))

    def _loss(self, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-log accuracy."""
        mean, variance = self._quality.predict(self.classes_of(plans))
        return mean + self.prior_loss(plans), variance

    def prior_loss(self, plans: np.ndarray) -> np.ndarray:
        """Losses before anything is seen: composed from the statistics, or from histories."""
        told = None if self.prior is None else self.prior.losses()
        tables = self._composed if told is None else told
        total = np.zeros(len(plans))
        for table, options in zip(tables, plans.T, strict=True):
            total += table[options]
        return total

    def classes_of(self, plans: np.ndarray) -> np.ndarray:
        """The class of every stage's option, `` `m x stages` ``."""
        return np.stack(
            [s.option_class[plans[:, place]] for place, s in enumerate(self._stages)], axis=1
        )

    def _learn(self) -> None:
        """Condition the quality surrogate on all plans profiled."""
        data = list(self.seen.values())
        examples = {classes: plan for plan, classes in self.profiled.items()}
        plans = np.array([examples[one.classes] for one in data])
        if self.prior is not None:
            losses = np.array([one.loss for one in data])
            spread = np.array([one.graded * math.expm1(one.loss) / one.rows for one in data])
            self.prior.update(plans, losses, spread)
        self._quality.speeds([self._speed(place) for place in range(len(self._stages))])
        self._quality.learn(data, self.prior_loss(plans))

    def _speed(self, place: int) -> np.ndarray:
        """Log seconds of a row of every class of a stage, the mean over its options."""
        own = self._stages[place].option_class
        logs, _ = self._composition.operator(place, PROFILE).moments()
        found: np.ndarray = np.bincount(own, weights=logs) / np.bincount(own)
        return found

    def rows_seen(self, plans: np.ndarray) -> np.ndarray:
        """Rows on which the plans' classes were seen."""
        classes = map(tuple, self.classes_of(plans).tolist())
        found = (self.seen.get(one) for one in classes)
        return np.array([0 if one is None else one.rows for one in found])


def _losses(stage: StageOptions) -> np.ndarray:
    """What statistics say of every option, of one they do not know the mean of the others."""
    known = stage.known.get(LOSS, (None,) * len(stage.options))
    values = np.array([np.nan if value is None else value for value in known])
    middle = 0.0 if np.isnan(values).all() else float(np.nanmean(values))
    return np.where(np.isnan(values), middle, values)


@dataclass(frozen=True)
class Draws:
    """Functions drawn from the beliefs, see `draws`; `losses` is None where none are asked for."""

    known: Knowledge
    count: int
    losses: LossDraws | None
    dims: DimDraws | PlanDraws

    def outcomes(self, plans: np.ndarray, which: np.ndarray) -> np.ndarray:
        """See `draws.Drawn`."""
        found = []
        for outcome in self.known.asked.outcomes:
            if outcome == LOSS and self.losses is not None:
                own = self.losses.losses(self.known.classes_of(plans), which)
                found.append(own + self.known.prior_loss(plans))
            else:
                found.append(self.dims.logs(outcome, plans, which))
        return np.stack(found, axis=1)
