"""How ANALYZE saves work, each means with its own switch, and what it is measured for."""

from __future__ import annotations

from typing import Literal

from ..ir.record import dataclass

Test = Literal["betting", "t"]


@dataclass(frozen=True)
class Strategy:
    """What `profile` may do to need fewer row-evaluations.

    Attributes:
        stratify: blocks of rows are proportional draws over strata, not uniform ones.
        early_stop: rows come in growing blocks, and what the data have decided is measured no
            further; off: every choice and assignment on all rows.
        ladders: batch sizes are timed by fewer calls where calls agree, a latency asked for ends
            the batch ladder, and a derived variant need not be tried where a milder one fell short.
        test: `betting` is valid however often one looks; `t` is the paper's two-sided t-test
            [Circinus], whose error grows with every look.
        confidence: of a decision, where the SLO asks for none.
        zone: accuracy within which two choices count as equal (our choice: what a sample of a
            thousand rows cannot tell apart with power).
        cost_zone: share within which two costs count as equal (our choice: timings on a shared
            machine are no better).
        first_block: independent units of the first block.
        growth: of the rows seen, from one look to the next.
        looks: at most; None: until all rows are seen.
        audit: share of pruned derived variants that are measured all the same.
        seed: of everything drawn.
    """

    stratify: bool = True
    early_stop: bool = True
    ladders: bool = True
    test: Test = "betting"
    confidence: float = 0.95
    zone: float = 0.02
    cost_zone: float = 0.05
    first_block: int = 32
    growth: float = 2.0
    looks: int | None = None
    audit: float = 0.25
    seed: int = 0


DEFAULT = Strategy()
"""Everything on."""

PLAIN = Strategy(stratify=False, early_stop=False, ladders=False)
"""Fixed-size uniform profiling: every choice and assignment on every row (prefixes are shared)."""


@dataclass(frozen=True)
class Aim:
    """What an SLO asks of the measurements; None: nothing.

    Attributes:
        accuracy: asked of the subject's answers; `models` likewise of one model's.
        least: what SOFT lets that accuracy fall to, with a penalty; None: to nothing below it.
        latency: seconds at most, of a row, at any asked quantile.
        confidence: at which decisions about them are taken; None: the strategy's.
        maximize_accuracy: the objective is accuracy, so that enough is never enough.
    """

    accuracy: float | None = None
    least: float | None = None
    models: tuple[tuple[str, float], ...] = ()
    latency: float | None = None
    confidence: float | None = None
    maximize_accuracy: bool = False


@dataclass(frozen=True)
class StoppedChoice:
    """A choice measured no further: `reason` says why, after `rows` of the search rows."""

    step: str
    variant: str
    knobs: str
    reason: str
    rows: int
