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

from ....errors import InternalError
from ....ir.slo import Slo
from ..protocol import Candidate, Evaluation, Proposal, Space
from . import candidates
from .acquisition import Beliefs
from .knowledge import Knowledge
from .prior import Prior
from .settings import LOSS, Settings, asked
from .worth import Worth

ROUNDS = 2
"""Times that moves are made from the best candidates of the round before."""


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
        self.asked = asked(space, slo)
        self._rng = np.random.default_rng(seed)
        self._known = Knowledge(space, self.asked, self.settings, prior)
        self._worth = Worth(self._known, self.asked, self.settings, rows)
        self._sizes = self._known.sizes

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
            worth, rows = self._worth.steps(pool, best)
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
        self._check(evaluation)
        self._known.learn(evaluation)

    def beliefs(self, plans: np.ndarray) -> Beliefs:
        """What is believed of `` `m x stages` `` plans."""
        return self._known.beliefs(plans)

    def incumbent(self) -> Candidate | None:
        """See `PlanSearch`: the best verified plan, else the one most likely feasible, if that is
        likely (under AT CONFIDENCE: as likely as asked)."""
        found = self._candidates()
        if not found:
            return None
        chances = np.array([candidate.feasible for candidate in found])
        verified = self._worth.verified(np.array([c.assignment for c in found]), chances)
        sure = [c for c, yes in zip(found, verified, strict=True) if yes]
        if sure:
            return min(sure, key=self._goal_of)
        likely = max(found, key=lambda candidate: candidate.feasible)
        return likely if likely.feasible >= self.asked.confidence else None

    def frontier(self) -> tuple[Candidate, ...]:
        """See `PlanSearch`: of the plans profiled, those no other one dominates."""
        found = self._candidates()
        values = np.array([[self._loss_of(c, o) for o in self.asked.outcomes] for c in found])
        kept = [
            candidate
            for candidate, own in zip(found, values, strict=True)
            if not ((values <= own).all(axis=1) & (values < own).any(axis=1)).any()
        ]
        return tuple(
            sorted(kept, key=lambda c: (c.feasible < self.asked.confidence, self._goal_of(c)))
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
                for one in self._known.told
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

    # -- what to ask -------------------------------------------------------------------------

    def _pool(self) -> np.ndarray:
        """The first candidates: samples, plans profiled, moves from the best of them."""
        groups = [candidates.samples(self._sizes, candidates.SAMPLES, self._rng)]
        if self._known.profiled:
            plans = self._known.plans
            beliefs = self.beliefs(plans)
            key = beliefs.mean[:, self.asked.goal] - np.maximum(beliefs.feasible(), -20.0)
            elites = plans[np.argsort(key, kind="stable")[: candidates.ELITES]]
            groups += [plans, candidates.moves(elites, self._sizes, candidates.MOVES, self._rng)]
        return candidates.distinct(np.concatenate(groups), self._sizes)

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
        price = float(self._known.bill(plans).seconds(rows)[0])
        if price > self.settings.insurance * self._known.spent:
            return None
        return Proposal(likely.assignment, rows)

    def _verified_goal(self) -> float | None:
        """The goal of the best verified plan, in the unit of `Beliefs`."""
        if not self._known.profiled:
            return None
        plans = self._known.plans
        beliefs = self.beliefs(plans)
        verified = self._worth.verified(plans, np.exp(beliefs.feasible()))
        return float(beliefs.mean[verified, self.asked.goal].min()) if verified.any() else None

    # -- what it would return ------------------------------------------------------------------

    def _candidates(self) -> list[Candidate]:
        """All plans profiled."""
        if not self._known.profiled:
            return []
        plans = self._known.plans
        beliefs = self.beliefs(plans)
        chances = np.exp(beliefs.feasible())
        rows = self._known.rows_seen(plans)
        found = []
        for place, plan in enumerate(self._known.profiled):
            metrics = {
                ("accuracy" if outcome == LOSS else outcome): math.exp(-v if outcome == LOSS else v)
                for outcome, v in zip(self.asked.outcomes, beliefs.mean[place], strict=True)
            }
            found.append(Candidate(plan, metrics, float(chances[place]), int(rows[place])))
        return found

    def _goal_of(self, candidate: Candidate) -> float:
        return self._loss_of(candidate, self.asked.outcomes[self.asked.goal])

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


__all__ = ["LearnedSearch", "Settings"]
