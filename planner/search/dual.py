"""The Lagrangian relaxation: a lower bound on every plan, and reduced costs of every option.

The limits are priced into the goal by multipliers; what is left falls apart into stages, which are
minimised one by one. A stage whose entries depend on an earlier one's class passes its minimum as a
message to it (the last of them; over the others the least is taken, which keeps it a bound).

The best multipliers are found by Dantzig–Wolfe decomposition, whose dual is the cutting-plane
method [Geoffrion 1974, "Lagrangean relaxation for integer programming"; Desrosiers & Lübbecke
2005, "A primer in column generation"]: a small linear program over the assignments met so far, by
revised simplex, priced by the relaxation. Any multipliers >= 0 give a valid bound, so a stop
before convergence costs only tightness.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.record import dataclass
from .prepare import StageData
from .table import Problem

_STEPS = 200
"""Cap on simplex steps; far above what 12 stages with 3 rows take (about 20)."""


@dataclass(frozen=True)
class Flat:
    """All stages' entries in one list per dim: block (i, g) starts at `start[i] + g·size[i]`."""

    sizes: tuple[int, ...]
    blocks: tuple[int, ...]
    starts: tuple[int, ...]
    length: int
    given: tuple[tuple[int, ...], ...]
    radix: tuple[int, ...]
    readers: tuple[tuple[int, ...], ...]
    data: tuple[StageData, ...]

    def row(self, dim: str, stages: frozenset[int] | None = None) -> list[float]:
        """A dim's entries; 0 where a stage has none or is not among `stages`."""
        flat: list[float] = []
        for place, stage in enumerate(self.data):
            rows = stage.rows.get(dim) if stages is None or place in stages else None
            if rows is None:
                flat.extend([0.0] * (self.blocks[place] * self.sizes[place]))
            else:
                for entries in rows:
                    flat.extend(entries)
                if len(rows) < self.blocks[place]:
                    flat.extend(rows[0] * (self.blocks[place] - len(rows)))
        return flat


def flatten(problem: Problem, data: Sequence[StageData]) -> Flat:
    """Lay out the surviving options."""
    sizes, blocks, starts, radix = [], [], [], []
    readers: list[list[int]] = [[] for _ in data]
    length = 0
    for place, (table, stage) in enumerate(zip(problem.stages, data, strict=True)):
        combinations = 1
        for before in table.given:
            combinations *= problem.stages[before].classes
        if table.given:
            readers[table.given[-1]].append(place)
        radix.append(problem.stages[table.given[-1]].classes if table.given else 1)
        sizes.append(len(stage.options))
        blocks.append(combinations)
        starts.append(length)
        length += combinations * len(stage.options)
    return Flat(
        tuple(sizes),
        tuple(blocks),
        tuple(starts),
        length,
        tuple(table.given for table in problem.stages),
        tuple(radix),
        tuple(tuple(r) for r in readers),
        tuple(data),
    )


def relax(flat: Flat, weights: list[float]) -> tuple[float, list[list[float]]]:
    """Minimise the sum of weights; messages are added to `weights` in place.

    Returns the minimum and, by stage, the least weight by class of its last given (one entry where
    it has none).
    """
    total = 0.0
    least: list[list[float]] = [[] for _ in flat.sizes]
    for place in range(len(flat.sizes) - 1, -1, -1):
        start, size = flat.starts[place], flat.sizes[place]
        if flat.readers[place]:
            messages = [least[reader] for reader in flat.readers[place]]
            extra = [sum(m[cls] for m in messages) for cls in flat.data[place].classes]
            extra *= flat.blocks[place]
            stop = start + len(extra)
            weights[start:stop] = [w + e for w, e in zip(weights[start:stop], extra, strict=True)]
        if not flat.given[place]:
            least[place] = [min(weights[start : start + size])]
            total += least[place][0]
            continue
        mine = [
            min(weights[at : at + size])
            for at in range(start, start + flat.blocks[place] * size, size)
        ]
        radix = flat.radix[place]
        least[place] = [min(mine[cls::radix]) for cls in range(radix)]
    return total, least


def pick(flat: Flat, weights: Sequence[float], least: Sequence[Sequence[float]]) -> list[int]:
    """Flat positions of a relaxed minimum (weights with messages)."""
    found: list[int] = []
    classes: list[int] = []
    for place, size in enumerate(flat.sizes):
        start = flat.starts[place]
        if flat.given[place]:
            radix, cls = flat.radix[place], classes[flat.given[place][-1]]
            target = least[place][cls]
            at = -1
            for g in range(cls, flat.blocks[place], radix):
                first = start + g * size
                if min(weights[first : first + size]) == target:
                    at = weights.index(target, first, first + size)
                    break
        else:
            at = weights.index(least[place][0], start, start + size)
        found.append(at)
        classes.append(flat.data[place].classes[(at - start) % size])
    return found


def reduced(flat: Flat, weights: Sequence[float], least: Sequence[Sequence[float]]) -> list[float]:
    """What an option adds to the relaxed minimum, given what was chosen before; all >= 0."""
    costs: list[float] = []
    for place, size in enumerate(flat.sizes):
        start, radix = flat.starts[place], flat.radix[place]
        for g in range(flat.blocks[place]):
            floor = least[place][g % radix] if flat.given[place] else least[place][0]
            first = start + g * size
            costs.extend([w - floor for w in weights[first : first + size]])
    return costs


@dataclass(frozen=True)
class Column:
    """An assignment of the relaxation: flat positions, its goal and its coupling entries."""

    positions: tuple[int, ...]
    goal: float
    entries: tuple[float, ...]


@dataclass(frozen=True)
class Dual:
    """The best bound found and the multipliers that give it.

    `weights` are priced entries with messages at these multipliers, `least` as from `relax`;
    `columns` the assignments met, the last basis first.
    """

    bound: float
    multipliers: tuple[float, ...]
    weights: list[float]
    least: list[list[float]]
    columns: tuple[Column, ...]
    steps: int


class Master:
    """The revised simplex over columns, slacks and (for a goal of several terms) their maximum.

    Rows: one per coupling row, and the convexity row. `terms` coupling rows at the front are goal
    terms, bounded by the variable z.
    """

    def __init__(self, bounds: Sequence[float], terms: int, big: float) -> None:
        """`big` is what an infeasible mix costs per unit; above any goal."""
        self.count = len(bounds)
        self.terms = terms
        self.right = [*bounds, 1.0]
        size = self.count + 1
        self.inverse = [[1.0 if i == j else 0.0 for j in range(size)] for i in range(size)]
        self.level = [float(b) for b in bounds] + [1.0]
        self.costs = [0.0] * self.count + [big]
        self.basis: list[Column | None] = [None] * size

    def prices(self) -> list[float]:
        """Dual values of the rows."""
        prices = [0.0] * (self.count + 1)
        for cost, row in zip(self.costs, self.inverse, strict=True):
            if cost:
                prices = [p + cost * r for p, r in zip(prices, row, strict=True)]
        return prices

    def enter(self, cost: float, entries: Sequence[float], column: Column | None) -> bool:
        """Pivot a column in; False where no row limits it or nothing moves."""
        inverse = self.inverse
        direction = [sum(map(_times, row, entries)) for row in inverse]
        best, ratio = -1, 0.0
        for place, d in enumerate(direction):
            if d > 1e-11:
                r = self.level[place] / d
                if best < 0 or r < ratio or (r == ratio and d > direction[best]):
                    best, ratio = place, r
        if best < 0:
            return False
        pivot = direction[best]
        head = [x / pivot for x in inverse[best]]
        inverse[best] = head
        for place, d in enumerate(direction):
            if place != best and d:
                inverse[place] = [x - d * h for x, h in zip(inverse[place], head, strict=True)]
                self.level[place] = max(self.level[place] - d * ratio, 0.0)
        self.level[best] = ratio
        self.costs[best] = cost
        self.basis[best] = column
        return True


def _times(a: float, b: float) -> float:
    return a * b


def maximise(
    flat: Flat,
    goals: Sequence[list[float]],
    rows: Sequence[list[float]],
    bounds: Sequence[float],
    *,
    big: float,
    warm: Sequence[Column] = (),
) -> Dual:
    """The best multipliers for `rows` <= `bounds` and the goal max over `goals`.

    With several goals their rows come first among the multipliers, which then sum to at most 1
    (entries of goals must be >= 0).
    """
    several = len(goals) > 1
    coupling = [*goals, *rows] if several else list(rows)
    limits = [0.0] * len(goals) + list(bounds) if several else list(bounds)
    base = [0.0] * flat.length if several else goals[0]
    master = Master(limits, len(goals) if several else 0, big)
    pool = list(warm)
    best: Dual | None = None
    steps = 0
    while steps < _STEPS:
        steps += 1
        prices = master.prices()
        if _enter_slack(master, prices) or _enter_pooled(master, prices, pool):
            continue
        multipliers = [max(-p, 0.0) for p in prices[:-1]]
        weights = priced(base, coupling, multipliers)
        total, least = relax(flat, weights)
        bound = total - sum(map(_times, multipliers, limits))
        if best is None or bound > best.bound:
            best = Dual(bound, tuple(multipliers), weights, least, (), steps)
        scale = abs(prices[-1]) + abs(total) + 1e-12
        if total - prices[-1] >= -1e-9 * scale:
            break
        positions = pick(flat, weights, least)
        column = Column(
            tuple(positions),
            sum([base[p] for p in positions]),
            tuple([sum([row[p] for p in positions]) for row in coupling]),
        )
        pool.append(column)
        if not master.enter(column.goal, (*column.entries, 1.0), column):
            break
    assert best is not None
    basic = [column for column in master.basis if column is not None]
    rest = [column for column in pool if column not in basic]
    return Dual(best.bound, best.multipliers, best.weights, best.least, (*basic, *rest), steps)


def priced(
    base: list[float], rows: Sequence[list[float]], multipliers: Sequence[float]
) -> list[float]:
    """base + Σ multiplier · row, skipping zeros."""
    weights = base
    for multiplier, row in zip(multipliers, rows, strict=True):
        if multiplier:
            weights = [w + multiplier * x for w, x in zip(weights, row, strict=True)]
    return list(weights) if weights is base else weights


def _enter_slack(master: Master, prices: Sequence[float]) -> bool:
    """Enter the slack (or z) with the most negative reduced cost, if any."""
    worst, place = -1e-9, -1
    for row in range(master.count):
        if -prices[row] < worst * (1.0 + abs(prices[-1])):
            worst, place = -prices[row] / (1.0 + abs(prices[-1])), row
    if place >= 0:
        unit = [0.0] * (master.count + 1)
        unit[place] = 1.0
        return master.enter(0.0, unit, None)
    if master.terms and 1.0 + sum(prices[: master.terms]) < -1e-9:
        z = [-1.0] * master.terms + [0.0] * (master.count + 1 - master.terms)
        return master.enter(1.0, z, None)
    return False


def _enter_pooled(master: Master, prices: Sequence[float], pool: Sequence[Column]) -> bool:
    """Enter the stored column with the most negative reduced cost, if any."""
    best, found = -1e-9 * (1.0 + abs(prices[-1])), None
    for column in pool:
        cost = column.goal - prices[-1] - sum(map(_times, prices, column.entries))
        if cost < best:
            best, found = cost, column
    return found is not None and master.enter(found.goal, (*found.entries, 1.0), found)
