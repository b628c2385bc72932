"""The plan's nodes with what is expected of them and, after ANALYZE, how far off that was.

Rows, seconds and prices are for the whole query: what a step takes per source row, times the source
rows. The q-error of rows clamps both sides at one row, as is usual [Leis et al., VLDB 2015, 3.1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import assert_never, cast

from ...cost.stages import StageCost
from ...ir.estimates import Estimate, weakest
from ...ir.explain import CascadeMember, ExplainNode, NodeActuals, QError
from ...ir.node import parents
from ...ir.physical import PhysicalNode, SqlResidual, SqlScan, SqlStep, Stage, StopAfter
from ...ir.record import dataclass
from ...ir.types import SqlExpr, quote
from ...stats.cascades import CascadeStatistics
from .numbers import interval, quantity

SQL_LENGTH = 300
"""Characters shown of a node's SQL (our choice: three lines)."""


@dataclass(frozen=True)
class Expected:
    """What is known beforehand: rows of scans by fingerprint, steps by key, shares of predicates.

    `stale` tells by step why its statistics may no longer hold. `source_rows` enter the first
    model stage; steps' costs are per such row.
    """

    steps: Mapping[str, StageCost]
    source_rows: Estimate | None
    scans: Mapping[str, Estimate]
    selectivity: Callable[[SqlExpr], Estimate | None]
    stale: Mapping[str, str] = field(default_factory=dict)


def explain_nodes(
    root: PhysicalNode, expected: Expected, ran: Mapping[str, NodeActuals]
) -> tuple[ExplainNode, ...]:
    """All nodes in postorder, steps that only drop or rename nothing left out.

    Args:
        root: the physical plan.
        expected: the estimates.
        ran: what nodes did, by fingerprint; empty without ANALYZE.
    """
    shown: dict[PhysicalNode, ExplainNode] = {}
    rows: dict[PhysicalNode, Estimate | None] = {}
    readers = parents(root)
    alias: dict[PhysicalNode, PhysicalNode] = {}
    for any_node in root.postorder():
        node = cast(PhysicalNode, any_node)
        rows[node] = _rows(
            node, rows, expected, lambda n: cast(tuple[PhysicalNode, ...], readers[n])
        )
        if isinstance(node, SqlStep) and _passes(node) and node is not root:
            alias[node] = alias.get(node.input, node.input)
            continue
        below = [alias.get(child, child) for child in _children(node)]
        made = _node(node, f"n{len(shown)}", rows[node], expected)
        made = replace(made, inputs=tuple(shown[child].id for child in below))
        actuals = ran.get(node.fingerprint)
        if actuals is not None:
            inputs = [rows[child] for child in below]
            made = _with_actuals(made, actuals, inputs[0] if len(inputs) == 1 else None)
        shown[node] = made
    return _marked(tuple(shown.values()))


def _children(node: PhysicalNode) -> tuple[PhysicalNode, ...]:
    return cast("tuple[PhysicalNode, ...]", node.children)


def _passes(step: SqlStep) -> bool:
    """Does it only pass columns on?"""
    return step.predicate is None and all(
        named.expr.text == quote(named.name) for named in step.columns
    )


def _rows(
    node: PhysicalNode,
    below: Mapping[PhysicalNode, Estimate | None],
    expected: Expected,
    readers: Callable[[PhysicalNode], tuple[PhysicalNode, ...]],
) -> Estimate | None:
    """Expected rows out of a node; None where nothing says."""
    match node:
        case SqlScan():
            return expected.scans.get(node.fingerprint)
        case Stage():
            known = _reaching(node, expected)
            return known if known is not None else below[node.input]
        case SqlStep(predicate=None):
            return below[node.input]
        case SqlStep(predicate=predicate):
            share = expected.selectivity(predicate) if predicate is not None else None
            if share is not None and (inner := below[node.input]) is not None:
                return times(inner, share)
            for reader in readers(node):
                if isinstance(reader, Stage) and (known := _reaching(reader, expected)) is not None:
                    return known
            return None
        case StopAfter(count=count):
            inner = below[node.input]
            if inner is None:
                return None
            return Estimate(
                min(inner.value, count), min(inner.low, count), min(inner.high, count),
                inner.n, inner.source, inner.at,
            )  # fmt: skip
        case SqlResidual():
            return None
        case _:
            assert_never(node)


def _reaching(stage: Stage, expected: Expected) -> Estimate | None:
    """Rows that reach a stage without WHEN: all of them run it, so its share tells."""
    step = expected.steps.get(stage.step)
    if stage.when is not None or step is None or expected.source_rows is None:
        return None
    return times(expected.source_rows, step.run) if step.run is not None else expected.source_rows


def times(one: Estimate, other: Estimate) -> Estimate:
    """The product of two non-negative numbers, with the ends of both intervals (the safe side)."""
    if other.low == other.high:
        return one.scaled(other.value)
    if one.low == one.high:
        return other.scaled(one.value)
    n, source, at = weakest([one, other])
    return Estimate(
        one.value * other.value, one.low * other.low, one.high * other.high, n, source, at
    )


def _node(
    node: PhysicalNode, identity: str, rows: Estimate | None, expected: Expected
) -> ExplainNode:
    """A node as EXPLAIN shows it, without inputs and actuals."""
    match node:
        case SqlScan(sql=sql):
            return ExplainNode(identity, "scan", "scan", (_short(sql),), rows=rows)
        case SqlStep():
            return ExplainNode(identity, "step", _step_title(node), _step_detail(node), rows=rows)
        case Stage():
            return _stage(node, identity, rows, expected)
        case SqlResidual(sql=sql):
            return ExplainNode(identity, "sql", "sql", (_short(sql),), rows=rows)
        case StopAfter(count=count, offset=offset):
            title = f"stop after {count:,} rows" + (f", skip {offset:,}" if offset else "")
            return ExplainNode(identity, "stop", title, rows=rows)
        case _:
            assert_never(node)


def _short(sql: str) -> str:
    line = " ".join(sql.split())
    return line if len(line) <= SQL_LENGTH else line[: SQL_LENGTH - 1] + "…"


def _step_title(step: SqlStep) -> str:
    return "filter" if step.predicate is not None else "compute"


def _step_detail(step: SqlStep) -> tuple[str, ...]:
    lines = [f"keep {_short(step.predicate.text)}"] if step.predicate is not None else []
    computed = [
        f"{quote(named.name)} := {named.expr.text}"
        for named in step.columns
        if named.expr.text != quote(named.name)
    ]
    lines += [_short(text) for text in computed]
    return tuple(lines)


def _stage(stage: Stage, identity: str, rows: Estimate | None, expected: Expected) -> ExplainNode:
    lists = stage.lists or (False,) * len(stage.args)
    args = ", ".join(
        ("EACH " if each else "") + quote(name)
        for name, each in zip(stage.args, lists, strict=True)
    )
    when = f" WHEN {quote(stage.when)}" if stage.when is not None else ""
    detail = [f"{stage.model}({args}){when} → {', '.join(stage.produce)}"]
    step = expected.steps.get(stage.step)
    seconds = usd = quality = energy = None
    source = ""
    if step is not None and step.run is not None:
        detail.append(f"runs on {step.run.value * 100:.3g} % of the source's rows")
    member = None
    if step is not None and step.cascade is not None:
        member = _member(stage, step.cascade)
        detail.append(_member_text(member))
        whole = step.quality if member.threshold is None else None
        step = replace(step.members[member.place], quality=whole)
    if step is not None:
        quality, source = step.quality, step.energy_source
        seconds, usd, energy = step.total_busy, step.cost.total_cost, step.cost.total_energy
    return ExplainNode(
        identity, "stage", stage.step, tuple(detail), stage.choice, rows, seconds, usd, quality,
        energy=energy, energy_source=source, stale=expected.stale.get(stage.step), cascade=member,
    )  # fmt: skip


def _member(stage: Stage, cascade: CascadeStatistics) -> CascadeMember:
    """A stage's place in its cascade."""
    place = 0 if stage.escalation is None else len(stage.escalation.thresholds)
    return CascadeMember(
        place,
        len(cascade.members),
        cascade.thresholds[place] if place < len(cascade.thresholds) else None,
        cascade.reach[place - 1] if place else None,
    )


def _member_text(member: CascadeMember) -> str:
    """Which elements it gets, and which go on from it."""
    text, share = "all elements", member.reach
    if share is not None:
        text = f"{quantity(share.value, 'share')} {interval(share, 'share')} of the elements"
        text += f" (n = {share.n:,})"
    if member.threshold is not None:
        text += f"; on where its confidence is below {member.threshold:.6g}"
    return f"cascade: {text}"


def _with_actuals(node: ExplainNode, ran: NodeActuals, inputs: Estimate | None) -> ExplainNode:
    """The node with what it did and its q-errors."""
    into = q_rows(inputs, float(ran.rows_in))
    return replace(
        node,
        actuals=ran,
        q_rows=_q(node.rows, float(ran.rows_out), inputs, ran, into, clamp=1.0),
        q_seconds=_q(node.seconds, ran.busy_seconds, inputs, ran, into),
        q_usd=_q(node.usd, ran.cost_usd, inputs, ran, into),
        q_energy=_q(node.energy, ran.energy_joules, inputs, ran, into),
    )


def q_rows(estimate: Estimate | None, actual: float) -> float | None:
    """The q-error of a number of rows; None when nothing was estimated."""
    return None if estimate is None else ratio(max(estimate.value, 1.0), max(actual, 1.0))


def ratio(one: float, other: float) -> float | None:
    """max(a/b, b/a), 1 for equal numbers; None where exactly one is 0 (no bound)."""
    if one == other:
        return 1.0
    if one <= 0 or other <= 0:
        return None
    return max(one / other, other / one)


def _q(
    estimate: Estimate | None,
    actual: float | None,
    inputs: Estimate | None,
    ran: NodeActuals,
    inherited: float | None,
    clamp: float = 0.0,
) -> QError | None:
    """Total, own (per input row) and inherited q-error of one measure; a scan inherits nothing."""
    if estimate is None or actual is None:
        return None
    expected, got = max(estimate.value, clamp), max(actual, clamp)
    total = ratio(expected, got)
    if total is None:
        return None
    if inputs is None or inherited is None:
        return QError(total, total, 1.0)
    own = ratio(expected / max(inputs.value, 1.0), got / max(ran.rows_in, 1.0))
    return QError(total, own, inherited)


def _marked(nodes: tuple[ExplainNode, ...]) -> tuple[ExplainNode, ...]:
    """The costliest stage (by price, or by time where prices are unknown or all 0) and, after
    ANALYZE, the node whose own estimate was worst, if any was off at all."""
    marks: dict[str, list[str]] = {}
    stages = [node for node in nodes if node.kind == "stage"]
    for measure in (_price, _busy):
        prices = {node.id: value for node in stages if (value := measure(node)) is not None}
        if len(stages) > 1 and any(prices.values()):
            marks.setdefault(max(prices, key=prices.__getitem__), []).append("costliest")
            break
    errors = {node.id: worst for node in nodes if (worst := own_error(node)) is not None}
    if errors:
        worst_node = max(errors, key=errors.__getitem__)
        if errors[worst_node] > 1.005:
            marks.setdefault(worst_node, []).append("worst estimated")
    return tuple(replace(node, marks=tuple(marks.get(node.id, ()))) for node in nodes)


def _price(node: ExplainNode) -> float | None:
    if node.actuals is not None and node.actuals.cost_usd is not None:
        return node.actuals.cost_usd
    return None if node.usd is None else node.usd.value


def _busy(node: ExplainNode) -> float | None:
    if node.actuals is not None and node.actuals.busy_seconds is not None:
        return node.actuals.busy_seconds
    return None if node.seconds is None else node.seconds.value


def own_error(node: ExplainNode) -> float | None:
    """The largest own q-error of a node over rows, time and price."""
    known = [q.own for q in (node.q_rows, node.q_seconds, node.q_usd) if q and q.own is not None]
    return max(known, default=None)
