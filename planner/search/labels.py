"""Labels: partial plans extended stage by stage, kept only while they may still win.

A label holds the whole state that the rest of a plan depends on: every sum dim in play, the finish
times of stages still waited for and the slots' free times per path dim, the classes that later
entries depend on, and the forbidden patterns it is still part of. Everything composes
monotonically, so a label no better in any part than another one, in the same classes and part of no
fewer forbidden patterns, is dropped (dominance). Sum dims are carried as the least they can end at.

A label is also dropped when its Lagrangian bound exceeds the target, or a dim its limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from operator import add, gt, le
from typing import NamedTuple

from ...ir.record import dataclass
from .dual import Flat, reduced, relax
from .prepare import undominated
from .table import Problem


class Step(NamedTuple):
    """An option as an extension: what it adds to the bound and to each sum dim."""

    cost: float
    adds: tuple[float, ...]
    position: int
    service: tuple[float, ...]
    device: int
    cls: int
    keeps: int


class Label(NamedTuple):
    """A partial plan; `parent` chains back to the root."""

    bound: float
    sums: tuple[float, ...]
    times: tuple[tuple[float, ...], ...]
    classes: tuple[int, ...]
    mask: int
    position: int
    parent: Label | None


@dataclass
class Effort:
    """What a search did. Below `reached` it has proven that there is no plan."""

    labels: int = 0
    by_bound: int = 0
    by_limit: int = 0
    dominated: int = 0
    dual_steps: int = 0
    rounds: int = 0
    reached: float = math.inf


@dataclass(frozen=True)
class Layer:
    """One stage's part of the path state and of the class state, fixed before the search.

    `live` stages (before this one) are still waited for; a time state is their finish times, the
    latest finish of stages nobody waits for, then the free times of `tracked` devices' slots.
    """

    stage: int
    live: tuple[int, ...]
    parents: tuple[int, ...]
    stays: tuple[int, ...]
    waited: bool
    tracked: tuple[int, ...]
    offsets: tuple[int, ...]
    after: tuple[int, ...]
    ready: tuple[tuple[int, ...], ...]
    class_of: tuple[int, ...]
    class_radix: tuple[int, ...]
    class_stays: tuple[int, ...]
    class_added: bool


@dataclass
class Space:
    """Everything a label search needs; `caps` and `path_caps` are limits, without the target."""

    problem: Problem
    flat: Flat
    layers: tuple[Layer, ...]
    steps: list[list[list[Step]]]
    root: Label
    dims: tuple[str, ...]
    paths: tuple[str, ...]
    caps: tuple[float, ...]
    path_caps: tuple[float, ...]
    goals: tuple[bool, ...]
    path_goals: tuple[bool, ...]
    tails: tuple[dict[int, float], ...]
    slots: tuple[int, ...]
    effort: Effort = field(default_factory=Effort)


def layers(problem: Problem, order: Sequence[int], slotted: bool) -> tuple[Layer, ...]:
    """The static part of every layer. With path dims `order` must be plan order."""
    count = len(order)
    place = {stage: at for at, stage in enumerate(order)}
    last_child = dict.fromkeys(range(count), -1)
    last_reader = dict.fromkeys(range(count), -1)
    for stage, table in enumerate(problem.stages):
        for parent in table.parents:
            last_child[parent] = max(last_child[parent], place[stage])
        for before in table.given:
            last_reader[before] = max(last_reader[before], place[stage])
    found = []
    for at, stage in enumerate(order):
        table = problem.stages[stage]
        done = order[:at]
        live = [s for s in done if last_child[s] >= at] if slotted else []
        next_live = [s for s in (*live, stage) if last_child[s] > at]
        tracked = _devices(problem, order[at:]) if slotted else ()
        offsets, offset = [], len(live) + 1
        for device in range(len(problem.slots)):
            offsets.append(offset if device in tracked else -1)
            offset += min(problem.slots[device], count) if device in tracked else 0
        known = [s for s in done if last_reader[s] >= at]
        next_known = [s for s in known if last_reader[s] > at]
        ready = []
        for later in order[at + 1 :] if slotted else ():
            parents = problem.stages[later].parents
            if all(place[p] <= at for p in parents):
                ready.append(tuple(next_live.index(p) for p in parents))
        found.append(
            Layer(
                stage,
                tuple(live),
                tuple(live.index(p) for p in table.parents) if slotted else (),
                tuple(i for i, s in enumerate(live) if last_child[s] > at),
                last_child[stage] > at,
                tracked,
                tuple(offsets),
                _devices(problem, order[at + 1 :]) if slotted else (),
                tuple(ready),
                tuple(known.index(s) for s in table.given),
                tuple(problem.stages[s].classes for s in table.given),
                tuple(known.index(s) for s in next_known),
                last_reader[stage] > at,
            )
        )
    return tuple(found)


def _devices(problem: Problem, stages: Sequence[int]) -> tuple[int, ...]:
    """Devices these stages may wait for, ascending: with fewer slots than stages that use them."""
    users = [0] * len(problem.slots)
    for stage in problem.stages:
        for device in set(stage.option_device):
            users[device] += 1
    used = {d for s in stages for d in problem.stages[s].option_device}
    return tuple(sorted(d for d in used if users[d] > problem.slots[d]))


def advance(
    layer: Layer, times: tuple[float, ...], service: float, device: int, slots: Sequence[int]
) -> tuple[float, ...]:
    """The time state after this stage takes `service` seconds on a slot of `device`."""
    offset = layer.offsets[device]
    start = times[offset] if offset >= 0 else 0.0
    for parent in layer.parents:
        if times[parent] > start:
            start = times[parent]
    done = start + service
    fins = [times[i] for i in layer.stays]
    peak = times[len(layer.live)]
    if layer.waited:
        fins.append(done)
    elif done > peak:
        peak = done
    if not layer.after:
        return (*fins, peak)
    floor = 0.0
    if layer.ready and all(layer.ready):
        floor = min([max([fins[i] for i in parents]) for parents in layer.ready])
    free: list[float] = []
    for other in layer.after:
        first = layer.offsets[other]
        mine = list(times[first : first + slots[other]])
        if other == device:
            mine[0] = done
            mine.sort()
        free.extend([t if t > floor else floor for t in mine])
    return (*fins, peak, *free)


def least_tails(
    space_steps: list[list[list[Step]]], problem: Problem, dim: int
) -> dict[int, float]:
    """By stage: the least time from its finish to the end of the plan, over any options."""
    count = len(problem.stages)
    least = [
        min((step.service[dim] for block in blocks for step in block), default=0.0)
        for blocks in space_steps
    ]
    tails = dict.fromkeys(range(count), 0.0)
    for stage in range(count - 1, -1, -1):
        for parent in problem.stages[stage].parents:
            tails[parent] = max(tails[parent], least[stage] + tails[stage])
    return tails


def class_index(layer: Layer, classes: tuple[int, ...]) -> int:
    """The block of this stage, from the classes carried."""
    index = 0
    for at, radix in zip(layer.class_of, layer.class_radix, strict=True):
        index = index * radix + classes[at]
    return index


def explore(
    space: Space, target: float, strict_below: float, most: float = math.inf
) -> list[Label] | None:
    """All undominated complete plans whose bound is <= target and goal <= strict_below.

    None where that takes more than `most` labels.
    """
    start = space.effort.labels
    caps = tuple(
        min(cap, strict_below) if goal else cap
        for cap, goal in zip(space.caps, space.goals, strict=True)
    )
    path_caps = tuple(
        min(cap, strict_below) if goal else cap
        for cap, goal in zip(space.path_caps, space.path_goals, strict=True)
    )
    labels = [space.root]
    for layer in space.layers:
        labels = extend(space, layer, labels, target, caps, path_caps)
        if len(labels) > 4:
            before = len(labels)
            labels = dominate(labels)
            space.effort.dominated += before - len(labels)
        if not labels:
            return []
        if space.effort.labels - start > most:
            return None
    return [label for label in labels if not label.mask]


def extend(
    space: Space,
    layer: Layer,
    labels: Sequence[Label],
    target: float,
    caps: tuple[float, ...],
    path_caps: tuple[float, ...],
) -> list[Label]:
    """Every label by every option that can still win."""
    blocks = space.steps[layer.stage]
    effort = space.effort
    found: list[Label] = []
    for label in labels:
        room = target - label.bound
        steps = blocks[class_index(layer, label.classes) if layer.class_of else 0]
        tried = 0
        for step in steps:
            if step.cost > room:
                break
            tried += 1
            sums = tuple(map(add, label.sums, step.adds))
            if any(map(gt, sums, caps)):
                effort.by_limit += 1
                continue
            times = label.times
            if times:
                times = tuple(
                    [
                        advance(layer, state, service, step.device, space.slots)
                        for state, service in zip(times, step.service, strict=True)
                    ]
                )
                if _too_late(space, layer, times, path_caps):
                    effort.by_limit += 1
                    continue
            classes = label.classes
            if classes or layer.class_added:
                classes = tuple([classes[i] for i in layer.class_stays])
                if layer.class_added:
                    classes = (*classes, step.cls)
            found.append(
                Label(
                    label.bound + step.cost,
                    sums,
                    times,
                    classes,
                    label.mask & step.keeps,
                    step.position,
                    label,
                )
            )
        effort.by_bound += len(steps) - tried
    effort.labels += len(found)
    return found


def _too_late(
    space: Space,
    layer: Layer,
    times: tuple[tuple[float, ...], ...],
    path_caps: tuple[float, ...],
) -> bool:
    """Can some path dim no longer end within its cap?"""
    live = [layer.live[i] for i in layer.stays]
    if layer.waited:
        live.append(layer.stage)
    for state, cap, tails in zip(times, path_caps, space.tails, strict=True):
        if state[len(live)] > cap:
            return True
        for done, stage in zip(state, live, strict=False):
            if done + tails[stage] > cap:
                return True
    return False


def dominate(labels: list[Label]) -> list[Label]:
    """Drop labels no better anywhere than another of the same classes and no fewer patterns."""
    groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for at, label in enumerate(labels):
        groups.setdefault((label.classes, label.mask), []).append(at)
    vectors = [vector_of(label) for label in labels]
    kept: list[int] = []
    free: dict[tuple[int, ...], list[int]] = {}
    for (classes, mask), group in groups.items():
        front = undominated(group, vectors)
        kept.extend(front)
        if not mask:
            free[classes] = front
    if len(groups) > len(free):
        kept = [
            at
            for at in kept
            if not labels[at].mask
            or not any(
                all(map(le, vectors[other], vectors[at]))
                for other in free.get(labels[at].classes, ())
            )
        ]
    return [labels[at] for at in kept]


def vector_of(label: Label) -> tuple[float, ...]:
    """All a label is compared by."""
    if not label.times:
        return label.sums
    vector = label.sums
    for state in label.times:
        vector += state
    return vector


def sum_increments(flat: Flat, row: list[float]) -> tuple[float, list[float]]:
    """The least total of a dim, and what every option adds to the least still reachable."""
    weights = list(row)
    total, least = relax(flat, weights)
    return total, reduced(flat, weights, least)
