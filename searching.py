"""ANALYZE … SEARCH joined together: the learned search asks, the profiler of plans answers.

    every choice × batch size ─▶ LearnedSearch ⇄ PlanProfiler ─▶ frontier ─▶ a `Request` with the
    choices of its best plans alone, which `profile` measures like any other

Histories of similar queries warm the search, and it leaves its own. It may spend `SEARCH_SHARE` of
a budget, as what it finds is worth nothing until it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .analyzing import SEARCH_ROWS
from .dsl.binder import BoundAnalyze
from .errors import PlanError
from .hunting import Hunt
from .interrupts import deferred
from .ir.physical import Choice
from .ir.record import dataclass
from .ir.slo import Slo
from .knowing import REST_OF_SEARCH
from .planner.explain.advice import advice_text
from .planner.rewrite import pruned
from .planner.search.space import searchable
from .planner.steps import steps
from .stats.promise import levels, required_margin

if TYPE_CHECKING:
    from .choosing import Looked
    from .session import Session
    from .stats.histories import History
    from .stats.meter import Stopped
    from .stats.observation import Observation
    from .stats.prefixes import Recall
    from .stats.profile import Limits, ProfileResult, Request
    from .stats.strategy import Strategy

SEARCH_SHARE = 0.5
"""Of a budget, what searching may take; measuring what was found takes the rest (our choice)."""
CANCELLED = "cancelled"
NOTHING_FITS = "the search's half of the budget allows no further look"


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        request: the choices worth measuring, the best plan's as reference; none where the search
            ended before anything was seen.
        notes: what it did and found, for the user.
        seconds: of profiling, wall; usd likewise.
        ended: why it ended early; None: nothing was worth its price any more.
        history: to be kept once the statement is done: a statement that died in between is to go on
            from where it was, not from what it leaves to others.
        first: the best plan alone, to be measured before the others where a budget ended the
            search; None: no budget did.
        looked: the plan it would return; None: it saw none.
        instead: the plan to be measured where a budget allowed none to be profiled.
    """

    request: Request
    notes: tuple[str, ...]
    seconds: float
    usd: float
    ended: str | None
    history: History | None
    first: Request | None = None
    looked: Looked | None = None
    instead: Mapping[str, Choice] | None = None

    def left(self, limits: Limits) -> Limits:
        """What measuring may take: nothing where nothing was found or the user has enough."""
        if not self.request.choices or self.ended == CANCELLED:
            return replace(limits, seconds=0.0)
        return replace(
            limits,
            seconds=None if limits.seconds is None else max(0.0, limits.seconds - self.seconds),
            usd=None if limits.usd is None else max(0.0, limits.usd - self.usd),
        )

    def begun(
        self, recall: Recall, limits: Limits, strategy: Strategy, keep: list[Observation]
    ) -> Found:
        """Measure the best plan where a budget is short: complete, if on few rows and one by one.

        Args:
            recall: runs the pieces.
            limits: of the whole statement.
            strategy: of measuring.
            keep: gets the observations.
        """
        from .stats.ladder import Policy
        from .stats.plan_profile import FIRST_UNITS
        from .stats.profile import profile

        if self.first is None:
            return self
        result = profile(
            self.first,
            recall,
            limits=self.left(limits),
            policy=Policy(max_batch=1, max_calls=3),
            strategy=replace(strategy, first_block=FIRST_UNITS, looks=1),
            keep=keep,
            clock=recall.clock,
            prefixes=recall,
        )
        return replace(self, seconds=self.seconds + result.seconds, usd=self.usd + result.usd)

    def joined(self, result: ProfileResult) -> ProfileResult:
        """What measuring found, with what was spent on the way to it."""
        return replace(
            result,
            notes=(*self.notes, *self._measured_instead(result), *result.notes),
            seconds=result.seconds + self.seconds,
            usd=result.usd + self.usd,
            stopped=self.ended or result.stopped,
            left_out=(
                *(() if self.ended is None else (REST_OF_SEARCH,)),
                *result.left_out,
            ),
        )

    def _measured_instead(self, result: ProfileResult) -> Iterator[str]:
        """What became of the plan to be measured instead of one profiled."""
        if self.instead is None:
            return
        timed = {(o.variant, o.knobs) for o in result.observations if o.metric == "latency"}
        plan = advice_text(self.instead)
        if all(choice.made in timed for choice in self.instead.values()):
            became = f"what was left measured one: {plan}"
        else:
            became = f"what was left did not suffice to measure one: {plan}"
        yield f"no plan could be profiled within the search's half of the budget; {became}"


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
    try:
        profiler = PlanProfiler(request, meter, prefixes=recall, seed=seed)
    except Stopped as stop:  # before the first row was read
        return Found(replace(request, choices={}), (), 0.0, 0.0, _ended(stop), None)
    if _reads_accuracy(slo) and (why := profiler.unjudged()) is not None:
        raise PlanError(
            f"nothing says which answers of {bound.subject} are right: {why}",
            code="OC0322",
            hint="declare QUALITY and give LABELS (…), or a BASE variant of every model",
        )
    infos = steps(pruned(bound.body(SEARCH_ROWS)))
    hunt = Hunt(session, bound, request, infos, slo, profiler)
    ended: str | None = None
    try:
        while hunt.step():
            recall.flush()
        ended = NOTHING_FITS if hunt.refused else None
    except Stopped as stop:
        ended = _ended(stop)
    except KeyboardInterrupt:
        ended = CANCELLED
    short = ended not in (None, CANCELLED)
    plans, notes, instead = hunt.plans(), [*hunt.told(), *hunt.notes], None
    if short and not plans:
        instead = hunt.cheapest()
        plans = [instead]
        notes += hunt.too_small(limits, SEARCH_SHARE)
    return Found(
        hunt.request_of(plans),
        (*notes, *_unprovable(bound.slo, held_back)),
        meter.spent_seconds,
        meter.usd,
        ended,
        hunt.history(),
        hunt.request_of(plans[:1]) if short else None,
        hunt.looked(),
        instead,
    )


def _ended(stop: Stopped) -> str:
    """Why the search ends."""
    from .stats.meter import Unaffordable

    if str(stop) == CANCELLED:
        return CANCELLED
    if isinstance(stop, Unaffordable):
        return NOTHING_FITS
    return "the search's half of the budget is used up"


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
