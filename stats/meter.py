"""A runner that counts what it spends and stops when that is enough."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING

from ..errors import RunError
from ..ir.models import knobs_text
from ..ir.physical import Choice, SqlScan, SqlStep, Stage
from .call_times import CallTimes
from .grading import element_counts
from .runner import CannotRun, Lost, Runner, StageRun, failed_elements

if TYPE_CHECKING:
    import pyarrow as pa


class Stopped(Exception):
    """The budget is used up, or the user cancelled; the text says which."""


class Unaffordable(Stopped):
    """One piece of work would take more than is left; cheaper ones may still fit."""


class Meter:
    """`Runner` around another one; raises `Stopped` before a run, never amid one.

    `usd` and `model_seconds` (of calls, without loading) are what was spent so far.
    `evaluations` counts elements handed to models by step and choice, `timings` those handed over
    while `timing` is set.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        seconds: float | None,
        usd: float | None,
        price: Callable[[Choice, StageRun], float] | None,
        cancelled: Event | None,
        clock: Callable[[], float],
    ) -> None:
        self.usd = 0.0
        self.model_seconds = 0.0
        self.timing = False
        self.evaluations: Counter[tuple[str, str]] = Counter()
        self.timings: Counter[tuple[str, str]] = Counter()
        self._called: Counter[tuple[str, str, bool]] = Counter()
        self._failed: Counter[tuple[str, str, bool]] = Counter()
        self._paid: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._tokens: defaultdict[tuple[str, str, bool], float] = defaultdict(float)
        self._times = CallTimes()
        self._lost: defaultdict[tuple[str, str, str], dict[int, Lost]]
        self._lost = defaultdict(dict)
        self._runner = runner
        self._limits = (seconds, usd)
        self._price = price
        self._cancelled = cancelled
        self._clock = clock
        self._started = clock()

    @property
    def spent_seconds(self) -> float:
        """Wall seconds since the start."""
        return self._clock() - self._started

    def check(self) -> None:
        """Stop here if there is a reason to.

        Raises:
            Stopped: cancelled, or a budget is used up.
        """
        seconds, usd = self._limits
        if self._cancelled is not None and self._cancelled.is_set():
            raise Stopped("cancelled")
        if seconds is not None and self.spent_seconds >= seconds:
            raise Stopped(f"the budget of {seconds:g} s is used up")
        if usd is not None and self.usd >= usd:
            raise Stopped(f"the budget of {usd:g} USD is used up")

    @property
    def limited(self) -> bool:
        """Does a budget bound it?"""
        return self._limits != (None, None)

    def afford(self, seconds: float, usd: float | None = None) -> None:
        """Refuse work expected to take longer, or more USD, than is left.

        Raises:
            Unaffordable: it would.
        """
        limit, most = self._limits
        if limit is not None and self.spent_seconds + seconds > limit:
            raise Unaffordable(f"about {seconds:.3g} s are needed, more than the budget leaves")
        if usd is not None and most is not None and self.usd + usd > most:
            raise Unaffordable(f"about {usd:.3g} USD are needed, more than the budget leaves")

    def afford_run(self, stage: Stage, table: pa.Table, *, usd_alone: bool = False) -> None:
        """Refuse a run expected to take more than is left, by what the choice's calls took so far.

        What was never called may run, as nobody knows what it takes. With `usd_alone` it may take
        any time.

        Raises:
            Unaffordable: it would.
        """
        if not self.limited:
            return
        elements = int(element_counts(stage, table).sum())
        seconds = self._times.seconds(stage.step, stage.choice, elements)
        if seconds is not None:
            usd = self.usd_for(stage.step, stage.choice, seconds, elements)
            self.afford(0.0 if usd_alone else seconds, usd)

    def scan(self, scan: SqlScan) -> pa.Table:
        """See `Runner`."""
        self.check()
        return self._runner.scan(scan)

    def run_step(self, step: SqlStep, table: pa.Table) -> pa.Table:
        """See `Runner`."""
        self.check()
        return self._runner.run_step(step, table)

    def run_stage(self, stage: Stage, table: pa.Table) -> StageRun:
        """See `Runner`; within a budget in USD, what was never called is tried on a row first.

        Raises:
            CannotRun: the stage's choice cannot run, or not any more.
            Unaffordable: it is expected to cost more than is left.
        """
        self.check()
        if self._limits[1] is not None:
            self._try(stage, table)
            self.afford_run(stage, table, usd_alone=True)
        return self._run(stage, table)

    def _try(self, stage: Stage, table: pa.Table) -> None:
        """Run a row alone where the choice was never called; two, as first calls warm up."""
        if self._times.seconds(stage.step, stage.choice, 1) is not None:
            return
        rows = element_counts(stage, table).nonzero()[0][:2].tolist()
        if table.num_rows == 1 or not rows:
            return
        timing, self.timing = self.timing, True
        try:
            for row in rows:
                self._run(stage, table.slice(row, 1))
                self.check()
        finally:
            self.timing = timing

    def _run(self, stage: Stage, table: pa.Table) -> StageRun:
        choice = (stage.step, f"{stage.choice.variant}({knobs_text(stage.choice.knobs)})")
        try:
            run = self._runner.run_stage(stage, table)
        except CannotRun as ended:
            self._called[*choice, self.timing] += ended.elements
            self._failed[*choice, self.timing] += ended.failed
            raise
        except RunError as error:
            raise CannotRun(error, stage) from error
        counts = self.timings if self.timing else self.evaluations
        counts[choice] += run.elements
        self._called[*choice, self.timing] += run.elements
        self._failed[*choice, self.timing] += failed_elements(run)
        self.model_seconds += run.busy_seconds
        self._times.add(stage.step, stage.choice, run)
        lost = self._lost[stage.step, choice[1], stage.choice.device]
        lost[stage.choice.batch] = lost.get(stage.choice.batch, Lost()).more(run)
        if self._price is not None:
            usd = self._price(stage.choice, run)
            self.usd += usd
            self._tokens[*choice, self.timing] += self._price(stage.choice, _in_no_time(run))
            if not self.timing:
                self._paid[choice] += usd
        return run

    def calls(self, key: str, choice: tuple[str, str]) -> tuple[int, int]:
        """Elements that a choice was called with, and how many failed, ended runs among them.

        Those of evaluation, which stand for the others; those of timing where there are no such.
        """
        name = f"{choice[0]}({choice[1]})"
        timing = not self._called[key, name, False]
        return self._called[key, name, timing], self._failed[key, name, timing]

    def lost(self, key: str, choice: Choice) -> dict[int, Lost]:
        """What failures took of a choice, by batch size."""
        of = f"{choice.variant}({knobs_text(choice.knobs)})"
        return self._lost.get((key, of, choice.device), {})

    def usd_per_element(self, key: str, choice: tuple[str, str]) -> float | None:
        """USD of one element of a choice in evaluation; None: no prices, or it did not run."""
        of = (key, f"{choice[0]}({choice[1]})")
        elements = self.evaluations[of]
        return None if self._price is None or not elements else self._paid[of] / elements

    def usd_in(self, key: str, choice: Choice, seconds: float) -> float | None:
        """USD of an element that takes so many seconds, and the tokens it did in evaluation."""
        import pyarrow as pa

        of = (key, f"{choice.variant}({knobs_text(choice.knobs)})")
        if self._price is None or not self.evaluations[of]:
            return None
        timed = StageRun(pa.table({}), (seconds,), (1,), 1)
        return self._price(choice, timed) + self._token_usd(of)

    def usd_for(self, key: str, choice: Choice, seconds: float, elements: int) -> float | None:
        """USD of so many model seconds, and of the tokens that elements took so far."""
        import pyarrow as pa

        if self._price is None:
            return None
        of = (key, f"{choice.variant}({knobs_text(choice.knobs)})")
        timed = StageRun(pa.table({}), (seconds,), (elements,), 0)
        return self._price(choice, timed) + elements * self._token_usd(of)

    def _token_usd(self, of: tuple[str, str]) -> float:
        """USD for the tokens of an element: in evaluation; in timing where there was none."""
        timing = not self._called[*of, False]
        called = self._called[*of, timing]
        return self._tokens[*of, timing] / called if called else 0.0

    def now(self) -> datetime:
        """See `Runner`."""
        return self._runner.now()


def _in_no_time(run: StageRun) -> StageRun:
    """The run with its tokens alone."""
    return replace(run, batch_seconds=(), batch_sizes=(), failed_seconds=0.0)
