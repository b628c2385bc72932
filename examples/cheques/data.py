"""Strips of handwritten digits, made from the images bundled with scikit-learn.

The images are the UCI "Optical Recognition of Handwritten Digits" test set [Alpaydin and Kaynak,
1998]: 1,797 real 8x8 images with 17 grey levels. They are split into three disjoint parts: for
training, for ANALYZE and for measuring. The images of a part are dealt into books of three; all
digits of a strip come from one book. Strips of one book share images and so are not independent of
each other, strips of two books are: the book is what `CLUSTER BY` is given, and what n counts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 8
TRAINING, ANALYZE, MEASURING = 600, 897, 300
BOOK = 3
SHIFT = 0.3
"""Largest shift of a glyph, in pixels, in either direction."""
NOISE = 1.0
"""Standard deviation of the noise on a pixel, in grey levels of 16."""
SEED = 7
DRAWS = 10_000
"""Every tenth draw is right; a book of equal digits might never be."""

Images = "NDArray[np.float64]"


@cache
def digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All images `1797 x 8 x 8` in [0, 16] and their labels, in one seeded random order."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    return bunch.images[order], bunch.target[order]


def part(name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The images and labels of one part: `training`, `analyze` or `measuring`."""
    starts = {"training": 0, "analyze": TRAINING, "measuring": TRAINING + ANALYZE}
    sizes = {"training": TRAINING, "analyze": ANALYZE, "measuring": MEASURING}
    images, labels = digits()
    where = slice(starts[name], starts[name] + sizes[name])
    return images[where], labels[where]


def perturb(
    images: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    shift: float = SHIFT,
    noise: float = NOISE,
    turn: float = 0.0,
) -> NDArray[np.uint8]:
    """Every image `n x 8 x 8` moved by its own sub-pixel shift, turned, and made noisy.

    Returns grey levels in [0, 240], 15 to one of the original's 16. `turn` is the largest rotation
    and shear in radians (only training uses it).
    """
    n = len(images)
    by = rng.uniform(-shift, shift, (2, n, 1, 1))
    angle, shear = rng.uniform(-turn, turn, (2, n, 1, 1))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4)))
    down, across = np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2
    middle = (SIDE - 1) / 2 + 4
    y = np.cos(angle) * down - np.sin(angle) * across + middle - by[0]
    x = (np.sin(angle) + shear) * down + np.cos(angle) * across + middle - by[1]
    y, x = np.clip(y, 0, 14.999), np.clip(x, 0, 14.999)
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = y - y0, x - x0
    i = np.arange(n)[:, None, None]
    moved = (
        padded[i, y0, x0] * (1 - fy) * (1 - fx)
        + padded[i, y0 + 1, x0] * fy * (1 - fx)
        + padded[i, y0, x0 + 1] * (1 - fy) * fx
        + padded[i, y0 + 1, x0 + 1] * fy * fx
    )
    noisy = moved + rng.normal(0, noise, moved.shape)
    grey: NDArray[np.uint8] = np.clip(np.round(noisy * 15), 0, 240).astype(np.uint8)
    return grey


def luhn_valid(number: NDArray[np.int64]) -> bool:
    """Does the last digit check the others [Luhn, US patent 2,950,048]?"""
    weights = np.array([2 if i % 2 else 1 for i in range(len(number))])[::-1]
    doubled = number * weights
    return bool((doubled - 9 * (doubled > 9)).sum() % 10 == 0)


def strips(name: str, count: int) -> pa.Table:
    """`count` strips of 4 to 8 digits from one part, each ending in its Luhn check digit.

    Columns: id, book, strip (BLOB, 8 rows of 8·k grey levels), amount (BIGINT) and digits
    (INTEGER[]), the truth. The digits of a strip are drawn from the images of one book, anew until
    the check digit is right; an image that comes twice is perturbed twice.
    """
    images, labels = part(name)
    rng = np.random.default_rng([SEED, len(labels), count])
    books = np.arange(len(labels)).reshape(-1, BOOK)
    which = np.arange(count) % len(books)
    chosen = [_draw(labels, books[b], rng) for b in which]
    glyphs = perturb(images[np.concatenate(chosen)], rng)
    ends = np.cumsum([len(c) for c in chosen])
    blobs = [
        np.ascontiguousarray(piece.transpose(1, 0, 2)).tobytes()
        for piece in np.split(glyphs, ends[:-1])
    ]
    truth = [labels[c] for c in chosen]
    return pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "book": pa.array(which.astype(np.int32)),
            "strip": pa.array(blobs, pa.binary()),
            "amount": pa.array([int("".join(map(str, t[:-1]))) for t in truth], pa.int64()),
            "digits": pa.array([t.tolist() for t in truth], pa.list_(pa.int32())),
        }
    )


def _draw(
    labels: NDArray[np.int64], book: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Four to eight draws from a book whose last digit checks the others."""
    for _ in range(DRAWS):
        pick = rng.choice(book, int(rng.integers(4, 9)))
        if luhn_valid(labels[pick]):
            return pick
    raise ValueError(f"no number with a check digit in {DRAWS} draws from {labels[book]}")


def write(folder: Path, *, analyze: int, measuring: int) -> None:
    """`analyze.parquet` and `strips.parquet` into the folder."""
    pq.write_table(strips("analyze", analyze), folder / "analyze.parquet")
    pq.write_table(strips("measuring", measuring), folder / "strips.parquet")
