"""A query on its way through the folders: bound, planned, and then explained, run or copied."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .dsl import ast
from .dsl.advice import parse_advice
from .dsl.binder import BoundQuery, bind_select
from .environments import made_of
from .errors import BindError, OctansError, PlanError, RunError, Span
from .ir.estimates import Cost, Estimate
from .ir.explain import Explanation
from .ir.logical import LogicalNode
from .ir.physical import SqlScan
from .ir.record import dataclass
from .ir.slo import Constraint, Slo
from .ir.types import identifier
from .knowing import (
    estimated_rows,
    knowledge,
    known_variant,
    misplaced,
    promised_subject,
    search_notes,
    stale_notes,
    stale_steps,
    statistics,
    unmeasured_notes,
)
from .measured import emitted, latencies, numbers
from .plain import write
from .planner.advice import Report
from .planner.explain.advice import advice_text
from .planner.explain.build import Context, Ran, explain, objective_text
from .planner.explain.planned import constraint_text
from .planner.explain.thinned import thinning
from .planner.explain.why_not import why_not
from .planner.format import format_plan
from .planner.keeping import Before
from .planner.optimize import InfeasibleSlo, PlannedQuery, Promise, optimize
from .planner.rewrite import pruned
from .planner.steps import StepInfo, filter_subject, steps
from .result import Result, render_explanation
from .stats.statistics import Statistics
from .watching import filter_context, observed, watch

if TYPE_CHECKING:
    import pyarrow as pa

    from .catalog_db.history import Status
    from .executor.engine import Execution
    from .session import Session


@dataclass(frozen=True)
class Planned:
    """A query and, where it calls models, its plan; `query` is None for plain SQL."""

    session: Session
    statement: ast.Select
    options: ast.ExplainOptions
    bound: BoundQuery
    query: PlannedQuery | None
    stats: Statistics | None

    @classmethod
    def of(
        cls,
        session: Session,
        statement: ast.Select,
        options: ast.ExplainOptions,
        advice: str | None = None,
    ) -> Planned:
        """Bind and plan.

        Raises:
            OctansError: it does not bind, or no plan meets its SLO.
        """
        bound = bind_select(statement, session.catalog)
        if not bound.calls:
            return cls(session, statement, options, bound, None, None)
        promised = promised_subject(bound.slo, steps(bound.plan))
        stats = statistics(session, (filter_context(bound.plan),), promised=promised)
        for asked in options.why_not:
            known_variant(session, asked)
        given = advice if options.advice is None else str(options.advice.value)
        offset = 0 if options.advice is None else options.advice.span.start + 1
        last = session.catalog.last_plan(bound.text, _reason(bound.slo)) if given is None else None
        try:
            query = optimize(
                bound.plan,
                bound.slo,
                knowledge(session, stats),
                on_error=bound.on_error,
                advice=() if given is None else parse_advice(given, offset),
                promises=_promises(session, bound.plan),
                before=None if last is None else Before(*last),
            )
        except (PlanError, BindError) as error:
            error.notes = (*error.notes, *stats.left_out)
            if error.code == "OC0310":
                from .quoting import quoted

                error.notes = (*quoted(session, steps(pruned(bound.plan))), *error.notes)
            raise _placed(error, statement) from error.__cause__
        if advice is not None:
            _obeyed(query.advice)
        _within_settings(session, query)
        return cls(session, statement, options, bound, query, stats)

    # --- what can be done with it -------------------------------------------------------------

    def run(self) -> Result:
        """The query's rows; a plan runs as they are read."""
        if self.query is None:
            return self.session.plain(self.bound.text)
        run = Run(self, self.query)
        return Result(
            run.reader,
            schema=self.bound.fields,
            explain=run.explanation,
            plan=self.query.physical,
            failed=lambda: run.failed,
            timed_out=lambda: run.timed_out,
        )

    def copy_to(self, target: str) -> Result:
        """COPY (query) TO target; streams."""
        if self.query is None:
            return self.session.plain(f"COPY ({self.bound.text}) {target}")
        run = Run(self, self.query)
        return write(self.session, run, self.bound.fields, "COPY (", f") {target}")

    def store(self, head: str, observed: Span | None = None) -> Result:
        """`head` is the `CREATE TABLE … AS` or `INSERT INTO …` before the query; streams."""
        if self.query is None:
            return self.session.plain(f"{head}{self.bound.text}", observed)
        run = Run(self, self.query)
        return write(self.session, run, self.bound.fields, head, observed=observed)

    def explained(self) -> Result:
        """EXPLAIN's answer in the format asked for; with ANALYZE the query runs first."""
        if self.query is None:
            analyze = "ANALYZE " if self.options.analyze else ""
            return self.session.plain(f"EXPLAIN {analyze}{self.bound.text}")
        if self.options.analyze:
            run = Run(self, self.query)
            for _ in run.batches():
                pass
            explanation = run.explanation()
        else:
            explanation = self.explain()
        return Result(
            text=render_explanation(explanation, self.options.format),
            html=lambda: render_explanation(explanation, "html"),
            colored=lambda: render_explanation(explanation, self.options.format, color=True),
            explain=lambda: explanation,
            plan=self.query.physical,
        )

    def explain(self, ran: Ran | None = None) -> Explanation:
        """The explanation as data.

        Raises:
            PlanError: OC0303, the query calls no model.
        """
        if self.query is None:
            raise PlanError("the query calls no model: there is no plan", code="OC0303")
        return explain(self.query, self._context(self.query), ran)

    def _context(self, query: PlannedQuery) -> Context:
        stats, options = self.stats, self.options
        assert stats is not None
        stale = stale_steps(stats, query.physical.stages)
        guarantees: dict[Constraint, str] = {}
        for constraint in query.slo.constraints:
            if constraint.confidence is not None and query.proof is not None:
                guarantees[constraint] = query.proof.text()
        return Context(
            query=self.bound.text,
            at=self.session.now(),
            scans=self._scans(query),
            selectivity=lambda predicate: stats.rate(filter_subject(predicate)),
            guarantees=guarantees,
            alternatives=options.alternatives,
            planning_seconds=query.seconds,
            steps=_steps(query) if options.steps else (),
            why_not=tuple(
                line
                for asked in options.why_not
                for line in why_not(
                    query.problem,
                    query.chosen,
                    asked.variant.text,
                    tuple((knob.name.text, knob.value.value) for knob in asked.knobs),
                    kept=query.better is not None,
                )
            ),
            advice_report=tuple(str(report) for report in query.advice),
            notes=(
                *unmeasured_notes(self.session, stats, query.problem),
                *stats.left_out,
                *query.problem.notes,
                *stale_notes(self.session, query.physical.stages, stale),
                *search_notes(self.session, stats, query.physical.stages),
            ),
            stale=stale,
        )

    def _scans(self, query: PlannedQuery) -> dict[str, Estimate]:
        """Rows of every scan of the plan."""
        found = {}
        for node in query.physical.root.postorder():
            if isinstance(node, SqlScan):
                rows = estimated_rows(self.session, node.sql)
                if rows is not None:
                    found[node.fingerprint] = rows
        return found


class Run:
    """One execution of a planned query, accounted for in the catalog when it ends."""

    def __init__(self, planned: Planned, query: PlannedQuery) -> None:
        began = time.perf_counter()
        from .executor.engine import run

        self._planned = planned
        self._query = query
        session = planned.session
        _placed_here(session, query)
        rows = query.chosen.cost.rows
        environment = replace(
            session.environment(),
            cursor=session.catalog.cursors(),
            rows_expected=None if rows is None else round(rows.value),
        )
        self._execution: Execution = run(query.physical, environment)
        self._rows = 0
        self._read = False
        self._seconds = time.perf_counter() - began

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the rows."""
        return self._execution.schema

    def reader(self) -> Any:
        """An Arrow reader; it runs as it is read."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._execution.schema, self.batches())

    def batches(self) -> Iterator[Any]:
        """The rows, accounted for at the end, whatever the end is."""
        start = time.perf_counter()
        session, query = self._planned.session, self._query
        catalog = session.catalog
        number = catalog.begin_run("query", self._planned.bound.text)
        choices = query.chosen.choices.values()
        variants = {member.variant for choice in choices for member in choice.members}
        made = made_of(session, number, variants)
        plan = catalog.record_plan(
            query.physical.fingerprint,
            self._planned.bound.text,
            advice=advice_text(query.chosen.choices),
            reason=_reason(query.slo),
            estimates=numbers(query.chosen.cost),
            subjects={step.context.split(".")[0] for step in query.problem.steps},
        )
        status: Status = "cancelled"
        problem = None
        try:
            for batch in self._execution.batches():
                self._rows += batch.num_rows
                yield batch
            status = "done"
        except OctansError as error:
            status = "cancelled" if error.code == "OC0402" else "failed"
            problem = error.message
            raise
        finally:
            self._seconds, self._read = self._seconds + time.perf_counter() - start, True
            totals = self.totals()
            cost = totals.total_cost
            catalog.finish_run(
                number,
                status=status,
                rows=self._execution.rows_done,
                failed=self.failed,
                usd=None if cost is None else cost.value,
                error=problem,
            )
            if status == "done":
                catalog.record_result(plan, numbers(totals), run=number)
                catalog.fold(
                    observed(query, self._planned.bound.plan, self._execution, number), made
                )
                watch(session, self._planned.bound.plan, query, self._execution.samples(), number)
            finish = getattr(session.progress, "finish", None)
            if finish is not None:
                finish()

    @property
    def failed(self) -> int:
        """Rows that failed so far."""
        return self._execution.failed_rows

    @property
    def timed_out(self) -> int:
        """Those of them whose call was given up."""
        return self._execution.timed_out_rows

    def totals(self) -> Cost:
        """What the run took, from opening the engine to the last row; peak memory is unknown."""
        actuals = self._execution.actuals
        stages = self._query.physical.stages
        usd = [actuals[s.fingerprint].cost_usd for s in stages if s.fingerprint in actuals]
        entered = [actuals[s.fingerprint].rows_in for s in stages if s.fingerprint in actuals]
        rows = max(entered, default=0)
        total = None if None in usd else sum(cost for cost in usd if cost is not None)
        energy, co2 = emitted(self._query, actuals, self._planned.session.devices(), rows)
        return Cost(
            cost=None if total is None or not rows else _point(total / rows, rows),
            total_cost=None if total is None else _point(total, rows),
            wall=_point(self._seconds, rows),
            throughput=_point(rows / self._seconds, rows) if self._seconds > 0 else None,
            energy=None if energy is None or not rows else energy.scaled(1 / rows),
            total_energy=energy,
            co2=co2,
            rows=_point(float(rows), rows),
            **latencies(self._query, self._execution),
        )

    def explanation(self) -> Explanation:
        """With actuals, once it has been read; estimates only before."""
        if not self._read:
            return self._planned.explain()
        failures = tuple(
            f"row {failure.row} in {failure.step}: {failure.message}"
            for failure in self._execution.failures[:20]
        )
        ran = Ran(self._execution.actuals, self.totals(), self._rows, failures)
        return self._planned.explain(ran)


# --- the edges of planning ------------------------------------------------------------------------


def _reason(slo: Slo) -> str:
    """Why a plan is chosen: `chosen by the exact search for accuracy >= 0.9, MINIMIZE cost`."""
    asked = [*map(constraint_text, slo.constraints), objective_text(slo.objective)]
    return f"chosen by the exact search for {', '.join(asked)}"


def _promises(session: Session, plan: LogicalNode) -> Any:
    def find(constraint: Constraint, infos: Sequence[StepInfo]) -> Promise:
        from .proving import Prover

        return Prover(session, constraint, infos, plan).promise()

    return find


def _placed(error: OctansError, statement: ast.Select) -> OctansError:
    """Give a planning error the span of the constraint it is about, or of the SLO."""
    slo = statement.slo
    if error.span is None and slo is not None:
        span: Span | None = slo.span
        if isinstance(error, InfeasibleSlo) and error.constraint is not None and slo.constraints:
            span = slo.constraints[error.constraint].span
        error.span = span
    return error


def _obeyed(reports: Sequence[Report]) -> None:
    """Binding advice that could not be followed is an error.

    Raises:
        PlanError: OC0317.
    """
    refused = [str(report) for report in reports if report.outcome != "matched"]
    if refused:
        raise PlanError("advice cannot be followed", code="OC0317", notes=tuple(refused))


def _placed_here(session: Session, query: PlannedQuery) -> None:
    """Refuse to run what was planned for a device that no backend here computes on.

    Raises:
        RunError: OC0409.
    """
    devices = {device.name: device for device in session.devices()}
    variants = {variant.full_name: variant for variant in session.catalog.variants()}
    placed = [(key, m) for key, c in query.chosen.choices.items() for m in c.members]
    for key, choice in placed:
        why = misplaced(variants[choice.variant], devices[choice.device])
        if why is not None:
            raise RunError(
                f"{key} is planned on {choice.device}, which cannot be used here: {why}",
                code="OC0409",
                hint=f"DROP DEVICE {identifier(choice.device)}, or advise DEVICE({key} …)",
            )


def _within_settings(session: Session, query: PlannedQuery) -> None:
    """Refuse what is estimated to cost or take more than the session allows.

    Raises:
        PlanError: OC0318.
    """
    settings, cost = session.catalog.settings, query.chosen.cost
    for name, limit, estimate, unit in (
        ("max_total_cost", settings.max_total_cost, cost.total_cost, "USD"),
        ("max_wall", settings.max_wall, cost.wall, "s"),
    ):
        if limit is not None and estimate is not None and estimate.value > limit:
            raise PlanError(
                f"the query is estimated at {estimate.value:.6g} {unit}, {name} is {limit:.6g}",
                code="OC0318",
                hint=f"RESET {name}, or ask for less",
            )


def _steps(query: PlannedQuery) -> tuple[str, ...]:
    """What each rule did, and what the search thinned."""
    rules = (
        f"{entry.rule}: {entry.outcome} ({entry.seconds * 1e3:.2f} ms)"
        + (f"\n{format_plan(entry.plan)}" if entry.outcome == "applied" else "")
        for entry in query.trace
    )
    return (*rules, *thinning(query.searched, query.problem))


def _point(value: float, n: int) -> Estimate:
    return Estimate(value, value, value, n)
