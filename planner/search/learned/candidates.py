"""Plans to begin with: samples of the space and moves from good ones, never all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAMPLES = 256
"""Plans drawn at random from the whole space, each time."""
MOVES = 320
"""Moves from good plans, where they are made: half of one stage, a quarter of two, a quarter
crossings."""


def samples(sizes: Sequence[int], count: int, rng: np.random.Generator) -> np.ndarray:
    """Plans drawn uniformly, `` `count x stages` ``."""
    return np.stack([rng.integers(0, size, count) for size in sizes], axis=1)


def moves(
    elites: np.ndarray, sizes: Sequence[int], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Neighbours of `` `e x stages` `` plans, `` `count x stages` ``.

    A quarter of them change two stages, a quarter take some stages of another elite, the others
    change one.
    """
    stages = len(sizes)
    found = elites[rng.integers(0, len(elites), count)].copy()
    rows = np.arange(count)
    quarter = count // 4
    crossed, twice = rows[:quarter], rows[quarter : 2 * quarter]
    partners = elites[rng.integers(0, len(elites), len(crossed))]
    taken = rng.random((len(crossed), stages)) < 0.5
    found[crossed] = np.where(taken, partners, found[crossed])
    for changed in (rows[quarter:], twice):
        place = rng.integers(0, stages, len(changed))
        found[changed, place] = (rng.random(len(changed)) * np.array(sizes)[place]).astype(int)
    return found
