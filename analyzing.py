"""ANALYZE joined together: bind, sample, split, profile, record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .auditing import Audit, audited, settle
from .catalog_db.history import status_of
from .choosing import before, chosen
from .drawing import Drawn, clusters_of, draw
from .dsl import ast
from .dsl.binder import BoundAnalyze, bind_analyze
from .dsl.printer import to_text
from .environments import made_of
from .errors import OctansError, PlanError, RunError
from .ir.logical import LogicalNode
from .ir.models import Device
from .ir.physical import Choice, PhysicalPlan, Stage
from .ir.slo import Slo
from .ir.types import identifier
from .knowing import misplaced
from .planner.lower import lower
from .planner.problem import answers_of, settings_of
from .planner.rewrite import pruned
from .planner.steps import StepInfo, conditioned, steps
from .result import Result
from .reusing import resuming, rows_fingerprint
from .summary import beyond, summary

if TYPE_CHECKING:
    import pyarrow as pa

    from .executor.runner import LocalRunner
    from .searching import Found
    from .session import Session
    from .stats.observation import Observation
    from .stats.profile import ProfiledStep, ProfileResult, Request
    from .stats.runner import StageRun
    from .stats.strategy import Aim, Strategy

SEARCH_ROWS = "octans_search_rows"


def analyze(session: Session, statement: ast.Analyze) -> Result:
    """Profile a pipeline or a model and record what was seen.

    Raises:
        OctansError: the statement does not bind, the sample is empty, no variant of a model runs;
            OC0402 cancelled, with what was measured kept.
    """
    catalog = session.catalog
    bound = bind_analyze(statement, catalog)
    session.declare_devices()
    earlier = before(session, bound) if bound.search else None
    text = to_text(statement)
    run = catalog.begin_run("analyze", text)
    measured: list[Observation] = []
    audit: Audit | None = None
    try:
        drawn = draw(session, bound)
        table = drawn.table
        made_of(session, run, _variants_of(session, bound))
        catalog.samples.save(bound.subject, bound.version, run, table)
        held_back = rows_fingerprint(_of_role(table, "held_back"))
        catalog.note_split(run, f"{bound.subject} {held_back}")
        result, audit, found = _profiled(session, bound, drawn, run, text, measured)
    except OctansError as error:
        catalog.record(measured)
        catalog.flush()
        catalog.finish_run(run, status="failed", error=error.message)
        raise
    except KeyboardInterrupt:
        catalog.record(measured)
        catalog.flush()
        catalog.finish_run(run, status="cancelled")
        raise
    result = replace(result, notes=(*_null_labels(table), *drawn.notes, *result.notes))
    catalog.record(measured)
    catalog.flush()
    if audit is not None:
        settle(session, audit)
    if found is not None:
        best = chosen(
            session,
            bound,
            run,
            looked=found.looked,
            earlier=earlier,
            sure=result.sure,
            ended=result.stopped is not None,
        )
        result = replace(result, notes=(*best, *result.notes))
    catalog.finish_run(
        run,
        status=status_of(result.stopped),
        rows=table.num_rows,
        usd=result.usd,
        details={
            "left_out": list(result.left_out),
            "notes": list(result.notes),
            "source_rows": drawn.source_rows,
        },
    )
    if result.stopped == "cancelled":
        raise RunError(
            f"ANALYZE was cancelled; {len(result.observations)} observations are kept",
            code="OC0402",
            notes=(f"left out: {', '.join(result.left_out)}", *result.notes),
        )
    return summary(bound, table, result)


def _of_role(table: pa.Table, role: str) -> pa.Table:
    """The rows of a kept sample that have this role."""
    import pyarrow.compute as pc

    return table.filter(pc.equal(table.column("__role"), role))


def _variants_of(session: Session, bound: BoundAnalyze) -> list[str]:
    """The variants that analyzing the subject runs."""
    models = {info.model for info in steps(pruned(bound.body(SEARCH_ROWS)))}
    return [v.full_name for model in sorted(models) for v in session.catalog.variants(model)]


def labels_of(table: pa.Table) -> dict[tuple[str, str], pa.ChunkedArray]:
    """The labels of a kept sample, by what they label."""
    found = {}
    for name in table.column_names:
        if name.startswith("__label:"):
            _, context, output = name.split(":", 2)
            found[context, output] = table.column(name)
    return found


def base_choices(
    infos: tuple[StepInfo, ...], session: Session, broken: Mapping[str, str] | None = None
) -> tuple[dict[str, Choice], dict[str, Choice]]:
    """For every step its reference choice (BASE, else the first variant), and the BASE ones.

    Variants known to be `broken` are neither.

    Raises:
        RunError: OC0431, all variants of a model are broken.
    """
    broken = broken or {}
    reference, base = {}, {}
    for info in infos:
        options = [c for c in choices(info.model, session) if c.variant not in broken]
        if not options:
            notes = tuple(broken[v.full_name] for v in session.catalog.variants(info.model))
            raise RunError(f"no variant of {info.model} can run", code="OC0431", notes=notes)
        by_name = {choice.variant: choice for choice in reversed(options)}
        variants = session.catalog.variants(info.model)
        declared = next((v.full_name for v in variants if v.base), None)
        if declared in by_name:
            base[info.key] = by_name[declared]
        reference[info.key] = base.get(info.key, options[0])
    return reference, base


def choices(model: str, session: Session) -> tuple[Choice, ...]:
    """Every variant, knob setting and device of a model, batch size 1.

    Raises:
        PlanError: OC0331, the model has no variant.
    """
    variants = session.catalog.variants(model)
    if not variants:
        raise PlanError(
            f"model {model} has no variant",
            code="OC0331",
            hint=f"CREATE VARIANT {identifier(model)}.name USING python('module:factory')",
        )
    found = tuple(
        Choice(variant.full_name, knobs, 1, device.name, version=variant.version)
        for variant in variants
        for knobs in settings_of(variant)
        for device in session.devices()
        if misplaced(variant, device) is None
    )
    if not found:
        raise PlanError(
            f"no variant of {model} can run on a declared device",
            code="OC0331",
            notes=tuple(
                f"{variant.full_name} on {device.name}: {misplaced(variant, device)}"
                for variant in variants
                for device in session.devices()
            ),
            hint="CREATE DEVICE cpu (KIND cpu, …)",
        )
    return found


def body_plan(session: Session, body: LogicalNode, reference: Mapping[str, Choice]) -> PhysicalPlan:
    """A subject's body, lowered as far as it is read; a failed row is one that went wrong."""
    models = {model.name: model for model in session.catalog.models()}
    return lower(pruned(body), reference, models, "null")


def _null_labels(table: pa.Table) -> Iterator[str]:
    """What to say of NULL labels: an unlabelled row looks like one whose answer is NULL."""
    for (context, output), label in labels_of(table).items():
        if label.null_count:
            yield (
                f"{label.null_count} of {len(label)} labels of {context}.{output} are NULL: only "
                "the answer NULL is right there; leave rows without a label out of USING"
            )


def _profiled(
    session: Session,
    bound: BoundAnalyze,
    drawn: Drawn,
    run: int,
    text: str,
    measured: list[Observation],
) -> tuple[ProfileResult, Audit | None, Found | None]:
    """Search and profile on the search rows, and compare with what executions saw.

    `measured` gets every observation as it is made.
    """
    import pyarrow as pa

    from .executor.runner import LocalRunner
    from .renewing import renewed
    from .searching import find
    from .stats.profile import Limits, profile
    from .stats.recorder import Recorder, record_unloads

    table = drawn.table
    search = _of_role(table, "search")
    search = search.set_column(0, "__row", pa.array(range(search.num_rows), pa.int64()))
    runner = LocalRunner(session.environment())
    request: Request | None = None
    try:
        with session.visible(SEARCH_ROWS, search):
            body = bound.body(SEARCH_ROWS, ())
            request = _loadable_request(session, bound.subject, body, search, run, runner)
            request = replace(request, strata=drawn.strata, aim=aim_of(bound.slo))
            limits = Limits(
                seconds=bound.budget_seconds,
                usd=_budget_usd(session, bound),
                price=pricer(session),
                cancelled=session.environment().cancel,
            )
            with resuming(session, runner, request, text, table) as recall:
                found, strategy = None, _strategy(session)
                if bound.search:
                    kept = _of_role(table, "held_back")
                    held = len(set(clusters_of(kept) or range(kept.num_rows)))
                    found = find(session, bound, request, recall, limits, held)
                    found = found.begun(recall, limits, strategy, measured)
                request = request if found is None else found.request
                result = profile(
                    request,
                    recall,
                    limits=limits if found is None else found.left(limits),
                    strategy=strategy,
                    progress=_progress(session),
                    keep=measured,
                    clock=recall.clock,
                    prefixes=recall,
                )
                if found is not None and found.history is not None:
                    session.catalog.histories.add([found.history])
                if found is not None:
                    found, result = renewed(
                        session, bound, found, result, recall, limits, strategy, measured
                    )
                told = recall.told()
                result, audit = audited(session, bound, request, recall, result, measured)
        result = replace(result, notes=(*told, *result.notes))
        result = result if found is None else found.joined(result)
        result = replace(result, notes=(*result.notes, *beyond(limits.usd, result.usd)))
        return result, audit, found
    finally:
        runner.close()
        if request is not None:
            record_unloads(Recorder(measured, runner.now, run, request.versions), runner.unloads())


def _loadable_request(
    session: Session,
    subject: str,
    body: LogicalNode,
    rows: pa.Table,
    run: int | None,
    runner: LocalRunner,
) -> Request:
    """A request whose reference choices can run: a variant that cannot must not stop the others.

    Raises:
        RunError: OC0431, all variants of a model are broken.
    """
    broken: dict[str, str] = {}
    while True:
        request = profile_request(session, subject, body, rows, run, broken)
        stage = next((s for s in request.plan.stages if not _loads(runner, s, broken)), None)
        if stage is None:
            return request


def _loads(runner: LocalRunner, stage: Stage, broken: dict[str, str]) -> bool:
    """Can its variant run here? Why not is kept in `broken`."""
    try:
        runner.load(stage)
    except RunError as error:
        broken[stage.choice.variant] = error.message
        return False
    return True


def profile_request(
    session: Session,
    subject: str,
    body: LogicalNode,
    rows: pa.Table,
    run: int | None,
    broken: Mapping[str, str] | None = None,
) -> Request:
    """What to measure of a subject: its plan over kept rows, every choice, labels, clusters."""
    from .stats.dependence import declared_pairs
    from .stats.profile import Request

    catalog = session.catalog
    found = steps(pruned(body))
    reference, base = base_choices(found, session, broken)
    options = {info.key: choices(info.model, session) for info in found}
    variants = {info.model: catalog.variants(info.model) for info in found}
    infos = conditioned(found, answers_of(found, variants))
    pipeline = catalog.pipeline(subject)
    declared = pipeline or catalog.model(subject)
    version = declared.version if declared is not None else 1
    return Request(
        subject=subject,
        plan=body_plan(session, body, reference),
        choices=options,
        steps={info.key: _profiled_step(session, info, base) for info in infos},
        metric=declared.quality if declared is not None else None,
        labels=labels_of(rows),
        clusters=clusters_of(rows),
        run=run,
        derivations={
            variant.full_name: variant.derivation
            for group in variants.values()
            for variant in group
            if variant.derivation is not None
        },
        versions={subject: version, **{info.context: version for info in infos if pipeline}},
        dependences=declared_pairs(
            catalog.extended_statistics(), [(i.key, i.context, i.model) for i in infos]
        ),
    )


def _profiled_step(session: Session, info: StepInfo, base: Mapping[str, Choice]) -> ProfiledStep:
    from .stats.profile import ProfiledStep

    model = session.catalog.model(info.model)
    return ProfiledStep(
        info.key,
        metric=model.quality if model is not None else None,
        base=base.get(info.key),
        given=info.given,
        instead_of=info.instead_of,
        confidence=model.confidence if model is not None else None,
    )


def _strategy(session: Session) -> Strategy:
    """How the session saves row-evaluations."""
    from .stats.strategy import Strategy

    settings = session.catalog.settings
    return Strategy(test=settings.sequential_test, seed=settings.seed)


def aim_of(slo: Slo) -> Aim:
    """What an SLO needs to know of the measurements."""
    from .stats.strategy import Aim

    accuracy = [c for c in slo.constraints if c.metric == "accuracy"]
    whole = max((c for c in accuracy if c.model is None), key=lambda c: c.limit, default=None)
    latencies = [
        c.furthest
        for c in slo.constraints
        if c.metric.startswith("latency") and c.model is None and not c.per_token
    ]
    return Aim(
        accuracy=None if whole is None else whole.limit,
        least=None if whole is None or whole.confidence is not None else whole.furthest,
        models=tuple((c.model, c.furthest) for c in accuracy if c.model is not None),
        latency=min(latencies, default=None),
        confidence=max((c.confidence for c in accuracy if c.confidence is not None), default=None),
        maximize_accuracy=slo.objective.metric == "accuracy",
    )


def _budget_usd(session: Session, bound: BoundAnalyze) -> float | None:
    """The smaller of the statement's budget and the session's."""
    limits = [bound.budget_usd, session.catalog.settings.max_profiling_cost]
    return min((limit for limit in limits if limit is not None), default=None)


def pricer(session: Session) -> Any:
    """USD of one run of a stage: slot-seconds and tokens at their prices."""
    devices: dict[str, Device] = {device.name: device for device in session.devices()}
    variants = {v.full_name: v for v in session.catalog.variants()}

    def price(choice: Choice, run: StageRun) -> float:
        usd = run.busy_seconds * devices[choice.device].usd_per_hour / 3600
        tokens = variants[choice.variant].price
        if tokens is not None:
            usd += (run.tokens_in or 0) * tokens.input_usd
            usd += (run.tokens_out or 0) * tokens.output_usd
        return usd

    return price


def _progress(session: Session) -> Any:
    """Pieces of work done, told to the session's sink."""
    sink = session.environment().progress
    if sink is None:
        return None

    def tell(done: int, total: int, label: str) -> None:
        sink.update(done, total, (f"ANALYZE {label}",))

    return tell
