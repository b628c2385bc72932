"""Errors drawn for people: the message, the place with carets, notes and help.

    error[OC0101]: unexpected FORM
      --> query.sql:1:15
       1 | SELECT 1 WITH SLO (cost <= 1)
         |               ^^^ expected …
      help: did you mean FROM?

Columns are counted in characters, carets in terminal cells: a tab goes to the next fourth cell, a
wide character takes two, a combining one none. Control characters are shown as `·`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from ..errors import OctansError, Span

TAB = 4
WIDTH = 160
"""Longer lines are cut to this many characters around the place (our choice)."""
LINES = 6
"""Of a longer span only the first and the last lines are drawn (our choice)."""

Paint = Callable[[str, str], str]

_BREAK = re.compile(r"\r\n|\n|\r")
_RED, _BLUE, _BOLD, _PLAIN = "\033[1;31m", "\033[1;34m", "\033[1m", "\033[0m"


def render(error: OctansError, *, color: bool = False) -> str:
    """The error as text of several lines, without a newline at the end."""
    paint = _paint if color else _no_paint
    head = paint(f"error[{error.code}]", _RED) + paint(f": {error.message}", _BOLD)
    lines = [head]
    if error.span is not None and error.source is not None:
        lines += _place(error, error.span, error.source, paint)
    elif error.source_name is not None:
        lines.append(paint("  --> ", _BLUE) + error.source_name)
    lines += [_folded("  note: ", note) for note in error.notes]
    if error.candidates:
        lines.append("  help: did you mean " + " or ".join(error.candidates) + "?")
    if error.hint:
        lines.append(_folded("  help: ", error.hint))
    return "\n".join(lines)


def _paint(text: str, style: str) -> str:
    return style + text + _PLAIN


def _no_paint(text: str, style: str) -> str:
    return text


def _folded(start: str, text: str) -> str:
    """Further lines of a note stand below its first."""
    return start + text.replace("\n", "\n" + " " * len(start))


def _place(error: OctansError, span: Span, text: str, paint: Paint) -> Iterator[str]:
    """The arrow line, then source lines each with its carets."""
    start, end = _clamped(span, text)
    rows = list(_rows(text, start, end))
    number, first = rows[0][0], rows[0][2]
    name = error.source_name or "<input>"
    yield paint("  --> ", _BLUE) + f"{name}:{number}:{first + 1}"
    gutter = max(4, len(str(rows[-1][0])))
    hidden = len(rows) - LINES
    for index, (number, line, left, right) in enumerate(rows):
        if hidden > 0 and LINES // 2 <= index < len(rows) - LINES // 2:
            if index == LINES // 2:
                yield paint(f"{'…':>{gutter}} |", _BLUE)
            continue
        shown, before, carets = _drawn(line, left, right)
        yield (paint(f"{number:>{gutter}} | ", _BLUE) + shown).rstrip()
        last = index == len(rows) - 1
        label = f" {error.label}" if last and error.label else ""
        mark = paint("^" * carets + label, _RED)
        yield paint(f"{'':>{gutter}} | ", _BLUE) + " " * before + mark


def _clamped(span: Span, text: str) -> tuple[int, int]:
    """Offsets inside the text; the end of the text is behind its last visible character."""
    start = min(max(span.start, 0), len(text))
    end = min(max(span.end, start), len(text))
    if start >= len(text.rstrip()):
        start = end = len(text.rstrip())
    return start, end


def _rows(text: str, start: int, end: int) -> Iterator[tuple[int, str, int, int]]:
    """`(number, line, left, right)` for each line the span touches; blank ones are left out."""
    number, begin = 1, 0
    for found in [*_BREAK.finditer(text), None]:
        stop = found.start() if found else len(text)
        behind = found.end() if found else len(text) + 1
        first = begin <= start < behind
        if first or (start < begin < end):
            line = text[begin:stop]
            left = start - begin if first else len(line) - len(line.lstrip())
            right = min(max(end - begin, left), len(line))
            if first or line.strip():
                yield number, line, left, right
        if behind > end and behind > start:
            return
        number, begin = number + 1, behind


def _drawn(line: str, left: int, right: int) -> tuple[str, int, int]:
    """The line as printed, the cells before the carets, and how many carets."""
    prefix = ""
    if len(line) > WIDTH:
        cut = max(0, min(left - WIDTH // 3, len(line) - WIDTH))
        prefix = "…" if cut else ""
        suffix = "…" if cut + WIDTH < len(line) else ""
        line = line[cut : cut + WIDTH]
        left, right = left - cut, min(right - cut, len(line))
        shown, edges = _cells(prefix + line)
        shown += suffix
    else:
        shown, edges = _cells(line)
    left, right = left + len(prefix), right + len(prefix)
    before = edges[left]
    return shown, before, max(1, edges[right] - before)


def _cells(line: str) -> tuple[str, list[int]]:
    """The line with tabs expanded, and at which cell each character begins (and the end)."""
    shown: list[str] = []
    edges = [0]
    cell = 0
    for char in line:
        if char == "\t":
            width = TAB - cell % TAB
            char = " " * width
        elif unicodedata.category(char) in ("Cc", "Cs"):
            char, width = "·", 1
        elif unicodedata.category(char) in ("Mn", "Me", "Cf"):
            width = 0
        else:
            width = 2 if unicodedata.east_asian_width(char) in "WF" else 1
        shown.append(char)
        cell += width
        edges.append(cell)
    return "".join(shown), edges


def nearest(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """All candidates equally near to a name, if any is near: a third of its letters may differ.

    Distance is Damerau–Levenshtein with adjacent swaps (optimal string alignment), without case.
    """
    limit = max(1, len(name) // 3)
    best: list[str] = []
    for candidate in dict.fromkeys(candidates):
        if abs(len(candidate) - len(name)) > limit:
            continue
        far = _distance(name.casefold(), candidate.casefold())
        if far < limit or (far == limit and not best):
            best, limit = [candidate], far
        elif far == limit:
            best.append(candidate)
    return tuple(sorted(best))


def _distance(a: str, b: str) -> int:
    """Edits from `a` to `b`: insert, delete, replace, swap two neighbours."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
