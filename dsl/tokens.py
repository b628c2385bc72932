"""sqlglot's DuckDB tokenizer as the front of everything, and the words our statements are made of.

Two changes to the tokenizer: `COMMANDS` is emptied (or all that follows EXPLAIN would be one
string), and text that no statement could hold (lone surrogates, control characters outside quotes)
is refused with its place. sqlglot's offsets have an inclusive end; ours are half-open.

sqlglot makes one token of `CLUSTER BY` or `ORDER BY`; a run for sqlglot needs it whole, our
statements need its words. So a statement is read as `Word`s, each knowing which token it is of.
"""

from __future__ import annotations

import re
from typing import ClassVar

from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from ..errors import Span, SyntaxProblem
from ..ir.record import dataclass
from .problems import problem

STRINGS = frozenset({TokenType.STRING, TokenType.HEREDOC_STRING, TokenType.BYTE_STRING})
OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE})
CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE})

_MISSING = re.compile(r"Missing (.*) from \d+:(\d+)$", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufeff]")
_PIECE = re.compile(r"\S+")


class _Tokenizer(DuckDB.Tokenizer):
    COMMANDS: ClassVar[set[TokenType]] = set()


@dataclass(frozen=True, slots=True)
class Word:
    """One word, sign or literal; `of` is the index of sqlglot's token it stands in.

    `upper` is what a keyword is compared with: '' for quoted names and literals.
    """

    token: Token
    text: str
    upper: str
    start: int
    end: int
    of: int

    @property
    def span(self) -> Span:
        """Where it stands."""
        return Span(self.start, self.end)

    @property
    def is_name(self) -> bool:
        """May it be a name: a word of any kind, or a quoted identifier?"""
        return (bool(self.upper) and is_word(self.text)) or self.text.startswith('"')


def is_word(text: str) -> bool:
    """Is it an unquoted identifier by DuckDB's rules?"""
    first = text[0]
    if not (first.isalpha() or first == "_" or first > "\x7f"):
        return False
    return all(c.isalnum() or c in "_$" or (c > "\x7f" and c.isprintable()) for c in text)


def tokenize(text: str) -> list[Token]:
    """All tokens of a script.

    Raises:
        SyntaxProblem: OC0102, with the place.
    """
    found = _SURROGATE.search(text)
    if found:
        raise _refused("the text is not valid Unicode: a lone surrogate", found.start())
    plain = " " + text[1:] if text.startswith("\ufeff") else text
    plain += " "  # at the very end sqlglot takes a lone `$` for an unterminated string
    tokenizer = _Tokenizer(dialect="duckdb")
    try:
        tokens = tokenizer.tokenize(plain)
    except TokenError as error:
        raise _unterminated(tokenizer, error, text) from None
    for token in tokens:
        if token.token_type is TokenType.VAR:
            found = _CONTROL.search(token.text)
            if found:
                code = ord(found.group())
                raise _refused(f"a control character (U+{code:04X})", token.start + found.start())
    return tokens


def _refused(message: str, at: int) -> SyntaxProblem:
    return problem("OC0102", message, span=Span(at, at + 1), label="cannot stand here")


_KINDS = {"'": "string", '"': "quoted name"}


def _unterminated(tokenizer: _Tokenizer, error: TokenError, text: str) -> SyntaxProblem:
    """The tokenizer stopped at the end of the text, inside something that began earlier."""
    found = _MISSING.match(str(error.__cause__))
    if found:
        delimiter, start = found.group(1), int(found.group(2))
        what = _KINDS.get(delimiter, "string")
    else:
        delimiter, what = "*/", "comment"
        start = text.find("/*", tokenizer.tokens[-1].end + 1 if tokenizer.tokens else 0)
        if start < 0:
            start = text.find("{#")
    start = max(start, 0)
    return problem(
        "OC0102",
        f"the {what} that begins here is not closed",
        span=Span(start, min(start + len(delimiter), len(text))),
        label=f"no closing {delimiter}",
    )


def words(tokens: list[Token], text: str) -> list[Word]:
    """The tokens as words; a token of several words gives one `Word` for each."""
    found: list[Word] = []
    for index, token in enumerate(tokens):
        kind = token.token_type
        if kind is TokenType.HINT:
            continue
        source = text[token.start : token.end + 1]
        first = source[:1]
        if kind in STRINGS or first == '"' or kind is TokenType.NUMBER:
            found.append(Word(token, source, "", token.start, token.end + 1, index))
        elif (first.isalpha() or first == "_") and any(c.isspace() for c in source):
            for piece in _PIECE.finditer(source):
                start, end = token.start + piece.start(), token.start + piece.end()
                part = piece.group()
                found.append(Word(token, part, part.upper(), start, end, index))
        else:
            found.append(Word(token, source, source.upper(), token.start, token.end + 1, index))
    return found


def matching(line: list[Word], at: int, stop: int) -> int:
    """The index of the bracket that closes the one at `at`; `stop` if none before it does."""
    depth = 0
    for index in range(at, stop):
        kind = line[index].token.token_type
        if kind in OPENING:
            depth += 1
        elif kind in CLOSING:
            depth -= 1
            if depth == 0:
                return index
    return stop
