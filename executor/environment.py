"""What a run needs from outside, and what it reports back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..ir.models import Device, Model, Variant
from .abandoned import Abandoned

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from .cache import ResultCache


class ProgressSink(Protocol):
    """Told about ten times a second how far a run is; drawing it is the caller's business."""

    def update(self, rows_done: int, rows_total: int | None, stages: Sequence[str]) -> None:
        """`rows_total` is an estimate until the source has been read, None without one."""


@dataclass(frozen=True)
class Failure:
    """A source row that failed, at which step, and what the model said."""

    row: int
    step: str
    message: str


@dataclass(frozen=True)
class Environment:
    """The outside of a run: a cursor per thread, the declared objects, cancellation, progress.

    `cursor` gives a new cursor of the session's connection (one per thread, closed by the engine).
    `base_dir` is where relative paths of backends start. `cache` keeps results of calls beyond the
    run, None keeps none. `workers` bounds the model calls at once over all devices, None does not.
    `call_timeout` are seconds after which a call is given up, None waits for as long as it takes;
    `abandoned` counts those that were given up and still run.
    `rows_expected` is the planner's guess of the source's rows, for progress only.
    """

    cursor: Callable[[], DuckDBPyConnection]
    models: Mapping[str, Model]
    variants: Mapping[str, Variant]
    devices: Mapping[str, Device]
    cancel: threading.Event = field(default_factory=threading.Event)
    progress: ProgressSink | None = None
    base_dir: Path = field(default_factory=Path.cwd)
    cache: ResultCache | None = None
    workers: int | None = None
    rows_expected: int | None = None
    call_timeout: float | None = None
    abandoned: Abandoned = field(default_factory=Abandoned)
