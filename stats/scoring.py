"""Scores of a stage's answers, per element where it ran, and of a pipeline's, per row."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from ..ir.models import Metric
from .metrics import check_label, score
from .promise import Scored

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def row_scores(
    metric: Metric,
    answers: pa.ChunkedArray,
    truth: pa.ChunkedArray,
    failed: np.ndarray,
    clusters: Sequence[Hashable] | None,
) -> Scored:
    """One score per row; failed rows are wrong.

    Args:
        metric: of the answers.
        answers: `n` values.
        truth: `n` values.
        failed: `n` booleans.
        clusters: `n` cluster keys, or None.
    """
    import numpy as np

    scores = np.where(failed, 0.0, score(metric, answers, truth))
    return Scored(scores.tolist(), clusters)


def element_scores(
    metric: Metric,
    answers: pa.ChunkedArray,
    truth: pa.ChunkedArray,
    failed: np.ndarray,
    lengths: np.ndarray,
    clusters: Sequence[Hashable] | None,
) -> Scored:
    """One score per element of lists of answers (EACH).

    A failed row counts all its elements wrong, at least one; so does a row whose truth has another
    length. Elements of one row depend on each other: without clusters, each row is one.

    Args:
        metric: of one element.
        answers: `n` lists; NULL where the row failed or its input was NULL.
        truth: `n` lists.
        failed: `n` booleans.
        lengths: `n` ints, elements of each row's input.
        clusters: `n` cluster keys, or None.

    Raises:
        RunError: OC0482, the truths are no lists, or their elements do not compare; see `score`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    check_label(metric, answers.type, truth.type, each=True)
    if pa.types.is_null(truth.type):
        truth = truth.cast(answers.type)
    keys: Sequence[Hashable] = range(len(answers)) if clusters is None else clusters
    given = list_lengths(answers)
    matches = ~failed & (given == list_lengths(truth))
    fits = pa.array(matches)
    flat_scores = score(
        metric, pc.list_flatten(answers.filter(fits)), pc.list_flatten(truth.filter(fits))
    )
    wrong = np.where(matches, 0, np.where(failed, np.maximum(lengths, 1), given))
    row_of = np.concatenate(
        [
            np.repeat(np.flatnonzero(matches), given[matches]),
            np.repeat(np.arange(len(answers)), wrong),
        ]
    )
    scores = np.concatenate([flat_scores, np.zeros(int(wrong.sum()))])
    return Scored(scores.tolist(), [keys[row] for row in row_of])


def list_lengths(column: pa.ChunkedArray) -> np.ndarray:
    """Elements of each list; 0 for NULL."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), 0)
    return np.asarray(lengths.to_numpy(), dtype=np.int64)
