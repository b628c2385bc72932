"""From what lark reduced to statements: one method for each rule of `grammar.lark`.

Children are lexemes and parts already built, in the order written; every terminal is kept, because
a part's span runs from its first child to its last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

from lark import Transformer

from ..errors import Span
from ..ir.models import Scalar
from . import ast, sqlbridge, units
from .diagnostics import nearest
from .lexer import Lexeme
from .problems import problem

T = TypeVar("T")

_DIGITS = 300
"""Longer numbers would overflow a float when brought to a base unit."""


class Parts(list[Any]):
    """The children of a rule, taken by kind."""

    @property
    def span(self) -> Span:
        """From the first child to the last."""
        return Span(self[0].span.start, self[-1].span.end)

    def all(self, kind: type[T]) -> tuple[T, ...]:
        """All children of a class."""
        return tuple(part for part in self if isinstance(part, kind))

    def one(self, kind: type[T]) -> T:
        """The first child of a class, which the grammar demands."""
        return next(part for part in self if isinstance(part, kind))

    def maybe(self, kind: type[T]) -> T | None:
        """The first child of a class, if any."""
        return next((part for part in self if isinstance(part, kind)), None)

    def lexemes(self, *types: str) -> list[Lexeme]:
        """The terminals of these types."""
        return [part for part in self if isinstance(part, Lexeme) and part.type in types]

    def lexeme(self, *types: str) -> Lexeme:
        """The first terminal of these types, which the grammar demands."""
        return self.lexemes(*types)[0]

    def has(self, *types: str) -> bool:
        """Is there a terminal of these types?"""
        return bool(self.lexemes(*types))


class Group(Parts):
    """A rule that is no statement of its own: its children, under its name."""

    def __init__(self, rule: str, parts: Sequence[Any]) -> None:
        super().__init__(parts)
        self.rule = rule

    @property
    def children(self) -> list[Any]:
        """Under this name lark takes apart the groups it made for `*` and `+`."""
        return self


def unquoted(lexeme: Lexeme) -> str:
    """A name as meant: without its quotes."""
    text = lexeme.text
    if not text.startswith('"'):
        return text
    name = text[1:-1].replace('""', '"')
    if not name:
        raise problem("OC0111", "a quoted name cannot be empty", span=lexeme.span)
    return name


def string(lexeme: Lexeme) -> ast.Literal_:
    """A string literal."""
    return ast.Literal_(lexeme.tokens[0].text, lexeme.span)


def number(lexeme: Lexeme, negative: bool = False) -> int | float:
    """A number; whole where written without a point or an exponent."""
    text = lexeme.text.replace("_", "")
    try:
        value: int | float = int(text) if text.isdigit() else float(text)
    except ValueError:
        raise problem("OC0111", f"{text[:40]} is not a number", span=lexeme.span) from None
    if len(text) > _DIGITS or not math.isfinite(value):
        raise problem("OC0111", "this number is out of range", span=lexeme.span)
    return -value if negative else value


def whole(lexeme: Lexeme, what: str) -> int:
    """A whole number of at least zero."""
    value = number(lexeme)
    if value != int(value):
        raise problem("OC0111", f"{what} is a whole number, not {value}", span=lexeme.span)
    return int(value)


def once(groups: Sequence[Group], rule: str, word: str) -> Group | None:
    """The one clause of a rule, if it was given."""
    found = [group for group in groups if group.rule == rule]
    if len(found) > 1:
        raise twice(word, found[1].span)
    return found[0] if found else None


def twice(word: str, span: Span) -> Exception:
    """The error for a clause given again."""
    return problem("OC0110", f"{word} is given twice", span=span, label="the second one")


def expression(lexeme: Lexeme) -> ast.Fragment:
    """A folded expression, read."""
    return sqlbridge.expression(lexeme.tokens, lexeme.source)


def query(lexeme: Lexeme) -> ast.Fragment:
    """A folded query, read."""
    return sqlbridge.query(lexeme.tokens, lexeme.source)


class Shared(Transformer[Any, Any]):
    """The rules that several statements use."""

    def __default__(self, data: str, children: list[Any], meta: Any) -> Group:
        return Group(str(data), children)

    def start(self, children: list[Any]) -> Any:
        """The statement."""
        return children[0]

    def dotted(self, children: list[Any]) -> ast.Name:
        """`a.b`."""
        parts = Parts(children)
        return ast.Name(tuple(unquoted(each) for each in parts.lexemes("NAME")), parts.span)

    def literal(self, children: list[Any]) -> ast.Literal_:
        """A string, TRUE, FALSE or NULL."""
        lexeme = cast(Lexeme, children[0])
        if lexeme.type == "STRING":
            return string(lexeme)
        values: dict[str, Scalar] = {"TRUE": True, "FALSE": False, "NULL": None}
        return ast.Literal_(values[lexeme.type], lexeme.span)

    def number(self, children: list[Any]) -> ast.Literal_:
        """A signed number."""
        parts = Parts(children)
        value = number(parts.lexeme("NUMBER"), negative=is_negative(parts))
        return ast.Literal_(value, parts.span)

    def quantity(self, children: list[Any]) -> ast.Quantity:
        """A signed number with or without a unit."""
        parts = Parts(children)
        lexeme = parts.lexeme("NUMBER")
        negative = is_negative(parts)
        value = number(lexeme, negative)
        unit = next((group for group in parts.all(Group) if group.rule == "unit"), None)
        name = unit_name(unit) if unit else ""
        sign = "-" if negative else ""
        written = f"{sign}{lexeme.text.replace('_', '')}"
        if unit and name not in units.UNITS:
            raise unknown_unit(name, unit.span)
        base, dimension = units.to_base(value, name)
        text = f"{written} {name}".strip()
        return ast.Quantity(base, dimension, text, parts.span)

    def option(self, children: list[Any]) -> ast.Option:
        """`name := literal`."""
        return ast.Option(children[0], children[2])

    def column(self, children: list[Any]) -> ast.Column:
        """`name TYPE`."""
        parts = Parts(children)
        run = parts.lexeme("TYPE")
        return ast.Column(parts[0], sqlbridge.type_name(run.tokens, run.source), parts.span)

    def quality(self, children: list[Any]) -> Group:
        """`QUALITY name(['target',] output, args…)`."""
        parts = Parts(children)
        name, output = parts.all(ast.Name)
        span = Span(name.span.start, parts.span.end)
        targets = parts.lexemes("STRING")
        target = string(targets[0]) if targets else None
        metric = ast.MetricRef(name, output, parts.all(ast.Literal_), span, target)
        return Group("quality", [*children, metric])

    def objective(self, children: list[Any]) -> ast.ObjectiveRef:
        """`MINIMIZE metric`."""
        parts = Parts(children)
        return ast.ObjectiveRef(parts.one(ast.Name), parts.has("MAXIMIZE"), parts.span)

    def modifier(self, children: list[Any]) -> Group:
        """AT CONFIDENCE, SOFT or PER TOKEN."""
        return Group(Parts(children)[0].type, children)

    def constraint(self, children: list[Any]) -> ast.ConstraintRef:
        """`metric[(model)] <= limit …`."""
        parts = Parts(children)
        groups = parts.all(Group)
        confidence = once(groups, "AT", "AT CONFIDENCE")
        soft = once(groups, "SOFT", "SOFT")
        per_token = once(groups, "PER", "PER TOKEN")
        names = parts.all(ast.Name)
        custom = parts.lexemes("STRING")
        operator: Literal["<=", ">="] = "<=" if parts.has("LE") else ">="
        return ast.ConstraintRef(
            metric=names[0],
            model=names[1] if len(names) > 1 else None,
            custom=string(custom[0]) if custom else None,
            operator=operator,
            limit=parts.one(ast.Quantity),
            confidence=confidence.one(ast.Quantity) if confidence else None,
            soft=soft.one(ast.Quantity) if soft else None,
            per_token=per_token is not None,
            span=parts.span,
        )


def is_negative(parts: Parts) -> bool:
    """Does a minus sign stand among the children?"""
    return any(group.rule == "sign" and group.has("DASH") for group in parts.all(Group))


def unit_name(unit: Sequence[Lexeme]) -> str:
    """The unit as the table spells it."""
    name = ""
    for lexeme in unit:
        if lexeme.type == "PER_TIME":
            name += " PER " + lexeme.words[1].upper
        elif lexeme.type == "SLASH":
            name += "/"
        elif name and not name.endswith("/"):
            name += " " + lexeme.text
        else:
            name += lexeme.text
    return name


def unknown_unit(name: str, span: Span) -> Exception:
    """The error for a unit that is in no table."""
    listed = [unit for unit in units.UNITS if unit]
    return problem(
        "OC0107",
        f"unknown unit {name}",
        span=span,
        label="units are case-sensitive",
        candidates=nearest(name, listed),
    )
