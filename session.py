"""`octans.connect()`: the composition root, which joins the folders and holds no logic of its own.

A statement is parsed and bound (`dsl`), planned (`planner`, through `planning`), run (`executor`)
or stored (`catalog_db`); ANALYZE is joined together in `analyzing`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from .catalog_db.catalog import Catalog
from .dsl import ast
from .dsl.parser import parse
from .errors import CatalogError, OctansError, PlanError, RunError, Span, SyntaxProblem
from .ir.models import Device, ExtendedStatistics, Link, Variant, scalar_text
from .ir.slo import Slo
from .result import Result

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

    from .executor.abandoned import Abandoned
    from .executor.cache import ResultCache
    from .executor.environment import Environment, ProgressSink
    from .ir.estimates import Cost
    from .ir.explain import Explanation
    from .planning import Planned
    from .watching import Analyzed

T = TypeVar("T")
Definition = (
    ast.CreateModel
    | ast.CreateVariant
    | ast.CreateDevice
    | ast.CreateLink
    | ast.CreatePipeline
    | ast.CreateSlo
    | ast.CreateStatistics
)
SettingValue = ast.Quantity | ast.Literal_ | ast.Name | tuple[ast.Literal_ | ast.Name, ...]


def connect(path: str | Path | None = None, *, base_dir: str | Path | None = None) -> Session:
    """Open a session on a catalog file, created when there is none; in memory by default.

    Args:
        path: the catalog's DuckDB file.
        base_dir: where relative paths of models start; the working directory by default.

    Raises:
        CatalogError: another process holds the file, it is no catalog, or from a newer version.
    """
    return Session(Catalog.open(None if path is None else str(path)), base_dir)


class Session:
    """One user's connection: runs scripts against one catalog, with settings of its own."""

    def __init__(self, catalog: Catalog, base_dir: str | Path | None = None) -> None:
        """Use `connect`."""
        self.catalog = catalog
        self.base_dir = Path.cwd() if base_dir is None else Path(base_dir)
        self.progress: ProgressSink | None = None
        self.cancelled = threading.Event()
        """Set while the running statement is to stop; cleared by the next one."""
        self.analyzed: dict[str, Analyzed] = {}
        self._caller: FrameType | None = None
        self._advice: str | None = None
        self._cache: ResultCache | None = None
        self._abandoned: Abandoned | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs, write what was recorded, close the catalog."""
        self.cancel()
        self.catalog.close()

    def cancel(self) -> None:
        """Stop the running statement; it raises OC0402."""
        self.cancelled.set()

    # --- statements -------------------------------------------------------------------------

    def sql(self, text: str, *, name: str | None = None, advice: str | None = None) -> Result:
        """Run a script and give its last statement's result.

        Local data frames and Arrow tables can be named as tables, as in DuckDB. `advice` binds the
        plans of its queries, like EXPLAIN's ADVICE; what cannot be followed is an error.

        Raises:
            OctansError: of the statement that failed, with its span; those before it have run.
        """
        result = Result(message="nothing to run")
        self._caller, self._advice = sys._getframe(1), advice
        try:
            for each in self._run(text, name):
                result = each
        finally:
            self._caller = self._advice = None
        return result

    def run_script(self, text: str, name: str | None = None) -> Iterator[Result]:
        """The result of each statement in turn; `name` is the file's, for diagnostics."""
        yield from self._run(text, name)

    def explain(self, text: str, *, name: str | None = None) -> Explanation:
        """What EXPLAIN of one query knows, as data."""
        queries = self._queries(text, name)
        if len(queries) != 1:
            raise PlanError(f"one query is to be explained, not {len(queries)}", code="OC0302")
        self._caller = sys._getframe(1)
        try:
            return self._located(lambda: self._plan(queries[0]).explain(), text, name)
        finally:
            self._caller = None

    def estimate(self, text: str, name: str | None = None) -> Iterator[tuple[str, Cost]]:
        """For every query of a script that calls models its text and what it would cost.

        Nothing runs and nothing is declared: what the queries need has to be in the catalog.
        """
        for statement in self._queries(text, name):
            planned = self._located(lambda s=statement: self._plan(s), text, name)  # type: ignore[misc]
            if planned.query is not None:
                yield planned.bound.text, planned.query.chosen.cost

    def quotes(self, text: str, name: str | None = None) -> list[tuple[str, tuple[str, ...]]]:
        """For every ANALYZE of a script its text and what can be said of its price."""
        from .quoting import priced

        return self._located(lambda: priced(self, parse(text)), text, name)

    def tables(self) -> tuple[str, ...]:
        """The user's own tables and views."""
        with self.catalog.cursor() as cursor:
            rows = cursor.execute(
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = 'main' ORDER BY 1"
            ).fetchall()
        return tuple(row[0] for row in rows)

    def environment(self) -> Environment:
        """What a run needs of this session."""
        from .executor.abandoned import Abandoned
        from .executor.environment import Environment

        if self._abandoned is None:
            self._abandoned = Abandoned()
        settings = self.catalog.settings
        return Environment(
            cursor=self.catalog.cursor,
            models={model.name: model for model in self.catalog.models()},
            variants={v.full_name: v for v in self.catalog.variants()},
            devices={device.name: device for device in self.devices()},
            cancel=self.cancelled,
            progress=self.progress if settings.progress else None,
            base_dir=self.base_dir,
            cache=self._results() if settings.cache else None,
            workers=settings.workers,
            call_timeout=settings.call_timeout,
            abandoned=self._abandoned,
        )

    def _results(self) -> ResultCache:
        """The results of calls that this session keeps."""
        from .executor.cache import ResultCache

        if self._cache is None:
            self._cache = ResultCache()
        return self._cache

    def devices(self) -> tuple[Device, ...]:
        """The declared devices; without any, this machine's cores, free of charge."""
        declared = self.catalog.devices()
        if declared:
            return declared
        return (_this_machine(),)

    def declare_devices(self) -> None:
        """Declare this machine where no device is: what is measured is measured on a device."""
        if not self.catalog.devices():
            self.catalog.save(_this_machine(), replace=False)

    def now(self) -> datetime:
        """The time, UTC."""
        return datetime.now(UTC)

    @contextmanager
    def visible(self, name: str, table: pa.Table) -> Iterator[None]:
        """Make a table visible as `name` for a while."""
        self.catalog.register(name, table)
        try:
            yield
        finally:
            self.catalog.unregister(name)

    def _run(self, text: str, name: str | None) -> Iterator[Result]:
        for statement in self._located(lambda: parse(text), text, name):
            self.cancelled.clear()
            yield self._located(lambda s=statement: self._execute(s), text, name, statement.span)  # type: ignore[misc]

    def _located(
        self, work: Callable[[], T], text: str, name: str | None, span: Span | None = None
    ) -> T:
        """Do the work; an error gets its text and, where it has no place, the statement's line."""
        try:
            return work()
        except OctansError as error:
            if error.span is None and error.source is None and span is not None:
                line = text[span.start : span.end].split("\n", 1)[0]
                error.span = Span(span.start, span.start + len(line.rstrip()))
            raise error.in_source(text, name) from error.__cause__
        except RuntimeError as error:
            if str(error) != "Query interrupted":  # how DuckDB tells this thread of Ctrl-C
                raise
            raise RunError("cancelled", code="OC0402").in_source(text, name) from error
        except RecursionError as error:
            deep = SyntaxProblem("an expression is nested too deeply", code="OC0109", span=span)
            raise deep.in_source(text, name) from error

    def _queries(self, text: str, name: str | None) -> list[ast.Select]:
        found = []
        for statement in self._located(lambda: parse(text), text, name):
            match statement:
                case ast.Select():
                    found.append(statement)
                case ast.Explain() | ast.CopyTo():
                    found.append(statement.select)
                case _:
                    continue
        return found

    def _execute(self, statement: ast.Statement) -> Result:
        """Carry out one statement."""
        match statement:
            case ast.Select():
                return self._plan(statement).run()
            case ast.Explain():
                return self._plan(statement.select, statement.options).explained()
            case ast.CopyTo():
                return self._plan(statement.select).copy_to(statement.target)
            case ast.Analyze():
                from .analyzing import analyze

                self._see_frames(statement.using)
                return analyze(self, statement)
            case ast.Derive():
                from .proposing import derive

                return derive(self, statement)
            case ast.Show():
                from .environments import notice
                from .plain import rows_of

                of = None if statement.of is None else statement.of.text
                notice(self)
                return rows_of(self.catalog.show(statement.kind, of))
            case ast.Describe():
                return self._describe(statement)
            case ast.Drop():
                name = statement.name.text
                there = self.catalog.drop(statement.kind, name, if_exists=statement.if_exists)
                return Result(
                    message=f"{'dropped' if there else 'there is no'} {statement.kind} {name}"
                )
            case ast.SetSetting():
                return self._set(statement)
            case ast.ResetSetting():
                name = statement.name.text
                if name.lower() not in self.catalog.settings:
                    return self._plain_setting(name, f"RESET {name}")
                self.catalog.settings.reset(name)
                self._age_changed()
                return Result(message=f"reset {name}")
            case ast.PlainSql():
                return self._plain_sql(statement)
            case _:
                return self._define(statement)

    def _define(self, statement: Definition) -> Result:
        from .dsl.binder import bind_definition
        from .knowing import check_quality, filled_by

        definition = bind_definition(statement, self.catalog)
        check_quality(definition, statement)
        if isinstance(statement, ast.CreateVariant) and isinstance(definition, Variant):
            from .deriving import create

            return create(self, statement, definition)
        saved = self.catalog.save(definition, replace=statement.replace)
        if isinstance(saved, Link):
            return Result(message=f"created link {saved.source} to {saved.target}")
        name = saved.full_name if isinstance(saved, Variant) else saved.name
        version = (
            ""
            if isinstance(saved, Slo | Link) or saved.version == 1
            else f" (version {saved.version})"
        )
        if isinstance(saved, ExtendedStatistics):
            filled = filled_by(saved, self.catalog)
            return Result(message=f"created statistics {name}{version}\nnote: {filled}")
        return Result(message=f"created {type(saved).__name__.lower()} {name}{version}")

    def _plan(self, statement: ast.Select, options: ast.ExplainOptions | None = None) -> Planned:
        from .planning import Planned

        self._see(statement.query.tree)
        return Planned.of(self, statement, options or ast.ExplainOptions(), self._advice)

    def _plain_sql(self, statement: ast.PlainSql) -> Result:
        """DuckDB's work, but for a stored query that calls models."""
        from .plain import explained_refusal, refuse_own, stores_calls

        observed = refuse_own(statement)
        if stores_calls(self, statement) and statement.select is not None:
            return self._plan(statement.select).store(statement.head, observed)
        if statement.tree is not None:
            self._see(statement.tree)
        try:
            return self.plain(statement.text, observed)
        except RunError as error:
            raise explained_refusal(self, statement, error) from error.__cause__

    def _describe(self, statement: ast.Describe) -> Result:
        from .plain import rows_of

        found = self.catalog.describe_name(statement.name.text)
        return self.plain(f"DESCRIBE {statement.name.text}") if found is None else rows_of(found)

    def _set(self, statement: ast.SetSetting) -> Result:
        """Ours, else DuckDB's."""
        name, value = statement.name.text, statement.value
        if name.lower() not in self.catalog.settings:
            return self._plain_setting(name, f"SET {name} = {_setting_sql(value)}")
        unit = value.dimension if isinstance(value, ast.Quantity) else ""
        given = _setting_value(value)
        if name.lower() == "disabled_rules":
            _check_rules(given, statement.span)
        self.catalog.settings.set(name, given, unit=unit)
        self._age_changed()
        return Result(message=f"set {name}")

    def _age_changed(self) -> None:
        """The view of statistics judges by the session's age, so every cursor has to know it."""
        age = self.catalog.settings.max_statistics_age
        value = "'infinity'::DOUBLE" if age is None else repr(age)
        self.catalog.remember("max_statistics_age", f"SET VARIABLE octans_max_age = {value}")

    def _plain_setting(self, name: str, text: str) -> Result:
        """DuckDB's settings; one it does not know either may be ours, misspelt."""
        try:
            return self.plain(text)
        except RunError as error:
            if "unrecognized configuration parameter" in error.message:
                self.catalog.settings.get(name)  # raises what names ours
            raise

    def plain(self, text: str, observed: Span | None = None) -> Result:
        """DuckDB's own work; `observed`: where octans.observations stands if it inserts into it.

        Raises:
            CatalogError: OC0516, an observation is no measurement.
            RunError: OC0420, DuckDB refuses; OC0421, it would be gone with this statement.
        """
        from .plain import run_plain

        return run_plain(self.catalog, text, self.cancelled, observed)

    def _see(self, tree: exp.Expression) -> None:
        """Look at what a query is about: frames, and whether what the catalog says still holds."""
        from sqlglot import exp

        self._see_frames(tree)
        if any(table.db.lower() == "octans" for table in tree.find_all(exp.Table)):
            from .environments import notice

            notice(self)

    def _see_frames(self, tree: exp.Expression | ast.Fragment) -> None:
        """Register the data frames of the caller's scope that a query names as tables."""
        from .replacement import register_frames

        tree = tree.tree if isinstance(tree, ast.Fragment) else tree
        register_frames(self.catalog, tree, self._caller)


def _this_machine() -> Device:
    import os

    return Device("cpu", "cpu", count=os.cpu_count() or 1, threads=1)


def _check_rules(given: object, span: Span) -> None:
    """Only rules that exist can be disabled.

    Raises:
        CatalogError: OC0510.
    """
    from .dsl.diagnostics import nearest
    from .planner.rules import RULE_NAMES

    names = given.split(",") if isinstance(given, str) else given
    for name in names if isinstance(names, list | tuple) else ():
        if name.strip() and name.strip() not in RULE_NAMES:
            raise CatalogError(
                f"there is no rule {name.strip()}",
                code="OC0510",
                span=span,
                candidates=nearest(name.strip(), RULE_NAMES),
                hint="EXPLAIN (STEPS) names the rules of a plan; all: " + ", ".join(RULE_NAMES),
            )


def _setting_value(value: SettingValue) -> str | float | tuple[str, ...] | None:
    match value:
        case tuple():
            return tuple(str(_setting_value(item)) for item in value)
        case ast.Name():
            return value.text
        case _:
            return value.value


def _setting_sql(value: SettingValue) -> str:
    match value:
        case tuple():
            return "[" + ", ".join(_setting_sql(item) for item in value) + "]"
        case ast.Name() | ast.Quantity():
            return value.text
        case _:
            return scalar_text(value.value)
