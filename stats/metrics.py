"""How an answer is scored against the truth: `QUALITY name(output, arguments…)`.

A metric maps answers and truths to scores in [0, 1]. NULL against NULL is right, NULL against a
value is wrong, NaN equals NaN (as in DuckDB). Errors: OC0480 unknown metric, OC0481 wrong
arguments, OC0482 the truth's type does not fit the answer's, OC0483 a package is missing, OC0484 a
`python` metric cannot be loaded, OC0485 it raised or returned what is no scores, OC0486 the metric
does not score that type.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..ir.models import Metric, Scalar
from .shape_metrics import BOX_FORMATS, cosine, iou
from .text_metrics import f1, rouge_l, wer
from .value_types import (
    comparable,
    has_shapes,
    is_list,
    is_listed,
    is_number,
    is_text,
    is_vector,
    type_text,
)

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
        RunError: the metric is unknown, its arguments are wrong, the types do not compare, or code
            of the user's fails.
    """
    check(metric, type_text(answers.type))
    check_label(metric, answers.type, truth.type)
    if metric.target is not None:
        return _python(metric.target, answers.to_pylist(), truth.to_pylist(), metric.args)
    return METRICS[metric.name](answers.to_pylist(), truth.to_pylist(), metric.args)


def check(metric: Metric, output_type: str | None = None) -> None:
    """Refuse a metric that cannot be computed.

    Args:
        metric: as declared.
        output_type: DuckDB's type of the output it scores, where known.

    Raises:
        RunError: it is unknown, its arguments are wrong, or it does not score that type.
    """
    if metric.name == "python":
        if metric.target is None:
            raise _wrong("python", "a 'module:function', then an output")
        return
    if metric.name not in METRICS:
        raise RunError(
            f"the metric {metric.name} is not built in",
            code="OC0480",
            hint=f"built in: {', '.join(sorted(METRICS))}; python('module:function', output) for "
            "your own",
        )
    if metric.target is not None:
        raise _wrong(metric.name, "an output first")
    if metric.name in _ARGUMENTS:
        fits, expected = _ARGUMENTS[metric.name]
        if not fits(metric.args):
            raise _wrong(metric.name, expected)
    if output_type is not None and metric.name in _SCORES:
        scores, kinds = _SCORES[metric.name]
        if not scores(output_type):
            raise RunError(
                f"{metric.name} scores {kinds}, and {metric.output} is {output_type}",
                code="OC0486",
            )


def check_label(
    metric: Metric, answers: pa.DataType, truth: pa.DataType, *, each: bool = False
) -> None:
    """Refuse a label whose type does not compare with that of the answers.

    Args:
        metric: of the answers.
        answers: their type.
        truth: the label's type.
        each: lists of both are scored by element (EACH).

    Raises:
        RunError: OC0482.
    """
    if comparable(answers, truth):
        return
    hint = f"cast the label: LABELS ({metric.output} := CAST(… AS …))"
    if each and not is_listed(truth):
        hint = "a step that is called on EACH element needs a list as its label, a label an element"
    raise RunError(
        f"{metric.name}({metric.output}) cannot compare {answers} with a label of type {truth}",
        code="OC0482",
        hint=hint,
    )


def _wrong(name: str, expected: str) -> RunError:
    return RunError(f"{name} takes {expected}", code="OC0481")


def _each(one: Callable[[Any, Any, tuple[Scalar, ...]], float]) -> Scorer:
    """A scorer from the score of one answer, neither it nor the truth NULL."""

    def scores(answers: list[Any], truth: list[Any], args: tuple[Scalar, ...]) -> np.ndarray:
        import numpy as np

        found = (
            float(a is t) if a is None or t is None else one(a, t, args)
            for a, t in zip(answers, truth, strict=True)
        )
        return np.fromiter(found, dtype=np.float64, count=len(answers))

    return scores


def _exact_match(answer: Any, truth: Any, _args: tuple[Scalar, ...]) -> float:
    return float(_same(answer, truth))


def _within(answer: Any, truth: Any, args: tuple[Scalar, ...]) -> float:
    tolerance = float(args[0])  # type: ignore[arg-type]  # `check` saw a number
    if type(answer) is not type(truth):  # DECIMAL and DOUBLE do not subtract
        answer, truth = float(answer), float(truth)
    return float(_same(answer, truth) or abs(answer - truth) <= tolerance)


def _python(
    target: str, answers: list[Any], truth: list[Any], args: tuple[Scalar, ...]
) -> np.ndarray:
    """The user's `function(answers, truths, *arguments)`: `n` scores in [0, 1]."""
    import numpy as np

    function = _loaded(target)
    try:
        returned = function(answers, truth, *args)
        scores = np.asarray(returned, dtype=np.float64)
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        raise RunError(f"the metric {target} failed: {kind}: {error}", code="OC0485") from error
    if scores.shape != (len(answers),):
        raise RunError(
            f"the metric {target} returned an array of shape {scores.shape} for {len(answers)} "
            "answers",
            code="OC0485",
            hint="return one score an answer",
        )
    wrong = np.flatnonzero(~((scores >= 0.0) & (scores <= 1.0)))
    if len(wrong):
        raise RunError(
            f"the metric {target} scored an answer {scores[wrong[0]]!r}",
            code="OC0485",
            hint="a score lies between 0 and 1",
        )
    return scores


@functools.cache
def _loaded(target: str) -> Callable[..., Any]:
    """`module:function`, by import or from `module.py` below the working directory.

    Raises:
        RunError: OC0484.
    """
    module_name, _, function_name = target.rpartition(":")
    if not module_name or not function_name:
        raise _unloadable(target, "the target is 'module:function'")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        path = Path(*module_name.split(".")).with_suffix(".py").resolve()
        spec = importlib.util.spec_from_file_location(module_name, path)
        if error.name != module_name.partition(".")[0] or not path.is_file() or spec is None:
            raise _unloadable(target, str(error)) from error
        module = importlib.util.module_from_spec(spec)
        assert spec.loader is not None
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as raised:
            raise _unloadable(target, f"{type(raised).__name__}: {raised}") from raised
    except (Exception, SystemExit) as error:
        raise _unloadable(target, f"{type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise _unloadable(target, f"{module_name} has no function {function_name}")
    return function  # type: ignore[no-any-return]


def _unloadable(target: str, why: str) -> RunError:
    return RunError(f"the metric {target} cannot be loaded: {why}", code="OC0484")


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


def _is_tolerance(value: Scalar) -> bool:
    """A finite number of at least 0."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and math.isfinite(value) and value >= 0  # type: ignore[arg-type, operator]


METRICS: dict[str, Scorer] = {
    "exact_match": _each(_exact_match),
    "within": _each(_within),
    "f1": _each(f1),
    "wer": _each(wer),
    "rouge_l": _each(rouge_l),
    "iou": _each(iou),
    "cosine": _each(cosine),
}
"""Built-in metrics by name."""

_TEXTS = (is_text, "texts")
_SCORES: dict[str, tuple[Callable[[str], bool], str]] = {
    "within": (is_number, "numbers"),
    "f1": (lambda name: is_text(name) or is_list(name), "texts and lists"),
    "wer": _TEXTS,
    "rouge_l": _TEXTS,
    "iou": (has_shapes, "boxes of four numbers, lists of boxes and masks of BOOLEAN"),
    "cosine": (is_vector, "lists of numbers"),
}
"""Types that a built-in metric scores, and how they are called; one left out scores any."""


def _none(args: tuple[Scalar, ...]) -> bool:
    return not args


_ALONE = (_none, "an output and nothing else")
_ARGUMENTS: dict[str, tuple[Callable[[tuple[Scalar, ...]], bool], str]] = {
    "exact_match": _ALONE,
    "within": (lambda args: len(args) == 1 and _is_tolerance(args[0]), "an output and a tolerance"),
    "f1": _ALONE,
    "wer": _ALONE,
    "rouge_l": _ALONE,
    "iou": (
        lambda args: not args or (len(args) == 1 and args[0] in BOX_FORMATS),
        "an output and, if its boxes are no two corners ('xyxy'), their form 'xywh'",
    ),
    "cosine": _ALONE,
}
"""Which arguments a built-in metric takes, and how that is said."""
