"""A progress bar on stderr for what takes longer than half a second; none without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_SECONDS = 0.5
"""Nothing is drawn before that (what a person takes for immediate, and then some)."""


class ProgressBar:
    """Draws what the engine reports; rich is loaded with the first line it draws.

    One bar serves many runs: `finish` clears it, the next report starts anew.
    """

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        """Silent for the first `patience` seconds of a run."""
        self._patience = patience
        self._started: float | None = None
        self._drawn: Progress | None = None
        self._task: TaskID | None = None

    def update(self, rows_done: int, rows_total: int | None, stages: Sequence[str]) -> None:
        """Rows finished, rows there are (None until known) and the stages at work."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        if self._drawn is None and now - self._started >= self._patience:
            self._drawn, self._task = _start()
        if self._drawn is not None and self._task is not None:
            self._drawn.update(
                self._task,
                completed=rows_done,
                total=rows_total,
                description=", ".join(stages) or "rows",
                rate=rows_done / max(now - self._started, 1e-9),
            )

    def finish(self) -> None:
        """Clear the bar; idempotent."""
        if self._drawn is not None:
            self._drawn.stop()
        self._drawn = self._task = self._started = None


def progress_bar(*, wanted: bool = True) -> ProgressBar | None:
    """A bar if it is wanted and stderr is a terminal."""
    return ProgressBar() if wanted and sys.stderr.isatty() else None


def _start() -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Rows a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.fields['rate']:,.0f} rows/s", style="dim")

    class Stages(TextColumn):
        """The stages, whose names are the user's."""

        def render(self, task: Task) -> Text:
            return Text.from_markup(escape(task.description))

    progress = Progress(
        Stages(""),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = progress.add_task("", total=None, rate=0.0)
    progress.start()
    return progress, task
