"""Which steps' errors are composed together rather than as if they were independent.

The steps that fail together form a dependence tree [Chow & Liu 1968, "Approximating discrete
probability distributions with dependence trees", IEEE Trans. Inf. Theory 14]: the chance that all
are right is the product of each one's where its partner is right. Edges point along the plan and a
step has at most one earlier partner, the declared one with the most mutual information averaged
over their choices (our choice), so a step's factor depends on one more earlier choice only and the
search stays exact. The other steps were at their reference choices when the two were measured, as
for every conditional quality.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..cost.provider import Given, StatsProvider
from .stage_plan import Class, Factor
from .steps import StepInfo


def partners(
    infos: Sequence[StepInfo],
    classes: Sequence[Sequence[Class]],
    owned: Sequence[Sequence[int]],
    stats: StatsProvider,
) -> list[int | None]:
    """For every step the earlier one its errors are composed with; None: with none.

    A step that stands in for one other may be composed with that one; where it stands in for more,
    or another step stands in for either, what was measured of two does not say how all compose.
    """
    replaced = {other for mine in owned for other in mine}
    found: list[int | None] = []
    for place, info in enumerate(infos):
        measured = stats.partners(info.context) if place not in replaced else ()
        if owned[place]:
            candidates = [d for d in owned[place] if len(owned[place]) == 1]
        else:
            candidates = [d for d in range(place) if d not in replaced and not owned[d]]
        known = [
            (_information(infos, classes, d, place, stats), -d)
            for d in candidates
            if infos[d].context in measured
        ]
        best = max(known, default=(None, 0))
        found.append(None if best[0] is None else -best[1])
    return found


def dependent(
    stats: StatsProvider, first: Given, second: Given, *, stands_in: bool
) -> Factor | None:
    """The second's factor of the accuracy given the first's choice; None where not measured.

    Its quality where the first is right; where it stands in for the first, that of the two.
    """
    joint = stats.joint(first, second)
    part = None
    if joint is not None:
        part = joint.together if stands_in else joint.second_if_first
    if joint is None or part is None:
        return None
    return Factor((part,), lambda v: v[0], dependence=f"{joint.name} ({first[0]}, {second[0]})")


def alone(stats: StatsProvider, choice: Given) -> Factor | None:
    """The factor of a step that others are composed with: the rows it gets right, all elements."""
    row = stats.row_quality(*choice)
    return None if row is None else Factor((row,), lambda v: v[0])


def _information(
    infos: Sequence[StepInfo],
    classes: Sequence[Sequence[Class]],
    first: int,
    second: int,
    stats: StatsProvider,
) -> float:
    """Mutual information in nats, averaged over the pairs of choices that were measured."""
    seen = []
    for one in classes[first]:
        for other in classes[second]:
            joint = stats.joint((infos[first].context, *one), (infos[second].context, *other))
            information = None if joint is None else joint.information
            if information is not None:
                seen.append(information)
    return sum(seen) / len(seen) if seen else 0.0
