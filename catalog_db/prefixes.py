"""Outputs of operator prefixes kept between statements, and what an ANALYZE would continue by.

Outputs are kept in blocks: rows of one call, an Arrow stream each, found by the identity of the
call and of the row. A look-up reads the rows' identities of the one call and the blocks that have
what is wanted. Beyond the bound, what is cheapest to compute again for each byte goes first, after
what no declared variant can use any more.

Writes are collected and made in one transaction: outputs, notes, evictions. Whoever asks makes them
by `flush`; between, they are made by themselves as often as leaves them a twentieth of the time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ..ir.record import dataclass
from . import columns, problems
from .blocks import Kept, append, columns_of, decoded, evict, forget, parts_of, rows_of, stored
from .store import Store, now

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from ..stats.prefixes import Block, Found, Identity, Note

READ_BYTES = 64 << 20
"""Outputs kept readable: every round of an ANALYZE asks again for those before (our choice)."""
RESERVED = 256
"""Numbers reserved at once."""
WRITE_SHARE = 20
"""Time between writes ÷ time of a write, at the least."""

_writing = threading.Lock()
"""Two sessions of a process share the file; evicting twice at once would be a conflict."""


@dataclass(frozen=True)
class Checkpoint:
    """An ANALYZE that continues one of the same `identity` that died, and notes what it does."""

    run: int
    subject: str
    identity: str


class Prefixes:
    """What one statement sees of the kept outputs, and adds; at most `capacity` bytes stay.

    With a capacity of 0 it neither finds nor keeps outputs, and leaves those that are there.
    """

    def __init__(self, store: Store, capacity: int, checkpoint: Checkpoint | None = None) -> None:
        self.capacity = capacity
        self._store = store
        self._checkpoint = checkpoint
        self._places: dict[str, dict[bytes, tuple[int, int]]] = {}
        self._row_seconds: dict[int, float] = {}
        self._read: OrderedDict[int, tuple[list[bytes], pa.RecordBatch]] = OrderedDict()
        self._read_bytes = 0
        self._blocks: dict[int, Kept] = {}
        self._notes: list[tuple[str, str, datetime]] = []
        self._used: set[int] = set()
        self._damaged: dict[int, str] = {}
        self._unforgotten: set[int] = set()
        self._reserved: deque[int] = deque()
        self._written = time.perf_counter()
        self._write_seconds = 0.0

    # --- outputs ------------------------------------------------------------------------------

    def find(self, identity: Identity, hidden: Collection[int] = ()) -> Found | None:
        """What is known of these rows outside of `hidden` blocks; None where nothing is."""
        import numpy as np
        import pyarrow as pa

        from ..stats.prefixes import Found

        places = self._known(identity.call) if self.capacity else {}
        wanted: dict[int, list[tuple[int, int]]] = {}
        for at, row in enumerate(identity.rows):
            place = places.get(row)
            if place is not None and place[0] not in hidden:
                wanted.setdefault(place[0], []).append((at, place[1]))
        positions: list[int] = []
        pieces: list[pa.RecordBatch] = []
        seconds = 0.0
        for block, pairs in wanted.items():
            read = self._readable(block)
            if read is None:
                continue
            self._used.add(block)
            positions += [at for at, _ in pairs]
            pieces.append(read[1].take(pa.array([place for _, place in pairs], pa.int64())))
            seconds += self._row_seconds[block] * len(pairs)
        if not positions:
            return None
        outputs = tuple(pa.concat_arrays(column) for column in columns_of(pieces))
        return Found(np.array(positions, np.int64), outputs, seconds)

    def keep(self, block: Block) -> tuple[int, ...]:
        """Keep outputs; the numbers of the blocks they are in, none where they do not fit."""
        import pyarrow as pa

        names = [str(place) for place in range(len(block.outputs))]
        whole = pa.RecordBatch.from_arrays(list(block.outputs), names=names)
        parts = list(parts_of(whole))
        row_seconds = block.seconds / max(1, whole.num_rows)
        kept: list[Kept] = []
        start = 0
        for part, number in zip(parts, self._numbers(len(parts)), strict=True):
            rows = block.identity.rows[start : start + part.num_rows]
            start += part.num_rows
            kept.append(stored(number, block, part, rows, row_seconds * part.num_rows))
        if sum(each.size for each in kept) > self.capacity:
            return ()
        places = self._known(block.identity.call)
        for each, part in zip(kept, parts, strict=True):
            self._blocks[each.id] = each
            self._index(places, each.id, each.keys, row_seconds)
            self._make_readable(each.id, (list(rows_of(each.keys)), part))
        if self._checkpoint is None:  # else together with the note of the run that made them
            self._settle()
        return tuple(each.id for each in kept)

    def load(self, blocks: Sequence[int]) -> tuple[list[bytes], tuple[pa.Array, ...]] | None:
        """The rows' identities and outputs of these blocks; None where they are not all there."""
        import pyarrow as pa

        read = [self._readable(block) for block in blocks]
        found = [each for each in read if each is not None]
        if not found or len(found) < len(read):
            return None
        self._used.update(blocks)
        rows = [row for keys, _ in found for row in keys]
        pieces = [batch for _, batch in found]
        return rows, tuple(pa.concat_arrays(column) for column in columns_of(pieces))

    def problems(self) -> tuple[str, ...]:
        """What could not be read and was left out."""
        return tuple(dict.fromkeys(self._damaged.values()))

    # --- notes --------------------------------------------------------------------------------

    def note(self, key: str, body: str) -> None:
        """Note one run of a stage; written when enough time has passed since the last write."""
        self._notes.append((key, body, now()))
        self._settle()

    def resume(self) -> list[Note]:
        """The notes of the same ANALYZE that died, in order; from now on they are this one's.

        Those of another ANALYZE of the subject that died are forgotten: this one is newer.
        """
        from ..stats.prefixes import Note

        mine = self._checkpoint
        if mine is None:
            return []
        dead = "run IN (SELECT id FROM octans_internal.runs WHERE status = 'interrupted')"
        with _writing, self._store.transaction() as cursor:
            cursor.execute(
                "DELETE FROM octans_internal.checkpoints "
                f"WHERE lower(subject) = lower(?) AND identity <> ? AND {dead}",
                [mine.subject, mine.identity],
            )
            cursor.execute(
                f"UPDATE octans_internal.checkpoints SET run = ? WHERE identity = ? AND {dead}",
                [mine.run, mine.identity],
            )
            rows = cursor.execute(
                "SELECT key, body, made_at FROM octans_internal.checkpoints WHERE run = ? "
                "ORDER BY id",
                [mine.run],
            ).fetchall()
        return [Note(*row) for row in rows]

    # --- writing ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what was kept and noted, and evict what is then too much, in one transaction.

        Raises:
            CatalogError: OC0504, it cannot be written.
        """
        if not (self._blocks or self._notes or self._used or self._unforgotten):
            return
        began = time.perf_counter()
        at = now()
        with _writing, self._store.transaction() as cursor:
            forget(cursor, sorted(self._unforgotten))
            if self._blocks:
                append(cursor, list(self._blocks.values()), at)
            if self._notes:
                self._append_notes(cursor)
            if self._used:
                cursor.execute(
                    "UPDATE octans_internal.prefixes SET used_at = ? WHERE list_contains(?, id)",
                    [at, sorted(self._used)],
                )
            evicted = evict(cursor, self.capacity) if self.capacity else []
        self._blocks.clear()
        self._notes.clear()
        self._used.clear()
        self._unforgotten.clear()
        if evicted:
            self._places.clear()
            for block in evicted:
                self._forget_read(block)
        self._written = time.perf_counter()
        self._write_seconds = self._written - began

    def _settle(self) -> None:
        """Write when enough time has passed since the last write."""
        if time.perf_counter() - self._written >= WRITE_SHARE * self._write_seconds:
            self.flush()

    def _append_notes(self, cursor: duckdb.DuckDBPyConnection) -> None:
        import pyarrow as pa

        assert self._checkpoint is not None
        keys, bodies, times = zip(*self._notes, strict=True)
        noted = pa.table(
            {
                "id": columns.numbers(self._numbers(len(keys)), "q"),
                "key": columns.texts(keys),
                "body": columns.texts(bodies),
                "made_at": columns.texts([str(at) for at in times]),
            }
        )
        cursor.register("noted", noted)
        cursor.execute(
            "INSERT INTO octans_internal.checkpoints "
            "SELECT id, ?, ?, ?, key, body, made_at::TIMESTAMP FROM noted",
            [self._checkpoint.run, self._checkpoint.subject, self._checkpoint.identity],
        )
        cursor.unregister("noted")

    # --- details ------------------------------------------------------------------------------

    def _numbers(self, count: int) -> list[int]:
        """New numbers, ascending; many are reserved at once, since each time is a durable write."""
        if len(self._reserved) < count:
            with self._store.cursor() as cursor:
                rows = cursor.execute(
                    "SELECT nextval('octans_internal.prefix_id') FROM range(?)",
                    [max(RESERVED, count)],
                ).fetchall()
            self._reserved = deque(sorted(number for (number,) in rows))
        return [self._reserved.popleft() for _ in range(count)]

    def _known(self, call: str) -> dict[bytes, tuple[int, int]]:
        """Where the rows of a call are: block and place in it; the oldest block counts."""
        places = self._places.get(call)
        if places is None:
            places = self._places[call] = {}
            with self._store.cursor() as cursor:
                rows = cursor.execute(
                    "SELECT id, keys, seconds / rows FROM octans_internal.prefixes "
                    "WHERE call = ? ORDER BY id",
                    [call],
                ).fetchall()
            for block, keys, row_seconds in rows:
                if block not in self._damaged:
                    self._index(places, block, keys, row_seconds)
            for kept in self._blocks.values():
                if kept.call == call:
                    self._index(places, kept.id, kept.keys, kept.seconds / kept.rows)
        return places

    def _index(
        self, places: dict[bytes, tuple[int, int]], block: int, keys: bytes, row_seconds: float
    ) -> None:
        self._row_seconds[block] = row_seconds
        for place, row in enumerate(rows_of(keys)):
            places.setdefault(row, (block, place))

    def _readable(self, block: int) -> tuple[list[bytes], pa.RecordBatch] | None:
        """Rows' identities and outputs of a block; None where it is gone or damaged."""
        found = self._read.get(block)
        if found is None:
            kept = self._fetched(block)
            if kept is None:
                return None
            keys, digest, outputs, step, variant = kept
            batch = decoded(keys, digest, outputs)
            if batch is None:
                self._damaged[block] = str(problems.damaged(step, variant))
                self._unforgotten.add(block)
                self._places.clear()
                return None
            found = (list(rows_of(keys)), batch)
            self._make_readable(block, found)
        self._read.move_to_end(block)
        return found

    def _make_readable(self, block: int, found: tuple[list[bytes], pa.RecordBatch]) -> None:
        """Keep a block at hand, in place of those used longest ago; the newest always stays."""
        self._read[block] = found
        self._read_bytes += found[1].nbytes
        while self._read_bytes > READ_BYTES and len(self._read) > 1:
            self._forget_read(next(iter(self._read)))

    def _forget_read(self, block: int) -> None:
        found = self._read.pop(block, None)
        if found is not None:
            self._read_bytes -= found[1].nbytes

    def _fetched(self, block: int) -> tuple[bytes, bytes, bytes | None, str, str] | None:
        """Identities, digest, outputs (None: gone), step and variant of a block."""
        kept = self._blocks.get(block)
        if kept is not None:
            return kept.keys, kept.digest, kept.outputs, kept.step, kept.variant
        if block in self._damaged:
            return None
        with self._store.cursor() as cursor:
            row = cursor.execute(
                "SELECT keys, digest, step, variant FROM octans_internal.prefixes WHERE id = ?",
                [block],
            ).fetchone()
            outputs = cursor.execute(
                "SELECT outputs FROM octans_internal.prefix_outputs WHERE id = ?", [block]
            ).fetchone()
        if row is None:
            return None
        return row[0], row[1], None if outputs is None else outputs[0], row[2], row[3]
