"""From a bound query to a chosen physical plan: rewrite, tabulate, search, prove, lower.

The search is exact, so the plan chosen is the best there is under the point estimates; the frontier
beside it is certified within 1 + ε. An accuracy AT CONFIDENCE is not taken from estimates: plans
are handed, best first, to a prover that tests them on held-back rows. The search asks those
candidates for a margin above the threshold, so that the first test has a fair chance.

Error codes: OC0312 no plan meets the SLO; OC0315 no plan could be proved; OC0316 nothing to prove
it on; OC0317 advice that cannot be followed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace

from ..cost.provider import StatsProvider
from ..cost.stages import StageCost
from ..errors import PlanError
from ..ir.estimates import Cost, Estimate
from ..ir.logical import Apply, LogicalNode, Source
from ..ir.models import Device, Model, Variant
from ..ir.physical import Choice, PhysicalPlan
from ..ir.record import dataclass
from ..ir.slo import Constraint, Slo
from ..ir.types import names
from ..stats.promise import Proof, Search, levels, required_margin
from .advice import Item, Report, restrict
from .explain.planned import constraint_text
from .infeasible import InfeasibleSlo, infeasible
from .lower import lower
from .objectives import costless, limits_of
from .problem import Allow, Excluded, Missing, PlanProblem, build_problem
from .rewrite import TraceEntry, rewrite
from .rules import RuleContext
from .search.exact import Solution, solve
from .search.frontier import OBJECTIVES, Frontier, frontier
from .search.table import Assignment, Problem
from .sql import source_sql
from .steps import StepInfo
from .weights import Weights

EPSILON = 0.25
"""The certified slack of the frontier shown: a few dozen plans, each distinct enough to be worth
reading (our choice; the chosen plan itself is exact)."""

MAX_CANDIDATES = 8
"""Plans tested under one promise before giving up: each halves the level (our choice)."""


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
class Candidate:
    """A complete plan: a choice for every step, what it costs, and what each step does.

    `composition` says how its accuracy follows from what was measured.
    """

    assignment: Assignment
    choices: Mapping[str, Choice]
    cost: Cost
    steps: Mapping[str, StageCost]
    composition: str | None = None


@dataclass(frozen=True)
class PlannedQuery:
    """The chosen plan and what it was chosen from; `searched` is the frontier as it was found."""

    logical: LogicalNode
    physical: PhysicalPlan
    chosen: Candidate
    frontier: tuple[Candidate, ...]
    epsilon: float
    runner_up: Candidate | None
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


@dataclass(frozen=True)
class Promise:
    """An accuracy AT CONFIDENCE and what it can be proved on.

    `units` counts independent held-back units, `tested` the tests made under it before; `prove`
    takes candidates, best first, until one is accepted.
    """

    constraint: Constraint
    units: int
    tested: int
    prove: Callable[[Iterator[Candidate], int], Search[Candidate]]


Promises = Callable[[Constraint, Sequence[StepInfo]], Promise]
"""Finds what a constraint can be proved on; raises PlanError OC0316 where nothing can."""


def optimize(
    plan: LogicalNode,
    slo: Slo,
    known: Knowledge,
    *,
    on_error: str = "fail",
    advice: Sequence[Item] = (),
    promises: Promises | None = None,
) -> PlannedQuery:
    """Choose the best plan that meets the SLO.

    Args:
        plan: as bound.
        slo: constraints and objective.
        known: statistics and declarations.
        on_error: `fail`, `null` or `skip`; some rules depend on it.
        advice: narrows the choices; items that are impossible are reported, not obeyed.
        promises: finds the held-back rows of an accuracy AT CONFIDENCE.

    Raises:
        PlanError: no plan, see the module.
    """
    start = time.perf_counter()
    logical, trace = _rewritten(plan, known, on_error)
    problem, reports = _advised(logical, slo, known, advice, steady=on_error == "fail")
    promised = _promised(slo)
    proof: Proof | None = None
    if promised is not None and promises is not None:
        _best(problem)  # what no plan can reach is no question of rows
        chosen, proof = _proved(problem, promises(promised, problem.steps))
    else:
        chosen = _best(problem)
    ends = _frontier(problem.problem)
    return PlannedQuery(
        logical=logical,
        physical=lower(logical, chosen.choices, known.models, on_error),
        chosen=chosen,
        frontier=tuple(_candidate(problem, point.assignment) for point in ends.points),
        epsilon=ends.epsilon,
        runner_up=_runner_up(problem, chosen),
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
    """What `optimize` would choose; where an accuracy AT CONFIDENCE is asked, what it would test
    first."""

    problem: PlanProblem
    physical: PhysicalPlan
    chosen: Candidate
    runner_up: Candidate | None

    def priced(self, choices: Mapping[str, Choice]) -> Candidate | None:
        """Another plan by the same statistics, at the nearest batch sizes that were measured; None
        where one of its choices has no statistics."""
        nearest = {}
        for stage in self.problem.stages:
            own = choices[stage.step.key]
            alike = [c for c in stage.choices if c.made == own.made and c.device == own.device]
            if not alike:
                return None
            nearest[stage.step.key] = min(alike, key=lambda c: abs(math.log(c.batch / own.batch)))
        found = self.problem.assignment(nearest)
        return None if found is None else _candidate(self.problem, found)


def pick(plan: LogicalNode, slo: Slo, known: Knowledge, *, units: int) -> Pick:
    """The plan that `optimize` would choose, without a frontier and with nothing run to prove it.

    Args:
        plan: as bound.
        slo: constraints and objective.
        known: statistics and declarations.
        units: independent held-back rows that an accuracy AT CONFIDENCE would be proved on.

    Raises:
        PlanError: no plan, see the module.
    """
    logical, _ = _rewritten(plan, known, "fail")
    problem, _ = _advised(logical, slo, known, (), steady=True)
    promised = _promised(slo)
    chosen = _best(problem)
    if promised is not None:
        chosen = next(_candidates(problem, promised, units, 1), chosen)
    physical = lower(logical, chosen.choices, known.models, "fail")
    return Pick(problem, physical, chosen, _runner_up(problem, chosen))


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


def _candidate(problem: PlanProblem, assignment: Assignment) -> Candidate:
    cost, steps = problem.cost(assignment)
    composition = problem.composition(assignment)
    return Candidate(assignment, problem.choices(assignment), cost, steps, composition)


def _best(problem: PlanProblem) -> Candidate:
    """The proven optimum under the point estimates.

    Raises:
        PlanError: OC0312, no plan meets all constraints; says which bind and what is reachable.
    """
    solution = solve(problem.problem)
    if isinstance(solution, Solution):
        return _candidate(problem, solution.assignment)
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
    return _candidate(problem, other.assignment) if isinstance(other, Solution) else None


# --- promises -------------------------------------------------------------------------------------


def _proved(problem: PlanProblem, promise: Promise) -> tuple[Candidate, Proof]:
    """The first candidate that is proved.

    Raises:
        PlanError: OC0315 none was proved.
    """
    most = promise.tested + MAX_CANDIDATES
    candidates = _candidates(problem, promise.constraint, promise.units, most)
    search = promise.prove(candidates, MAX_CANDIDATES)
    if search.accepted is not None and search.proof is not None:
        return search.accepted, search.proof
    tested = tuple(proof.text() for proof in search.proofs)
    text = constraint_text(promise.constraint)
    raise PlanError(
        f"no plan could be proved to reach {text}",
        code="OC0315",
        notes=tested or ("no plan's estimate reaches it",),
        hint=(
            f"{promise.units} independent held-back rows (or clusters) are what there is: a lower "
            "limit can be proved on them, or ANALYZE a larger SAMPLE for a higher one"
        ),
    )


def _candidates(
    problem: PlanProblem, promised: Constraint, units: int, most: int
) -> Iterator[Candidate]:
    """Plans in the order they are worth testing: the best with a margin, then the most accurate.

    The margin is what a candidate needs above the threshold to pass its test with power 1/2; it
    grows with every test, because levels halve. No held-back result enters this order, and neither
    does the number of earlier tests: asked again, a query meets its own proofs in the same order
    and keeps its plan.
    """
    tried: list[Assignment] = []
    confidence, threshold = promised.confidence or 0.0, promised.limit
    for test in range(1, most + 1):
        margin = required_margin(units, threshold, levels(confidence, test))
        found = _with_accuracy(problem, promised, threshold + margin, tried)
        if found is None:
            found = _most_accurate(problem, tried)
        if found is None:
            return
        tried.append(problem.problem.classes(found))
        yield _candidate(problem, found)


def _with_accuracy(
    problem: PlanProblem, constraint: Constraint, least: float, tried: Sequence[Assignment]
) -> Assignment | None:
    """The best plan whose estimate reaches `least`."""
    if least > 1.0:
        return None
    tighter = tuple(
        c.replace(limit=least, confidence=None) if c == constraint else c
        for c in problem.slo.constraints
    )
    limits = limits_of(
        problem.slo.replace(constraints=tighter), problem.devices, problem.problem.stages
    )
    return _best_untried(replace(problem.problem, limits=limits), tried)


def _best_untried(problem: Problem, tried: Sequence[Assignment]) -> Assignment | None:
    """The best plan that was not tested yet."""
    found = solve(problem, forbidden=tried, explain=False)
    return found.assignment if isinstance(found, Solution) else None


def _most_accurate(problem: PlanProblem, tried: Sequence[Assignment]) -> Assignment | None:
    """The plan within the limits with the highest estimate."""
    goal = replace(problem.problem.goal, terms=("loss",), scale="loss")
    return _best_untried(replace(problem.problem, goal=goal), tried)


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
