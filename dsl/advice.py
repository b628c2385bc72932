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
from ..ir.record import dataclass
from .diagnostics import nearest
from .problems import one_of, problem

KINDS = ("VARIANT", "CASCADE", "BATCH", "DEVICE")

_QUOTED = r'"(?:[^"]|"")+"'
_VALUE = rf"'(?:[^']|'')*'|{_QUOTED}|[^\s()',\"]+"
_ITEM = re.compile(rf"\s*(?P<kind>\w+)\s*\((?P<inside>(?:{_VALUE}|[\s,])*)\)", re.DOTALL)
_WORD = re.compile(rf"(?P<knob>[\w$]+|{_QUOTED})\s*:?=\s*(?P<setting>{_VALUE})|(?P<word>{_VALUE})")


_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_CASCADE = re.compile(r"vk*(?:t?vk*)+")
"""A cascade's words by kind: variants, their knobs, thresholds between them (or any threshold)."""


@dataclass(frozen=True)
class AdviceRef:
    """One item of an advice string: `VARIANT(step name [knob=value …])`, `BATCH(step n)`, ….

    `values` are the words after the step, knobs as `knob=value`.
    """

    kind: str
    step: str
    values: tuple[str, ...]
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
    words = [
        _name(word["word"]) if word["word"] else f"{_name(word['knob'])}={word['setting']}"
        for word in _WORD.finditer(found["inside"])
    ]
    plain = [word for word in words if "=" not in word]
    wanted = {
        "VARIANT": "a step, a variant and its knobs: VARIANT(step name knob=value)",
        "CASCADE": "a step, variants and the thresholds between them: CASCADE(step tiny 0.93 big)",
        "BATCH": "a step and a batch size, or one for each member of a cascade: BATCH(step 64)",
        "DEVICE": "a step and a device: DEVICE(step cpu)",
    }[kind]
    if not _reads(kind, words, plain):
        raise problem("OC0112", f"{kind} takes {wanted}", span=span, label="cannot be read")
    return AdviceRef(kind, words[0], tuple(words[1:]), found.group().strip())


def _name(word: str) -> str:
    """What a word says, without double quotes."""
    return word[1:-1].replace('""', '"') if word[:1] == '"' else word


def _reads(kind: str, words: list[str], plain: list[str]) -> bool:
    """Are these the words of such an item? The first names the step; `plain` are not knobs."""
    if len(plain) < 2 or words[:2] != plain[:2]:
        return False
    match kind:
        case "VARIANT":
            return len(plain) == 2
        case "CASCADE":
            return _CASCADE.fullmatch("".join(map(_kind, words[1:]))) is not None
        case "BATCH":
            return words == plain and all(w.isdecimal() and int(w) > 0 for w in plain[1:])
        case _:
            return len(words) == 2


def _kind(word: str) -> str:
    """`k`nob, `t`hreshold or `v`ariant."""
    if "=" in word:
        return "k"
    return "t" if _NUMBER.fullmatch(word) else "v"
