"""How numbers compose along a plan: plain formulas over floats, and `propagate` for intervals.

Every formula exists once, over floats; the search tabulates it, and estimates of a chosen plan put
the same formula through `propagate`. Formulas are language.md's "What the words measure":

- what n elements take at batch size b: floor(n / b) calls of b and one of the rest (`work`); per
  source row that is spread over the rows, T(b) / b an element where nobody says how many there are;
- service time of a row: ceil(elements / b) · T(b) with EACH, T(b) without, at a quantile level;
- a plan's p-quantile: the critical path over its k stages' quantiles at 1 - (1 - p)/k, scheduled
  in plan order on the devices' slots (`schedule`). Valid by the union bound when stages wait for
  nothing else;
- accuracy: the product of the steps' factors (independence): E[q^L] under EACH, (1 - s) + s·f
  under WHEN, and (1 - s)·f_replaced + s·f where the call stands in for another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..ir.estimates import Estimate, weakest

Lengths = tuple[tuple[int, float], ...]
"""(length, probability) of an EACH list."""


def propagate(formula: Callable[[Sequence[float]], float], parts: Sequence[Estimate]) -> Estimate:
    """The formula's estimate: parts moved to their interval's ends, moves added in quadrature.

    First-order error propagation with finite differences over the 95 % intervals [JCGM 100:2008,
    5.1; the differences instead of derivatives are our choice, so that one-sided intervals and
    maxima are handled]. Parts are taken as independent. n, source and age are the weakest part's.
    """
    values = [part.value for part in parts]
    value = formula(values)
    down = up = 0.0
    for place, part in enumerate(parts):
        if part.low == part.high:
            continue
        moved = list(values)
        moved[place] = part.low
        first = formula(moved) - value
        moved[place] = part.high
        second = formula(moved) - value
        down += min(first, second, 0.0) ** 2
        up += max(first, second, 0.0) ** 2
    n, source, at = weakest(list(parts))
    return Estimate(value, value - math.sqrt(down), value + math.sqrt(up), n, source, at)


def share(estimate: Estimate) -> Estimate:
    """An estimate of a share, its interval cut to [0, 1]."""
    low, high = max(estimate.low, 0.0), min(estimate.high, 1.0)
    return Estimate(estimate.value, low, high, estimate.n, estimate.source, estimate.at)


def positive(estimate: Estimate) -> Estimate:
    """An estimate of something that cannot be negative, its interval cut at 0."""
    return Estimate(
        estimate.value,
        max(estimate.low, 0.0),
        estimate.high,
        estimate.n,
        estimate.source,
        estimate.at,
    )


def mean_length(lengths: Lengths | None) -> float:
    """Expected elements per row; 1 without EACH."""
    return 1.0 if lengths is None else sum(length * p for length, p in lengths)


def length_quantile(lengths: Lengths, level: float) -> int:
    """The smallest length that a list has at most, with probability `level`."""
    cumulated = 0.0
    for length, probability in sorted(lengths):
        cumulated += probability
        if cumulated >= level - 1e-12:
            return length
    return max(length for length, _ in lengths)


def work(elements: float, batch: int, one: Callable[[float], float]) -> float:
    """What elements take, pooled into calls of `batch` as the executor pools them.

    floor(n / b) full calls, and one of what is left. `elements` is an expectation: of less than one
    element there is a call of one, as often (no more often, by Markov's inequality). So what is
    expected is never less than one call where an element is, rises with n wherever `one` does, and
    has no jumps.

    Args:
        elements: `n`, 0 or more.
        batch: `b`.
        one: what a call of a size in [1, b] takes.
    """
    full, rest = divmod(elements, batch)
    part = min(rest, 1.0) * one(max(rest, 1.0)) if rest else 0.0
    return full * one(batch) + part


def per_row(
    run: float, elements: float, batch: int, one: Callable[[float], float], rows: float | None
) -> float:
    """What a source row takes of the calls of all `rows`.

    Where nobody says how many rows there are, all calls are full: run × elements × one(b) / b.
    """
    mine = run * elements
    if rows is None:
        return mine * one(batch) / batch
    if rows * mine <= 1.0:
        return mine * one(1.0)
    return work(rows * mine, batch, one) / rows


def first_call(
    run: float, elements: float, batch: int, one: Callable[[float], float], rows: float
) -> float:
    """What the first call takes of those that all rows make: none of them ends before it.

    As often as there is one, where fewer than one element is expected.
    """
    whole = rows * run * elements if run and elements else 0.0
    return min(whole, 1.0) * one(min(max(whole, 1.0), batch))


def price_usd(busy: float, usd_per_hour: float, run: float, elements: float, token: float) -> float:
    """USD per source row: slots by the hour plus tokens by the element."""
    return busy * usd_per_hour / 3600.0 + run * elements * token


def co2_grams(joules: float, grams_per_kwh: float) -> float:
    """g CO2 by the device's grid intensity."""
    return joules / 3.6e6 * grams_per_kwh


def stage_level(metric_level: float, stages: int) -> float:
    """The level at which each of k stages is taken: 1 - (1 - p)/k."""
    return 1.0 - (1.0 - metric_level) / max(stages, 1)


def run_level(level: float, run: float) -> float | None:
    """The level among rows that run that covers `level` of all rows; None: 0 s is enough."""
    if run <= 1.0 - level:
        return None
    return 1.0 - (1.0 - level) / min(run, 1.0)


def service_seconds(
    quantile: Callable[[float], float],
    batch: int,
    lengths: Lengths | None,
    level: float,
    run: float,
    fails: float = 0.0,
) -> float:
    """A row's time at a stage at `level`, over all rows; `quantile(level)` is that of one call.

    A row that fails never answers: `fails`, the share of elements that do, uses up the tail that
    the level leaves, and the calls that answer are taken at what is left of it; inf where nothing
    is. A list whose length varies takes half of the tail probability, the calls the other half
    (union bound); the calls of one row are taken as comonotone (our choice: the safe side).
    """
    among = run_level(level, run)
    if among is None:
        return 0.0
    if fails > 0.0:
        failed = 1.0 - each_factor(1.0 - fails, lengths)
        left = 1.0 - among - failed
        if left <= 0.0:
            return math.inf
        among = 1.0 - left / (1.0 - failed)
    if lengths is None:
        return quantile(among)
    if len(lengths) == 1:
        return math.ceil(lengths[0][0] / batch) * quantile(among)
    half = 1.0 - (1.0 - among) / 2.0
    return math.ceil(length_quantile(lengths, half) / batch) * quantile(half)


def each_factor(quality: float, lengths: Lengths | None) -> float:
    """Probability that a row is right: q, or E[q^L] under EACH."""
    if lengths is None:
        return quality
    return sum(p * quality**length for length, p in lengths)


def when_factor(run: float, factor: float) -> float:
    """(1 - s) + s·f: rows it does not run on are not made wrong by it."""
    return (1.0 - run) + run * factor


def instead_factor(run: float, replaced: float, factor: float) -> float:
    """(1 - s)·f_replaced + s·f: where it ran, the replaced call's answer does not matter."""
    return (1.0 - run) * replaced + run * factor


def schedule(
    predecessors: Sequence[Sequence[int]],
    service: Sequence[float],
    device: Sequence[int],
    slots: Sequence[int],
) -> float:
    """Seconds from a row's arrival to its last answer: list scheduling in plan order.

    Each stage starts when its predecessors are done and the earliest slot of its device is free.
    """
    free = [[0.0] * count for count in slots]
    finish: list[float] = []
    for place, before in enumerate(predecessors):
        mine = free[device[place]]
        slot = min(range(len(mine)), key=mine.__getitem__)
        start = max([mine[slot], *(finish[p] for p in before)])
        finish.append(start + service[place])
        mine[slot] = finish[-1]
    return max(finish, default=0.0)
