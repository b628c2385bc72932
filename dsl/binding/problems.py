"""The binding errors there are, and how DuckDB's become ours.

Codes are stable. Everything that binds raises through `Place.error`, so no code is undocumented.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import duckdb
from sqlglot import exp

from ...errors import BindError, Span
from ...ir.record import dataclass
from ..ast import Fragment
from ..diagnostics import nearest
from .trees import function_name

CODES: dict[str, str] = {
    "OC0201": "an unknown function, model or pipeline",
    "OC0202": "an unknown table",
    "OC0203": "an unknown column",
    "OC0204": "an ambiguous column",
    "OC0205": "a name of the wrong kind",
    "OC0206": "a wrong number of arguments",
    "OC0207": "an argument of the wrong type",
    "OC0208": "EACH before something that is not a list",
    "OC0209": "a condition that is not BOOLEAN",
    "OC0210": "RETURN does not give what RETURNS declares",
    "OC0211": "a model call inside a lambda or a list comprehension",
    "OC0212": "a model call inside a correlated subquery",
    "OC0213": "a model call inside a recursive CTE",
    "OC0214": "a model call where none may stand",
    "OC0215": "accuracy asked of a query that aggregates",
    "OC0216": "an unknown metric",
    "OC0217": "a constraint that cannot be: direction, confidence, normalisation, share",
    "OC0218": "a constraint in the wrong unit",
    "OC0219": "an unknown SLO",
    "OC0220": "a duplicate name",
    "OC0221": "not an output",
    "OC0222": "a second BASE variant",
    "OC0223": "an unknown derivation base",
    "OC0224": "a wrong knob",
    "OC0225": "a variant of an unknown model",
    "OC0226": "a pipeline that calls itself",
    "OC0227": "an unknown type",
    "OC0228": "an expression DuckDB refuses",
    "OC0229": "a form of query that model calls cannot stand in",
    "OC0230": "a wrong item of a device or a link",
    "OC0231": "a prompt naming something that is not an input",
    "OC0232": "an input ANALYZE cannot find",
    "OC0233": "a wrong budget",
    "OC0234": "an unknown step or field",
    "OC0235": "an unknown kind of statistics",
    "OC0236": "statistics on what is no model or step",
    "OC0237": "statistics on two calls whose errors cannot be seen together",
    "OC0238": "an unknown transform, or wrong arguments of one",
    "OC0242": "a SEARCH without an SLO",
}
"""What each OC02xx means, in a line."""

_REFUSALS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r'Referenced column "([^"]+)" (?:not found|was not found)'), "OC0203", "column"),
    (re.compile(r'does not have a column named "([^"]+)"'), "OC0203", "column"),
    (re.compile(r'Ambiguous reference to column name "([^"]+)"'), "OC0204", "ambiguous column"),
    (re.compile(r'Referenced table "([^"]+)" not found'), "OC0202", "table"),
    (re.compile(r"(?:Table|View) with name (\S+) does not exist"), "OC0202", "table"),
    (re.compile(r"Function with name \"?([^\s\"]+)\"? does not exist"), "OC0201", "function"),
    (re.compile(r"(?:Type|type) with name \"?([^\s\"]+)\"? does not exist"), "OC0227", "type"),
    (re.compile(r'Could not find key "([^"]+)" in struct'), "OC0234", "field"),
)
_CANDIDATES = re.compile(r"(?:Did you mean|Candidate bindings:|Candidate tables:)\s*:?\s*(.+)")


@dataclass(frozen=True)
class Place:
    """The text being bound: where nodes stand in it, and whose text it is.

    `text` and `name` are set when the spans do not point into the statement being bound but into
    the stored text of a pipeline.
    """

    fragment: Fragment
    text: str | None = None
    name: str | None = None

    def span(self, node: exp.Expr | Span | None) -> Span:
        """Where a node stands; the whole fragment when that is not known."""
        match node:
            case None:
                return self.fragment.span
            case Span():
                return node
            case _:
                return self.fragment.span_of(node)

    def error(
        self,
        code: str,
        message: str,
        node: exp.Expr | Span | None = None,
        *,
        label: str | None = None,
        notes: tuple[str, ...] = (),
        hint: str | None = None,
        candidates: tuple[str, ...] = (),
    ) -> BindError:
        """A binding error of a listed code at a node."""
        error = problem(
            code,
            message,
            self.span(node),
            label=label,
            notes=notes,
            hint=hint,
            candidates=candidates,
        )
        if self.text is not None:
            error.in_source(self.text, self.name)
        return error

    def refused(
        self,
        error: duckdb.Error,
        functions: Collection[str] = (),
        node: exp.Expr | None = None,
    ) -> BindError:
        """DuckDB's refusal as ours, at the name it complains of, else at `node`.

        `functions` are our own names: near ones are offered.
        """
        message = str(error).partition("\n\nLINE ")[0].strip()
        first = message.partition("\n")[0].partition("Error: ")[2] or message
        for pattern, code, kind in _REFUSALS:
            found = pattern.search(message)
            if found is not None:
                return self._unknown(found[1], code, kind, first, message, functions)
        told, _, advice = first.partition(". ")
        return self.error(
            "OC0228",
            told.rstrip(".!"),
            self._operand(message) or node,
            hint=advice.rstrip(".!") or None,
        )

    def _unknown(
        self,
        name: str,
        code: str,
        kind: str,
        first: str,
        message: str,
        functions: Collection[str],
    ) -> BindError:
        offered = _CANDIDATES.search(message)
        theirs = re.findall(r'"([^"]+)"', offered[1]) if offered else []
        candidates = nearest(name, (*theirs, *functions))
        node = next(self._named(name), None)
        if name.lower() in {own.lower() for own in functions}:
            return self.error("OC0214", f"{name} cannot be called here", node)
        if code == "OC0204":
            return self.error(code, first, node, label="ambiguous", hint="qualify it")
        return self.error(
            code, f"unknown {kind} {name}", node, label=f"no such {kind}", candidates=candidates
        )

    def _named(self, name: str) -> Iterator[exp.Expr]:
        """Nodes written with a name: identifiers and functions."""
        wanted = name.lower().rpartition(".")[2]
        for node in self.fragment.tree.walk(bfs=False):
            written = function_name(node) or node.name.lower()
            if written == wanted and "start" in node.meta:
                yield node

    def _operand(self, message: str) -> exp.Expr | None:
        """The function a message quotes, when it stands in the text."""
        found = re.search(r"'(\w+)\(", message)
        return next(self._named(found[1]), None) if found else None


def problem(
    code: str,
    message: str,
    span: Span | None,
    *,
    label: str | None = None,
    notes: tuple[str, ...] = (),
    hint: str | None = None,
    candidates: tuple[str, ...] = (),
) -> BindError:
    """A binding error of a listed code."""
    assert code in CODES, code
    return BindError(
        message,
        code=code,
        span=span,
        label=label,
        notes=notes,
        hint=hint,
        candidates=candidates,
    )
