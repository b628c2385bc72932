"""A small environment with known answers: three stages, every number a formula."""

from __future__ import annotations

import math
import random
from itertools import product

from octans.ir.physical import Choice
from octans.ir.slo import Constraint, Objective, Slo
from octans.planner.search.protocol import Evaluation, Space, StageOptions

ROWS = 200


class World:
    """Better variants cost more; a batch trades latency for cost; plans are judged exactly."""

    name = "toy"
    rows = ROWS

    def __init__(self, seed=0, stages=2, variants=3, batches=(1, 4), least=0.8, slowest=0.4):
        rng = random.Random(seed)
        self.options = []
        for _ in range(stages):
            size = rng.uniform(0.5, 2.0)
            self.options.append(
                [
                    (
                        Choice(f"v{v}", (), batch, "cpu"),
                        {
                            "quality": 1.0 - 0.5 * 0.4**v,
                            "cost": size * 2.0**v / batch**0.5,
                            "latency_p95": 0.02 * size * 2.0**v * batch**0.5,
                        },
                    )
                    for v in range(variants)
                    for batch in batches
                ]
            )
        self.space = Space(
            tuple(
                StageOptions(f"s{at}", tuple(c for c, _ in options), (at - 1,))
                for at, options in enumerate(self.options)
            ),
            ("cost",),
            ("latency_p95",),
            ("cpu",),
        )
        self.slo = Slo(
            (
                Constraint("accuracy", ">=", least, confidence=0.95),
                Constraint("latency_p95", "<=", slowest),
            ),
            Objective("cost"),
        )
        plans = product(*(range(len(stage.options)) for stage in self.space.stages))
        self.best = min(
            (self.truth(plan)["cost"] for plan in plans if self.meets(plan)), default=math.nan
        )

    def truth(self, assignment):
        chosen = [stage[option][1] for stage, option in zip(self.options, assignment, strict=True)]
        return {
            "accuracy": math.prod(o["quality"] for o in chosen),
            "cost": sum(o["cost"] for o in chosen),
            "latency_p95": sum(o["latency_p95"] for o in chosen),
        }

    def meets(self, assignment):
        truth = self.truth(assignment)
        return all(c.allows(truth[c.metric]) for c in self.slo.constraints)

    def held_back(self, assignment, rows=400):
        rng = random.Random(repr(assignment))
        right = self.truth(assignment)["accuracy"]
        return [float(rng.random() < right) for _ in range(rows)]

    def profiler(self, *, reuse=True):
        return Evaluator(self)


class Evaluator:
    """A row takes a second a stage, less where the prefix has seen it; scores are evenly spread."""

    def __init__(self, world):
        self.world = world
        self.seconds = self.usd = 0.0
        self._seen = {}

    def evaluate(self, proposal):
        assert 1 <= proposal.rows <= self.world.rows
        seconds = 0.0
        for depth in range(1, len(proposal.assignment) + 1):
            prefix = proposal.assignment[:depth]
            seconds += max(proposal.rows - self._seen.get(prefix, 0), 0)
            self._seen[prefix] = max(proposal.rows, self._seen.get(prefix, 0))
        self.seconds += seconds
        self.usd += 0.01 * seconds
        truth = dict(self.world.truth(proposal.assignment))
        accuracy = truth.pop("accuracy")
        right = [math.floor((row + 1) * accuracy) for row in range(proposal.rows)]
        scores = [float(now - before) for before, now in zip([0, *right], right, strict=False)]
        stages = tuple(
            {dim: value for dim, value in stage[option][1].items() if dim != "quality"}
            for stage, option in zip(self.world.options, proposal.assignment, strict=True)
        )
        return Evaluation(proposal.assignment, scores, stages, truth, seconds, 0.01 * seconds)
