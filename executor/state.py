"""What the threads of one run share: whether to stop, what failed, Arrow types, the spool."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from ..ir.node import Node
from ..ir.physical import PhysicalNode, Stage
from ..ir.types import Schema
from .chunks import Rows
from .environment import Environment, Failure
from .kinds import ELSEWHERE
from .power import Meters, SharedMeter
from .slots import Models, Slots
from .telemetry import Telemetry

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_FAILURES = 10_000
"""Failures kept one by one under ON ERROR NULL and SKIP; all are counted."""


class RowsFailed(Exception):
    """Ends a stream under ON ERROR FAIL; the failures themselves are in the run's state."""


class RunState:
    """Shared by the threads of one run."""

    def __init__(
        self,
        env: Environment,
        on_error: str,
        stages: Iterable[Stage],
        *,
        models: Models | None = None,
        meters: Meters | None = None,
        types: dict[str, pa.DataType] | None = None,
        max_failures: int = MAX_FAILURES,
    ) -> None:
        """`models`, `meters` and `types` (known Arrow types) given outlive the run."""
        self.env = env
        self.on_error = on_error
        self.telemetry = Telemetry()
        self.meters = meters or Meters(env.devices)
        self.models = models or Models(
            env.models, env.variants, env.devices, env.base_dir, self.meters
        )
        self.slots = Slots(env.devices, self.stopped, env.workers)
        self.failures: list[Failure] = []
        self._max_failures = max_failures
        self.error: BaseException | None = None
        self.rows_done = 0
        self.finishing: frozenset[PhysicalNode] = frozenset()
        self.rows_total: int | None = None
        self.plan_order = {stage.step: i for i, stage in enumerate(stages)}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._cursors: list[DuckDBPyConnection] = []
        self._types = {} if types is None else types
        self._undo: list[Callable[[], None]] = []
        self._progress_at = 0.0

    def meter(self, stage: Stage) -> SharedMeter | None:
        """What counts the energy of the stage's calls; None where nothing here does."""
        variant = self.env.variants.get(stage.choice.variant)
        backend = None if variant is None else variant.backend
        if backend is not None and backend.kind in ELSEWHERE:
            return None
        return self.meters.of(stage.choice.device)

    def stopped(self) -> bool:
        """Whether everybody should stop."""
        return self._stop.is_set() or self.env.cancel.is_set()

    def stop(self) -> None:
        """Stop everybody, DuckDB's running queries included."""
        self._stop.set()
        with self._lock:
            cursors = list(self._cursors)
        for cursor in cursors:
            with contextlib.suppress(Exception):
                cursor.interrupt()

    def fail(self, error: BaseException) -> None:
        """Keep the first error; later ones follow from it."""
        with self._lock:
            if self.error is None:
                self.error = error

    def finished(self, rows: Rows) -> None:
        """Rows, ascending, of a node whose rows are finished: so are all before them."""
        if len(rows):
            self.rows_done = max(self.rows_done, int(rows[-1]) + 1)

    def add_failures(self, failures: Iterable[Failure]) -> None:
        """Keep failed rows, up to `max_failures`."""
        with self._lock:
            room = self._max_failures - len(self.failures)
            self.failures.extend(list(failures)[:room])

    def first_failure(self) -> Failure | None:
        """The lowest failed row; of several steps failing on it, the first in plan order."""
        with self._lock:
            return min(
                self.failures,
                key=lambda f: (f.row, self.plan_order.get(f.step, 0)),
                default=None,
            )

    def cursor(self) -> DuckDBPyConnection:
        """A cursor for the calling thread, closed when the run ends."""
        cursor = self.env.cursor()
        with self._lock:
            self._cursors.append(cursor)
        return cursor

    def at_end(self, undo: Callable[[], None]) -> None:
        """Call `undo` when the run has ended."""
        self._undo.append(undo)

    def close(self) -> None:
        """Undo and close what the run opened."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        with self._lock:
            cursors, self._cursors = self._cursors, []
        for cursor in cursors:
            cursor.close()

    def arrow_types(self, texts: Iterable[str]) -> Mapping[str, pa.DataType]:
        """Arrow types as DuckDB exports them, by DuckDB's type text."""
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._types]
            if new:
                columns = ", ".join(f"CAST(NULL AS {text}) AS c{i}" for i, text in enumerate(new))
                cursor = self.env.cursor()
                try:
                    schema = cursor.sql(f"SELECT {columns} LIMIT 0").to_arrow_table().schema
                finally:
                    cursor.close()
                self._types.update(zip(new, schema.types, strict=True))
            return self._types

    def arrow_schema(self, schema: Schema) -> pa.Schema:
        """A plan's schema in Arrow."""
        types = self.arrow_types(field.type for field in schema)
        return pa.schema([pa.field(field.name, types[field.type]) for field in schema])

    def report_progress(self, *, last: bool = False) -> None:
        """Tell the sink, about ten times a second; the `last` time in any case."""
        sink = self.env.progress
        now = time.monotonic()
        if sink is None or (now - self._progress_at < 0.1 and not last):
            return
        self._progress_at = now
        total = self.rows_total
        if total is None and self.rows_done <= (self.env.rows_expected or -1):
            total = self.env.rows_expected
        sink.update(self.rows_done, total, self.telemetry.lines())


def finishing_nodes(root: PhysicalNode) -> frozenset[PhysicalNode]:
    """The nodes whose rows have been through all stages: `rows_done` counts them.

    The root, where a stage or a scan feeds it row by row; else what its SQL reads that is above all
    stages. Equal inputs called once are numbered as the first row that had them, and all rows
    before that one had earlier inputs. Of branches with stages of their own the furthest counts.
    """
    from ..ir.physical import SqlResidual, SqlScan, SqlStep, StopAfter

    node = root
    while isinstance(node, SqlStep | StopAfter):
        node = node.input
    if isinstance(node, Stage | SqlScan):
        return frozenset((root,))
    below: dict[Node, frozenset[Stage]] = {}
    for each in root.postorder():
        own = frozenset((each,)) if isinstance(each, Stage) else frozenset[Stage]()
        below[each] = own.union(*(below[child] for child in each.children))
    fed = {child for each in below if isinstance(each, SqlResidual) for child in each.inputs}
    most = max((len(below[child]) for child in fed), default=0)
    return frozenset(child for child in fed if len(below[child]) == most)


def derived_columns(root: PhysicalNode) -> dict[PhysicalNode, frozenset[str]]:
    """For every node the columns computed from model outputs; a residual keeps them by name."""
    from ..ir.physical import SqlResidual, SqlScan, SqlStep, StopAfter

    found: dict[PhysicalNode, frozenset[str]] = {}
    for node in root.postorder():
        match node:
            case SqlScan():
                found[node] = frozenset()
            case Stage():
                found[node] = found[node.input] | {field.name for field in node.outputs}
            case SqlStep():
                below = found[node.input]
                found[node] = frozenset(
                    named.name for named in node.columns if below.intersection(named.expr.columns)
                )
            case StopAfter():
                found[node] = found[node.input]
            case SqlResidual():
                names = {field.name for field in node.fields}
                below = frozenset().union(*(found[child] for child in node.inputs))
                found[node] = below & names
    return found
