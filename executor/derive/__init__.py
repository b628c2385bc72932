"""White-box variants: an artefact made from another one, with the same inputs and outputs.

A transform is a function from a source file to a target file; there is one module a kind of backend
and transform, and `kinds.TRANSFORMS` names those there are, for whoever only asks. It knows no
catalog, no SQL and no model's declaration. What cannot be done to *this* file it says by raising
`NotDerivable`, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from ..artefacts import LIBRARIES, version
from ..failures import missing_package
from ..kinds import TRANSFORMS
from .base import NotDerivable, RowsNeeded, Source

BUILDING = {"onnx": ("onnx", "numpy"), "sklearn": ("numpy",)}
"""What builds the artefacts of a kind, besides what runs them."""
SUFFIXES = {"onnx": ".onnx", "sklearn": ".skops"}

Transform = Callable[[Source], None]


def transform_for(kind: str, transform: str) -> Transform:
    """The function that carries out a transform of `kinds.TRANSFORMS`.

    Raises:
        RunError: OC0404, a package is missing.
    """
    assert transform in TRANSFORMS[kind]
    libraries(kind)
    found: Transform = getattr(import_module(f".{kind}_{transform}", __package__), transform)
    return found


def largest_rank(kind: str, path: Path) -> int | None:
    """The largest argument of REDUCE that makes this artefact smaller; None where there is none.

    Raises:
        RunError: OC0404, a package is missing.
    """
    libraries(kind)
    module = import_module(f".{kind}_reduce", __package__)
    try:
        rank: int = module.largest_rank(path)
    except NotDerivable:
        return None
    return rank or None


def libraries(kind: str) -> tuple[tuple[str, str], ...]:
    """The versions of what builds and runs artefacts of a kind, by name."""
    found = []
    for name in sorted({*LIBRARIES[kind], *BUILDING[kind]}):
        known = version(name)
        if known is None:
            raise missing_package(kind, name, kind)
        found.append((name, known))
    return tuple(found)


__all__ = [
    "SUFFIXES",
    "NotDerivable",
    "RowsNeeded",
    "Source",
    "Transform",
    "largest_rank",
    "libraries",
    "transform_for",
]
