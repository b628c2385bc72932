"""What a budget does not allow is refused before it runs, by what calls took so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..ir.physical import Stage
from .call_times import CallTimes
from .grading import element_counts
from .meter import Meter, Unaffordable
from .plan_seen import TooDear
from .prefixes import Recall
from .runner import StageRun

if TYPE_CHECKING:
    import pyarrow as pa

Alone = Callable[["pa.Table"], None]
"""Runs a stage on some rows and lets `calls` know what they took."""


class Admission:
    """Of the work of one search; without a budget all is admitted.

    A budget is passed by no more than one call (under EACH, those of one row): of a choice never
    called a row is run alone, and where that took too long a second one decides, as first calls
    warm up; at a batch size never called, one call is made before the others.

    Args:
        meter: runs, and knows what is left.
        prefixes: recalls outputs that are known: they take nothing.
    """

    def __init__(self, meter: Meter, prefixes: Recall | None) -> None:
        self.calls = CallTimes()
        self._meter = meter
        self._prefixes = prefixes

    def rows(self, stage: Stage, table: pa.Table, keep: Callable[[StageRun], None]) -> None:
        """Admit a stage's outputs on rows; `keep` is told of every run that is made for it.

        Raises:
            TooDear: they would take more than is left.
        """
        counts = element_counts(stage, table)
        if not self._meter.limited or not counts.sum():
            return

        def alone(rows: pa.Table) -> None:
            if self._prefixes is None:
                keep(self._meter.run_stage(stage, rows))
            else:
                keep(self._prefixes.evaluate(stage, rows, self._meter))

        self._ask(stage, table, alone, lambda: self._afford_rows(stage, table))
        batch = stage.choice.batch
        if counts.sum() > batch and not self.calls.timed(stage.step, stage.choice):
            alone(table.slice(0, int((counts.cumsum() < batch).sum()) + 1))
            self._afford_rows(stage, table)

    def timing(self, stage: Stage, table: pa.Table, alone: Alone) -> None:
        """Admit one call at the stage's batch size.

        Raises:
            TooDear: it would take more than is left.
        """
        if self._meter.limited:
            batch = stage.choice.batch
            self._ask(stage, table, alone, lambda: self.afford(stage, batch, timed=True))

    def afford(self, stage: Stage, elements: int, *, timed: bool = False) -> None:
        """Refuse so many elements of a stage where they would take more than is left.

        Raises:
            TooDear: they would.
        """
        key, choice = stage.step, stage.choice
        seconds = self.calls.seconds(key, choice, elements)
        if seconds is None:
            return
        try:
            self._meter.afford(seconds, self._meter.usd_for(key, choice, seconds, elements))
        except Unaffordable as refused:
            raise TooDear(key, choice, str(refused), timed=timed) from refused

    def _ask(self, stage: Stage, table: pa.Table, alone: Alone, afford: Callable[[], None]) -> None:
        """`afford`, once a row or two have told what the choice takes."""
        key, choice = stage.step, stage.choice
        if not self.calls.count(key, choice):
            alone(table.slice(0, 1))
        try:
            afford()
        except TooDear as dear:
            if self.calls.count(key, choice) > 1 or table.num_rows == 1:
                raise
            try:
                alone(table.slice(1, 1))
            except Unaffordable:
                raise dear from None
            afford()

    def _afford_rows(self, stage: Stage, table: pa.Table) -> None:
        """Refuse a stage on rows where those not known would take more than is left."""
        elements = int(element_counts(stage, table).sum())
        try:
            self.afford(stage, elements)
        except TooDear:
            unknown = elements
            if self._prefixes is not None:
                unknown = self._prefixes.unknown(stage, table)
            if unknown == elements:
                raise
            self.afford(stage, unknown)
