"""The optimisation problem as tables of floats: choose one option per stage.

Dimensions ("dims") are named numbers. A *sum* dim adds the chosen options' entries over all stages:
`cost`, `loss` (= -log accuracy), `energy`, `memory:cpu`, `busy:cpu`, …. A *path* dim is the time a
row is done: stages start in order, when their predecessors are done and a slot of their device is
free.

A stage's table entry may depend on the classes (variant and knobs, without batch and device) of
earlier stages, its `given`. Limits and goal are upper bounds on, and the minimum of, the largest of
several dims: what is better when larger is turned around when the problem is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal

from ...cost.compose import schedule
from ...ir.record import dataclass

Assignment = tuple[int, ...]
"""One option index per stage (or one class index per stage, where said)."""

Scale = Literal["plain", "loss", "inverse"]
"""How a dim reads as a metric: itself, exp(-x) (accuracy), or 1/x (throughput)."""


@dataclass(frozen=True, slots=True)
class StageTable:
    """One stage. `` `g` `` indexes the classes of `given` (mixed radix, the last one fastest).

    Attributes:
        key: its stable name.
        classes: how many classes its options have.
        option_class: class of every option.
        option_device: device index of every option.
        parents: stages whose answers it waits for.
        given: earlier stages whose classes its entries depend on, ascending.
        rows: dim → `[g][option]`; a dim not there is 0.
    """

    key: str
    classes: int
    option_class: tuple[int, ...]
    option_device: tuple[int, ...]
    parents: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    rows: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many options."""
        return len(self.option_class)


@dataclass(frozen=True, slots=True)
class Limit:
    """max over `terms` <= bound.

    `constraint` is the SLO constraint's index, None for a device's capacity. Past `soft_from` a
    penalty applies (the bound then includes what SOFT allows); `scale` says how the dim reads.
    """

    terms: tuple[str, ...]
    bound: float
    constraint: int | None = None
    soft_from: float | None = None
    scale: Scale = "plain"

    def excess(self, value: float) -> float:
        """How far past the soft limit, as a share of the limit in the metric's own unit."""
        if self.soft_from is None or value <= self.soft_from:
            return 0.0
        if self.scale == "loss":
            return 1.0 - math.exp(self.soft_from - value)
        if self.scale == "inverse":
            return 1.0 - self.soft_from / value
        return value / self.soft_from - 1.0 if self.soft_from > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Goal:
    """Minimise the max over `terms`."""

    terms: tuple[str, ...] = ("cost",)
    scale: Scale = "plain"


@dataclass(frozen=True, slots=True)
class Measured:
    """The measured `loss` of one assignment of classes: it replaces the composed one."""

    classes: Assignment
    loss: float


@dataclass(frozen=True)
class Problem:
    """Stages in topological order, limits and a goal.

    `slots` counts the slots of each device; `paths` names the path dims. `measured` assignments of
    classes have a measured loss. `ties` are the dims that decide, one after the other, between
    plans that are equally good by the goal.
    """

    stages: tuple[StageTable, ...]
    slots: tuple[int, ...]
    limits: tuple[Limit, ...] = ()
    goal: Goal = Goal()
    paths: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()
    ties: tuple[str, ...] = ()

    def classes(self, assignment: Sequence[int]) -> Assignment:
        """The class of every stage's option."""
        return tuple(s.option_class[o] for s, o in zip(self.stages, assignment, strict=True))

    def given_index(self, stage: int, classes: Sequence[int]) -> int:
        """The `g` of a stage, from the classes of all stages before it."""
        index = 0
        for before in self.stages[stage].given:
            index = index * self.stages[before].classes + classes[before]
        return index

    def entries(self, dim: str, assignment: Sequence[int]) -> list[float]:
        """Every stage's entry of a dim."""
        classes = self.classes(assignment)
        found = []
        for place, (stage, option) in enumerate(zip(self.stages, assignment, strict=True)):
            rows = stage.rows.get(dim)
            g = self.given_index(place, classes) if rows is not None and stage.given else 0
            found.append(0.0 if rows is None else rows[g][option])
        return found

    def value(self, dim: str, assignment: Sequence[int]) -> float:
        """The plan's value of a dim; the measured loss where there is one."""
        if dim == "loss":
            classes = self.classes(assignment)
            for known in self.measured:
                if known.classes == classes:
                    return known.loss
        entries = self.entries(dim, assignment)
        if dim not in self.paths:
            return sum(entries)
        devices = [s.option_device[o] for s, o in zip(self.stages, assignment, strict=True)]
        return finish(self.stages, entries, devices, self.slots)

    def excess(self, assignment: Sequence[int]) -> float:
        """How far it is past soft limits, shares of them summed; inf where it misses a limit."""
        excess = 0.0
        for limit in self.limits:
            value = max(self.value(dim, assignment) for dim in limit.terms)
            if value > limit.bound:
                return math.inf
            excess += limit.excess(value)
        return excess

    def key(self, assignment: Sequence[int]) -> float:
        """What the search minimises: the goal with penalties; inf where a limit is missed."""
        excess = self.excess(assignment)
        if excess == math.inf:
            return math.inf
        goal = max(self.value(dim, assignment) for dim in self.goal.terms)
        return penalised(goal, excess, self.goal.scale)


def penalised(goal: float, excess: float, scale: Scale) -> float:
    """The goal with soft limits missed by `excess` (sum of shares past the limits).

    What is minimised grows by that share, accuracy and throughput shrink by it (our choice: a miss
    of 5 % weighs as 5 % of the objective).
    """
    if not excess:
        return goal
    if scale == "plain":
        return goal * (1.0 + excess)
    left = max(1.0 - excess, 1e-300)
    return goal - math.log(left) if scale == "loss" else goal / left


def finish(
    stages: Sequence[StageTable],
    service: Sequence[float],
    devices: Sequence[int],
    slots: Sequence[int],
) -> float:
    """Seconds until a row is done."""
    return schedule([stage.parents for stage in stages], service, devices, slots)
