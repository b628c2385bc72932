"""Applies the rules to a plan: in order, each until it yields nothing, until nothing changes.

Every application is wrapped: disabled? → time → verify → schema unchanged → trace. There is a cap,
and a plan that comes back is a rule undoing another's work: both are typed errors, as is a rule
that breaks an invariant. No rule's failure is skipped.
"""

from __future__ import annotations

import time
from typing import Literal, cast

from ..errors import InternalError, RuleError
from ..ir.logical import LogicalNode
from ..ir.node import Node
from ..ir.record import dataclass
from ..ir.verify import verify
from .format import format_plan
from .rules import RULES, Rule, RuleContext
from .rules.prune_calls import prune_calls

MAX_APPLICATIONS = 10_000
"""Far above what any plan needs (each rule moves a node at most the plan's depth)."""


@dataclass(frozen=True)
class TraceEntry:
    """What became of a rule: one entry per application, one if it was never applied.

    `plan` is the whole plan afterwards; `seconds` include looking for the place.
    """

    rule: str
    outcome: Literal["applied", "unchanged", "disabled"]
    seconds: float
    plan: LogicalNode


def rewrite(
    plan: LogicalNode, ctx: RuleContext, rules: tuple[Rule, ...] = RULES
) -> tuple[LogicalNode, tuple[TraceEntry, ...]]:
    """The plan after all rules, and what each did.

    Raises:
        RuleError: a rule broke an invariant or undid another (OC0901).
        InternalError: the plan was broken before (OC0902).
    """
    sound: set[Node] = set()
    verify(plan, sound)
    here = ctx.at(plan)
    seen = {plan}
    trace: list[TraceEntry] = []
    silent = {rule.__name__: 0.0 for rule in rules}
    before = None
    while plan != before:
        before = plan
        for rule in rules:
            name = rule.__name__
            if name in ctx.disabled:
                continue
            while True:
                start = time.perf_counter()
                made = _applied(rule, plan, here, sound)
                seconds = time.perf_counter() - start
                if made is None:
                    if name in silent:
                        silent[name] += seconds
                    break
                if made in seen or len(seen) > MAX_APPLICATIONS:
                    why = "came back to an earlier plan" if made in seen else "does not end"
                    raise RuleError(name, format_plan(plan), format_plan(made), why)
                seen.add(made)
                silent.pop(name, None)
                trace.append(TraceEntry(name, "applied", seconds, made))
                plan, here = made, ctx.at(made)
    for name, seconds in silent.items():
        off = name in ctx.disabled
        trace.append(TraceEntry(name, "disabled" if off else "unchanged", seconds, plan))
    return plan, tuple(trace)


def pruned(plan: LogicalNode) -> LogicalNode:
    """The plan without calls that nobody reads: no query makes them, so none is measured."""
    return rewrite(plan, RuleContext(), (prune_calls,))[0]


def _applied(
    rule: Rule, plan: LogicalNode, ctx: RuleContext, sound: set[Node]
) -> LogicalNode | None:
    """The plan after one application at the first place it fires, inputs first; None if nowhere."""
    for any_node in plan.postorder():
        node = cast(LogicalNode, any_node)
        for made in rule(node, ctx):
            if made == node:
                continue
            whole = _replaced(plan, node, made)
            if made.schema != node.schema:
                raise RuleError(
                    rule.__name__, format_plan(plan), format_plan(whole), "changed the schema"
                )
            _check(rule.__name__, plan, whole, sound)
            return whole
    return None


def _replaced(plan: LogicalNode, old: LogicalNode, new: LogicalNode) -> LogicalNode:
    """The plan with one node replaced wherever it is read."""
    done: dict[LogicalNode, LogicalNode] = {old: new}
    for any_node in plan.postorder():
        node = cast(LogicalNode, any_node)
        if node not in done:
            below = [done[cast(LogicalNode, child)] for child in node.children]
            done[node] = node.with_children(below)
    return done[plan]


def _check(name: str, plan: LogicalNode, whole: LogicalNode, sound: set[Node]) -> None:
    """Every invariant holds afterwards."""
    try:
        verify(whole, sound)
    except InternalError as error:
        raise RuleError(name, format_plan(plan), format_plan(whole), error.message) from error
