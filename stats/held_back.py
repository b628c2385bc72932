"""Score candidates on the rows held back from the search: the `evaluate` of `first_proved`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import PlanError
from ..ir.physical import Choice, Stage
from .end_to_end import EVALUATION_BATCH, Evaluator, accuracy_scores, made, truth_of
from .lineage import chain
from .prefixes import Recall
from .profile import Request
from .promise import Scored
from .runner import Runner


def held_back_scores(
    request: Request, runner: Runner, prefixes: Recall | None = None
) -> Callable[[Mapping[str, Choice]], Scored]:
    """A function from complete assignments (choices by step key) to scores of the held-back rows.

    Args:
        request: as for `profile`, but its plan scans the held-back rows, and its labels and
            clusters are theirs. Work shared by several candidates is done once. Each stage runs at
            the assignment's batch size where that is above 1.
        runner: runs pieces of the plan.
        prefixes: recalls outputs that are known already. Outputs, never scores: what held-back rows
            say of a candidate must not reach an estimate.

    Raises:
        PlanError: OC0370, there is no truth to score against.
    """
    metric = request.metric
    evaluator = Evaluator(chain(request.plan), runner, prefixes=prefixes)
    base = _base(request, evaluator.chain.stages)
    label = request.labels.get((request.subject, metric.output)) if metric is not None else None
    truth = truth_of(evaluator, metric, label, base) if metric is not None else None
    if metric is None or truth is None:
        raise PlanError(
            f"accuracy of {request.subject} cannot be proved: nothing says what is right",
            code="OC0370",
            hint="declare QUALITY and give LABELS, or a BASE variant of every model, to ANALYZE",
        )

    def scores(assignment: Mapping[str, Choice]) -> Scored:
        for key, choice in assignment.items():
            batch = choice.batch if choice.batch > 1 else EVALUATION_BATCH
            evaluator.set_batch(key, choice, batch)
        return accuracy_scores(evaluator, assignment, metric, truth, request.clusters)

    return scores


def _base(request: Request, stages: tuple[Stage, ...]) -> dict[str, Choice] | None:
    """The assignment of BASE variants; a step with one way to compute it is its own base."""
    found: dict[str, Choice] = {}
    for stage in stages:
        step = request.steps.get(stage.step)
        base = step.base if step is not None else None
        ways = {made(choice) for choice in (stage.choice, *request.choices.get(stage.step, ()))}
        if base is None and len(ways) > 1:
            return None
        found[stage.step] = base or stage.choice
    return found
