"""Measuring how the errors of two steps occur together; what is kept is said in `dependence`."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..ir.physical import Choice
from .dependence import CELLS
from .end_to_end import Evaluator, made
from .grading import right_rows
from .intervals import LEVEL, Interval, clustered_share, t_quantile, wilson, z_quantile
from .observation import assignment_text
from .recorder import Recorder

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from .profile import ProfiledStep


class JointErrorsMeasure:
    """Measures pairs of steps on the evaluator's sample."""

    def __init__(
        self,
        evaluator: Evaluator,
        record: Recorder,
        labels: Mapping[tuple[str, str], pa.ChunkedArray],
        clusters: Sequence[Hashable] | None,
    ) -> None:
        self.evaluator = evaluator
        self.record = record
        self.labels = labels
        self.clusters = clusters

    def pair(
        self,
        first: ProfiledStep,
        second: ProfiledStep,
        choices: tuple[Choice, Choice],
        reference: Mapping[str, Choice],
    ) -> str | None:
        """Record the shares of one pair of choices, the other steps as in `reference`.

        The reason where there is nothing to score against.
        """
        import numpy as np

        assignment = {**reference, first.key: choices[0], second.key: choices[1]}
        scored = []
        for step in (first, second):
            rows = right_rows(
                self.evaluator, step.key, assignment, step.metric, step.base, self.labels
            )
            if isinstance(rows, str):
                return rows
            scored.append(rows)
        (one, ran_one), (other, ran) = scored
        chain = self.evaluator.chain
        state = self.evaluator.before(second.key, assignment)
        places = np.flatnonzero(~state.failed_in(chain.ancestors[second.key] - {first.key}))
        one, other, ran = one[places], other[places], ran[places]
        stands_in = first.key in second.instead_of
        over = ran & ran_one[places] if stands_in else np.ones(len(places), dtype=bool)
        clusters = self._clusters_of(places)
        recorded = {
            "together": clustered_share(
                np.where(ran, other, one).tolist() if stands_in else (one * other).tolist(),
                clusters,
            )
        }
        among = self._clusters_of(places[over])
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
                chain.stage(first.key).context,
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
        chain = self.evaluator.chain
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

    def _clusters_of(self, places: np.ndarray) -> list[Hashable] | None:
        return None if self.clusters is None else [self.clusters[place] for place in places]


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
