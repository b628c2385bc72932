"""What profiling a plan would take, from what is profiled already.

A stage's answers under the classes of all stages they depend on are computed once for a row; what
is new is computed at the stage's own speed, and what was never loaded must be loaded first. So a
plan that shares a prefix with those before is nearly free: that is what makes the search fast.
"""

from __future__ import annotations

import numpy as np

from ....ir.record import dataclass, field
from ..features import StageFeatures, ancestors
from ..protocol import LOAD, PROFILE, Evaluation, Space
from .operators import Composition

RETIME_ROWS = 4.0
"""Rows' worth of calls by which an option is timed whose answers are all known (our choice)."""


@dataclass(frozen=True)
class Bill:
    """What profiling `` `m` `` plans takes, `` `stages x m` `` each.

    Attributes:
        known: rows on which the answers are known already.
        per_row: seconds of a further one.
        load: seconds of loading, 0 where it is loaded.
        untimed: options never timed: some calls are made even where all answers are known.
    """

    known: np.ndarray
    per_row: np.ndarray
    load: np.ndarray
    untimed: np.ndarray

    def seconds(self, rows: np.ndarray | int) -> np.ndarray:
        """To profile the plans on their first `` `m` `` rows."""
        new = np.maximum(rows - self.known, 0.0)
        new = np.where(self.untimed, np.maximum(new, RETIME_ROWS), new)
        total: np.ndarray = (new * self.per_row + np.where(new > 0, self.load, 0.0)).sum(axis=0)
        return total


@dataclass
class Spending:
    """Rows computed of every prefix, what was loaded, and which options were timed."""

    space: Space
    stages: tuple[StageFeatures, ...]
    composition: Composition
    _above: tuple[tuple[int, ...], ...] = ()
    _rows: list[dict[int, int]] = field(default_factory=list)
    _loaded: list[np.ndarray] = field(default_factory=list)
    _timed: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nothing is profiled yet."""
        self._above = ancestors(self.space)
        self._rows = [{} for _ in self.stages]
        self._loaded = [np.zeros(int(s.loading.max()) + 1, bool) for s in self.stages]
        self._timed = [np.zeros(s.size, bool) for s in self.stages]

    def add(self, evaluation: Evaluation) -> None:
        """A plan was profiled."""
        plan = np.array([evaluation.assignment])
        rows = len(evaluation.scores)
        for place, prefixes in enumerate(self._prefixes(plan)):
            key = int(prefixes[0])
            self._rows[place][key] = max(rows, self._rows[place].get(key, 0))
            option = evaluation.assignment[place]
            self._loaded[place][self.stages[place].loading[option]] = True
            self._timed[place][option] = True

    def bill(self, plans: np.ndarray) -> Bill:
        """What profiling `` `m x stages` `` plans takes."""
        known, per_row, load, untimed = [], [], [], []
        for place, prefixes in enumerate(self._prefixes(plans)):
            options, stage = plans[:, place], self.stages[place]
            known.append(self._known(place, prefixes))
            per_row.append(self._expected(place, PROFILE)[options])
            loaded = self._loaded[place][stage.loading[options]]
            load.append(np.where(loaded, 0.0, self._expected(place, LOAD)[options]))
            untimed.append(~self._timed[place][options])
        return Bill(np.stack(known), np.stack(per_row), np.stack(load), np.stack(untimed))

    def _prefixes(self, plans: np.ndarray) -> list[np.ndarray]:
        """Every stage's prefix as a number, `` `m` `` each: the classes above it, mixed radix."""
        classes = [s.option_class[plans[:, p]] for p, s in enumerate(self.stages)]
        found = []
        for above in self._above:
            key = np.zeros(len(plans), np.int64)
            for place in above:
                key = key * self.stages[place].classes + classes[place]
            found.append(key)
        return found

    def _known(self, place: int, prefixes: np.ndarray) -> np.ndarray:
        """Rows known of each prefix."""
        known = self._rows[place]
        if not known:
            return np.zeros(len(prefixes))
        keys = np.fromiter(known, np.int64, len(known))
        counts = np.fromiter(known.values(), float, len(known))
        order = np.argsort(keys)
        keys, counts = keys[order], counts[order]
        at = np.minimum(np.searchsorted(keys, prefixes), len(keys) - 1)
        return np.where(keys[at] == prefixes, counts[at], 0.0)

    def _expected(self, place: int, dim: str) -> np.ndarray:
        """Medians of every option; of what is not known at all, 1 s."""
        mean, _ = self.composition.operator(place, dim).moments()
        found: np.ndarray = np.exp(np.clip(mean, -30.0, 30.0))
        return found
