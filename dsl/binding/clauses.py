"""The clauses of one SELECT: what stands where."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from ...ir.record import dataclass
from .items import Item
from .problems import Place
from .shapes import aggregates
from .sources import Sources
from .trees import walk_scope


@dataclass(frozen=True)
class Clauses:
    """A SELECT's trees by the phase they are evaluated in; `items` are its expanded outputs."""

    select: exp.Select
    place: Place
    sources: Sources
    items: list[Item]
    where: list[exp.Expr]

    def clause(self, name: str) -> exp.Expr | None:
        """The condition of HAVING or QUALIFY."""
        found = self.select.args.get(name)
        return found.this if found is not None else None

    @property
    def order(self) -> list[exp.Expr]:
        """ORDER BY's terms."""
        order = self.select.args.get("order")
        return list(order.expressions) if order is not None else []

    def late(self) -> Iterator[exp.Expr]:
        """The trees evaluated after WHERE."""
        yield from (item.tree for item in self.items)
        for clause in (self.clause("having"), self.clause("qualify"), *self.order):
            if clause is not None:
                yield clause

    def late_nodes(self) -> Iterator[exp.Expr]:
        """All nodes of those, queries not entered."""
        for tree in self.late():
            yield from walk_scope(tree)

    def everything(self) -> Iterator[exp.Expr]:
        """All trees of the scope but FROM's."""
        yield from self.where
        yield from self.late()
        for name in ("group", "distinct"):
            clause = self.select.args.get(name)
            if clause is not None:
                yield clause
        yield from self.select.args.get("windows") or ()

    @property
    def aggregated(self) -> bool:
        """Are there groups?"""
        clauses = self.select.args.get("group"), self.clause("having")
        return any(clause is not None for clause in clauses) or any(
            True for tree in self.late() for _ in aggregates(tree)
        )

    def group_trees(self) -> list[exp.Expr]:
        """The grouping expressions; positions and aliases replaced by what they name."""
        group = self.select.args.get("group")
        if group is None:
            return []
        if group.args.get("all"):
            return [
                item.tree for item in self.items if not any(True for _ in aggregates(item.tree))
            ]
        return [self.grouping(tree) for tree in group.expressions]

    def grouping(self, tree: exp.Expr) -> exp.Expr:
        """What a term of GROUP BY means: an output by position or alias, or itself.

        Raises:
            BindError: OC0228, no output has that position.
        """
        if isinstance(tree, exp.Literal) and not tree.is_string:
            return self.items[self.position(tree)].tree
        if not isinstance(tree, exp.Column) or len(tree.parts) != 1:
            return tree
        if self.sources.find([tree.name], tree) is not None:
            return tree
        found = next((i for i in self.items if i.alias == tree.name.lower()), None)
        return tree if found is None else found.tree

    def position(self, literal: exp.Literal) -> int:
        """The index of the output a number names, from 0.

        Raises:
            BindError: OC0228, there is none.
        """
        number = literal.name
        if not number.isdigit() or not 1 <= int(number) <= len(self.items):
            raise self.place.error("OC0228", f"there is no output {number}", literal)
        return int(number) - 1

    def limits(self) -> tuple[int | None, int] | None:
        """LIMIT and OFFSET as numbers; None when they are anything else."""
        limit, offset = self.select.args.get("limit"), self.select.args.get("offset")
        count: int | None = None
        if limit is not None:
            value = limit.expression if isinstance(limit, exp.Limit) else limit.args.get("count")
            if limit.args.get("limit_options") or not _is_count(value):
                return None
            count = int(value.name)
        if offset is not None and not _is_count(offset.expression):
            return None
        return count, int(offset.expression.name) if offset is not None else 0


def _is_count(value: object) -> bool:
    return isinstance(value, exp.Literal) and not value.is_string and value.name.isdigit()
