"""The learned search: propose, profile, update.

    candidates (samples, moves from good plans) ─▶ beliefs: quality surrogate, composition of dims
        ─▶ expected feasible improvement ÷ seconds of profiling ─▶ Proposal: 32 rows of a new plan,
        or as many again of one seen already ─▶ Evaluation ─▶ both surrogates

Until a plan is believed feasible the probability of feasibility takes the improvement's place. A
plan is verified when its probability of meeting every limit reaches `Settings.sure`, or when no
rows are left and it is more likely feasible than not; improvement is over the best verified plan,
so that one that looks better and is not yet sure is looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ....errors import InternalError, PlanError
from ....ir.record import dataclass
from ....ir.slo import Slo
from ..protocol import Assignment, Candidate, Evaluation, Proposal, Space
from . import candidates
from .acquisition import Beliefs, improvement
from .end_to_end import EndToEnd
from .features import Encoding, features
from .operators import Composition, tell_histories
from .prior import Prior
from .quality import QualitySurrogate, Seen, seen
from .spending import PROFILE, Bill, Spending

LOSS = "loss"
OVERHEAD_SECONDS = 0.05
"""What a proposal takes beside profiling, added to its price: a free one is not infinitely good."""
DIM_NOISE = 0.0004
"""Variance of the log of a measured dim (our choice: 2 %)."""
HORIZONS = (1, 4, 16, 64)
"""Times the rows of a step up to which its worth is judged."""
ROUNDS = 2
"""Times that moves are made from the best candidates of the round before."""


@dataclass(frozen=True)
class Settings:
    """How the search decides.

    Attributes:
        first_rows: of a plan that was never seen.
        growth: rows of a plan looked at again ÷ those before.
        sure: probability of feasibility from which a plan is verified,
        sure_rows: if its answers were seen on so many rows: on fewer, certainty is mostly the
            surrogate's own.
        thorough: share of what was spent that a look may cost however few rows it needs.
        insurance: share of what was spent that a further look at the plan it would return may cost.
        tolerance: share of the goal below which an expected improvement is worth nothing.
        least: share of the best candidate's worth below which a cheaper one is not considered.
        encoding: of classes, in the quality surrogate.
        composition: dims are composed from operators; off: learned end to end.
        costs: improvement per second of profiling; off: per plan.
        partial: plans are looked at in growing blocks; off: each on all rows at once.
    """

    first_rows: int = 8
    growth: float = 2.0
    sure: float = 0.9
    sure_rows: int = 128
    thorough: float = 0.01
    insurance: float = 0.05
    tolerance: float = 0.0005
    least: float = 0.1
    encoding: Encoding = "one_hot"
    composition: bool = True
    costs: float = 0.5
    partial: bool = True


class LearnedSearch:
    """`PlanSearch` for one pipeline and one SLO; see the module.

    Args:
        space: the plans.
        slo: limits on accuracy and on the space's dims; the objective is one of them.
        rows: of the sample.
        seed: of everything drawn.
        settings: how to decide.
        prior: what other queries' histories tell.

    Raises:
        PlanError: OC0311, the SLO asks for something the space has no dim for.
    """

    def __init__(
        self,
        space: Space,
        slo: Slo,
        *,
        rows: int,
        seed: int = 0,
        settings: Settings | None = None,
        prior: Prior | None = None,
    ) -> None:
        self.space, self.slo, self.rows = space, slo, rows
        self.settings = settings or Settings()
        self.prior = prior
        self.outcomes, self.limits, self.goal = _asked(space, slo)
        self._stages = features(space)
        self._sizes = [stage.size for stage in self._stages]
        self._rng = np.random.default_rng(seed)
        self._composition = Composition(space, self._stages)
        self._dims = self._composition if self.settings.composition else EndToEnd(self._stages)
        self._quality = QualitySurrogate(space, self._stages, self.settings.encoding)
        self._spending = Spending(space, self._stages, self._composition)
        self._seen: dict[Assignment, Seen] = {}
        self._profiled: dict[Assignment, Assignment] = {}
        self._told: list[Evaluation] = []
        self._profiling = 0.0
        if prior is not None:
            tell_histories(self._composition, prior)

    # -- PlanSearch ------------------------------------------------------------------------

    def ask(self) -> Proposal | None:
        """See `PlanSearch`."""
        insured = self._insurance()
        if insured is not None:
            return insured
        best = self._verified_goal()
        pool = self._pool()
        value, chosen = -math.inf, None
        for turn in range(ROUNDS + 1):
            worth, rows = self._worth(pool, best)
            order = np.argsort(-worth, kind="stable")
            if worth[order[0]] > value:
                value = float(worth[order[0]])
                chosen = Proposal(tuple(pool[order[0]].tolist()), int(rows[order[0]]))
            if turn < ROUNDS:
                elites = pool[order[: candidates.ELITES]]
                pool = candidates.moves(elites, self._sizes, candidates.MOVES, self._rng)
        return chosen

    def tell(self, evaluation: Evaluation) -> None:
        """See `PlanSearch`.

        Raises:
            InternalError: the evaluation is not of a plan of this space or has no scores.
        """
        plan = evaluation.assignment
        self._check(evaluation)
        self._told.append(evaluation)
        self._profiling += evaluation.seconds
        self._spending.add(evaluation)
        for place, values in enumerate(evaluation.stages):
            self._composition.add(place, plan[place], values)
        self._composition.refit()
        if isinstance(self._dims, EndToEnd):
            self._dims.add(plan, evaluation.metrics)
        classes = tuple(self._classes(np.array([plan]))[0].tolist())
        self._profiled[plan] = classes
        known = self._seen.get(classes)
        if known is None or len(evaluation.scores) > known.rows:
            self._seen[classes] = seen(classes, evaluation.scores)
        self._learn()

    def incumbent(self) -> Candidate | None:
        """See `PlanSearch`: the best verified plan, else the one most likely feasible, if that is
        likely (under AT CONFIDENCE: as likely as asked)."""
        found = self._candidates()
        if not found:
            return None
        chances = np.array([candidate.feasible for candidate in found])
        verified = self._verified(np.array([c.assignment for c in found]), chances)
        sure = [c for c, yes in zip(found, verified, strict=True) if yes]
        if sure:
            return min(sure, key=self._goal_of)
        likely = max(found, key=lambda candidate: candidate.feasible)
        return likely if likely.feasible >= self._confidence() else None

    def frontier(self) -> tuple[Candidate, ...]:
        """See `PlanSearch`: of the plans profiled, those no other one dominates."""
        found = self._candidates()
        values = np.array([[self._loss_of(c, o) for o in self.outcomes] for c in found])
        kept = [
            candidate
            for candidate, own in zip(found, values, strict=True)
            if not ((values <= own).all(axis=1) & (values < own).any(axis=1)).any()
        ]
        return tuple(
            sorted(kept, key=lambda c: (c.feasible < self._confidence(), self._goal_of(c)))
        )

    def state(self) -> dict[str, Any]:
        """See `PlanSearch`: everything told, and the generator; surrogates follow from them."""
        return {
            "evaluations": [
                {
                    "assignment": list(one.assignment),
                    "scores": [float(score) for score in one.scores],
                    "stages": [dict(values) for values in one.stages],
                    "metrics": dict(one.metrics),
                    "seconds": one.seconds,
                    "usd": one.usd,
                }
                for one in self._told
            ],
            "random": self._rng.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; nothing may have been told yet."""
        for one in state["evaluations"]:
            self.tell(
                Evaluation(
                    tuple(one["assignment"]),
                    one["scores"],
                    tuple(one["stages"]),
                    one["metrics"],
                    one["seconds"],
                    one["usd"],
                )
            )
        self._rng.bit_generator.state = state["random"]

    # -- beliefs -----------------------------------------------------------------------------

    def beliefs(self, plans: np.ndarray) -> Beliefs:
        """What is believed of `` `m x stages` `` plans, an outcome a column."""
        means, variances = [], []
        for outcome in self.outcomes:
            mean, variance = (
                self._loss(plans) if outcome == LOSS else self._dims.predict(outcome, plans)
            )
            means.append(mean)
            variances.append(variance)
        return Beliefs(
            np.stack(means, axis=1),
            np.stack(variances, axis=1),
            self.limits,
            self.goal,
        )

    def _loss(self, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-log accuracy."""
        mean, variance = self._quality.predict(self._classes(plans))
        return mean + self._prior_loss(plans), variance

    def _prior_loss(self, plans: np.ndarray) -> np.ndarray:
        """Losses before anything is seen: composed from the statistics, or from histories."""
        if self.prior is not None:
            told = self.prior.predict(plans)
            if told is not None:
                return told[0]
        total = np.full(len(plans), 0.0)
        for place, stage in enumerate(self.space.stages):
            known = stage.known.get(LOSS)
            if known is not None:
                values = np.array([np.nan if v is None else v for v in known])
                middle = 0.0 if np.isnan(values).all() else float(np.nanmean(values))
                total += np.where(np.isnan(values), middle, values)[plans[:, place]]
        return total

    def _classes(self, plans: np.ndarray) -> np.ndarray:
        return np.stack(
            [s.option_class[plans[:, place]] for place, s in enumerate(self._stages)], axis=1
        )

    def _learn(self) -> None:
        """Condition the quality surrogate on all plans profiled."""
        data = list(self._seen.values())
        examples = {classes: plan for plan, classes in self._profiled.items()}
        plans = np.array([examples[one.classes] for one in data])
        if self.prior is not None:
            losses = np.array([one.loss for one in data])
            spread = np.array([one.graded * math.expm1(one.loss) / one.rows for one in data])
            self.prior.update(plans, losses, spread)
        self._quality.speeds(
            [
                np.array([self._composition.operator(p, PROFILE).moments()[0][own].mean()
                          for own in stage.class_options])
                for p, stage in enumerate(self._stages)
            ]
        )  # fmt: skip
        self._quality.learn(data, self._prior_loss(plans))

    # -- what to ask -------------------------------------------------------------------------

    def _pool(self) -> np.ndarray:
        """The first candidates: samples, plans profiled, moves from the best of them."""
        groups = [candidates.samples(self._sizes, candidates.SAMPLES, self._rng)]
        if self._profiled:
            plans = np.array(list(self._profiled))
            beliefs = self.beliefs(plans)
            key = beliefs.mean[:, self.goal] - np.maximum(beliefs.feasible(), -20.0)
            elites = plans[np.argsort(key, kind="stable")[: candidates.ELITES]]
            groups += [plans, candidates.moves(elites, self._sizes, candidates.MOVES, self._rng)]
        return candidates.distinct(np.concatenate(groups), self._sizes)

    def _worth(self, plans: np.ndarray, best: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Log of what a step of profiling each plan is worth, and the rows to profile it on.

        A step leads to the rows that the plan's classes were seen on (only its times are new) or
        to `growth` times as many. What it is worth is what it may lead to at its best horizon, per
        second up to there: a plan is not dropped because a first block alone cannot prove it.
        """
        beliefs = self.beliefs(plans)
        done = self._rows_seen(plans)
        timed = np.array([plan in self._profiled for plan in map(tuple, plans.tolist())])
        bill = self._spending.bill(plans)
        first = np.full(len(plans), min(self.settings.first_rows, self.rows))
        more = np.minimum(np.ceil(done * self.settings.growth), self.rows).astype(int)
        steps = [
            (np.where(done > 0, done, self._thorough(bill, first)), ~timed),
            (self._thorough(bill, more), (done > 0) & (more > done)),
        ]
        values, worths = [], []
        for rows, possible in steps:
            value, worth = self._ahead(bill, beliefs, done, rows, best)
            values.append(np.where(possible, value, -np.inf))
            worths.append(np.where(possible, worth, -np.inf))
        least = np.max(values) + math.log(self.settings.least)
        worths = [
            np.where(value >= least, worth, -np.inf)
            for value, worth in zip(values, worths, strict=True)
        ]
        further = worths[1] > worths[0]
        return np.maximum(*worths), np.where(further, steps[1][0], steps[0][0])

    def _insurance(self) -> Proposal | None:
        """A further look at the plan it would return, where that costs next to nothing.

        The best of many looks better than it is, and all were seen on the same first rows: both
        end with more rows of one plan. So much is paid for it as `insurance` of all spent so far.
        """
        likely = self.incumbent()
        if likely is None or likely.rows >= self.rows:
            return None
        plans = np.array([likely.assignment])
        rows = min(math.ceil(likely.rows * self.settings.growth), self.rows)
        price = float(self._spending.bill(plans).seconds(rows)[0])
        if price > self.settings.insurance * self._spent():
            return None
        return Proposal(likely.assignment, rows)

    def _thorough(self, bill: Bill, rows: np.ndarray) -> np.ndarray:
        """Rows of a look: at least so many, doubled while that is cheap.

        Cheap is what at most doubles what is paid whatever the rows (loading, and the proposal
        itself), or takes no more than `thorough` of all that was spent: looks grow with what the
        search has cost, so that neither many slight ones nor few thorough ones dominate it.
        """
        if not self.settings.partial:
            return np.full(len(rows), self.rows)
        allowed = np.maximum(
            2.0 * (OVERHEAD_SECONDS + bill.seconds(0)), self.settings.thorough * self._spent()
        )
        while True:
            twice = np.minimum(2 * rows, self.rows)
            grows = (OVERHEAD_SECONDS + bill.seconds(twice) <= allowed) & (twice > rows)
            if not grows.any():
                return rows
            rows = np.where(grows, twice, rows)

    def _spent(self) -> float:
        """Seconds of profiling and of proposals so far."""
        return self._profiling + OVERHEAD_SECONDS * len(self._told)

    def _ahead(
        self,
        bill: Bill,
        beliefs: Beliefs,
        done: np.ndarray,
        rows: np.ndarray,
        best: float | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logs of value and of value per second, at each plan's best horizon."""
        value = worth = np.full(len(rows), -np.inf)
        first = OVERHEAD_SECONDS + bill.seconds(rows)
        on = np.exp(self._after(beliefs, done, rows, 0.5)[0])
        least = min(self.settings.sure_rows, self.rows)
        for times in HORIZONS:
            until = np.where(rows > done, np.clip(rows * times, least, self.rows), rows)
            found = self._value(beliefs, done, until, best)
            found = np.where(until >= least, found, -np.inf)
            rest = OVERHEAD_SECONDS + bill.seconds(until) - first
            price = first + on * np.maximum(rest, 0.0)
            per = found - self.settings.costs * np.log(price)
            value = np.where(per > worth, found, value)
            worth = np.maximum(worth, per)
        return value, worth

    def _after(
        self, beliefs: Beliefs, done: np.ndarray, rows: np.ndarray, sure: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Beliefs.after`, of looking at so many rows."""
        noise = np.full(beliefs.mean.shape, DIM_NOISE)
        if LOSS in self.outcomes:
            at = self.outcomes.index(LOSS)
            wrong = np.expm1(np.clip(beliefs.mean[:, at], 1e-3, 5.0))
            new = (rows - done).astype(float)
            noise[:, at] = np.where(new > 0, wrong / np.maximum(new, 1.0), np.inf)
        return beliefs.after(noise, sure)

    def _value(
        self, beliefs: Beliefs, done: np.ndarray, rows: np.ndarray, best: float | None
    ) -> np.ndarray:
        """Log of the probability that a plan is verified after so many rows, times what is won."""
        chance, moves = self._after(beliefs, done, rows, self._sure())
        last = self._after(beliefs, done, rows, self._confidence())[0]
        chance = np.where(rows >= self.rows, last, chance)
        if best is None:
            return chance
        won = improvement(beliefs.mean[:, self.goal], moves[:, self.goal], best)
        value = chance + won
        return np.where(value < math.log(self.settings.tolerance), -np.inf, value)

    def _rows_seen(self, plans: np.ndarray) -> np.ndarray:
        """Rows on which the plans' classes were seen."""
        classes = map(tuple, self._classes(plans).tolist())
        found = (self._seen.get(one) for one in classes)
        return np.array([0 if one is None else one.rows for one in found])

    def _verified_goal(self) -> float | None:
        """The goal of the best verified plan, in the unit of `Beliefs`."""
        if not self._profiled:
            return None
        plans = np.array(list(self._profiled))
        beliefs = self.beliefs(plans)
        verified = self._verified(plans, np.exp(beliefs.feasible()))
        return float(beliefs.mean[verified, self.goal].min()) if verified.any() else None

    def _verified(self, plans: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Which plans profiled are sure, or likely feasible with no rows left to look at."""
        rows = self._rows_seen(plans)
        sure = (chance >= self._sure()) & (rows >= min(self.settings.sure_rows, self.rows))
        return sure | ((rows >= self.rows) & (chance >= self._confidence()))

    def _sure(self) -> float:
        return max(self.settings.sure, self._confidence())

    # -- what it would return ------------------------------------------------------------------

    def _candidates(self) -> list[Candidate]:
        """All plans profiled."""
        if not self._profiled:
            return []
        plans = np.array(list(self._profiled))
        beliefs = self.beliefs(plans)
        chances = np.exp(beliefs.feasible())
        rows = self._rows_seen(plans)
        found = []
        for place, plan in enumerate(self._profiled):
            metrics = {
                ("accuracy" if outcome == LOSS else outcome): math.exp(-v if outcome == LOSS else v)
                for outcome, v in zip(self.outcomes, beliefs.mean[place], strict=True)
            }
            found.append(Candidate(plan, metrics, float(chances[place]), int(rows[place])))
        return found

    def _confidence(self) -> float:
        """The largest that is asked for; where none is, the point estimate decides."""
        asked = [c.confidence for c in self.slo.constraints if c.confidence is not None]
        return max(asked, default=0.5)

    def _goal_of(self, candidate: Candidate) -> float:
        return self._loss_of(candidate, self.outcomes[self.goal])

    def _loss_of(self, candidate: Candidate, outcome: str) -> float:
        """An outcome where less is better."""
        if outcome == LOSS:
            return -candidate.metrics["accuracy"]
        return candidate.metrics[outcome]

    def _check(self, evaluation: Evaluation) -> None:
        plan = evaluation.assignment
        fits = len(plan) == len(self._sizes) == len(evaluation.stages) and all(
            0 <= option < size for option, size in zip(plan, self._sizes, strict=True)
        )
        if not fits or not len(evaluation.scores):
            raise InternalError(
                f"the evaluation of {plan} does not fit: it needs one option and one set of dims "
                f"for each of {len(self._sizes)} stages, and a score",
                code="OC0904",
            )


def _asked(space: Space, slo: Slo) -> tuple[tuple[str, ...], np.ndarray, int]:
    """Outcomes asked about, what each may be at most (logs), and the place of the objective."""
    limits: dict[str, float] = {}
    for constraint in slo.constraints:
        name, limit = _outcome(space, constraint.metric), constraint.limit
        bound = -math.log(limit) if name == LOSS else math.log(limit)
        limits[name] = min(bound, limits.get(name, math.inf))
    goal = _outcome(space, slo.objective.metric)
    limits.setdefault(goal, math.inf)
    names = tuple(limits)
    return names, np.array(list(limits.values())), names.index(goal)


def _outcome(space: Space, metric: str) -> str:
    if metric == "accuracy":
        return LOSS
    if metric not in (*space.sums, *space.paths):
        raise PlanError(
            f"the search knows nothing of {metric}",
            code="OC0311",
            hint=f"it knows accuracy, {', '.join((*space.sums, *space.paths))}",
        )
    return metric


__all__ = ["LearnedSearch", "Settings"]
