"""What one stage's table of numbers was made from: its choices, calls, flows, factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..cost.compose import Lengths
from ..cost.model import Call, Flow
from ..ir.estimates import Estimate
from ..ir.physical import Choice
from ..ir.record import dataclass
from .search.table import StageTable
from .steps import StepInfo

Class = tuple[str, str]
"""Variant full name and knobs text."""


NEVER_SECONDS = 1e12
"""In tables, the time of a row that more often fails than the quantile leaves out: over any limit,
and finite, so that sums and bounds of the search stay numbers."""


@dataclass(frozen=True)
class Factor:
    """What a step multiplies accuracy by: a formula of estimates. `known` is False without them.

    `dependence` names the statistics on errors that occur together it rests on, with the two steps.
    """

    parts: tuple[Estimate, ...]
    formula: Callable[[Sequence[float]], float]
    known: bool = True
    dependence: str | None = None

    @property
    def value(self) -> float:
        """The formula at the point values."""
        return self.formula([part.value for part in self.parts])


@dataclass(frozen=True)
class StagePlan:
    """What one stage's table was made from. `g` indexes the classes of `table.given`.

    Attributes:
        step: the step.
        choices: per option.
        calls: per option.
        classes: (variant, knobs text) of every class.
        lengths, length_n: of its EACH list.
        flows: `[g]`, its place in the plan.
        factors: `[g][class]`, its factor of the accuracy.
        qualities: `[g][class]`, the quality where it ran.
        table: the floats.
        partner: the earlier stage its errors are composed with, where they were measured together.
    """

    step: StepInfo
    choices: tuple[Choice, ...]
    calls: tuple[Call, ...]
    classes: tuple[Class, ...]
    lengths: Lengths | None
    length_n: int
    flows: tuple[Flow, ...]
    factors: tuple[tuple[Factor, ...], ...]
    qualities: tuple[tuple[Estimate | None, ...], ...]
    table: StageTable
    partner: int | None = None

    @property
    def class_texts(self) -> tuple[str, ...]:
        """`variant(knobs)` of every class, as assignment texts have it."""
        return tuple(f"{variant}({knobs})" for variant, knobs in self.classes)
