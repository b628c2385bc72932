"""The syntax errors there are, and how they are worded.

Codes are stable. Everything that reads text raises through `problem`, so no code is undocumented.
"""

from __future__ import annotations

from collections.abc import Collection

from ..errors import Span, SyntaxProblem

CODES: dict[str, str] = {
    "OC0101": "an unexpected token, or the text ended too early",
    "OC0102": "the text cannot be split into tokens: unterminated quote, stray character",
    "OC0103": "a query or an expression is not valid SQL",
    "OC0104": "not a type",
    "OC0105": "transactions are refused",
    "OC0106": "a statement or option that a later version brings",
    "OC0107": "an unknown unit",
    "OC0108": "a quantity of the wrong dimension",
    "OC0109": "nested too deeply",
    "OC0110": "a clause given twice",
    "OC0111": "a literal out of range or malformed",
    "OC0112": "an advice item that cannot be read",
    "OC0113": "BEGIN without END, or an unbalanced bracket",
    "OC0114": "one statement was asked for, and none or several were given",
}
"""What each OC01xx means, in a line."""


def problem(
    code: str,
    message: str,
    *,
    span: Span | None,
    label: str | None = None,
    notes: tuple[str, ...] = (),
    hint: str | None = None,
    candidates: tuple[str, ...] = (),
) -> SyntaxProblem:
    """A syntax error of a listed code."""
    assert code in CODES, code
    return SyntaxProblem(
        message,
        code=code,
        span=span,
        label=label,
        notes=notes,
        hint=hint,
        candidates=candidates,
    )


def one_of(words: Collection[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    listed = list(words)
    if len(listed) < 2:
        return "".join(listed)
    return ", ".join(listed[:-1]) + " or " + listed[-1]


def later(what: str, span: Span) -> SyntaxProblem:
    """The error for what the language describes and this version does not have yet."""
    return problem(
        "OC0106",
        f"{what} is not known to this version of Octans",
        span=span,
        label="comes in a later version",
    )
