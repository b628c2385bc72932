"""What ANALYZE is asked to measure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from ..ir.models import Derivation, Metric
from ..ir.physical import Choice, PhysicalPlan
from ..ir.record import dataclass
from .observation import Observation
from .strategy import Aim

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ProfiledStep:
    """What profiling knows of a stage besides the plan.

    Attributes:
        key: the stage's `step`.
        metric: how its model's answers are scored; None where it declares no QUALITY.
        base: the BASE variant's choice, the truth where no label is given.
        given: key of the step whose choice its WHEN depends on.
        instead_of: keys of the steps whose answers it replaces where it runs.
        confidence: the output that carries the model's confidence; None where it has none.
    """

    key: str
    metric: Metric | None = None
    base: Choice | None = None
    given: str | None = None
    instead_of: tuple[str, ...] = ()
    confidence: str | None = None


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
        dependences: pairs of step keys whose errors are measured together, the earlier one first.
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
    dependences: Sequence[tuple[str, str]] = ()
    strata: Sequence[int] | None = None
    aim: Aim = Aim()
    derivations: Mapping[str, Derivation] = field(default_factory=dict)


def base_assignment(
    keys: Iterable[str],
    steps: Mapping[str, ProfiledStep],
    makers: Callable[[str], Sequence[Choice]],
) -> dict[str, Choice] | None:
    """The BASE choice of every step; a step with one way to answer is its own base.

    Args:
        keys: of the steps.
        steps: what is known of them.
        makers: a step's choices that may answer differently, each once.

    Returns:
        None where a step has neither.
    """
    found: dict[str, Choice] = {}
    for key in keys:
        base = steps[key].base if key in steps else None
        only = makers(key)
        if base is None and len(only) != 1:
            return None
        found[key] = base if base is not None else only[0]
    return found


Pick = Callable[[Sequence[Observation]], Sequence[Mapping[str, Choice]]]
"""Chooses complete assignments worth measuring end to end, from what was observed so far."""
