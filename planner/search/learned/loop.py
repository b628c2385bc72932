"""The learned search: propose, profile, update.

    functions drawn from the beliefs ─▶ the plan that is best under each: the candidates
        ─▶ expected feasible improvement ÷ seconds of profiling ─▶ Proposal: some rows of a new
        plan, or as many again of one seen already ─▶ Evaluation ─▶ both surrogates

Beliefs are the quality surrogate's and the composition's of dims. Until a plan is verified the
probability of being so takes the improvement's place. A plan is verified when its probability of
meeting every limit reaches `Settings.sure`, or, where none does and no rows are left, when it is
more likely feasible than not; improvement is over the best verified plan, so that one that looks
better and is not yet sure is looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ....errors import InternalError
from ....ir.slo import Slo
from ..protocol import LOSS, Assignment, Candidate, Evaluation, Proposal, Space
from ..similarity.prune import Pruned, Pruner
from . import candidates
from .acquisition import Beliefs
from .draws import optima, safest
from .knowledge import Knowledge
from .prior import Prior
from .settings import Settings, asked
from .worth import Standing, Worth


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
        self._pruner = Pruner(space, self.asked.bounds)
        self._passed: set[Assignment] = set()
        self._sizes = self._known.sizes
        self._stand: Standing | None = None

    # -- PlanSearch ------------------------------------------------------------------------

    def ask(self) -> Proposal | None:
        """See `PlanSearch`."""
        insured = self._insurance()
        if insured is not None:
            return insured
        standing = self._standing()
        verified = standing is not None and standing.best < math.inf
        for pool in map(self._unpruned, self._pools(verified)):
            if not len(pool):
                continue
            worth, rows = self._worth.steps(pool, standing)
            chosen = int(np.argmax(worth))
            if worth[chosen] > -math.inf:
                return Proposal(tuple(pool[chosen].tolist()), int(rows[chosen]))
        return None

    def tell(self, evaluation: Evaluation) -> None:
        """See `PlanSearch`.

        Raises:
            InternalError: the evaluation is not of a plan of this space or has no scores.
        """
        self._check(evaluation)
        self._known.learn(evaluation)
        if self.settings.pruning:
            self._pruner.add(evaluation)
        self._stand = None

    @property
    def pruned(self) -> tuple[Pruned, ...]:
        """The plans that were not proposed and still would not be, with the reason."""
        plans = np.array(sorted(self._passed), int).reshape(-1, len(self._sizes))
        return tuple(self._pruner.left_out(plans))

    @property
    def violated(self) -> bool:
        """Did what was seen contradict a ladder, so that none prunes any more?"""
        return self._pruner.violated

    def beliefs(self, plans: np.ndarray) -> Beliefs:
        """What is believed of `` `m x stages` `` plans."""
        return self._known.beliefs(plans)

    def incumbent(self) -> Candidate | None:
        """See `PlanSearch`: the best verified plan, see `Worth.standing`; where there is none, the
        one most likely feasible, if that is likely (under AT CONFIDENCE: as likely as asked)."""
        standing = self._standing()
        if standing is None:
            return None
        goals, chances = standing.goals, standing.chances
        place = int(np.argmin(goals) if np.isfinite(goals).any() else np.argmax(chances))
        likely = np.isfinite(goals[place]) or chances[place] >= self.asked.confidence
        return self._candidate(standing, place) if likely else None

    def frontier(self) -> tuple[Candidate, ...]:
        """See `PlanSearch`: of the plans profiled, those no other one dominates."""
        standing = self._standing()
        if standing is None:
            return ()
        found = [self._candidate(standing, place) for place in range(len(standing.plans))]
        values = np.array([[self._loss_of(c, o) for o in self.asked.outcomes] for c in found])
        kept = [
            (chance < self.asked.confidence, self._goal_of(candidate), candidate)
            for candidate, chance, own in zip(found, standing.chances, values, strict=True)
            if not ((values <= own).all(axis=1) & (values < own).any(axis=1)).any()
        ]
        return tuple(candidate for *_, candidate in sorted(kept, key=lambda one: one[:2]))

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

    def _pools(self, verified: bool) -> Iterator[np.ndarray]:
        """The plans that are best under some draw; where none is worth a look, all that is near."""
        samples = candidates.samples(self._sizes, candidates.SAMPLES, self._rng)
        if not self._known.profiled:
            yield samples
            return
        starts = np.concatenate([self._known.plans, samples])
        drawn = self._known.draw(np.linspace(0.0, 1.0, self.settings.draws), self._rng)
        found = optima(drawn, starts, self._sizes, self.asked.limits, self.asked.goal)
        if not verified:
            safe = safest(drawn, starts, self._sizes, self.asked.limits)
            found = np.concatenate([found, safe])
        yield np.unique(found, axis=0)
        near = candidates.moves(found, self._sizes, candidates.MOVES, self._rng)
        yield np.unique(np.concatenate([starts, near]), axis=0)

    def _unpruned(self, pool: np.ndarray) -> np.ndarray:
        """Without the plans that cannot be better than one profiled, or cannot meet a limit."""
        if not self.settings.pruning:
            return pool
        kept = self._pruner.kept(pool)
        self._passed |= set(map(tuple, pool[~kept].tolist()))
        found: np.ndarray = pool[kept]
        return found

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

    # -- what it would return ------------------------------------------------------------------

    def _standing(self) -> Standing | None:
        """Of the plans profiled, until more is told; None: none is."""
        if self._stand is None and self._known.profiled:
            self._stand = self._worth.standing()
        return self._stand

    def _candidate(self, standing: Standing, place: int) -> Candidate:
        """A plan profiled."""
        metrics = {
            ("accuracy" if outcome == LOSS else outcome): math.exp(-v if outcome == LOSS else v)
            for outcome, v in zip(self.asked.outcomes, standing.beliefs.mean[place], strict=True)
        }
        return Candidate(
            tuple(standing.plans[place].tolist()),
            metrics,
            float(standing.proved[place]),
            int(standing.rows[place]),
        )

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
