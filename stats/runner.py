"""What profiling needs of an executor: run one stage or one relational step on a small table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from ..errors import RunError
from ..ir.physical import SqlScan, SqlStep, Stage
from ..ir.record import dataclass
from .energy import Energy

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class StageRun:
    """One stage run on one table.

    Attributes:
        table: the rows handed in, in their order, with the stage's outputs added; a failed row's
            outputs, and those of a row its WHEN skipped, are NULL.
        batch_seconds: model time of each batch call, seconds, in call order.
        batch_sizes: elements of each batch call, pairwise; calls smaller than the stage's batch
            are left out of latency statistics.
        elements: elements computed (rows where there is no EACH).
        failed: position of each failed row in the table handed in, and why.
        failed_elements: elements that failed; None when only rows are known.
        failed_seconds: model time of the calls left out of `batch_seconds`: those in which an
            element failed, their repetitions included, and those that were given up.
        timed_out: those of them whose call was given up after `SET call_timeout`.
        load_seconds: loading the variant, when this is the first run since.
        recalled: elements that were known and not computed; they count in nothing else.
        recalled_seconds: model time they took when they were computed.
        memory_bytes: peak memory of the loaded variant on its slot; None is unknown.
        energy: what a counter of the machine charged the run's calls; None where none counted.
        tokens_in: tokens read, summed; None for models without tokens. Likewise `tokens_out`.
    """

    table: pa.Table
    batch_seconds: Sequence[float]
    batch_sizes: Sequence[int]
    elements: int
    failed: Mapping[int, str] = field(default_factory=dict)
    load_seconds: float | None = None
    memory_bytes: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    failed_elements: int | None = None
    failed_seconds: float = 0.0
    timed_out: int = 0
    energy: Energy | None = None
    recalled: int = 0
    recalled_seconds: float = 0.0

    @property
    def busy_seconds(self) -> float:
        """Model time of all calls, whatever became of them."""
        return sum(self.batch_seconds) + self.failed_seconds


def failed_elements(run: StageRun) -> int:
    """Elements that failed in a run."""
    return len(run.failed) if run.failed_elements is None else run.failed_elements


@dataclass(frozen=True)
class Lost:
    """Seconds of the calls in which elements failed, how many did, and of how many."""

    seconds: float = 0.0
    failed: int = 0
    elements: int = 0

    def more(self, run: StageRun) -> Lost:
        """With those of another run."""
        return Lost(
            self.seconds + run.failed_seconds,
            self.failed + failed_elements(run),
            self.elements + run.elements,
        )


class CannotRun(RunError):
    """The choice of `stage` cannot run, or not any more: what the runner said of it.

    `elements` were called in this run by then, and `failed` of them failed.
    """

    def __init__(
        self, error: RunError, stage: Stage, *, elements: int = 0, failed: int = 0
    ) -> None:
        super().__init__(
            error.message,
            code=error.code,
            notes=error.notes,
            hint=error.hint,
            rows_done=error.rows_done,
        )
        self.stage = stage
        self.elements = elements
        self.failed = failed


class Runner(Protocol):
    """Runs pieces of a plan for profiling; the executor implements it."""

    def scan(self, scan: SqlScan) -> pa.Table:
        """The scan's rows in source order, with `__row`."""

    def run_step(self, step: SqlStep, table: pa.Table) -> pa.Table:
        """The step's columns over the table; `__row` is kept."""

    def run_stage(self, stage: Stage, table: pa.Table) -> StageRun:
        """The stage on the table, with the stage's own choice (batch size included).

        Raises:
            RunError: the variant cannot run (missing backend, load failure), or not any more
                (too many of its calls hang); `CannotRun` where some calls were made.
        """

    def now(self) -> datetime:
        """The time, UTC."""
