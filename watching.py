"""What an execution tells about the statistics it was planned on, joined together.

Its observations go back to the catalog, each with what its rows had passed before. A sample of its
source's rows, before any model saw them, is compared with those ANALYZE kept, and stays for a while
as an audit sample: filters upstream bias what a stage sees, not this.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from .asking import KEPT_ROWS, KeptSample, asked_of, body_of, inputs_of, kept_sample, standing_for
from .catalog_db.freshness import Mark
from .ir.logical import Distinct, Filter, Join, Limit, LogicalNode, Source
from .ir.node import collect
from .ir.physical import PhysicalNode, SqlScan, SqlStep, Stage
from .ir.record import dataclass
from .ir.types import Schema, quote
from .stats.intervals import wilson
from .stats.observation import Observation
from .stats.staleness import many_new_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from .executor.engine import Execution
    from .planner.optimize import PlannedQuery
    from .planner.population import Population
    from .session import Session
    from .stats.drift import Features

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


@dataclass(frozen=True)
class Analyzed:
    """The rows that ANALYZE `run` kept, as far as others are compared with them."""

    run: int
    features: Features
    hashes: NDArray[np.uint64]


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
    columns = None if kept is None else catalog.samples.columns(kept.subject, kept.version)
    if kept is None or kept.run is None or columns is None:
        return
    if catalog.freshness.marked(kept.subject, kept.run) is not None:
        return
    with session.visible(KEPT_ROWS, columns):
        body = body_of(session, kept)
    seen = inputs_of(kept, query.physical.root, body, samples[0][2])
    asked = asked_of(session, kept, plan, body, columns)
    if seen is None or asked.unclear is not None:
        return
    reason = None
    if not asked.limited:
        reference = _reference(session, kept, asked, seen.column_names)
        if reference is None:
            return
        look = catalog.audits.look(kept.subject, kept.version, kept.run)
        found = drift(reference, features(seen), look)
        reason = None if found is None else found.text()
    if not asked.where and not asked.limited:
        catalog.audits.keep(kept.subject, kept.version, kept.run, run, seen)
        reason = reason or _new_rows(session, kept, seen, samples[0])
    if reason is not None:
        catalog.freshness.mark(Mark(kept.subject, reason))


def _reference(
    session: Session, kept: KeptSample, asked: Population, names: Sequence[str]
) -> Features | None:
    """The features of the kept rows like those asked about; None where they are gone."""
    from .stats.drift import features

    if asked.sql is None:
        known = analyzed(session, kept)
        return None if known is None else known.features
    table = session.catalog.samples.load(kept.subject, kept.version)
    if table is None:
        return None
    return features(standing_for(session, asked, table).select(names))


def analyzed(session: Session, kept: KeptSample) -> Analyzed | None:
    """All of the kept rows; of each subject those of one ANALYZE stay with the session.

    They may be large, as images are, and are not read for every execution. None where another
    session has replaced them meanwhile.
    """
    from .stats.drift import features

    known = session.analyzed.get(kept.subject)
    if known is None or known.run != kept.run:
        table = session.catalog.samples.load(kept.subject, kept.version)
        now = session.catalog.samples.run(kept.subject, kept.version)
        if table is None or now is None or now != kept.run:
            return None
        rows = table.select([field.name for field in kept.inputs])
        known = Analyzed(now, features(rows), row_hashes(session, kept.inputs, rows))
        session.analyzed[kept.subject] = known
    return known


def row_hashes(session: Session, inputs: Schema, rows: pa.Table) -> NDArray[np.uint64]:
    """Of every row; NULL and NaN are equal to themselves, and numbers as the model gets them."""
    values = ", ".join(f"TRY_CAST({quote(field.name)} AS {field.type})" for field in inputs)
    with session.visible(SEEN_ROWS, rows), session.catalog.cursor() as cursor:
        found = cursor.sql(f"SELECT hash({values}) FROM {SEEN_ROWS}").to_arrow_table()
    hashes: NDArray[np.uint64] = found.column(0).to_numpy()
    return hashes


def _new_rows(
    session: Session,
    kept: KeptSample,
    seen: pa.Table,
    source: tuple[SqlScan, int, pa.Table],
) -> str | None:
    """Why statistics are stale by the rows ANALYZE could not draw, if they are.

    Of a source that ANALYZE drew `s` of its `N` rows from, a share s/N of the rows is among those
    kept; the upper end of the share found there tells how many may be old (on the safe side: no
    alarm where chance could hide them).
    """
    import numpy as np

    assert kept.run is not None
    rows = session.catalog.audits.source_rows(kept.run)
    if not rows:
        return None
    known = analyzed(session, kept)
    if known is None:
        return None
    again = int(np.isin(row_hashes(session, kept.inputs, seen), known.hashes).sum())
    _, upper = wilson(again, seen.num_rows)
    old = min(1.0, upper * rows / len(known.hashes))
    scan, read, _ = source
    new = session.catalog.audits.count_new(
        kept.subject, kept.run, scan.sql, read, read * (1.0 - old)
    )
    return many_new_rows(rows, new)
