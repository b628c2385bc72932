"""Metrics of shapes and vectors: intersection over union, cosine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..ir.models import Scalar

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

BOX_FORMATS = ("xyxy", "xywh")


def iou(answer: Any, truth: Any, args: tuple[Scalar, ...]) -> float:
    """Intersection over union of boxes, of lists of boxes, or of masks.

    A box is four numbers, in a list or a struct: two corners (`xyxy`, the default), or a corner,
    width and height (`xywh`, the metric's argument). Lists of boxes are matched one to one so that
    the sum of IoUs is largest, and score that sum ÷ the longer list's length: a box too many or too
    few counts 0. A mask is a list of BOOLEAN, nested as deep as it has dimensions. Two empty lists
    and two empty masks are the same; masks of different shapes have nothing in common.
    """
    if _holds(answer, bool) or _holds(truth, bool):
        return _mask_iou(answer, truth)
    form = str(args[0]) if args else "xyxy"
    one, other = _box(answer, form), _box(truth, form)
    if one is not None and other is not None:
        return _box_iou(one, other)
    return _matched([_box(b, form) for b in answer], [_box(b, form) for b in truth])


def cosine(answer: Sequence[Any], truth: Sequence[Any], _args: tuple[Scalar, ...]) -> float:
    """(1 + cos) / 2 of two vectors: 1 for the same direction, 0.5 at a right angle, 0 opposite.

    Two zero vectors are the same. A zero vector and another, vectors of different lengths, and ones
    with NULL or a number that is not finite, have nothing in common.
    """
    if len(answer) != len(truth) or any(
        v is None or not math.isfinite(v) for v in (*answer, *truth)
    ):
        return 0.0
    # Scaled by the largest entry, squares neither overflow nor vanish.
    one, other = _scaled(answer), _scaled(truth)
    if not any(one) or not any(other):
        return float(not any(one) and not any(other))
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    ratio = dot / (math.hypot(*one) * math.hypot(*other))
    return min(1.0, max(0.0, (1.0 + ratio) / 2.0))


def _scaled(vector: Sequence[Any]) -> list[float]:
    largest = max((abs(float(v)) for v in vector), default=0.0)
    return [float(v) / largest for v in vector] if largest else [0.0] * len(vector)


def _box(value: Any, form: str) -> Box | None:
    """Four numbers as corners; None where it is no box."""
    parts = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(parts, Sequence) or len(parts) != 4:
        return None
    if not all(isinstance(part, int | float) or hasattr(part, "as_tuple") for part in parts):
        return None
    left, top, right, bottom = map(float, parts)
    if form == "xywh":
        right, bottom = left + right, top + bottom
    return left, top, right, bottom


def _box_iou(one: Box, other: Box) -> float:
    """Of two boxes; one without area is only like itself."""
    if one == other:
        return 1.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if not (width > 0.0 and height > 0.0):
        return 0.0
    shared = width * height
    union = _area(one) + _area(other) - shared
    share = shared / union if union > 0.0 else 0.0
    return min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _matched(answers: Sequence[Box | None], truths: Sequence[Box | None]) -> float:
    """The best one-to-one matching; what is no box (NULL) matches nothing."""
    longer = max(len(answers), len(truths))
    if not longer:
        return 1.0
    if not answers or not truths:
        return 0.0
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    shared = np.array(
        [
            [_box_iou(a, t) if a is not None and t is not None else 0.0 for t in truths]
            for a in answers
        ]
    )
    rows, columns = linear_sum_assignment(shared, maximize=True)
    return min(1.0, math.fsum(shared[rows, columns].tolist()) / longer)


def _mask_iou(answer: Any, truth: Any) -> float:
    one, other = _flat(answer), _flat(truth)
    if one is None or other is None or _shape(answer) != _shape(truth):
        return 0.0
    shared = sum(a and b for a, b in zip(one, other, strict=True))
    either = sum(a or b for a, b in zip(one, other, strict=True))
    return shared / either if either else 1.0


def _holds(value: Any, kind: type) -> bool:
    """Is it a list, at any depth, that has such values?"""
    if isinstance(value, list):
        return any(_holds(item, kind) for item in value)
    return isinstance(value, kind)


def _flat(mask: Any) -> list[bool] | None:
    """The cells of a mask, NULL as outside; None where it is none."""
    if mask is None or isinstance(mask, bool):
        return [bool(mask)]
    if not isinstance(mask, list):
        return None
    found: list[bool] = []
    for item in mask:
        cells = _flat(item)
        if cells is None:
            return None
        found += cells
    return found


def _shape(mask: Any) -> Any:
    return [_shape(item) for item in mask] if isinstance(mask, list) else None
