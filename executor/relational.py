"""The relational parts of a run: scans, per-chunk steps, residual SQL, shared relations.

DuckDB pulls from our threads through Arrow streams. Every query runs on a cursor of the thread that
pulls its result, and no two queries wait for each other's rows in both directions: a plan is a DAG
and what several nodes read is spooled into a table first.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from ..ir.physical import PhysicalNode, SqlResidual, SqlScan, SqlStep, StopAfter
from ..ir.types import ROW, NamedExpr, Schema, names, quote
from .channels import POLL_SECONDS, Stopped, Stream
from .chunks import (
    MAX_ROWS,
    Chunk,
    ChunkSizer,
    join_batches,
    rechunk,
    row_numbers,
    with_nulls,
)
from .failures import sql_failed
from .state import RowsFailed, RunState

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

FAILED = "__failed"
"""BOOLEAN: the row failed under ON ERROR NULL. A residual's inputs have it if its SQL names it."""
POSITION = "__position"
NARROW_ROWS, WIDE_ROWS = MAX_ROWS, 1024
"""Rows asked of DuckDB at once: many where a row is small for sure, few where it may be large."""
READ_AHEAD = "4MiB"
"""What DuckDB may compute ahead of us per query; its own 10 MiB gained no speed, only memory."""

_spools = itertools.count()


def query_failed(state: RunState, error: Exception) -> BaseException:
    """What to raise for an error of DuckDB: what stopped our side of it, if that was the cause."""
    if state.stopped():
        return Stopped()
    if state.error is not None and not isinstance(state.error, duckdb.Error):
        return state.error
    text = str(error).strip().splitlines()
    return sql_failed(text[0] if text else type(error).__name__, state.rows_done)


def run_query(
    state: RunState, cursor: DuckDBPyConnection, sql: str, schema: Schema
) -> Iterator[pa.RecordBatch]:
    """Stream a query's result."""
    wide = any("BLOB" in f.type or "VARCHAR" in f.type or "[]" in f.type for f in schema)
    try:
        cursor.execute(f"SET streaming_buffer_size = '{READ_AHEAD}'")
        reader = cursor.sql(sql).to_arrow_reader(WIDE_ROWS if wide else NARROW_ROWS)
        try:
            for batch in reader:
                if state.stopped():
                    raise Stopped
                yield batch
        finally:
            reader.close()
    except (duckdb.Error, pa.ArrowException, OSError) as error:  # the reader's errors are Arrow's
        raise query_failed(state, error) from error


def scan(node: SqlScan, state: RunState, sizer: ChunkSizer) -> Iterator[Chunk]:
    """The rows of a source, numbered in the order DuckDB gives them."""
    meter = state.telemetry.flow(node)
    wanted = list(names(node.fields))
    cursor = state.cursor()
    total = 0
    for first, batch in rechunk(run_query(state, cursor, node.sql, node.fields), sizer):
        total = first + batch.num_rows
        meter.rows_in = meter.rows_out = total
        yield Chunk(batch.select(wanted), row_numbers(first, batch.num_rows))
    state.rows_total = total


class _OneChunk:
    """A relation of one chunk at a time, to which DuckDB binds a query once."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        batches = pa.RecordBatchReader.from_batches(self.batch.schema, [self.batch])
        return batches.__arrow_c_stream__(requested_schema)


class StepWorker:
    """Runs a `SqlStep` chunk by chunk.

    Columns passed through never enter DuckDB; the others are computed by a query bound once and
    executed per chunk (about 0.6 ms, half of what binding anew takes).
    """

    def __init__(
        self,
        node: SqlStep,
        state: RunState,
        derived: frozenset[str],
    ) -> None:
        """`derived` are the model-derived columns of the result."""
        self._node = node
        self._state = state
        self._derived = derived
        self._meter = state.telemetry.flow(node)
        self._computed = [named for named in node.columns if not passes(named)]
        used = {name for named in self._computed for name in named.expr.columns}
        if node.predicate is not None:
            used.update(node.predicate.columns)
        self._needs = [name for name in names(node.input.schema) if name in used]
        self._queries: dict[tuple[bool, pa.Schema], tuple[_OneChunk, DuckDBPyRelation]] = {}
        self._cursor: DuckDBPyConnection | None = None

    def chunks(self, source: Stream) -> Iterator[Chunk]:
        """The stream with the step done; empty chunks vanish."""
        for chunk in source.chunks:
            self._meter.rows_in += len(chunk)
            done = self.apply(chunk)
            self._meter.rows_out += len(done)
            if len(done):
                yield done

    def apply(self, chunk: Chunk) -> Chunk:
        """The step on one chunk."""
        computed: dict[str, pa.Array] = {}
        if self._computed or self._node.predicate is not None:
            result = self._ask(chunk)
            if self._node.predicate is not None:
                kept = np.asarray(result.column(POSITION).to_numpy(), dtype=np.int64)
                if len(kept) < len(chunk):
                    chunk = chunk.take(kept)
            computed = {c.name: result.column(c.name) for c in self._computed}
        columns = [
            computed[named.name]
            if named.name in computed
            else chunk.batch.column(named.expr.columns[0])
            for named in self._node.columns
        ]
        batch = pa.RecordBatch.from_arrays(columns, names=[c.name for c in self._node.columns])
        made = Chunk(batch, chunk.rows, chunk.failed)
        return Chunk(with_nulls(made, self._derived), chunk.rows, chunk.failed)

    def _ask(self, chunk: Chunk) -> pa.RecordBatch:
        failed = chunk.failed is not None and bool(chunk.failed.any())
        part = chunk.batch.select(self._needs)
        part = part.append_column(POSITION, pa.array(np.arange(len(chunk), dtype=np.int64)))
        if failed:
            part = part.append_column(FAILED, pa.array(chunk.failed))
        key = (failed, part.schema)
        try:
            if key not in self._queries:
                self._queries[key] = self._bind(part, failed)
            holder, relation = self._queries[key]
            holder.batch = part
            table = relation.to_arrow_table()
        except duckdb.Error as error:
            raise query_failed(self._state, error) from error
        return join_batches(table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)])

    def _bind(self, part: pa.RecordBatch, failed: bool) -> tuple[_OneChunk, DuckDBPyRelation]:
        """A failed row stays unless the predicate is FALSE whatever its missing outputs are."""
        if self._cursor is None:
            self._cursor = self._state.cursor()
        holder = _OneChunk(part)
        name = f"octans_chunk_{len(self._queries)}"
        self._cursor.register(name, holder)
        items = [f"({c.expr.text}) AS {quote(c.name)}" for c in self._computed]
        sql = f"SELECT {', '.join([POSITION, *items])} FROM {name}"
        if self._node.predicate is not None:
            text = self._node.predicate.text
            sql += f" WHERE ({text})"
            if failed:
                sql += f" OR ({FAILED} AND ({text}) IS NULL)"
        return holder, self._cursor.sql(sql)


def passes(named: NamedExpr) -> bool:
    """Whether it is a column of the input, unchanged."""
    columns = named.expr.columns
    return len(columns) == 1 and named.expr.text == quote(columns[0])


def only_selects(node: SqlStep) -> bool:
    """Whether the step needs no DuckDB."""
    return node.predicate is None and all(passes(named) for named in node.columns)


def stop_after(node: StopAfter, source: Stream, state: RunState) -> Iterator[Chunk]:
    """Rows `[offset, offset + count)`; then everything upstream is closed."""
    meter = state.telemetry.flow(node)
    skip, left = node.offset, node.count
    try:
        if left <= 0:
            return
        for chunk in source.chunks:
            meter.rows_in += len(chunk)
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            part = chunk.slice(skip, left)
            skip = 0
            left -= len(part)
            meter.rows_out += len(part)
            if left == 0:
                source.close()
            yield part
            if left == 0:
                return
    finally:
        source.close()


def feed(source: Stream, schema: Schema, state: RunState, *, failed: bool) -> pa.RecordBatchReader:
    """A stream as an Arrow reader for DuckDB, with `__row` and, if asked for, `__failed`."""
    arrow = state.arrow_schema(schema).append(pa.field(ROW, pa.int64()))
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
                state.rows_done = max(state.rows_done, int(chunk.rows[-1]) + 1)
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

    def store(self, source: Stream, schema: Schema) -> str:
        """Write a stream off into a table; its qualified name."""
        state = self._state
        cursor = state.cursor()
        table = self._table(cursor)
        reader = feed(source, schema, state, failed=True)
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
                self._table = self._spool.store(self._source, self._node.schema)
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
    node: SqlResidual, sources: tuple[Stream, ...], state: RunState, spool: Spool, sizer: ChunkSizer
) -> Iterator[Chunk]:
    """DuckDB over whole inputs; an input that its SQL reads more than once is spooled."""
    meter = state.telemetry.flow(node)
    cursor = state.cursor()
    try:
        for i, (child, source) in enumerate(zip(node.inputs, sources, strict=True)):
            name = f"in{i}"
            if times_read(node.sql, name) > 1:
                table = spool.store(source, child.schema)
                cursor.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {table}")
            else:
                cursor.register(name, feed(source, child.schema, state, failed=FAILED in node.sql))
        for chunk in numbered(run_query(state, cursor, node.sql, node.fields), node.fields, sizer):
            meter.rows_out += len(chunk)
            yield chunk
    except duckdb.Error as error:
        raise query_failed(state, error) from error
    finally:
        for source in sources:
            source.close()
    if state.on_error == "fail" and state.failures:
        raise RowsFailed
