"""What every search over plans speaks: it proposes a plan to profile, is told what was seen of it.

    search.ask() ─▶ Proposal ─▶ whoever can profile (ANALYZE, a simulator, a benchmark) ─┐
        ▲                                                                                │
        └───────────────────────── search.tell(Evaluation) ◀─────────────────────────────┘

Rows of a sample have one order: to profile a plan on `rows` rows is to run it on the first so many,
so that two plans are compared on the same rows and a plan is continued, never begun again. A stage
is named by its place, an option by its place among the stage's options.

Dims are the numbers of `table`: a *sum* dim adds over stages, a *path* dim is the longest way
through the DAG with the transfers between devices. All dims are smaller-is-better and positive.
Quality is apart from them: it is seen as the scores of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from ...ir.physical import Choice
from ...ir.record import dataclass
from ...ir.slo import Slo
from .table import Assignment

SOURCE = -1
"""The parent of stages that read the query's rows."""


LOSS, LOAD, PROFILE = "loss", "load", "profile"
"""Dims of a stage's own: -log of its quality, seconds to load it, seconds a row takes while it is
profiled."""


@dataclass(frozen=True)
class StageOptions:
    """One stage and what it may be computed by.

    Attributes:
        key: its stable name.
        options: the choices.
        parents: places of the stages whose answers it waits for, or `SOURCE`.
        known: dim → per option what the catalog already knows of it, None where it knows nothing.
            So are `LOSS`, `LOAD` and `PROFILE`.
        steady: every row takes alike; off where a condition, a filter or the length of a list
            decides what a row takes, so that few rows say little.
    """

    key: str
    options: tuple[Choice, ...]
    parents: tuple[int, ...] = (SOURCE,)
    known: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    steady: bool = True


@dataclass(frozen=True)
class Ladder:
    """Options of a stage along which a dim is taken never to fall: sizes, precisions, batches.

    Nothing is concluded of those `audited`, so that what is seen of them can contradict it.
    """

    stage: int
    dim: str
    options: tuple[int, ...]
    audited: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Space:
    """All plans: one option per stage.

    Attributes:
        stages: in topological order.
        sums: names of the sum dims (`cost` USD, `energy` J, `busy:DEVICE` slot-seconds, per row).
        paths: names of the path dims (`latency_p95` s).
        devices: names, as options have them.
        transfers: (parent, stage) → `[from device][to device]` seconds of a row's values between
            them, added to path dims; an edge that is not there takes none. From `SOURCE` there is
            one row.
        ladders: what is taken of options before they are seen.
    """

    stages: tuple[StageOptions, ...]
    sums: tuple[str, ...]
    paths: tuple[str, ...]
    devices: tuple[str, ...]
    transfers: Mapping[tuple[int, int], tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    ladders: tuple[Ladder, ...] = ()

    @property
    def size(self) -> int:
        """How many plans."""
        count = 1
        for stage in self.stages:
            count *= len(stage.options)
        return count


@dataclass(frozen=True)
class Proposal:
    """Profile this plan on the first `rows` rows of the sample, those before included."""

    assignment: Assignment
    rows: int


@dataclass(frozen=True)
class Evaluation:
    """What was seen of a plan; stopped early, it has fewer rows than were proposed.

    Attributes:
        assignment: the plan.
        scores: of the first rows, in [0, 1]; a failed row's is 0.
        stages: by stage, dim → its value as measured on these rows.
        metrics: dim → the whole plan's value as measured end to end.
        seconds: of profiling that this evaluation took (what was reused took none).
        usd: likewise.
    """

    assignment: Assignment
    scores: Sequence[float]
    stages: tuple[Mapping[str, float], ...]
    metrics: Mapping[str, float]
    seconds: float
    usd: float


@dataclass(frozen=True)
class Candidate:
    """A plan a search would return.

    `metrics` are the values it believes, `accuracy` among them; `feasible` is the probability, at
    least, that the plan meets every limit; `rows` are the rows the plan itself was profiled on.
    """

    assignment: Assignment
    metrics: Mapping[str, float]
    feasible: float
    rows: int


class PlanSearch(Protocol):
    """Decides which plan to profile next. What it is asked for is its own: an `Slo` in most."""

    def ask(self) -> Proposal | None:
        """What to profile next; None when nothing is worth its price any more."""

    def tell(self, evaluation: Evaluation) -> None:
        """Learn from what was seen (of a plan asked for, or of any other)."""

    def incumbent(self) -> Candidate | None:
        """The plan it would return now; None as long as it knows of none that meets the SLO."""

    def frontier(self) -> tuple[Candidate, ...]:
        """Plans of which none is better than another in every dim asked for, best first."""

    def state(self) -> dict[str, Any]:
        """All it knows, as JSON: a search made anew from it goes on as this one would."""


__all__ = [
    "LOAD",
    "LOSS",
    "PROFILE",
    "SOURCE",
    "Assignment",
    "Candidate",
    "Evaluation",
    "Ladder",
    "PlanSearch",
    "Proposal",
    "Slo",
    "Space",
    "StageOptions",
]
