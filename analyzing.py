"""ANALYZE joined together: bind, sample, split, profile, record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb

from .building import roles_with_building
from .dsl import ast
from .dsl.binder import BoundAnalyze, bind_analyze
from .dsl.printer import to_text
from .errors import OctansError, PlanError, RunError
from .ir.logical import LogicalNode
from .ir.models import Device
from .ir.physical import Choice, PhysicalPlan, Stage
from .ir.types import quote
from .knowing import misplaced
from .plain import duckdb_error
from .planner.lower import lower
from .planner.problem import answers_of, settings_of
from .planner.steps import StepInfo, conditioned, steps
from .result import Result
from .stats.sampling import sample, split
from .summary import summary

if TYPE_CHECKING:
    import pyarrow as pa

    from .executor.runner import LocalRunner
    from .session import Session
    from .stats.observation import Observation
    from .stats.profile import ProfiledStep, ProfileResult, Request
    from .stats.runner import StageRun

HELD_BACK_SHARE = 0.25
"""Share of the sample (of its clusters) kept for promises: enough to prove, little enough to leave
the estimates narrow (our choice)."""

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
    run = catalog.begin_run("analyze", to_text(statement))
    measured: list[Observation] = []
    try:
        table = _sampled(session, bound)
        catalog.save_sample(bound.subject, bound.version, run, table)
        result = _profiled(session, bound, table, run, measured)
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
    result = replace(result, notes=(*_null_labels(table), *result.notes))
    catalog.record(measured)
    catalog.flush()
    catalog.finish_run(
        run,
        status="done" if result.stopped is None else "cancelled",
        rows=table.num_rows,
        usd=result.usd,
        details={"left_out": list(result.left_out), "notes": list(result.notes)},
    )
    if result.stopped == "cancelled":
        raise RunError(
            f"ANALYZE was cancelled; {len(result.observations)} observations are kept",
            code="OC0402",
            notes=(f"left out: {', '.join(result.left_out)}",),
        )
    return summary(bound, table, result)


def label_column(context: str, output: str) -> str:
    """The column of a kept sample that holds a label."""
    return f"__label:{context}:{output}"


def labels_of(table: pa.Table) -> dict[tuple[str, str], pa.ChunkedArray]:
    """The labels of a kept sample, by what they label."""
    found = {}
    for name in table.column_names:
        if name.startswith("__label:"):
            _, context, output = name.split(":", 2)
            found[context, output] = table.column(name)
    return found


def clusters_of(table: pa.Table) -> list[Any] | None:
    """The cluster of every row of a kept sample; None where rows are independent."""
    column = table.column("__cluster")
    return None if column.null_count == len(column) else column.to_pylist()


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
            hint=f"CREATE VARIANT {model}.name USING python('module:factory')",
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
    """A subject's body, lowered; a failed row is one that went wrong, not the end."""
    models = {model.name: model for model in session.catalog.models()}
    return lower(body, reference, models, "null")


def _sampled(session: Session, bound: BoundAnalyze) -> pa.Table:
    """The sample with `__row`, `__role`, `__cluster`, inputs and labels."""
    import pyarrow as pa

    seed = session.catalog.settings.seed
    columns = [f"{named.expr.text} AS {quote(named.name)}" for named in bound.inputs]
    columns += [
        f"{label.expr.expr.text} AS {quote(label_column(label.context, label.output))}"
        for label in bound.labels
    ]
    columns.append(f"{bound.cluster.text if bound.cluster else 'NULL'} AS __cluster")
    if bound.sample == 0:
        raise RunError("SAMPLE 0 leaves no rows to analyze", code="OC0430")
    try:
        with session.catalog.cursor() as cursor:
            ((counted,),) = cursor.execute(f"SELECT count(*) FROM ({bound.using})").fetchall()
            places = sample(counted, bound.sample, seed)
            if not places:
                raise RunError("USING gives no rows to analyze", code="OC0430")
            drawn = pa.table({"__drawn": pa.array(places, pa.int64())})
            cursor.register("octans_drawn", drawn)
            table: pa.Table = cursor.sql(
                f"SELECT {', '.join(columns)} FROM "
                f"(SELECT *, row_number() OVER () - 1 AS __place FROM ({bound.using})) "
                "JOIN octans_drawn ON __place = __drawn ORDER BY __place"
            ).to_arrow_table()
    except duckdb.Error as error:
        raise duckdb_error(error) from error
    rows = table.num_rows
    roles = roles_with_building(
        [*split(rows, clusters_of(table), HELD_BACK_SHARE, seed)],
        table,
        bound.target,
        session.catalog.building_rows(bound.subject),
    )
    table = table.add_column(0, "__row", pa.array(range(rows), pa.int64()))
    return table.add_column(1, "__role", pa.array(roles))


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
    table: pa.Table,
    run: int,
    measured: list[Observation],
) -> ProfileResult:
    """Profile on the search rows; `measured` gets every observation as it is made."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from .executor.runner import LocalRunner
    from .stats.profile import Limits, profile

    search = table.filter(pc.equal(table.column("__role"), "search"))
    search = search.set_column(0, "__row", pa.array(range(search.num_rows), pa.int64()))
    runner = LocalRunner(session.environment())
    try:
        with session.visible(SEARCH_ROWS, search):
            body = bound.body(SEARCH_ROWS, ())
            return profile(
                _loadable_request(session, bound.subject, body, search, run, runner),
                runner,
                limits=Limits(
                    seconds=bound.budget_seconds,
                    usd=_budget_usd(session, bound),
                    price=pricer(session),
                    cancelled=session.environment().cancel,
                ),
                progress=_progress(session),
                keep=measured,
            )
    finally:
        runner.close()


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
    from .stats.profile import Request

    catalog = session.catalog
    found = steps(body)
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
        versions={subject: version, **{info.context: version for info in infos if pipeline}},
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
        usd = sum(run.batch_seconds) * devices[choice.device].usd_per_hour / 3600
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
