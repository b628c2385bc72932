"""The label search for many labels at once: numpy arrays instead of objects, depth-first in blocks.

For problems whose labels carry sums only (chains without conditional entries). It explores exactly
what `labels.explore` does, without dominance: where labels are many their sums are so fine-grained
that few dominate (measured: 4 % on the hardest instances of benchmarks/exact_search), and the
bound decides. numpy is imported here, when a search has already taken longer than the import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .labels import Label, Space

if TYPE_CHECKING:
    import numpy as np

BLOCK = 100_000
"""Labels extended at once: some tens of MB."""


def fits(space: Space) -> bool:
    """Do labels carry sums only, and is the goal one of them?"""
    return (
        not space.paths
        and not space.root.mask
        and sum(space.goals) == 1
        and not any(layer.class_added or layer.class_of for layer in space.layers)
        and all(limit.soft_from is None for limit in space.problem.limits)
    )


def explore_wide(space: Space, target: float, below: float, most: float) -> list[Label] | None:
    """A best complete plan with bound <= target and goal <= below, as a label; or nothing.

    None where that takes more than `most` labels in all of the search.
    """
    import numpy as np

    search = _Wide(space, target, below, most, np)
    root = space.root
    search.descend(0, np.array([root.bound]), np.array([root.sums], dtype=float), ())
    if space.effort.labels > most:
        return None
    if search.best is None:
        return []
    label = root
    for position in search.best:
        label = Label(0.0, (), (), (), 0, position, label)
    return [label]


class _Wide:
    """One exploration; `best` are flat positions in layer order."""

    def __init__(self, space: Space, target: float, below: float, most: float, numpy: Any) -> None:
        self.most = most
        self.np = numpy
        self.space = space
        self.target = target
        self.goal = space.goals.index(True)
        self.caps = numpy.array(space.caps, dtype=float)
        self.caps[self.goal] = min(self.caps[self.goal], below)
        self.best: tuple[int, ...] | None = None
        self.costs = []
        self.adds = []
        for layer in space.layers:
            steps = space.steps[layer.stage][0]
            self.costs.append([step.cost for step in steps])
            self.adds.append(numpy.array([step.adds for step in steps], dtype=float))

    def descend(
        self,
        depth: int,
        bounds: np.ndarray,
        sums: np.ndarray,
        chain: tuple[tuple[np.ndarray, np.ndarray], ...],
    ) -> None:
        """Extend a block by a layer, then its children block by block, most promising first."""
        np = self.np
        if self.space.effort.labels > self.most:
            return
        order = np.argsort(bounds, kind="stable")
        bounds, sums = bounds[order], sums[order]
        costs, adds = self.costs[depth], self.adds[depth]
        ends = np.searchsorted(bounds, [self.target - cost for cost in costs], side="right")
        parents, options, kept = [], [], []
        for option, end in enumerate(ends.tolist()):
            if not end:
                break
            fits_in = sums[:end] + adds[option]
            (where,) = np.nonzero((fits_in <= self.caps).all(axis=1))
            if len(where):
                parents.append(where)
                options.append(np.full(len(where), option))
                kept.append(fits_in[where])
        if not parents:
            return
        parent, option_of = np.concatenate(parents), np.concatenate(options)
        sums = np.concatenate(kept)
        bounds = bounds[parent] + np.array(costs)[option_of]
        self.space.effort.labels += len(parent)
        link = (*chain, (order[parent], option_of))
        if depth + 1 == len(self.space.layers):
            self._finish(sums, link)
            return
        if len(parent) <= BLOCK:
            self.descend(depth + 1, bounds, sums, link)
            return
        by_bound = np.argsort(bounds, kind="stable")
        for start in range(0, len(by_bound), BLOCK):
            block = by_bound[start : start + BLOCK]
            last = (link[-1][0][block], link[-1][1][block])
            self.descend(depth + 1, bounds[block], sums[block], (*link[:-1], last))

    def _finish(self, sums: np.ndarray, chain: tuple[tuple[np.ndarray, np.ndarray], ...]) -> None:
        """Take the best complete plan, and accept only better ones from now on."""
        at = int(sums[:, self.goal].argmin())
        value = float(sums[at, self.goal])
        if self.best is not None and value >= self.caps[self.goal]:
            return
        self.caps[self.goal] = value
        self.target = min(self.target, value)
        found: list[int] = []
        for layer, (parent, option) in zip(
            reversed(self.space.layers), reversed(chain), strict=True
        ):
            found.append(self.space.steps[layer.stage][0][int(option[at])].position)
            at = int(parent[at])
        self.best = tuple(reversed(found))
