"""From a logical plan and a choice for every call to the physical plan the executor runs.

    Source, and relational work on it      one `SqlScan`
    Filter, Project between calls          `SqlStep`, adjacent ones merged
    arguments and WHEN conditions          columns of the `SqlStep` before the `Stage`
    Apply                                  `Stage`
    Join, Distinct, Sort, Residual above   `SqlResidual`, with relational work on it
    Limit above calls                      `StopAfter`: everything below stops early

Columns that nothing above reads are dropped in the next step. A node with several readers is
lowered once, on its own, so that they share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never, cast

from ..errors import InternalError
from ..ir.logical import (
    Apply,
    Distinct,
    Filter,
    Join,
    Limit,
    LogicalNode,
    Project,
    Residual,
    Sort,
    Source,
    condition_of,
    each_of,
    model_call,
)
from ..ir.models import Model, output_field
from ..ir.node import parents
from ..ir.physical import (
    Cascade,
    Choice,
    Escalation,
    PhysicalNode,
    PhysicalPlan,
    SqlResidual,
    SqlScan,
    SqlStep,
    Stage,
    StopAfter,
)
from ..ir.record import dataclass
from ..ir.types import FAILED, ROW, Field, NamedExpr, Schema, SqlExpr, column, field_named, names
from . import sql as text
from .columns import demand, is_column, passed
from .steps import keys


@dataclass(frozen=True)
class Query:
    """Relational work still growing: a query over `inputs`, or over DuckDB's own tables if none.

    `rows` when its rows are the inputs' rows, failed ones among them: filters and expressions then
    go into a `SqlStep` above, which knows what to do with failed rows.
    """

    sql: str
    fields: Schema
    inputs: tuple[PhysicalNode, ...] = ()
    rows: bool = False


Lowered = Query | SqlScan | SqlStep | Stage | SqlResidual | StopAfter


def lower(
    plan: LogicalNode,
    choices: Mapping[str, Choice],
    models: Mapping[str, Model],
    on_error: str = "fail",
) -> PhysicalPlan:
    """The physical plan; `choices` by step key (see `planner.steps`).

    Raises:
        InternalError: a step has no choice, or its model is not among `models`.
    """
    return PhysicalPlan(_Lowering(plan, choices, models).root(), on_error)


class _Lowering:
    """One plan's lowering: what each logical node became."""

    def __init__(
        self, plan: LogicalNode, choices: Mapping[str, Choice], models: Mapping[str, Model]
    ) -> None:
        self.plan = plan
        self.choices = choices
        self.models = models
        self.keys = keys(plan)
        self.needed = demand(plan, pruned=False)  # what is in the plan runs
        self.readers = parents(plan)
        self.done: dict[LogicalNode, Lowered] = {}

    def root(self) -> PhysicalNode:
        """Lower everything; the root produces exactly the plan's schema."""
        for any_node in self.plan.postorder():
            node = cast(LogicalNode, any_node)
            lowered = self.node(node)
            if len(self.readers[node]) > 1:
                lowered = _finish(lowered)
            self.done[node] = lowered
        return _finish(self.step(self.plan, _through(self.plan.schema)))

    def wanted(self, node: LogicalNode) -> Schema:
        """The columns of a node that anybody reads, in schema order."""
        needed = self.needed[node]
        return tuple(f for f in node.schema if f.name in needed)

    def node(self, node: LogicalNode) -> Lowered:
        """Lower one node whose children are done."""
        wanted = self.wanted(node)
        match node:
            case Source():
                produced = node.schema if node.distinct else wanted
                return Query(text.source_sql(node, self.needed[node]), produced)
            case Apply():
                return self.apply(node)
            case Filter(input=below, predicate=predicate):
                return self.step(below, _through(wanted), predicate)
            case Project(input=below, columns=columns):
                kept = tuple(named for named in columns if named.name in self.needed[node])
                return self.step(below, kept)
            case Join():
                return self.join(node, wanted)
            case Distinct():
                return self.distinct(node)
            case Sort(input=below, keys=order):
                shown = names(wanted)
                return _over(
                    self.done[below],
                    wanted,
                    lambda sql: text.sort_sql(sql, order, shown),
                    text.sort_input_sql(order, shown),
                )
            case Limit():
                return self.limit(node, wanted)
            case Residual(inputs=inputs, sql=sql, fields=fields):
                return Query(sql, fields, tuple(_finish(self.done[below]) for below in inputs))
            case _:
                assert_never(node)

    def step(
        self, below: LogicalNode, columns: tuple[NamedExpr, ...], predicate: SqlExpr | None = None
    ) -> Lowered:
        """A filter and expressions: inside a growing query, merged into a step, or a new step."""
        lowered = self.done[below]
        if predicate is None and columns == _through(_fields(lowered)):
            return lowered
        if isinstance(lowered, Query) and not lowered.rows:
            sql = lowered.sql
            if predicate is not None:
                sql = text.filter_sql(sql, predicate, names(lowered.fields))
            made = tuple(named.field for named in columns)
            return Query(text.project_sql(sql, columns), made, lowered.inputs)
        if isinstance(lowered, SqlStep) and len(self.readers[below]) <= 1:
            merged = _merged(lowered, columns, predicate)
            if merged is not None:
                return merged
        return SqlStep(_finish(lowered), columns, predicate)

    def distinct(self, node: Distinct) -> Query:
        """Distinct rows; a projection of a shared input is computed where that is materialised."""
        below, shown = node.input, names(node.schema)
        if isinstance(below, Project) and len(self.readers[below.input]) > 1:
            computed = f"(SELECT {text.select_list(below.columns)}, {ROW}, {FAILED} FROM in0)"
            sql = text.distinct_input_sql(shown, computed)
            return Query(sql, node.schema, (_finish(self.done[below.input]),), rows=True)
        return _over(
            self.done[below],
            node.schema,
            lambda sql: text.distinct_sql(sql, shown),
            text.distinct_input_sql(shown),
        )

    def limit(self, node: Limit, wanted: Schema) -> Lowered:
        """Stop a stream early, or a limit in a query."""
        lowered, shown = self.done[node.input], names(wanted)
        if node.count is not None and not isinstance(lowered, Query):
            return StopAfter(lowered, node.count, node.offset)
        if isinstance(lowered, Query) and lowered.rows:
            sql = text.limit_rows_sql(lowered.sql, node.count, node.offset)
            return Query(sql, lowered.fields, lowered.inputs, rows=True)
        return _over(
            lowered,
            wanted,
            lambda sql: text.limit_sql(sql, shown, node.count, node.offset),
            text.limit_input_sql(shown, node.count, node.offset),
        )

    def join(self, node: Join, wanted: Schema) -> Query:
        """A join in SQL; relational sides go into its text, others become inputs."""
        inputs: list[PhysicalNode] = []
        items = []
        for side in (node.left, node.right):
            lowered = self.done[side]
            if isinstance(lowered, Query) and not lowered.inputs and node.kind != "lookup":
                items.append(f"({lowered.sql})")
            else:
                items.append(f"in{len(inputs)}")
                inputs.append(_finish(lowered))
        sql = text.join_sql(node, items[0], items[1], wanted)
        return Query(sql, wanted, tuple(inputs), rows=node.kind == "lookup")

    def apply(self, node: Apply) -> Lowered:
        """The columns its arguments need, then the stage; a call nobody reads is left out."""
        needed = self.needed[node]
        if not needed & set(names(node.outputs)):
            return self.done[node.input]
        key = self.keys[node]
        call, lists = model_call(node.call), each_of(node.call)
        if key not in self.choices or call.model not in self.models:
            raise InternalError(f"no choice, or no model, for the step {key}", code="OC0903")
        args, when = _arguments(node, key, self.models[call.model].inputs)
        kept = {f.name: column(f) for f in node.input.schema if f.name in needed}
        kept |= {arg.name: arg for arg in (*args, *when)}
        stage = Stage(
            input=_finish(self.step(node.input, tuple(kept.values()))),
            step=key,
            model=call.model,
            context=call.context,
            args=tuple(arg.name for arg in args),
            outputs=node.outputs,
            produce=node.produce or names(self.models[call.model].outputs),
            choice=self.choices[key],
            lists=lists,
            when=when[0].name if when else None,
        )
        stage = self.cascade(stage)
        wanted = self.wanted(node)
        return stage if stage.schema == wanted else SqlStep(stage, _through(wanted))

    def cascade(self, stage: Stage) -> Stage:
        """A stage for every member of a cascade, the answers so far under names of their own.

        All but the last add their confidence, whether anybody else reads it or not.
        """
        choice = stage.choice
        if not isinstance(choice, Cascade):
            return stage
        kind = output_field(self.models[stage.model], choice.confidence).type
        kind = f"{kind}[]" if stage.lists is not None else kind
        below, escalation = stage.input, None
        confidences: tuple[str, ...] = ()
        for place, member in enumerate(choice.earlier):
            answers = tuple(Field(f"{f.name}#{place}", f.type) for f in stage.outputs)
            sure = Field(f"{stage.step}.sure#{place}", kind)
            below = stage.replace(
                input=below,
                outputs=(*answers, sure),
                produce=(*stage.produce, choice.confidence),
                choice=member,
                escalation=escalation,
            )
            confidences += (sure.name,)
            escalation = Escalation(confidences, choice.thresholds[: place + 1], names(answers))
        return stage.replace(input=below, choice=choice.last, escalation=escalation)


def _arguments(
    node: Apply, key: str, inputs: Schema
) -> tuple[tuple[NamedExpr, ...], tuple[NamedExpr, ...]]:
    """The columns that hold a call's arguments, and its condition if it has one."""
    call, lists, condition = model_call(node.call), each_of(node.call), condition_of(node.call)
    taken = set(names(node.schema))
    args = []
    for place, (arg, given) in enumerate(zip(call.args, inputs, strict=True)):
        kind = f"{given.type}[]" if lists is not None and lists[place] else given.type
        args.append(_argument(arg, f"{key}.{given.name}", kind, node.input.schema, taken))
    if condition is None:
        return tuple(args), ()
    when = _argument(condition, f"{key}.when", "BOOLEAN", node.input.schema, taken)
    return tuple(args), (when,)


def _argument(expr: SqlExpr, name: str, kind: str, below: Schema, taken: set[str]) -> NamedExpr:
    """An input column of that type, or one computed as it."""
    for read in expr.columns:
        if is_column(expr, read) and field_named(below, read).type == kind:
            return NamedExpr(read, expr, kind)
    unique = name
    while unique in taken:
        unique += "_"
    taken.add(unique)
    cast_text = f"CAST({expr.text} AS {kind})"
    return NamedExpr(unique, SqlExpr(cast_text, expr.columns, expr.volatile), kind)


def _merged(
    first: SqlStep, columns: tuple[NamedExpr, ...], predicate: SqlExpr | None
) -> SqlStep | None:
    """`first` and then these as one step, if they compute only from columns it passes on."""
    made = {named.name: named for named in first.columns}
    kept = passed(first.columns)
    rest = [named for named in columns if not is_column(named.expr, named.name)]
    read = {name for named in rest for name in named.expr.columns}
    read |= set(predicate.columns) if predicate is not None else set()
    if not read <= kept:
        return None
    merged = tuple(
        made[named.name] if is_column(named.expr, named.name) else named for named in columns
    )
    both = [p for p in (first.predicate, predicate) if p is not None]
    if len(both) == 2:
        used = tuple(sorted({name for p in both for name in p.columns}))
        return SqlStep(first.input, merged, SqlExpr(text.conjunction(both), used))
    return SqlStep(first.input, merged, both[0] if both else None)


def _through(schema: Schema) -> tuple[NamedExpr, ...]:
    """All columns passed on."""
    return tuple(column(f) for f in schema)


def _fields(lowered: Lowered) -> Schema:
    """What it produces."""
    return lowered.fields if isinstance(lowered, Query) else lowered.schema


def _finish(lowered: Lowered) -> PhysicalNode:
    """The physical node of a query that grows no more."""
    if not isinstance(lowered, Query):
        return lowered
    if not lowered.inputs:
        return SqlScan(lowered.sql, lowered.fields)
    return SqlResidual(lowered.inputs, lowered.sql, lowered.fields)


def _over(lowered: Lowered, fields: Schema, nest: Callable[[str], str], over_input: str) -> Query:
    """Work over a whole input: around a growing query, or on a physical node's rows."""
    if isinstance(lowered, Query) and not lowered.rows:
        return Query(nest(lowered.sql), fields, lowered.inputs)
    return Query(over_input, fields, (_finish(lowered),), rows=True)
