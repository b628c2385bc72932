"""The engine: builds the threads of a plan, hands out its result, stops it, accounts for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

import pyarrow as pa

from ..errors import InternalError, OctansError
from ..ir.explain import NodeActuals
from ..ir.node import parents
from ..ir.physical import (
    PhysicalNode,
    PhysicalPlan,
    SqlResidual,
    SqlScan,
    SqlStep,
    Stage,
    StopAfter,
)
from ..stats.observation import Observation
from .channels import Pumps, Stopped, Stream, close_generator
from .chunks import ChunkSizer
from .environment import Environment, Failure
from .failures import cancelled, row_failed
from .relational import StepWorker, only_selects, scan, stop_after
from .residual import Shared, Spool, residual
from .service import ServiceTimes, by_step
from .stages import StageWorker
from .state import RowsFailed, RunState, derived_columns, finishing_nodes

JOIN_SECONDS = 0.5
"""How long a stopped run waits for its threads; a model call that runs on is left behind."""


class Execution:
    """A plan about to run; `batches`, `reader` or `read_all` runs it, once."""

    def __init__(self, plan: PhysicalPlan, env: Environment) -> None:
        self._plan = plan
        self._state = RunState(env, plan.on_error, plan.stages)
        self._pumps = Pumps(self._state.stopped, self._state.fail)
        self._spool = Spool(self._state)
        self._used = False
        self.schema: pa.Schema = self._state.arrow_schema(plan.root.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The result, in order.

        Raises:
            RunError: a row failed (OC0401), cancelled (OC0402), or another OC04xx.
        """
        if self._used:
            raise InternalError("an execution runs once", code="OC0902")
        self._used = True
        state = self._state
        stream = _Builder(self._plan, state, self._pumps, self._spool).build()
        state.finishing = finishing_nodes(self._plan.root)
        finishes = self._plan.root in state.finishing
        self._pumps.start()
        try:
            for chunk in stream.chunks:
                yield self._conform(chunk.batch)
                if finishes:
                    state.finished(chunk.rows)
                state.report_progress()
            if not finishes and state.rows_total is not None:
                state.rows_done = max(state.rows_done, state.rows_total)
            state.report_progress(last=True)
            self._raise_failure()
        except (Stopped, RowsFailed, KeyboardInterrupt) as error:
            self._raise_failure()
            if isinstance(state.error, OctansError):
                raise state.error from None
            state.stop()
            raise cancelled(state.rows_done) from error
        finally:
            close_generator(stream.chunks)
            stream.close()
            self._finish()

    def reader(self) -> pa.RecordBatchReader:
        """The result as an Arrow reader; it runs as it is read."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches())

    def read_all(self) -> pa.Table:
        """The whole result."""
        try:
            return pa.Table.from_batches(list(self.batches()), self.schema)
        except KeyboardInterrupt as error:  # between two batches
            raise cancelled(self._state.rows_done) from error

    def cancel(self) -> None:
        """Stop soon; whoever reads the result gets OC0402."""
        self._state.stop()

    @property
    def actuals(self) -> Mapping[str, NodeActuals]:
        """By node fingerprint; complete once the result has been read."""
        return self._state.telemetry.actuals(self._state.env.devices)

    @property
    def failures(self) -> list[Failure]:
        """Failed rows, the first ten thousand; `actuals` count them all.

        Where equal inputs were called once, a failure stands at the first row that had the input.
        """
        return sorted(self._state.failures, key=lambda failure: failure.row)

    @property
    def failed_rows(self) -> int:
        """Distinct source rows on which a call failed, so far."""
        return self._state.telemetry.failed_rows(self._plan.root)

    @property
    def timed_out_rows(self) -> int:
        """Rows whose call was given up, so far; calls made once for equal inputs count once."""
        return sum(meter.timed_out_rows for meter in self._state.telemetry.stages.values())

    def service_times(self) -> ServiceTimes:
        """How long single rows took at the stages, waiting left out."""
        meters = self._state.telemetry.stages
        stages = tuple(stage for stage in self._plan.stages if stage in meters)
        groups: dict[str, list[int]] = {}
        for place, stage in enumerate(stages):
            groups.setdefault(stage.step, []).append(place)
        samples = [meters[stage].service for stage in stages]
        sources = {_source(stage) for stage in stages}
        same = len(sources) == 1 and None not in sources
        return ServiceTimes(tuple(groups), *by_step(samples, list(groups.values()), same=same))

    @property
    def rows_done(self) -> int:
        """Source rows finished so far."""
        return self._state.rows_done

    def samples(self) -> list[tuple[SqlScan, int, pa.Table]]:
        """Of each source: how many rows it had, and a uniform sample of them before any call."""
        telemetry = self._state.telemetry
        return [
            (node, telemetry.flow(node).rows_out, kept.table(self._state.arrow_schema(node.fields)))
            for node, kept in telemetry.sources.items()
        ]

    def observations(self) -> list[Observation]:
        """What the run measured, for the catalog."""
        return self._state.telemetry.observations()

    def _raise_failure(self) -> None:
        if self._state.on_error == "fail" and (failure := self._state.first_failure()):
            raise row_failed(failure) from None

    def _conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.schema.equals(self.schema):
            return batch
        columns = [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(batch.columns, self.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _finish(self) -> None:
        state = self._state
        quiet = self._pumps.join(JOIN_SECONDS / 10)
        if not quiet:
            state.stop()
            quiet = self._pumps.join(JOIN_SECONDS)
        if quiet:
            state.close()
            state.models.close()
            for stage, seconds in state.models.unloads():
                state.telemetry.stage(stage).unloads.append(seconds)
        state.meters.close()


class _Builder:
    """Turns the plan's nodes into streams; every stage and the result have a thread of their own.

    Scans and steps run in the thread that reads them: DuckDB has its own threads and reads ahead.
    """

    def __init__(self, plan: PhysicalPlan, state: RunState, pumps: Pumps, spool: Spool) -> None:
        self._root = plan.root
        self._state = state
        self._pumps = pumps
        self._spool = spool
        self._derived = derived_columns(plan.root)
        readers = parents(plan.root)
        self._shared = {
            node
            for node, above in readers.items()
            if sum(reader.children.count(node) for reader in above) > 1
        }
        self._spooled: dict[PhysicalNode, Shared] = {}

    def build(self) -> Stream:
        """The root's stream, always fed by a thread, so that its reader can be interrupted."""
        return self._pumped(self._root)

    def _pumped(self, top: PhysicalNode) -> Stream:
        """A chain worked off by a thread: for the caller, or for DuckDB, which pulls in its own."""
        chain = self._chain(top)
        node = top
        while isinstance(node, SqlStep) and node not in self._shared and only_selects(node):
            node = node.input
        by_itself = isinstance(node, Stage) and node not in self._shared
        return chain if by_itself else self._pumps.pump("relation", chain)

    def _chain(self, top: PhysicalNode) -> Stream:
        """A new chain of chunks, sized for all stages down to where it starts."""
        batches: list[int] = []
        node = top
        while node not in self._shared and isinstance(node, Stage | SqlStep | StopAfter):
            if isinstance(node, Stage):
                batches.append(node.choice.batch)
            node = node.input
        return self._stream(top, ChunkSizer(batches))

    def _stream(self, node: PhysicalNode, sizer: ChunkSizer) -> Stream:
        if node not in self._shared:
            return self._node(node, sizer)
        shared = self._spooled.get(node)
        if shared is None:
            below = self._unshared(node)
            shared = self._spooled[node] = Shared(node, below, self._spool, self._state)
        return Stream(shared.chunks(sizer))

    def _unshared(self, node: PhysicalNode) -> Stream:
        self._shared.remove(node)
        try:
            return self._pumped(node)
        finally:
            self._shared.add(node)

    def _node(self, node: PhysicalNode, sizer: ChunkSizer) -> Stream:
        state = self._state
        match node:
            case SqlScan():
                return Stream(scan(node, state, sizer))
            case SqlStep():
                below = self._stream(node.input, sizer)
                step = StepWorker(node, state, self._derived[node])
                return Stream(step.chunks(below), below.channels)
            case Stage():
                below = self._stream(node.input, sizer)
                stage = StageWorker(node, below, state, self._derived[node], sizer)
                return self._pumps.pump(node.step, Stream(stage.chunks(), below.channels))
            case StopAfter():
                below = self._stream(node.input, sizer)
                return Stream(stop_after(node, below, state), below.channels)
            case SqlResidual():
                inputs = tuple(self._pumped(child) for child in node.inputs)
                channels = tuple(channel for stream in inputs for channel in stream.channels)
                chunks = residual(node, inputs, state, self._spool, sizer, self._derived[node])
                return Stream(chunks, channels)
        assert_never(node)


def _source(node: PhysicalNode) -> SqlScan | None:
    """The scan whose rows the node's rows are; None where something relational lies between."""
    while isinstance(node, Stage | SqlStep | StopAfter):
        node = node.input
    return node if isinstance(node, SqlScan) else None


def run(plan: PhysicalPlan, env: Environment) -> Execution:
    """Prepare a plan to run."""
    return Execution(plan, env)
