"""What a stage's answers are scored against, and every row's score at a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Choice, Stage
from .end_to_end import Evaluator, Truth
from .scoring import element_scores, list_lengths, row_scores

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def right_rows(
    evaluator: Evaluator,
    key: str,
    assignment: Mapping[str, Choice],
    metric: Metric | None,
    base: Choice | None,
    labels: Mapping[tuple[str, str], pa.ChunkedArray],
) -> tuple[np.ndarray, np.ndarray] | str:
    """Every row's score at a stage, and where the stage ran: two arrays of `rows`.

    Under EACH a row's score is the product of its elements' (all must be right), as E[q^length]
    composes them. A row that the stage skips is not made wrong by it; one that failed below it or
    in it is wrong. The reason where there is nothing to score against.
    """
    import numpy as np
    import pyarrow as pa

    found = truth_for(evaluator, key, assignment, metric, base, labels)
    if isinstance(found, str):
        return found
    assert metric is not None
    stage, chain = evaluator.chain.stage(key), evaluator.chain
    outputs, state = evaluator.outputs(key, assignment), evaluator.before(key, assignment)
    ran = evaluator.live(stage, state)
    wrong = found.unknown.copy()
    wrong[list(outputs.failed)] = True
    places = np.flatnonzero(ran)
    index = pa.array(places)
    answers = outputs.columns[stage.produce.index(metric.output)].take(index)
    truth = found.values.take(index)
    if stage.lists is None:
        scored = row_scores(metric, answers, truth, wrong[places], None)
        own = np.asarray(scored.scores)
    else:
        lengths = element_counts(stage, state.table.take(index))
        scored = element_scores(metric, answers, truth, wrong[places], lengths, None)
        own = np.ones(len(places))
        np.multiply.at(own, np.asarray(scored.clusters, dtype=np.int64), scored.scores)
    scores = np.where(state.failed_in(chain.ancestors[key]), 0.0, 1.0)
    scores[places] = own
    return scores, ran


def truth_for(
    evaluator: Evaluator,
    key: str,
    assignment: Mapping[str, Choice],
    metric: Metric | None,
    base: Choice | None,
    labels: Mapping[tuple[str, str], pa.ChunkedArray],
) -> Truth | str:
    """A step's label, else BASE's answers on the same inputs, else why there is no truth."""
    import numpy as np

    stage = evaluator.chain.stage(key)
    problem = untruthful(stage, metric, base, labels)
    if problem is not None:
        return problem
    assert metric is not None
    unknown = np.zeros(evaluator.rows, dtype=bool)
    label = labels.get((key, metric.output))
    if label is not None:
        return Truth(label, unknown)
    assert base is not None
    truths = evaluator.outputs(key, {**assignment, key: base})
    unknown[list(truths.failed)] = True
    return Truth(truths.columns[stage.produce.index(metric.output)], unknown)


def untruthful(
    stage: Stage,
    metric: Metric | None,
    base: Choice | None,
    labels: Mapping[tuple[str, str], pa.ChunkedArray],
) -> str | None:
    """Why nothing says what is right at a step; None where something does."""
    if metric is None:
        return f"{stage.model} declares no QUALITY"
    if metric.output not in stage.produce:
        return f"the plan does not compute {metric.output}, which QUALITY scores"
    if base is None and (stage.step, metric.output) not in labels:
        return f"no label for {metric.output}, and {stage.model} has no BASE variant"
    return None


def element_counts(stage: Stage, table: pa.Table) -> np.ndarray:
    """`rows` ints: elements each row brings to the stage (1 without EACH)."""
    import numpy as np

    if stage.lists is None:
        return np.ones(table.num_rows, dtype=np.int64)
    listed = next(arg for arg, is_list in zip(stage.args, stage.lists, strict=True) if is_list)
    return list_lengths(table.column(listed))
