"""Single measurements of a stage: inputs, latency, quality, rates; each ends in observations."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Choice, Stage
from .blocks import Block, input_of, not_run, reaching
from .decide import Costs
from .end_to_end import Made, Truth, accuracy_scores, made, text_of
from .energy import Metered
from .grading import element_counts, truth_for, untruthful
from .intervals import Interval, wilson
from .ladder import Ladder, Policy, climb, first_failure, full_batches, rows_for
from .lineage import Chain
from .meter import Meter, Unaffordable
from .observation import assignment_text
from .promise import Scored
from .recorder import Recorder
from .recordings import record_distinct, record_ladder, record_lengths, record_lost
from .runner import StageRun, failed_elements
from .scoring import element_scores, row_scores
from .sequential import look_level
from .series import Piece, Series, piece

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Condition = tuple[str, Choice]
"""The context of the conditioning step and its choice."""


class Measure:
    """Measures stages on the blocks opened so far; the block is the unit of work.

    Every target is a `Series` under a key. A call computes the blocks that the series lacks, up to
    the last one opened, and records what all of them say.

    Args:
        meter: the runner.
        record: gets the observations.
        policy: of batch ladders.
        rows: rows of the whole sample.
        looks: how many blocks there will be.
    """

    def __init__(
        self, meter: Meter, record: Recorder, policy: Policy, rows: int, looks: int
    ) -> None:
        self.meter = meter
        self.record = record
        self.policy = policy
        self.rows = rows
        self.looks = looks
        self.blocks: list[Block] = []
        self.series: dict[Hashable, Series] = {}
        self.ladders: dict[tuple[str, Made, str], Ladder] = {}
        self.unreached: set[tuple[str, Made, str]] = set()
        self.metered: dict[tuple[str, Made, str], Metered] = {}
        self.runs: dict[tuple[str, Made], list[StageRun]] = {}
        self.elements: dict[str, float] = {}

    @property
    def chain(self) -> Chain:
        """What is measured."""
        return self.blocks[0].evaluator.chain

    def level(self, series: Series) -> float:
        """Coverage of the series' interval, for the looks taken."""
        return look_level(len(series.pieces), self.looks)

    def _extended(self, key: Hashable, of: Callable[[Block], Piece]) -> Series:
        """The series with a piece of every open block."""
        found = self.series.setdefault(key, Series())
        for block in self.blocks[len(found.pieces) :]:
            found.pieces.append(of(block))
        return found

    def inputs(self, key: str, assignment: Mapping[str, Choice]) -> None:
        """What reaches a stage: WHEN rate, EACH lengths, distinct inputs.

        On the blocks where the stages below ran already: more would be run for this alone.
        """
        import pyarrow as pa

        stage = self.chain.stage(key)
        below = self.chain.ancestors[key]
        known = [
            block
            for place, block in enumerate(self.blocks)
            if place == 0 or all(block.evaluator.knows(b, assignment) for b in below)
        ]
        tables = [input_of(block.evaluator, stage, assignment) for block in known]
        table = pa.concat_tables(tables)
        self.elements[key] = float(element_counts(stage, table).mean()) if table.num_rows else 1.0
        if not table.num_rows:
            return
        units = sum(len(set(block.names_of(range(len(block.places))))) for block in known)
        if stage.lists is not None:
            record_lengths(self.record, stage, table, units)
        record_distinct(self.record, stage, table)

    def rate(
        self, key: str, assignment: Mapping[str, Choice], condition: Condition | None = None
    ) -> None:
        """Share of rows whose WHEN is TRUE, among those whose inputs did not fail."""
        stage = self.chain.stage(key)
        if stage.when is None:
            return

        def of(block: Block) -> Piece:
            import numpy as np

            state = block.evaluator.before(key, assignment)
            places = np.flatnonzero(~state.failed_in(self.chain.ancestors[key]))
            ran = block.evaluator.live(stage, state)[places].astype(float)
            scored = Scored(ran.tolist(), block.clusters_of(places))
            return piece(scored, block.names_of(places))

        series = self._extended(("rate", key, _given(condition)), of)
        self.record.add(
            stage.context,
            "rate",
            "share",
            series.interval(self.level(series)),
            choice=condition[1] if condition else None,
            given=condition[0] if condition else None,
        )

    def ladder(
        self, key: str, choice: Choice, assignments: Iterable[Mapping[str, Choice]]
    ) -> str | None:
        """Climb the batch ladder on the first open block's rows that reach the step.

        Under the first of the assignments where any do. Says why it ended early, if it did; where
        no row does yet, the choice is `unreached`."""
        stage = self.chain.stage(key)
        at = (key, made(choice), choice.device)
        if at in self.ladders:
            return None
        ways = (reaching(self.blocks, stage, a, self.meter.afford_run) for a in assignments)
        found = next(filter(None, ways), None)
        if found is None:
            self.unreached.add(at)
            every = len(self.blocks) == self.looks
            return "no row of the sample reaches it" if every else None
        self.unreached.discard(at)
        table, looked_at = found
        elements = element_counts(stage, table)
        runs: list[StageRun] = []
        metered = self.metered[at] = Metered()

        def run(sized: Stage, rows: pa.Table) -> StageRun:
            self.meter.afford_run(sized, rows)
            runs.append(self.meter.run_stage(sized, rows))
            batch = sized.choice.batch
            metered.add(batch, runs[-1].energy, full_batches(runs[-1], batch))
            return runs[-1]

        # A sample of this size offers so many elements to one batch.
        most = int(elements.sum()) * self.rows // looked_at
        self.meter.timing = True
        try:
            ladder = climb(stage, choice, table, elements, run, self.policy, most)
            if ladder.points:
                self._meter_longer(table, elements, ladder, metered, run, stage, choice)
        finally:
            self.meter.timing = False
        self.ladders[at] = ladder
        failed = sum(map(failed_elements, runs))
        record_ladder(self.record, stage, choice, ladder, metered, failed)
        if not ladder.points:
            # Where it ran at all, `answers` counts failures on rows that stand for the others.
            self._record_failures(stage, choice, runs, table.num_rows)
        return ladder.problem

    def _meter_longer(
        self,
        table: pa.Table,
        elements: np.ndarray,
        ladder: Ladder,
        metered: Metered,
        run: Callable[[Stage, pa.Table], StageRun],
        stage: Stage,
        choice: Choice,
    ) -> None:
        """Repeat calls of the best batch size until a slow counter has told their energy.

        Where the budget does not allow it, the energy stays unknown.
        """
        best = min(ladder.points, key=lambda point: point.per_element)
        sized = stage.replace(choice=choice.replace(batch=best.batch))

        def again(calls: int) -> None:
            run(sized, rows_for(stage, table, elements, calls * best.batch))

        with suppress(Unaffordable):
            metered.top_up(best.batch, best.per_element * best.batch, again)

    def answers(
        self, key: str, choice: Choice, assignment: Mapping[str, Choice], *, refusable: bool
    ) -> None:
        """Run the open blocks at the ladder's best batch size, for failures and quality.

        Raises:
            Unaffordable: refusable, and the budget does not allow it.
        """
        stage = self.chain.stage(key)
        own = {**assignment, key: choice}
        ladder = self.ladders.get((key, made(choice), choice.device), Ladder(()))
        runs = self.runs.setdefault((key, made(choice)), [])
        metered = self.metered.setdefault((key, made(choice), choice.device), Metered())
        for block in self.blocks:
            evaluator = block.evaluator
            if evaluator.knows(key, own):
                continue
            evaluator.set_batch(key, choice, ladder.best_batch)
            if refusable:
                sized = stage.replace(choice=choice.replace(batch=ladder.best_batch))
                self.meter.afford_run(sized, input_of(evaluator, stage, assignment))
            whole = evaluator.outputs(key, own).run
            if whole is not None:
                runs.append(whole)
                timed = full_batches(whole, ladder.best_batch)
                metered.add(ladder.best_batch, whole.energy, timed)
                ladder = ladder.with_calls(timed)
        if not runs:
            return
        self.ladders[key, made(choice), choice.device] = ladder
        failed = sum(map(failed_elements, runs))
        record_ladder(self.record, stage, choice, ladder, metered, failed)
        self._record_failures(stage, choice, runs, sum(run.table.num_rows for run in runs))

    def failed_by(self, key: str, choice: Choice) -> str | None:
        """Why the first row failed that did; None where the ladder said so or no row failed."""
        ladder = self.ladders.get((key, made(choice), choice.device))
        if ladder is not None and not ladder.points:
            return None
        return first_failure(self.runs.get((key, made(choice)), ()))

    def untruthful(self, key: str, metric: Metric | None, base: Choice | None) -> str | None:
        """Why nothing says what is right at a step; None where something does."""
        return untruthful(self.chain.stage(key), metric, base, self.blocks[0].labels)

    def quality(
        self,
        key: str,
        choice: Choice,
        assignment: Mapping[str, Choice],
        metric: Metric,
        base: Choice | None,
        condition: Condition | None = None,
        above: Sequence[str] | None = None,
    ) -> Series:
        """Share of right answers where the stage ran (and none of `above` did).

        Against the step's label, else against the BASE variant's answers on the same inputs; rows
        that failed, here or in the BASE that is the truth, are wrong.
        """
        stage = self.chain.stage(key)

        def of(block: Block) -> Piece:
            return self._right(block, stage, metric, base, {**assignment, key: choice}, above)

        kind = "quality" if above is None else "kept"
        series = self._extended((kind, key, made(choice), _given(condition)), of)
        self.recorded_quality(key, choice, series, series.interval(self.level(series)), condition)
        return series

    def recorded_quality(
        self,
        key: str,
        choice: Choice,
        series: Series,
        interval: Interval,
        condition: Condition | None = None,
    ) -> None:
        """Keep a quality."""
        text = assignment_text({condition[0]: made(condition[1])}) if condition else ""
        self.record.add(
            self.chain.stage(key).context,
            "quality",
            "mean",
            interval,
            choice=choice,
            given=condition[0] if condition else None,
            assignment=text,
            n_failed=series.failed,
        )

    def _right(
        self,
        block: Block,
        stage: Stage,
        metric: Metric,
        base: Choice | None,
        assignment: Mapping[str, Choice],
        above: Sequence[str] | None,
    ) -> Piece:
        """One block's scores of a stage."""
        import numpy as np
        import pyarrow as pa

        key, evaluator = stage.step, block.evaluator
        truth = truth_for(evaluator, key, assignment, metric, base, block.labels)
        assert not isinstance(truth, str)  # `untruthful` was asked before
        outputs = evaluator.outputs(key, assignment)
        kept = not_run(evaluator, above or (), assignment)
        state = evaluator.before(key, assignment)
        failed = np.zeros(evaluator.rows, dtype=bool)
        failed[list(outputs.failed)] = True
        wrong = failed | truth.unknown
        places = np.flatnonzero(evaluator.live(stage, state) & kept)
        index = pa.array(places)
        answers = outputs.columns[stage.produce.index(metric.output)].take(index)
        truths = truth.values.take(index)
        names = block.names_of(places)
        if stage.lists is None:
            scored = row_scores(metric, answers, truths, wrong[places], block.clusters_of(places))
        else:
            lengths = element_counts(stage, state.table.take(index))
            scored = element_scores(metric, answers, truths, wrong[places], lengths, names)
        return piece(scored, names, block.names_of(places[failed[places]]))

    def accuracy(
        self,
        subject: str,
        assignment: Mapping[str, Choice],
        metric: Metric,
        truth: Callable[[Block], Truth],
    ) -> Series:
        """Right answers end to end under a complete assignment; see `accuracy_scores`."""

        def of(block: Block) -> Piece:
            scored = accuracy_scores(
                block.evaluator, assignment, metric, truth(block), block.clusters
            )
            return piece(scored, block.names_of(range(len(block.places))))

        text = text_of(assignment)
        series = self._extended(("accuracy", text), of)
        self.recorded_accuracy(subject, text, series.interval(self.level(series)))
        return series

    def recorded_accuracy(self, subject: str, text: str, interval: Interval) -> None:
        """Keep an accuracy."""
        self.record.add(subject, "accuracy", "mean", interval, assignment=text)

    def ran(self, key: str, choice: Choice, assignment: Mapping[str, Choice]) -> bool:
        """Are its answers on all open blocks known?"""
        own = {**assignment, key: choice}
        return all(block.evaluator.knows(key, own) for block in self.blocks)

    def failures(self, key: str, choice: Choice, assignment: Mapping[str, Choice]) -> Series:
        """Rows that failed in a stage, among those it ran on."""
        stage = self.chain.stage(key)
        own = {**assignment, key: choice}

        def of(block: Block) -> Piece:
            import numpy as np

            outputs = block.evaluator.outputs(key, own)
            ran = np.flatnonzero(block.evaluator.live(stage, block.evaluator.before(key, own)))
            failed = [float(row in outputs.failed) for row in ran.tolist()]
            return piece(Scored(failed, block.clusters_of(ran)), block.names_of(ran))

        return self._extended(("failure", key, made(choice)), of)

    def costs(self, key: str, own: Made) -> Costs:
        """What a choice takes on each device: seconds of a call, seconds and USD of an element."""
        usd = self.meter.usd_per_element(key, own)
        return [
            (
                ladder.points[0].per_element,
                min(point.per_element for point in ladder.points),
                *(() if usd is None else (usd,)),
            )
            for (of, how, _), ladder in self.ladders.items()
            if (of, how) == (key, own) and ladder.points
        ]

    def runs_on(self, key: str, given: str | None, below: Made | None) -> float:
        """Elements a row brings to a stage, its WHEN counted in, under a conditioning choice."""
        condition = None
        if given is not None and below is not None:
            condition = (self.chain.stage(given).context, below)
        seen = self.series.get(("rate", key, condition)) or self.series.get(("rate", key, None))
        share = 1.0 if seen is None or not seen.scores else seen.interval().value
        return share * self.elements.get(key, 1.0)

    def cannot_run(self, key: str, choice: Choice) -> None:
        """What failed of a choice that cannot run (any more), among all that it was called with.

        Where no call failed it could not be called: infeasible, not unknown.
        """
        called, failed = self.meter.calls(key, made(choice))
        called += sum(run.recalled for run in self.runs.get((key, made(choice)), ()))
        if not failed:
            called = failed = 1
        share, n = failed / called, min(self._units(), called)
        self.record.add(
            self.chain.stage(key).context, "failure", "share",
            Interval(share, *wilson(share * n, n), n),
            choice=choice, device=choice.device, n_failed=failed,
        )  # fmt: skip

    def forget(self, key: str) -> None:
        """Measure a step anew, on all blocks: its inputs come from another choice now."""
        for of in [of for of in self.series if isinstance(of, tuple) and of[1] == key]:
            del self.series[of]

    def _record_failures(
        self, stage: Stage, choice: Choice, runs: Sequence[StageRun], rows: int
    ) -> None:
        """Failure share and tokens over all runs; repeated rows do not make more units."""
        computed = sum(run.elements for run in runs)
        elements = computed + sum(run.recalled for run in runs)  # failures are never recalled
        if elements == 0:
            return
        failed = sum(map(failed_elements, runs))
        n = min(self._units(), rows)
        share = min(1.0, failed / elements)
        self.record.add(
            stage.context, "failure", "share", Interval(share, *wilson(share * n, n), n),
            choice=choice, device=choice.device, n_failed=failed,
        )  # fmt: skip
        record_lost(self.record, stage, choice, self.meter.lost(stage.step, choice))
        for metric, counts in (
            ("tokens_in", [run.tokens_in for run in runs]),
            ("tokens_out", [run.tokens_out for run in runs]),
        ):
            known = [count for count in counts if count is not None]
            if computed and known and len(known) == len(counts):
                mean = sum(known) / computed
                self.record.add(
                    stage.context, metric, "mean", Interval(mean, mean / 2, mean * 2, n),
                    choice=choice,
                )  # fmt: skip

    def _units(self) -> int:
        """Independent units in the open blocks."""
        return sum(len(set(block.names_of(range(len(block.places))))) for block in self.blocks)


def _given(condition: Condition | None) -> tuple[str, Made] | None:
    return None if condition is None else (condition[0], made(condition[1]))
