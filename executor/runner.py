"""Lends single stages and steps to profiling, on the same code that runs queries."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from ..errors import RunError
from ..ir.physical import Choice, SqlScan, SqlStep, Stage
from ..ir.types import ROW
from ..stats.runner import CannotRun, StageRun
from .channels import Stopped, Stream
from .chunks import Chunk, ChunkSizer, join_batches, row_numbers
from .environment import Environment
from .failures import cancelled
from .power import Meters
from .relational import StepWorker, scan
from .slots import Models
from .stages import StageWorker
from .state import RunState


class LocalRunner:
    """Runs pieces of a plan on small tables, in the calling thread.

    A variant is loaded once for all its runs; `close` releases them.
    """

    def __init__(self, env: Environment) -> None:
        self._env = replace(env, cache=None)  # what is measured has to run
        self._meters = Meters(env.devices)
        self._models = Models(env.models, env.variants, env.devices, env.base_dir, self._meters)
        self._told: dict[Choice, int] = {}
        self._types: dict[str, pa.DataType] = {}

    def scan(self, scan_: SqlScan) -> pa.Table:
        """The scan's rows in source order, with `__row`.

        Raises:
            RunError: OC0402 cancelled, OC0407 DuckDB refused.
        """
        state = self._state(())
        try:
            schema = state.arrow_schema(scan_.fields).append(pa.field(ROW, pa.int64()))
            batches = [
                pa.RecordBatch.from_arrays(
                    [*chunk.batch.columns, pa.array(chunk.rows)], names=schema.names
                ).cast(schema)
                for chunk in scan(scan_, state, ChunkSizer(()))
            ]
            return pa.Table.from_batches(batches, schema)
        except Stopped as stopped:
            raise cancelled(0) from stopped
        finally:
            state.close()

    def run_step(self, step: SqlStep, table: pa.Table) -> pa.Table:
        """The step's columns over the table; its `__row` is kept if it has one.

        Raises:
            RunError: OC0407 DuckDB refused.
        """
        state = self._state(())
        try:
            rows = row_numbers(0, table.num_rows)
            if ROW in table.schema.names:
                rows = np.asarray(table.column(ROW).to_numpy(), dtype=np.int64)
            done = StepWorker(step, state, frozenset()).apply(Chunk(_one_batch(table), rows))
            made = pa.Table.from_batches([done.batch])
            if ROW in table.schema.names:
                made = made.append_column(ROW, pa.array(done.rows))
            return made
        finally:
            state.close()

    def run_stage(self, stage: Stage, table: pa.Table) -> StageRun:
        """The stage on the table, with its own choice; failed rows have NULL outputs.

        Raises:
            RunError: OC0402 cancelled.
            CannotRun: the variant cannot run, or not any more.
        """
        state = self._state((stage,))
        meter = state.telemetry.stage(stage)
        meter.trace = []
        chunk = Chunk(_one_batch(table), row_numbers(0, table.num_rows))
        source = Stream(iter([chunk] if len(chunk) else []))
        derived = frozenset(output.name for output in stage.outputs)
        try:
            done = list(StageWorker(stage, source, state, derived).chunks())
            schema = table.schema
            for field in state.arrow_schema(stage.outputs):
                schema = schema.append(field)
            answered = pa.Table.from_batches([chunk.batch for chunk in done], schema)
        except Stopped as stopped:
            raise cancelled(0) from stopped
        except RunError as error:
            called, failed = meter.elements, meter.failed_elements
            raise CannotRun(error, stage, elements=called, failed=failed) from error
        finally:
            state.close()
        return StageRun(
            table=answered,
            batch_seconds=[seconds for _, seconds in meter.trace],
            batch_sizes=[size for size, _ in meter.trace],
            elements=meter.elements,
            failed={failure.row: failure.message for failure in state.failures},
            failed_elements=meter.failed_elements,
            failed_seconds=meter.failed_seconds,
            timed_out=meter.timed_out_elements,
            load_seconds=self._loading(stage),
            memory_bytes=meter.memory_bytes,
            energy=meter.energy,
        )

    def load(self, stage: Stage) -> None:
        """Load the stage's variant, which stays loaded.

        Raises:
            RunError: it cannot run here.
        """
        with self._models.borrow(stage):
            return

    def now(self) -> datetime:
        """The time, UTC."""
        return datetime.now(UTC)

    def unloads(self) -> list[tuple[Stage, float]]:
        """Seconds that closing each copy took, once `close` has, by the stages that called it."""
        return self._models.unloads()

    def close(self) -> None:
        """Release the loaded variants and the counters."""
        self._models.close()
        self._meters.close()

    def _loading(self, stage: Stage) -> float | None:
        """Seconds of loading the stage's variant that no run has told yet."""
        choice, loads = stage.choice.replace(batch=1), self._models.loads(stage)
        new = loads[self._told.get(choice, 0) :]
        self._told[choice] = len(loads)
        return sum(new) if new else None

    def _state(self, stages: tuple[Stage, ...]) -> RunState:
        if self._env.cancel.is_set():
            raise cancelled(0)
        return RunState(
            self._env,
            "null",
            stages,
            models=self._models,
            meters=self._meters,
            types=self._types,
            max_failures=2**31,
        )


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table's rows as one batch."""
    if table.num_rows == 0:
        return pa.RecordBatch.from_arrays(
            [pa.nulls(0, field.type) for field in table.schema], schema=table.schema
        )
    return join_batches(table.combine_chunks().to_batches())
