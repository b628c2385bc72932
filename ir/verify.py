"""Invariants of a logical plan; the rewrite driver checks them after every rule.

`OC0902` is the code of a broken one: always ours to fix, never the user's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never, cast

from ..errors import InternalError
from .logical import (
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
    columns_used,
    each_of,
    model_call,
)
from .node import Node
from .types import NamedExpr, Schema, names


def verify(plan: LogicalNode, sound: set[Node] | None = None) -> None:
    """Check every node: columns read exist, names are unique, types known, arities fit.

    Args:
        plan: what to check.
        sound: nodes already checked, to which the plan's are added; whether a node is sound depends
            on nothing but it and its inputs.

    Raises:
        InternalError: a node breaks an invariant (OC0902).
    """
    known = set() if sound is None else sound
    for node in plan.postorder():
        if node not in known:
            _verify_node(cast(LogicalNode, node))
            _verify_schema(cast(LogicalNode, node))
            known.add(node)


def _verify_node(node: LogicalNode) -> None:
    """The invariants of one kind of node, its children taken as sound."""
    match node:
        case Source():
            _verify_source(node)
        case Apply(input=below, call=call, outputs=outputs, produce=produce):
            _reads(node, columns_used(call), below.schema)
            lists = each_of(call)
            if lists is not None and (len(lists) != len(model_call(call).args) or not any(lists)):
                _broken(node, "EACH does not fit the arguments")
            if produce and len(produce) != len(outputs):
                _broken(node, "outputs and the model's output names are not pairs")
        case Filter(input=below, predicate=predicate):
            _reads(node, predicate.columns, below.schema)
        case Project(input=below, columns=columns):
            _computes(node, columns, below.schema)
        case Join():
            _verify_join(node)
        case Sort(input=below, keys=keys):
            if not keys:
                _broken(node, "no sort key")
            for key in keys:
                _reads(node, key.expr.columns, below.schema)
        case Limit(count=count, offset=offset):
            if (count is not None and count < 0) or offset < 0:
                _broken(node, "a negative limit")
        case Residual(inputs=inputs):
            if not inputs:
                _broken(node, "no input")
        case Distinct():
            pass
        case _:
            assert_never(node)


def _verify_source(node: Source) -> None:
    """Predicates and order read the columns, hidden ones included (no hidden order if distinct)."""
    visible = node.schema
    every = visible + tuple(named.field for named in node.hidden)
    if len(set(names(every))) != len(every):
        _broken(node, "two columns of one name")
    for predicate in node.predicates:
        _reads(node, predicate.columns, every)
    for key in node.order:
        _reads(node, key.expr.columns, visible if node.distinct else every)
    if (node.limit is not None and node.limit < 0) or node.offset < 0:
        _broken(node, "a negative limit")


def _verify_join(node: Join) -> None:
    """A condition reads both sides; a lookup has keys on both, and only a lookup has."""
    both = node.left.schema + node.right.schema
    if node.condition is not None:
        _reads(node, node.condition.columns, both)
    if (node.kind == "lookup") != bool(node.keys):
        _broken(node, "keys without a lookup, or a lookup without keys")
    _reads(node, (left for left, _ in node.keys), node.left.schema)
    _reads(node, (right for _, right in node.keys), node.right.schema)


def _verify_schema(node: LogicalNode) -> None:
    """Unique names, non-empty types."""
    seen = names(node.schema)
    if len(set(seen)) != len(seen):
        twice = sorted({name for name in seen if seen.count(name) > 1})
        _broken(node, f"two columns of one name: {', '.join(twice)}")
    for field in node.schema:
        if not field.name or not field.type:
            _broken(node, f"column {field.name!r} has no name or no type")


def _computes(node: LogicalNode, columns: tuple[NamedExpr, ...], below: Schema) -> None:
    """Every expression reads columns of the input."""
    for named in columns:
        _reads(node, named.expr.columns, below)


def _reads(node: LogicalNode, columns: Iterable[str], below: Schema) -> None:
    """The columns are there."""
    missing = sorted(set(columns) - set(names(below)))
    if missing:
        _broken(node, f"reads {', '.join(missing)}, but has {', '.join(names(below)) or 'nothing'}")


def _broken(node: LogicalNode, why: str) -> None:
    """Refuse the plan."""
    raise InternalError(f"plan invariant broken at {type(node).__name__}: {why}", code="OC0902")
