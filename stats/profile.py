"""ANALYZE: run every choice of every model on a sample and say what was seen, as observations.

    reference choices upstream ─▶ each choice of a stage: batch ladder, quality, failures, memory
    each choice of a conditioning step ─▶ rates of the WHEN above it, qualities under it
    complete assignments (all up to 64, else those a callback picks) ─▶ end-to-end accuracy

Work goes round by round, every stage's reference first, so that a budget that ends it early leaves
every stage with something. What was measured stays; what was not is named. Rows of one cluster are
one independent unit throughout. Held-back rows never come here: see `promise`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from itertools import product, zip_longest
from threading import Event
from typing import TYPE_CHECKING

from ..errors import RunError
from ..ir.models import Derivation, Metric
from ..ir.physical import Choice, PhysicalPlan
from ..ir.record import dataclass
from .end_to_end import Evaluator, Made, accuracy_scores, made, text_of, truth_of
from .intervals import clustered_share
from .ladder import Policy
from .lineage import Chain, chain
from .measure import Measure
from .meter import Meter, Stopped, Unaffordable
from .observation import Observation
from .recorder import Recorder
from .runner import Runner, StageRun
from .strategy import DEFAULT, Aim, StoppedChoice, Strategy

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ASSIGNMENTS = 64
"""Complete assignments (or pairs of choices) measured without asking which ones matter (ours)."""


@dataclass(frozen=True)
class ProfiledStep:
    """What profiling knows of a stage besides the plan.

    Attributes:
        key: the stage's `step`.
        metric: how its model's answers are scored; None where it declares no QUALITY.
        base: the BASE variant's choice, the truth where no label is given.
        given: key of the step whose choice its WHEN depends on.
        instead_of: keys of the steps whose answers it replaces where it runs.
    """

    key: str
    metric: Metric | None = None
    base: Choice | None = None
    given: str | None = None
    instead_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What to profile.

    Attributes:
        subject: the pipeline or model.
        plan: a chain over the search rows, lowered with reference choices.
        choices: by step key, the choices to measure (batch sizes are ignored).
        steps: by step key; a step left out has no metric and no condition.
        metric: the subject's own QUALITY.
        labels: (subject, output) or (step key, output) → truths; position i belongs to the row
            with `__row` i.
        clusters: cluster of each row, likewise; None where rows are independent.
        run: the ANALYZE's id, kept with every observation.
        versions: catalog version of each context; 1 where it is left out.
        strata: stratum of each row, position i for the row with `__row` i; None: rows are looked
            at in uniform order. Rows are self-weighting: every plain mean is unbiased.
        aim: what the asked SLO needs; nothing where none was asked.
        derivations: by full name of a variant, how it was made from its base.
    """

    subject: str
    plan: PhysicalPlan
    choices: Mapping[str, Sequence[Choice]]
    steps: Mapping[str, ProfiledStep] = field(default_factory=dict)
    metric: Metric | None = None
    labels: Mapping[tuple[str, str], pa.ChunkedArray] = field(default_factory=dict)
    clusters: Sequence[Hashable] | None = None
    run: int | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    strata: Sequence[int] | None = None
    aim: Aim = Aim()
    derivations: Mapping[str, Derivation] = field(default_factory=dict)


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

    `evaluations` counts the elements handed to models for answers, `timings` those of the batch
    ladders, both by step key and `variant(knobs)`. `decided` are the choices measured no further
    because the data had decided; `saved` is the share of row-evaluations that this left out.
    """

    observations: tuple[Observation, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    stopped: str | None
    seconds: float
    usd: float
    evaluations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    timings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    decided: tuple[StoppedChoice, ...] = ()
    saved: float = 0.0


Progress = Callable[[int, int, str], None]
"""Called with pieces of work done, their number, and what comes next."""

Pick = Callable[[Sequence[Observation]], Sequence[Mapping[str, Choice]]]
"""Chooses complete assignments worth measuring end to end, from what was observed so far."""


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

    Raises:
        OctansError: the reference choices themselves cannot run, or a label does not fit.
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
        work = _Work(request, meter, policy or Policy(), pick, observations, notes)
        pieces = work.pieces()
    except Stopped as stop:
        return ProfileResult((), ("everything",), (), str(stop), meter.spent_seconds, meter.usd)
    left_out: list[str] = []
    for place, (label, piece) in enumerate(pieces):
        if progress is not None:
            progress(place, len(pieces), label)
        try:
            meter.check()
            piece()
        except Unaffordable as refused:
            left_out.append(f"{label}: {refused}")
        except (Stopped, KeyboardInterrupt) as stop:
            stopped = str(stop) or "cancelled"
            left_out += [label for label, _ in pieces[place:]]
            break
    if progress is not None and stopped is None:
        progress(len(pieces), len(pieces), "done")
    return ProfileResult(
        tuple(observations),
        tuple(left_out),
        tuple(dict.fromkeys(notes)),
        stopped,
        meter.spent_seconds,
        meter.usd,
    )


Piece = tuple[str, Callable[[], None]]


class _Work:
    """The pieces of one ANALYZE, in order, and what they found."""

    def __init__(
        self,
        request: Request,
        meter: Meter,
        policy: Policy,
        pick: Pick | None,
        observations: list[Observation],
        notes: list[str],
    ) -> None:
        self.request = request
        self.meter = meter
        self.pick = pick
        self.observations = observations
        self.notes = notes
        self.chain: Chain = chain(request.plan)
        self.evaluator = Evaluator(self.chain, meter)
        self.reference = {stage.step: stage.choice for stage in self.chain.stages}
        self.record = Recorder(observations, meter.now, request.run, request.versions)
        self.broken: set[tuple[str, Made]] = set()
        self.measure = Measure(
            self.evaluator, meter, self.record, policy, request.labels, request.clusters
        )

    def step(self, key: str) -> ProfiledStep:
        """What the request says of a step."""
        return self.request.steps.get(key) or ProfiledStep(key)

    def choices(self, key: str) -> tuple[Choice, ...]:
        """The reference first, then the others, each once."""
        found: dict[tuple[Made, str], Choice] = {}
        for choice in (self.reference[key], *self.request.choices.get(key, ())):
            found.setdefault((made(choice), choice.device), choice)
        return tuple(found.values())

    def makers(self, key: str) -> tuple[Choice, ...]:
        """The choices that may answer differently, as far as they are known to run."""
        found: dict[Made, Choice] = {}
        for choice in self.choices(key):
            if (key, made(choice)) not in self.broken:
                found.setdefault(made(choice), choice)
        return tuple(found.values())

    def pieces(self) -> list[Piece]:
        """All work, most needed first."""
        keys = list(self.reference)
        found: list[Piece] = []
        for key in keys:
            found.append((f"{key}: inputs", partial(self.measure.inputs, key, self.reference)))
            found.append(self._choice(key, self.choices(key)[0]))
        for others in zip_longest(*(self.choices(key)[1:] for key in keys)):
            for key, choice in zip(keys, others, strict=True):
                if choice is not None:
                    found.append(self._choice(key, choice))
        for key in keys:
            found += self._conditions(key)
        for key in keys:
            above = [other for other in keys if key in self.step(other).instead_of]
            for choice in self.makers(key) if above else ():
                label = f"{key}: {choice.variant} where it is not replaced"
                found.append((label, partial(self._kept, key, choice, above)))
        if self.request.metric is not None and self.request.subject not in keys:
            found.append(("end to end", self._end_to_end))
        return found

    def _choice(self, key: str, choice: Choice) -> Piece:
        variant, knobs = made(choice)
        label = f"{key}: {variant}" + (f" ({knobs})" if knobs else "") + f" on {choice.device}"
        return label, partial(self._measure_choice, key, choice)

    def _measure_choice(self, key: str, choice: Choice) -> None:
        """Ladder and quality of one choice; a choice that cannot run is noted, not fatal."""
        step = self.step(key)
        first_device = next(c.device for c in self.choices(key) if made(c) == made(choice))
        is_reference = made(choice) == made(self.reference[key])
        try:
            problem = self.measure.latency(
                key,
                choice,
                self.reference,
                evaluate=choice.device == first_device,
                refusable=not is_reference,
            )
            if problem is not None:
                self.notes.append(f"{key}: {choice.variant}: {problem}")
            if choice.device == first_device:
                problem = self.measure.quality(key, choice, self.reference, step.metric, step.base)
                if problem is not None:
                    self.notes.append(f"{key}: {problem}")
        except RunError as error:
            # A runner stopped from outside may report it as a failed run.
            self.meter.check()
            if is_reference:
                raise
            self.broken.add((key, made(choice)))
            self.notes.append(f"{key}: {choice.variant} cannot run: {error.message}")
            self.measure.broken(key, choice)

    def _conditions(self, key: str) -> Iterator[Piece]:
        """Rates, and qualities while pairs are few, under each choice of the conditioning step."""
        given = self.step(key).given
        if given is None or given not in self.reference:
            return
        options = self.makers(given)
        few = len(options) * len(self.makers(key)) <= MAX_ASSIGNMENTS
        for choice in options:
            label = f"{key}: when {given} is {choice.variant}"
            yield label, partial(self._condition, key, given, choice, few)

    def _condition(self, key: str, given: str, choice: Choice, all_pairs: bool) -> None:
        """One conditioning choice: the rate under it, and what this step is worth there."""
        if (given, made(choice)) in self.broken:
            return
        step = self.step(key)
        assignment = {**self.reference, given: choice}
        condition = (self.chain.stage(given).context, choice)
        self.measure.rate(key, assignment, condition)
        if all_pairs or made(choice) == made(self.reference[given]):
            for own in self.makers(key):
                self.measure.quality(key, own, assignment, step.metric, step.base, condition)

    def _kept(self, key: str, choice: Choice, above: Sequence[str]) -> None:
        """Quality of a replaced step on the rows where nothing replaced it."""
        if (key, made(choice)) in self.broken:
            return
        step = self.step(key)
        assignment = {**self.reference, key: choice}
        kept = self.measure.not_run(above, assignment)
        condition = (self.chain.stage(key).context, choice)
        self.measure.quality(key, choice, assignment, step.metric, step.base, condition, kept)

    def _end_to_end(self) -> None:
        """Accuracy of complete assignments."""
        metric = self.request.metric
        if metric is None:
            return
        label = self.request.labels.get((self.request.subject, metric.output))
        truth = truth_of(self.evaluator, metric, label, self._base())
        if truth is None:
            self.notes.append("end to end: no label, and not every model has a BASE variant")
            return
        for assignment in self._assignments():
            try:
                scored = accuracy_scores(
                    self.evaluator, assignment, metric, truth, self.request.clusters
                )
            except RunError as error:
                self.meter.check()
                self.notes.append(f"end to end: {text_of(assignment)}: {error.message}")
                continue
            self.record.add(
                self.request.subject,
                "accuracy",
                "mean",
                clustered_share(scored.scores, scored.clusters),
                assignment=text_of(assignment),
            )

    def _base(self) -> dict[str, Choice] | None:
        """The assignment of BASE variants; a step with one way to compute it is its own base."""
        found: dict[str, Choice] = {}
        for key in self.reference:
            base = self.step(key).base
            only = self.makers(key)
            if base is None and len(only) != 1:
                return None
            found[key] = base if base is not None else only[0]
        return found

    def _assignments(self) -> Iterator[Mapping[str, Choice]]:
        """All complete assignments while they are few, else the picked ones."""
        keys = list(self.reference)
        makers = [self.makers(key) for key in keys]
        if math.prod(len(options) for options in makers) <= MAX_ASSIGNMENTS:
            for combination in product(*makers):
                yield dict(zip(keys, combination, strict=True))
            return
        if self.pick is None:
            yield self.reference
            self.notes.append("end to end: only the reference; there are too many assignments")
            return
        picked = self.pick(tuple(self.observations))
        yield from picked[:MAX_ASSIGNMENTS]
        if len(picked) > MAX_ASSIGNMENTS:
            self.notes.append(f"end to end: {len(picked) - MAX_ASSIGNMENTS} picked were left out")


__all__ = [
    "Limits",
    "Observation",
    "Policy",
    "ProfileResult",
    "ProfiledStep",
    "Request",
    "Runner",
    "StageRun",
    "profile",
]
