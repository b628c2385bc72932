"""The explain tree: what EXPLAIN and EXPLAIN ANALYZE know, as plain data for every renderer."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime

from .estimates import Cost, Estimate
from .physical import Choice
from .record import dataclass
from .slo import Constraint


@dataclass(frozen=True)
class NodeActuals:
    """What a node really did; None is unknown, never 0.

    `busy_seconds` is model time on slots, `queue_seconds` waiting for a slot, `load_seconds` the
    variant's loading, `unload_seconds` its release. Times are summed over the run; latencies are
    per batch. `timed_out` are those of the `failed` rows whose call was given up. `energy_source`
    is the counter that told the joules, or POWER where they are modelled from the device's.
    """

    rows_in: int
    rows_out: int
    calls: int | None = None
    elements: int | None = None
    busy_seconds: float | None = None
    queue_seconds: float | None = None
    load_seconds: float | None = None
    failed: int = 0
    cache_hits: int | None = None
    latency_p95: float | None = None
    cost_usd: float | None = None
    unload_seconds: float | None = None
    energy_joules: float | None = None
    energy_source: str = ""
    timed_out: int = 0


@dataclass(frozen=True)
class QError:
    """How far off an estimate was: max(estimate ÷ actual, actual ÷ estimate), at least 1.

    `inherited` is what the estimated input rows were off by already, `own` what this node added:
    the q-error of its output (or time, or price) per input row. None where it cannot be told.
    """

    total: float
    own: float | None = None
    inherited: float | None = None


@dataclass(frozen=True)
class CascadeMember:
    """A call's place in a cascade: the `place`-th of `members`, counted from 0.

    It gets the share `reach` of the elements (None: all of them), and what it is less sure of than
    `threshold` goes on to the next (None: it is the last).
    """

    place: int
    members: int
    threshold: float | None
    reach: Estimate | None


@dataclass(frozen=True)
class ExplainNode:
    """One node of the plan; `id` is unique, a shared node is listed once and referred to by id.

    `kind` is `scan`, `step`, `stage`, `sql` or `stop`. `rows` leave the node; `seconds` are
    slot-seconds, `usd` the price of all of them and `energy` their joules, over the whole query;
    `quality` is the share of right answers (mean score) where the call ran. `energy_source` is the
    counter that told the joules, or POWER. `marks` are `costliest` and `worst estimated`; `stale`
    is why the statistics behind the numbers may no longer hold.
    """

    id: str
    kind: str
    title: str
    detail: tuple[str, ...] = ()
    choice: Choice | None = None
    rows: Estimate | None = None
    seconds: Estimate | None = None
    usd: Estimate | None = None
    quality: Estimate | None = None
    inputs: tuple[str, ...] = ()
    actuals: NodeActuals | None = None
    q_rows: QError | None = None
    q_seconds: QError | None = None
    q_usd: QError | None = None
    marks: tuple[str, ...] = ()
    energy: Estimate | None = None
    energy_source: str = ""
    q_energy: QError | None = None
    stale: str | None = None
    cascade: CascadeMember | None = None


@dataclass(frozen=True)
class Verdict:
    """A constraint beside what the plan reaches.

    `guarantee` is `proved` (with the proof's text), `no guarantee`, or None when not asked for.
    `q_error` compares estimate and actual; for accuracy it is on the error rate.
    """

    constraint: Constraint
    text: str
    estimate: Estimate | None
    met: bool | None
    guarantee: str | None = None
    actual: float | None = None
    q_error: float | None = None


@dataclass(frozen=True)
class PlanSummary:
    """A plan of the frontier: what it costs, what it reaches, and how it compares.

    `differs` says, call by call, where it departs from the chosen plan; `note` what it lost by.
    """

    label: str
    advice: str
    cost: Cost
    note: str = ""
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Everything EXPLAIN prints. `nodes` are in postorder; the last one is the root.

    `at` is when it was made (UTC): ages of estimates are told relative to it. `epsilon` certifies
    the frontier within 1 + ε, None where no frontier was computed. `actual_totals` are points:
    their intervals are the values themselves.
    """

    query: str
    nodes: tuple[ExplainNode, ...]
    totals: Cost
    objective: str
    verdicts: tuple[Verdict, ...] = ()
    ends: tuple[PlanSummary, ...] = ()
    runner_up: PlanSummary | None = None
    flips: tuple[str, ...] = ()
    alternatives: tuple[PlanSummary, ...] = ()
    frontier: tuple[PlanSummary, ...] = ()
    epsilon: float | None = None
    advice: str = ""
    advice_report: tuple[str, ...] = ()
    why_not: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    planning_seconds: float | None = None
    actual_totals: Cost | None = None
    actual_rows: int | None = None
    failures: tuple[str, ...] = field(default=())
    at: datetime | None = None
