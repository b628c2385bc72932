"""Lower bounds of measured assignments: what no batch size or device can get below.

A measured assignment fixes the class (variant and knobs) of every stage. Each stage's least entry
over the options of its class bounds the plan from below: sums of least entries for additive dims,
the critical path of least entries, whatever the slots, for path dims. Most measured assignments are
settled by that, without a search of their own.
"""

from __future__ import annotations

import math
from functools import lru_cache

from .table import Measured, Problem


class Floors:
    """The bounds of one problem's stages; they outlive its limits and its goal."""

    def __init__(self, problem: Problem) -> None:
        """Look at the tables only: limits, goal and measurements may be replaced later."""
        self._problem = problem
        self._least = lru_cache(maxsize=None)(self._least_of)

    def bound(self, known: Measured, dim: str) -> float:
        """No plan of these classes has less of `dim`."""
        if dim == "loss":
            return known.loss
        least = [
            self._least(dim, place, self._problem.given_index(place, known.classes), cls)
            for place, cls in enumerate(known.classes)
        ]
        if dim not in self._problem.paths:
            return math.fsum(least)
        done: list[float] = []
        for stage, own in zip(self._problem.stages, least, strict=True):
            done.append(own + max((done[before] for before in stage.parents), default=0.0))
        return max(done, default=0.0)

    def hopeless(self, known: Measured, problem: Problem, upper: float) -> bool:
        """Does every plan of these classes miss a limit, or get no lower than `upper`?

        Rounding room: a sum in another order differs in its last bits.
        """
        for limit in problem.limits:
            floor = max(self.bound(known, dim) for dim in limit.terms)
            if floor * (1.0 - 1e-12) > limit.bound:
                return True
        return max(self.bound(known, dim) for dim in problem.goal.terms) * (1.0 - 1e-12) >= upper

    def _least_of(self, dim: str, place: int, given: int, cls: int) -> float:
        stage = self._problem.stages[place]
        rows = stage.rows.get(dim)
        if rows is None:
            return 0.0
        row = rows[given if len(rows) > 1 else 0]
        return min(
            (value for value, own in zip(row, stage.option_class, strict=True) if own == cls),
            default=math.inf,
        )
