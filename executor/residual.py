"""Relational work over whole inputs: residual SQL, and relations that several nodes read.

DuckDB pulls from our threads through Arrow streams. No two queries wait for each other's rows in
both directions: a plan is a DAG, and what several nodes read is spooled into a table first.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from ..ir.physical import PhysicalNode, SqlResidual
from ..ir.types import FAILED, ROW, Schema, names
from .channels import POLL_SECONDS, Stopped, Stream
from .chunks import Chunk, ChunkSizer, rechunk, row_numbers, with_nulls
from .relational import query_failed, run_query
from .state import RowsFailed, RunState
from .telemetry import FlowMeter, is_lookup

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_spools = itertools.count()


def feed(
    node: PhysicalNode,
    source: Stream,
    state: RunState,
    *,
    failed: bool,
    meter: FlowMeter | None = None,
) -> pa.RecordBatchReader:
    """A node's stream as an Arrow reader for DuckDB, with `__row` and, if asked for, `__failed`."""
    finishes = node in state.finishing
    arrow = state.arrow_schema(node.schema).append(pa.field(ROW, pa.int64()))
    if failed:
        arrow = arrow.append(pa.field(FAILED, pa.bool_()))

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for chunk in source.chunks:
                columns = [
                    column if column.type == dtype else column.cast(dtype)
                    for column, dtype in zip(chunk.batch.columns, arrow.types, strict=False)
                ]
                columns.append(pa.array(chunk.rows))
                if failed:
                    mask = np.zeros(len(chunk), np.bool_) if chunk.failed is None else chunk.failed
                    columns.append(pa.array(mask))
                if finishes:
                    state.finished(chunk.rows)
                if meter is not None:
                    meter.rows_in += len(chunk)
                    meter.failed_in += int(mask.sum()) if failed else 0
                yield pa.RecordBatch.from_arrays(columns, schema=arrow)
            if state.on_error == "fail" and state.failures:
                raise RowsFailed
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                state.fail(error)
            raise

    return pa.RecordBatchReader.from_batches(arrow, batches())


def times_read(sql: str, name: str) -> int:
    """How often a residual's SQL may read an input: its name where no column follows it."""
    return len(re.findall(rf'(?<![\w."]){name}(?![\w.])|"{name}"(?!\s*\.)', sql))


class Spool:
    """Relations several readers share, as tables of an attached in-memory database.

    Not temporary tables: those are seen by one cursor only. DuckDB spills them to its temporary
    directory when memory is short.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._name: str | None = None
        self._tables = 0

    def store(self, node: PhysicalNode, source: Stream, meter: FlowMeter | None = None) -> str:
        """Write a node's stream off into a table, counted by `meter`; its qualified name."""
        state = self._state
        cursor = state.cursor()
        table = self._table(cursor)
        reader = feed(node, source, state, failed=True, meter=meter)
        try:
            cursor.register("octans_feed", reader)
            cursor.execute(f"CREATE TABLE {table} AS SELECT * FROM octans_feed")
            cursor.unregister("octans_feed")
        except duckdb.Error as error:
            raise query_failed(state, error) from error
        finally:
            source.close()
        return table

    def _table(self, cursor: DuckDBPyConnection) -> str:
        with self._lock:
            if self._name is None:
                self._name = f"octans_spool_{next(_spools)}"
                cursor.execute(f"ATTACH ':memory:' AS {self._name}")
                self._state.at_end(self._detach)
            self._tables += 1
            return f"{self._name}.main.relation_{self._tables}"

    def _detach(self) -> None:
        cursor = self._state.env.cursor()
        cursor.execute(f"DETACH {self._name}")
        cursor.close()


class Shared:
    """A node with several readers: the first one to come writes it off, each scans the table."""

    def __init__(self, node: PhysicalNode, source: Stream, spool: Spool, state: RunState) -> None:
        self._node = node
        self._source = source
        self._spool = spool
        self._state = state
        self._lock = threading.Lock()
        self._table: str | None = None

    def chunks(self, sizer: ChunkSizer) -> Iterator[Chunk]:
        """All rows, for one reader."""
        while not self._lock.acquire(timeout=POLL_SECONDS):
            if self._state.stopped():
                raise Stopped
        try:
            if self._table is None:
                self._table = self._spool.store(self._node, self._source)
        finally:
            self._lock.release()
        state = self._state
        cursor = state.cursor()
        sql = f"SELECT * FROM {self._table}"
        schema = self._node.schema
        yield from numbered(run_query(state, cursor, sql, schema), schema, sizer)


def numbered(
    batches: Iterator[pa.RecordBatch], schema: Schema, sizer: ChunkSizer
) -> Iterator[Chunk]:
    """Chunks of rows that may bring `__row` and `__failed`; else they are numbered as they come."""
    wanted = list(names(schema))
    for first, batch in rechunk(batches, sizer):
        rows = row_numbers(first, batch.num_rows)
        failed = None
        if ROW in batch.schema.names:
            rows = np.asarray(batch.column(ROW).to_numpy(zero_copy_only=False), dtype=np.int64)
        if FAILED in batch.schema.names:
            mask = batch.column(FAILED).fill_null(False).to_numpy(zero_copy_only=False)
            failed = np.asarray(mask, dtype=np.bool_) if mask.any() else None
        yield Chunk(batch.select(wanted), rows, failed)


def residual(
    node: SqlResidual,
    sources: tuple[Stream, ...],
    state: RunState,
    spool: Spool,
    sizer: ChunkSizer,
    derived: frozenset[str],
) -> Iterator[Chunk]:
    """DuckDB over whole inputs; an input that its SQL reads more than once is spooled.

    SQL that names `__failed` keeps it: rows it marks lose all that is `derived` from models.
    """
    meter = state.telemetry.flow(node)
    cursor = state.cursor()
    marked = FAILED in node.sql
    try:
        for i, (child, source) in enumerate(zip(node.inputs, sources, strict=True)):
            name = f"in{i}"
            counted = meter if i == 0 else None
            if times_read(node.sql, name) > 1:
                table = spool.store(child, source, counted)
                cursor.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {table}")
            else:
                cursor.register(name, feed(child, source, state, failed=marked, meter=counted))
        result = run_query(state, cursor, node.sql, node.fields)
        for chunk in numbered(result, node.fields, sizer):
            meter.rows_out += len(chunk)
            if chunk.failed is not None:
                meter.failed_out += int(chunk.failed.sum())
                meter.failed = max(0, meter.failed_out - meter.failed_in)
                chunk = Chunk(with_nulls(chunk, derived), chunk.rows, chunk.failed)
            yield chunk
        if is_lookup(node) and state.on_error == "skip":
            # A lookup that keeps the mark loses exactly the rows whose input failed.
            meter.failed = meter.rows_in - meter.rows_out
    except duckdb.Error as error:
        raise query_failed(state, error) from error
    finally:
        for source in sources:
            source.close()
    if state.on_error == "fail" and state.failures:
        raise RowsFailed
