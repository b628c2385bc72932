"""EXPLAIN as JSON, for programs: a versioned format, described by docs/explain.schema.json.

Numbers are in base units (seconds, USD, shares in [0, 1], bytes, joules); unknown is null, never 0.
Within a version fields are only added.
"""

from __future__ import annotations

import json
import math
from datetime import datetime

from ...ir.estimates import Cost, Estimate
from ...ir.explain import (
    CascadeMember,
    ExplainNode,
    Explanation,
    NodeActuals,
    PlanSummary,
    QError,
    Verdict,
)
from ...ir.physical import Choice

FORMAT = "octans-explain"
VERSION = 1

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_METRICS = (
    "cost", "latency_p50", "latency_p95", "latency_p99", "accuracy", "energy", "co2", "memory",
    "throughput", "wall", "total_cost", "total_energy", "rows",
)  # fmt: skip


def to_json(explanation: Explanation, *, indent: int | None = 2) -> str:
    """The document as text; NaN and infinities, which JSON has not, become null."""
    return json.dumps(to_document(explanation), indent=indent, ensure_ascii=False, allow_nan=False)


def to_document(explanation: Explanation) -> dict[str, Json]:
    """The document as dictionaries and lists."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "at": _time(explanation.at),
        "query": explanation.query,
        "objective": explanation.objective,
        "fingerprint": explanation.fingerprint or None,
        "planning_seconds": _number(explanation.planning_seconds),
        "root": explanation.nodes[-1].id if explanation.nodes else None,
        "nodes": [_node(node) for node in explanation.nodes],
        "totals": _cost(explanation.totals),
        "verdicts": [_verdict(verdict) for verdict in explanation.verdicts],
        "epsilon": _number(explanation.epsilon),
        "ends": [_plan(plan) for plan in explanation.ends],
        "runner_up": None if explanation.runner_up is None else _plan(explanation.runner_up),
        "flips": list(explanation.flips),
        "alternatives": [_plan(plan) for plan in explanation.alternatives],
        "frontier": [_plan(plan) for plan in explanation.frontier],
        "advice": explanation.advice or None,
        "advice_report": list(explanation.advice_report),
        "why_not": list(explanation.why_not),
        "steps": list(explanation.steps),
        "notes": list(explanation.notes),
        "failures": list(explanation.failures),
        "actual_rows": explanation.actual_rows,
        "actual_totals": None
        if explanation.actual_totals is None
        else _cost(explanation.actual_totals),
    }


def _number(value: float | None) -> Json:
    return value if value is not None and math.isfinite(value) else None


def _time(at: datetime | None) -> Json:
    return None if at is None else at.isoformat()


def _estimate(estimate: Estimate | None) -> Json:
    if estimate is None or not math.isfinite(estimate.value):
        return None
    return {
        "value": estimate.value,
        "low": _number(estimate.low),
        "high": _number(estimate.high),
        "n": estimate.n,
        "source": estimate.source,
        "at": _time(estimate.at),
    }


def _cost(cost: Cost) -> dict[str, Json]:
    return {metric: _estimate(cost.metric(metric)) for metric in _METRICS}


def _choice(choice: Choice | None) -> Json:
    if choice is None:
        return None
    return {
        "variant": choice.variant,
        "version": choice.version,
        "knobs": dict(choice.knobs),
        "batch": choice.batch,
        "device": choice.device,
        "replicas": choice.replicas,
    }


def _q(q: QError | None) -> Json:
    if q is None:
        return None
    return {
        "total": _number(q.total),
        "own": _number(q.own),
        "inherited": _number(q.inherited),
    }


def _actuals(ran: NodeActuals | None) -> Json:
    if ran is None:
        return None
    return {
        "rows_in": ran.rows_in,
        "rows_out": ran.rows_out,
        "calls": ran.calls,
        "elements": ran.elements,
        "busy_seconds": _number(ran.busy_seconds),
        "queue_seconds": _number(ran.queue_seconds),
        "load_seconds": _number(ran.load_seconds),
        "failed": ran.failed,
        "timed_out": ran.timed_out,
        "cache_hits": ran.cache_hits,
        "latency_p95": _number(ran.latency_p95),
        "cost_usd": _number(ran.cost_usd),
        "unload_seconds": _number(ran.unload_seconds),
        "energy_joules": _number(ran.energy_joules),
        "energy_source": ran.energy_source or None,
    }


def _node(node: ExplainNode) -> Json:
    return {
        "id": node.id,
        "kind": node.kind,
        "title": node.title,
        "detail": list(node.detail),
        "inputs": list(node.inputs),
        "choice": _choice(node.choice),
        "rows": _estimate(node.rows),
        "seconds": _estimate(node.seconds),
        "usd": _estimate(node.usd),
        "quality": _estimate(node.quality),
        "energy": _estimate(node.energy),
        "energy_source": node.energy_source or None,
        "actuals": _actuals(node.actuals),
        "q_errors": {
            "rows": _q(node.q_rows),
            "seconds": _q(node.q_seconds),
            "usd": _q(node.q_usd),
            "energy": _q(node.q_energy),
        },
        "marks": list(node.marks),
        "stale": node.stale,
        "cascade": _member(node.cascade),
    }


def _member(member: CascadeMember | None) -> Json:
    if member is None:
        return None
    return {
        "place": member.place,
        "members": member.members,
        "threshold": member.threshold,
        "reach": _estimate(member.reach),
    }


def _verdict(verdict: Verdict) -> Json:
    constraint = verdict.constraint
    return {
        "text": verdict.text,
        "metric": constraint.custom or constraint.metric,
        "model": constraint.model,
        "operator": constraint.operator,
        "limit": _number(constraint.limit),
        "confidence": _number(constraint.confidence),
        "soft": _number(constraint.soft),
        "estimate": _estimate(verdict.estimate),
        "met": verdict.met,
        "guarantee": verdict.guarantee,
        "actual": _number(verdict.actual),
        "q_error": _number(verdict.q_error),
    }


def _plan(plan: PlanSummary) -> Json:
    return {
        "label": plan.label,
        "advice": plan.advice or None,
        "note": plan.note or None,
        "differs": list(plan.differs),
        "cost": _cost(plan.cost),
    }
