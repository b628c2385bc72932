"""The best plan, exactly: of all that truly meet an SLO, the one with the least objective.

Independent of every search of Octans. Quality depends on classes alone, so the accuracy of every
tuple of classes is counted bit by bit. The tuples that are accurate enough are looked at in order
of a lower bound of the objective (every stage's least); within one, devices and batches are chosen
stage by stage: partial plans whose bound is past a limit or the best plan so far are left, and so
are those that another one of the same devices beats in every sum and every time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from octans.ir.slo import Slo
from octans.planner.search.protocol import SOURCE, Assignment

from .world import LATENCY, Floats, Words, World

SLACK = 1e-12
"""Relative: two ways to add the same numbers may differ by as much."""


def accuracies(world: World, *, on_sample: bool = False) -> Floats:
    """`` `classes of stage 0 x … x classes of the last` ``: of every tuple, on the truth's rows.

    Or on those of the sample: what a search may come to know.
    """
    shape = tuple(stage.n_classes for stage in world.stages)
    found = np.zeros(shape)
    where = slice(world.sample_words) if on_sample else slice(world.sample_words, None)
    rows = world.rows if on_sample else world.truth_rows

    def walk(classes: tuple[int, ...], right: list[Words]) -> None:
        k = len(classes)
        answered = world.answers(k, world.given(k, classes), right, where)
        if k + 1 == len(shape):
            found[classes] = np.bitwise_count(answered).sum(axis=-1) / rows
            return
        for own in range(shape[k]):
            walk((*classes, own), [*right, answered[own]])

    walk((), [])
    return found


def plan_numbers(
    world: World, accuracy: Floats, chosen: NDArray[np.intp]
) -> tuple[Floats, dict[str, Floats]]:
    """Accuracies and dims of plans, `` `n x stages` `` options."""
    classes = np.column_stack([s.classes[chosen[:, k]] for k, s in enumerate(world.stages)])
    sums = {dim: np.zeros(len(chosen)) for dim in world.sums}
    ready: list[Floats] = []
    for k, table in enumerate(world.true_numbers):
        g = _given(world, k, classes)
        sums = {dim: value + table[dim][g, chosen[:, k]] for dim, value in sums.items()}
        ready.append(_start(world, k, chosen, ready) + table[LATENCY][g, chosen[:, k]])
    return accuracy[tuple(classes.T)], {**sums, LATENCY: np.max(ready, axis=0)}


def _given(world: World, k: int, classes: NDArray[np.intp]) -> NDArray[np.intp]:
    """The `g` of stage `k` for every row of classes."""
    g = np.zeros(len(classes), int)
    for stage in world.stages[k].given:
        g = g * world.stages[stage].n_classes + classes[:, stage]
    return g


def best_plan(world: World, slo: Slo, accuracy: Floats) -> tuple[Assignment, float]:
    """The plan and its objective.

    Raises:
        ValueError: no plan meets the SLO.
    """
    floor = max((c.limit for c in slo.constraints if c.metric == "accuracy"), default=0.0)
    found = best_among(world, slo, np.argwhere(accuracy >= floor))
    if found is None:
        raise ValueError("no plan meets the SLO")
    return found


def best_among(world: World, slo: Slo, tuples: NDArray[np.intp]) -> tuple[Assignment, float] | None:
    """Of plans of these tuples of classes, the best that meets the limits on dims; if any does.

    Accuracy is not looked at.
    """
    limits: dict[str, float] = {}
    for c in slo.constraints:
        if c.metric != "accuracy":
            limits[c.metric] = min(c.limit, limits.get(c.metric, np.inf))
    goal = slo.objective.metric
    bounds = _bounds(world, goal, tuples)
    best: Assignment | None = None
    value = np.inf
    for place in np.argsort(bounds, kind="stable"):
        if bounds[place] >= value:
            break
        found = _within(world, tuple(tuples[place].tolist()), limits, goal, value)
        if found is not None:
            best, value = found
    return None if best is None else (best, float(value))


def _bounds(world: World, goal: str, tuples: NDArray[np.intp]) -> Floats:
    """At least so much is the objective of every tuple of classes, without transfers."""
    least = []
    for k, stage in enumerate(world.stages):
        table = world.true_numbers[k][goal]
        lowest = np.column_stack(
            [table[:, stage.classes == own].min(axis=1) for own in range(stage.n_classes)]
        )
        least.append(lowest[_given(world, k, tuples), tuples[:, k]])
    if goal != LATENCY:
        total: Floats = np.sum(least, axis=0)
        return total
    ready: list[Floats] = []
    for k, stage in enumerate(world.stages):
        before = [ready[p] for p in stage.parents if p != SOURCE]
        ready.append(least[k] + (np.max(before, axis=0) if before else 0.0))
    longest: Floats = np.max(ready, axis=0)
    return longest


def _within(
    world: World,
    classes: Assignment,
    limits: dict[str, float],
    goal: str,
    bound: float,
) -> tuple[Assignment, float] | None:
    """The best devices and batches of one tuple of classes, if below `bound`."""
    options = [
        np.flatnonzero(s.classes == own) for s, own in zip(world.stages, classes, strict=True)
    ]
    tables = [
        {dim: table[world.given(k, classes), options[k]] for dim, table in numbers.items()}
        for k, numbers in enumerate(world.true_numbers)
    ]
    caps = limits | {goal: min(bound, limits.get(goal, np.inf))}
    tails = _tails(world, [table[LATENCY].min() for table in tables])
    chosen = np.zeros((1, 0), int)
    sums = {dim: np.zeros(1) for dim in world.sums}
    ready: list[Floats] = []
    for k, table in enumerate(tables):
        parents, own = np.divmod(np.arange(len(chosen) * len(options[k])), len(options[k]))
        chosen = np.column_stack([chosen[parents], options[k][own]])
        sums = {dim: value[parents] + table[dim][own] for dim, value in sums.items()}
        ready = [value[parents] for value in ready]
        ready.append(_start(world, k, chosen, ready) + table[LATENCY][own])
        keep = np.ones(len(chosen), bool)
        for dim, cap in caps.items():
            if dim == LATENCY:
                least = np.max(
                    [done + tail for done, tail in zip(ready, tails, strict=False)], axis=0
                )
            else:
                least = sums[dim] + sum(later[dim].min() for later in tables[k + 1 :])
            keep &= least <= cap * (1 + SLACK)
        kept = np.flatnonzero(keep)
        kept = kept[_front(world, k, chosen[kept], sums, ready, kept, caps)]
        if not len(kept):
            return None
        chosen = chosen[kept]
        sums = {dim: value[kept] for dim, value in sums.items()}
        ready = [value[kept] for value in ready]
    totals = sums | {LATENCY: np.max(ready, axis=0)}
    meets = np.all([totals[dim] <= cap for dim, cap in limits.items()], axis=0)
    values = np.where(meets, totals[goal], np.inf)
    place = int(np.argmin(values))
    if values[place] >= bound:
        return None
    return tuple(chosen[place].tolist()), float(values[place])


def _tails(world: World, least: list[float]) -> list[float]:
    """Behind every stage, the longest way of the least seconds of the stages that wait for it."""
    tails = [0.0] * len(least)
    for k in range(len(least) - 1, -1, -1):
        for parent in world.stages[k].parents:
            if parent != SOURCE:
                tails[parent] = max(tails[parent], least[k] + tails[k])
    return tails


def _start(world: World, k: int, chosen: NDArray[np.intp], ready: list[Floats]) -> Floats:
    """When stage `k` of every partial plan can start."""
    here = world.device_of[k][chosen[:, k]]
    start = np.zeros(len(chosen))
    for parent in world.stages[k].parents:
        before = np.zeros(len(chosen)) if parent == SOURCE else ready[parent]
        link = world.transfers.get((parent, k))
        if link is not None:
            origin = 0 if parent == SOURCE else world.device_of[parent][chosen[:, parent]]
            before = before + np.asarray(link)[origin, here]
        start = np.maximum(start, before)
    return start


def _front(
    world: World,
    k: int,
    chosen: NDArray[np.intp],
    sums: dict[str, Floats],
    ready: list[Floats],
    kept: NDArray[np.intp],
    asked: dict[str, float],
) -> NDArray[np.intp]:
    """Places of partial plans that none with the same open devices beats in what is asked."""
    later = {p for stage in world.stages[k + 1 :] for p in stage.parents}
    open_ = [s for s in range(k + 1) if s in later]
    columns = [sums[dim][kept] for dim in sums if dim in asked]
    if LATENCY in asked:
        columns += [ready[s][kept] for s in open_]
        columns.append(np.max(ready, axis=0)[kept])
    values = np.column_stack(columns)
    groups: dict[tuple[int, ...], list[int]] = {}
    devices = [world.device_of[s][chosen[:, s]].tolist() for s in open_]
    for place, key in enumerate(zip(*devices, strict=True) if devices else [()] * len(chosen)):
        groups.setdefault(key, []).append(place)
    found: list[int] = []
    for places in groups.values():
        order = sorted(places, key=lambda i: tuple(values[i]))
        front: list[int] = []
        for i in order:
            if not front or not np.any(np.all(values[front] <= values[i], axis=1)):
                front.append(i)
        found += front
    return np.array(sorted(found), int)
