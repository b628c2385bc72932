"""What an execution tells about the statistics it was planned on, joined together.

Its observations go back to the catalog, each with what its rows had passed before. A sample of its
source's rows, before any model saw them, is compared with those ANALYZE kept, and stays for a while
as an audit sample: filters upstream bias what a stage sees, not this.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from .asking import KEPT_ROWS, KeptSample, asked_of, inputs_of, kept_sample, standing_for
from .catalog_db.freshness import Mark
from .ir.logical import Distinct, Filter, Join, Limit, LogicalNode, Source
from .ir.node import collect
from .ir.physical import PhysicalNode, SqlScan, SqlStep, Stage
from .ir.types import quote
from .stats.intervals import wilson
from .stats.observation import Observation
from .stats.staleness import many_new_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from .executor.engine import Execution
    from .planner.optimize import PlannedQuery
    from .session import Session

SEEN_ROWS = "octans_seen_rows"


def filter_context(plan: LogicalNode) -> str:
    """What the rows of a query pass, as a key; '' where it takes all."""
    parts = [node.predicate.text for node in collect(plan, Filter)]
    parts += [f"LIMIT {node.count} {node.offset}" for node in collect(plan, Limit)]
    for source in collect(plan, Source):
        parts += [predicate.text for predicate in source.predicates]
        parts += [f"LIMIT {source.limit} {source.offset}"] if source.limit is not None else []
    if not parts and not collect(plan, Join) and not collect(plan, Distinct):
        return ""
    relations = [source.relation for source in collect(plan, Source)]
    text = "\0".join(sorted([*parts, *relations]))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def observed(
    query: PlannedQuery, plan: LogicalNode, execution: Execution, run: int
) -> list[Observation]:
    """What an execution observed; behind a filter it holds for this query's context alone.

    So does the selectivity of a filter that stands behind another.
    """
    context = filter_context(plan)
    behind = {
        step.context
        for step in query.problem.steps
        if step.filters or step.limited or step.distinct or _selected(step.node)
    }
    selected = any(_selected(step.node) for step in query.problem.steps)
    behind |= {
        f"filter:{node.predicate.fingerprint}"
        for node in query.physical.root.postorder()
        if isinstance(node, SqlStep)
        and node.predicate is not None
        and (selected or not _takes_all(node.input))
    }
    return [
        replace(one, run=run, filter=context if one.subject in behind else "")
        for one in execution.observations()
    ]


def _takes_all(node: PhysicalNode) -> bool:
    """Does a node give a row for every row of one source?"""
    from .executor.telemetry import is_lookup

    while not isinstance(node, SqlScan):
        if isinstance(node, Stage) or (isinstance(node, SqlStep) and node.predicate is None):
            node = node.input
        elif is_lookup(node):
            node = node.inputs[0]
        else:
            return False
    return True


def _selected(node: LogicalNode) -> bool:
    """Does a source below take only some rows?"""
    return any(s.predicates or s.limit is not None or s.distinct for s in collect(node, Source))


def watch(
    session: Session,
    plan: LogicalNode,
    query: PlannedQuery,
    samples: Sequence[tuple[SqlScan, int, pa.Table]],
    run: int,
) -> None:
    """Compare the rows an execution saw with those its subject was analyzed on.

    Marks the subject's statistics where they drifted, or where too many are new. Of queries whose
    rows cannot be told in the subject's inputs nothing is known; they mark nothing.
    """
    from .stats.drift import LEAST_ROWS, drift, features

    subjects = {step.context.split(".")[0] for step in query.problem.steps}
    if len(subjects) != 1 or len(samples) != 1 or samples[0][2].num_rows < LEAST_ROWS:
        return
    catalog = session.catalog
    kept = kept_sample(session, subjects.pop())
    table = None if kept is None else catalog.sample(kept.subject, kept.version)
    if kept is None or kept.run is None or table is None:
        return
    seen = inputs_of(session, kept, plan, table, samples[0][2])
    asked = asked_of(session, kept, plan, table)
    if (
        seen is None
        or asked.unclear is not None
        or catalog.freshness.marked(kept.subject, kept.run) is not None
    ):
        return
    reason = None
    if not asked.limited:
        reference = standing_for(session, asked, table).select(seen.column_names)
        look = catalog.audits.look(kept.subject, kept.version, kept.run)
        found = drift(features(reference), features(seen), look)
        reason = None if found is None else found.text()
    if not asked.where and not asked.limited:
        catalog.audits.keep(kept.subject, kept.version, kept.run, run, seen)
        reason = reason or _new_rows(session, kept, table, seen, samples[0])
    if reason is not None:
        catalog.freshness.mark(Mark(kept.subject, reason))


def _new_rows(
    session: Session,
    kept: KeptSample,
    table: pa.Table,
    seen: pa.Table,
    source: tuple[SqlScan, int, pa.Table],
) -> str | None:
    """Why statistics are stale by the rows ANALYZE could not draw, if they are.

    Of a source that ANALYZE drew `s` of its `N` rows from, a share s/N of the rows is among those
    kept; the upper end of the share found there tells how many may be old (on the safe side: no
    alarm where chance could hide them).
    """
    assert kept.run is not None
    rows = session.catalog.audits.source_rows(kept.run)
    if not rows:
        return None
    found = again(session, table.select(seen.column_names), seen)
    _, upper = wilson(found, seen.num_rows)
    old = min(1.0, upper * rows / table.num_rows)
    scan, read, _ = source
    new = session.catalog.audits.count_new(
        kept.subject, kept.run, scan.sql, read, read * (1.0 - old)
    )
    return many_new_rows(rows, new)


def again(session: Session, known: pa.Table, seen: pa.Table) -> int:
    """How many of the rows seen are among those known; NULL and NaN are equal to themselves."""
    same = " AND ".join(
        f"s.{name} IS NOT DISTINCT FROM k.{name}" for name in map(quote, seen.column_names)
    )
    with (
        session.visible(KEPT_ROWS, known),
        session.visible(SEEN_ROWS, seen),
        session.catalog.cursor() as cursor,
    ):
        ((again,),) = cursor.execute(
            f"SELECT count(*) FROM {SEEN_ROWS} AS s SEMI JOIN {KEPT_ROWS} AS k ON {same}"
        ).fetchall()
    return int(again)
