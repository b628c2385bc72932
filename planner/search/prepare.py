"""From tables to what the search runs on: dominated options dropped, rows laid out flat.

Dropping is exact: an option goes only if another one of the stage is no worse in every dim that a
limit or the goal reads, under every class of `given`; has the same class where later entries depend
on it; the same device where slots decide when later stages start; and is ruled out by no more
forbidden assignments.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from operator import le

from ...ir.record import dataclass
from .table import Problem, StageTable

Vector = tuple[float, ...]

COMPARED = 300
"""Front members a vector of more than three places is compared with, latest successes first: not
all that is dominated needs to go (our choice, fastest of 30 to all on the DAG benchmark)."""


@dataclass(frozen=True)
class Pattern:
    """Forbidden assignments: those that take one of `options[i]` at every stage i."""

    options: tuple[frozenset[int], ...]


@dataclass(frozen=True)
class Layout:
    """Which dims matter, and how: shared by all stages of a problem.

    `sums` are the sum dims in play, `paths` the path dims left (a chain's are sums). `classed` are
    the stages whose class is read later; `slotted` says that devices matter beyond the dims.
    """

    sums: tuple[str, ...]
    paths: tuple[str, ...]
    classed: frozenset[int]
    slotted: bool


@dataclass(frozen=True)
class StageData:
    """One stage's surviving options.

    `options` are indices into the table; `rows[dim]` is `[g][survivor]`; `keeps` the forbidden
    patterns (as bits) each survivor is part of.
    """

    options: tuple[int, ...]
    classes: tuple[int, ...]
    devices: tuple[int, ...]
    rows: Mapping[str, tuple[tuple[float, ...], ...]]
    keeps: tuple[int, ...]


def is_chain(problem: Problem) -> bool:
    """Does every stage wait for the one before it? Then a path dim is a plain sum."""
    return all(place - 1 in s.parents for place, s in enumerate(problem.stages) if place)


def layout(problem: Problem, dims: Sequence[str]) -> Layout:
    """The layout for the dims that goal and limits read."""
    chain = is_chain(problem)
    read = tuple(dict.fromkeys(dims))
    sums = tuple(dim for dim in read if chain or dim not in problem.paths)
    paths = tuple(dim for dim in read if dim not in sums)
    classed = frozenset(before for stage in problem.stages for before in stage.given)
    return Layout(sums, paths, classed, bool(paths))


def prepare_stage(
    table: StageTable, place: int, plan: Layout, patterns: Sequence[Pattern]
) -> StageData:
    """Drop the stage's dominated options."""
    dims = [dim for dim in (*plan.sums, *plan.paths) if dim in table.rows]
    columns = [row for dim in dims for row in table.rows[dim]]
    vectors: list[Vector] = (
        list(zip(*columns, strict=True)) if columns else [()] * len(table.option_class)
    )
    keeps = [0] * table.size
    for bit, pattern in enumerate(patterns):
        for option in pattern.options[place]:
            keeps[option] |= 1 << bit
    groups: dict[tuple[int, int, int], list[int]] = {}
    classed = place in plan.classed
    for option, (cls, device) in enumerate(
        zip(table.option_class, table.option_device, strict=True)
    ):
        key = (cls if classed else -1, device if plan.slotted else -1, keeps[option])
        groups.setdefault(key, []).append(option)
    kept: list[int] = []
    for group in groups.values():
        kept.extend(undominated(group, vectors))
    kept.sort()
    return StageData(
        tuple(kept),
        tuple(table.option_class[o] for o in kept),
        tuple(table.option_device[o] for o in kept),
        {dim: tuple(tuple([row[o] for o in kept]) for row in table.rows[dim]) for dim in dims},
        tuple(keeps[o] for o in kept),
    )


def undominated(items: Sequence[int], vectors: Sequence[Vector]) -> list[int]:
    """The items whose vector no other item's is <= to in every place; of equals the first.

    Up to three places by a sweep with a staircase, O(n log n) [Kung, Luccio & Preparata 1975];
    beyond that pairwise against `COMPARED` members of the front, so that some may be left.
    """
    if len(items) <= 1:
        return list(items)
    width = len(vectors[items[0]])
    ordered = sorted(items, key=vectors.__getitem__)
    if width == 0:
        return ordered[:1]
    if width <= 3:
        return _staircase(ordered, vectors, width)
    front: list[int] = []
    kept: list[Vector] = []
    for item in ordered:
        mine = vectors[item]
        for place, other in enumerate(kept[:COMPARED]):
            if all(map(le, other, mine)):
                if place:
                    kept.insert(0, kept.pop(place))
                break
        else:
            front.append(item)
            kept.append(mine)
    return front


def _staircase(ordered: Sequence[int], vectors: Sequence[Vector], width: int) -> list[int]:
    """Sweep in lexicographic order; `xs` ascending, `ys` descending hold the stairs so far."""
    front: list[int] = []
    xs: list[float] = []
    ys: list[float] = []
    for item in ordered:
        vector = vectors[item]
        x = vector[1] if width > 1 else 0.0
        y = vector[2] if width > 2 else 0.0
        place = bisect_right(xs, x)
        if place and ys[place - 1] <= y:
            continue
        front.append(item)
        start = bisect_left(xs, x)
        stop = start
        while stop < len(ys) and ys[stop] >= y:
            stop += 1
        xs[start:stop] = [x]
        ys[start:stop] = [y]
    return front
