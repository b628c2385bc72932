"""Magnitude pruning of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pruned(values: NDArray[Any], share: float) -> NDArray[Any]:
    """A copy with the `share` of its values that are smallest in size at 0; the first of ties."""
    count = round(share * values.size)
    flat = values.copy().reshape(-1)
    flat[np.argsort(np.abs(flat), kind="stable")[:count]] = 0
    return flat.reshape(values.shape)
