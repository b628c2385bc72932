"""Results of model calls, kept and used again: `SET cache = true`.

A result's key is a hash of everything it depends on: the variant's artefact (the bytes of its file;
for `python` its module's source), backend and options, the model's prompt, the knobs, the outputs
that are read, and the canonical typed input of the one call. A failed call is never kept, nor is a
call of a model that has a volatile variant.

Kept in memory, least recently used first to go, by the chunk's worth of results that were stored
together. Not in the key: what a module imports, and files it opens by itself; only files named by
an option of USING are.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..ir.models import Model, Variant, knobs_text
from ..ir.physical import Stage
from .artefacts import artefact
from .canonical import row_bytes
from .chunks import Rows

CAPACITY_BYTES = 256 << 20
"""What a session keeps (our choice): results are small beside what computed them."""
KEY_BYTES = 256
"""What a key takes besides its result in CPython: digest, tuple, places in two containers."""
DIGEST_BYTES = 16
"""With 2^40 results a collision has a probability below 2^-48."""

Keys = Sequence[bytes]


@dataclass(frozen=True, eq=False)
class _Block:
    """Results stored together: a row per key."""

    keys: tuple[bytes, ...]
    outputs: tuple[pa.Array, ...]

    @property
    def nbytes(self) -> int:
        values: int = sum(output.nbytes for output in self.outputs)
        return values + KEY_BYTES * len(self.keys)


@dataclass(frozen=True)
class Found:
    """The keys that were known, by position, `m`, and their outputs, `m` each, in that order."""

    positions: Rows
    outputs: tuple[pa.Array, ...]


class ResultCache:
    """Results by key, at most `capacity` bytes of them; for any number of threads."""

    def __init__(self, capacity: int = CAPACITY_BYTES) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._places: dict[bytes, tuple[int, int]] = {}
        self._made = 0
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def find(self, keys: Keys) -> Found | None:
        """What is known of these keys; None where nothing is."""
        with self._lock:
            known = [(at, place) for at, key in enumerate(keys) if (place := self._places.get(key))]
            blocks = {number: self._blocks[number] for _, (number, _) in known}
            for number in blocks:
                self._blocks.move_to_end(number)
        if not known:
            return None
        starts, start = {}, 0
        for number, block in blocks.items():
            starts[number] = start
            start += len(block.keys)
        rows = pa.array([starts[number] + row for _, (number, row) in known], pa.int64())
        columns = zip(*(block.outputs for block in blocks.values()), strict=True)
        outputs = tuple(pa.concat_arrays(column).take(rows) for column in columns)
        return Found(np.array([at for at, _ in known], np.int64), outputs)

    def store(self, keys: Keys, outputs: Sequence[pa.Array]) -> None:
        """Keep results, a row per key; known keys keep theirs."""
        with self._lock:
            new = {key: at for at, key in enumerate(keys) if key not in self._places}
        if not new:
            return
        rows = pa.array(new.values(), pa.int64())
        # A take copies, so that a block does not hold on to the chunk its rows were part of.
        block = _Block(tuple(new), tuple(output.take(rows) for output in outputs))
        size = block.nbytes
        if size > self._capacity:
            return
        with self._lock:
            self._made += 1
            self._blocks[self._made] = block
            self.nbytes += size
            for row, key in enumerate(block.keys):
                self._places[key] = (self._made, row)
            while self.nbytes > self._capacity:
                self._forget_oldest()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()
            self._places.clear()
            self.nbytes = 0

    def _forget_oldest(self) -> None:
        number, block = self._blocks.popitem(last=False)
        self.nbytes -= block.nbytes
        for key in block.keys:
            if self._places.get(key, (None, 0))[0] == number:
                del self._places[key]


class StageCache:
    """A session's cache as one stage sees it."""

    def __init__(self, cache: ResultCache, identity: bytes) -> None:
        """`identity` is of everything but the input."""
        self._cache = cache
        self._seed = hashlib.blake2b(identity, digest_size=DIGEST_BYTES)

    def keys(self, batch: pa.RecordBatch) -> list[bytes]:
        """The key of each row of inputs, `n`."""
        found = []
        for value in row_bytes(batch):
            hashed = self._seed.copy()
            hashed.update(value)
            found.append(hashed.digest())
        return found

    def find(self, keys: Keys) -> Found | None:
        """What is known of these keys."""
        return self._cache.find(keys)

    def store(self, keys: Keys, outputs: Sequence[pa.Array]) -> None:
        """Keep results of calls that went well."""
        self._cache.store(keys, outputs)


def stage_cache(
    cache: ResultCache | None,
    stage: Stage,
    model: Model,
    variants: Mapping[str, Variant],
    base_dir: Path,
    types: Sequence[pa.DataType],
) -> StageCache | None:
    """The cache for a stage whose outputs per element have `types`; None where it has none.

    None too for a volatile model, and for an artefact that cannot be read: loading it will say so.
    """
    if cache is None:
        return None
    variant = variants.get(stage.choice.variant)
    made_of = None if variant is None else kept_artefact(variant, base_dir)
    identity = None if made_of is None else call_identity(stage, model, variants, made_of)
    if identity is None:
        return None
    kinds = (f"{name} {kind}" for name, kind in zip(stage.produce, types, strict=True))
    return StageCache(cache, identity + joined(kinds))


def kept_artefact(variant: Variant, base_dir: Path) -> bytes | None:
    """See `artefact`; None too where it cannot be read."""
    try:
        return None if variant.backend is None else artefact(variant.backend, base_dir)
    except OSError:
        return None


def call_identity(
    stage: Stage, model: Model, variants: Mapping[str, Variant], made_of: bytes
) -> bytes | None:
    """What determines the answers of a stage's calls besides their inputs; None: not to be kept.

    `made_of` is the artefact of the stage's variant.
    """
    variant = variants.get(stage.choice.variant)
    if variant is None or variant.backend is None or not model.inputs:
        return None
    if any(other.volatile for other in variants.values() if other.model == model.name):
        return None
    built = None if variant.derivation is None else variant.derivation.build
    parts = (
        variant.backend.kind,
        variant.backend.target if built is None else built.file,  # wherever the catalog lies
        knobs_text(variant.backend.options),
        knobs_text(stage.choice.knobs),
        model.prompt or "",
        model.confidence or "",
        *(f"{field.name} {field.type}" for field in (*model.inputs, *model.outputs)),
    )
    return made_of + joined(parts)


def joined(parts: Iterable[str]) -> bytes:
    """Texts as one, each after its length."""
    texts = (part.encode() for part in parts)
    return b"".join(len(t).to_bytes(8) + t for t in texts)
