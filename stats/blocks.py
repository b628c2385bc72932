"""A block of the sample's rows, evaluated together, and what reaches a stage on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..ir.physical import Choice, Stage
from .end_to_end import Evaluator

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Block:
    """Some rows of the sample, evaluated together.

    Args:
        evaluator: of these rows.
        places: their positions in the sample, ascending.
        labels: of the whole sample.
        clusters: of the whole sample; None where rows are independent.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        places: Sequence[int],
        labels: Mapping[tuple[str, str], pa.ChunkedArray],
        clusters: Sequence[Hashable] | None,
    ) -> None:
        import pyarrow as pa

        index = pa.array(places, pa.int64())
        self.evaluator = evaluator
        self.places = tuple(places)
        self.labels = {key: column.take(index) for key, column in labels.items()}
        self.clusters = None if clusters is None else [clusters[place] for place in places]

    def clusters_of(self, rows: Sequence[int] | np.ndarray) -> list[Hashable] | None:
        """The clusters of these of its rows; None where rows are independent."""
        return None if self.clusters is None else [self.clusters[row] for row in rows]

    def names_of(self, rows: Sequence[int] | np.ndarray) -> list[Hashable]:
        """The units of these of its rows: their clusters, else the rows themselves."""
        clusters = self.clusters_of(rows)
        return [self.places[row] for row in rows] if clusters is None else clusters


def input_of(evaluator: Evaluator, stage: Stage, assignment: Mapping[str, Choice]) -> pa.Table:
    """The rows a stage runs on."""
    import pyarrow as pa

    state = evaluator.before(stage.step, assignment)
    return state.table.filter(pa.array(evaluator.live(stage, state)))


def reaching(
    blocks: Sequence[Block],
    stage: Stage,
    assignment: Mapping[str, Choice],
    afford: Callable[[Stage, pa.Table], None],
) -> tuple[pa.Table, int] | None:
    """The rows of the first block of which any reach a stage, and how many were looked at for them.

    None where no row does. What has to be run to see it is asked for first, by `afford`, which
    raises where that may not be.
    """
    looked_at = 0
    for block in blocks:
        evaluator = block.evaluator
        for below in evaluator.chain.stages:
            needed = below.step in evaluator.chain.ancestors[stage.step]
            if needed and not evaluator.knows(below.step, assignment):
                afford(evaluator.sized(below, assignment), input_of(evaluator, below, assignment))
        table = input_of(evaluator, stage, assignment)
        looked_at += len(block.places)
        if table.num_rows:
            return table, looked_at
    return None


def not_run(
    evaluator: Evaluator, keys: Sequence[str], assignment: Mapping[str, Choice]
) -> np.ndarray:
    """`rows` booleans: none of these stages ran."""
    import numpy as np

    mask = np.ones(evaluator.rows, dtype=bool)
    for key in keys:
        state = evaluator.before(key, assignment)
        mask &= ~evaluator.live(evaluator.chain.stage(key), state)
    return mask
