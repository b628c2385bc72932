"""Derived variants of one catalog: their artefacts, and the sample rows that entered them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import cast

from ..ir.models import Variant
from .artefacts import Artefacts, Workspace
from .definitions import Definitions
from .samples import Samples


class Derivations:
    """What is kept of the derived variants that are declared now."""

    def __init__(self, definitions: Definitions, artefacts: Artefacts, samples: Samples) -> None:
        self._definitions = definitions
        self._artefacts = artefacts
        self._samples = samples

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A folder to build artefacts in; what no definition refers to at its end is removed."""
        try:
            with self._artefacts.workspace() as made:
                yield made
        finally:
            self.sweep()

    def located(self, variant: Variant) -> Variant:
        """A derived variant with the absolute path of its artefact as the backend's target."""
        if variant.derivation is None or variant.backend is None:
            return variant
        path = str(self._artefacts.path(variant.backend.target))
        return variant.replace(backend=variant.backend.replace(target=path))

    def sweep(self) -> None:
        """Remove the artefacts that no definition refers to any more."""
        self._artefacts.sweep(self._needed())

    def set_aside(
        self,
        subject: str,
        version: int,
        artefact: str,
        places: Collection[int],
        rows: Collection[tuple[str, str]],
    ) -> None:
        """Keep which rows of a sample an artefact is built from: places; hashes and clusters."""
        self._samples.set_aside(subject, version, artefact, places, rows)

    def building_rows(self, subject: str) -> dict[str, str]:
        """Hash → cluster of the rows of a subject that entered an artefact still in use."""
        return self._samples.building_rows(subject, self._needed())

    def _needed(self) -> set[str]:
        variants = cast("Iterator[Variant]", self._definitions.all("variant"))
        builds = (v.derivation.build for v in variants if v.derivation is not None)
        return {build.file for build in builds if build is not None}
