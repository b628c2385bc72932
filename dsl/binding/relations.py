"""What FROM is made of: bound queries, CTEs in scope, relations and their columns' keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from sqlglot import exp

from ...ir.logical import LogicalNode
from ...ir.record import dataclass
from ...ir.types import Field, Schema
from .problems import Place
from .trees import text_of


@dataclass(frozen=True)
class Bound:
    """A query's plan and the names its columns have for a user, pairwise with `plan.schema`."""

    plan: LogicalNode
    names: tuple[str, ...]

    @property
    def fields(self) -> Schema:
        """The columns as a user sees them."""
        pairs = zip(self.names, self.plan.schema, strict=True)
        return tuple(Field(name, made.type) for name, made in pairs)


@dataclass(frozen=True)
class Ctes:
    """The CTEs in scope: texts of those without calls, plans of the others."""

    texts: Mapping[str, exp.CTE] = field(default_factory=dict)
    plans: Mapping[str, Bound] = field(default_factory=dict)
    recursive: bool = False

    def prefix(self, *trees: exp.Expr) -> str:
        """The WITH clause some text needs, '' for none; with what its members need."""
        wanted: dict[str, exp.CTE] = {}
        stack = list(trees)
        while stack:
            for table in stack.pop().find_all(exp.Table):
                name = table.name.lower()
                if not table.db and name in self.texts and name not in wanted:
                    wanted[name] = self.texts[name]
                    stack.append(self.texts[name])
        if not wanted:
            return ""
        listed = ", ".join(text_of(self.texts[name]) for name in self.texts if name in wanted)
        return f"WITH {'RECURSIVE ' if self.recursive else ''}{listed} "


@dataclass(frozen=True)
class Relation:
    """One item of FROM; `bound` when a call is below it."""

    alias: str | None
    schema: Schema
    bound: Bound | None = None
    function: str | None = None
    """A table function's name, which its one column also has where an alias renames it."""

    def column(self, lower: str) -> str | None:
        """The column of that lower-case name, as it is written."""
        if len(self.schema) == 1 and self.function == lower:
            return self.schema[0].name
        return name_in(self.schema, lower)


@dataclass(frozen=True)
class Key:
    """A column of FROM: of a relation, merged by USING (None), or an expression over FROM."""

    relation: int | None
    name: str


def same_name(alias: str | None, name: str) -> bool:
    """Equal names; case does not matter."""
    return alias is not None and alias.lower() == name.lower()


def name_in(schema: Schema, lower: str) -> str | None:
    """The column of that lower-case name, as it is written."""
    return next((f.name for f in schema if f.name.lower() == lower), None)


def alias_of(item: exp.Expr) -> str | None:
    """The name an item of FROM has for the rest of the query."""
    return str(item.alias) if item.alias else function_of(item)


def function_of(item: exp.Expr) -> str | None:
    """The name of an item of FROM without an alias: the table's or the table function's."""
    if isinstance(item, exp.Unnest):
        return "unnest"
    if isinstance(item, exp.Table):
        this = item.this
        if isinstance(this, exp.Identifier):
            return str(this.name)
        if isinstance(this, exp.Anonymous):
            return str(this.name)
        if isinstance(this, exp.GenerateSeries):
            return "range" if this.args.get("is_end_exclusive") else "generate_series"
        return this.sql_name().lower() if isinstance(this, exp.Func) else None
    return None


def renamed(bound: Bound, alias: exp.Expr | None, place: Place) -> Bound:
    """`AS alias(a, b)`: the first columns' new names.

    Raises:
        BindError: OC0228, more names than columns.
    """
    listed = [part.name for part in alias.columns] if isinstance(alias, exp.TableAlias) else []
    if len(listed) > len(bound.names):
        raise place.error("OC0228", f"{alias} names more columns than there are", alias)
    return Bound(bound.plan, (*listed, *bound.names[len(listed) :])) if listed else bound
