"""AT CONFIDENCE joined together: candidates, run end to end on the rows ANALYZE held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .analyzing import base_choices, clusters_of, labels_of
from .dsl.binder import bind_select
from .dsl.parser import parse_one
from .errors import PlanError
from .ir.models import Metric
from .ir.physical import Choice
from .ir.slo import Constraint
from .ir.types import quote
from .planner.lower import lower
from .planner.optimize import Candidate, Promise
from .planner.steps import StepInfo, steps
from .stats.promise import Proof, Scored, Search, first_proved, levels, minimum_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from .session import Session

HELD_BACK_ROWS = "octans_held_back_rows"


class Prover:
    """Tests the plans of one query on the held-back rows of what it calls."""

    def __init__(self, session: Session, constraint: Constraint, infos: Sequence[StepInfo]) -> None:
        """Find the rows.

        Raises:
            PlanError: OC0316, nothing was held back, too little, or for no single subject.
        """
        self._session = session
        self._constraint = constraint
        self._subject = _subject(infos, constraint)
        pipeline = session.catalog.pipeline(self._subject)
        model = session.catalog.model(self._subject)
        declared = pipeline or model
        assert declared is not None
        self._version = declared.version
        self._inputs = declared.inputs
        self._outputs = declared.outputs
        self._metric = self._metric_of(declared.quality)
        self._run = session.catalog.sample_run(self._subject, self._version)
        kind = "PIPELINE" if pipeline is not None else "MODEL"
        self._statement = f"ANALYZE {kind} {self._subject} USING (…) LABELS (…)"
        self._table = self._held_back()
        self._evaluator: _HeldBack | None = None

    def promise(self) -> Promise:
        """What can be proved here."""
        session, constraint = self._session, self._constraint
        fingerprint = f"{self._subject}@{self._version}:{self._run}:{constraint.fingerprint}"
        earlier = session.catalog.proofs(fingerprint)
        clusters = clusters_of(self._table)
        units = self._table.num_rows if clusters is None else len(set(clusters))
        self._enough(units, clustered=clusters is not None)

        def prove(candidates: Iterator[Candidate], most: int) -> Search[Candidate]:
            with self._session.held_back(HELD_BACK_ROWS, self._table):
                found = first_proved(
                    candidates,
                    self._scores,
                    constraint.limit,
                    constraint.confidence or 0.0,
                    fingerprint=_answers,
                    promise=fingerprint,
                    now=session.now,
                    earlier=earlier,
                    max_candidates=len(earlier) + most,
                )
            for proof in found.proofs:
                session.catalog.record_proof(proof)
            return found

        return Promise(constraint, units, len(earlier), prove)

    def _metric_of(self, metric: Metric | None) -> Metric:
        if metric is None:
            raise PlanError(
                f"{self._subject} declares no QUALITY, so no accuracy of it can be proved",
                code="OC0316",
            )
        return metric

    def _held_back(self) -> pa.Table:
        table = self._session.catalog.sample(self._subject, self._version, "held_back")
        if table is None or not table.num_rows:
            raise PlanError(
                f"an accuracy AT CONFIDENCE is proved on held-back rows of {self._subject}, and "
                "there are none",
                code="OC0316",
                hint=f"run {self._statement}",
            )
        return table

    def _enough(self, units: int, *, clustered: bool) -> None:
        """Can a faultless plan pass the first test at all?"""
        level = levels(self._constraint.confidence or 0.0, 1)
        needed = minimum_rows(self._constraint.limit, level, "betting" if clustered else "binomial")
        if needed is None or units < needed:
            what = "clusters" if clustered else "rows"
            raise PlanError(
                f"{units} held-back {what} cannot prove {self._constraint.metric} >= "
                f"{self._constraint.limit:g} AT CONFIDENCE {self._constraint.confidence:g}",
                code="OC0316",
                notes=(f"even without one wrong answer it takes {needed}",) if needed else (),
                hint=f"run {self._statement} SAMPLE n with a larger n, or ask for less",
            )

    def _scores(self, candidate: Candidate) -> Scored:
        """One score per held-back row under a candidate."""
        if self._evaluator is None:
            self._evaluator = _HeldBack(self._session, self._query(), self._metric, self._table)
        return self._evaluator.scores(candidate.choices)

    def _query(self) -> str:
        """A query that answers every held-back row, its column named as the metric's output."""
        call = f"{quote(self._subject)}({', '.join(quote(f.name) for f in self._inputs)})"
        answer = call if len(self._outputs) == 1 else f"({call}).{quote(self._metric.output)}"
        return f"SELECT {answer} AS {quote(self._metric.output)} FROM {HELD_BACK_ROWS}"


class _HeldBack:
    """Evaluates assignments on the held-back rows, each piece of work once."""

    def __init__(self, session: Session, query: str, metric: Metric, table: pa.Table) -> None:
        from .executor.runner import LocalRunner
        from .stats.end_to_end import Evaluator, truth_of
        from .stats.lineage import chain

        bound = bind_select(_select(query), session.catalog)
        infos = steps(bound.plan)
        self._reference, base = base_choices(infos, session)
        models = {model.name: model for model in session.catalog.models()}
        plan = lower(bound.plan, self._reference, models, "null")
        self._runner = LocalRunner(session.environment())
        self._evaluator = Evaluator(chain(plan), self._runner)
        self._metric = metric
        self._clusters = clusters_of(table)
        labels = {output: column for (_, output), column in labels_of(table).items()}
        complete = base if len(base) == len(infos) else None
        truth = truth_of(self._evaluator, metric, labels.get(metric.output), complete)
        if truth is None:
            raise PlanError(
                "the held-back rows have no label, and not every model has a BASE variant",
                code="OC0316",
            )
        self._truth = truth

    def scores(self, choices: Mapping[str, Choice]) -> Scored:
        """One score per row; failed rows are wrong."""
        from .stats.end_to_end import accuracy_scores

        assignment = {key: choices.get(key, own) for key, own in self._reference.items()}
        for key, choice in assignment.items():
            self._evaluator.set_batch(key, choice, choice.batch)
        return accuracy_scores(
            self._evaluator, assignment, self._metric, self._truth, self._clusters
        )


def guarantee(proof: Proof) -> str:
    """What EXPLAIN says beside the constraint."""
    return proof.text()


def _select(query: str) -> Any:
    return parse_one(query)


def _answers(candidate: Candidate) -> str:
    """A candidate's identity under a promise: what decides its answers, not its batch or device."""
    from .stats.end_to_end import text_of

    return text_of(candidate.choices)


def _subject(infos: Sequence[StepInfo], constraint: Constraint) -> str:
    """The one pipeline or model a query calls.

    Raises:
        PlanError: OC0316, it calls several, or one several times.
    """
    subjects = {info.context.split(".")[0] for info in infos}
    contexts = [info.context for info in infos]
    if len(subjects) != 1 or len(set(contexts)) != len(contexts):
        raise PlanError(
            f"{constraint.metric} AT CONFIDENCE is proved for one call of one pipeline or model; "
            f"this query calls {', '.join(sorted(subjects))}",
            code="OC0316",
            hint="declare a pipeline around the calls and ANALYZE it with labels",
        )
    return subjects.pop()
