"""Profile whole plans on the first rows of a sample, for a search that decides which and how many.

    PlanProfiler.evaluate(choices, units) ─▶ PlanSeen: a score a unit, what every stage did

Units (rows, or clusters of them) have one order, `sequential.spread`'s, and come in blocks that
double. What a plan shares with plans before it (a prefix on a block, a batch size that was timed, a
variant that is loaded) is not paid again. Nothing is recorded: what a search has looked at in
haste is no statistic; what comes of it is measured by `profile`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from ..errors import RunError
from ..ir.physical import Choice, Stage
from ..ir.record import dataclass, field
from .blocks import Block, input_of
from .end_to_end import Evaluator, Made, accuracy_scores, made, truth_of
from .grading import element_counts, untruthful
from .ladder import Point, Policy, frugal, time_size
from .lineage import chain
from .meter import Meter
from .prefixes import Recall
from .promise import Scored
from .request import Request, base_assignment
from .runner import StageRun, failed_elements
from .sequential import blocks
from .series import piece

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_UNITS = 8
"""Units of the first block; each later look doubles them (as the learned search asks)."""


class Broken(Exception):
    """A choice of a step cannot run, or (`sized`) not at its batch size; the text says why."""

    def __init__(self, key: str, choice: Choice, why: str, *, sized: bool = False) -> None:
        super().__init__(why)
        self.key, self.choice, self.sized = key, choice, sized


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
class _Tally:
    """What a choice was seen to do over all runs so far."""

    elements: int = 0
    failed: int = 0
    read: int = 0
    written: int = 0
    told: bool = True

    def add(self, run: StageRun) -> None:
        self.elements += run.elements
        self.failed += failed_elements(run)
        self.told &= run.tokens_in is not None or run.tokens_out is not None or not run.elements
        self.read += run.tokens_in or 0
        self.written += run.tokens_out or 0


@dataclass
class _Spent:
    """Of one evaluation, by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)
    loads: dict[str, float] = field(default_factory=dict)


class PlanProfiler:
    """Evaluates plans of one request.

    Args:
        request: the subject, its sample's labels, clusters and strata.
        meter: runs and stops.
        prefixes: recalls outputs that are known already.
        policy: how long a batch size is timed.
        seed: of the order of units.
    """

    def __init__(
        self,
        request: Request,
        meter: Meter,
        *,
        prefixes: Recall | None = None,
        policy: Policy | None = None,
        seed: int = 0,
    ) -> None:
        self.request, self.meter = request, meter
        self.chain = chain(request.plan)
        self._policy = frugal(policy or Policy(), request.aim.latency)
        self._prefixes = prefixes
        self._source = meter.scan(self.chain.scan).sort_by("__row")
        self._places = blocks(
            request.strata, self._source.num_rows, request.clusters, FIRST_UNITS, 2.0, seed
        )
        clusters = request.clusters
        self._ends = list(
            accumulate(
                len(set(places if clusters is None else (clusters[p] for p in places)))
                for places in self._places
            )
        )
        self._batches: dict[tuple[str, Made], int] = {}
        self._blocks: list[Block] = []
        self._timed: dict[tuple[str, Choice], tuple[float, ...]] = {}
        self._tallies: dict[tuple[str, Made], _Tally] = {}
        self._loaded: set[tuple[str, str, str]] = set()

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return int(self._source.num_rows)

    @property
    def units(self) -> int:
        """Independent units of the sample."""
        return self._ends[-1] if self._ends else 0

    def unjudged(self) -> str | None:
        """Why nothing says which answers are right, of the whole or a graded step; None: it does.

        A step that declares a QUALITY must be judged too: planning takes no choice without it.
        """
        request, metric = self.request, self.request.metric
        if metric is None:
            return f"{request.subject} declares no QUALITY"
        if (request.subject, metric.output) not in request.labels and self._base() is None:
            return f"no label for {metric.output}, and not every model has a BASE variant"
        for stage in self.chain.stages:
            step = request.steps.get(stage.step)
            if step is not None and step.metric is not None:
                why = untruthful(stage, step.metric, step.base, request.labels)
                if why is not None:
                    return f"{stage.step}: {why}"
        return None

    def evaluate(self, choices: Mapping[str, Choice], units: int) -> PlanSeen:
        """Run a plan on the first `units` units, or those of the block that they end in.

        Args:
            choices: by step key, with batch size and device.
            units: at least 1.

        Raises:
            Broken: a choice cannot run.
            Stopped: the meter says so.
        """
        looks = next((at + 1 for at, end in enumerate(self._ends) if end >= units), len(self._ends))
        seconds, usd, spent = self.meter.model_seconds, self.meter.usd, _Spent()
        scores: list[float] = []
        for look in range(looks):
            self._open(look)
            scores += self._look(self._blocks[look], choices, spent)
        stages = {
            stage.step: self._stage(stage, choices, looks, spent) for stage in self.chain.stages
        }
        seconds = self.meter.model_seconds - seconds + sum(spent.loads.values())
        return PlanSeen(tuple(scores), stages, seconds, self.meter.usd - usd)

    # -- details -----------------------------------------------------------------------------

    def _open(self, look: int) -> None:
        while len(self._blocks) <= look:
            places = self._places[len(self._blocks)]
            evaluator = Evaluator(
                self.chain, self.meter, self._source.take(places), self._batches,
                prefixes=self._prefixes,
            )  # fmt: skip
            self._blocks.append(
                Block(evaluator, places, self.request.labels, self.request.clusters)
            )

    def _look(self, block: Block, choices: Mapping[str, Choice], spent: _Spent) -> list[float]:
        """Score of every unit of a block."""
        for stage in self.chain.stages:
            choice = choices[stage.step]
            if block.evaluator.knows(stage.step, choices):
                continue
            block.evaluator.set_batch(stage.step, choice, choice.batch)
            try:
                run = block.evaluator.outputs(stage.step, choices).run
            except RunError as error:
                self.meter.check()
                raise Broken(stage.step, choice, error.message) from error
            if run is not None:
                self._spend(stage.step, choice, run, spent)
        scored = self._scored(block, choices)
        return list(piece(scored, block.names_of(range(len(block.places)))).means.values())

    def _spend(self, key: str, choice: Choice, run: StageRun, spent: _Spent) -> None:
        seconds = sum(run.batch_seconds)
        spent.seconds[key] = spent.seconds.get(key, 0.0) + seconds
        if run.elements:
            new = run.elements / (run.elements + run.recalled)
            spent.rows[key] = spent.rows.get(key, 0.0) + new * run.table.num_rows
        self._load(key, choice, run, spent)
        self._tallies.setdefault((key, made(choice)), _Tally()).add(run)

    def _load(self, key: str, choice: Choice, run: StageRun, spent: _Spent) -> None:
        """Count a loading, once: a search that continues a dead one loads again what it needs."""
        at = (key, choice.variant, choice.device)
        if run.load_seconds is not None and at not in self._loaded:
            self._loaded.add(at)
            spent.loads[key] = run.load_seconds

    def _scored(self, block: Block, choices: Mapping[str, Choice]) -> Scored:
        """Right answers; without anything to judge by, answers at all."""
        metric = self.request.metric
        if metric is not None:
            label = block.labels.get((self.request.subject, metric.output))
            truth = truth_of(block.evaluator, metric, label, self._base())
            if truth is not None:
                return accuracy_scores(block.evaluator, choices, metric, truth, block.clusters)
        failed = block.evaluator.final(choices).failed_in()
        return Scored((~failed).astype(float).tolist(), block.clusters)

    def _base(self) -> dict[str, Choice] | None:
        request = self.request

        def makers(key: str) -> list[Choice]:
            return list({made(choice): choice for choice in request.choices[key]}.values())

        return base_assignment((s.step for s in self.chain.stages), request.steps, makers)

    def _stage(
        self, stage: Stage, choices: Mapping[str, Choice], looks: int, spent: _Spent
    ) -> StageSeen:
        """What a stage did on the blocks looked at."""
        import numpy as np
        import pyarrow as pa

        key, choice = stage.step, choices[stage.step]
        tables = [input_of(block.evaluator, stage, choices) for block in self._blocks[:looks]]
        rows = sum(len(block.places) for block in self._blocks[:looks])
        table = pa.concat_tables(tables)
        counts = element_counts(stage, table)
        lengths = None
        if stage.lists is not None and table.num_rows:
            values, times = np.unique(counts, return_counts=True)
            shares = (times / times.sum()).tolist()
            lengths = tuple(zip(map(int, values.tolist()), shares, strict=True))
        seconds = self._times(stage, choice, table, spent)
        tally = self._tallies.get((key, made(choice)), _Tally())
        known = max(tally.elements, 1)
        tokens = (tally.read / known, tally.written / known) if tally.told else None
        made_now = spent.rows.get(key, 0.0)
        return StageSeen(
            seconds,
            table.num_rows / rows,
            lengths,
            tally.failed / known,
            tokens if tally.elements else None,
            spent.seconds[key] / made_now if made_now else None,
            spent.loads.get(key),
        )

    def _times(
        self, stage: Stage, choice: Choice, table: pa.Table, spent: _Spent
    ) -> tuple[float, ...]:
        """Seconds of full calls at the choice's batch size, measured once."""
        at = (stage.step, choice)
        if at not in self._timed:
            counts = element_counts(stage, table)
            if not table.num_rows or not counts.sum():
                return ()
            self.meter.timing = True
            try:
                runs, seconds = time_size(
                    stage.replace(choice=choice),
                    table,
                    counts,
                    self.meter.run_stage,
                    self._policy,
                    warmed=(stage.step, choice.variant, choice.device) in self._loaded,
                )
            except RunError as error:
                self.meter.check()
                raise Broken(stage.step, choice, error.message) from error
            finally:
                self.meter.timing = False
            for run in runs:
                self._load(stage.step, choice, run, spent)
            if not seconds:
                why = f"no full batch of {choice.batch} succeeded"
                raise Broken(stage.step, choice, why, sized=True)
            self._timed[at] = tuple(seconds)
        return self._timed[at]


def quantiles(seconds: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """(level, seconds of a call) at p50, p90, p95 and p99; nothing where no call was timed."""
    if not seconds:
        return ()
    found = Point(1, tuple(seconds)).statistics()
    return tuple((int(name[1:]) / 100, found[name].value) for name in found if name != "mean")
