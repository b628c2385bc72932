"""What a search over plans is run against: the truth of every plan, and a profiler with a clock.

An `Environment` is a workload's draw for a seed, shared by all searches; each profiles with a
`Profiler` of its own, on a virtual clock. A stage's outputs on a row under a prefix of classes (of
the stages it depends on) are computed once and then free. Device and batch do not change outputs,
but an option not timed before runs `TIMING_CALLS` calls of its batch when all its rows are there
(as many as the rows fill, where that is less) or none of them comes to it. Loading a class on a
device costs its seconds the first time. Seconds of profiling add up, as those of one worker (our
choice, the same for all searches); USD are seconds at the device's price and fees.

What was measured differs from the truth by the rows it was measured on and by a lognormal noise of
3 % on every call, averaged over all calls of an option so far. It is the measuring's, not the
thing's: the truth has none. The noise of a run follows from the seed, the option, what is before it
and the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from octans.ir.slo import Slo
from octans.planner.search.protocol import Assignment, Evaluation, Proposal, Space

from .best import best_plan
from .world import Floats, World

NOISE = 0.03
TIMING_CALLS = 3
MOST_DRAWS = 1000
"""Calls whose noise is drawn one by one; the mean over more differs from 1 by next to nothing."""


class Environment:
    """One instance; immutable.

    Attributes:
        name: of the workload.
        space: every plan, nothing known of any.
        slo: limits on accuracy and dims, and what to minimise.
        rows: of the sample a search may profile on.
        best: true objective of the best plan that truly meets the SLO.
        best_assignment: that plan.
    """

    def __init__(self, name: str, world: World, slo: Slo, seed: int, accuracy: Floats) -> None:
        self.name, self.world, self.slo, self.seed = name, world, slo, seed
        self.space: Space = world.space
        self.rows = world.rows
        self.best_assignment, self.best = best_plan(world, slo, accuracy)
        self._accuracy: dict[Assignment, float] = {}

    def truth(self, assignment: Assignment) -> Mapping[str, float]:
        """`accuracy` and every dim: what the plan truly does, on the rows of the truth."""
        world, classes = self.world, self.world.class_of(assignment)
        if classes not in self._accuracy:
            self._accuracy[classes] = world.accuracy(classes)
        stages = [
            {dim: float(table[world.given(k, classes), option]) for dim, table in numbers.items()}
            for k, (option, numbers) in enumerate(zip(assignment, world.true_numbers, strict=True))
        ]
        return {"accuracy": self._accuracy[classes], **composed(world, assignment, stages)}

    def meets(self, assignment: Assignment) -> bool:
        """Does it truly meet every limit?"""
        truth = self.truth(assignment)
        return all(c.allows(truth[c.metric]) for c in self.slo.constraints)

    def held_back(self, assignment: Assignment) -> list[float]:
        """Scores on a third as many rows as the sample has, that no search profiles on.

        They are drawn from the rows of the truth by the seed, the same for every plan: ANALYZE
        holds back a quarter of what it drew.
        """
        world = self.world
        count = min(self.rows // 3, world.truth_rows)
        places = np.random.default_rng(self.seed).choice(world.truth_rows, count, replace=False)
        return [float(score) for score in world.truth_scores(world.class_of(assignment))[places]]

    def profiler(self, *, reuse: bool = True) -> Profiler:
        """A new clock, nothing computed, nothing loaded."""
        return Profiler(self, reuse)


def composed(
    world: World, assignment: Assignment, stages: list[dict[str, float]]
) -> dict[str, float]:
    """Dims of a plan from those of its stages."""
    sums = {dim: sum(stage[dim] for stage in stages) for dim in world.sums}
    return sums | {
        dim: world.path(assignment, [stage[dim] for stage in stages]) for dim in world.paths
    }


@dataclass
class _Timing:
    """Calls of an option so far and the sum of their noise factors."""

    calls: int = 0
    noise: float = 0.0

    @property
    def factor(self) -> float:
        return self.noise / self.calls


@dataclass
class _Spent:
    """What a stage of one evaluation took."""

    dims: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    usd: float = 0.0


class Profiler:
    """One search's evaluator; `seconds` and `usd` are what it has spent."""

    def __init__(self, environment: Environment, reuse: bool) -> None:
        self.seconds = self.usd = 0.0
        self._environment, self._reuse = environment, reuse
        self._computed: dict[tuple[int, Assignment], int] = {}
        self._loaded: set[tuple[int, int, int]] = set()
        self._timings: dict[tuple[int, int], _Timing] = {}
        self._scores: dict[Assignment, np.ndarray] = {}

    def evaluate(self, proposal: Proposal) -> Evaluation:
        """Profile a plan on the first rows of the sample."""
        environment, world = self._environment, self._environment.world
        assignment = tuple(proposal.assignment)
        classes = world.class_of(assignment)
        rows = max(1, min(proposal.rows, environment.rows))
        spent = [self._stage(k, assignment, classes, rows) for k in range(len(assignment))]
        if classes not in self._scores:
            self._scores[classes] = world.scores(classes)
        seconds, usd = sum(s.seconds for s in spent), sum(s.usd for s in spent)
        self.seconds += seconds
        self.usd += usd
        stages = [s.dims for s in spent]
        return Evaluation(
            assignment,
            self._scores[classes][:rows].tolist(),
            tuple(stages),
            composed(world, assignment, stages),
            seconds,
            usd,
        )

    def _stage(self, k: int, assignment: Assignment, classes: Assignment, rows: int) -> _Spent:
        """Compute what is missing of a stage, or time it, and say what was seen."""
        world, option = self._environment.world, assignment[k]
        g, own = world.given(k, classes), classes[k]
        prefix = (k, tuple(classes[a] for a in world.ancestors[k]))
        have = self._computed.get(prefix, 0) if self._reuse else 0
        spent = _Spent()
        load = self._load(k, own, option)
        made = 0.0
        if have < rows:
            elements = float(world.work(k, g, own, slice(have, rows)).sum())
            made = self._run(prefix, option, elements, rows)
            self._pay(spent, k, option, made, elements)
            self._computed[prefix] = rows
        if (k, option) not in self._timings:
            whole = float(world.work(k, g, own, slice(0, rows)).sum()) or rows
            elements = min(TIMING_CALLS * world.stages[k].batch[option], whole)
            self._pay(spent, k, option, self._run(prefix, option, elements, 0), elements)
        factor = self._timings[k, option].factor
        numbers = world.numbers(k, g, own, slice(0, rows), np.array([option]))
        spent.dims = {dim: float(value[0]) * factor for dim, value in numbers.items()}
        if have < rows:
            spent.dims["profile"] = made / (rows - have)
        if load:
            spent.dims["load"] = load
            self._pay(spent, k, option, load, 0.0)
        return spent

    def _load(self, k: int, own: int, option: int) -> float:
        """Seconds of loading; 0 where it is loaded."""
        world = self._environment.world
        key = (k, own, int(world.device_of[k][option]))
        if key in self._loaded:
            return 0.0
        self._loaded.add(key)
        return float(world.stages[k].calls.load[option])

    def _run(
        self, prefix: tuple[int, Assignment], option: int, elements: float, rows: int
    ) -> float:
        """Seconds of the calls of so many elements; they are timed."""
        if elements <= 0:
            return 0.0
        k, classes = prefix
        stage = self._environment.world.stages[k]
        calls = max(1, int(np.ceil(elements / stage.batch[option])))
        rng = np.random.default_rng([self._environment.seed, k, option, rows, *classes])
        noise = np.exp(NOISE * rng.normal(size=min(calls, MOST_DRAWS))).mean()
        timing = self._timings.setdefault((k, option), _Timing())
        timing.calls += calls
        timing.noise += calls * float(noise)
        return float(
            noise * (calls * stage.calls.fixed[option] + elements * stage.calls.per[option])
        )

    def _pay(self, spent: _Spent, k: int, option: int, seconds: float, elements: float) -> None:
        calls = self._environment.world.stages[k].calls
        spent.seconds += seconds
        spent.usd += float(seconds * calls.usd[option] + elements * calls.fee[option])
