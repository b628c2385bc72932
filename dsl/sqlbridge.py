"""Runs of tokens handed to sqlglot: queries, expressions and types.

The tokens keep their offsets into the whole text, so positions in the tree and in errors need no
conversion. A failed parse is a `SyntaxProblem` at the token sqlglot stopped at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError
from sqlglot.generators.duckdb import DuckDBGenerator
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType

from ..errors import Span, SyntaxProblem
from .ast import Fragment
from .diagnostics import nearest
from .problems import problem

MALFORMED = (SqlglotError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What sqlglot raises on malformed input: its own errors, and slips that fuzzing found."""

_DIALECT = DuckDB()


class _Stopped(ParseError):
    """Where sqlglot's parser stopped: the offending token, None at the end of the run."""

    def __init__(self, message: str, token: Token | None) -> None:
        super().__init__(message, [{"description": message}])
        self.token = token


class SqlParser(DuckDBParser):
    """Raises at the first error with its token, and never writes to the log.

    A model may have the name of a statement (`summarize`) or of a built-in function with other
    arguments, so a function's arguments are not counted here: DuckDB and the binder do.
    """

    FUNC_TOKENS: ClassVar[set[TokenType]] = {*DuckDBParser.FUNC_TOKENS, TokenType.SUMMARIZE}

    def validate_expression(self, expression: Any, args: list[Any] | None = None) -> Any:
        """Only what is not a function call is checked for missing parts."""
        if isinstance(expression, exp.Func) and args is not None:
            return expression
        return super().validate_expression(expression, args)

    def raise_error(self, message: str, token: Token | None = None) -> NoReturn:
        """Stop at the offending token."""
        raise _Stopped(message, token or self._curr or None)

    def _warn_unsupported(self) -> None:
        return


_TYPE_NAMES = {
    exp.DType.FLOAT: "FLOAT",
    exp.DType.INT: "INTEGER",
    exp.DType.INT128: "HUGEINT",
    exp.DType.UINT: "UINTEGER",
    exp.DType.UINT128: "UHUGEINT",
    exp.DType.TEXT: "VARCHAR",
    exp.DType.VARCHAR: "VARCHAR",
    exp.DType.CHAR: "VARCHAR",
    exp.DType.TIMESTAMPTZ: "TIMESTAMP WITH TIME ZONE",
    exp.DType.TIMETZ: "TIME WITH TIME ZONE",
}

_COMMON_TYPES = (
    *("BIGINT", "BLOB", "BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "FLOAT", "HUGEINT", "INTEGER"),
    *("INTERVAL", "JSON", "SMALLINT", "TIME", "TIMESTAMP", "TINYINT", "UUID", "VARCHAR"),
)


class _TypeNames(DuckDBGenerator):
    """Types as DuckDB's DESCRIBE writes them."""

    TYPE_MAPPING: ClassVar[dict[Any, Any]] = {**DuckDBGenerator.TYPE_MAPPING, **_TYPE_NAMES}

    def datatype_sql(self, expression: exp.DataType) -> str:
        if expression.this != exp.DType.DECIMAL:
            return super().datatype_sql(expression)
        digits = [each.sql() for each in expression.expressions] or ["18", "3"]
        return f"DECIMAL({digits[0]},{digits[1] if len(digits) > 1 else '0'})"


Method = Callable[[SqlParser, list[Token], str], list[Any]]


def _statement(parser: SqlParser, tokens: list[Token], text: str) -> list[Any]:
    return parser.parse(tokens, text)


def _expression(parser: SqlParser, tokens: list[Token], text: str) -> list[Any]:
    return parser.parse_into(exp.Condition, tokens, text)


def _type(parser: SqlParser, tokens: list[Token], text: str) -> list[Any]:
    return parser.parse_into(exp.DataType, tokens, text)


def query(tokens: Sequence[Token], text: str) -> Fragment:
    """A query."""
    fragment = statement(tokens, text)
    if not is_query(fragment.tree):
        raise _malformed(ParseError("another statement"), fragment.span, text, "a query", "OC0103")
    return fragment


def statement(tokens: Sequence[Token], text: str) -> Fragment:
    """A query or another statement of DuckDB's."""
    return _fragment(_statement, tokens, text, "a query", "OC0103")


def is_query(tree: exp.Expression) -> bool:
    """Does it give rows, and change nothing?"""
    return isinstance(tree, exp.Query | exp.Values)


def expression(tokens: Sequence[Token], text: str) -> Fragment:
    """A scalar expression."""
    return _fragment(_expression, tokens, text, "an expression", "OC0103")


def type_name(tokens: Sequence[Token], text: str) -> str:
    """A type in DuckDB's own spelling (`VARCHAR`, `FLOAT[64]`, `STRUCT(a INTEGER)`)."""
    found = _fragment(_type, tokens, text, "a type", "OC0104")
    try:
        name = _TypeNames(dialect=_DIALECT).generate(found.tree)
    except RecursionError:
        raise too_deep(found.span) from None
    return name


def sql_text(tree: exp.Expression) -> str:
    """Canonical DuckDB text of a tree.

    Raises:
        RecursionError: it is nested too deeply.
    """
    return tree.sql(dialect=_DIALECT, normalize_functions=False, comments=False)


def too_deep(span: Span) -> SyntaxProblem:
    """The error for text nested deeper than can be read."""
    return problem(
        "OC0109",
        "this is nested too deeply",
        span=span,
        hint=f"parsing needs a nesting of less than about {sys.getrecursionlimit() // 30}; "
        "a chain of operators nests with every term: write x IN (…) for many ORs",
    )


def span_of(tokens: Sequence[Token]) -> Span:
    """From the first token to the last."""
    return Span(tokens[0].start, tokens[-1].end + 1)


def _fragment(method: Method, tokens: Sequence[Token], text: str, what: str, code: str) -> Fragment:
    span = span_of(tokens)
    parser = SqlParser(error_level=ErrorLevel.IMMEDIATE, dialect=_DIALECT)
    try:
        trees = method(parser, list(tokens), text)
    except RecursionError:
        raise too_deep(span) from None
    except MALFORMED as error:
        raise _malformed(error, span, text, what, code) from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Expression):
        raise _malformed(ParseError("empty"), span, text, what, code)
    return Fragment(trees[0], text[span.start : span.end], span, method is _statement)


def _no_type(span: Span, text: str) -> SyntaxProblem:
    """sqlglot tries and takes back whole types, so where it stopped says nothing."""
    written = text[span.start : span.end]
    return problem(
        "OC0104",
        f"{shown(written)} is not a type",
        span=span,
        label="expected a type",
        candidates=nearest(written, _COMMON_TYPES),
    )


def _malformed(error: Exception, span: Span, text: str, what: str, code: str) -> SyntaxProblem:
    """sqlglot's error in our words, at the token it stopped at."""
    if code == "OC0104":
        return _no_type(span, text)
    stopped = error
    while stopped is not None and not isinstance(stopped, _Stopped):
        stopped = stopped.__cause__ or stopped.__context__  # type: ignore[assignment]
    if not isinstance(stopped, _Stopped):
        return problem(code, f"this is not {what}", span=span, label=f"expected {what}")
    token = stopped.token
    if token is None:
        place = Span(span.end, span.end)
        message, label = (
            f"{what} ends too early",
            _expected(str(stopped), "expected more after this"),
        )
    else:
        place = Span(token.start, token.end + 1)
        message = f"unexpected {shown(text[place.start : place.end])} in {what}"
        label = _expected(str(stopped), "cannot stand here")
    return problem(code, message, span=place, label=label)


def _expected(message: str, otherwise: str) -> str:
    """`Expecting )` as `expected )`; messages about sqlglot's classes say nothing to a user."""
    for start in ("Expecting ", "Expected "):
        if message.startswith(start):
            return "expected " + message[len(start) :].split(" but got ")[0]
    return otherwise


def shown(source: str) -> str:
    """A token for a message: short, in one line."""
    flat = " ".join(source.split())
    return flat if len(flat) <= 40 else flat[:39] + "…"


def is_semicolon(token: Token) -> bool:
    """Does it end a statement?"""
    return token.token_type is TokenType.SEMICOLON
