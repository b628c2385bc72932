"""Do the rows that executions see still look like those ANALYZE drew?

Two samples are compared, feature by feature, by the Kolmogorov–Smirnov test. (River's KSWIN is the
same test on a sliding window, its level uncorrected, and ADWIN watches one mean; here two samples
of rows are at hand, and what is wanted is a level that holds.) The features of a value:
itself where it is a number, else its size: characters, bytes, elements; of a list of numbers also
their mean and spread, because a fixed length says nothing; and whether it is NULL.

False alarms are bounded for good: over all features and all comparisons since an ANALYZE the chance
of any is at most `LEVEL`. The k-th comparison spends 6/(π² k²) of it (the shares sum to one), each
of its features an equal part (Bonferroni). The asymptotic distribution is used, conservative where
values repeat.

What it cannot see: a change in what is right while the inputs look the same, and changes in the
features' joint distribution that leave each one as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..ir.record import dataclass

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

LEVEL = 0.01
"""Chance of a false alarm between two ANALYZEs (our choice)."""

LEAST_ROWS = 64
"""Rows that are compared at the least: below, a test at these levels sees nothing (our choice)."""

Features = dict[str, "NDArray[np.float64]"]


@dataclass(frozen=True)
class Drift:
    """The feature that moved most clearly: its p-value against its level, and both medians."""

    feature: str
    p: float
    level: float
    before: float
    after: float

    def text(self) -> str:
        """Why statistics are stale."""
        return (
            f"inputs drifted: {self.feature} had median {self.before:.4g}, has {self.after:.4g} "
            f"(p = {self.p:.1g})"
        )


def spent(look: int, level: float = LEVEL) -> float:
    """The level of the `look`-th comparison, from 1 on."""
    return level * 6.0 / (math.pi * look) ** 2


def drift(reference: Features, seen: Features, look: int, level: float = LEVEL) -> Drift | None:
    """The feature that differs most clearly, if any does at this comparison's level.

    Args:
        reference: of the rows ANALYZE drew; `seen` has the same features.
        seen: of rows that executions saw.
        look: how many comparisons with this reference were made, this one included.
        level: chance of a false alarm over all features and all looks.
    """
    import numpy as np

    each = spent(look, level) / max(len(reference), 1)
    found: Drift | None = None
    for name, before in reference.items():
        after = seen[name]
        before, after = before[~np.isnan(before)], after[~np.isnan(after)]
        if len(before) < LEAST_ROWS or len(after) < LEAST_ROWS:
            continue
        p = p_value(before, after)
        if p <= each and (found is None or p < found.p):
            found = Drift(name, p, each, float(np.median(before)), float(np.median(after)))
    return found


def p_value(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The p-value of two samples being of one distribution [Smirnov 1939]: neither has a NaN."""
    import numpy as np
    from scipy.special import kolmogorov

    values = np.concatenate([one, other])
    below = [
        np.searchsorted(np.sort(some), values, side="right") / len(some) for some in (one, other)
    ]
    farthest = np.max(np.abs(below[0] - below[1]))
    return float(kolmogorov(farthest * np.sqrt(len(one) * len(other) / len(values))))


def features(table: pa.Table) -> Features:
    """The features of every column, `rows` floats each; NaN where a value is NULL."""
    import numpy as np
    import pyarrow as pa

    found: Features = {}
    for name in table.column_names:
        column = table.column(name)
        if isinstance(column.type, pa.BaseExtensionType):
            continue
        for feature, measure in _MEASURES:
            values = measure(column)
            if values is not None:
                found[f"{feature}{name}"] = values
        missing = np.asarray(column.is_null().to_numpy(), dtype=np.float64)
        found[f"NULL share of {name}"] = missing
    return found


def _number(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = column.type
    if kinds.is_temporal(kind) and not kinds.is_duration(kind) and not kinds.is_interval(kind):
        column = column.cast(pa.timestamp("us") if kinds.is_date(kind) else kind)
        column = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32())
    elif not (
        kinds.is_integer(kind)
        or kinds.is_floating(kind)
        or kinds.is_decimal(kind)
        or kinds.is_boolean(kind)
    ):
        return None
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _length(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    kind = column.type
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        sizes = pc.utf8_length(column)
    elif kinds.is_binary(kind) or kinds.is_large_binary(kind):
        sizes = pc.binary_length(column)
    elif kinds.is_list(kind) or kinds.is_large_list(kind):
        sizes = pc.list_value_length(column)
    else:
        return None
    return np.asarray(sizes.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _elements(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """The numbers in lists, NULL and NaN left out, and the row of each; None of other columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    kind = column.type
    if not (kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)):
        return None
    if not (kinds.is_integer(kind.value_type) or kinds.is_floating(kind.value_type)):
        return None
    places = np.flatnonzero(column.is_valid().to_numpy())
    lists = column.drop_null()  # a list that is NULL may yet have elements
    numbers = np.asarray(pc.list_flatten(lists).cast(pa.float64(), safe=False).to_numpy())
    rows = places[pc.list_parent_indices(lists).to_numpy()]
    known = ~np.isnan(numbers)
    return rows[known], numbers[known]


def _mean(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    found = _elements(column)
    return None if found is None else _means(*found, len(column))


def _spread(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    import numpy as np

    found = _elements(column)
    if found is None:
        return None
    rows, numbers = found
    means = _means(rows, numbers, len(column))
    with np.errstate(invalid="ignore"):
        apart = (numbers - means[rows]) ** 2
    return np.sqrt(_means(rows, apart, len(column)))


def _means(
    rows: NDArray[np.int64], numbers: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Of the numbers of every one of `count` rows; NaN of none."""
    import numpy as np

    sums = np.bincount(rows, numbers, count)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / np.bincount(rows, minlength=count))


_MEASURES: tuple[tuple[str, Callable[[pa.ChunkedArray], NDArray[np.float64] | None]], ...] = (
    ("", _number),
    ("length of ", _length),
    ("mean of ", _mean),
    ("spread of ", _spread),
)
