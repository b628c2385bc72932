"""Kept outputs of operator prefixes as they stand in the file, and which of them go first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

from ..ir.models import knobs_text
from ..ir.record import dataclass
from . import columns

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from ..stats.prefixes import Block

ROW_BYTES = 16
"""Length of a row's identity."""
BLOCK_BYTES = 4 << 20
"""Outputs are cut into blocks of about this size: what is read at once is bounded (our choice)."""
OVERHEAD_BYTES = 256
"""What a block takes besides its rows and outputs: about what DuckDB stores for it."""


@dataclass(frozen=True)
class Kept:
    """A block as it is stored."""

    id: int
    call: str
    step: str
    variant: str
    version: int
    knobs: str
    rows: int
    size: int
    seconds: float
    digest: bytes
    keys: bytes
    outputs: bytes


def rows_of(keys: bytes) -> Iterator[bytes]:
    """The identity of each row."""
    return (keys[at : at + ROW_BYTES] for at in range(0, len(keys), ROW_BYTES))


def columns_of(pieces: Sequence[pa.RecordBatch]) -> Iterator[tuple[pa.Array, ...]]:
    """The pieces of each output."""
    return zip(*(piece.columns for piece in pieces), strict=True)


def parts_of(whole: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Stretches of about `BLOCK_BYTES`, a row at the least."""
    rows = whole.num_rows
    step = max(1, rows * BLOCK_BYTES // max(whole.nbytes, BLOCK_BYTES))
    return (whole.slice(start, step) for start in range(0, rows, step))


def stored(
    number: int, block: Block, part: pa.RecordBatch, rows: Sequence[bytes], seconds: float
) -> Kept:
    """A part of a block as it is stored."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_batch(part)
    outputs = sink.getvalue().to_pybytes()
    keys = b"".join(rows)
    choice = block.choice
    return Kept(
        number,
        block.identity.call,
        block.step,
        choice.variant,
        choice.version,
        knobs_text(choice.knobs),
        part.num_rows,
        len(outputs) + len(keys) + OVERHEAD_BYTES,
        seconds,
        _digest(keys, outputs),
        keys,
        outputs,
    )


def _digest(keys: bytes, outputs: bytes) -> bytes:
    hashed = blake2b(keys, digest_size=16)
    hashed.update(outputs)
    return hashed.digest()


def decoded(keys: bytes, digest: bytes, outputs: bytes | None) -> pa.RecordBatch | None:
    """The outputs of a block; None where they are not what was written."""
    import pyarrow as pa

    if outputs is None or _digest(keys, outputs) != digest:
        return None
    with pa.ipc.open_stream(pa.py_buffer(outputs)) as reader:
        batch: pa.RecordBatch = reader.read_next_batch()
    return batch


def append(cursor: duckdb.DuckDBPyConnection, kept: list[Kept], at: datetime) -> None:
    """Append blocks, as one Arrow table."""
    import pyarrow as pa

    texts = ("call", "step", "variant", "knobs")
    whole = ("id", "version", "rows", "size")
    binary = ("digest", "keys", "outputs")
    made = {name: columns.texts([getattr(each, name) for each in kept]) for name in texts}
    made |= {name: columns.numbers([getattr(each, name) for each in kept], "q") for name in whole}
    made["seconds"] = columns.numbers([each.seconds for each in kept], "d")
    made |= {
        name: pa.array([getattr(each, name) for each in kept], pa.large_binary()) for name in binary
    }
    cursor.register("kept", pa.table(made))
    cursor.execute("INSERT INTO octans_internal.prefix_outputs SELECT id, outputs FROM kept")
    cursor.execute(
        "INSERT INTO octans_internal.prefixes SELECT id, call, step, variant, version, knobs, "
        "rows, size, seconds, digest, keys, $1::TIMESTAMP, $1::TIMESTAMP FROM kept",
        [at],
    )
    cursor.unregister("kept")


def evict(cursor: duckdb.DuckDBPyConnection, capacity: int) -> list[int]:
    """Forget what is too much; the numbers of the blocks that went.

    Least seconds a byte first, of equal ones what was used longest ago; before all of them, blocks
    of variants that are no longer declared in that version.
    """
    total = cursor.execute("SELECT coalesce(sum(bytes), 0) FROM octans_internal.prefixes")
    ((stored,),) = total.fetchall()
    if stored <= capacity:
        return []
    rows = cursor.execute(
        """
        SELECT id FROM (
            SELECT p.id, sum(p.bytes) OVER (
                ORDER BY c.key IS NOT NULL DESC, p.seconds / p.bytes DESC, p.used_at DESC, p.id DESC
                ROWS UNBOUNDED PRECEDING
            ) AS better
            FROM octans_internal.prefixes AS p
            LEFT JOIN octans_internal.current AS c
                ON c.kind = 'variant' AND c.key = lower(p.variant) AND c.version = p.version
        ) WHERE better > ?
        """,
        [capacity],
    ).fetchall()
    evicted = [block for (block,) in rows]
    forget(cursor, evicted)
    return evicted


def forget(cursor: duckdb.DuckDBPyConnection, blocks: list[int]) -> None:
    """Delete blocks."""
    if blocks:
        for table in ("prefixes", "prefix_outputs"):
            cursor.execute(
                f"DELETE FROM octans_internal.{table} WHERE list_contains(?, id)", [blocks]
            )
