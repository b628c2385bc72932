"""Which steps' errors are composed together rather than as if they were independent.

The steps that fail together form a dependence tree [Chow & Liu 1968, "Approximating discrete
probability distributions with dependence trees", IEEE Trans. Inf. Theory 14]: the chance that all
are right is the product of each one's where its partner is right. Edges point along the plan and a
step has at most one earlier partner, the declared one with the most mutual information averaged
over their choices (our choice), so a step's factor depends on one more earlier choice only and the
search stays exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..cost.provider import StatsProvider
from .stage_plan import Class
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


def _information(
    infos: Sequence[StepInfo],
    classes: Sequence[Sequence[Class]],
    first: int,
    second: int,
    stats: StatsProvider,
) -> float:
    """Mutual information in nats, averaged over the pairs of choices that were measured."""
    seen = [
        joint.information
        for one in classes[first]
        for other in classes[second]
        if (joint := stats.joint((infos[first].context, *one), (infos[second].context, *other)))
    ]
    return sum(seen) / len(seen) if seen else 0.0
