"""What profiling a plan found, or why it could not be profiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir.physical import Choice
from ..ir.record import dataclass, field
from .ladder import Point
from .meter import Unaffordable
from .runner import StageRun, failed_elements


class Broken(Exception):
    """A choice of a step cannot run, or (`sized`) not at its batch size; the text says why."""

    def __init__(self, key: str, choice: Choice, why: str, *, sized: bool = False) -> None:
        super().__init__(why)
        self.key, self.choice, self.sized = key, choice, sized


class TooDear(Unaffordable):
    """A choice of a step cannot be run on more rows, or (`timed`) timed at its batch size.

    The text says what that would take.
    """

    def __init__(self, key: str, choice: Choice, why: str, *, timed: bool) -> None:
        super().__init__(why)
        self.key, self.choice, self.timed = key, choice, timed


@dataclass(frozen=True)
class StageSeen:
    """What one stage did in one evaluation.

    Attributes:
        seconds: of full calls at the choice's batch size; empty where no row reaches it.
        run: share of the rows that it ran on.
        lengths: (elements, share of those rows) under EACH, ascending; None without EACH.
        failed: share of its elements that failed.
        tokens: read and written by an element; None for models without.
        per_row: model seconds that a row computed now took; None where all was known.
        load: seconds of loading; None where it was loaded already.
    """

    seconds: tuple[float, ...]
    run: float
    lengths: tuple[tuple[int, float], ...] | None
    failed: float
    tokens: tuple[float, float] | None
    per_row: float | None
    load: float | None


@dataclass(frozen=True)
class PlanSeen:
    """A plan on the first units: their scores in [0, 1], every stage by key, what it took.

    `seconds` are those of the models, loading included; `usd` the meter's.
    """

    scores: tuple[float, ...]
    stages: Mapping[str, StageSeen]
    seconds: float
    usd: float


@dataclass
class Tally:
    """What a choice was seen to do over all runs so far."""

    elements: int = 0
    failed: int = 0
    read: int = 0
    written: int = 0
    told: bool = True

    def add(self, run: StageRun) -> None:
        """Count a run in."""
        self.elements += run.elements
        self.failed += failed_elements(run)
        self.told &= run.tokens_in is not None or run.tokens_out is not None or not run.elements
        self.read += run.tokens_in or 0
        self.written += run.tokens_out or 0


@dataclass
class Spent:
    """Of one evaluation, by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)
    loads: dict[str, float] = field(default_factory=dict)


def quantiles(seconds: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """(level, seconds of a call) at p50, p90, p95 and p99; nothing where no call was timed."""
    if not seconds:
        return ()
    found = Point(1, tuple(seconds)).statistics()
    return tuple((int(name[1:]) / 100, found[name].value) for name in found if name != "mean")
