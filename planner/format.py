"""Plans as compact text, for snapshots, traces and EXPLAIN (STEPS).

One node a line, inputs indented below it. A node with several readers is written once, as
`r0 := …`, and as `r0` wherever it is read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never, cast

from ..ir.logical import (
    Apply,
    Call,
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
from ..ir.node import parents
from ..ir.physical import PhysicalNode, SqlResidual, SqlScan, SqlStep, Stage, StopAfter
from ..ir.types import NamedExpr, names, quote
from .sql import conjunction, limit_clause, order_list


def format_plan(plan: LogicalNode | PhysicalNode) -> str:
    """The plan as text, without a final newline."""
    readers = parents(plan)
    named: dict[LogicalNode | PhysicalNode, str] = {}
    lines: list[str] = []
    stack: list[tuple[LogicalNode | PhysicalNode, int]] = [(plan, 0)]
    while stack:
        node, depth = stack.pop()
        indent = "  " * depth
        if node in named:
            lines.append(f"{indent}{named[node]}")
            continue
        prefix = ""
        if len(readers[node]) > 1:
            named[node] = f"r{len(named)}"
            prefix = f"{named[node]} := "
        lines.append(f"{indent}{prefix}{format_node(node)}")
        below = cast("tuple[LogicalNode | PhysicalNode, ...]", node.children)
        stack.extend((child, depth + 1) for child in reversed(below))
    return "\n".join(lines)


def format_node(node: LogicalNode | PhysicalNode) -> str:
    """One node as one line, without its inputs."""
    match node:
        case SqlScan() | SqlStep() | Stage() | SqlResidual() | StopAfter():
            return _physical(node)
        case Source():
            return _source(node)
        case Apply(call=call, outputs=outputs):
            return f"Apply {', '.join(names(outputs))} := {format_call(call)}"
        case Filter(predicate=predicate):
            return f"Filter {predicate.text}"
        case Project(columns=columns):
            return f"Project {_columns(columns)}"
        case Join(kind=kind, condition=condition, keys=keys):
            on = f" on {condition.text}" if condition is not None else ""
            pairs = ", ".join(f"{left} = {right}" for left, right in keys)
            return f"Join {kind}{on}{' on ' + pairs if pairs else ''}"
        case Distinct():
            return "Distinct"
        case Sort(keys=keys):
            return f"Sort {order_list(keys)}"
        case Limit(count=count, offset=offset):
            return f"Limit{limit_clause(count, offset).replace(' LIMIT', '')}"
        case Residual(sql=sql):
            return f"Residual {sql}"
        case _:
            assert_never(node)


def _physical(node: PhysicalNode) -> str:
    """One physical node."""
    match node:
        case SqlScan(sql=sql):
            return f"SqlScan {sql}"
        case SqlStep(columns=columns, predicate=predicate):
            where = f" where {predicate.text}" if predicate is not None else ""
            return f"SqlStep {_columns(columns)}{where}"
        case Stage(step=step, args=args, lists=lists, when=when, choice=choice):
            each = lists or (False,) * len(args)
            listed = ("EACH " * mark + arg for mark, arg in zip(each, args, strict=True))
            guard = f" when {when}" if when is not None else ""
            made = ", ".join(names(node.outputs))
            return f"Stage {made} := {step}({', '.join(listed)}){guard} by {choice}"
        case SqlResidual(sql=sql):
            return f"SqlResidual {sql}"
        case StopAfter(count=count, offset=offset):
            return f"StopAfter {count}" + (f" OFFSET {offset}" if offset else "")
        case _:
            assert_never(node)


def format_call(call: Call) -> str:
    """`model(EACH argument, …) WHEN condition`, and its context where that is not the model."""
    inner, lists, condition = model_call(call), each_of(call), condition_of(call)
    each = lists or (False,) * len(inner.args)
    args = ("EACH " * mark + arg.text for mark, arg in zip(each, inner.args, strict=True))
    text = f"{inner.model}({', '.join(args)})"
    if condition is not None:
        text += f" WHEN {condition.text}"
    if inner.context != inner.model:
        text += f" @{inner.context}"
    return text + (" VOLATILE" if inner.volatile else "")


def _source(node: Source) -> str:
    """A source as the query it stands for."""
    text = f"Source {'DISTINCT ' if node.distinct else ''}{_columns(node.columns)}"
    if node.hidden:
        text += f" HIDDEN {_columns(node.hidden)}"
    text += f" FROM {node.relation}"
    if node.predicates:
        text += f" WHERE {conjunction(node.predicates)}"
    if node.order:
        text += f" ORDER BY {order_list(node.order)}"
    return text + limit_clause(node.limit, node.offset)


def _columns(columns: Iterable[NamedExpr]) -> str:
    """Names for what is passed on, `name := expression` for what is computed."""
    return ", ".join(
        named.name if named.expr.text == quote(named.name) else f"{named.name} := {named.expr.text}"
        for named in columns
    )
