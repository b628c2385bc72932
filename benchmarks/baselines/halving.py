"""Successive halving over complete assignments, on paired rows.

[Karnin, Koren, Somekh 2013, "Almost Optimal Exploration in Multi-Armed Bandits", ICML] halve the
arms round after round and double what each survivor gets; [Jamieson, Talwalkar 2016,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS] is the form used
here. All arms of a round see the same rows, the prefix of the sample, so that they are compared
paired, and rows seen in an earlier round are not evaluated again. A set of SLOs asks for a frontier
and not for one arm: survivors are those of the best non-dominated rank in accuracy and cost, the
least crowded first where a rank does not fit whole [Deb et al. 2002, NSGA-II]. Costs are given
exactly, which favours this baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

A = TypeVar("A")


@dataclass(frozen=True)
class Tuning:
    """Rows of the first round, the arms at which halving ends, and the factor of both."""

    first: int
    keep: int
    factor: int = 2


def halving(
    arms: Sequence[A],
    cost: Mapping[A, float],
    accuracy: Callable[[A, int], float],
    rows: int,
    tuning: Tuning,
) -> dict[A, tuple[float, int]]:
    """Mean accuracy of every arm and the rows it is of.

    Args:
        arms: complete assignments.
        cost: of each, exact.
        accuracy: mean of an arm on the first so many rows.
        rows: of the sample.
        tuning: see `Tuning`.
    """
    known: dict[A, tuple[float, int]] = {}
    alive, size = list(arms), min(tuning.first, rows)
    while True:
        for arm in alive:
            known[arm] = (accuracy(arm, size), size)
        if len(alive) <= tuning.keep or size == rows:
            return known
        left = max(tuning.keep, math.ceil(len(alive) / tuning.factor))
        alive = survivors(alive, cost, {arm: known[arm][0] for arm in alive}, left)
        size = min(rows, size * tuning.factor)


def survivors(
    arms: Sequence[A], cost: Mapping[A, float], accuracy: Mapping[A, float], count: int
) -> list[A]:
    """The `count` arms of the best ranks; within the last one, the least crowded."""
    kept: list[A] = []
    rest = list(arms)
    while len(kept) < count:
        front = [arm for arm in rest if not _dominated(arm, rest, cost, accuracy)]
        room = count - len(kept)
        kept += front if len(front) <= room else _spread(front, cost, accuracy)[:room]
        rest = [arm for arm in rest if arm not in front]
    return kept


def _dominated(
    arm: A, others: Sequence[A], cost: Mapping[A, float], accuracy: Mapping[A, float]
) -> bool:
    own = (accuracy[arm], -cost[arm])
    return any(
        accuracy[o] >= own[0] and -cost[o] >= own[1] and (accuracy[o], -cost[o]) != own
        for o in others
    )


def _spread(front: Sequence[A], cost: Mapping[A, float], accuracy: Mapping[A, float]) -> list[A]:
    """By crowding distance, the loneliest first; the ends are infinitely lonely."""
    lonely = dict.fromkeys(front, 0.0)
    for value in (cost, accuracy):
        ordered = sorted(front, key=value.__getitem__)
        width = value[ordered[-1]] - value[ordered[0]] or 1.0
        for end in (ordered[0], ordered[-1]):
            lonely[end] = math.inf
        for before, arm, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
            lonely[arm] += (value[after] - value[before]) / width
    return sorted(front, key=lambda arm: -lonely[arm])
