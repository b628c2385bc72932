"""Plan advice: the text that EXPLAIN prints and takes back.

    VARIANT(classify forest trees=500) BATCH(classify 64) DEVICE(classify cpu)
    CASCADE(classify tiny 0.93 forest trees=500) BATCH(classify 512 64)

The first word inside the brackets names a step: its context (`read_amount.digits`) or a unique
suffix of it (`digits`). Which step that is, the planner decides; here is only the syntax. What is
no plain word stands in double quotes, a whole name at once: `VARIANT("my m" "my m.fast one")`.
"""

from __future__ import annotations

import re

from ..errors import Span
from ..ir.physical import Named
from ..ir.record import dataclass
from .diagnostics import nearest
from .problems import one_of, problem

KINDS = ("VARIANT", "CASCADE", "BATCH", "DEVICE")

_QUOTED = r'"(?:[^"]|"")+"'
_VALUE = rf"'(?:[^']|'')*'|{_QUOTED}|[^\s()',\"]+"
_ITEM = re.compile(rf"\s*(?P<kind>\w+)\s*\((?P<inside>(?:{_VALUE}|[\s,])*)\)", re.DOTALL)
_WORD = re.compile(rf"(?P<knob>[\w$]+|{_QUOTED})\s*:?=\s*(?P<setting>{_VALUE})|(?P<word>{_VALUE})")


_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_CASCADE = re.compile(r"v(?:t?v)+")
"""A cascade's words by kind: variants, thresholds between them (or any threshold)."""


@dataclass(frozen=True)
class AdviceRef:
    """One item of an advice string: `VARIANT(step name [knob=value …])`, `BATCH(step n)`, ….

    `values` are the words after the step, each with its knobs.
    """

    kind: str
    step: str
    values: tuple[Named, ...]
    text: str


def parse_advice(text: str, offset: int) -> tuple[AdviceRef, ...]:
    """The items of an advice text that begins at `offset` of the whole text.

    Raises:
        SyntaxProblem: OC0112, at the item that cannot be read.
    """
    items: list[AdviceRef] = []
    at = 0
    while text[at:].strip():
        found = _ITEM.match(text, at)
        if found is None:
            begin = at + len(text[at:]) - len(text[at:].lstrip())
            raise problem(
                "OC0112",
                "this is not an advice item",
                span=Span(offset + begin, offset + len(text.rstrip())),
                label="expected " + one_of([f"{kind}(step …)" for kind in KINDS]),
            )
        items.append(_item(found, offset))
        at = found.end()
    return tuple(items)


def _item(found: re.Match[str], offset: int) -> AdviceRef:
    kind = found["kind"].upper()
    span = Span(offset + found.start("kind"), offset + found.end())
    if kind not in KINDS:
        raise problem(
            "OC0112",
            f"no advice is called {found['kind']}",
            span=span,
            label="expected " + one_of(KINDS),
            candidates=nearest(kind, KINDS),
        )
    step, *values = _words(found["inside"])
    wanted = {
        "VARIANT": "a step, a variant and its knobs: VARIANT(step name knob=value)",
        "CASCADE": "a step, variants and the thresholds between them: CASCADE(step tiny 0.93 big)",
        "BATCH": "a step and a batch size, or one for each member of a cascade: BATCH(step 64)",
        "DEVICE": "a step and a device: DEVICE(step cpu)",
    }[kind]
    if step.knobs or not _reads(kind, values):
        raise problem("OC0112", f"{kind} takes {wanted}", span=span, label="cannot be read")
    return AdviceRef(kind, step.word, tuple(values), found.group().strip())


def _words(inside: str) -> list[Named]:
    """The words inside the brackets, at least one; knobs belong to the word before them."""
    words = [Named("")]
    for found in _WORD.finditer(inside):
        if found["word"]:
            words.append(Named(_name(found["word"])))
        else:
            knob = _name(found["knob"]), found["setting"]
            words[-1] = words[-1].replace(knobs=(*words[-1].knobs, knob))
    return words if words[0].knobs else words[1:] or words


def _name(word: str) -> str:
    """What a word says, without double quotes."""
    return word[1:-1].replace('""', '"') if word[:1] == '"' else word


def _reads(kind: str, values: list[Named]) -> bool:
    """Are these the words of such an item, behind the step?"""
    match kind:
        case "VARIANT":
            return len(values) == 1
        case "CASCADE":
            return _CASCADE.fullmatch("".join(map(_kind, values))) is not None
        case "BATCH":
            sizes = [value.word for value in values if not value.knobs]
            whole = all(size.isdecimal() and int(size) > 0 for size in sizes)
            return bool(sizes) and len(sizes) == len(values) and whole
        case _:
            return len(values) == 1 and not values[0].knobs


def _kind(value: Named) -> str:
    """`t`hreshold or `v`ariant; a threshold has no knobs."""
    if not _NUMBER.fullmatch(value.word):
        return "v"
    return "?" if value.knobs else "t"
