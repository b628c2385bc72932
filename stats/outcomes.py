"""What choices did on the same elements of a step: scores, confidences, answers, by element."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Choice, Stage
from ..ir.record import dataclass
from .blocks import Block
from .grading import element_counts, truth_for
from .metrics import score
from .scoring import list_lengths

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Outcomes:
    """A choice on `n` elements, in the order of the sample.

    Attributes:
        scores: in [0, 1]; 0 where it failed or nothing says what is right.
        confidence: infinite where it failed, as nobody is asked then; NaN where it is unknown.
        units: the independent unit of each.
        answered: is the answer TRUE? None where answers are not BOOLEAN.
    """

    scores: np.ndarray
    confidence: np.ndarray
    units: Sequence[Hashable]
    answered: np.ndarray | None = None

    @property
    def positive(self) -> np.ndarray:
        """Is TRUE the right answer?"""
        import numpy as np

        assert self.answered is not None
        return np.asarray((self.scores == 1.0) == self.answered)


def is_boolean(stage: Stage, metric: Metric) -> bool:
    """Are the answers that the metric scores TRUE or FALSE?"""
    kind = stage.outputs[stage.produce.index(metric.output)].type
    return kind.removesuffix("[]") == "BOOLEAN" and metric.name == "exact_match"


def outcomes(
    stage: Stage,
    blocks: Sequence[Block],
    assignment: Mapping[str, Choice],
    metric: Metric,
    base: Choice | None,
    confidence: str | None,
) -> Outcomes:
    """What the assignment's choice did on these blocks' elements, in the order of the sample.

    So nothing that depends on an order depends on how rows were looked at.

    Args:
        stage: the step.
        blocks: on which it is known.
        assignment: of the step and those before it.
        metric: scores the answers, against a label or against `base`.
        base: the BASE variant's choice.
        confidence: the output that says how sure an answer is; None: nobody asks.
    """
    import numpy as np

    parts = [_of_block(stage, block, assignment, metric, base, confidence) for block in blocks]
    if not parts:
        return Outcomes(np.zeros(0), np.zeros(0), ())
    order = np.argsort(np.concatenate([rows for _, rows in parts]), kind="stable")
    seen = [part for part, _ in parts]
    units = [unit for part in seen for unit in part.units]
    answered = [part.answered for part in seen if part.answered is not None]
    return Outcomes(
        np.concatenate([part.scores for part in seen])[order],
        np.concatenate([part.confidence for part in seen])[order],
        [units[at] for at in order.tolist()],
        np.concatenate(answered)[order] if answered else None,
    )


def _of_block(
    stage: Stage,
    block: Block,
    assignment: Mapping[str, Choice],
    metric: Metric,
    base: Choice | None,
    confidence: str | None,
) -> tuple[Outcomes, np.ndarray]:
    """One block's, and the row of the sample that each element is of."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    evaluator = block.evaluator
    truth = truth_for(evaluator, stage.step, assignment, metric, base, block.labels)
    assert not isinstance(truth, str)  # `untruthful` was asked before
    outputs = evaluator.outputs(stage.step, assignment)
    state = evaluator.before(stage.step, assignment)
    failed = np.zeros(evaluator.rows, dtype=bool)
    failed[list(outputs.failed)] = True
    places = np.flatnonzero(evaluator.live(stage, state))
    index = pa.array(places)
    lengths = element_counts(stage, state.table.take(index))
    read = [metric.output] if confidence is None else [metric.output, confidence]
    columns = [truth.values, *(outputs.columns[stage.produce.index(name)] for name in read)]
    columns = [column.take(index) for column in columns]
    unscored = failed[places] | truth.unknown[places]
    if stage.lists is not None:
        for column in columns[:2]:
            unscored |= list_lengths(column) != lengths
    scorable = pa.array(~unscored)
    kept = [column.filter(scorable) for column in columns]
    if stage.lists is not None:
        kept = [pc.list_flatten(column) for column in kept]
    row_of = np.repeat(np.arange(len(places)), lengths)
    where = ~unscored[row_of]
    scores, answered = np.zeros(len(row_of)), None
    scores[where] = score(metric, kept[1], kept[0])
    sure = np.where(failed[places][row_of], np.inf, np.nan)
    if confidence is not None:
        sure[where] = kept[2].cast(pa.float64()).to_numpy()
    if is_boolean(stage, metric):
        answered = np.zeros(len(row_of), dtype=bool)
        answered[where] = pc.fill_null(kept[1], False).to_numpy()
    names = block.names_of(places)
    seen = Outcomes(scores, sure, [names[row] for row in row_of.tolist()], answered)
    return seen, np.asarray(block.places)[places[row_of]]
