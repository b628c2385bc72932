"""ANALYZE: run every choice of every model on a sample and say what was seen, as observations.

    reference choices upstream ─▶ each choice of a stage: batch ladder, quality, failures, memory
    each choice of a conditioning step ─▶ rates of the WHEN above it, qualities under it
    complete assignments (all up to 64, else those a callback picks) ─▶ end-to-end accuracy

Rows come in blocks that grow (`sequential.blocks`). On each block all that is still undecided is
measured, every stage's reference first, so that a budget that ends it early leaves every stage with
something; then what the data have decided is measured no further (`decide`). What was measured
stays; what was not is named. Rows of one cluster are one independent unit throughout. Held-back
rows never come here: see `promise`.

Given the same outcomes and times the procedure is the same: everything drawn is seeded, and the
clock decides nothing but when the budget is used up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import field
from threading import Event

from ..ir.physical import Choice
from ..ir.record import dataclass
from .ladder import Policy
from .meter import Meter, Stopped, Unaffordable
from .observation import Observation
from .prefixes import Recall
from .request import Pick, ProfiledStep, Request
from .runner import Runner, StageRun
from .strategy import DEFAULT, PLAIN, Aim, StoppedChoice, Strategy
from .work import Work


@dataclass(frozen=True)
class Limits:
    """When to stop: model and wall seconds, USD (priced by `price`), or an event.

    `price` gives the USD of one run of a stage; without it USD are not counted.
    """

    seconds: float | None = None
    usd: float | None = None
    price: Callable[[Choice, StageRun], float] | None = None
    cancelled: Event | None = None


@dataclass(frozen=True)
class ProfileResult:
    """What was measured, what was not and why; `stopped` is None where all was done.

    `left_out` names everything once, with the last reason; `observations` hold those of `keep`.
    `evaluations` counts the elements handed to models for answers, `timings` those of the batch
    ladders, both by step key and `variant(knobs)`. `decided` are the choices measured no further
    because the data had decided; `saved` is the share of row-evaluations that this left out.
    `sure` says of plans, by text, whether they surely have the accuracy asked for or surely not.
    `meter` is what counted it: further work within the same limits goes through it.
    """

    observations: tuple[Observation, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    stopped: str | None
    seconds: float
    usd: float
    meter: Meter
    evaluations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    timings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    decided: tuple[StoppedChoice, ...] = ()
    saved: float = 0.0
    sure: Mapping[str, bool] = field(default_factory=dict)


Progress = Callable[[int, int, str], None]
"""Called with pieces of work done, their number, and what comes next."""


def profile(
    request: Request,
    runner: Runner,
    *,
    limits: Limits | None = None,
    policy: Policy | None = None,
    strategy: Strategy = DEFAULT,
    progress: Progress | None = None,
    pick: Pick | None = None,
    keep: list[Observation] | None = None,
    clock: Callable[[], float] = time.monotonic,
    prefixes: Recall | None = None,
) -> ProfileResult:
    """Measure everything the planner needs to know of a pipeline or a model.

    Args:
        request: what to measure.
        runner: runs pieces of the plan.
        limits: when to stop early.
        policy: how long each batch size is measured.
        strategy: which means of saving row-evaluations are on; all, by default. `PLAIN` is
            fixed-size uniform profiling of every choice.
        progress: told before each piece of work.
        pick: asked for assignments where there are more than `MAX_ASSIGNMENTS`.
        keep: gets every observation as it is made, so that an error does not lose the earlier
            ones.
        clock: seconds, monotonic.
        prefixes: recalls outputs that are known already; it is, or is around, the `runner`.

    Raises:
        OctansError: no choice of a step can run, or not the one that says what is right; or a label
            does not fit.
    """
    limits = limits or Limits()
    meter = Meter(
        runner,
        seconds=limits.seconds,
        usd=limits.usd,
        price=limits.price,
        cancelled=limits.cancelled,
        clock=clock,
    )
    observations: list[Observation] = [] if keep is None else keep
    notes: list[str] = []
    stopped: str | None = None
    try:
        work = Work(
            request, meter, policy or Policy(), strategy, pick, observations, notes, prefixes
        )
        pieces = work.pieces()
    except Stopped as stop:
        spent = meter.spent_seconds, meter.usd
        rest = "everything else" if observations else "everything"
        return ProfileResult(tuple(observations), (rest,), (), str(stop), *spent, meter)
    left_out: dict[str, str] = {}
    for place, (label, piece) in enumerate(pieces):
        if progress is not None:
            progress(place, len(pieces), label)
        try:
            meter.check()
            piece()
        except Unaffordable as refused:
            left_out[label] = f": {refused}"
        except (Stopped, KeyboardInterrupt) as stop:
            stopped = str(stop) or "cancelled"
            left_out |= {label: "" for label, _ in pieces[place:] if label not in left_out}
            break
    if progress is not None and stopped is None:
        progress(len(pieces), len(pieces), "done")
    work.verdicts.settle()
    return ProfileResult(
        tuple(observations),
        tuple(label + why for label, why in left_out.items()),
        tuple(dict.fromkeys(notes)),
        stopped,
        meter.spent_seconds,
        meter.usd,
        meter,
        dict(meter.evaluations),
        dict(meter.timings),
        work.verdicts.decided(),
        work.verdicts.saved(),
        work.verdicts.sure(),
    )


__all__ = [
    "PLAIN",
    "Aim",
    "Limits",
    "Observation",
    "Policy",
    "ProfileResult",
    "ProfiledStep",
    "Request",
    "Runner",
    "StageRun",
    "StoppedChoice",
    "Strategy",
    "profile",
]
