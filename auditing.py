"""What ANALYZE does with the rows that executions saw since the one before: `stats.audit`, joined.

They are looked at in ANALYZE and not in the query that saw them, so that no query pays for it, and
once: the next executions leave others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .catalog_db.freshness import Mark
from .errors import RunError

if TYPE_CHECKING:
    import pyarrow as pa

    from .dsl.binder import BoundAnalyze
    from .session import Session
    from .stats.audit import Shift
    from .stats.observation import Observation
    from .stats.prefixes import Recall
    from .stats.profile import ProfileResult, Request

ROWS = "octans_audit_rows"


class Audit(NamedTuple):
    """What was done: the rows kept since this ANALYZE were compared."""

    since: int
    shifts: tuple[Shift, ...]


def audited(
    session: Session,
    bound: BoundAnalyze,
    request: Request,
    recall: Recall,
    result: ProfileResult,
    measured: list[Observation],
) -> tuple[ProfileResult, Audit | None]:
    """Compare what was measured with the audit rows; the result, with notes, and what came of it.

    `measured` gets the observations. Nothing happens where ANALYZE was stopped, where executions
    left no rows, or too few.
    """
    from .stats.audit import AUDIT_ROWS, audit
    from .stats.drift import LEAST_ROWS
    from .stats.meter import Stopped
    from .stats.recorder import Recorder

    audits = session.catalog.audits
    since = audits.newest(bound.subject, bound.version)
    rows = None if since is None else audits.rows(since)
    if result.stopped is not None or since is None or rows is None or rows.num_rows < LEAST_ROWS:
        return result, None
    rows = _some(rows, AUDIT_ROWS, session.catalog.settings.seed)
    notes: list[str] = []
    done: Audit | None = None
    meter = result.meter
    record = Recorder(measured, meter.now, request.run, request.versions)
    skipped = frozenset((done.step, done.variant, done.knobs) for done in result.decided)
    try:
        with session.visible(ROWS, rows):
            over = _over(session, bound, request)
            done = Audit(since, audit(request, over, skipped, meter, recall, record, notes))
        notes.append(
            f"{rows.num_rows} rows that executions saw were compared: {len(done.shifts)} "
            "statistics shifted"
        )
    except (Stopped, RunError) as problem:
        why = problem.message if isinstance(problem, RunError) else str(problem)
        notes.append(f"{rows.num_rows} rows that executions saw are not compared yet: {why}")
    return replace(
        result,
        observations=tuple(measured),
        notes=(*result.notes, *notes),
        seconds=meter.spent_seconds,
        usd=meter.usd,
    ), done


def settle(session: Session, audit: Audit) -> None:
    """Mark what shifted as stale, once it has been written, and forget the rows."""
    for subject, metric, variant, reason in audit.shifts:
        session.catalog.freshness.mark(Mark(subject, reason, variant, metric=metric))
    session.catalog.audits.drop(audit.since)


def _over(session: Session, bound: BoundAnalyze, request: Request) -> Request:
    """The request over the audit rows, which have no labels and no clusters."""
    from .analyzing import body_plan

    reference = {stage.step: stage.choice for stage in request.plan.stages}
    plan = body_plan(session, bound.body(ROWS, ()), reference)
    return replace(request, plan=plan, labels={}, clusters=None, strata=None)


def _some(rows: pa.Table, most: int, seed: int) -> pa.Table:
    """At most so many of the rows, drawn uniformly."""
    import pyarrow as pa

    from .stats.sampling import sample

    return rows.take(pa.array(sample(rows.num_rows, most, seed), pa.int64()))
