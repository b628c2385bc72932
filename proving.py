"""AT CONFIDENCE joined together: candidates, run end to end on the rows ANALYZE held back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .analyzing import base_choices, profile_request
from .asking import KEPT_ROWS, KeptSample, asked_of, body_of, standing_for
from .drawing import clusters_of, label_column
from .errors import BindError, PlanError
from .ir.logical import LogicalNode
from .ir.models import Metric
from .ir.physical import Choice
from .ir.slo import Constraint
from .ir.types import identifier
from .planner.optimize import Candidate, Promise
from .planner.population import Population
from .planner.steps import StepInfo
from .reusing import recalling, rows_fingerprint
from .stats.promise import Proof, Scored, Search, Truth, first_proved, levels, minimum_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from .session import Session
    from .stats.prefixes import Recall


class Prover:
    """Tests the plans of one query on the held-back rows of what it calls."""

    def __init__(
        self,
        session: Session,
        constraint: Constraint,
        infos: Sequence[StepInfo],
        plan: LogicalNode,
    ) -> None:
        """Find the rows that stand for those the query (`plan`, as bound) asks about.

        Raises:
            PlanError: OC0316, nothing was held back, too little, or for no single subject.
            BindError: OC0241, it cannot be told which of them the query asks about.
        """
        self._session = session
        self._constraint = constraint
        self._infos = tuple(infos)
        self._subject = _subject(infos, constraint)
        pipeline = session.catalog.pipeline(self._subject)
        model = session.catalog.model(self._subject)
        declared = pipeline or model
        assert declared is not None
        self._version = declared.version
        self._inputs = declared.inputs
        self._outputs = declared.outputs
        self._metric = self._metric_of(declared.quality)
        self._run = session.catalog.samples.run(self._subject, self._version)
        self._kept = KeptSample(
            self._subject,
            self._version,
            self._run,
            self._inputs,
            self._outputs,
            self._metric.output,
        )
        kind = "PIPELINE" if pipeline is not None else "MODEL"
        self._statement = f"ANALYZE {kind} {identifier(self._subject)} USING (…) LABELS (…)"
        table = self._held_back()
        self._asked = self._population(plan, table)
        self._table = standing_for(session, self._asked, table)

    def promise(self) -> Promise:
        """What can be proved here.

        Tests are counted per subject, held-back rows and confidence: neither another limit nor an
        ANALYZE that holds the same rows back starts anew.
        """
        session, constraint = self._session, self._constraint
        rows = rows_fingerprint(self._table)
        fingerprint = f"{self._subject}:{rows}:{constraint.confidence!r}"
        truth = self._truth()
        identity = self._identity(truth)
        earlier = session.catalog.proofs(fingerprint)
        clusters = clusters_of(self._table)
        units = self._table.num_rows if clusters is None else len(set(clusters))
        self._enough(units, clustered=clusters is not None)

        def prove(candidates: Iterator[Candidate], most: int) -> Search[Candidate]:
            from .executor.runner import LocalRunner

            runner = LocalRunner(session.environment())
            try:
                with (
                    session.visible(KEPT_ROWS, self._table),
                    recalling(session, runner) as recall,
                ):
                    found = first_proved(
                        candidates,
                        self._evaluation(recall),
                        constraint.limit,
                        constraint.confidence or 0.0,
                        fingerprint=identity,
                        promise=fingerprint,
                        now=session.now,
                        earlier=earlier,
                        truth=truth,
                        max_candidates=len(earlier) + most,
                        record=session.catalog.record_proof,
                    )
            finally:
                runner.close()
            proofs = tuple(replace(proof, among=self._asked.text()) for proof in found.proofs)
            proof = found.proof and replace(found.proof, among=self._asked.text())
            return replace(found, proof=proof, proofs=proofs)

        judged = {proof.plan: proof.judged(constraint.limit, truth) for proof in earlier}

        def known(candidate: Candidate) -> Proof | None:
            proof = judged.get(identity(candidate))
            return proof and replace(proof, among=self._asked.text())

        return Promise(constraint, units, len(earlier), known, prove)

    def _truth(self) -> Truth:
        """What the held-back rows are scored against."""
        labelled = label_column(self._subject, self._metric.output) in self._table.column_names
        return "labels" if labelled else "base"

    def _identity(self, truth: Truth) -> Callable[[Candidate], str]:
        """A candidate's identity: what decides its answers and what they are compared to.

        Versions of what is declared and the files it names, so that whatever has changed is tested
        anew; not batch or device, which change no answer.
        """
        models = (self._session.catalog.model(info.model) for info in self._infos)
        versions = {model.name: model.version for model in models if model is not None}
        versions[self._subject] = self._version
        parts = [f"{name}@{version}" for name, version in sorted(versions.items())]
        if truth == "base":
            _, base = base_choices(self._infos, self._session)
            parts.append(f"against {self._answers(base)}")
        fixed = " ".join(parts)
        return lambda candidate: f"{self._answers(candidate.choices)} {fixed}"

    def _answers(self, chosen: Mapping[str, Choice]) -> str:
        """What decides the answers of these choices."""
        from .stats.end_to_end import text_of

        return " ".join(
            [
                text_of(chosen),
                *(
                    f"{key}@{member.version}:{_artefact(self._session, member.variant)}"
                    for key, choice in sorted(chosen.items())
                    for member in choice.members
                ),
            ]
        )

    def _metric_of(self, metric: Metric | None) -> Metric:
        if metric is None:
            raise PlanError(
                f"{self._subject} declares no QUALITY, so no accuracy of it can be proved",
                code="OC0316",
            )
        return metric

    def _held_back(self) -> pa.Table:
        table = self._session.catalog.samples.load(self._subject, self._version, "held_back")
        if table is None or not table.num_rows:
            raise PlanError(
                f"an accuracy AT CONFIDENCE is proved on held-back rows of {self._subject}, and "
                "there are none",
                code="OC0316",
                hint=f"run {self._statement}",
            )
        return table

    def _population(self, plan: LogicalNode, table: pa.Table) -> Population:
        """Which of the held-back rows the query asks about."""
        with self._session.visible(KEPT_ROWS, table):
            body = body_of(self._session, self._kept)
        asked = asked_of(self._session, self._kept, plan, body, table)
        if asked.unclear is not None:
            lacking = f"{', '.join(asked.missing)} is not kept" if asked.missing else ""
            raise BindError(
                f"{self._constraint.metric} AT CONFIDENCE is proved on held-back rows, and which "
                f"of them this query asks about cannot be told: {asked.unclear}",
                code="OC0241",
                notes=(lacking,) if lacking else (),
                hint=f"run {self._statement} with {', '.join(asked.missing)} among USING's columns"
                if asked.missing
                else "put its conditions into the outermost WHERE, over one table",
            )
        return asked

    def _enough(self, units: int, *, clustered: bool) -> None:
        """Can a faultless plan pass the first test at all?"""
        level = levels(self._constraint.confidence or 0.0, 1)
        needed = minimum_rows(self._constraint.limit, level, "betting" if clustered else "binomial")
        if needed is None or units < needed:
            what = "clusters" if clustered else "rows"
            raise PlanError(
                f"{units} held-back {what}{self._asked.text()} cannot prove "
                f"{self._constraint.metric} >= {self._constraint.limit:g} "
                f"AT CONFIDENCE {self._constraint.confidence:g}",
                code="OC0316",
                notes=(f"even without one wrong answer it takes {needed}",) if needed else (),
                hint=f"run {self._statement} SAMPLE n with a larger n, or ask for less",
            )

    def _evaluation(self, recall: Recall) -> Callable[[Candidate], Scored]:
        """One score per held-back row under a candidate, each piece of work done once."""
        from .stats.held_back import held_back_scores

        session = self._session
        body = body_of(session, self._kept)
        request = profile_request(session, self._subject, body, self._table, self._run)
        scores = held_back_scores(request, recall, recall)
        reference = {stage.step: stage.choice for stage in request.plan.stages}

        def evaluate(candidate: Candidate) -> Scored:
            chosen = candidate.choices
            return scores({key: chosen.get(key, own) for key, own in reference.items()})

        return evaluate


def _artefact(session: Session, name: str) -> str:
    """The hash of the files a variant names; `-` where it names none or they cannot be read.

    Loading what cannot be read will say so.
    """
    from hashlib import blake2b

    from .executor.artefacts import artefact

    variant = session.catalog.variant(name)
    if variant is None or variant.backend is None:
        return "-"
    try:
        found = artefact(variant.backend, session.base_dir)
    except OSError:
        return "-"
    return "-" if found is None else blake2b(found, digest_size=16).hexdigest()


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
