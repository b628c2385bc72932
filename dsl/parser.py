"""From text to statements.

    text ─ tokens ─▶ words ─ split at `;` ─▶ one statement ─ its first words ─▶ ours: lark
                                                                            └▶ DuckDB's: PlainSql

One pass of sqlglot's tokenizer serves everything. A statement that begins like one of ours is read
by lark's LALR parser, fed word by word (`lexer.py`); runs of tokens inside it go to sqlglot. What
begins like none of ours is DuckDB's: kept as text, with sqlglot's tree where sqlglot can read it.
Queries are always ours, so that model calls in them are found.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import lark
from lark import Lark
from lark.lexer import Lexer as LarkLexer
from sqlglot import exp

from ..errors import Span, SyntaxProblem
from . import ast, sqlbridge
from .expectations import END, Accepted, hint, unexpected
from .lexer import Lexer, clause_start
from .problems import later, problem
from .statements import SHOW_KINDS, Build
from .tokens import Word, matching, tokenize, words

_DECLARED = frozenset({"MODEL", "VARIANT", "DEVICE", "LINK", "PIPELINE", "SLO", "STATISTICS"})
_QUERIES = frozenset({"SELECT", "WITH", "FROM", "VALUES", "TABLE", "("})
_LATER = frozenset({"DEPLOY", "UNDEPLOY", "MONITOR", "REOPTIMIZE", "UNFORCE"})
_TRANSACTIONS = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "ABORT", "END"})


class _Line(NamedTuple):
    """The words `line[at:stop]` of a script: one statement."""

    text: str
    tokens: list[Any]
    line: list[Word]
    at: int
    stop: int

    def upper(self, offset: int) -> str:
        """The keyword at an offset, '' if it is none."""
        index = self.at + offset
        return self.line[index].upper if index < self.stop else ""

    def is_name(self, offset: int) -> bool:
        """May a name stand there?"""
        index = self.at + offset
        return index < self.stop and self.line[index].is_name

    @property
    def span(self) -> Span:
        """From the first word to the last."""
        return Span(self.line[self.at].start, self.line[self.stop - 1].end)

    def span_to(self, count: int) -> Span:
        """The first words."""
        last = min(self.at + count, self.stop) - 1
        return Span(self.line[self.at].start, self.line[last].end)


def parse(text: str) -> tuple[ast.Statement, ...]:
    """The statements of a script, in order; none for a script of comments.

    Raises:
        SyntaxProblem: with a span into `text`; `problems.CODES` lists the codes.
    """
    try:
        tokens = tokenize(text)
        line = words(tokens, text)
        return tuple(_hinted(_Line(text, tokens, line, *ends)) for ends in split(line))
    except SyntaxProblem as error:
        error.in_source(text)
        raise


def parse_one(text: str) -> ast.Statement:
    """The only statement of a text.

    Raises:
        SyntaxProblem: it does not parse, or there is not exactly one (OC0114).
    """
    statements = parse(text)
    if len(statements) != 1:
        span = statements[1].span if statements else Span(len(text), len(text))
        found = "more than one" if statements else "none"
        error = problem("OC0114", f"one statement was expected, {found} found", span=span)
        error.in_source(text)
        raise error
    return statements[0]


def parse_expression(text: str, offset: int = 0) -> ast.Fragment:
    """A scalar expression; `offset` is where its text begins in a larger one.

    Raises:
        SyntaxProblem: it is not one.
    """
    try:
        tokens = tokenize(text)
        if not tokens:
            raise problem("OC0103", "an expression was expected", span=Span(0, len(text)))
        fragment = sqlbridge.expression(tokens, text)
    except SyntaxProblem as error:
        if error.span is not None:
            error.span = Span(error.span.start + offset, error.span.end + offset)
        if not offset:
            error.in_source(text)
        raise
    if offset:
        for node in fragment.tree.walk():
            if "start" in node.meta:
                node.meta["start"] += offset
                node.meta["end"] += offset
    span = Span(fragment.span.start + offset, fragment.span.end + offset)
    return ast.Fragment(fragment.tree, fragment.text, span)


def split(line: list[Word]) -> list[tuple[int, int]]:
    """Statements as ranges of words, without their `;`; empty ones are dropped."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < len(line):
        stop = _statement_end(line, at)
        if stop > at:
            found.append((at, stop))
        at = stop + 1
    return found


def _statement_end(line: list[Word], at: int) -> int:
    """The index of the `;` that ends the statement at `at`, or the end."""
    begin = _body_begin(line, at)
    index = at
    while index < len(line):
        if index == begin:
            index = _body_end(line, begin)
        elif line[index].upper == ";":
            return index
        index += 1
    return len(line)


def _body_begin(line: list[Word], at: int) -> int:
    """The index of BEGIN in `CREATE [OR REPLACE] PIPELINE … AS BEGIN`, or -1."""
    upper = [word.upper for word in line[at : at + 4]]
    if upper[:2] != ["CREATE", "PIPELINE"] and upper != ["CREATE", "OR", "REPLACE", "PIPELINE"]:
        return -1
    for index in range(at + 1, len(line)):
        if line[index].upper == ";":
            return -1
        if line[index].upper == "BEGIN" and line[index - 1].upper == "AS":
            return index
    return -1


def _body_end(line: list[Word], begin: int) -> int:
    """The index of the END that closes no CASE.

    Raises:
        SyntaxProblem: OC0113, there is none.
    """
    cases = 0
    for index in range(begin + 1, len(line)):
        upper = line[index].upper
        if upper not in ("CASE", "END") or line[index - 1].upper == ".":
            continue
        if index + 1 < len(line) and line[index + 1].upper == ":=":
            continue
        if upper == "CASE":
            cases += 1
        elif cases == 0:
            return index
        else:
            cases -= 1
    raise problem(
        "OC0113",
        "the body that begins here is not closed",
        span=line[begin].span,
        label="no END closes it",
    )


def _hinted(line: _Line) -> ast.Statement:
    """One statement; an error of a kind that is often made gets its help."""
    try:
        return _statement(line)
    except SyntaxProblem as error:
        error.hint = error.hint or hint(error, line.line[line.at : line.stop])
        raise


def _statement(line: _Line) -> ast.Statement:
    """One statement, ours or DuckDB's."""
    _refuse(line)
    first, second = line.upper(0), line.upper(1)
    if first in _QUERIES:
        return _query(line)
    match first:
        case "CREATE":
            kind = line.upper(3) if (second, line.upper(2)) == ("OR", "REPLACE") else second
            ours = kind in _DECLARED
        case "EXPLAIN":
            ours = _explains_query(line)
        case "COPY":
            ours = second == "("
        case "ANALYZE":
            ours = second in ("PIPELINE", "MODEL") and line.stop - line.at > 2
        case "DERIVE":
            ours = second == "VARIANTS"
        case "SHOW":
            ours = second.lower() in SHOW_KINDS
        case "DESCRIBE":
            ours = line.is_name(1) and all(
                line.is_name(offset) or line.upper(offset) == "."
                for offset in range(1, line.stop - line.at)
            )
            ours = ours and second not in _QUERIES
        case "DROP":
            ours = second in _DECLARED
        case "SET" | "RESET":
            return _setting(line)
        case _:
            ours = False
    return _run_lark(line) if ours else _plain(line)


def _refuse(line: _Line) -> None:
    """Transactions, and what a later version brings."""
    first, second = line.upper(0), line.upper(1)
    start = (first, second) == ("START", "TRANSACTION")
    if start or (first in _TRANSACTIONS and line.upper(1) in ("", "TRANSACTION", "WORK")):
        raise problem(
            "OC0105",
            "transactions are refused",
            span=line.span,
            label="every statement stands alone",
            hint="leave it out: each statement is committed by itself",
        )
    if first in _LATER and line.stop - line.at > 1:
        raise later(first, line.span_to(1))
    if (first, second) == ("FORCE", "PLAN"):
        raise later("FORCE PLAN", line.span_to(2))
    if first == "EXPLAIN" and second in ("REOPTIMIZE", "PLAN"):
        raise later(f"EXPLAIN {second}", line.span_to(2))
    if first == "EXPLAIN" and second == "(":
        stop = matching(line.line, line.at + 1, line.stop)
        for index in range(line.at + 2, stop - 1):
            opened = line.line[index - 1].upper in ("(", ",")
            if opened and (line.line[index].upper, line.line[index + 1].upper) == ("WHAT", "IF"):
                span = Span(line.line[index].start, line.line[index + 1].end)
                raise later("EXPLAIN (WHAT IF …)", span)


def _explains_query(line: _Line) -> bool:
    """Does EXPLAIN stand before a query, and not before another statement of DuckDB's?"""
    offset = 1
    if line.upper(1) == "(" and line.upper(2) not in _QUERIES:
        offset = matching(line.line, line.at + 1, line.stop) - line.at + 1
    elif line.upper(1) == "ANALYZE":
        offset = 2
    return line.at + offset >= line.stop or line.upper(offset) in _QUERIES


def _query(line: _Line) -> ast.Statement:
    """A query with or without clauses; WITH may also begin an INSERT, UPDATE or DELETE."""
    if clause_start(line.line, line.at, line.stop) < line.stop:
        return _run_lark(line)
    run = line.line[line.at : line.stop]
    tokens = line.tokens[run[0].of : run[-1].of + 1]
    fragment = sqlbridge.statement(tokens, line.text)
    if not sqlbridge.is_query(fragment.tree):
        return ast.PlainSql(fragment.text, fragment.tree, fragment.span)
    return ast.Select(fragment, None, None, "fail", fragment.span)


def _plain(line: _Line) -> ast.PlainSql:
    """DuckDB's own: the text, and sqlglot's tree if sqlglot can read it."""
    run = line.line[line.at : line.stop]
    tokens = line.tokens[run[0].of : run[-1].of + 1]
    text = line.text[line.span.start : line.span.end]
    stored = _stored(line)
    if stored is not None and stored[1].span.end > stored[1].query.span.end:
        return ast.PlainSql(text, stored[1].query.tree, line.span, *stored)
    _refuse_slo(line)
    try:
        tree: exp.Expression | None = sqlbridge.statement(tokens, line.text).tree
    except SyntaxProblem as error:
        if error.code == "OC0109":
            raise
        tree = None
    return ast.PlainSql(text, tree, line.span, *(stored or ()))


def _stored(line: _Line) -> tuple[str, ast.Select] | None:
    """The query that CREATE TABLE … AS or INSERT INTO … stores, and what stands before it."""
    at = _stored_query(line)
    if at is None:
        return None
    clauses = clause_start(line.line, at, line.stop) < line.stop
    try:
        select = _query(line._replace(at=at))
    except SyntaxProblem:
        if clauses:
            raise
        return None  # what follows the query may be DuckDB's: RETURNING, ON CONFLICT, …
    head = line.text[line.span.start : line.line[at].start]
    return (head, select) if isinstance(select, ast.Select) else None


def _stored_query(line: _Line) -> int | None:
    """Where the stored query begins: behind AS, or at the first query word behind INSERT INTO."""
    created = line.upper(0) == "CREATE" and any(line.upper(at) == "TABLE" for at in range(1, 5))
    if not created and line.upper(0) != "INSERT":
        return None
    depth = 0
    for index in range(line.at + 1, line.stop - 1):
        word, following = line.line[index], line.line[index + 1].upper
        if word.text == "(":
            if not created and depth == 0 and following in (_QUERIES - {"TABLE"}):
                return index
            depth += 1
        elif word.text == ")":
            depth -= 1
        elif depth == 0 and created and word.upper == "AS":
            return index + 1
        elif depth == 0 and not created and word.upper in ("SELECT", "WITH", "FROM"):
            return index
    return None


def _refuse_slo(line: _Line) -> None:
    """`INSERT … SELECT … WITH SLO` would reach DuckDB and fail there without a word of why."""
    at = clause_start(line.line, line.at, line.stop)
    if at < line.stop and line.line[at].upper == "WITH":
        raise problem(
            "OC0101",
            "unexpected WITH SLO",
            span=Span(line.line[at].start, line.line[at + 1].end),
            label="only a query takes an SLO",
            hint="CREATE TABLE … AS SELECT … WITH SLO … keeps a result",
        )


def _setting(line: _Line) -> ast.Statement:
    """SET and RESET of a name are ours to dispatch; DuckDB has more forms of both."""
    try:
        return _run_lark(line)
    except SyntaxProblem as error:
        if error.code == "OC0101":
            return _plain(line)
        raise


class _NoLexer(LarkLexer):
    """lark is fed by `lexer.Lexer`, which needs to see the parser's state."""

    def __init__(self, lexer_conf: object) -> None:
        self.conf = lexer_conf

    def lex(self, lexer_state: Any, parser_state: Any) -> Iterator[Any]:
        return iter(())


@functools.cache
def _lark() -> Lark:
    """The parser, built once in a process, its tables once for a user."""
    options: dict[str, Any] = {
        "parser": "lalr",
        "lexer": _NoLexer,
        "keep_all_tokens": True,
        "transformer": Build(),
    }
    cache = _cache_file()
    if cache is not None:
        options["cache"] = cache
    grammar = Path(__file__).with_name("grammar.lark")
    return Lark(grammar.read_text(encoding="utf-8"), **options)


def _cache_file() -> str | None:
    """Where lark keeps the tables of the grammar: building them takes longer than a whole EXPLAIN.

    lark itself checks that they belong to this grammar, and builds them anew where they do not.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):
        return None
    folder = os.path.join(base, "octans")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return None
    return os.path.join(folder, f"grammar-{lark.__version__}.tables")


def _run_lark(line: _Line) -> ast.Statement:
    """A statement of ours, fed to lark word by word."""
    lexer = Lexer(line.tokens, line.line, line.at, line.stop, line.text)
    parser = _lark().parse_interactive()
    while True:
        accepted = Accepted(parser.parser_state)
        lexeme = lexer.next(accepted)
        if lexeme is None and END in accepted:
            return cast(ast.Statement, cast(Any, parser).feed_eof())
        if lexeme is None or lexeme.type not in accepted:
            raise unexpected(accepted, lexeme, line.span.end)
        parser.feed_token(cast(Any, lexeme))
