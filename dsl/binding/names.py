"""What names mean in one SELECT."""

from __future__ import annotations

from dataclasses import field

from sqlglot import exp

from ...errors import BindError
from ...ir.record import dataclass
from .items import Item, key_of
from .problems import Place
from .relations import Key
from .rewriting import Names, Rewriter
from .sources import Sources
from .trees import field_of, is_plan_column, is_volatile, text_of, wrapped


@dataclass
class ScopeNames:
    """Columns of FROM, then outputs by alias; in ORDER BY outputs first."""

    sources: Sources
    place: Place
    items: list[Item]
    outer: Names | None
    rewriter: Rewriter | None = None
    order: bool = False
    computed: dict[int, exp.Expr] = field(default_factory=dict)
    by_text: dict[str, exp.Expr] = field(default_factory=dict)
    grouped: bool = False
    _outputs: dict[int, exp.Expr] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    _virtual: dict[str, Key] = field(default_factory=dict)

    def instead(self, node: exp.Expr) -> exp.Expr | None:
        """Subqueries computed below, and groups, aggregates and windows already computed."""
        if id(node) in self.computed:
            if self.grouped:
                raise self._ungrouped(node)
            return self.computed[id(node)]
        if self.by_text and not isinstance(node, exp.Literal):
            return self.by_text.get(self.canonical(node))
        return None

    def canonical(self, node: exp.Expr) -> str:
        """The text of an expression with its columns resolved: equal for equal expressions."""

        def one(part: exp.Expr) -> exp.Expr:
            if isinstance(part, exp.Column) and not is_plan_column(part):
                found = self._find(part)
                if found is not None and not found[1]:
                    return self.sources.read(found[0])
            return part

        return text_of(node.copy().transform(one))

    def register(self, node: exp.Column) -> None:
        """Have FROM produce a column, if it is one of FROM's."""
        try:
            found = self._find(node)
        except BindError:
            return
        if found is None:
            text = text_of(node)
            key = None
            if self._alias(node.parts[0].name) is None:
                key = self.sources.virtual(text)
            if key is None:
                return
            self._virtual[text] = key
            found = key, []
        self.sources.read(found[0])

    def _find(self, node: exp.Column) -> tuple[Key, list[str]] | None:
        key = key_of(node)
        if key is not None:
            return key, []
        virtual = self._virtual.get(text_of(node)) if self._virtual else None
        if virtual is not None:
            return virtual, []
        return self.sources.find([part.name for part in node.parts], node)

    def _alias(self, name: str) -> int | None:
        lower = name.lower()
        return next((i for i, item in enumerate(self.items) if item.alias == lower), None)

    def resolve(self, column: exp.Column) -> exp.Expr:
        """The plan's column, or the output of that alias.

        Raises:
            BindError: unknown, ambiguous, ungrouped, or of an outer query.
        """
        parts = [part.name for part in column.parts]
        position = self._alias(parts[0])
        if self.order and position is not None and len(parts) == 1:
            return wrapped(self.output(position).copy())
        found = self._find(column)
        if found is not None:
            if self.grouped:
                raise self._ungrouped(column)
            tree: exp.Expr = self.sources.read(found[0])
            return self._fields(tree, found[1])
        if position is not None and position not in self._open:
            return self._fields(wrapped(self.output(position).copy()), parts[1:])
        if isinstance(self.outer, ScopeNames) and self.outer.knows(column):
            raise self.place.error(
                "OC0212",
                "a model call cannot stand in a correlated subquery",
                column,
                label="a column of the outer query",
                hint="join instead, or call the model in the outer query",
            )
        raise self.sources.unknown(column)

    def knows(self, column: exp.Column) -> bool:
        """Is it a column here, or further out?"""
        try:
            found = self._find(column)
        except BindError:
            return True
        outer = isinstance(self.outer, ScopeNames) and self.outer.knows(column)
        return found is not None or outer

    def _ungrouped(self, node: exp.Expr) -> BindError:
        return self.place.error(
            "OC0228",
            f"{text_of(node)} must appear in GROUP BY or inside an aggregate",
            node,
        )

    def _fields(self, tree: exp.Expr, fields: list[str]) -> exp.Expr:
        for name in fields:
            tree = field_of(tree, name)
        return tree

    def output(self, position: int) -> exp.Expr:
        """An item over the plan's columns, rewritten once."""
        if position not in self._outputs:
            assert self.rewriter is not None
            self._open.add(position)
            self._outputs[position] = self.rewriter.expr(self.items[position].tree)
            self._open.discard(position)
        elif is_volatile(self._outputs[position]) and not self.grouped:
            assert self.rewriter is not None
            value = self._outputs[position]
            if not self.rewriter.inline:
                named = [(self.items[position].name, value)]
                self._outputs[position] = self.rewriter.rows.add(named, self.place)[0]
        return self._outputs[position]

    def forget(self) -> None:
        """Rewrite the outputs anew: a phase has replaced parts of them."""
        self._outputs.clear()
