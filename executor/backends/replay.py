"""`replay(path)`: recorded answers and latencies from a Parquet file.

The file has the model's inputs and outputs as columns, and optionally `latency` (seconds of the
call that gave the row; a batch takes the sum). `sleep := FALSE` answers at once. An input that
was not recorded fails its row. Knobs, if the file has columns of their names, choose among rows.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..failures import RowFailed, cannot_load, describe
from .base import Answer, LoadedModel, LoadRequest, MemoryMeter

LATENCY = "latency"


class ReplayModel:
    """A look-up table; read only, so one serves all slots."""

    thread_safe = True

    def __init__(
        self,
        inputs: list[str],
        table: pa.Table,
        latencies: list[float] | None,
        memory_bytes: int | None,
    ) -> None:
        """`table` holds inputs and outputs."""
        self._inputs = inputs
        self._types = [table.schema.field(name).type for name in inputs]
        keys = _keys([table.column(name).combine_chunks() for name in inputs])
        self._position = {key: i for i, key in enumerate(keys)}
        self._outputs = table.drop_columns(inputs).combine_chunks()
        self._latencies = latencies
        self.memory_bytes = memory_bytes

    def call(self, batch: pa.RecordBatch) -> Answer:
        """Look every row up, then take the recorded time."""
        columns = [
            batch.column(name).cast(dtype)
            for name, dtype in zip(self._inputs, self._types, strict=True)
        ]
        positions = []
        for key in _keys(columns):
            position = self._position.get(key)
            if position is None:
                raise RowFailed(f"no answer was recorded for {key[:200]}")
            positions.append(position)
        if self._latencies is not None:
            time.sleep(sum(self._latencies[position] for position in positions))
        return self._outputs.take(pa.array(positions, pa.int64()))

    def close(self) -> None:
        """Drop the table."""
        self._position.clear()


class ReplayBackend:
    """Loads `replay` variants."""

    def load(self, request: LoadRequest) -> LoadedModel:
        """Read the file and index it by the inputs."""
        name, path = request.variant.full_name, request.path()
        if not path.is_file():
            raise cannot_load(name, f"there is no file {path}")
        meter = MemoryMeter()
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise cannot_load(name, f"it is not a Parquet file: {describe(error)}") from error
        inputs = [field.name for field in request.model.inputs]
        outputs = [field.name for field in request.model.outputs]
        for column in (*inputs, *outputs):
            if column not in table.schema.names:
                raise cannot_load(name, f"the file has no column {column}")
        for knob, value in request.knobs:
            if knob in table.schema.names:
                table = table.filter(pc.field(knob) == pa.scalar(value))
        latencies: list[float] | None = None
        if LATENCY in table.schema.names and LATENCY not in outputs and _sleeps(request.options):
            latencies = [float(value or 0.0) for value in table.column(LATENCY).to_pylist()]
        return ReplayModel(inputs, table.select([*inputs, *outputs]), latencies, meter.grown())


def _sleeps(options: dict[str, Any]) -> bool:
    return bool(options.get("sleep", True))


def _keys(columns: list[pa.Array]) -> list[str]:
    """A canonical text per row of typed values."""
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return [json.dumps(row, default=_plain) for row in rows]


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
