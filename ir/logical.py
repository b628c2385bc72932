"""The logical plan: what a query asks, before any variant, batch or device is chosen.

A plan is a DAG of relations. `Source` is relational work DuckDB does alone; `Apply` adds the
outputs of one model call as columns; the rest is relational work above calls. Column names are
unique within a plan: the output `digit` of the step `digits` is the column `digits.digit`, a model
with one output makes the column `digits`; the binder appends `_2`, `_3`, … on a clash.

A call is a small tree: `When(condition, Each(ModelCall(…)))`.
"""

from __future__ import annotations

from typing import Literal

from .node import Node, Value
from .types import Field, NamedExpr, Schema, SqlExpr, names


class ModelCall(Value):
    """`model(arguments)`; `context` is the name its statistics are kept under.

    `context` is `pipeline.step` for a step of a pipeline and the model's name elsewhere; statistics
    fall back from the step to the model.
    """

    model: str
    args: tuple[SqlExpr, ...]
    context: str
    volatile: bool = False


class Each(Value):
    """The call for every element: arguments marked in `lists` zip, the rest broadcast.

    NULL gives NULL, `[]` gives `[]`; unequal lengths fail the row.
    """

    call: ModelCall
    lists: tuple[bool, ...]


class When(Value):
    """The call only on rows where `condition` is TRUE; elsewhere its outputs are NULL.

    `instead_of` are the contexts of earlier calls whose outputs, apart from conditions, are only
    used through `COALESCE(this, that)`: where this call ran they do not matter.
    """

    condition: SqlExpr
    call: ModelCall | Each
    instead_of: tuple[str, ...] = ()


Call = ModelCall | Each | When


class Order(Value):
    """One ORDER BY key; `nulls_first` None is DuckDB's default (last)."""

    expr: SqlExpr
    descending: bool = False
    nulls_first: bool | None = None


class Source(Node):
    """Rows DuckDB computes alone: `SELECT columns FROM relation WHERE … ORDER BY … LIMIT …`.

    `relation` is the SQL text of a FROM clause (a table, joins, a subquery); `columns` are computed
    over it; `predicates`, `order` and the limit apply to the columns, in this order. Columns that
    only predicates or order need may be in `hidden`: computed, not produced.
    """

    relation: str
    columns: tuple[NamedExpr, ...]
    predicates: tuple[SqlExpr, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    hidden: tuple[NamedExpr, ...] = ()
    distinct: bool = False

    @property
    def schema(self) -> Schema:
        """What it produces."""
        return tuple(named.field for named in self.columns)


class Apply(Node):
    """Every row of `input` with the outputs of one call added as columns.

    `produce` are the model's output names, pairwise with `outputs`, once some were pruned; () is
    all of the model's outputs in their order.
    """

    input: LogicalNode
    call: Call
    outputs: Schema
    produce: tuple[str, ...] = ()

    @property
    def schema(self) -> Schema:
        """The input's columns, then the outputs."""
        return self.input.schema + self.outputs


class Filter(Node):
    """The rows where `predicate` is TRUE."""

    input: LogicalNode
    predicate: SqlExpr

    @property
    def schema(self) -> Schema:
        """The input's."""
        return self.input.schema


class Project(Node):
    """Scalar expressions over each row."""

    input: LogicalNode
    columns: tuple[NamedExpr, ...]

    @property
    def schema(self) -> Schema:
        """The columns named."""
        return tuple(named.field for named in self.columns)


class Join(Node):
    """`left JOIN right ON condition`; columns of both sides, whose names do not clash.

    `lookup` joins every left row with its one match on the right (what deduplication makes): the
    `keys` pairs (left column, right column) are compared null-safely, the right's key columns are
    not produced, and left order is kept. `semi` keeps the left rows that have a match.
    """

    left: LogicalNode
    right: LogicalNode
    kind: Literal["inner", "left", "cross", "lookup", "semi"]
    condition: SqlExpr | None = None
    keys: tuple[tuple[str, str], ...] = ()

    @property
    def schema(self) -> Schema:
        """Left columns, then right ones (without keys for a lookup, none for a semi-join)."""
        if self.kind == "semi":
            return self.left.schema
        drop = {right for _, right in self.keys} if self.kind == "lookup" else set()
        return self.left.schema + tuple(f for f in self.right.schema if f.name not in drop)


class Distinct(Node):
    """Each distinct row once; DuckDB does it and spills."""

    input: LogicalNode

    @property
    def schema(self) -> Schema:
        """The input's."""
        return self.input.schema


class Sort(Node):
    """Rows in an order (a total one: ties keep source order)."""

    input: LogicalNode
    keys: tuple[Order, ...]

    @property
    def schema(self) -> Schema:
        """The input's."""
        return self.input.schema


class Limit(Node):
    """The first `count` rows after `offset`; None is all."""

    input: LogicalNode
    count: int | None
    offset: int = 0

    @property
    def schema(self) -> Schema:
        """The input's."""
        return self.input.schema


class Residual(Node):
    """Any other relational work over plans, done by DuckDB: `sql` names its inputs `in0`, `in1`, …
    and its result columns as `fields` does.

    Grouping, windows, set operations, outer joins, subqueries. `aggregated` when its rows are not
    source rows any more (accuracy is then undefined).
    """

    inputs: tuple[LogicalNode, ...]
    sql: str
    fields: Schema
    aggregated: bool = False
    volatile: bool = False

    @property
    def schema(self) -> Schema:
        """As declared."""
        return self.fields


LogicalNode = Source | Apply | Filter | Project | Join | Distinct | Sort | Limit | Residual


def model_call(call: Call) -> ModelCall:
    """The call itself, without EACH and WHEN."""
    match call:
        case When(call=inner):
            return model_call(inner)
        case Each(call=inner):
            return inner
        case ModelCall():
            return call


def each_of(call: Call) -> tuple[bool, ...] | None:
    """Which arguments are lists; None without EACH."""
    match call:
        case When(call=inner):
            return each_of(inner)
        case Each(lists=lists):
            return lists
        case ModelCall():
            return None


def condition_of(call: Call) -> SqlExpr | None:
    """The WHEN condition, if any."""
    return call.condition if isinstance(call, When) else None


def columns_used(call: Call) -> tuple[str, ...]:
    """The columns a call reads, condition included, sorted."""
    used = {name for arg in model_call(call).args for name in arg.columns}
    condition = condition_of(call)
    if condition is not None:
        used.update(condition.columns)
    return tuple(sorted(used))


__all__ = [
    "Apply",
    "Call",
    "Distinct",
    "Each",
    "Field",
    "Filter",
    "Join",
    "Limit",
    "LogicalNode",
    "ModelCall",
    "Order",
    "Project",
    "Residual",
    "Sort",
    "Source",
    "When",
    "columns_used",
    "condition_of",
    "each_of",
    "model_call",
    "names",
]
