"""Which rows ANALYZE looks at, and which of them it holds back for promises.

Both follow from the seed and the order of the rows alone. Rows of one cluster are one independent
unit, so a cluster lies on one side of the split only: otherwise a candidate tuned on the search
side would have seen half of what proves it.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from typing import Literal

Role = Literal["search", "held_back"]

DEFAULT_SAMPLE = 1000
"""Rows ANALYZE takes where SAMPLE is silent: accuracy to ±3 points on the search half (our
choice)."""


def sample(rows: int, size: int | None, seed: int) -> list[int]:
    """Positions of a uniform sample without replacement, ascending; all rows if there are fewer."""
    wanted = DEFAULT_SAMPLE if size is None else size
    if wanted >= rows:
        return list(range(rows))
    return sorted(random.Random(seed).sample(range(rows), wanted))


def split(
    rows: int,
    clusters: Sequence[Hashable] | None,
    held_back_share: float = 0.5,
    seed: int = 0,
) -> list[Role]:
    """The role of every row.

    Args:
        rows: how many.
        clusters: each row's cluster; None where rows are independent.
        held_back_share: share of the clusters held back, in [0, 1].
        seed: of the split.

    Returns:
        `rows` roles; from two clusters on, a share strictly between 0 and 1 leaves both sides some.
    """
    keys: Sequence[Hashable] = range(rows) if clusters is None else clusters
    if len(keys) != rows:
        raise ValueError("one cluster per row")
    units = list(dict.fromkeys(keys))
    random.Random(seed).shuffle(units)
    count = round(held_back_share * len(units))
    if len(units) >= 2 and 0.0 < held_back_share < 1.0:
        count = min(max(count, 1), len(units) - 1)
    held_back = set(units[:count])
    return ["held_back" if key in held_back else "search" for key in keys]
