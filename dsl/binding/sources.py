"""FROM: what may be read, and the plan of the rows before WHERE.

Columns are registered as expressions ask for them, then the plan is built: one `Source` where no
call is below; the plan of the one subquery; joins; or a residual over everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Literal

from sqlglot import exp

from ...ir.logical import Join, LogicalNode, Project, Residual, Source
from ...ir.record import dataclass
from ...ir.types import Field, NamedExpr, Schema, SqlExpr, column, names, quote
from ..diagnostics import nearest
from .problems import Place
from .relations import (
    Bound,
    Ctes,
    Key,
    Relation,
    alias_of,
    function_of,
    name_in,
    renamed,
    same_name,
)
from .rewriting import from_input
from .rows import describe_over
from .trees import field_of, is_plan_column, is_query, is_volatile, plan_column, text_of
from .types import null_row
from .view import Context

_ITEM = "octans_item"


@dataclass
class Sources:
    """The FROM clause of one SELECT.

    `joins` have had their ON conditions with calls taken out; `plans` maps the identity of each
    item that has calls below it to its bound query.
    """

    ctx: Context
    place: Place
    ctes: Ctes
    items: Sequence[exp.Expr]
    joins: Sequence[exp.Join]
    plans: Mapping[int, Bound]
    relations: list[Relation] = field(default_factory=list)
    merged: set[str] = field(default_factory=set)
    made: dict[Key, NamedExpr] = field(default_factory=dict)
    _direct: dict[int, Bound] = field(default_factory=dict)
    _computed: list[exp.Expr] = field(default_factory=list)

    def __post_init__(self) -> None:
        for join in self.joins:
            self.merged |= {part.name.lower() for part in join.args.get("using") or ()}
        self._describe()
        self._simple = self._joins_simply()
        taken: set[str] = set()
        for index, relation in enumerate(self.relations):
            if relation.bound is not None and self._simple:
                bound = self._apart(relation.bound, taken)
                taken |= set(names(bound.plan.schema))
                self._direct[index] = bound

    # What can be read.

    def find(self, parts: Sequence[str], node: exp.Expr) -> tuple[Key, list[str]] | None:
        """The column a dotted name stands for, and the fields of it that follow.

        Raises:
            BindError: OC0204, several relations have it.
        """
        lower = [part.lower() for part in parts]
        for skip in range(min(2, len(parts) - 1)):
            for index, relation in enumerate(self.relations):
                if relation.alias is not None and relation.alias.lower() == lower[skip]:
                    name = relation.column(lower[skip + 1])
                    if name is not None:
                        return Key(index, name), list(parts[skip + 2 :])
        found = [
            (index, name)
            for index, relation in enumerate(self.relations)
            for name in [name_in(relation.schema, lower[0])]
            if name is not None
        ]
        if found and lower[0] in self.merged:
            return Key(None, quote(found[0][1])), list(parts[1:])
        if len(found) > 1:
            owners = [self.relations[index].alias or "?" for index, _ in found]
            raise self.place.error(
                "OC0204",
                f"column {parts[0]} is ambiguous",
                node,
                label="ambiguous",
                candidates=tuple(f"{owner}.{parts[0]}" for owner in owners),
            )
        return (Key(*found[0]), list(parts[1:])) if found else None

    def virtual(self, text: str) -> Key | None:
        """A name DuckDB knows though no relation lists it: `rowid`, `filename`, a whole row."""
        if not self.items or not self.ctx.describes(f"{self._prefix()}SELECT {text} {self._nulls}"):
            return None
        return Key(None, text)

    def unknown(self, column: exp.Column) -> Exception:
        """The error for a name nobody knows, with the near ones."""
        parts = [part.name for part in column.parts]
        aliases = [r.alias for r in self.relations if r.alias is not None]
        if len(parts) > 1:
            owner = next((r for r in self.relations if same_name(r.alias, parts[-2])), None)
            if owner is None:
                return self.place.error(
                    "OC0202",
                    f"unknown table {parts[-2]}",
                    column,
                    label="no such table here",
                    candidates=nearest(parts[-2], aliases),
                )
            known = list(names(owner.schema))
        else:
            known = [name for relation in self.relations for name in names(relation.schema)]
        return self.place.error(
            "OC0203",
            f"unknown column {parts[-1]}",
            column,
            label="no such column",
            candidates=nearest(parts[-1], known),
        )

    def star(self, alias: str | None, node: exp.Expr) -> list[Key]:
        """The columns of `*` or `alias.*`, those merged by USING once.

        Raises:
            BindError: OC0202, no such alias.
        """
        chosen = [
            (index, relation)
            for index, relation in enumerate(self.relations)
            if alias is None or same_name(relation.alias, alias)
        ]
        if alias is not None and not chosen:
            raise self.unknown(exp.column("*", table=alias))
        keys: dict[Key, None] = {}
        for index, relation in chosen:
            for name in names(relation.schema):
                merged = alias is None and name.lower() in self.merged
                keys[Key(None, quote(name)) if merged else Key(index, name)] = None
        return list(keys)

    def describe_item(self, text: str) -> list[str]:
        """The names of the columns a select item makes.

        Raises:
            BindError: DuckDB refuses it.
        """
        sql = f"{self._prefix()}SELECT {text} {self._nulls}"
        return list(names(self.ctx.describe(sql, self.place)))

    # Registering what is read.

    def read(self, key: Key) -> exp.Column:
        """The plan's column of a key."""
        if key.relation is not None and key.relation in self._direct:
            bound = self._direct[key.relation]
            position = [name.lower() for name in bound.names].index(key.name.lower())
            return plan_column(bound.plan.schema[position].name)
        if key not in self.made:
            self._register(key)
        return plan_column(self.made[key].name)

    def _register(self, key: Key) -> None:
        if key.relation is None:
            self._compute(key, key.name.strip('"'))
            return
        relation = self.relations[key.relation]
        type_ = next(f.type for f in relation.schema if f.name == key.name)
        single = len(self.relations) == 1 or relation.alias is None
        text = quote(key.name) if single else f"{quote(str(relation.alias))}.{quote(key.name)}"
        name = self.ctx.unique(key.name)
        self.made[key] = NamedExpr(name, SqlExpr(text, (key.name,)), type_)

    def compute(self, tree: exp.Expr, name: str) -> exp.Column:
        """An expression over FROM as a column of its rows.

        Raises:
            BindError: DuckDB refuses it.
        """
        key = Key(None, text_of(tree))
        if key not in self.made:
            self._computed.append(tree)
            self._compute(key, name, is_volatile(tree))
        return plan_column(self.made[key].name)

    def _compute(self, key: Key, name: str, volatile: bool = False) -> None:
        sql = f"{self._prefix()}SELECT {key.name} {self._nulls}"
        type_ = self.ctx.describe(sql, self.place)[0].type
        self.made[key] = NamedExpr(self.ctx.unique(name), SqlExpr(key.name, (), volatile), type_)

    # The plan.

    def plan(self) -> LogicalNode:
        """The rows before WHERE, with every registered column."""
        computed = [key for key in self.made if key.relation is None]
        if not self.plans:
            return self._source()
        if self._simple and not computed:
            return self._joined()
        return self._residual()

    def _source(self) -> Source:
        columns = tuple(self.made.values()) or (_one(self.ctx),)
        text = self._text(lambda bound, index: "")
        prefix = self._prefix()
        if not prefix:
            return Source(text or "(SELECT 1)", columns)
        listed = ", ".join(f"{c.expr.text} AS {quote(c.name)}" for c in columns)
        relation = f"({prefix}SELECT {listed} FROM {text}) AS {quote(self.ctx.unique('source'))}"
        return Source(relation, tuple(column(named.field) for named in columns))

    def _joined(self) -> LogicalNode:
        """Join nodes; the conditions first, since they say what the sides must produce."""
        conditions = [
            None if on is None else self._condition(on)
            for on in (join.args.get("on") for join in self.joins)
        ]
        plan = self._side(0)
        for index, (join, condition) in enumerate(zip(self.joins, conditions, strict=True), 1):
            kind: Literal["inner", "left", "cross"] = "cross" if condition is None else "inner"
            if join.side.upper() == "LEFT":
                kind = "left"
            plan = Join(plan, self._side(index), kind, condition)
        return plan

    def _side(self, index: int) -> LogicalNode:
        if index in self._direct:
            return self._direct[index].plan
        item = self.items[index]
        columns = tuple(
            NamedExpr(c.name, SqlExpr(quote(key.name), (key.name,)), c.type)
            for key, c in self.made.items()
            if key.relation == index
        )
        prefix = self.ctes.prefix(item)
        text = text_of(item)
        relation = f"({prefix}SELECT * FROM {text})" if prefix else text
        return Source(relation, columns or (_one(self.ctx),))

    def _condition(self, on: exp.Expr) -> SqlExpr:
        def one(node: exp.Expr) -> exp.Expr:
            if not isinstance(node, exp.Column) or is_plan_column(node):
                return node
            found = self.find([part.name for part in node.parts], node)
            if found is None:
                raise self.unknown(node)
            tree: exp.Expr = self.read(found[0])
            for name in found[1]:
                tree = field_of(tree, name)
            return tree

        tree = on.copy().transform(one)
        read = {c.name for c in tree.find_all(exp.Column)}
        return SqlExpr(text_of(tree), tuple(sorted(read)), is_volatile(tree))

    def _residual(self) -> Residual:
        inputs: list[LogicalNode] = []

        def reading(bound: Bound, index: int) -> str:
            inputs.append(bound.plan)
            return from_input(bound.plan.schema, bound.names, len(inputs) - 1)

        text = self._text(reading)
        columns = list(self.made.values())
        for index, bound in self._direct.items():
            alias = self.relations[index].alias
            for name, made in zip(bound.names, bound.plan.schema, strict=True):
                owner = f"{quote(alias)}." if alias else ""
                columns.append(NamedExpr(made.name, SqlExpr(owner + quote(name), ()), made.type))
        columns = columns or [_one(self.ctx)]
        listed = ", ".join(f"{c.expr.text} AS {quote(c.name)}" for c in columns)
        sql = f"{self._prefix()}SELECT {listed} FROM {text}"
        fields = describe_over(self.ctx, sql, inputs, self.place)
        volatile = any(c.expr.volatile for c in columns)
        return Residual(tuple(inputs), sql, fields, volatile=volatile)

    # FROM as text.

    def _describe(self) -> None:
        visible = [(index, item) for index, item in enumerate(self.items) if self._seen(index)]
        for index, item in visible:
            alias = self._alias(item, index)
            own = None
            if isinstance(item, exp.Unnest) or isinstance(item.this, exp.GenerateSeries):
                own = function_of(item)
            self.relations.append(Relation(alias, (), self.plans.get(id(item)), own))
        self._nulls = ""
        if not self.items:
            return
        self._nulls = "FROM " + self._text(lambda bound, index: null_row(bound.fields))
        known = [r for r in self.relations if r.bound is None]
        if len(self.relations) == 1:
            listed = "*"
        else:
            listed = ", ".join(
                f"COLUMNS({quote(str(r.alias))}.*) AS '{i}:\\0'"
                for i, r in enumerate(self.relations)
            )
        described: Schema = ()
        if known or len(self.relations) > 1:
            sql = f"{self._prefix()}SELECT {listed} {self._nulls}"
            described = self.ctx.describe(sql, self.place)
        for index, relation in enumerate(self.relations):
            schema = described
            if len(self.relations) > 1:
                own = f"{index}:"
                schema = tuple(
                    Field(f.name[len(own) :], f.type) for f in described if f.name.startswith(own)
                )
            if relation.bound is not None:
                alias = visible[index][1].args.get("alias")
                bound = renamed(relation.bound, alias, self.place)
                self.relations[index] = Relation(relation.alias, bound.fields, bound)
            else:
                self.relations[index] = Relation(relation.alias, schema, None, relation.function)

    def _seen(self, index: int) -> bool:
        """SEMI and ANTI joins' right sides give no columns."""
        return index == 0 or self.joins[index - 1].kind.upper() not in ("SEMI", "ANTI")

    def _text(self, reading: Callable[[Bound, int], str]) -> str:
        """FROM's text; items with calls below stand as what `reading(bound, index)` says."""
        if not self.items:
            return ""
        parts = []
        for index, item in enumerate(self.items):
            bound = self.plans.get(id(item))
            text = text_of(item)
            if bound is not None:
                inner = reading(renamed(bound, item.args.get("alias"), self.place), index)
                text = f"({inner}) AS {quote(str(self._alias(item, index)))}"
            elif isinstance(item, exp.Subquery) and not item.alias:
                text = f"{text} AS {quote(str(self._alias(item, index)))}"
            joined = text if index == 0 else self._join_text(self.joins[index - 1], text)
            parts.append(joined if index == 0 or joined.startswith(",") else " " + joined)
        return "".join(parts)

    def _alias(self, item: exp.Expr, index: int) -> str | None:
        """The item's name; a subquery without one gets one, so that its columns can be named."""
        found = alias_of(item)
        return f"unnamed_{index}" if found is None and isinstance(item, exp.Subquery) else found

    def _join_text(self, join: exp.Join, item: str) -> str:
        """The join's own words around an item's text."""
        bare = join.copy()
        bare.set("this", exp.Table(this=exp.Identifier(this=_ITEM, quoted=True)))
        return text_of(bare).strip().replace(quote(_ITEM), item, 1)

    def _prefix(self) -> str:
        return self.ctes.prefix(
            *(item for item in self.items if id(item) not in self.plans),
            *(join.args["on"] for join in self.joins if join.args.get("on") is not None),
            *self._computed,
        )

    def _joins_simply(self) -> bool:
        """May the items be sides of join nodes?"""
        if len(self.relations) != len(self.items):
            return False
        for join in self.joins:
            on = join.args.get("on")
            other = join.args.get("using") or join.args.get("method")
            plain = join.kind.upper() in ("", "INNER", "CROSS", "OUTER")
            side = join.side.upper() in ("", "LEFT")
            if other or not (plain and side) or (on is not None and any(map(is_query, on.walk()))):
                return False
            if isinstance(join.this, exp.Lateral | exp.Unnest) or (on is None and join.side):
                return False
        return all(r.alias is not None for r in self.relations) or len(self.relations) == 1

    def _apart(self, bound: Bound, taken: set[str]) -> Bound:
        """The same query under column names not taken by its siblings (a CTE read twice)."""
        if not taken & set(names(bound.plan.schema)):
            return bound
        columns = tuple(
            NamedExpr(self.ctx.unique(f.name), column(f).expr, f.type) for f in bound.plan.schema
        )
        return Bound(Project(bound.plan, columns), bound.names)


def _one(ctx: Context) -> NamedExpr:
    """A column for rows of which nothing is read."""
    return NamedExpr(ctx.unique("nothing"), SqlExpr("1", ()), "INTEGER")
