"""From words to the terminals of `grammar.lark`, one at a time, by what the parser accepts next.

Keywords are unreserved: a word is a keyword only where the parser's state takes that keyword, and
a name elsewhere. Where both could stand, one word of lookahead decides (`_is_name_instead`).
In a state that takes QUERY, EXPR, TYPE or TARGET, the run of tokens up to its delimiter becomes one
terminal, to be read by sqlglot:

    EXPR    to a depth-0 `,` `)` or `;`; behind CLUSTER BY also to the next clause of ANALYZE
    TYPE    the same
    QUERY   to the bracket that encloses it or the end, without the clauses (`clause_start`)
    TARGET  everything that is left
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from sqlglot.tokenizer_core import Token, TokenType

from ..errors import Span
from ..ir.record import dataclass
from .tokens import CLOSING, OPENING, STRINGS, Word, matching

SIGNS = {
    "(": "LPAR",
    ")": "RPAR",
    ",": "COMMA",
    ".": "DOT",
    ";": "SEMI",
    ":=": "ASSIGN",
    "=": "EQ",
    "<=": "LE",
    ">=": "GE",
    "/": "SLASH",
    "-": "DASH",
    "+": "PLUS",
    "%": "PERCENT",
}
_QUERY_WORDS = frozenset({"SELECT", "WITH", "FROM", "VALUES", "TABLE"})
_OPERAND_ENDS = frozenset({")", "]", "}"})
_TIMES = frozenset({"SECOND", "MINUTE", "HOUR", "DAY"})


@dataclass(slots=True)
class Lexeme:
    """A terminal: one word, or a run of them; lark reads `type` and the position fields."""

    type: str
    words: Sequence[Word]
    tokens: Sequence[Token]
    source: str
    start: int
    end: int

    line: Any = None
    column: Any = None
    start_pos: Any = None
    end_line: Any = None
    end_column: Any = None
    end_pos: Any = None

    @property
    def text(self) -> str:
        """As written."""
        return self.source[self.start : self.end]

    @property
    def span(self) -> Span:
        """Where it stands."""
        return Span(self.start, self.end)


class Lexer:
    """Reads the words `line[at:stop]` of one statement."""

    def __init__(
        self, tokens: list[Token], line: list[Word], at: int, stop: int, text: str
    ) -> None:
        self.tokens = tokens
        self.line = line
        self.at = at
        self.stop = stop
        self.text = text
        self.previous = ""

    def next(self, accepted: Container[str]) -> Lexeme | None:
        """The next terminal in a state that takes `accepted`; None at the end."""
        if self.at >= self.stop:
            return None
        kind, end = self._choose(accepted)
        lexeme = self._lexeme(kind, end)
        self.at = end
        self.previous = kind
        return lexeme

    def _lexeme(self, kind: str, end: int) -> Lexeme:
        run = self.line[self.at : end]
        tokens = self.tokens[run[0].of : run[-1].of + 1]
        return Lexeme(kind, run, tokens, self.text, run[0].start, run[-1].end)

    def _choose(self, accepted: Container[str]) -> tuple[str, int]:
        """The terminal's type and the index behind its last word."""
        word = self.line[self.at]
        if "QUERY" in accepted and ("LPAR" not in accepted or self._starts_query()):
            end = self._query_end()
            if end > self.at and (self._starts_query() or word.upper not in accepted):
                return "QUERY", end
        if "TARGET" in accepted:
            return "TARGET", self.stop
        if word.upper == "PER" and "PER_TIME" in accepted and self._upper(self.at + 1) in _TIMES:
            return "PER_TIME", self.at + 2
        if word.upper in accepted and not self._is_name_instead():
            return word.upper, self.at + 1
        for run in ("EXPR", "TYPE"):
            if run in accepted:
                end = self._run_end()
                if end > self.at:
                    return run, end
        return self._plain(word, accepted)

    def _plain(self, word: Word, accepted: Container[str]) -> tuple[str, int]:
        end = self.at + 1
        if word.token.token_type in STRINGS:
            return "STRING", end
        if word.token.token_type is TokenType.NUMBER:
            return "NUMBER", end
        if word.text == "." and "DOT" not in accepted and self._number_follows():
            return "NUMBER", end + 1
        if word.upper in SIGNS:
            return SIGNS[word.upper], end
        if not word.is_name:
            return "OTHER", end
        if "UNIT" in accepted and (self.previous != "UNIT" or word.text == "CO2"):
            return "UNIT", end
        return "NAME", end

    def _number_follows(self) -> bool:
        """`.5`, which sqlglot's tokenizer splits."""
        if self.at + 1 >= self.stop:
            return False
        following = self.line[self.at + 1]
        connected = following.start == self.line[self.at].end
        return connected and following.token.token_type is TokenType.NUMBER

    def _upper(self, index: int) -> str:
        return self.line[index].upper if index < self.stop else ""

    def _is_name_instead(self) -> bool:
        """Is the keyword that could stand here a name after all?"""
        following = self._upper(self.at + 1)
        match self.line[self.at].upper:
            case "RETURN":
                return following == ":="
            case "EACH":
                return not self._starts_operand(self.at + 1)
            case "IF":
                return following != "EXISTS"
            case "TRUE" | "FALSE" | "NULL":
                return following == "."
            case _:
                return False

    def _starts_operand(self, index: int) -> bool:
        """Can an expression begin here, so that a word before it is no operand itself?"""
        if index >= self.stop:
            return False
        word = self.line[index]
        kind = word.token.token_type
        literal = kind in STRINGS or kind is TokenType.NUMBER
        return literal or word.is_name or word.text in ("(", "[", "{", "$", "?")

    def _starts_query(self) -> bool:
        """A query word, or brackets around one."""
        first, second = self._upper(self.at), self._upper(self.at + 1)
        return first in _QUERY_WORDS or (first == "(" and (second in _QUERY_WORDS or second == "("))

    def _run_end(self) -> int:
        """Behind the run of an expression or a type."""
        depth = 0
        clauses = self.previous == "BY"
        for index in range(self.at, self.stop):
            word = self.line[index]
            kind = word.token.token_type
            if kind in OPENING:
                depth += 1
            elif kind in CLOSING:
                if depth == 0:
                    return index
                depth -= 1
            elif depth == 0:
                if kind in (TokenType.COMMA, TokenType.SEMICOLON):
                    return index
                if clauses and index > self.at and self._starts_clause(index):
                    return index
        return self.stop

    def _starts_clause(self, index: int) -> bool:
        """Does a clause of ANALYZE begin here, behind the expression of CLUSTER BY?"""
        before = self.line[index - 1]
        if before.text not in _OPERAND_ENDS and not before.is_name and before.upper:
            return False
        following = self._upper(index + 1)
        literal = index + 1 < self.stop and self.line[index + 1].token.token_type
        match self.line[index].upper:
            case "LABELS" | "FEATURES":
                return following == "("
            case "SAMPLE":
                return following == "UNIFORM" or literal is TokenType.NUMBER
            case "BUDGET":
                return literal is TokenType.NUMBER
            case "SEARCH":
                return True
            case "CLUSTER":
                return following == "BY"
            case "WITH":
                return following == "SLO"
            case _:
                return False

    def _query_end(self) -> int:
        """Behind the query: at the enclosing bracket or the end, less the clauses."""
        depth = 0
        stop = self.stop
        for index in range(self.at, self.stop):
            kind = self.line[index].token.token_type
            if kind in OPENING:
                depth += 1
            elif kind in CLOSING:
                if depth == 0:
                    stop = index
                    break
                depth -= 1
        return clause_start(self.line, self.at, stop)


def clause_start(line: list[Word], at: int, stop: int) -> int:
    """Where the clauses of the query `line[at:stop]` begin; `stop` if it has none.

    That is the last depth-0 `WITH SLO` that begins no common table expression, or else an
    `ON ERROR FAIL | NULL | SKIP` that ends the query (no join condition can end so).
    """
    found = -1
    depth = 0
    for index in range(at, stop):
        kind = line[index].token.token_type
        if kind in OPENING:
            depth += 1
        elif kind in CLOSING:
            depth -= 1
        elif depth == 0 and line[index].upper == "WITH" and not _is_cte(line, index, stop):
            found = index
    if found >= 0:
        return found
    tail = tuple(word.upper for word in line[max(at, stop - 3) : stop])
    if len(tail) == 3 and tail[:2] == ("ON", "ERROR") and tail[2] in ("FAIL", "NULL", "SKIP"):
        return stop - 3
    return stop


def _is_cte(line: list[Word], index: int, stop: int) -> bool:
    """Is this WITH anything but the beginning of a `WITH SLO` clause?"""
    if index + 1 >= stop or line[index + 1].upper != "SLO":
        return True
    after = index + 2
    if after < stop and line[after].upper == "(":
        after = matching(line, after, stop) + 1
    return after < stop and line[after].upper in ("AS", "USING")
