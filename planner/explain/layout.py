"""Plain-text layout: display widths, wrapping, columns, and colour where a terminal shows it."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

from ...ir.record import dataclass

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Palette:
    """Paints text with ANSI codes, or leaves it alone."""

    enabled: bool = False

    def paint(self, text: str, style: str) -> str:
        """The text in a style of `_CODES`; itself without colour."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.enabled and text else text


def clean(text: str) -> str:
    """Names and messages come from users: control characters are shown, not obeyed."""
    return "".join(
        char if char.isprintable() or char == " " else _escaped(char)
        for char in text.replace("\t", "    ")
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def width(text: str) -> int:
    """Columns a terminal takes: wide characters two, combining ones none."""
    total = 0
    for char in text:
        if unicodedata.combining(char):
            continue
        total += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return total


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Filled with spaces to so many columns; `right` puts the text at the right."""
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns; long words are kept whole."""
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        lines += textwrap.wrap(
            clean(line), max(20, columns), break_long_words=False, break_on_hyphens=False
        ) or [""]
    return lines


def table(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Columns two spaces apart, aligned; the columns in `right` to the right."""
    if not rows:
        return []
    count = max(len(row) for row in rows)
    widths = [max((width(r[i]) for r in rows if i < len(r)), default=0) for i in range(count)]
    return [
        "  ".join(
            pad(cell, widths[i], right=i in right) for i, cell in enumerate(row) if widths[i]
        ).rstrip()
        for row in rows
    ]
