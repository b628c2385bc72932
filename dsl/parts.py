"""What statements are made of: names, literals, quantities, runs of tokens for sqlglot."""

from __future__ import annotations

from sqlglot import exp

from ..errors import Span
from ..ir.models import Scalar
from ..ir.record import dataclass, field


@dataclass(frozen=True)
class Name:
    """An identifier or dotted name as written (`classify`, `classify.mlp`)."""

    parts: tuple[str, ...]
    span: Span = field(compare=False)

    @property
    def text(self) -> str:
        """The parts joined with dots."""
        return ".".join(self.parts)


@dataclass(frozen=True)
class Fragment:
    """A run of tokens handed to sqlglot: the tree, its text as written and where it stands."""

    tree: exp.Expression
    text: str = field(compare=False)
    span: Span = field(compare=False)
    is_query: bool = False

    def span_of(self, node: exp.Expr) -> Span:
        """Where a node of the tree stands in the whole text; the fragment's span when unknown."""
        starts: list[int] = []
        ends: list[int] = []
        for part in node.walk():
            meta = part.meta
            if "start" in meta and "end" in meta:
                starts.append(int(meta["start"]))
                ends.append(int(meta["end"]) + 1)
        return Span(min(starts), max(ends)) if starts else self.span


@dataclass(frozen=True)
class Column:
    """`name TYPE` in a signature; `type` is canonical DuckDB text."""

    name: Name
    type: str
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Literal_:
    """A literal value."""

    value: Scalar
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Quantity:
    """A number with its unit; `value` is in the base unit of `dimension`, named by that unit.

    See `dsl/units.py`. `text` is as printed: the number as written, one space, the unit.
    """

    value: float
    dimension: str
    text: str
    span: Span = field(compare=False)
