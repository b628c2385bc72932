"""How an answer is scored against the truth: `QUALITY name(output, arguments…)`.

A metric maps answers and truths to scores in [0, 1]. NULL against NULL is right, NULL against a
value is wrong, NaN equals NaN (as in DuckDB). Errors: OC0480 unknown metric, OC0481 wrong
arguments, OC0482 the truth's type does not fit the answer's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..ir.models import Metric, Scalar

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Scorer = Callable[[list[Any], list[Any], tuple[Scalar, ...]], np.ndarray]


def score(metric: Metric, answers: pa.ChunkedArray, truth: pa.ChunkedArray) -> np.ndarray:
    """Scores in [0, 1], float64, one per answer.

    Args:
        metric: which metric; its `output` has been picked by the caller.
        answers: `n` values.
        truth: `n` values of a comparable type.

    Raises:
        RunError: the metric is unknown, its arguments are wrong, or the types do not compare.
    """
    check(metric)
    if not _comparable(answers.type, truth.type):
        raise RunError(
            f"{metric.name}({metric.output}) cannot compare {answers.type} with a label of type "
            f"{truth.type}",
            code="OC0482",
            hint=f"cast the label: LABELS ({metric.output} := CAST(… AS …))",
        )
    return METRICS[metric.name](answers.to_pylist(), truth.to_pylist(), metric.args)


def check(metric: Metric) -> None:
    """Refuse a metric that cannot be computed.

    Raises:
        RunError: it is unknown or its arguments are wrong.
    """
    if metric.name not in METRICS:
        raise RunError(
            f"the metric {metric.name} is not built in",
            code="OC0480",
            hint="built in now: " + ", ".join(sorted(METRICS)) + "; others come later",
        )
    if metric.name == "exact_match" and metric.args:
        raise RunError("exact_match takes an output and nothing else", code="OC0481")
    if metric.name == "within" and not (len(metric.args) == 1 and _is_number(metric.args[0])):
        raise RunError("within takes an output and a tolerance", code="OC0481")


def _exact_match(answers: list[Any], truth: list[Any], _args: tuple[Scalar, ...]) -> np.ndarray:
    import numpy as np

    equal = (_same(a, t) for a, t in zip(answers, truth, strict=True))
    return np.fromiter(equal, dtype=np.float64, count=len(answers))


def _within(answers: list[Any], truth: list[Any], args: tuple[Scalar, ...]) -> np.ndarray:
    import numpy as np

    tolerance = float(args[0])  # type: ignore[arg-type]  # `check` saw a number
    near = (
        _same(a, t) or (a is not None and t is not None and abs(a - t) <= tolerance)
        for a, t in zip(answers, truth, strict=True)
    )
    return np.fromiter(near, dtype=np.float64, count=len(answers))


def _same(a: object, b: object) -> bool:
    """Equality with NULL and NaN equal to themselves, in nested values too."""
    if a is None or b is None:
        return a is b
    if isinstance(a, float) and isinstance(b, float) and a != a and b != b:
        return True
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(a == b)


def _is_number(value: Scalar) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _comparable(answer: pa.DataType, truth: pa.DataType) -> bool:
    """Types whose Python values compare meaningfully: equal ones, any two numbers, texts, …"""
    import pyarrow.types as kinds

    if answer == truth or kinds.is_null(answer) or kinds.is_null(truth):
        return True
    families: tuple[Callable[[pa.DataType], bool], ...] = (
        lambda t: kinds.is_integer(t) or kinds.is_floating(t) or kinds.is_decimal(t),
        lambda t: kinds.is_string(t) or kinds.is_large_string(t) or kinds.is_dictionary(t),
        lambda t: kinds.is_binary(t) or kinds.is_large_binary(t),
        kinds.is_temporal,
        kinds.is_struct,
    )
    listed = (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list)
    if any(kind(answer) for kind in listed) and any(kind(truth) for kind in listed):
        return _comparable(answer.value_type, truth.value_type)
    return any(family(answer) and family(truth) for family in families)


METRICS: dict[str, Scorer] = {"exact_match": _exact_match, "within": _within}
"""Built-in metrics by name."""
