"""Evaluate whole assignments on a sample, computing each distinct piece of work once.

A stage's outputs depend on its own choice and on those of its ancestors only, so they are kept by
(stage, that partial assignment) and shared by every assignment with the same prefix [Circinus,
prefix reuse]. All rows stay in the table; a row that failed in a stage is kept out of the stages
that read it, and counts as wrong in the end.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Cascade, Choice, SqlStep, Stage
from ..ir.record import dataclass
from ..ir.types import ROW, NamedExpr, SqlExpr
from .cascade_outputs import combined
from .lineage import Chain
from .observation import assignment_text
from .prefixes import Recall
from .promise import Scored
from .runner import Runner, StageRun
from .scoring import row_scores

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Made = tuple[str, str]
"""What determines outputs of a stage besides its inputs: variant and knobs text."""

OutputsKey = tuple[str, Made, tuple[tuple[str, Made], ...]]
"""A stage, how it is made, and how each of its ancestors is."""

EVALUATION_BATCH = 64
"""Batch size of evaluation runs where no ladder was climbed (our choice)."""


@dataclass(frozen=True)
class Outputs:
    """A stage's outputs on all rows; `failed` holds the rows that failed in it, `run` the run."""

    columns: tuple[pa.ChunkedArray, ...]
    failed: frozenset[int]
    run: StageRun | None = None


@dataclass(frozen=True)
class Known:
    """What a stage answers given its arguments' prefix, on the rows it was run on so far.

    Which rows it runs on is its WHEN's affair and may depend on further stages; what it answers
    there is not. `rows` are booleans, one per row of the sample.
    """

    columns: tuple[pa.ChunkedArray, ...]
    failed: frozenset[int]
    rows: np.ndarray

    def joined(self, places: np.ndarray, run: StageRun, stage: Stage) -> Known:
        """With a run on the rows at `places`."""
        import numpy as np
        import pyarrow as pa

        rows = self.rows.copy()
        rows[places] = True
        index = np.arange(len(rows))
        index[places] = len(rows) + np.arange(len(places))
        columns = tuple(
            pa.chunked_array(
                [*old.chunks, *run.table.column(field.name).cast(old.type).chunks]
            ).take(index)
            for old, field in zip(self.columns, stage.outputs, strict=True)
        )
        failed = self.failed | {int(places[row]) for row in run.failed}
        return Known(columns, failed, rows)

    def on(self, live: np.ndarray, run: StageRun | None) -> Outputs:
        """The outputs where only the `live` rows run."""
        import numpy as np
        import pyarrow as pa

        if np.array_equal(live, self.rows):
            return Outputs(self.columns, self.failed, run)
        index = pa.array(np.arange(len(live)), mask=~live)
        columns = tuple(column.take(index) for column in self.columns)
        return Outputs(columns, frozenset(row for row in self.failed if live[row]), run)


@dataclass(frozen=True)
class State:
    """The table at one place of the chain, `rows` rows in order, and the failures below it."""

    table: pa.Table
    failed: Mapping[str, frozenset[int]]

    def failed_in(self, keys: frozenset[str] | None = None) -> np.ndarray:
        """`rows` booleans: failed in any of these stages (None: in any at all)."""
        import numpy as np

        mask = np.zeros(self.table.num_rows, dtype=bool)
        for key, rows in self.failed.items():
            if keys is None or key in keys:
                mask[list(rows)] = True
        return mask


def made(choice: Choice) -> Made:
    """The part of a choice that decides what comes out."""
    return choice.made


def text_of(assignment: Mapping[str, Choice]) -> str:
    """The canonical text of an assignment."""
    return assignment_text({key: made(choice) for key, choice in assignment.items()})


class Evaluator:
    """Runs a chain under any assignment, remembering what it computed.

    Args:
        chain: what to run.
        runner: runs its pieces.
        source: the rows to run it on, ascending in `__row`; None: all the scan gives.
        batches: batch sizes to evaluate with, shared by evaluators of other rows.
        prefixes: recalls outputs that other statements computed.
    """

    def __init__(
        self,
        chain: Chain,
        runner: Runner,
        source: pa.Table | None = None,
        batches: dict[tuple[str, Made], int] | None = None,
        *,
        prefixes: Recall | None = None,
    ) -> None:
        self.chain = chain
        self.runner = runner
        self.source = runner.scan(chain.scan).sort_by(ROW) if source is None else source
        self.prefixes = prefixes
        self._batches: dict[tuple[str, Made], int] = {} if batches is None else batches
        self._outputs: dict[OutputsKey, Outputs] = {}
        self._known: dict[OutputsKey, Known] = {}
        self._nulls: dict[str, tuple[pa.ChunkedArray, ...]] = {}
        self._walked: list[tuple[tuple[tuple[str, Made | None], ...], State]] = []

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return int(self.source.num_rows)

    def set_batch(self, key: str, choice: Choice, batch: int) -> None:
        """Use this batch size when evaluating the choice; a cascade's members have their own."""
        for member in choice.members:
            size = batch if member is choice or member.batch <= 1 else member.batch
            self._batches[key, made(member)] = size

    def sized(self, stage: Stage, assignment: Mapping[str, Choice]) -> Stage:
        """A stage as it is evaluated: its choice, at the batch size used for it."""
        choice = assignment[stage.step]
        batch = self._batches.get((stage.step, made(choice)), EVALUATION_BATCH)
        return stage.replace(choice=choice.replace(batch=batch))

    def before(self, key: str, assignment: Mapping[str, Choice]) -> State:
        """The table a stage reads; stages it does not depend on do not run and give NULL."""
        place = next(
            i
            for i, node in enumerate(self.chain.nodes)
            if isinstance(node, Stage) and node.step == key
        )
        return self._walk(assignment, self.chain.ancestors[key], place)

    def final(self, assignment: Mapping[str, Choice]) -> State:
        """The chain's result, every stage run."""
        every = frozenset(stage.step for stage in self.chain.stages)
        return self._walk(assignment, every, len(self.chain.nodes))

    def outputs(self, key: str, assignment: Mapping[str, Choice]) -> Outputs:
        """One stage's outputs on all rows, its ancestors as assigned."""
        return self._stage(self.chain.stage(key), assignment, self.before(key, assignment))

    def knows(self, key: str, assignment: Mapping[str, Choice]) -> bool:
        """Were these outputs computed already?"""
        below = self.chain.ancestors[key]
        return self._key(self.chain.stage(key), assignment, below) in self._outputs

    def live(self, stage: Stage, state: State) -> np.ndarray:
        """`rows` booleans: the stage gets these rows (no ancestor failed) and its WHEN is TRUE."""
        import numpy as np
        import pyarrow.compute as pc

        mask = ~state.failed_in(self.chain.ancestors[stage.step])
        if stage.when is not None:
            truth = pc.fill_null(state.table.column(stage.when), False)
            mask &= np.asarray(truth.to_numpy(), dtype=bool)
        return mask

    def _walk(self, assignment: Mapping[str, Choice], needed: frozenset[str], end: int) -> State:
        """The state before node `end`, from the longest prefix shared with the last walk."""
        state = State(self.source, {})
        trail: tuple[tuple[str, Made | None], ...] = ()
        states: list[tuple[tuple[tuple[str, Made | None], ...], State]] = []
        for place, node in enumerate(self.chain.nodes[:end]):
            if isinstance(node, Stage):
                runs = node.step in needed
                trail = (*trail, (node.step, made(assignment[node.step]) if runs else None))
            known = place < len(self._walked) and self._walked[place][0] == trail
            if known:
                state = self._walked[place][1]
            else:
                del self._walked[place:]
                state = self._apply(node, state, assignment, needed)
            states.append((trail, state))
        self._walked = states + self._walked[end:]
        return state

    def _apply(
        self,
        node: SqlStep | Stage,
        state: State,
        assignment: Mapping[str, Choice],
        needed: frozenset[str],
    ) -> State:
        if isinstance(node, SqlStep):
            return State(self.runner.run_step(node, state.table).sort_by(ROW), state.failed)
        if node.step in needed:
            outputs = self._stage(node, assignment, state)
            columns, failed = outputs.columns, {**state.failed, node.step: outputs.failed}
        else:
            columns, failed = self._skipped(node), dict(state.failed)
        table = state.table
        for field, column in zip(node.outputs, columns, strict=True):
            table = table.append_column(field.name, column)
        return State(table, failed)

    def _stage(self, stage: Stage, assignment: Mapping[str, Choice], state: State) -> Outputs:
        """Run a stage, or recall it."""
        key = self._key(stage, assignment, self.chain.ancestors[stage.step])
        found = self._outputs.get(key)
        if found is None:
            choice = assignment[stage.step]
            if isinstance(choice, Cascade):
                found = self._cascade(stage, choice, assignment, state)
            else:
                found = self._run(stage, assignment, state)
            self._outputs[key] = found
        return found

    def _cascade(
        self, stage: Stage, choice: Cascade, assignment: Mapping[str, Choice], state: State
    ) -> Outputs:
        """What a cascade answers, put together from its members' answers on all rows.

        That runs later members on more than they would get, but their answers are shared by all
        cascades and single choices, and do not depend on what else is in a batch.
        """
        members = [
            self._stage(stage, {**assignment, stage.step: member}, state)
            for member in choice.members
        ]
        columns, failed = combined(
            [(member.columns, member.failed) for member in members],
            choice.thresholds,
            stage.produce.index(choice.confidence),
            each=stage.lists is not None,
        )
        return Outputs(columns, failed)

    def _key(
        self, stage: Stage, assignment: Mapping[str, Choice], below: frozenset[str]
    ) -> OutputsKey:
        """What determines a stage's outputs, given which stages below it they come from."""
        own = made(assignment[stage.step])
        return stage.step, own, tuple((key, made(assignment[key])) for key in sorted(below))

    def _run(self, stage: Stage, assignment: Mapping[str, Choice], state: State) -> Outputs:
        """Run a stage on the live rows it was not run on before; other rows' outputs are NULL."""
        import numpy as np

        live = self.live(stage, state)
        key = self._key(stage, assignment, self.chain.reads[stage.step])
        known = self._known.get(key) or Known(
            self._skipped(stage), frozenset(), np.zeros_like(live)
        )
        places = np.flatnonzero(live & ~known.rows)
        run: StageRun | None = None
        if len(places):
            sized = self.sized(stage, assignment)
            table = state.table.take(places)
            if self.prefixes is None:
                run = self.runner.run_stage(sized, table)
            else:
                run = self.prefixes.evaluate(sized, table, self.runner)
            known = known.joined(places, run, stage)
            self._known[key] = known
        return known.on(live, run)

    def _skipped(self, stage: Stage) -> tuple[pa.ChunkedArray, ...]:
        """Typed NULLs for every row; SQL above may depend on the types."""
        columns = self._nulls.get(stage.step)
        if columns is None:
            empty = SqlStep(
                stage.input,
                tuple(
                    NamedExpr(field.name, SqlExpr(f"CAST(NULL AS {field.type})", ()), field.type)
                    for field in stage.outputs
                ),
            )
            table = self.runner.run_step(empty, self.source)
            columns = tuple(table.column(field.name) for field in stage.outputs)
            self._nulls[stage.step] = columns
        return columns


@dataclass(frozen=True)
class Truth:
    """What is right, `n` values; `unknown` are `n` booleans: nothing says what is right there."""

    values: pa.ChunkedArray
    unknown: np.ndarray


def accuracy_scores(
    evaluator: Evaluator,
    assignment: Mapping[str, Choice],
    metric: Metric,
    truth: Truth,
    clusters: Sequence[Hashable] | None,
) -> Scored:
    """One score per row of the sample under the assignment; failed rows are wrong.

    So are rows whose truth is unknown because BASE failed on them: else a plan that fails where
    BASE does would look faultless. This is what accuracy means end to end, on search rows for
    estimates and on held-back rows for the test of a promise.
    """
    state = evaluator.final(assignment)
    answers = state.table.column(metric.output)
    wrong = state.failed_in() | truth.unknown
    return row_scores(metric, answers, truth.values, wrong, clusters)


def truth_of(
    evaluator: Evaluator,
    metric: Metric,
    label: pa.ChunkedArray | None,
    base: Mapping[str, Choice] | None,
) -> Truth | None:
    """The label, else the answers of the assignment made of BASE variants, else nothing."""
    import numpy as np

    if label is not None:
        return Truth(label, np.zeros(evaluator.rows, dtype=bool))
    if base is None:
        return None
    state = evaluator.final(base)
    return Truth(state.table.column(metric.output), state.failed_in())
