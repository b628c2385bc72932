"""A plan as ADVICE: `VARIANT(digits classify.forest trees=100) BATCH(digits 64) …`.

Steps are named by the shortest suffix of their key that names no other step. Given back, the advice
gives the same plan: it fixes all there is to choose. A cascade has `CASCADE(digits classify.tiny
0.93 classify.mlp)` for VARIANT and a batch size for each of its members.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ...ir.models import Scalar, scalar_text
from ...ir.physical import Cascade, Choice
from ...ir.types import quote


def advice_text(choices: Mapping[str, Choice]) -> str:
    """The advice that reproduces these choices, in the steps' order."""
    return " ".join(step_advice(key, choice, choices) for key, choice in choices.items())


def step_advice(key: str, choice: Choice, keys: Collection[str]) -> str:
    """The part of it for one of the steps `keys`."""
    step = _word(short_key(key, keys))
    if isinstance(choice, Cascade):
        made = f"CASCADE({step} {cascade_words(choice)})"
    else:
        made = f"VARIANT({step} {_words(choice)})"
    sizes = " ".join(str(member.batch) for member in choice.members)
    return f"{made} BATCH({step} {sizes}) DEVICE({step} {_word(choice.device)})"


def cascade_words(choice: Cascade) -> str:
    """`classify.tiny 0.93 classify.forest trees=500`: members, a threshold between any two."""
    words = [
        f"{_words(member)} {threshold!r}"
        for member, threshold in zip(choice.earlier, choice.thresholds, strict=True)
    ]
    return " ".join([*words, _words(choice.last)])


def _words(choice: Choice) -> str:
    """A variant and its knobs."""
    knobs = (f" {_word(name)}={_setting(value)}" for name, value in choice.knobs)
    return _word(choice.variant) + "".join(knobs)


def _setting(value: Scalar) -> str:
    """A knob's value; text has no quotes where it can be nothing else, as advice stands in them."""
    if isinstance(value, str) and re.fullmatch(r"[^\W\d][\w.-]*", value):
        return value if value.upper() not in ("TRUE", "FALSE", "NULL") else scalar_text(value)
    return scalar_text(value)


def _word(name: str) -> str:
    """A name as one word of an advice."""
    return name if re.fullmatch(r"[^\s()',\"=]+", name) else quote(name)


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
