"""Reuse within a chunk: which of its elements are answered from the cache, which are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .backends.base import Column, join_columns
from .cache import Found, StageCache
from .chunks import Rows, take_batch
from .elements import Elements


@dataclass(frozen=True)
class Reuse:
    """A chunk's elements: their keys, `n`, what was found, and the positions called, `m`."""

    cache: StageCache
    keys: list[bytes]
    found: Found | None
    called: Rows

    @property
    def hits(self) -> int:
        """Elements that need no call."""
        return len(self.keys) - len(self.called)


def reuse(elements: Elements, cache: StageCache) -> Reuse:
    """Look the elements up; those found leave `elements.batch`."""
    keys = cache.keys(elements.batch)
    found = cache.find(keys)
    if found is None:
        return Reuse(cache, keys, None, np.arange(len(keys)))
    absent = np.ones(len(keys), np.bool_)
    absent[found.positions] = False
    called = np.flatnonzero(absent)
    elements.batch = take_batch(elements.batch, pa.array(called))
    elements.count = len(called)
    return Reuse(cache, keys, found, called)


def merged(
    reused: Reuse,
    answers: list[list[Column]],
    types: list[pa.DataType],
    failed: Mapping[int, str],
    *,
    first_only: bool,
) -> tuple[list[list[Column]], dict[int, str]]:
    """All elements' outputs, and failures by their positions; what went well is kept.

    `answers` are of the called elements, `failed` by position among them; with `first_only` nothing
    is known behind the first failure.
    """
    called = reused.called
    columns = [
        join_columns([answer[i] for answer in answers]) if answers else pa.nulls(0, kind)
        for i, kind in enumerate(types)
    ]
    well = np.ones(len(called), np.bool_)
    well[list(failed)] = False
    if first_only and failed:
        well[min(failed) :] = False
    stored = np.flatnonzero(well)
    places = pa.array(stored)
    kept = columns if len(stored) == len(called) else [column.take(places) for column in columns]
    reused.cache.store([reused.keys[at] for at in called[stored].tolist()], kept)
    moved = {int(called[position]): message for position, message in failed.items()}
    found = reused.found
    if found is None:
        return [list(columns)], moved
    return [interleaved(found.positions, found.outputs, called, columns)], moved


def interleaved(
    positions: Rows, known: Sequence[pa.Array], called: Rows, computed: Sequence[Column]
) -> list[Column]:
    """Columns of `n` elements, from those known at `positions` and those computed at `called`."""
    order = np.empty(len(positions) + len(called), np.int64)
    order[positions] = np.arange(len(positions))
    order[called] = len(positions) + np.arange(len(called))
    indices = pa.array(order)
    return [
        pa.concat_arrays([old, new]).take(indices) for old, new in zip(known, computed, strict=True)
    ]
