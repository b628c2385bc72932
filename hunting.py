"""One search for plans: what it asks is profiled, what cannot run or be afforded is taken out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .analyzing import SEARCH_ROWS, body_plan
from .choosing import Looked
from .cost.model import CostModel
from .dsl.binder import BoundAnalyze
from .errors import PlanError
from .ir.models import knobs_text
from .ir.physical import Choice
from .ir.slo import Slo
from .knowing import statistics
from .planner.explain.advice import advice_text
from .planner.explain.pruned import pruning
from .planner.explain.warmed import slo_text, warming
from .planner.search.protocol import PROFILE, Candidate, Evaluation, Proposal, Space
from .planner.search.space import Pricing, evaluation_of, space_of
from .planner.steps import StepInfo
from .stats.work import MAX_ASSIGNMENTS

if TYPE_CHECKING:
    from .planner.search.learned.loop import LearnedSearch
    from .session import Session
    from .stats.histories import History
    from .stats.plan_profile import PlanProfiler
    from .stats.plan_seen import Broken, TooDear
    from .stats.profile import Limits, Request

TOLERANCE = 0.01
"""Share of the objective below which an improvement that is expected is not looked for: times of a
few calls tell no less apart (our choice)."""
PATIENCE = 48
"""Evaluations after which a search that found nothing better by as much ends (our choice): without
a bound from the user it would go on for as long as some plan might be better."""
HOPE = 4
"""Times as many where no plan met the SLO yet: to meet it at all is worth more than to improve."""
SHOWN = 3
"""Choices left out for their price that are named."""
SAFE = 0.95
"""Chance to meet the SLO of a plan that is measured beside the one it would return: the plan that
looked best of hundreds may miss when all rows are seen (our choice)."""
TRIES = 8
"""Proposals in a row that the budget does not allow, after which the search ends (our choice)."""
LEAST_ROWS = 12
"""Rows' worth of calls that profiling a plan takes at least: the first block, and to be timed."""
FINISHED = 4
"""Plans of the frontier whose choices are measured (our choice): one is asked for, and the planner
chooses by statistics, not by the search's beliefs."""


class Hunt:
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
        self.broken: dict[tuple[str, str, str], tuple[list[int], str]] = {}
        self.pricing = Pricing(
            {device.name: device for device in session.devices()},
            {v.full_name: v.price for v in session.catalog.variants() if v.price is not None},
        )
        self.costs = CostModel(
            statistics(session, fresh=True),
            self.pricing.devices,
            {variant.full_name: variant for variant in session.catalog.variants()},
        )
        self.choices = {key: list(each) for key, each in request.choices.items()}
        self._idle, self._reached, self._refused = 0, math.inf, 0
        self.refused: dict[str, str] = {}
        self.without: set[tuple[str, Choice]] = set()
        self.evaluations: list[Evaluation] = []
        self.space = self._space()
        self.size = self.space.size
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
        from .planner.search.similarity.structure import signature_of
        from .planner.search.similarity.warm_start import WarmStart

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
        """Profile one plan; False when nothing is worth its price any more.

        Raises:
            Stopped: the budget allows nothing more, or the user has enough.
        """
        from .stats.plan_seen import Broken, TooDear

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
        except TooDear as dear:
            self._spare(dear)
            return True
        known = (len(e.scores) for e in self.evaluations if e.assignment == proposal.assignment)
        if len(seen.scores) <= max(known, default=0) and len(seen.scores) < proposal.rows:
            self._refuse(None)
            return True
        self._refused = 0
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

    @property
    def notes(self) -> tuple[str, ...]:
        """What cannot run, a line a variant, with the first reason."""
        return tuple(
            f"{key}: {variant} cannot run "
            + (f"at batch {', '.join(map(str, sorted(set(batches))))} " if batches else "")
            + f"on {device}: {why}"
            for (key, variant, device), (batches, why) in self.broken.items()
        )

    def _drop(self, broken: Broken) -> None:
        """Search on without a choice that cannot run here."""
        key, choice = broken.key, broken.choice
        at = (key, choice.variant, choice.device)
        batches, _ = self.broken.setdefault(at, ([], str(broken)))
        if broken.sized:
            self.without.add((key, choice))
            batches.append(choice.batch)
        else:
            gone = choice.replace(batch=1)
            self.choices[key] = [c for c in self.choices[key] if c != gone]
        self._rebuild()

    def _rebuild(self) -> None:
        """Search on in the space that is left.

        Raises:
            PlanError: OC0322, a step has no choice.
        """
        before, self.space = self.space, self._space()
        for stage in self.space.stages:
            if not stage.options:
                why = f"no choice of {stage.key} can run"
                raise PlanError(why, code="OC0322", notes=self.notes)
        moved = (_moved(one, before, self.space) for one in self.evaluations)
        self.evaluations = [one for one in moved if one is not None]
        self.search = self._search()

    def _spare(self, dear: TooDear) -> None:
        """Search on without what the budget does not allow, but for what was profiled already.

        Raises:
            TooDear: nothing else is left.
        """
        key, choice = dear.key, dear.choice
        place = next(at for at, stage in enumerate(self.space.stages) if stage.key == key)
        options = self.space.stages[place].options
        profiled = {options[one.assignment[place]] for one in self.evaluations}
        gone = {
            (key, option)
            for option in options
            if (option.made, option.device) == (choice.made, choice.device)
            and option not in profiled
            and (option.batch >= choice.batch or not dear.timed)
        }
        what = f"{key}: {choice.variant} on {choice.device}"
        self.refused[what] = f" at batch {choice.batch}: {dear}" if dear.timed else f": {dear}"
        if not gone or len(gone) == len(options):
            self._refuse(dear)
            return
        self.without |= gone
        self._rebuild()

    def _refuse(self, dear: TooDear | None) -> None:
        """Ask again: the next proposal may be cheaper.

        Raises:
            Unaffordable: so it was hoped often enough.
        """
        from .stats.meter import Unaffordable

        self._refused += 1
        if self._refused >= TRIES:
            raise dear or Unaffordable("no further rows fit")

    # -- what came of it -----------------------------------------------------------------------

    def best(self) -> list[Candidate]:
        """The plan it would return, the best safe one, then the others of the frontier.

        Where it would return none, those nearest to meeting the SLO first; empty where no plan was
        profiled.
        """
        found = [*self.search.frontier()]
        incumbent = self.search.incumbent()
        if incumbent is None:
            return sorted(found, key=lambda one: (self._missed(one), -one.feasible))
        safe = [candidate for candidate in found if candidate.feasible >= SAFE][:1]
        ordered = [incumbent, *safe, *found]
        return list({candidate.assignment: candidate for candidate in ordered}.values())

    def _missed(self, candidate: Candidate) -> float:
        """By how much a plan is believed to miss its limits, as a share in logs, all together.

        The chance to meet them tells hopeless plans apart by how sure one is of them, not by how
        near they come (our choice).
        """
        return math.fsum(
            max(
                0.0,
                math.log(c.limit / candidate.metrics[c.metric]) * (1 if c.operator == ">=" else -1),
            )
            for c in self.slo.constraints
        )

    def plans(self) -> list[dict[str, Choice]]:
        """The best plans, as many as are measured, at batch size 1; none where none was seen."""
        kept: list[dict[str, Choice]] = []
        for candidate in self.best():
            plan = {k: c.replace(batch=1) for k, c in self._named(candidate.assignment).items()}
            ways = math.prod(len({p[key].made for p in [*kept, plan]}) for key in plan)
            if plan not in kept and ways <= MAX_ASSIGNMENTS:
                kept.append(plan)
            if len(kept) == FINISHED:
                break
        return kept

    def cheapest(self) -> dict[str, Choice]:
        """Where no plan was profiled: of every step what took least; where none ran, the first."""
        seen = self._row_seconds()
        return {
            key: min(choices, key=lambda choice: seen.get((key, choice), math.inf))
            for key, choices in self.choices.items()
        }

    def _row_seconds(self) -> dict[tuple[str, Choice], float]:
        """Of every choice that was called, at batch size 1, what a row took."""
        calls = self.profiler.calls.row_seconds()
        return {
            (key, choice): calls[at]
            for key, choices in self.choices.items()
            for choice in choices
            if (at := (key, choice.made, choice.device)) in calls
        }

    def request_of(self, plans: Sequence[dict[str, Choice]]) -> Request:
        """The request with the choices of these plans; without choices where there are none."""
        if not plans:
            return replace(self.request, choices={})
        choices = {key: tuple(dict.fromkeys(p[key] for p in plans)) for key in plans[0]}
        body = self.bound.body(SEARCH_ROWS)
        return replace(self.request, plan=body_plan(self.session, body, plans[0]), choices=choices)

    def history(self) -> History | None:
        """What was seen, for searches of other queries and for prices; None where nothing was.

        What was called and is in no plan profiled counts by the seconds of a row alone.
        """
        from .planner.search.similarity.warm_start import history_of
        from .stats.histories import Option

        found = history_of(self.space, slo_text(self.bound.slo), self.evaluations)
        options = []
        for stage, known in zip(self.space.stages, found.options, strict=True):
            profiled = {option.choice.replace(batch=1) for option in known}
            called = (
                Option(choice, {PROFILE: seconds})
                for (key, choice), seconds in self._row_seconds().items()
                if key == stage.key and choice not in profiled
            )
            options.append((*known, *called))
        if not any(options):
            return None
        return replace(
            found, options=tuple(options), subject=self.bound.subject, run=self.request.run
        )

    def too_small(self, limits: Limits, share: float) -> Iterator[str]:
        """What is said of a budget a share of which cannot suffice for a single plan."""
        plan, seen = self.cheapest(), self._row_seconds()
        if not all(item in seen for item in plan.items()):
            return
        took = {key: seen[key, choice] * LEAST_ROWS / share for key, choice in plan.items()}
        usd_for, rows = self.profiler.meter.usd_for, round(LEAST_ROWS / share)
        usd = math.fsum(usd_for(key, plan[key], s, rows) or 0.0 for key, s in took.items())
        seconds = math.fsum(took.values())
        needed = []
        if limits.seconds is not None and seconds > limits.seconds:
            needed.append(f"{seconds:.2g} s")
        if limits.usd is not None and usd > limits.usd:
            needed.append(f"{usd:.2g} USD")
        if needed:
            yield (
                f"this budget is too small: by the calls seen, about {' and '.join(needed)} are "
                f"needed to profile {advice_text(plan)} alone"
            )

    def looked(self) -> Looked | None:
        """The plan it would return; None where none was profiled."""
        best = self.best()[:1]
        units = "rows" if self.request.clusters is None else "clusters"
        return Looked(self._named(best[0].assignment), best[0].rows, units) if best else None

    def told(self) -> tuple[str, ...]:
        """What the search did."""
        profiled = {one.assignment for one in self.evaluations}
        spent = self.profiler.meter
        lines = [
            f"searched {self.size:,} plans: {len(profiled)} profiled, "
            f"{spent.model_seconds:.2f} s of models, {spent.usd:.3g} USD"
        ]
        if self.prior is not None:
            lines += warming(self.prior, datetime.now(UTC))
        if self.evaluations and self.search.incumbent() is None:
            lines.append("no plan is likely to meet the SLO; the nearest to it is measured")
        pruned = [one for one in self.search.pruned if one.assignment not in profiled]
        proving = any(c.confidence is not None for c in self.bound.slo.constraints)
        lines += pruning(pruned, self._named, self._failed, proving=proving)
        lines += [
            f"left out of the search: {what}{why}" for what, why in [*self.refused.items()][:SHOWN]
        ]
        if len(self.refused) > SHOWN:
            lines.append(f"left out likewise: {len(self.refused) - SHOWN} more")
        if self.search.violated:
            lines.append(
                "a derived variant answers better than a milder one: ladders prune nothing"
            )
        return tuple(lines)

    def _failed(self, key: str, choice: Choice) -> float:
        """The share of its elements that a choice fails on: as seen here, or known before."""
        context = next(info.context for info in self.infos if info.key == key)
        knobs = knobs_text(choice.knobs)
        known = self.costs.stats.failure(context, choice.variant, knobs, choice.device)
        return max(self.profiler.failed(key, choice), 0.0 if known is None else known.value)

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
