"""Single measurements of a stage: inputs, latency, quality, rates; each ends in observations."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Choice, Stage
from .end_to_end import Evaluator, made
from .intervals import Interval, clustered_share, wilson
from .ladder import Ladder, Policy, climb, full_batches
from .meter import Meter
from .observation import assignment_text
from .promise import Scored
from .recorder import Recorder
from .runner import StageRun
from .scoring import element_scores, list_lengths, row_scores

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Condition = tuple[str, Choice]
"""The context of the conditioning step and its choice."""


class Measure:
    """Measures stages of the evaluator's chain on its sample."""

    def __init__(
        self,
        evaluator: Evaluator,
        meter: Meter,
        record: Recorder,
        policy: Policy,
        labels: Mapping[tuple[str, str], pa.ChunkedArray],
        clusters: Sequence[Hashable] | None,
    ) -> None:
        self.evaluator = evaluator
        self.meter = meter
        self.record = record
        self.policy = policy
        self.labels = labels
        self.clusters = clusters

    def inputs(self, key: str, assignment: Mapping[str, Choice]) -> None:
        """What reaches a stage: WHEN rate, EACH lengths, distinct inputs."""
        stage = self.evaluator.chain.stage(key)
        self.rate(key, assignment)
        table = self._input(stage, assignment)
        if not table.num_rows:
            return
        if stage.lists is not None:
            self._lengths(stage, table)
        self._distinct(stage, table)

    def rate(
        self, key: str, assignment: Mapping[str, Choice], condition: Condition | None = None
    ) -> None:
        """Share of rows whose WHEN is TRUE, among those whose inputs did not fail."""
        import numpy as np

        stage = self.evaluator.chain.stage(key)
        if stage.when is None:
            return
        state = self.evaluator.before(key, assignment)
        whole = ~state.failed_in(self.evaluator.chain.ancestors[key])
        places = np.flatnonzero(whole)
        ran = self.evaluator.live(stage, state)[places].astype(float)
        interval = clustered_share(ran.tolist(), self._clusters_of(places))
        self.record.add(
            stage.context,
            "rate",
            "share",
            interval,
            choice=condition[1] if condition else None,
            given=condition[0] if condition else None,
        )

    def latency(
        self,
        key: str,
        choice: Choice,
        assignment: Mapping[str, Choice],
        *,
        evaluate: bool,
        refusable: bool,
    ) -> str | None:
        """Climb the batch ladder, then run all rows at the best size; why it ended early, if so.

        Args:
            key: the stage.
            choice: how it is made.
            assignment: of the stages below.
            evaluate: run all rows, for failures and quality; on further devices the answers are
                the same.
            refusable: leave the run on all rows out where the budget does not allow it.

        Raises:
            Unaffordable: the run on all rows was left out.
        """
        stage = self.evaluator.chain.stage(key)
        table = self._input(stage, assignment)
        if not table.num_rows:
            return "no row of the sample reaches it"
        runs: list[StageRun] = []

        def run(sized: Stage, rows: pa.Table) -> StageRun:
            runs.append(self.meter.run_stage(sized, rows))
            return runs[-1]

        elements = _elements(stage, table)
        ladder = climb(stage, choice, table, elements, run, self.policy)
        self.evaluator.set_batch(key, choice, ladder.best_batch)
        own = {**assignment, key: choice}
        known = self.evaluator.knows(key, own)
        try:
            if evaluate and refusable and not known and ladder.points:
                best = min(ladder.points, key=lambda point: point.per_element)
                self.meter.afford(best.per_element * float(elements.sum()))
            if evaluate:
                whole = self.evaluator.outputs(key, own).run
                runs = runs if whole is None else [whole]
                if whole is not None and not known:
                    ladder = ladder.with_calls(full_batches(whole, ladder.best_batch))
        finally:
            self._record_ladder(stage, choice, ladder, sum(map(_failed, runs)))
        self._record_failures(stage, choice, runs)
        return ladder.problem

    def quality(
        self,
        key: str,
        choice: Choice,
        assignment: Mapping[str, Choice],
        metric: Metric | None,
        base: Choice | None,
        condition: Condition | None = None,
        keep: np.ndarray | None = None,
    ) -> str | None:
        """Share of right answers where the stage ran (and `keep`, `rows` booleans, is true).

        Against the step's label, else against the BASE variant's answers on the same inputs; rows
        that failed, here or in the BASE that is the truth, are wrong. Where there is no truth, the
        reason.
        """
        import numpy as np
        import pyarrow as pa

        stage = self.evaluator.chain.stage(key)
        if metric is None:
            return f"{stage.model} declares no QUALITY"
        if metric.output not in stage.produce:
            return f"the plan does not compute {metric.output}, which QUALITY scores"
        column = stage.produce.index(metric.output)
        truth, unknown = self.labels.get((key, metric.output)), frozenset[int]()
        if truth is None:
            if base is None:
                return f"no label for {metric.output}, and {stage.model} has no BASE variant"
            truths = self.evaluator.outputs(key, {**assignment, key: base})
            truth, unknown = truths.columns[column], truths.failed
        own = {**assignment, key: choice}
        outputs = self.evaluator.outputs(key, own)
        state = self.evaluator.before(key, own)
        ran = self.evaluator.live(stage, state)
        ran = ran if keep is None else ran & keep
        failed = np.zeros(self.evaluator.rows, dtype=bool)
        failed[list(outputs.failed)] = True
        wrong = failed.copy()
        wrong[list(unknown)] = True
        places = np.flatnonzero(ran)
        index = pa.array(places)
        scored = self._scored(
            stage, metric, outputs.columns[column].take(index), truth.take(index),
            wrong[places], state.table.take(index), places,
        )  # fmt: skip
        interval = clustered_share(scored.scores, scored.clusters)
        text = assignment_text({condition[0]: made(condition[1])}) if condition else ""
        self.record.add(
            stage.context,
            "quality",
            "mean",
            interval,
            choice=choice,
            given=condition[0] if condition else None,
            assignment=text,
            n_failed=int(failed[places].sum()),
        )
        return None

    def not_run(self, keys: Sequence[str], assignment: Mapping[str, Choice]) -> np.ndarray:
        """`rows` booleans: none of these stages ran."""
        import numpy as np

        mask = np.ones(self.evaluator.rows, dtype=bool)
        for key in keys:
            state = self.evaluator.before(key, assignment)
            mask &= ~self.evaluator.live(self.evaluator.chain.stage(key), state)
        return mask

    def broken(self, key: str, choice: Choice) -> None:
        """A choice that cannot run at all fails everywhere: infeasible, not unknown."""
        stage = self.evaluator.chain.stage(key)
        n = self._units(range(self.evaluator.rows))
        self.record.add(
            stage.context,
            "failure",
            "share",
            Interval(1.0, wilson(n, n)[0], 1.0, n),
            choice=choice,
            device=choice.device,
            n_failed=self.evaluator.rows,
        )

    def _scored(
        self,
        stage: Stage,
        metric: Metric,
        answers: pa.ChunkedArray,
        truth: pa.ChunkedArray,
        failed: np.ndarray,
        table: pa.Table,
        places: np.ndarray,
    ) -> Scored:
        clusters = self._clusters_of(places)
        if stage.lists is None:
            return row_scores(metric, answers, truth, failed, clusters)
        return element_scores(metric, answers, truth, failed, _elements(stage, table), clusters)

    def _record_ladder(self, stage: Stage, choice: Choice, ladder: Ladder, failed: int) -> None:
        """Latencies are of the calls that went well: how many elements failed goes with them."""
        for point in ladder.points:
            for statistic, interval in point.statistics().items():
                self.record.add(
                    stage.context, "latency", statistic, interval,
                    choice=choice, device=choice.device, batch=point.batch, n_failed=failed,
                )  # fmt: skip
        if ladder.memory_bytes is not None:
            value = float(ladder.memory_bytes)
            self.record.add(
                stage.context, "memory", "peak", Interval(value, value, value, 1),
                choice=choice, device=choice.device,
            )  # fmt: skip
        if ladder.load_seconds is not None:
            value = ladder.load_seconds
            # One loading, its spread unknown: a factor of two, as for imported numbers.
            self.record.add(
                stage.context, "load", "mean", Interval(value, value / 2, value * 2, 1),
                choice=choice, device=choice.device,
            )  # fmt: skip

    def _record_failures(self, stage: Stage, choice: Choice, runs: Sequence[StageRun]) -> None:
        """Failure share and tokens over all runs; repeated rows do not make more units."""
        elements = sum(run.elements for run in runs)
        if elements == 0:
            return
        failed = sum(map(_failed, runs))
        rows = max(run.table.num_rows for run in runs)
        n = min(self._units(range(self.evaluator.rows)), rows)
        share = min(1.0, failed / elements)
        self.record.add(
            stage.context, "failure", "share", Interval(share, *wilson(share * n, n), n),
            choice=choice, device=choice.device, n_failed=failed,
        )  # fmt: skip
        for metric, counts in (
            ("tokens_in", [run.tokens_in for run in runs]),
            ("tokens_out", [run.tokens_out for run in runs]),
        ):
            known = [count for count in counts if count is not None]
            if known and len(known) == len(counts):
                mean = sum(known) / elements
                self.record.add(
                    stage.context, metric, "mean", Interval(mean, mean / 2, mean * 2, n),
                    choice=choice,
                )  # fmt: skip

    def _lengths(self, stage: Stage, table: pa.Table) -> None:
        import numpy as np

        lengths, counts = np.unique(_elements(stage, table), return_counts=True)
        rows, at = table.num_rows, self.record.now()
        n = min(self._units(range(self.evaluator.rows)), rows)
        for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
            share = count / rows
            self.record.add(
                stage.context, "length", f"pmf({length})",
                Interval(share, *wilson(share * n, n), n), at=at,
            )  # fmt: skip

    def _distinct(self, stage: Stage, table: pa.Table) -> None:
        """Distinct argument rows ÷ rows.

        A larger input repeats more than its sample, so the lower end is the Good–Turing estimate of
        the chance that one more row is new: the share of inputs seen once.
        """
        counts: dict[str, int] = {}
        for row in zip(*(table.column(name).to_pylist() for name in stage.args), strict=True):
            # The text, not the values: lists and structs do not hash.
            text = repr(row)
            counts[text] = counts.get(text, 0) + 1
        if not stage.args:
            return
        rows = table.num_rows
        once = sum(1 for count in counts.values() if count == 1)
        share = len(counts) / rows
        low, high = wilson(len(counts), rows)
        self.record.add(
            stage.context, "distinct", "share",
            Interval(share, min(low, once / rows), high, rows),
        )  # fmt: skip

    def _input(self, stage: Stage, assignment: Mapping[str, Choice]) -> pa.Table:
        """The rows a stage runs on."""
        import pyarrow as pa

        state = self.evaluator.before(stage.step, assignment)
        return state.table.filter(pa.array(self.evaluator.live(stage, state)))

    def _clusters_of(self, places: Sequence[int] | np.ndarray) -> list[Hashable] | None:
        if self.clusters is None:
            return None
        return [self.clusters[place] for place in places]

    def _units(self, places: Sequence[int]) -> int:
        """Independent units among these rows."""
        clusters = self._clusters_of(places)
        return len(places) if clusters is None else len(set(clusters))


def _failed(run: StageRun) -> int:
    """Elements that failed in a run."""
    return len(run.failed) if run.failed_elements is None else run.failed_elements


def _elements(stage: Stage, table: pa.Table) -> np.ndarray:
    """`rows` ints: elements each row brings to the stage (1 without EACH)."""
    import numpy as np

    if stage.lists is None:
        return np.ones(table.num_rows, dtype=np.int64)
    listed = next(arg for arg, is_list in zip(stage.args, stage.lists, strict=True) if is_list)
    return list_lengths(table.column(listed))
