"""Profile whole plans on the first rows of a sample, for a search that decides which and how many.

    PlanProfiler.evaluate(choices, units) ─▶ PlanSeen: a score a unit, what every stage did

Units (rows, or clusters of them) have one order, `sequential.spread`'s, and come in blocks that
double. What a plan shares with plans before it (a prefix on a block, a batch size that was timed, a
variant that is loaded) is not paid again. Nothing is recorded: what a search has looked at in
haste is no statistic; what comes of it is measured by `profile`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

from ..errors import RunError
from ..ir.models import Metric
from ..ir.physical import Choice, Stage
from .admission import Admission
from .blocks import Block, input_of
from .call_times import CallTimes
from .end_to_end import (
    EVALUATION_BATCH,
    Evaluator,
    Made,
    Truth,
    accuracy_scores,
    made,
    truth_of,
)
from .grading import element_counts, untruthful
from .ladder import Policy, first_failure, frugal, full_batches, time_size
from .lineage import chain
from .meter import Meter, Unaffordable
from .plan_seen import Broken, PlanSeen, Spent, StageSeen, Tally, TooDear
from .prefixes import Recall
from .promise import Scored
from .request import Request, base_assignment
from .runner import StageRun
from .sequential import blocks
from .series import piece

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FIRST_UNITS = 8
"""Units of the first block; each later look doubles them (as the learned search asks)."""


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
        self._tallies: dict[tuple[str, Made], Tally] = {}
        self._loaded: set[tuple[str, str, str]] = set()
        self._admission = Admission(meter, prefixes)

    @property
    def calls(self) -> CallTimes:
        """What calls took so far."""
        return self._admission.calls

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return int(self._source.num_rows)

    @property
    def units(self) -> int:
        """Independent units of the sample."""
        return self._ends[-1] if self._ends else 0

    def failed(self, key: str, choice: Choice) -> float:
        """The share of its elements that a choice failed on; 0 where it was not called."""
        tally = self._tallies.get((key, made(choice)), Tally())
        return tally.failed / max(tally.elements, 1)

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

        Blocks after the first are left out once what is left of a budget does not allow them.

        Args:
            choices: by step key, with batch size and device.
            units: at least 1.

        Raises:
            Broken: a choice cannot run.
            TooDear: the budget does not allow the first block, or to time a choice.
            Stopped: the meter says so.
        """
        looks = next((at + 1 for at, end in enumerate(self._ends) if end >= units), len(self._ends))
        seconds, usd, spent = self.meter.model_seconds, self.meter.usd, Spent()
        scores: list[float] = []
        for look in range(looks):
            self._open(look)
            try:
                scores += self._look(self._blocks[look], choices, spent)
            except TooDear:
                if not look:
                    raise
                looks = look
                break
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

    def _look(self, block: Block, choices: Mapping[str, Choice], spent: Spent) -> list[float]:
        """Score of every unit of a block."""
        for stage in self.chain.stages:
            choice = choices[stage.step]
            if block.evaluator.knows(stage.step, choices):
                continue
            block.evaluator.set_batch(stage.step, choice, choice.batch)
            try:
                self._admission.rows(
                    stage.replace(choice=choice),
                    input_of(block.evaluator, stage, choices),
                    partial(self._spend, stage.step, choice, spent=spent),
                )
                run = block.evaluator.outputs(stage.step, choices).run
            except RunError as error:
                self.meter.check()
                raise Broken(stage.step, choice, error.message) from error
            if run is not None:
                self._spend(stage.step, choice, run, spent)
        scored = self._scored(block, choices)
        return list(piece(scored, block.names_of(range(len(block.places)))).means.values())

    def _spend(self, key: str, choice: Choice, run: StageRun, spent: Spent) -> None:
        self._admission.calls.add(key, choice, run)
        seconds = run.busy_seconds
        spent.seconds[key] = spent.seconds.get(key, 0.0) + seconds
        if run.elements:
            new = run.elements / (run.elements + run.recalled)
            spent.rows[key] = spent.rows.get(key, 0.0) + new * run.table.num_rows
        self._load(key, choice, run, spent)
        self._tallies.setdefault((key, made(choice)), Tally()).add(run)

    def _load(self, key: str, choice: Choice, run: StageRun, spent: Spent) -> None:
        """Count a loading, once: a search that continues a dead one loads again what it needs."""
        at = (key, choice.variant, choice.device)
        if run.load_seconds is not None and at not in self._loaded:
            self._loaded.add(at)
            spent.loads[key] = run.load_seconds

    def _scored(self, block: Block, choices: Mapping[str, Choice]) -> Scored:
        """Right answers; without anything to judge by, answers at all."""
        metric = self.request.metric
        if metric is not None:
            truth = self._truth(block, metric)
            if truth is not None:
                return accuracy_scores(block.evaluator, choices, metric, truth, block.clusters)
        failed = block.evaluator.final(choices).failed_in()
        return Scored((~failed).astype(float).tolist(), block.clusters)

    def _truth(self, block: Block, metric: Metric) -> Truth | None:
        """See `truth_of`; BASE variants are run within the budget like any others."""
        label = block.labels.get((self.request.subject, metric.output))
        base = self._base() if label is None else None
        for stage in () if base is None else self.chain.stages:
            assert base is not None
            key, choice = stage.step, base[stage.step]
            if not block.evaluator.knows(key, base):
                batch = self._batches.get((key, made(choice)), EVALUATION_BATCH)
                sized = choice.replace(batch=batch)
                keep = partial(self._admission.calls.add, key, sized)
                table = input_of(block.evaluator, stage, base)
                self._admission.rows(stage.replace(choice=sized), table, keep)
                run = block.evaluator.outputs(key, base).run
                if run is not None:
                    keep(run)
        return truth_of(block.evaluator, metric, label, base)

    def _base(self) -> dict[str, Choice] | None:
        request = self.request

        def makers(key: str) -> list[Choice]:
            return list({made(choice): choice for choice in request.choices[key]}.values())

        return base_assignment((s.step for s in self.chain.stages), request.steps, makers)

    def _stage(
        self, stage: Stage, choices: Mapping[str, Choice], looks: int, spent: Spent
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
        tally = self._tallies.get((key, made(choice)), Tally())
        known = max(tally.elements, 1)
        tokens = (tally.read / known, tally.written / known) if tally.told else None
        made_now = spent.rows.get(key, 0.0)
        return StageSeen(
            seconds,
            table.num_rows / rows,
            lengths,
            self.failed(stage.step, choice),
            tokens if tally.elements else None,
            spent.seconds[key] / made_now if made_now else None,
            spent.loads.get(key),
        )

    def _times(
        self, stage: Stage, choice: Choice, table: pa.Table, spent: Spent
    ) -> tuple[float, ...]:
        """Seconds of full calls at the choice's batch size, measured once."""
        at = (stage.step, choice)
        if at not in self._timed:
            counts = element_counts(stage, table)
            if not table.num_rows or not counts.sum():
                return ()
            runs, seconds = self._called(stage.replace(choice=choice), table, counts)
            for run in runs:
                self._load(stage.step, choice, run, spent)
            if not seconds:
                raise self._failing(stage.step, choice, runs)
            self._timed[at] = tuple(seconds)
        return self._timed[at]

    def _failing(self, key: str, choice: Choice, runs: Sequence[StageRun]) -> Broken:
        """No full batch succeeded: nothing of the choice did, or only larger batches fail."""
        tally = self._tallies.get((key, made(choice)), Tally())
        first = first_failure(runs)
        split = not any(run.timed_out for run in runs)  # calls that fail are tried in halves
        if split and FIRST_UNITS <= tally.elements == tally.failed:
            return Broken(key, choice, f"all that it was called with failed: {first}")
        why = "no full batch succeeded" + ("" if first is None else f": {first}")
        return Broken(key, choice, why, sized=True)

    def _called(
        self, stage: Stage, table: pa.Table, counts: np.ndarray
    ) -> tuple[list[StageRun], list[float]]:
        """Runs at the stage's batch size, and seconds of their full calls; see `time_size`.

        Raises:
            TooDear: the budget does not allow the first call; of a further one, what was seen does.
        """
        key, choice = stage.step, stage.choice
        runs: list[StageRun] = []

        def alone(rows: pa.Table) -> None:
            runs.append(self.meter.run_stage(stage, rows))
            self._admission.calls.add(key, choice, runs[-1])

        def run(sized: Stage, rows: pa.Table) -> StageRun:
            elements = int(element_counts(sized, rows).sum())
            self._admission.afford(sized, elements, timed=True)
            alone(rows)
            return runs[-1]

        warmed = (key, choice.variant, choice.device) in self._loaded
        self.meter.timing = True
        try:
            self._admission.timing(stage, table, alone)
            _, seconds = time_size(stage, table, counts, run, self._policy, warmed=warmed)
            return runs, seconds
        except Unaffordable:
            seconds = [second for one in runs for second in full_batches(one, choice.batch)]
            if not seconds:
                raise
            return runs, seconds
        except RunError as error:
            self.meter.check()
            raise Broken(key, choice, error.message) from error
        finally:
            self.meter.timing = False
