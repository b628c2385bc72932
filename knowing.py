"""What planning knows of a session: statistics, declarations, and DuckDB's row estimates."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .deriving import waiting
from .dsl import ast
from .environments import notice
from .errors import PlanError, RunError
from .ir.estimates import Estimate
from .ir.models import Device, ExtendedStatistics, Model, Pipeline, Variant, knobs_text
from .ir.physical import Stage
from .ir.slo import Slo
from .ir.types import identifier
from .planner.optimize import Knowledge
from .planner.options import missing_notes
from .planner.steps import StepInfo
from .stats.staleness import too_old
from .stats.statistics import Statistics

OF_ROWS = frozenset(
    {"quality", "row_quality", "accuracy", "precision", "recall", "cascade", "joint_errors"}
)
"""Metrics of how right answers are: what a promise is about."""
REST_OF_SEARCH = "the rest of the search"
"""What a search that was ended early left out, as runs keep it."""

if TYPE_CHECKING:
    from .catalog_db.catalog import Catalog
    from .planner.problem import Missing, PlanProblem
    from .session import Session
    from .stats.observation import Observation


def statistics(
    session: Session,
    filters: Collection[str] = (),
    *,
    priors: bool = False,
    promised: str | None = None,
    pending: Sequence[Observation] = (),
    fresh: bool = False,
) -> Statistics:
    """Everything measured of what is declared now; what is stale is used, and says why.

    What executions saw behind a filter is in it for `filters` alone. Declared priors stand in where
    the session allows it, or with `priors`.

    What is proved on the held-back rows of the subject `promised` must not be chosen by what may
    have seen them: qualities are left out that an ANALYZE with another split measured, or a DERIVE
    on rows of such a sample.

    `pending` is what was measured and is not recorded yet. With `fresh`, nothing stale is in it.
    """
    catalog = session.catalog
    notice(session)
    now, limit = session.now(), catalog.settings.max_statistics_age
    found = [
        replace(one, stale=old)
        if one.stale is None and (old := too_old(one.at, now, limit)) is not None
        else one
        for one in (*catalog.observations(filters=filters), *catalog.stamped(pending))
    ]
    if fresh:
        found = [one for one in found if one.stale is None]
    left_out: tuple[str, ...] = ()
    if promised is not None:
        found, left_out = _without_seeing(session, promised, found)
    variants = catalog.variants()
    priors |= catalog.settings.allow_priors
    if priors:
        from .stats.effects import with_expected

        variants = with_expected(variants, found)
    return Statistics(
        found,
        variants=variants,
        allow_priors=priors,
        deployment=catalog.settings.deployment,
        dependences=catalog.extended_statistics(),
        left_out=left_out,
    )


def promised_subject(slo: Slo, infos: Sequence[StepInfo]) -> str | None:
    """Whose held-back rows an accuracy AT CONFIDENCE is proved on; None where none is asked."""
    asked = any(c.metric == "accuracy" and c.confidence is not None for c in slo.constraints)
    return infos[0].context.split(".")[0] if asked and infos else None


def _without_seeing(
    session: Session, subject: str, observations: Sequence[Observation]
) -> tuple[list[Observation], tuple[str, ...]]:
    """The observations that saw no held-back row of the subject, and what to say of the others."""
    catalog = session.catalog
    declared = catalog.pipeline(subject) or catalog.model(subject)
    run = None if declared is None else catalog.samples.run(declared.name, declared.version)
    unseeing = frozenset() if run is None else catalog.same_split(run)
    kept: list[Observation] = []
    others: dict[str, set[str]] = {}
    for one in observations:
        if one.run is None or one.run in unseeing or one.metric not in OF_ROWS:
            kept.append(one)
        elif one.variant is not None:
            others.setdefault(one.subject.split(".")[0], set()).add(one.variant)
    if not others or run is None:
        return kept, ()
    own = {
        one.variant
        for one in kept
        if one.metric in OF_ROWS and one.subject.split(".")[0] == subject
    }
    missed = {subject: others.get(subject, set())}
    missed |= {model: others.get(model, set()) - own for model in _models(subject, catalog)}
    return kept, tuple(_not_counted(of, found) for of, found in missed.items() if found)


def _models(subject: str, catalog: Catalog) -> Iterator[str]:
    """The models that a pipeline calls."""
    from .dsl.binding.pipelines import declaration

    pipeline = catalog.pipeline(subject)
    for step in () if pipeline is None else declaration(pipeline).steps:
        model = catalog.model(step.model.text)
        if model is not None:
            yield model.name


def _not_counted(subject: str, variants: set[str]) -> str:
    names = ", ".join(sorted(variants)[:6]) + (", …" if len(variants) > 6 else "")
    return (
        f"earlier ANALYZEs of {subject} measured qualities of {names} on rows that may be held "
        "back now: AT CONFIDENCE they do not count"
    )


def check_quality(definition: object, statement: ast.Statement) -> None:
    """A metric that could never score the declared output is refused where it is declared.

    Raises:
        RunError: OC0480, OC0481 or OC0486.
    """
    if not isinstance(definition, Model | Pipeline) or definition.quality is None:
        return
    from .stats.metrics import check

    assert isinstance(statement, ast.CreateModel | ast.CreatePipeline)
    metric = definition.quality
    types = {field.name: field.type for field in definition.outputs}
    try:
        check(metric, types[metric.output])
    except RunError as error:
        error.span = None if statement.quality is None else statement.quality.span
        raise


def filled_by(declared: ExtendedStatistics, catalog: Catalog) -> str:
    """Which ANALYZE measures them; like PostgreSQL's, they are empty until then."""
    from .dsl.binding.pipelines import declaration

    owners = [
        pipeline.name
        for pipeline in catalog.pipelines()
        for steps in [declaration(pipeline).steps]
        if all(
            any(
                one.lower()
                in (step.model.text.lower(), f"{pipeline.name}.{step.name.text}".lower())
                for step in steps
            )
            for one in (declared.first, declared.second)
        )
    ]
    if not owners:
        return f"no pipeline calls both {declared.first} and {declared.second} yet"
    return "measured by " + " or ".join(
        f"ANALYZE PIPELINE {identifier(name)} USING (…)" for name in owners
    )


def knowledge(session: Session, stats: Statistics) -> Knowledge:
    """The planner's view of a session."""
    catalog = session.catalog
    models = {model.name: model for model in catalog.models()}
    return Knowledge(
        stats=stats,
        models=models,
        variants={name: catalog.variants(name) for name in models},
        devices=session.devices(),
        rows=lambda sql: estimated_rows(session, sql),
        unavailable=_unavailable(session),
        disabled_rules=frozenset(catalog.settings.disabled_rules),
    )


def stale_steps(stats: Statistics, stages: Sequence[Stage]) -> dict[str, str]:
    """By step, why the statistics of its choice may no longer hold."""
    found = {}
    for stage in stages:
        choice = stage.choice
        reason = stats.stale(
            stage.context,
            choice.variant,
            knobs_text(choice.knobs),
            choice.device,
            choice.batch,
        )
        if reason is not None:
            found[stage.step] = reason
    return found


def stale_notes(
    session: Session, stages: Sequence[Stage], stale: Mapping[str, str]
) -> Iterator[str]:
    """What to run where statistics that a plan rests on may no longer hold."""
    subjects: dict[str, dict[str, None]] = {}
    for stage in stages:
        if stage.step in stale:
            subjects.setdefault(stage.context.split(".")[0], {})[stage.step] = None
    for subject, found in subjects.items():
        kind = "PIPELINE" if session.catalog.pipeline(subject) is not None else "MODEL"
        yield (
            f"statistics of {', '.join(found)} are stale ({stale[next(iter(found))]}) and used all "
            f"the same: run ANALYZE {kind} {identifier(subject)} USING (…)"
        )


def search_notes(session: Session, stats: Statistics, stages: Sequence[Stage]) -> Iterator[str]:
    """Whose choices come from a search that was ended before it was done."""
    runs: dict[str, int] = {}
    for stage in stages:
        run = stats.latest_run(stage.context)
        if run is not None:
            subject = stage.context.split(".")[0]
            runs[subject] = max(run, runs.get(subject, run))
    for subject, run in runs.items():
        if REST_OF_SEARCH in session.catalog.left_out(run):
            yield (
                f"{subject}: the search was ended before it was done, so this is the best plan of "
                f"those seen so far (SHOW RUNS, run {run}): ANALYZE … SEARCH once more goes on"
            )


def unmeasured_notes(session: Session, stats: Statistics, problem: PlanProblem) -> tuple[str, ...]:
    """Which variants have no statistics, and which search left them out, if one did, and when."""
    from .dsl.parser import parse_one

    contexts = {stage.step.key: stage.step.context for stage in problem.stages}
    searches: dict[str, tuple[str, frozenset[str]]] = {}
    for key in {one.key for one in problem.missing} & set(contexts):
        run = stats.latest_run(contexts[key])
        text = None if run is None else session.catalog.run_text(run)
        statement = None if text is None else parse_one(text)
        if run is not None and isinstance(statement, ast.Analyze) and statement.search:
            at, known = session.catalog.before_run(run)
            told = f"left out by the search of {at:%Y-%m-%d %H:%M} UTC (run {run})"
            searches[key] = told, known

    def why(one: Missing) -> str | None:
        told, known = searches.get(one.key, ("", frozenset()))
        return told if one.variant.lower() in known else None

    return missing_notes(problem.missing, why)


def known_variant(session: Session, asked: ast.WhyNot) -> None:
    """WHY NOT of what does not exist is a misspelling.

    Raises:
        PlanError: OC0320.
    """
    from .dsl.diagnostics import nearest

    name = asked.variant.text
    if session.catalog.variant(name) is None:
        names = [variant.full_name for variant in session.catalog.variants()]
        mine = [other for other in names if other.split(".")[0] == name.split(".")[0]]
        raise PlanError(
            f"unknown variant {name}",
            code="OC0320",
            span=asked.variant.span,
            label="no such variant",
            candidates=nearest(name, names),
            notes=(f"there are {', '.join(mine)}",) if mine else (),
        )


def estimated_rows(session: Session, sql: str) -> Estimate | None:
    """DuckDB's own estimate of a query's rows: exact for a bare scan, a guess under a filter."""
    import duckdb

    try:
        with session.catalog.cursor() as cursor:
            found = cursor.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    except duckdb.Error:
        return None
    rows, filtered = _cardinality(json.loads(found[0][1])[0]) if found else (None, True)
    if rows is None:
        return None
    return Estimate(rows, 0.0 if filtered else rows, rows, 0, "modelled")


def misplaced(variant: Variant, device: Device) -> str | None:
    """Why a variant cannot run on a device; None where it can.

    The backends of this version compute on the CPU. Only recorded answers may be replayed as if on
    any device: whose times they are is in the recording.
    """
    replayed = variant.backend is not None and variant.backend.kind == "replay"
    if device.kind == "cpu" or replayed:
        return None
    return f"no backend of this version computes on KIND {device.kind}"


def _cardinality(node: Mapping[str, Any]) -> tuple[float | None, bool]:
    """The topmost estimate in a DuckDB plan, and whether anything filters below it."""
    info = node.get("extra_info") or {}
    text = str(info.get("Estimated Cardinality", "")).lstrip("~")
    children = [_cardinality(child) for child in node.get("children", ())]
    limit = str(info.get("Limit", ""))
    if limit.isdigit() and len(children) == 1 and children[0][0] is not None:
        return min(children[0][0], float(limit)), children[0][1]
    filtered = "Filters" in info or "FILTER" in str(node.get("name", "")) or len(children) > 1
    filtered = filtered or any(below for _, below in children)
    if text.isdigit():
        return float(text), filtered
    known = [rows for rows, _ in children if rows is not None]
    return (max(known) if known else None), filtered


def _unavailable(session: Session) -> dict[str, str]:
    """Variants that cannot run here: a backend of a later version, an artefact to build again."""
    from .executor.kinds import KINDS, LATER

    found = {}
    for variant in session.catalog.variants():
        if variant.backend is not None and variant.backend.kind not in KINDS:
            kind = variant.backend.kind
            found[variant.full_name] = LATER.get(kind, f"there is no backend {kind}")
    return found | waiting(session.catalog)
