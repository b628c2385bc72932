"""QUANTIZE of scikit-learn estimators: coefficients of linear models and networks.

int8: each coefficient becomes the nearest of 255 levels, symmetric about 0, one scale an output
([Jacob et al., "Quantization and Training of Neural Networks", 2018], without retraining). The
levels are stored and used as single-precision numbers, as scikit-learn has no integer kernels:
what is measured is what 8 bits do to the answers, with half the bytes of double precision.

fp16: coefficients in half precision, on disk and in memory; numpy widens them at each call.
Intercepts stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import sklearn_file
from .base import NotDerivable, Source

LEVELS = 127
"""Of one sign: -128 is left out, so that the levels are symmetric."""


def quantize(source: Source) -> None:
    """Write the estimator of `source.path` with coefficients in the format `source.arg`.

    Raises:
        NotDerivable: it has no coefficients, or such that half precision cannot hold.
    """
    estimator = sklearn_file.load(source.path)
    last = sklearn_file.last_step(estimator)
    weights = sklearn_file.coefficients(last)
    axis = 0 if hasattr(last, "coefs_") else -1
    made = [_half(w) if source.arg == "fp16" else _levels(w, axis) for w in weights]
    sklearn_file.with_coefficients(last, made)
    sklearn_file.save(estimator, source.target)


def _half(weights: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        made = weights.astype(np.float16)
    if not np.isfinite(made).all():
        raise NotDerivable("a coefficient is beyond what half precision can hold")
    return made


def _levels(weights: NDArray[Any], axis: int) -> NDArray[Any]:
    """`weights` at 255 levels; `axis` runs over the inputs of one output."""
    scale = np.abs(weights).max(axis=axis, keepdims=True) / LEVELS
    scale = np.where(scale > 0, scale, 1.0)
    return (np.rint(weights / scale) * scale).astype(np.float32)
