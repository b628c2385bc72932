"""Measuring how the errors of two steps occur together; what is kept is said in `dependence`."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..ir.physical import Choice
from .blocks import Block
from .dependence import CELLS
from .end_to_end import made
from .grading import right_rows
from .intervals import LEVEL, Interval, clustered_share, t_quantile, wilson, z_quantile
from .observation import assignment_text
from .recorder import Recorder

if TYPE_CHECKING:
    import numpy as np

    from .measure import Measure
    from .request import ProfiledStep


class JointErrorsMeasure:
    """Measures pairs of steps on the open blocks of a measure."""

    def __init__(self, measure: Measure, record: Recorder) -> None:
        self.measure = measure
        self.record = record

    def pair(
        self,
        first: ProfiledStep,
        second: ProfiledStep,
        choices: tuple[Choice, Choice],
        reference: Mapping[str, Choice],
        *,
        run: bool,
    ) -> str | None:
        """Record the shares of one pair of choices, the other steps as in `reference`.

        Without `run` only blocks count on which both answered before. The reason where there is
        nothing to score against.
        """
        import numpy as np

        assignment = {**reference, first.key: choices[0], second.key: choices[1]}
        found: list[tuple[np.ndarray, ...]] = []
        names: list[Hashable] = []
        keys = (first.key, second.key)
        for block in self.measure.blocks:
            if not run and not all(block.evaluator.knows(key, assignment) for key in keys):
                continue
            scored = _of_block(block, first, second, assignment)
            if isinstance(scored, str):
                return scored
            places, *columns = scored
            found.append(tuple(columns))
            names += block.names_of(places)
        if not found:
            return None
        one, ran_one, other, ran = (np.concatenate(parts) for parts in zip(*found, strict=True))
        stands_in = first.key in second.instead_of
        over = ran & ran_one if stands_in else np.ones(len(one), dtype=bool)
        clusters = names if self.measure.blocks[0].clusters is not None else None
        recorded = {
            "together": clustered_share(
                np.where(ran, other, one).tolist() if stands_in else (one * other).tolist(),
                clusters,
            )
        }
        among = None if clusters is None else [names[row] for row in np.flatnonzero(over)]
        for name, values in zip(
            CELLS, (one * other, one * (1 - other), (1 - one) * other, (1 - one) * (1 - other)),
            strict=True,
        ):  # fmt: skip
            recorded[name] = clustered_share(values[over].tolist(), among)
        if one[over].sum() > 0.0:
            recorded["second_if_first"] = conditional_share(other[over], one[over], among)
        self._record(first.key, second.key, choices, recorded)
        if not stands_in:
            self.record.add(
                self.measure.chain.stage(first.key).context,
                "row_quality",
                "mean",
                clustered_share(one.tolist(), clusters),
                choice=choices[0],
            )
        return None

    def _record(
        self,
        first: str,
        second: str,
        choices: tuple[Choice, Choice],
        recorded: Mapping[str, Interval],
    ) -> None:
        chain = self.measure.chain
        given = chain.stage(first).context
        for statistic, interval in recorded.items():
            self.record.add(
                chain.stage(second).context,
                "joint_errors",
                statistic,
                interval,
                choice=choices[1],
                given=given,
                assignment=assignment_text({given: made(choices[0])}),
            )


def _of_block(
    block: Block, first: ProfiledStep, second: ProfiledStep, assignment: Mapping[str, Choice]
) -> tuple[np.ndarray, ...] | str:
    """Rows whose inputs did not fail: their places, and for either step scores and where it ran.

    The reason where there is nothing to score against.
    """
    import numpy as np

    evaluator = block.evaluator
    columns: list[np.ndarray] = []
    for step in (first, second):
        rows = right_rows(evaluator, step.key, assignment, step.metric, step.base, block.labels)
        if isinstance(rows, str):
            return rows
        columns += rows
    below = evaluator.chain.ancestors[second.key] - {first.key}
    state = evaluator.before(second.key, assignment)
    places = np.flatnonzero(~state.failed_in(below))
    return places, *(column[places] for column in columns)


def conditional_share(
    scores: np.ndarray, weights: np.ndarray, clusters: Sequence[Hashable] | None
) -> Interval:
    """sum(weights·scores) ÷ sum(weights) of `n` scores and weights in [0, 1], cluster-robust.

    0/1 weights choose rows. Others give a ratio of totals, with its linearised variance
    C/(C-1) · sum_c (sum_{i in c} w_i (x_i - mean))² / (sum w)² and Wilson's interval at the size
    that variance is worth, between Kish's size of the clusters' weights and their number.
    """
    import numpy as np

    if set(np.unique(weights)) <= {0.0, 1.0}:
        rows = np.flatnonzero(weights)
        kept = None if clusters is None else [clusters[row] for row in rows.tolist()]
        return clustered_share(scores[rows].tolist(), kept)
    keys = range(len(scores)) if clusters is None else clusters
    total = float(weights.sum())
    mean = min(1.0, max(0.0, float((weights * scores).sum()) / total))
    sums: dict[Hashable, tuple[float, float]] = {}
    for key, weight, score in zip(keys, weights.tolist(), scores.tolist(), strict=True):
        heavy, residual = sums.get(key, (0.0, 0.0))
        sums[key] = heavy + weight, residual + weight * (score - mean)
    count = sum(1 for heavy, _ in sums.values() if heavy > 0.0)
    if count < 2:
        return Interval(mean, 0.0, 1.0, count)
    kish = total**2 / math.fsum(heavy**2 for heavy, _ in sums.values())
    variance = count / (count - 1) * math.fsum(r * r for _, r in sums.values()) / total**2
    size = mean * (1.0 - mean) / variance if variance > 1e-18 else kish
    size = (
        max(kish, min(size, float(count))) * (z_quantile(LEVEL) / t_quantile(LEVEL, count - 1)) ** 2
    )
    return Interval(mean, *wilson(mean * size, size), count)
