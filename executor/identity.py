"""The identity of stages and their rows, under which outputs of prefixes are kept."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pyarrow as pa

from ..ir.models import Model, Variant
from ..ir.physical import Stage
from ..stats.prefixes import Identity
from .cache import DIGEST_BYTES, ResultCache, StageCache, call_identity, joined

LIBRARIES = {
    "python": (),
    "onnx": ("onnxruntime",),
    "sklearn": ("scikit-learn", "skops"),
    "replay": (),
}
"""Distributions whose version may change a backend's answers; python's and pyarrow's always do."""


class Identities:
    """Tells what of a stage may be kept, and under which identity.

    In it: variant and version, the artefact's hash, backend, options, prompt, knobs, versions of
    the libraries, the outputs that are read, the argument values with their types. Not in it: batch
    and device, which change no answer, and what a python module imports or opens by itself.
    """

    def __init__(
        self, models: Mapping[str, Model], variants: Mapping[str, Variant], base_dir: Path
    ) -> None:
        self._models = models
        self._variants = variants
        self._base_dir = base_dir
        self._files = ResultCache()

    def __call__(self, stage: Stage, table: pa.Table) -> Identity | None:
        """The identity of a stage on a table; None for volatile models and missing artefacts."""
        call = self.call(stage)
        if call is None:
            return None
        arguments = table.select(list(stage.args)).combine_chunks()
        types = joined(str(kind) for kind in arguments.schema.types)
        rows = StageCache(self._files, bytes.fromhex(call) + types)
        batches = arguments.to_batches()
        return Identity(call, [key for batch in batches for key in rows.keys(batch)])

    def call(self, stage: Stage) -> str | None:
        """The identity of the call; None where its outputs must not be kept."""
        variant = self._variants.get(stage.choice.variant)
        model = self._models.get(stage.model)
        if model is None or variant is None or variant.backend is None:
            return None
        found = call_identity(self._files, stage, model, self._variants, self._base_dir)
        if found is None:
            return None
        lists = () if stage.lists is None else map(str, stage.lists)
        parts = (
            variant.full_name,
            str(stage.choice.version),
            *libraries(variant.backend.kind),
            *stage.produce,
            *(field.type for field in stage.outputs),
            *lists,
        )
        return hashlib.blake2b(found + joined(parts), digest_size=DIGEST_BYTES).hexdigest()


@cache
def libraries(kind: str) -> tuple[str, ...]:
    """What a backend's answers depend on besides the artefact, with versions."""
    found = [f"python {platform.python_version()}"]
    for name in ("pyarrow", *LIBRARIES.get(kind, ())):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue  # without it the variant cannot run
    return tuple(found)
