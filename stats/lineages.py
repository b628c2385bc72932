"""Lineages of derived variants: which are milder than which, so that a ladder can be pruned.

Along one lineage (the same base and transform) accuracy is taken to fall with strength [Boehm et
al., pruning by monotonicity]: where a milder variant surely falls short, stronger ones need not be
tried. The assumption is audited: a seeded share of what is pruned is measured all the same, and a
lineage in which an audited variant surely suffices is pruned no further.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from ..ir.models import Derivation, Scalar

Lineage = tuple[str, str]
"""Base and transform."""

BITS = {"fp16": 16.0, "int8": 8.0, "int4": 4.0}


def strength(derivation: Derivation) -> float | None:
    """How far a transform goes, more is stronger; None where its argument says nothing."""
    argument: Scalar = derivation.args[0] if derivation.args else None
    match derivation.transform.upper():
        case "QUANTIZE":
            bits = BITS.get(str(argument).lower())
            return None if bits is None else -bits
        case "PRUNE" if isinstance(argument, int | float):
            return float(argument)
        case "REDUCE" if isinstance(argument, int | float):
            return -float(argument)
        case _:
            return None


def lineage(derivation: Derivation) -> Lineage:
    """The ladder that a derived variant is a rung of."""
    return derivation.base, derivation.transform.upper()


def milder(variant: str, derivations: Mapping[str, Derivation]) -> tuple[str, ...]:
    """The variants of its lineage that go less far, its base among them."""
    own = derivations.get(variant)
    far = None if own is None else strength(own)
    if own is None or far is None:
        return ()
    found = [own.base]
    for other, derivation in derivations.items():
        less = strength(derivation)
        if lineage(derivation) == lineage(own) and less is not None and less < far:
            found.append(other)
    return tuple(found)


def audited(variant: str, share: float, seed: int) -> bool:
    """Is this one measured although it could be pruned? The same for the same seed."""
    return random.Random(f"{seed}:{variant}").random() < share
