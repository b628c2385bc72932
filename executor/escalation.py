"""A later member of a cascade: which elements come to it, and the answers that the others keep.

Elements that some member before was sure of leave the batch before the cache is asked, as those it
knows do afterwards; both come back in their places when the others are answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..ir.physical import Stage
from .backends.base import Column, join_columns
from .chunks import Chunk, Mask, Rows, take_batch
from .elements import Elements
from .reuse import interleaved


@dataclass(frozen=True)
class Escalated:
    """A chunk's elements: the positions answered before with their answers, and those called."""

    sure: Rows
    answers: tuple[pa.Array, ...]
    called: Rows

    def merged(
        self, answers: list[list[Column]], types: Sequence[pa.DataType], failed: Mapping[int, str]
    ) -> tuple[list[list[Column]], dict[int, str]]:
        """All elements' outputs, and failures by their positions; see `reuse.merged`."""
        columns = [
            join_columns([answer[i] for answer in answers]) if answers else pa.nulls(0, kind)
            for i, kind in enumerate(types)
        ]
        known = [
            *self.answers,
            *(pa.nulls(len(self.sure), kind) for kind in types[len(self.answers) :]),
        ]
        moved = {int(self.called[position]): message for position, message in failed.items()}
        return [interleaved(self.sure, known, self.called, columns)], moved


def escalate(stage: Stage, chunk: Chunk, elements: Elements) -> Escalated | None:
    """Take the elements that are answered already out of `elements.batch`; None: no cascade."""
    escalation = stage.escalation
    if escalation is None:
        return None
    unsure: Mask = np.ones(elements.count, np.bool_)
    for name, threshold in zip(escalation.confidences, escalation.thresholds, strict=True):
        confidence = _of_elements(chunk, elements, name).cast(pa.float64())
        values = confidence.to_numpy(zero_copy_only=False)  # NULL as NaN: not sure
        unsure &= ~(values >= threshold)
    sure, called = np.flatnonzero(~unsure), np.flatnonzero(unsure)
    places = pa.array(sure)
    answers = tuple(_of_elements(chunk, elements, name).take(places) for name in escalation.answers)
    elements.batch = take_batch(elements.batch, pa.array(called))
    elements.count = len(called)
    return Escalated(sure, answers, called)


def _of_elements(chunk: Chunk, elements: Elements, name: str) -> pa.Array:
    """A column's values, one per element of the rows that call."""
    column = chunk.batch.column(name)
    if elements.called is not None:
        column = column.take(pa.array(elements.called))
    return column.flatten() if elements.each else column
