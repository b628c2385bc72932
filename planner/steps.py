"""The model calls of a plan as steps: stable keys, what each depends on, which rows reach it.

A step's key is its call's context; the second call of the same context in plan order (postorder of
the DAG) is `context_2`, and so on. Choices, estimates and ADVICE are keyed by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
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
    When,
    columns_used,
    condition_of,
    each_of,
    model_call,
)
from ..ir.record import dataclass
from ..ir.types import Schema, SqlExpr

Lineage = dict[str, frozenset[Apply]]
"""For every column the calls whose outputs it is computed from, without a call in between."""


@dataclass(frozen=True)
class FilterInfo:
    """A filter on the way to a step.

    `subject` is the key of its selectivity among the statistics, `filter:<fingerprint of the
    predicate>`; `keys` are the steps whose outputs the predicate reads.
    """

    subject: str
    predicate: SqlExpr
    keys: tuple[str, ...]


@dataclass(frozen=True)
class StepInfo:
    """One `Apply` of a plan.

    Attributes:
        key: stable name in this plan; see the module.
        context: where its statistics are kept.
        model: the model called.
        call: the whole call, EACH and WHEN included.
        node: the Apply itself.
        outputs: the columns it adds (pruned outputs are not there).
        predecessors: keys of the steps it needs the answers of: by its arguments, its condition, or
            a filter that decides which rows reach it. Direct ones only, in plan order.
        filters: the filters between the sources and this step, in plan order.
        when: its WHEN condition.
        lists: which arguments are lists; None without EACH.
        given: key of the step whose choice its WHEN rate depends on: the last one its condition
            reads.
        instead_of: keys of the steps whose answers do not matter where this one ran.
        distinct: it runs once per distinct input (its share is the statistic `distinct`).
        limited: a LIMIT stands between a source and this step, so fewer rows reach it than the
            filters let through.
        below: keys of all steps between its sources and it, whether it needs their answers or not.
    """

    key: str
    context: str
    model: str
    call: Call
    node: Apply
    outputs: Schema
    predecessors: tuple[str, ...]
    filters: tuple[FilterInfo, ...]
    when: SqlExpr | None
    lists: tuple[bool, ...] | None
    given: str | None
    instead_of: tuple[str, ...]
    distinct: bool
    limited: bool
    below: tuple[str, ...]


@dataclass
class Flow:
    """What is known about the rows a node produces.

    `lineage` tells the calls each column comes from, `rows` the calls that decide which rows there
    are, `filters` and `below` what lies between the sources and here, `distinct` whether rows are
    distinct inputs rather than source rows, `limited` whether a LIMIT cut them.
    """

    lineage: Lineage = field(default_factory=dict)
    rows: frozenset[Apply] = frozenset()
    filters: tuple[Filter, ...] = ()
    below: frozenset[Apply] = frozenset()
    distinct: bool = False
    limited: bool = False

    def of(self, columns: Iterable[str]) -> frozenset[Apply]:
        """The calls these columns come from."""
        found: frozenset[Apply] = frozenset()
        for name in columns:
            found |= self.lineage.get(name, frozenset())
        return found


def keys(plan: LogicalNode) -> dict[Apply, str]:
    """The key of every call, in plan order."""
    seen: dict[str, int] = {}
    found: dict[Apply, str] = {}
    for node in plan.postorder():
        if isinstance(node, Apply):
            context = model_call(node.call).context
            seen[context] = seen.get(context, 0) + 1
            found[node] = context if seen[context] == 1 else f"{context}_{seen[context]}"
    return found


def steps(plan: LogicalNode) -> tuple[StepInfo, ...]:
    """All calls of the plan in plan order, inputs before readers."""
    named = keys(plan)
    order = {apply: place for place, apply in enumerate(named)}
    known = flows(plan)
    reads = {
        node: known[node.input].of(node.predicate.columns)
        for node in known
        if isinstance(node, Filter)
    }
    return tuple(_step(node, known[node.input], named, order, reads) for node in named)


def flows(plan: LogicalNode) -> dict[LogicalNode, Flow]:
    """What is known about the rows of every node, inputs before readers."""
    known: dict[LogicalNode, Flow] = {}
    for any_node in plan.postorder():
        node = cast(LogicalNode, any_node)
        known[node] = _flow(node, [known[cast(LogicalNode, child)] for child in node.children])
    return known


def _step(
    node: Apply,
    flow: Flow,
    named: dict[Apply, str],
    order: dict[Apply, int],
    reads: dict[Filter, frozenset[Apply]],
) -> StepInfo:
    """What is known about one call above `flow`."""

    def sorted_keys(calls: Iterable[Apply]) -> tuple[str, ...]:
        return tuple(named[call] for call in sorted(calls, key=order.__getitem__))

    condition = condition_of(node.call)
    conditioning = flow.of(condition.columns) if condition is not None else frozenset()
    needed = flow.of(columns_used(node.call)) | flow.rows
    call = model_call(node.call)
    return StepInfo(
        key=named[node],
        context=call.context,
        model=call.model,
        call=node.call,
        node=node,
        outputs=node.outputs,
        predecessors=sorted_keys(needed),
        filters=tuple(
            FilterInfo(filter_subject(f.predicate), f.predicate, sorted_keys(reads[f]))
            for f in flow.filters
        ),
        when=condition,
        lists=each_of(node.call),
        given=sorted_keys(conditioning)[-1] if conditioning else None,
        instead_of=_replaced(node, needed, flow.below, named, order),
        distinct=flow.distinct,
        limited=flow.limited,
        below=sorted_keys(flow.below),
    )


def _replaced(
    node: Apply,
    needed: frozenset[Apply],
    below: frozenset[Apply],
    named: dict[Apply, str],
    order: dict[Apply, int],
) -> tuple[str, ...]:
    """Keys of the `instead_of` contexts: the call this one depends on, else the nearest before."""
    if not isinstance(node.call, When):
        return ()
    found = []
    for context in node.call.instead_of:
        same = [call for call in below if model_call(call.call).context == context]
        near = [call for call in same if call in needed] or same
        if near:
            found.append(named[max(near, key=order.__getitem__)])
    return tuple(found)


def filter_subject(predicate: SqlExpr) -> str:
    """The subject under which a predicate's selectivity is observed."""
    return f"filter:{predicate.fingerprint}"


def _flow(node: LogicalNode, below: Sequence[Flow]) -> Flow:
    """How a node passes on what flows into it."""
    match node:
        case Source():
            return Flow()
        case Apply():
            (flow,) = below
            lineage = flow.lineage | {out.name: frozenset({node}) for out in node.outputs}
            return Flow(
                lineage, flow.rows, flow.filters, flow.below | {node}, flow.distinct, flow.limited
            )
        case Filter(predicate=predicate):
            (flow,) = below
            return Flow(
                flow.lineage,
                flow.rows | flow.of(predicate.columns),
                (*flow.filters, node),
                flow.below,
                flow.distinct,
                flow.limited,
            )
        case Project(columns=columns):
            (flow,) = below
            lineage = {named.name: flow.of(named.expr.columns) for named in columns}
            return Flow(lineage, flow.rows, flow.filters, flow.below, flow.distinct, flow.limited)
        case Distinct():
            (flow,) = below
            return Flow(flow.lineage, flow.rows, flow.filters, flow.below, True, flow.limited)
        case Sort():
            return below[0]
        case Limit():
            (flow,) = below
            return Flow(flow.lineage, flow.rows, flow.filters, flow.below, flow.distinct, True)
        case Join(condition=condition, kind=kind):
            left, right = below
            both = _merged(below)
            lineage = {
                f.name: (left if f.name in left.lineage else right).of([f.name])
                for f in node.schema
            }
            rows = both.rows
            if condition is not None:
                rows |= Flow(lineage).of(condition.columns)
            distinct = left.distinct if kind == "lookup" else both.distinct
            return Flow(lineage, rows, both.filters, both.below, distinct, both.limited)
        case Residual():
            both = _merged(below)
            source: frozenset[Apply] = frozenset()
            for flow in below:
                source |= flow.of(flow.lineage)
            lineage = {f.name: source for f in node.fields}
            return Flow(lineage, both.rows, both.filters, both.below, False, both.limited)
        case _:
            assert_never(node)


def _merged(flows: Sequence[Flow]) -> Flow:
    """Row facts of several inputs together."""
    rows: frozenset[Apply] = frozenset()
    below: frozenset[Apply] = frozenset()
    for flow in flows:
        rows |= flow.rows
        below |= flow.below
    filters = tuple(dict.fromkeys(f for flow in flows for f in flow.filters))
    return Flow(
        {},
        rows,
        filters,
        below,
        any(flow.distinct for flow in flows),
        any(flow.limited for flow in flows),
    )


def conditioned(infos: Sequence[StepInfo], answers: Mapping[str, int]) -> tuple[StepInfo, ...]:
    """The steps with `given` moved down to where a choice is: `answers` counts each step's.

    A condition often reads a step that has only one way to answer (a check digit). What its rate
    depends on then is the choice of the last step before that one which has several.
    """
    by_key = {info.key: info for info in infos}
    moved = []
    for info in infos:
        given = info.given
        while given is not None and answers.get(given, 1) < 2:
            before = by_key[given].predecessors
            given = before[-1] if before else None
        moved.append(replace(info, given=given))
    return tuple(moved)
