"""A plan as ADVICE: `VARIANT(digits classify.forest trees=100) BATCH(digits 64) …`.

Steps are named by the shortest suffix of their key that names no other step. Given back, the advice
gives the same plan: it fixes all there is to choose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ...ir.models import scalar_text
from ...ir.physical import Choice


def advice_text(choices: Mapping[str, Choice]) -> str:
    """The advice that reproduces these choices, in the steps' order."""
    items = []
    for key, choice in choices.items():
        step = short_key(key, choices)
        knobs = "".join(f" {name}={scalar_text(value)}" for name, value in choice.knobs)
        items.append(f"VARIANT({step} {choice.variant}{knobs})")
        items.append(f"BATCH({step} {choice.batch})")
        items.append(f"DEVICE({step} {choice.device})")
    return " ".join(items)


def short_key(key: str, keys: Collection[str]) -> str:
    """The shortest dotted suffix of `key` that is a suffix of no other key."""
    parts = key.split(".")
    for count in range(1, len(parts)):
        suffix = ".".join(parts[-count:])
        if matching_keys(suffix, keys) == (key,):
            return suffix
    return key


def matching_keys(step: str, keys: Collection[str]) -> tuple[str, ...]:
    """The keys a step's name in an advice may mean: an exact one, else those it is a suffix of."""
    if step in keys:
        return (step,)
    return tuple(key for key in keys if key.endswith("." + step))
