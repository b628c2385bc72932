"""The identity of stages and their rows, under which outputs of prefixes are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from ..ir.models import Model, Variant
from ..ir.physical import Stage
from ..stats.prefixes import Identity
from .artefacts import environment, version
from .cache import DIGEST_BYTES, ResultCache, StageCache, call_identity, joined, kept_artefact


class Identities:
    """Tells what of a stage may be kept, and under which identity.

    In it: variant and version, the artefact's hash, backend, options, prompt, knobs, versions of
    the libraries (those that a python module imports by itself among them), the outputs that are
    read, the argument values with their types. Not in it: batch and device, which change no answer,
    and the files and modules of its own that a python module imports or opens.
    """

    def __init__(
        self, models: Mapping[str, Model], variants: Mapping[str, Variant], base_dir: Path
    ) -> None:
        self._models = models
        self._variants = variants
        self._base_dir = base_dir
        self._files = ResultCache()
        self._versions: dict[str, tuple[str, ...]] = {}
        self._artefacts: dict[str, bytes | None] = {}

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
        made_of = self._artefact(variant)
        found = None if made_of is None else call_identity(stage, model, self._variants, made_of)
        if found is None:
            return None
        lists = () if stage.lists is None else map(str, stage.lists)
        parts = (
            variant.full_name,
            str(stage.choice.version),
            *self._libraries(variant),
            *stage.produce,
            *(field.type for field in stage.outputs),
            *lists,
        )
        return hashlib.blake2b(found + joined(parts), digest_size=DIGEST_BYTES).hexdigest()

    def _artefact(self, variant: Variant) -> bytes | None:
        """Of the first time: a copy that is loaded answers as its files were, whatever they become.

        A copy loaded later from other files is refused, see `Models`.
        """
        name = variant.full_name
        if name not in self._artefacts:
            self._artefacts[name] = kept_artefact(variant, self._base_dir)
        return self._artefacts[name]

    def _libraries(self, variant: Variant) -> tuple[str, ...]:
        """What its answers depend on besides the artefact, with versions."""
        found = self._versions.get(variant.full_name)
        if found is None:
            assert variant.backend is not None
            own = environment(variant.backend, self._base_dir, imports=True).libraries
            named = {"python": version("python"), "pyarrow": version("pyarrow"), **own}
            found = tuple(f"{name} {named[name]}" for name in sorted(named))
            self._versions[variant.full_name] = found
        return found
