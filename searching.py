"""ANALYZE … SEARCH joined together: the learned search asks, the profiler of plans answers.

    every choice × batch size ─▶ LearnedSearch ⇄ PlanProfiler ─▶ frontier ─▶ a `Request` with the
    choices of its best plans alone, which `profile` measures like any other

Histories of similar queries warm the search, and it leaves its own. It may spend `SEARCH_SHARE` of
a budget, as what it finds is worth nothing until it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .analyzing import SEARCH_ROWS, body_plan
from .cost.model import CostModel
from .dsl.binder import BoundAnalyze
from .errors import PlanError
from .interrupts import deferred
from .ir.physical import Choice
from .ir.record import dataclass
from .ir.slo import Slo
from .knowing import REST_OF_SEARCH, statistics
from .planner.explain.advice import advice_text
from .planner.explain.pruned import pruning
from .planner.explain.warmed import slo_text, warming
from .planner.search.protocol import Candidate, Evaluation, Proposal, Space
from .planner.search.space import Pricing, evaluation_of, searchable, space_of
from .planner.steps import StepInfo, steps
from .stats.promise import levels, required_margin
from .stats.work import MAX_ASSIGNMENTS

if TYPE_CHECKING:
    from .planner.search.learned.loop import LearnedSearch
    from .session import Session
    from .stats.histories import History
    from .stats.plan_profile import Broken, PlanProfiler
    from .stats.prefixes import Recall
    from .stats.profile import Limits, ProfileResult, Request

SEARCH_SHARE = 0.5
"""Of a budget, what searching may take; measuring what was found takes the rest (our choice)."""
TOLERANCE = 0.01
"""Share of the objective below which an improvement that is expected is not looked for: times of a
few calls tell no less apart (our choice)."""
PATIENCE = 48
"""Evaluations after which a search that found nothing better by as much ends (our choice): without
a bound from the user it would go on for as long as some plan might be better."""
HOPE = 4
"""Times as many where no plan met the SLO yet: to meet it at all is worth more than to improve."""
SAFE = 0.95
"""Chance to meet the SLO of a plan that is measured beside the one it would return: the plan that
looked best of hundreds may miss when all rows are seen (our choice)."""
CANCELLED = "cancelled"
FINISHED = 4
"""Plans of the frontier whose choices are measured (our choice): one is asked for, and the planner
chooses by statistics, not by the search's beliefs."""


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        request: the choices worth measuring, the best plan's as reference; none where the search
            ended before its first plan.
        notes: what it did and found, for the user.
        seconds: of profiling, wall; usd likewise.
        ended: why it ended early; None: nothing was worth its price any more.
        history: to be kept once the statement is done: a statement that died in between is to go on
            from where it was, not from what it leaves to others.
    """

    request: Request
    notes: tuple[str, ...]
    seconds: float
    usd: float
    ended: str | None
    history: History | None

    def left(self, limits: Limits) -> Limits:
        """What measuring may take: nothing where nothing was found or the user has enough."""
        if not self.request.choices or self.ended == CANCELLED:
            return replace(limits, seconds=0.0)
        return replace(
            limits,
            seconds=None if limits.seconds is None else max(0.0, limits.seconds - self.seconds),
            usd=None if limits.usd is None else max(0.0, limits.usd - self.usd),
        )

    def joined(self, result: ProfileResult) -> ProfileResult:
        """What measuring found, with what was spent on the way to it."""
        return replace(
            result,
            notes=(*self.notes, *result.notes),
            seconds=result.seconds + self.seconds,
            usd=result.usd + self.usd,
            stopped=self.ended or result.stopped,
            left_out=(
                *(() if self.ended is None else (REST_OF_SEARCH,)),
                *result.left_out,
            ),
        )


def find(
    session: Session,
    bound: BoundAnalyze,
    request: Request,
    recall: Recall,
    limits: Limits,
    held_back: int,
) -> Found:
    """Search for plans that meet the SLO.

    Args:
        session: whose devices, histories and seed.
        bound: the statement.
        request: every choice, over the search rows.
        recall: runs the pieces.
        limits: of the whole statement.
        held_back: independent units that a promise will be proved on.

    Raises:
        PlanError: OC0311, the SLO asks for what no search weighs; OC0322, nothing says what a right
            answer is, or no plan can run.
    """
    from .stats.meter import Meter, Stopped
    from .stats.plan_profile import PlanProfiler

    slo = searchable(bound.slo, held_back)
    with deferred():
        _load()  # before the clock starts: it is no profiling
    meter = Meter(
        recall,
        seconds=None if limits.seconds is None else SEARCH_SHARE * limits.seconds,
        usd=None if limits.usd is None else SEARCH_SHARE * limits.usd,
        price=limits.price,
        cancelled=limits.cancelled,
        clock=recall.clock,
    )
    seed = session.catalog.settings.seed
    profiler = PlanProfiler(request, meter, prefixes=recall, seed=seed)
    if _reads_accuracy(slo) and (why := profiler.unjudged()) is not None:
        raise PlanError(
            f"nothing says which answers of {bound.subject} are right: {why}",
            code="OC0322",
            hint="declare QUALITY and give LABELS (…), or a BASE variant of every model",
        )
    infos = steps(bound.body(SEARCH_ROWS))
    hunt = _Hunt(session, bound, request, infos, slo, profiler)
    ended: str | None = None
    try:
        while hunt.step():
            recall.flush()
    except Stopped as stop:
        cancelled = str(stop) == CANCELLED
        ended = CANCELLED if cancelled else "the search's half of the budget is used up"
    except KeyboardInterrupt:
        ended = CANCELLED
    return Found(
        hunt.narrowed(),
        (*hunt.told(ended), *hunt.notes, *_unprovable(bound.slo, held_back)),
        meter.spent_seconds,
        meter.usd,
        ended,
        hunt.history(),
    )


def _load() -> None:
    """Load the libraries of the search by a first use: they load a part of themselves only then."""
    import numpy as np

    from .planner.search.learned import acquisition, gp

    one, two = np.ones(1), np.eye(2)
    gp.fit(two[None], np.zeros(2), one, two)
    acquisition.improvement(one, one, 0.0)


def _unprovable(slo: Slo, held_back: int) -> Iterator[str]:
    """What no plan can be proved to meet on so few held-back units."""
    for c in slo.constraints:
        if c.metric != "accuracy" or c.confidence is None:
            continue
        if math.isinf(required_margin(held_back, c.limit, levels(c.confidence, 1))):
            yield (
                f"{held_back} held-back rows (or clusters) cannot prove accuracy >= {c.limit:g} "
                f"AT CONFIDENCE {c.confidence:g} of any plan: SAMPLE more"
            )


def _reads_accuracy(slo: Slo) -> bool:
    return "accuracy" in {slo.objective.metric, *(c.metric for c in slo.constraints)}


class _Hunt:
    """One search, with what cannot run taken out as it turns up."""

    def __init__(
        self,
        session: Session,
        bound: BoundAnalyze,
        request: Request,
        infos: Sequence[StepInfo],
        slo: Slo,
        profiler: PlanProfiler,
    ) -> None:
        self.session, self.bound, self.request = session, bound, request
        self.infos, self.slo, self.profiler = infos, slo, profiler
        self.notes: list[str] = []
        self.pricing = Pricing(
            {device.name: device for device in session.devices()},
            {v.full_name: v.price for v in session.catalog.variants() if v.price is not None},
        )
        self.costs = CostModel(
            statistics(session),
            self.pricing.devices,
            {variant.full_name: variant for variant in session.catalog.variants()},
        )
        self.choices = {key: list(each) for key, each in request.choices.items()}
        self._idle, self._reached = 0, math.inf
        self.without: set[tuple[str, Choice]] = set()
        self.evaluations: list[Evaluation] = []
        self.space = self._space()
        self.search = self._search()

    def _space(self) -> Space:
        """All plans of the choices that are left."""
        return space_of(
            self.infos, self.choices, self.slo, self.pricing, self.profiler.rows, self.costs,
            self.without, self.request.derivations, self._audited(),
        )  # fmt: skip

    def _audited(self) -> list[str]:
        """Derived variants that no ladder prunes: a seeded share."""
        from .stats.lineages import audited
        from .stats.strategy import DEFAULT

        seed = self.session.catalog.settings.seed
        return [v for v in self.request.derivations if audited(v, DEFAULT.audit, seed)]

    def _search(self) -> LearnedSearch:
        """A search over the space, warmed by histories, told all that was seen."""
        from .planner.search.learned.loop import LearnedSearch, Settings
        from .planner.search.similarity.warm_start import WarmStart, signature_of

        catalog = self.session.catalog
        histories = catalog.histories.similar(signature_of(self.space))
        seed = catalog.settings.seed
        self.prior = WarmStart(self.space, histories, seed) if histories else None
        search = LearnedSearch(
            self.space,
            self.slo,
            rows=self.profiler.units,
            seed=seed,
            settings=Settings(tolerance=TOLERANCE),
            prior=self.prior,
        )
        for one in self.evaluations:
            search.tell(one)
        return search

    def step(self) -> bool:
        """Profile one plan; False when nothing is worth its price any more."""
        from .stats.plan_profile import Broken

        patience = PATIENCE if self._reached < math.inf else HOPE * PATIENCE
        proposal = None if self._idle >= patience else self.search.ask()
        if proposal is None:
            return False
        self._tell_progress(proposal)
        try:
            seen = self.profiler.evaluate(self._named(proposal.assignment), proposal.rows)
        except Broken as broken:
            self._drop(broken)
            return True
        evaluation = evaluation_of(self.space, proposal.assignment, seen, self.pricing)
        self.evaluations.append(evaluation)
        self.search.tell(evaluation)
        self._wait()
        return True

    def _wait(self) -> None:
        """Count the evaluations since the plan it would return became better."""
        self._idle += 1
        incumbent, goal = self.search.incumbent(), self.slo.objective
        if incumbent is None:
            return
        value = incumbent.metrics[goal.metric]
        loss = -math.log(value) if goal.maximize else math.log(value)
        if loss < self._reached - TOLERANCE:
            self._idle, self._reached = 0, loss

    def _named(self, assignment: Sequence[int]) -> dict[str, Choice]:
        return {
            stage.key: stage.options[option]
            for stage, option in zip(self.space.stages, assignment, strict=True)
        }

    def _drop(self, broken: Broken) -> None:
        """Search on without a choice that cannot run here.

        Raises:
            PlanError: OC0322, its step has no other.
        """
        key, choice = broken.key, broken.choice
        if broken.sized:
            self.without.add((key, choice))
        else:
            gone = choice.replace(batch=1)
            self.choices[key] = [c for c in self.choices[key] if c != gone]
        where = f"at batch {choice.batch} on" if broken.sized else "on"
        self.notes.append(f"{key}: {choice.variant} cannot run {where} {choice.device}: {broken}")
        before, self.space = self.space, self._space()
        if not all(stage.options for stage in self.space.stages):
            raise PlanError(f"no choice of {key} can run", code="OC0322", notes=tuple(self.notes))
        moved = (_moved(one, before, self.space) for one in self.evaluations)
        self.evaluations = [one for one in moved if one is not None]
        self.search = self._search()

    # -- what came of it -----------------------------------------------------------------------

    def best(self) -> list[Candidate]:
        """The plan it would return, the best safe one, then the others of the frontier.

        Those more likely feasible first where it would return none; empty where no plan was
        profiled.
        """
        found = [*self.search.frontier()]
        incumbent = self.search.incumbent()
        if incumbent is None:
            return sorted(found, key=lambda candidate: -candidate.feasible)
        safe = [candidate for candidate in found if candidate.feasible >= SAFE][:1]
        ordered = [incumbent, *safe, *found]
        return list({candidate.assignment: candidate for candidate in ordered}.values())

    def narrowed(self) -> Request:
        """The request with the choices of the best plans; without choices where there are none."""
        kept: list[dict[str, Choice]] = []
        for candidate in self.best():
            plan = {k: c.replace(batch=1) for k, c in self._named(candidate.assignment).items()}
            ways = math.prod(len({p[key].made for p in [*kept, plan]}) for key in plan)
            if plan not in kept and ways <= MAX_ASSIGNMENTS:
                kept.append(plan)
            if len(kept) == FINISHED:
                break
        if not kept:
            return replace(self.request, choices={})
        choices = {key: tuple(dict.fromkeys(p[key] for p in kept)) for key in kept[0]}
        body = self.bound.body(SEARCH_ROWS)
        return replace(self.request, plan=body_plan(self.session, body, kept[0]), choices=choices)

    def history(self) -> History | None:
        """What was seen, for searches of other queries; None where that says nothing."""
        from .planner.search.similarity.warm_start import history_of

        if len({one.assignment for one in self.evaluations}) < 2:
            return None
        seen = history_of(self.space, slo_text(self.bound.slo), self.evaluations)
        return replace(seen, subject=self.bound.subject)

    def told(self, ended: str | None) -> tuple[str, ...]:
        """What the search did, and the plan it would return."""
        profiled = {one.assignment for one in self.evaluations}
        spent = self.profiler.meter
        lines = [
            f"searched {self.space.size:,} plans: {len(profiled)} profiled, "
            f"{spent.model_seconds:.2f} s of models, {spent.usd:.3g} USD"
        ]
        if self.prior is not None:
            lines += warming(self.prior, datetime.now(UTC))
        best = self.best()
        if best and self.search.incumbent() is None:
            lines.append("no plan is likely to meet the SLO; the most likely one is measured")
        if best:
            label = "best plan" if ended is None else "best plan so far"
            units = "rows" if self.request.clusters is None else "clusters"
            plan = advice_text(self._named(best[0].assignment))
            lines.append(f"{label}: {plan}; looked at on {best[0].rows} {units}")
        pruned = [one for one in self.search.pruned if one.assignment not in profiled]
        proving = any(c.confidence is not None for c in self.bound.slo.constraints)
        lines += pruning(pruned, self._named, proving=proving)
        if self.search.violated:
            lines.append(
                "a derived variant answers better than a milder one: ladders prune nothing"
            )
        return tuple(lines)

    def _tell_progress(self, proposal: Proposal) -> None:
        sink = self.session.environment().progress
        if sink is not None:
            names = ", ".join(c.variant for c in self._named(proposal.assignment).values())
            sink.update(len(self.evaluations), None, (f"SEARCH {names} on {proposal.rows} rows",))


def _moved(evaluation: Evaluation, before: Space, after: Space) -> Evaluation | None:
    """The same evaluation in a space with fewer options; None where one of its own is gone."""
    moved = []
    for old, new, option in zip(before.stages, after.stages, evaluation.assignment, strict=True):
        if old.options[option] not in new.options:
            return None
        moved.append(new.options.index(old.options[option]))
    return replace(evaluation, assignment=tuple(moved))
