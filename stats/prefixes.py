"""Run no operator prefix twice on a row: outputs known from before, and an ANALYZE that died.

**Prefixes.** The output and the time of an operator prefix on a sample row are computed once and
shared by every plan with that prefix [Circinus, prefix reuse]. What a stage answers is determined
by how it is made (`Identity.call`) and by the values that reach it (`Identity.rows`). All that the
operators below did is in these values, so they stand for the source row and the prefix below the
stage: two prefixes share what they agree on, and a change anywhere below misses exactly on the
rows it changes, be it of a variant, an expression, or a macro that an expression calls (our choice;
a fingerprint of the plan below could not see the last). Failures are never kept.

**Checkpoints.** Every run of a stage is noted, in order, under the identity of the ANALYZE. One
that was killed continues by deterministic replay: the same statement goes the same way, and what is
noted is taken from the notes instead of run, its outputs from the prefixes, its failures and
seconds as they were. Outputs that the dead ANALYZE kept stay hidden until the replay reaches the
run that made them; else it would find as known what an undisturbed one computes, and count
otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ..ir.physical import Choice, SqlScan, SqlStep, Stage
from ..ir.record import dataclass
from .energy import Energy
from .runner import Runner, StageRun
from .scoring import list_lengths

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class Identity:
    """What determines a stage's outputs on `n` rows: of the call, and `n` of the values."""

    call: str
    rows: Sequence[bytes]


Identify = Callable[[Stage, "pa.Table"], Identity | None]
"""The identity of a stage on a table; None where outputs must not be kept (volatile variants)."""


@dataclass(frozen=True)
class Block:
    """Outputs of a stage on `n` rows, `n` values a column, and the model seconds they took."""

    step: str
    choice: Choice
    identity: Identity
    outputs: tuple[pa.Array, ...]
    seconds: float


@dataclass(frozen=True)
class Found:
    """Positions of the rows that are known, `m`, their outputs in that order, their seconds."""

    positions: np.ndarray
    outputs: tuple[pa.Array, ...]
    seconds: float


@dataclass(frozen=True)
class Note:
    """One run of a stage as noted: what it was, how it went (JSON), when."""

    key: str
    body: str
    at: datetime


class Store(Protocol):
    """Keeps outputs within a size bound, and notes; the catalog implements it."""

    def find(self, identity: Identity, hidden: Collection[int]) -> Found | None:
        """What is known of these rows outside of `hidden` blocks; None where nothing is."""

    def keep(self, block: Block) -> tuple[int, ...]:
        """Keep outputs; the numbers of the blocks they are in, none where they do not fit."""

    def load(self, blocks: Sequence[int]) -> tuple[list[bytes], tuple[pa.Array, ...]] | None:
        """The rows' identities and outputs of these blocks; None where they are not all there."""

    def note(self, key: str, body: str) -> None:
        """Note one run of a stage."""

    def flush(self) -> None:
        """Write what was kept and noted, durably."""

    def problems(self) -> Sequence[str]:
        """What could not be read and was left out."""


class Recall:
    """`Runner` around another one that runs nothing twice; leave it to write what it knows.

    Args:
        runner: runs what is not known.
        identify: tells what may be kept, and under which identity.
        store: keeps it.
        notes: of the same ANALYZE that died, in order; None: this is no ANALYZE, nothing is noted.
    """

    def __init__(
        self,
        runner: Runner,
        identify: Identify,
        store: Store,
        notes: Iterable[Note] | None = None,
    ) -> None:
        self._runner = runner
        self._identify = identify
        self._store = store
        self._noting = notes is not None
        self._replay: dict[str, deque[dict[str, Any]]] = {}
        self._hidden: set[int] = set()
        self._died: datetime | None = None
        for note in notes or ():
            body = json.loads(note.body)
            self._replay.setdefault(note.key, deque()).append(body)
            self._hidden |= set(body["blocks"] or ())
            self._died = note.at
        self._evaluated: tuple[Identity | None] | None = None
        self._replayed = 0
        self._replayed_seconds = 0.0
        self._known = 0
        self._known_seconds = 0.0
        self._repeated = 0
        self._repeated_seconds = 0.0
        self._answered: dict[str, set[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    # --- the runner ---------------------------------------------------------------------------

    def scan(self, scan: SqlScan) -> pa.Table:
        """See `Runner`."""
        return self._runner.scan(scan)

    def run_step(self, step: SqlStep, table: pa.Table) -> pa.Table:
        """See `Runner`."""
        return self._runner.run_step(step, table)

    def now(self) -> datetime:
        """See `Runner`."""
        return self._runner.now()

    def run_stage(self, stage: Stage, table: pa.Table) -> StageRun:
        """See `Runner`; what a dead ANALYZE noted comes from its notes.

        The outputs of a replayed run are NULL unless `evaluate` asked for it: who times a batch
        does not read them, so they were not kept.
        """
        (identity,) = self._evaluated or (None,)
        volatile = self._evaluated == (None,)
        if volatile or not self._noting:
            run, _ = self._run(stage, table, identity)
            return run
        key = f"{stage.step} {stage.choice.fingerprint} {table.num_rows} {identity is not None}"
        replayed = self._from_notes(key, stage, table, identity)
        if replayed is not None:
            return replayed
        began = time.perf_counter()
        run, blocks = self._run(stage, table, identity)
        took = time.perf_counter() - began
        self._store.note(key, json.dumps({"run": _plain(run), "blocks": blocks, "took": took}))
        return run

    # --- prefixes -----------------------------------------------------------------------------

    def evaluate(self, stage: Stage, table: pa.Table, through: Runner) -> StageRun:
        """The stage's outputs on the table; only rows not known are run, the others recalled.

        Args:
            stage: what to run, with its own choice.
            table: rows that all run.
            through: the runner that leads here, such as a meter that counts what is spent.

        Returns:
            Seconds, elements and failures of what was run; `recalled` counts the other elements.
        """
        import numpy as np
        import pyarrow as pa

        identity = self._identify(stage, table)
        found = None if identity is None else self._store.find(identity, self._hidden)
        if identity is None or found is None:
            return self._evaluate(stage, table, through, identity)
        absent = np.ones(table.num_rows, dtype=bool)
        absent[found.positions] = False
        rest = np.flatnonzero(absent)
        run = None
        if len(rest):
            asked = Identity(identity.call, [identity.rows[at] for at in rest.tolist()])
            run = self._evaluate(stage, table.take(pa.array(rest)), through, asked)
        merged = _merged(stage, table, found, rest, run)
        self._count(stage, table, identity, found)
        return merged

    def unknown(self, stage: Stage, table: pa.Table) -> int:
        """Elements that `evaluate` would run."""
        import pyarrow as pa

        identity = self._identify(stage, table)
        found = None if identity is None else self._store.find(identity, self._hidden)
        elements = _elements(stage, table)
        if found is None:
            return elements
        return elements - _elements(stage, table.take(pa.array(found.positions)))

    def _count(self, stage: Stage, table: pa.Table, identity: Identity, found: Found) -> None:
        """Tell what this statement answered itself from what was known before it."""
        import pyarrow as pa

        mine = self._answered.get(identity.call, set())
        repeated = [at for at in found.positions.tolist() if identity.rows[at] in mine]
        elements = _elements(stage, table.take(pa.array(repeated, pa.int64())))
        seconds = found.seconds * len(repeated) / len(found.positions)
        self._repeated += elements
        self._repeated_seconds += seconds
        self._known += _elements(stage, table.take(pa.array(found.positions))) - elements
        self._known_seconds += found.seconds - seconds

    # --- between statements -------------------------------------------------------------------

    def clock(self) -> float:
        """Seconds, monotonic, in which what was replayed took as long as when it ran.

        So a budget of seconds is one for the whole ANALYZE, whatever killed it in between.
        """
        return time.monotonic() + self._replayed_seconds

    def flush(self) -> None:
        """Write what is known so far."""
        self._store.flush()

    def told(self) -> tuple[str, ...]:
        """What the user should know of what was not run."""
        found = []
        if self._replayed:
            found.append(
                f"continues the ANALYZE that died at {self._died:%Y-%m-%d %H:%M:%S} UTC: "
                f"{self._replayed} of its measurements are reused"
            )
        if self._known:
            found.append(
                f"{self._known} evaluations were known already from earlier statements: "
                f"{self._known_seconds:.1f} s of model time were saved"
            )
        if self._repeated:
            found.append(
                f"{self._repeated} evaluations were asked for again within this statement: their "
                f"answers were kept, {self._repeated_seconds:.1f} s of model time not spent twice"
            )
        return (*found, *self._store.problems())

    # --- details ------------------------------------------------------------------------------

    def _evaluate(
        self, stage: Stage, table: pa.Table, through: Runner, identity: Identity | None
    ) -> StageRun:
        """Through the other runner to `run_stage`, which knows by `_evaluated` what it is for."""
        self._evaluated = (identity,)
        try:
            return through.run_stage(stage, table)
        finally:
            self._evaluated = None

    def _run(
        self, stage: Stage, table: pa.Table, identity: Identity | None
    ) -> tuple[StageRun, tuple[int, ...] | None]:
        """Run it; what went well is kept where its identity is known."""
        import numpy as np
        import pyarrow as pa

        run = self._runner.run_stage(stage, table)
        if identity is None:
            return run, None
        well = np.ones(table.num_rows, dtype=bool)
        well[list(run.failed)] = False
        places = np.flatnonzero(well)
        if not len(places):
            return run, ()
        index = pa.array(places)
        outputs = tuple(_array(run.table.column(field.name)).take(index) for field in stage.outputs)
        rows = [identity.rows[at] for at in places.tolist()]
        self._answered.setdefault(identity.call, set()).update(rows)
        seconds = _seconds(run) * len(rows) / table.num_rows
        kept = Block(stage.context, stage.choice, Identity(identity.call, rows), outputs, seconds)
        return run, self._store.keep(kept)

    def _from_notes(
        self, key: str, stage: Stage, table: pa.Table, identity: Identity | None
    ) -> StageRun | None:
        """The run as it was noted; None where it was not, or its outputs are gone."""
        notes = self._replay.get(key)
        if not notes:
            self._hidden.clear()  # the replay is over: what else was kept is found like the rest
            return None
        while notes:
            body = notes.popleft()
            blocks: list[int] | None = body["blocks"]
            self._hidden -= set(blocks or ())
            fields = _fields(body["run"])
            answered = _nulls(stage, table)
            if identity is not None:
                found = self._outputs(stage, table, identity, blocks or [], fields["failed"])
                if found is None:
                    continue
                answered = found
                well = (row for at, row in enumerate(identity.rows) if at not in fields["failed"])
                self._answered.setdefault(identity.call, set()).update(well)
            self._replayed += 1
            self._replayed_seconds += body["took"]
            return StageRun(table=answered, **fields)
        return None

    def _outputs(
        self,
        stage: Stage,
        table: pa.Table,
        identity: Identity,
        blocks: Sequence[int],
        failed: Mapping[int, str],
    ) -> pa.Table | None:
        """The table with the outputs that a noted run kept; None where they are not these rows'."""
        import numpy as np
        import pyarrow as pa

        well = [at for at in range(table.num_rows) if at not in failed]
        if not well:
            return _nulls(stage, table)
        loaded = self._store.load(blocks)
        if loaded is None or loaded[0] != [identity.rows[at] for at in well]:
            return None
        order = np.full(table.num_rows, -1, dtype=np.int64)
        order[well] = np.arange(len(well))
        index = pa.array(order, mask=order < 0)
        return _with(stage, table, [output.take(index) for output in loaded[1]])


def _merged(
    stage: Stage, table: pa.Table, found: Found, rest: np.ndarray, run: StageRun | None
) -> StageRun:
    """What was known and what was run, in the order of the table."""
    import numpy as np
    import pyarrow as pa

    order = np.empty(table.num_rows, dtype=np.int64)
    order[found.positions] = np.arange(len(found.positions))
    order[rest] = len(found.positions) + np.arange(len(rest))
    index = pa.array(order)
    columns = []
    for field, known in zip(stage.outputs, found.outputs, strict=True):
        pieces = [known]
        if run is not None:
            answers = _array(run.table.column(field.name))
            if pa.types.is_null(answers.type):  # a noted run that failed on every row
                answers = pa.nulls(len(answers), known.type)
            pieces.append(answers)
        columns.append(pa.concat_arrays(pieces).take(index))
    if run is None:
        run = StageRun(table, (), (), 0, failed_elements=0)
    return dataclasses.replace(
        run,
        table=_with(stage, table, columns),
        failed={int(rest[at]): why for at, why in run.failed.items()},
        recalled=_elements(stage, table.take(pa.array(found.positions))),
        recalled_seconds=found.seconds,
    )


def _with(stage: Stage, table: pa.Table, columns: Iterable[pa.Array]) -> pa.Table:
    """The table with the stage's outputs."""
    for field, column in zip(stage.outputs, columns, strict=True):
        table = table.append_column(field.name, column)
    return table


def _nulls(stage: Stage, table: pa.Table) -> pa.Table:
    """The table with outputs nobody reads."""
    import pyarrow as pa

    return _with(stage, table, [pa.nulls(table.num_rows) for _ in stage.outputs])


def _array(column: pa.ChunkedArray) -> pa.Array:
    """One stretch of a column's values."""
    import pyarrow as pa

    joined = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def _elements(stage: Stage, table: pa.Table) -> int:
    """Elements that the rows bring to the stage."""
    if stage.lists is None:
        return int(table.num_rows)
    listed = next(arg for arg, is_list in zip(stage.args, stage.lists, strict=True) if is_list)
    return int(list_lengths(table.column(listed)).sum())


def _seconds(run: StageRun) -> float:
    """Model seconds of all elements, calls that failed as long as the others."""
    timed = sum(run.batch_sizes)
    return sum(run.batch_seconds) * run.elements / timed if timed else 0.0


def _plain(run: StageRun) -> dict[str, Any]:
    """All of a run but its table, for JSON."""
    names = [field.name for field in dataclasses.fields(run)]
    found = {name: getattr(run, name) for name in names if name != "table"}
    return found | {"energy": None if run.energy is None else dataclasses.asdict(run.energy)}


def _fields(noted: dict[str, Any]) -> dict[str, Any]:
    """What `_plain` gave, back from JSON: its object keys are texts, its tuples lists."""
    failed = {int(at): why for at, why in noted["failed"].items()}
    energy = noted["energy"]
    if energy is not None:
        energy = Energy(**{**energy, "moments": tuple(energy["moments"])})
    return {**noted, "failed": failed, "energy": energy}
