"""Strata of rows by what goes into the models: a one-time k-means on features [Circinus].

Rows alike in their inputs tend to be answered alike, so a sample that holds every stratum in its
share estimates with less variance than a uniform one, and never with more but for rounding
[Cochran 1977, Sampling Techniques, 5.6]. Allocation is proportional, so that rows weight
themselves and every plain mean stays unbiased.

Features (our choice): numbers and numeric arrays as they are, text by its length and hashed
trigrams, bytes by their size, times as numbers. Columns are standardised, and each input counts
the same however wide it is. Structs, maps, unions and nested lists say nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from .value_types import is_listed

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAX_STRATA = 16
MIN_SIZE = 10
"""At most so many strata, and so many units in each on average: more resolve little and leave
strata that a small prefix cannot hold (our choice)."""

MAX_POINTS = 5_000
"""Points the centres are fitted to (our choice)."""

GRAMS = 64
"""Hashed trigrams of a text (our choice)."""

MOST = 1e150
"""The largest number as a feature, larger ones count as this: its square can be summed."""

DAY = 86_400.0


def features(table: pa.Table) -> np.ndarray:
    """`rows x d` numbers, float32: what is known of every row before a model runs."""
    import numpy as np

    found = [_features(column.combine_chunks()) for column in table.columns]
    found = [part for part in found if part.shape[1]]
    if not found:
        return np.zeros((table.num_rows, 0), dtype=np.float32)
    return np.concatenate([part / np.sqrt(part.shape[1]) for part in found], axis=1)


def _features(column: Any) -> np.ndarray:
    """`rows x d` standardised numbers of one column; types that say nothing give d = 0."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind, rows = column.type, len(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _standardised(_text(column))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _standardised(_numbers(pc.binary_length(column))[:, None])
    if is_listed(kind) and _is_number(kind.value_type):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0).to_numpy(False))
        width = int(lengths.max(initial=0))
        if not width:
            return np.zeros((rows, 0), dtype=np.float32)
        values = _numbers(pc.list_flatten(column))
        if (lengths == width).all():
            return _standardised(values.reshape(rows, width))
        owner = np.repeat(np.arange(rows), lengths)
        sums = np.bincount(owner, values, rows)
        means = sums / np.maximum(lengths, 1)
        return _standardised(np.stack([lengths, means], axis=1))
    if _is_number(kind):
        return _standardised(_numbers(column)[:, None])
    return np.zeros((rows, 0), dtype=np.float32)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_temporal(kind)
    )


def _numbers(column: Any) -> np.ndarray:
    """Float64 within `MOST`, NULL and what is not finite taken as the mean."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_interval(column.type):
        values = np.array([_seconds(value) for value in column.to_pylist()], dtype=np.float64)
    else:
        if pa.types.is_temporal(column.type):
            wide = column.type.bit_width == 64
            column = column.cast(pa.int64() if wide else pa.int32())
        values = np.array(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    known = np.isfinite(values)
    values[known] = values[known].clip(-MOST, MOST)
    values[~known] = values[known].mean() if known.any() else 0.0
    return values


def _seconds(value: tuple[int, int, int] | None) -> float:
    """Of months, days and nanoseconds; a month counts 30 days, as where DuckDB compares."""
    if value is None:
        return float("nan")
    months, days, nanoseconds = value
    return (30.0 * months + days) * DAY + nanoseconds / 1e9


def _text(column: Any) -> np.ndarray:
    """Length and hashed trigrams."""
    import numpy as np
    import pyarrow.compute as pc
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = pc.fill_null(column, "").to_pylist()
    vectorizer = HashingVectorizer(
        analyzer="char_wb", ngram_range=(3, 3), n_features=GRAMS, dtype=np.float32
    )
    lengths = np.log1p([len(text) for text in texts])[:, None]
    return np.concatenate([lengths, vectorizer.transform(texts).toarray()], axis=1)


def _standardised(values: np.ndarray) -> np.ndarray:
    import numpy as np

    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0), "float32")


def strata(
    table: pa.Table, clusters: Sequence[Hashable] | None = None, seed: int = 0
) -> list[int] | None:
    """The stratum of every row; None where the rows do not differ in any feature.

    Args:
        table: the columns to make features of, `rows` rows that fit in memory.
        clusters: cluster of each row; a cluster is one unit, at the mean of its rows.
        seed: of k-means.

    Raises:
        ImportError: there is text, and scikit-learn is not installed.
    """
    import numpy as np
    from scipy.cluster.vq import kmeans2

    points = features(table)
    place = np.arange(len(points))
    if clusters is not None:
        numbers: dict[Hashable, int] = {}
        place = np.array([numbers.setdefault(key, len(numbers)) for key in clusters])
        sums = np.zeros((len(numbers), points.shape[1]))
        np.add.at(sums, place, points)
        points = sums / np.bincount(place)[:, None]
    distinct = len(np.unique(points, axis=0)) if points.shape[1] else 1
    count = min(MAX_STRATA, len(points) // MIN_SIZE, distinct)
    if count < 2:
        return None
    draw = np.random.default_rng(seed)
    # Centres from a part, then every point to its nearest: k-means need not see all of them twice.
    part = draw.permutation(len(points))[:MAX_POINTS]
    centres, _ = kmeans2(points[part], count, minit="++", rng=draw, missing="warn")
    squares = (centres**2).sum(axis=1)
    found = np.argmin(squares - 2.0 * points @ centres.T, axis=1)
    return [int(stratum) for stratum in found[place]]
