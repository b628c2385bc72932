"""One search on one environment, timed: what it had spent when its incumbent was first good.

Response time is the virtual seconds that profiling took plus the seconds of CPU time inside `ask`,
`tell` and `incumbent`. A race's process has one thread, so that on an idle machine CPU time is the
time on the clock; and on a busy one it hardly moves. Whether an incumbent is good is decided by the
truth, never by what was measured.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, Protocol

from octans.ir.slo import Slo
from octans.planner.search.protocol import (
    Assignment,
    Candidate,
    Evaluation,
    Proposal,
    Space,
)

NEAR = 0.05
"""Within this share of the best truly feasible plan's objective."""
CONFIDENCE = 0.95
"""Of a plan declared feasible, where the SLO names none."""
PRICED = 5
"""Random plans whose profiling gives the budget its unit."""

Target = Literal["feasible", "near"]
TARGETS: tuple[Target, ...] = ("feasible", "near")
End = Literal["near", "done", "budget", "stopped"]
"""It got there, asked for nothing more, had spent its budget, or the CPU time it was allowed."""


class Profiler(Protocol):
    """One search's evaluator; `seconds` and `usd` are spent so far, virtual."""

    seconds: float
    usd: float

    def evaluate(self, proposal: Proposal) -> Evaluation:
        """Profile a plan."""


class Environment(Protocol):
    """A workload's draw for a seed."""

    name: str
    space: Space
    slo: Slo
    rows: int
    best: float

    def truth(self, assignment: Assignment) -> Mapping[str, float]:
        """What the plan truly does."""

    def meets(self, assignment: Assignment) -> bool:
        """Does it truly meet every limit?"""

    def held_back(self, assignment: Assignment) -> Sequence[float]:
        """Scores on rows that no search profiles on."""

    def profiler(self, *, reuse: bool = True) -> Profiler:
        """A fresh evaluator."""


class Racer(Protocol):
    """The part of `PlanSearch` that a race needs."""

    def ask(self) -> Proposal | None:
        """What to profile next."""

    def tell(self, evaluation: Evaluation) -> None:
        """Learn from it."""

    def incumbent(self) -> Candidate | None:
        """The plan it would return now."""


@dataclass(frozen=True)
class Spent:
    """Response seconds, virtual seconds and USD of profiling."""

    seconds: float = 0.0
    profiling: float = 0.0
    usd: float = 0.0

    def scaled(self, factor: float) -> Spent:
        """All of it, so many times."""
        return Spent(self.seconds * factor, self.profiling * factor, self.usd * factor)


@dataclass(frozen=True)
class Race:
    """What came of it.

    Attributes:
        feasible: spent when the incumbent first truly met the SLO; None: never.
        near: spent when it first did so within `NEAR` of the best.
        spent: at the end.
        budget: response seconds.
        end: why it ended.
        plans: evaluations.
        ms: median milliseconds of CPU time of an ask and its tell.
        trace: (profiling seconds, regret) when the incumbent changed; the regret of a plan is its
            true objective ÷ the best one's, less 1; None where it truly misses the SLO.
        believed: plans believed feasible at confidence, each once: does it truly meet the SLO?
        declared: does the plan that was proved at the end, see `proofs`, truly meet the SLO? None
            where none was proved, or the search has no frontier to prove.
    """

    feasible: Spent | None
    near: Spent | None
    spent: Spent
    budget: float
    end: End
    plans: int
    ms: float
    trace: tuple[tuple[float, float | None], ...]
    believed: tuple[bool, ...]
    declared: bool | None = None

    def at(self, target: Target, *, whole: bool = False) -> Spent:
        """Spent when the target was reached; of a search that never did, at the budget.

        A search that ended before its budget without getting there is charged the whole budget at
        its own rates. One that was stopped is charged what it had spent, which favours it; if
        `whole`, the whole budget too: our own search must not gain from being slow.
        """
        found = self.feasible if target == "feasible" else self.near
        if found is not None:
            return found
        if not self.spent.seconds or not (whole or self.end == "done"):
            return self.spent
        return self.spent.scaled(max(self.budget / self.spent.seconds, 1.0))

    def reached(self, target: Target) -> bool:
        """Did it get there?"""
        return (self.feasible if target == "feasible" else self.near) is not None


def budget(environment: Environment, plans: float) -> float:
    """Seconds that profiling so many plans afresh on all rows takes: the median of a few random."""
    rng = random.Random(0)
    found = []
    for _ in range(PRICED):
        plan = tuple(rng.randrange(len(stage.options)) for stage in environment.space.stages)
        profiler = environment.profiler()
        profiler.evaluate(Proposal(plan, environment.rows))
        found.append(profiler.seconds)
    return plans * median(found)


def regret(environment: Environment, assignment: Assignment) -> float | None:
    """The true objective's distance from the best, as a share; None: the SLO is truly missed."""
    if not environment.meets(assignment):
        return None
    goal = environment.slo.objective
    value = environment.truth(assignment)[goal.metric]
    ratio = environment.best / value if goal.maximize else value / environment.best
    return ratio - 1.0


def confidence(slo: Slo) -> float:
    """What a plan declared feasible must reach."""
    asked = [c.confidence for c in slo.constraints if c.confidence is not None]
    return max(asked, default=CONFIDENCE)


class _Watch:
    """Follows one search's incumbents by the truth."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._confidence = confidence(environment.slo)
        self.first: dict[Target, Spent] = {}
        self.trace: list[tuple[float, float | None]] = []
        self.believed: dict[Assignment, bool] = {}

    def see(self, incumbent: Candidate | None, spent: Spent) -> None:
        """Take in what the search would return now."""
        if incumbent is None:
            return
        found = regret(self._environment, incumbent.assignment)
        if not self.trace or self.trace[-1][1] != found:
            self.trace.append((spent.profiling, found))
        if incumbent.feasible >= self._confidence:
            self.believed[incumbent.assignment] = found is not None
        if found is not None:
            self.first.setdefault("feasible", spent)
            if found <= NEAR + 1e-12:
                self.first.setdefault("near", spent)


def race(
    environment: Environment,
    search: Racer,
    seconds: float,
    *,
    cpu: float = math.inf,
    to_end: bool = False,
    reuse: bool = True,
    searching: float = 0.0,
) -> Race:
    """Let a search run until it is near the best, or has spent its budget.

    Args:
        environment: what it searches on.
        search: fresh.
        seconds: budget of response time.
        cpu: seconds of CPU time, of search and of the simulation, after which it is stopped.
        to_end: go on when it has come near, until it asks for nothing more.
        reuse: its evaluator computes no prefix twice.
        searching: seconds of CPU time that making the search took.
    """
    profiler = environment.profiler(reuse=reuse)
    watch = _Watch(environment)
    laps: list[float] = []
    began = time.process_time()
    end: End = "done"
    while True:
        started = time.process_time()
        proposal = search.ask()
        asked = time.process_time() - started
        searching += asked
        if proposal is None:
            break
        evaluation = profiler.evaluate(proposal)
        started = time.process_time()
        search.tell(evaluation)
        laps.append(asked + time.process_time() - started)
        incumbent = search.incumbent()
        searching += time.process_time() - started
        spent = Spent(profiler.seconds + searching, profiler.seconds, profiler.usd)
        watch.see(incumbent, spent)
        if "near" in watch.first and not to_end:
            end = "near"
            break
        if spent.seconds >= seconds:
            end = "budget"
            break
        if time.process_time() - began >= cpu:
            end = "stopped"
            break
    return Race(
        watch.first.get("feasible"),
        watch.first.get("near"),
        Spent(profiler.seconds + searching, profiler.seconds, profiler.usd),
        seconds,
        end,
        len(laps),
        1000.0 * median(laps) if laps else 0.0,
        tuple(watch.trace),
        tuple(watch.believed.values()),
    )


def race_from(stored: Mapping[str, Any]) -> Race:
    """A race as `dataclasses.asdict` and JSON leave it."""
    spent = {
        name: None if stored[name] is None else Spent(**stored[name])
        for name in ("feasible", "near", "spent")
    }
    trace: Sequence[Sequence[Any]] = stored["trace"]
    return Race(
        **{
            **stored,
            **spent,
            "trace": tuple((at, value) for at, value in trace),
            "believed": tuple(stored["believed"]),
        }
    )
