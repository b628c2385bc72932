"""An accuracy AT CONFIDENCE: which plans are tested on held-back rows, in which order.

It is not taken from estimates: plans are handed, best first, to a prover. The search asks those
candidates for a margin above the threshold, so that the first test has a fair chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..cost.stages import StageCost
from ..errors import PlanError
from ..ir.estimates import Cost
from ..ir.physical import Choice
from ..ir.record import dataclass
from ..ir.slo import Constraint
from ..stats.promise import Proof, Search, levels, required_margin
from .explain.planned import constraint_text
from .objectives import limits_of
from .problem import PlanProblem
from .search.exact import Solution, solve
from .search.table import Assignment, Problem
from .steps import StepInfo

MAX_CANDIDATES = 8
"""Plans tested under one promise before giving up: each halves the level (our choice)."""


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


def candidate_of(problem: PlanProblem, assignment: Assignment) -> Candidate:
    """The plan of an assignment, with what it costs."""
    cost, steps = problem.cost(assignment)
    composition = problem.composition(assignment)
    return Candidate(assignment, problem.choices(assignment), cost, steps, composition)


@dataclass(frozen=True)
class Promise:
    """An accuracy AT CONFIDENCE and what it can be proved on.

    `units` counts independent held-back units, `tested` the tests made under it before; `known` is
    what they say of a candidate, None where it was not tested; `prove` takes candidates, best
    first, until one is accepted.
    """

    constraint: Constraint
    units: int
    tested: int
    known: Callable[[Candidate], Proof | None]
    prove: Callable[[Iterator[Candidate], int], Search[Candidate]]


Promises = Callable[[Constraint, Sequence[StepInfo]], Promise]
"""Finds what a constraint can be proved on; raises PlanError OC0316 where nothing can."""


def proved(problem: PlanProblem, promise: Promise) -> tuple[Candidate, Proof]:
    """The first candidate that is proved.

    Raises:
        PlanError: OC0315 none was proved.
    """
    search = promise.prove(_candidates(problem, promise), MAX_CANDIDATES)
    if search.accepted is not None and search.proof is not None:
        return search.accepted, search.proof
    raise _unproved(promise, search.proofs)


def next_proved(problem: PlanProblem, promise: Promise) -> Candidate:
    """The first candidate that was proved before, or the one before it that was not tested.

    Raises:
        PlanError: OC0315, all were tested, and none was proved.
    """
    failed: list[Proof] = []
    for candidate in _candidates(problem, promise):
        proof = promise.known(candidate)
        if proof is None or proof.accepted:
            return candidate
        failed.append(proof)
    raise _unproved(promise, failed)


def _unproved(promise: Promise, proofs: Sequence[Proof]) -> PlanError:
    """No plan could be proved; `proofs` say how the tests of it went."""
    tested = tuple(proof.text() for proof in proofs)
    text = constraint_text(promise.constraint)
    return PlanError(
        f"no plan could be proved to reach {text}",
        code="OC0315",
        notes=tested or ("no plan's estimate reaches it",),
        hint=(
            f"{promise.units} independent held-back rows (or clusters) are what there is: a lower "
            "limit can be proved on them, or ANALYZE a larger SAMPLE for a higher one"
        ),
    )


def _candidates(problem: PlanProblem, promise: Promise) -> Iterator[Candidate]:
    """Plans in the order they are worth testing: the best with a margin, then the most accurate.

    The margin is what a candidate needs above the threshold to pass its test with power 1/2; it
    grows with every test, because levels halve. No held-back result enters this order, and neither
    does the number of earlier tests: asked again, a query meets its own proofs in the same order
    and keeps its plan.
    """
    tried: list[Assignment] = []
    promised, most = promise.constraint, promise.tested + MAX_CANDIDATES
    confidence, threshold = promised.confidence or 0.0, promised.limit
    for test in range(1, most + 1):
        margin = required_margin(promise.units, threshold, levels(confidence, test))
        found = _with_accuracy(problem, promised, threshold + margin, tried)
        if found is None:
            found = _most_accurate(problem, tried)
        if found is None:
            return
        tried.append(problem.problem.classes(found))
        yield candidate_of(problem, found)


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
