"""Where model calls are: also names sqlglot takes for built-in functions, and CTEs with calls."""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError
from sqlglot.parsers.duckdb import DuckDBParser

from ..ast import Fragment
from ..sqlbridge import SqlParser
from ..tokens import tokenize
from .problems import Place
from .trees import function_name, is_volatile
from .view import Context


def own_names(ctx: Context, place: Place) -> Place:
    """The fragment with the catalog's names read as calls: they win over built-in functions.

    sqlglot reads `translate(a, b, c)` as its own function; where a model of that name exists the
    text is read again without it.
    """
    names = {name.upper() for name in ctx.functions}
    known = names & (DuckDBParser.FUNCTIONS.keys() | DuckDBParser.FUNCTION_PARSERS.keys())
    written = {word.upper() for word in re.findall(r"\w+", place.fragment.text)}
    if not known & written:
        return place
    fragment = place.fragment
    functions = {k: v for k, v in DuckDBParser.FUNCTIONS.items() if k not in known}
    special = {k: v for k, v in DuckDBParser.FUNCTION_PARSERS.items() if k not in known}
    own = type("_OwnNames", (SqlParser,), {"FUNCTIONS": functions, "FUNCTION_PARSERS": special})
    text = " " * fragment.span.start + fragment.text
    parser = own(dialect=DuckDB())
    tokens = tokenize(text)
    try:
        if isinstance(fragment.tree, exp.Query):
            tree = parser.parse(tokens, text)[0]
        else:
            tree = parser.parse_into(exp.Condition, tokens, text)[0]
    except ParseError as error:
        raise place.error("OC0228", f"this cannot be read: {error}") from error
    return Place(Fragment(tree, fragment.text, fragment.span), place.text, place.name)


class CallSites:
    """The nodes of a query that hold a call, or read a CTE that does."""

    def __init__(self, ctx: Context, tree: exp.Expr) -> None:
        self.calls = [node for node in tree.walk() if ctx.is_call(function_name(node))]
        self._marked: set[int] = set()
        for node in self.calls:
            self._mark(node)
        if self.calls:
            self._mark_readers(tree)

    def __contains__(self, node: exp.Expr) -> bool:
        return id(node) in self._marked

    def _mark(self, node: exp.Expr | None) -> None:
        while node is not None and id(node) not in self._marked:
            self._marked.add(id(node))
            node = node.parent

    def _mark_readers(self, tree: exp.Expr) -> None:
        """Readers of a marked CTE, until none is new; CTEs to be computed once are marked too."""
        ctes = list(tree.find_all(exp.CTE))
        tables = list(tree.find_all(exp.Table))
        readers = {
            id(cte): [t for t in tables if not t.db and t.name.lower() == cte.alias.lower()]
            for cte in ctes
        }
        for cte in ctes:
            if len(readers[id(cte)]) > 1 and _unrepeatable(cte):
                self._mark(cte)
        for _ in ctes:
            for cte in ctes:
                if cte in self:
                    for table in readers[id(cte)]:
                        self._mark(table)


def _unrepeatable(cte: exp.CTE) -> bool:
    """Could computing it twice give different rows?"""
    return is_volatile(cte) or cte.find(exp.TableSample) is not None
