"""What every baseline shares: plans as tuples of parameters, what was seen of them, the incumbent.

Baselines know nothing of a plan they have not profiled: `StageOptions.known` is never read. Their
incumbent is decided by their own point estimates (our choice: none of the papers says how sure a
plan must be; a confidence would only make them later).
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from octans.ir.slo import Constraint, Slo
from octans.planner.search.protocol import (
    Assignment,
    Candidate,
    Evaluation,
    Proposal,
    Space,
)

Value = str | int | float | bool | None
"""Of a parameter; None where the variant has no such knob."""


@dataclass(frozen=True)
class Seen:
    """Point estimates of a plan: mean score and dims, as measured on so many rows."""

    metrics: Mapping[str, float]
    rows: int


@dataclass(frozen=True)
class Parameter:
    """One thing to choose at one stage: variant, a knob, batch, device or replicas.

    `ordered` ones have numbers as values, ascending.
    """

    stage: int
    name: str
    values: tuple[Value, ...]
    ordered: bool


class Encoding:
    """Plans as tuples of parameter values, for searches that know of parameters only.

    Not every combination of values is an option (a knob may be offered by one variant alone): such
    a combination stands for the option that has its variant, if any, and most of its other values,
    the first of several. So every proposal of a library is a plan that exists.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.parameters: list[Parameter] = []
        self._places: list[list[int]] = []
        self._picks: list[list[tuple[int, ...]]] = []
        self._nearest: list[dict[tuple[int, ...], int]] = []
        for stage, described in enumerate(_described(space)):
            self._add(stage, described)

    def _add(self, stage: int, described: Sequence[Mapping[str, Value]]) -> None:
        names = list(dict.fromkeys(name for option in described for name in option))
        mine = []
        for name in names:
            values = {option.get(name) for option in described}
            if len(values) > 1:
                mine.append(_parameter(stage, name, values))
        self._places.append(list(range(len(self.parameters), len(self.parameters) + len(mine))))
        self.parameters += mine
        index = [{value: at for at, value in enumerate(p.values)} for p in mine]
        picks = [
            tuple(at[option.get(p.name)] for p, at in zip(mine, index, strict=True))
            for option in described
        ]
        self._picks.append(picks)
        self._nearest.append({pick: option for option, pick in reversed(list(enumerate(picks)))})

    def encode(self, assignment: Assignment) -> tuple[int, ...]:
        """Place of the plan's value among each parameter's values."""
        return tuple(
            pick
            for picks, option in zip(self._picks, assignment, strict=True)
            for pick in picks[option]
        )

    def decode(self, picks: Sequence[int]) -> Assignment:
        """The plan that these places stand for."""
        return tuple(
            self._option(stage, tuple(picks[place] for place in places))
            for stage, places in enumerate(self._places)
        )

    def _option(self, stage: int, pick: tuple[int, ...]) -> int:
        known = self._nearest[stage]
        if pick not in known:
            known[pick] = max(
                range(len(self._picks[stage])),
                key=lambda option: _agreement(self._picks[stage][option], pick),
            )
        return known[pick]

    def neighbours(self, assignment: Assignment) -> Iterator[Assignment]:
        """The plans that differ in one parameter."""
        for stage, option in enumerate(assignment):
            pick = self._picks[stage][option]
            for place, parameter in enumerate(self._places[stage]):
                for value in range(len(self.parameters[parameter].values)):
                    moved = (*pick[:place], value, *pick[place + 1 :])
                    found = self._option(stage, moved)
                    if value != pick[place] and found != option:
                        yield (*assignment[:stage], found, *assignment[stage + 1 :])

    @cached_property
    def _columns(self) -> list[np.ndarray]:
        """By stage `options x columns`: every option's values, one-hot."""
        found = []
        for picks, places in zip(self._picks, self._places, strict=True):
            table = np.array(picks, dtype=int).reshape(len(picks), len(places))
            parts = [
                np.eye(len(self.parameters[place].values))[table[:, at]]
                for at, place in enumerate(places)
            ]
            found.append(np.concatenate(parts, axis=1) if parts else np.zeros((len(picks), 0)))
        return found

    def one_hot(self, assignments: Sequence[Assignment]) -> np.ndarray:
        """`plans x columns`, zeros and ones."""
        chosen = np.array(assignments, dtype=int)
        return np.concatenate(
            [columns[chosen[:, stage]] for stage, columns in enumerate(self._columns)], axis=1
        )


def _described(space: Space) -> Iterator[list[dict[str, Value]]]:
    for stage in space.stages:
        yield [
            {
                "variant": choice.variant,
                **{f"knob {name}": value for name, value in choice.knobs},
                "batch": choice.batch,
                "device": choice.device,
                "replicas": choice.replicas,
            }
            for choice in stage.options
        ]


def _parameter(stage: int, name: str, values: set[Value]) -> Parameter:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        return Parameter(stage, name, tuple(sorted(numbers)), True)
    return Parameter(stage, name, tuple(sorted(values, key=lambda v: (v is None, str(v)))), False)


def _agreement(option: tuple[int, ...], pick: tuple[int, ...]) -> tuple[bool, int]:
    same = [a == b for a, b in zip(option, pick, strict=True)]
    return (not same or same[0], sum(same))


class Shuffle:
    """All plans in a random order, drawn one by one; no list of them is made."""

    def __init__(self, space: Space, rng: random.Random) -> None:
        self._radix = [len(stage.options) for stage in space.stages]
        self._size, self._at, self._rng = space.size, 0, rng
        self._moved: dict[int, int] = {}

    def __iter__(self) -> Iterator[Assignment]:
        return self

    def __next__(self) -> Assignment:
        if self._at == self._size:
            raise StopIteration
        other = self._rng.randrange(self._at, self._size)
        number = self._moved.get(other, other)
        self._moved[other] = self._moved.pop(self._at, self._at)
        self._at += 1
        return self._plan(number)

    def _plan(self, number: int) -> Assignment:
        found = []
        for options in reversed(self._radix):
            number, option = divmod(number, options)
            found.append(option)
        return tuple(reversed(found))


def margin(constraint: Constraint, metrics: Mapping[str, float]) -> float:
    """How far past its limit: 0 or less where it is met.

    Of accuracy the difference, of a dim the log of the ratio: relative, as dims span orders of
    magnitude (our choice).
    """
    value = scaled(constraint.metric, metrics)
    limit = scaled(constraint.metric, {constraint.metric: constraint.limit})
    return value - limit if constraint.operator == "<=" else limit - value


def scaled(metric: str, metrics: Mapping[str, float]) -> float:
    """A metric as surrogates model it: accuracy as it is, a dim's log."""
    value = metrics[metric]
    return value if metric == "accuracy" else math.log(max(value, 1e-12))


def loss(slo: Slo, metrics: Mapping[str, float]) -> float:
    """The objective, scaled, to be minimised."""
    value = scaled(slo.objective.metric, metrics)
    return -value if slo.objective.maximize else value


class Baseline(ABC):
    """A search that profiles `sample` rows of every plan it proposes.

    Attributes:
        space: all plans.
        slo: what is asked for.
        sample: rows per evaluation.
        seen: what was told, by plan.
    """

    def __init__(self, space: Space, slo: Slo, *, rows: int, seed: int, sample: int) -> None:
        self.space, self.slo = space, slo
        self.sample = min(sample, rows)
        self.seen: dict[Assignment, Seen] = {}
        self.rng = random.Random(seed)
        self._best: Candidate | None = None

    @abstractmethod
    def propose(self) -> Assignment | None:
        """The plan to profile next; None when there is none left."""

    def ask(self) -> Proposal | None:
        """The plan to profile next, on the fixed sample."""
        assignment = self.propose()
        return None if assignment is None else Proposal(assignment, self.sample)

    def tell(self, evaluation: Evaluation) -> None:
        """Remember its point estimates."""
        count = len(evaluation.scores)
        accuracy = sum(evaluation.scores) / count if count else 0.0
        metrics = {**evaluation.metrics, "accuracy": accuracy}
        self.seen[evaluation.assignment] = Seen(metrics, count)
        self._best = self._better(self._best, evaluation.assignment)

    def _better(self, best: Candidate | None, assignment: Assignment) -> Candidate | None:
        if best is not None and best.assignment == assignment:
            plans = [plan for plan in self.seen if self.met(plan)]
            found = min(plans, key=lambda plan: self.loss(plan), default=None)
            return None if found is None else self._candidate(found)
        if not self.met(assignment):
            return best
        if best is not None and loss(self.slo, best.metrics) <= self.loss(assignment):
            return best
        return self._candidate(assignment)

    def _candidate(self, assignment: Assignment) -> Candidate:
        seen = self.seen[assignment]
        return Candidate(assignment, seen.metrics, 1.0, seen.rows)

    def incumbent(self) -> Candidate | None:
        """The best of the profiled plans that meet every limit, as measured."""
        return self._best

    def met(self, assignment: Assignment) -> bool:
        """Does a profiled plan meet every limit, as measured?"""
        metrics = self.seen[assignment].metrics
        return all(margin(constraint, metrics) <= 0.0 for constraint in self.slo.constraints)

    def loss(self, assignment: Assignment) -> float:
        """A profiled plan's objective, scaled, to be minimised."""
        return loss(self.slo, self.seen[assignment].metrics)
