"""From a bound query to a chosen physical plan: rewrite, tabulate, search, prove, lower.

The search is exact, so the plan chosen is the best there is under the point estimates; the frontier
beside it is certified within 1 + ε. An accuracy AT CONFIDENCE is proved, see `promises`.

Error codes: OC0312 no plan meets the SLO; OC0315 no plan could be proved; OC0316 nothing to prove
it on; OC0317 advice that cannot be followed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace

from ..cost.provider import StatsProvider
from ..errors import PlanError
from ..ir.estimates import Estimate
from ..ir.logical import Apply, LogicalNode, Source
from ..ir.models import Device, Model, Variant
from ..ir.physical import Cascade, Choice, PhysicalPlan
from ..ir.record import dataclass
from ..ir.slo import Constraint, Slo
from ..ir.types import names
from ..stats.promise import Proof
from .advice import Item, Report, restrict
from .explain.planned import constraint_text
from .infeasible import InfeasibleSlo, infeasible
from .keeping import Before, kept
from .lower import lower
from .objectives import costless
from .problem import Allow, Excluded, Missing, PlanProblem, build_problem
from .promises import Candidate, Promise, Promises, candidate_of, next_proved, proved
from .rewrite import TraceEntry, rewrite
from .rules import RuleContext
from .search.exact import Solution, solve
from .search.frontier import OBJECTIVES, Frontier, frontier
from .search.table import Problem
from .sql import source_sql
from .weights import Weights

EPSILON = 0.25
"""The certified slack of the frontier shown: a few dozen plans, each distinct enough to be worth
reading (our choice; the chosen plan itself is exact)."""


@dataclass(frozen=True)
class Knowledge:
    """What the planner knows: statistics, declarations, and how to ask for rows.

    `rows` estimates the rows of a query DuckDB runs alone; `unavailable` says why a variant cannot
    run here at all.
    """

    stats: StatsProvider
    models: Mapping[str, Model]
    variants: Mapping[str, Sequence[Variant]]
    devices: Sequence[Device]
    rows: Callable[[str], Estimate | None] = lambda sql: None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    disabled_rules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PlannedQuery:
    """The chosen plan and what it was chosen from; `searched` is the frontier as it was found.

    Where the plan of before was kept, see `keeping`, `better` is the best one.
    """

    logical: LogicalNode
    physical: PhysicalPlan
    chosen: Candidate
    frontier: tuple[Candidate, ...]
    epsilon: float
    runner_up: Candidate | None
    better: Candidate | None
    slo: Slo
    problem: PlanProblem
    trace: tuple[TraceEntry, ...]
    advice: tuple[Report, ...]
    proof: Proof | None
    seconds: float
    searched: Frontier

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Variants never measured, which were therefore not chosen."""
        return self.problem.missing

    @property
    def excluded(self) -> tuple[Excluded, ...]:
        """Choices left out, with reasons."""
        return self.problem.excluded


def optimize(
    plan: LogicalNode,
    slo: Slo,
    known: Knowledge,
    *,
    on_error: str = "fail",
    advice: Sequence[Item] = (),
    promises: Promises | None = None,
    before: Before | None = None,
) -> PlannedQuery:
    """Choose the best plan that meets the SLO, or keep the one of before: see `keeping`.

    Args:
        plan: as bound.
        slo: constraints and objective.
        known: statistics and declarations.
        on_error: `fail`, `null` or `skip`; some rules depend on it.
        advice: narrows the choices; items that are impossible are reported, not obeyed.
        promises: finds the held-back rows of an accuracy AT CONFIDENCE.
        before: what the query ran with last.

    Raises:
        PlanError: no plan, see the module.
    """
    start = time.perf_counter()
    logical, trace = _rewritten(plan, known, on_error)
    problem, reports = _advised(logical, slo, known, advice, steady=on_error == "fail")
    promised = _promised(slo)
    proof: Proof | None = None
    better: Candidate | None = None
    chosen = _best(problem)  # what no plan can reach is no question of rows either
    if promised is not None and promises is not None:
        chosen, proof = proved(problem, promises(promised, problem.steps))
    physical = lower(logical, chosen.choices, known.models, on_error)
    if proof is None and before is not None and before.fingerprint != physical.fingerprint:
        same = kept(problem, chosen, before.advice)
        if same is not None:
            again = lower(logical, same.choices, known.models, on_error)
            if again.fingerprint == before.fingerprint:
                chosen, better, physical = same, chosen, again
    ends = _frontier(problem.problem)
    return PlannedQuery(
        logical=logical,
        physical=physical,
        chosen=chosen,
        frontier=tuple(candidate_of(problem, point.assignment) for point in ends.points),
        epsilon=ends.epsilon,
        runner_up=_runner_up(problem, chosen),
        better=better,
        slo=slo,
        problem=problem,
        trace=trace,
        advice=reports,
        proof=proof,
        seconds=time.perf_counter() - start,
        searched=ends,
    )


@dataclass(frozen=True)
class Pick:
    """What `optimize` would choose; where a `promise` is asked and the plan was not tested for it,
    what it would test next."""

    problem: PlanProblem
    physical: PhysicalPlan
    chosen: Candidate
    runner_up: Candidate | None
    promise: Promise | None

    def tested(self, plan: Candidate) -> Proof | None:
        """What an earlier test of the promise says of a plan; None where there was none."""
        return None if self.promise is None else self.promise.known(plan)

    def priced(self, choices: Mapping[str, Choice]) -> Candidate | None:
        """Another plan by the same statistics, at the nearest batch sizes that were measured, and
        thresholds of cascades; None where one of its choices has no statistics."""
        nearest = {key: self.nearest(key, choice) for key, choice in choices.items()}
        known = {key: choice for key, choice in nearest.items() if choice is not None}
        if len(known) < len(nearest):
            return None
        found = self.problem.assignment(known)
        return None if found is None else candidate_of(self.problem, found)

    def nearest(self, key: str, own: Choice) -> Choice | None:
        """Of a step's options the one of the same members and device that is most like a choice."""
        (stage,) = (stage for stage in self.problem.stages if stage.step.key == key)
        made = [member.made for member in own.members]
        alike = (
            option
            for option in stage.choices
            if [m.made for m in option.members] == made and option.device == own.device
        )
        return min(alike, key=lambda option: _distance(option, own), default=None)


def _distance(option: Choice, own: Choice) -> tuple[float, float]:
    """Of thresholds, then of batch sizes; between choices of the same members."""
    thresholds = (c.thresholds if isinstance(c, Cascade) else () for c in (option, own))
    apart = math.fsum(abs(a - b) for a, b in zip(*thresholds, strict=True))
    return apart, abs(math.log(option.batch / own.batch))


def pick(plan: LogicalNode, slo: Slo, known: Knowledge, promises: Promises) -> Pick:
    """The plan that `optimize` would choose, without a frontier and with nothing run to prove it:
    by the tests made before, it is one that passed or the first that none was made of.

    Args:
        plan: as bound.
        slo: constraints and objective.
        known: statistics and declarations.
        promises: finds the held-back rows of an accuracy AT CONFIDENCE.

    Raises:
        PlanError: no plan, see the module.
    """
    logical, _ = _rewritten(plan, known, "fail")
    problem, _ = _advised(logical, slo, known, (), steady=True)
    promised = _promised(slo)
    chosen, promise = _best(problem), None
    if promised is not None:
        promise = promises(promised, problem.steps)
        chosen = next_proved(problem, promise)
    physical = lower(logical, chosen.choices, known.models, "fail")
    return Pick(problem, physical, chosen, _runner_up(problem, chosen), promise)


def _rewritten(
    plan: LogicalNode, known: Knowledge, on_error: str
) -> tuple[LogicalNode, tuple[TraceEntry, ...]]:
    """The plan after the rules, and what they did."""
    context = RuleContext(
        models=known.models,
        stats=Weights(known.stats, known.variants, known.devices),
        on_error=on_error,
        disabled=known.disabled_rules,
    )
    return rewrite(plan, context)


def _promised(slo: Slo) -> Constraint | None:
    """The constraint AT CONFIDENCE.

    Raises:
        PlanError: OC0316, there are several, or it is on one model: no test here proves that.
    """
    found = [c for c in slo.constraints if c.confidence is not None]
    if len(found) > 1 or any(c.model is not None for c in found):
        raise PlanError(
            "one accuracy of the whole can be promised, not "
            + " and ".join(constraint_text(c) for c in found),
            code="OC0316",
            hint="keep AT CONFIDENCE on one constraint; the others hold by their estimates",
        )
    return found[0] if found else None


def _advised(
    logical: LogicalNode, slo: Slo, known: Knowledge, advice: Sequence[Item], *, steady: bool
) -> tuple[PlanProblem, tuple[Report, ...]]:
    """The problem, narrowed to what the advice leaves.

    `steady` leaves out choices that failed when measured; where a step has no other, they stay, and
    are noted.
    """
    rows = source_rows(logical, known)

    def build(allow: Allow | None) -> PlanProblem:
        return build_problem(
            logical,
            slo=slo,
            stats=known.stats,
            models=known.models,
            variants=known.variants,
            devices=known.devices,
            rows=rows,
            unavailable=known.unavailable,
            allow=allow,
            steady=steady,
        )

    try:
        problem = build(None)
    except PlanError:
        if not steady:
            raise
        return _advised(logical, slo, known, advice, steady=False)
    if not advice:
        return problem, ()
    allow, reports = restrict(problem, advice)
    return build(allow), reports


def source_rows(logical: LogicalNode, known: Knowledge) -> Estimate | None:
    """Rows entering the first model stage: those of the largest source below a call."""
    found: list[Estimate] = []
    for node in logical.postorder():
        below = node.input if isinstance(node, Apply) else None
        while below is not None and not isinstance(below, Source | Apply) and below.children:
            below = below.children[0]  # type: ignore[assignment]
        if isinstance(below, Source):
            whole = below.replace(limit=None, offset=0)
            columns = frozenset(names(whole.schema))
            rows = known.rows(source_sql(whole, columns))
            if rows is not None and whole.predicates:
                # DuckDB guesses what a filter keeps; it keeps no more than there is.
                base = known.rows(source_sql(whole.replace(predicates=()), columns))
                rows = replace(rows, high=rows.high if base is None else base.high)
            if rows is not None:
                found.append(_limited(rows, below))
    return max(found, key=lambda rows: rows.value, default=None)


def _limited(rows: Estimate, source: Source) -> Estimate:
    """What LIMIT and OFFSET leave."""
    most = math.inf if source.limit is None else float(source.limit)
    left = [min(max(n - source.offset, 0.0), most) for n in (rows.value, rows.low, rows.high)]
    return replace(rows, value=left[0], low=left[1], high=left[2])


def _best(problem: PlanProblem) -> Candidate:
    """The proven optimum under the point estimates.

    Raises:
        PlanError: OC0312, no plan meets all constraints; says which bind and what is reachable.
    """
    solution = solve(problem.problem)
    if isinstance(solution, Solution):
        return candidate_of(problem, solution.assignment)
    raise infeasible(problem, solution)


def _frontier(problem: Problem) -> Frontier:
    """The frontier; of slot-seconds where nothing costs anything."""
    cost, *others = OBJECTIVES
    first = "busy" if costless(problem.stages) else cost
    return frontier(problem, EPSILON, (first, *others))


def _runner_up(problem: PlanProblem, chosen: Candidate) -> Candidate | None:
    """The best plan that meets the SLO with another variant or knob somewhere."""
    classes = problem.problem.classes(chosen.assignment)
    other = solve(problem.problem, forbidden=(classes,), explain=False)
    return candidate_of(problem, other.assignment) if isinstance(other, Solution) else None


__all__ = [
    "EPSILON",
    "Candidate",
    "InfeasibleSlo",
    "Knowledge",
    "Pick",
    "PlannedQuery",
    "Promise",
    "Promises",
    "optimize",
    "pick",
]
