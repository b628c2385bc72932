"""What the parser can take next, and how it is told when something else comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lark.parsers.lalr_analysis import Shift
from lark.parsers.lalr_parser_state import ParserState

from ..errors import Span, SyntaxProblem
from .diagnostics import nearest
from .lexer import SIGNS, Lexeme
from .problems import one_of, problem
from .sqlbridge import shown
from .tokens import Word

END = "$END"

_IN_WORDS = {
    "NAME": "a name",
    "STRING": "a string",
    "NUMBER": "a number",
    "UNIT": "a unit",
    "QUERY": "a query",
    "EXPR": "an expression",
    "TYPE": "a type",
    "TARGET": "TO",
    "PER_TIME": "PER HOUR",
    END: "the end of the statement",
    **{name: sign for sign, name in SIGNS.items()},
}
_IMPLIED = frozenset({"DASH", "PLUS", "PERCENT", "SLASH", "PER_TIME", "UNIT", "DOT"})
"""Always possible around a number or behind a name: said only where nothing else is."""

_MANY = 8


class Accepted:
    """The terminals that can really follow in a state of the parser.

    An LALR state merges lookaheads, so its own row also lists terminals that fail after the next
    reductions; these are tried on a copy of the state stack, without building anything.
    """

    def __init__(self, state: ParserState[Any]) -> None:
        self._conf = state.parse_conf
        self._stack = list(state.state_stack)

    def __contains__(self, name: object) -> bool:
        states = self._conf.states
        stack = list(self._stack)
        while True:
            action = states[stack[-1]].get(str(name))
            if action is None:
                return False
            kind, rule = action
            if kind is Shift:
                return True
            if rule.expansion:
                del stack[-len(rule.expansion) :]
            stack.append(states[stack[-1]][rule.origin.name][1])
            if name == END and stack[-1] == self._conf.end_state:
                return True

    def names(self) -> list[str]:
        """All of them: keywords behind the rest, the end last."""
        row = self._conf.states[self._stack[-1]]
        found = [name for name in row if (name.isupper() or name == END) and name in self]
        rank = {name: index for index, name in enumerate(_IN_WORDS)}
        return sorted(found, key=lambda name: (name == END, rank.get(name, len(rank)), name))


def unexpected(accepted: Accepted, lexeme: Lexeme | None, end: int) -> SyntaxProblem:
    """The error for a terminal that cannot stand where it does; None is the statement's end."""
    names = accepted.names()
    listed = [name for name in names if name not in _IMPLIED] or names
    told = [_IN_WORDS.get(name, name) for name in listed]
    if len(told) > _MANY:
        told = [*told[:_MANY], "…"]
    label = "expected " + one_of(told)
    if lexeme is None:
        span = Span(end, end)
        return problem("OC0101", "the statement ends too early", span=span, label=label)
    word = lexeme.words[0]
    keywords = [name for name in names if name not in _IN_WORDS]
    return problem(
        "OC0101",
        f"unexpected {shown(word.text)}",
        span=word.span,
        label=label,
        candidates=nearest(word.text, keywords) if word.is_name else (),
    )


def hint(error: SyntaxProblem, line: Sequence[Word]) -> str | None:
    """Help for the mistakes that the form of the language invites."""
    at = next((index for index, word in enumerate(line) if word.span == error.span), None)
    if at is None:
        return None
    uppers = ["", "", *(word.upper for word in line), ""]
    second, first, here, after = uppers[at : at + 4]
    if error.code == "OC0101" and here in ("MINIMIZE", "MAXIMIZE"):
        return "the clauses stand in this order: WITH SLO, objective, ON ERROR"
    if error.code == "OC0101":
        is_step = second == ":=" and error.label == "expected ("
        return "a step is a call: name := model(argument, …)" if is_step else None
    if error.code != "OC0103":
        return None
    if first in ("MINIMIZE", "MAXIMIZE"):
        return f"an objective alone is written WITH SLO () {first} {line[at].text}"
    if (here, after) == ("ON", "ERROR"):
        return "ON ERROR stands at the very end, behind WITH SLO and the objective"
    if "SLO" in (here, after) and "WITH" in (first, here):
        return "WITH SLO stands behind the whole query, not inside it"
    if first == "EACH":
        return "EACH stands only directly before an argument of a step's call"
    return None
