"""Cascades as statistics: what ANALYZE keeps of one, for the planner.

A cascade runs its first member on every element and each later one on the elements that all before
are unsure of: those whose confidence lies below the member's threshold. ANALYZE keeps no outcomes
of single rows, only what the paired outcomes say of the few thresholds picked (`thresholds`), with
subject = the step, variant and knobs = the last member and, in `assignment`, the others as
`threshold=variant(knobs);…`:

========== ==================================================================================
quality    share (or mean score) of right answers of the cascade
reach(i)   share of elements that member i (1, 2, …) is run on; member 0 runs on all
loss       how much less accurate than its last member it is at most, at the confidence picked at:
           what the thresholds were picked for
accuracy   its accuracy is at least this, at that confidence; likewise precision and recall, where
           answers are TRUE or FALSE; only of two members
confidence that confidence
========== ==================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..ir.estimates import Estimate
from ..ir.record import dataclass

Member = tuple[str, str]
"""Variant and knobs text."""

TOLERANCES = (0.005, 0.01, 0.02, 0.05)
"""Losses of accuracy against the last member for which thresholds are picked (our choice: below the
first, a sample of a thousand rows shows nothing; past the last, another variant does better)."""

MAX_CASCADES = 4
"""Chains of members kept of one step (our choice: each for up to four tolerances)."""

MAX_MEMBERS = 3
"""Members of one cascade (our choice: what a fourth could save is a fraction of a fraction)."""

BOUNDED = ("accuracy", "precision", "recall")
"""What a limit on the model alone may be on, and a cascade has a bound for."""

_EARLIER = re.compile(r"([^=;]+)=([^(;=]+)\(((?:'(?:[^']|'')*'|[^')])*)\)(?:;|$)")


@dataclass(frozen=True)
class CascadeStatistics:
    """A cascade with its thresholds, as measured.

    Attributes:
        members: in the order in which they run.
        thresholds: of all members but the last.
        reach: the share of elements each member after the first runs on.
        quality: of its answers.
        loss: at most so much less accurate than the last member; `value` is as measured, `high` the
            one-sided bound the thresholds were picked by.
        bounds: on accuracy, precision and recall from below, as far as there are any.
        confidence: of all bounds.
    """

    members: tuple[Member, ...]
    thresholds: tuple[float, ...]
    reach: tuple[Estimate, ...]
    quality: Estimate
    loss: Estimate
    bounds: Mapping[str, Estimate]
    confidence: float


def cascade_text(members: Iterable[Member], thresholds: Iterable[float]) -> str:
    """`0.93=classify.tiny();…` of the members before the last."""
    return ";".join(
        f"{threshold!r}={variant}({knobs})"
        for threshold, (variant, knobs) in zip(thresholds, members, strict=False)
    )


def parse_cascade(text: str) -> tuple[tuple[Member, ...], tuple[float, ...]] | None:
    """The members and thresholds of a `cascade_text`; None where it is none."""
    members: list[Member] = []
    thresholds: list[float] = []
    at = 0
    while at < len(text):
        found = _EARLIER.match(text, at)
        if found is None:
            return None
        try:
            thresholds.append(float(found[1]))
        except ValueError:
            return None
        members.append((found[2], found[3]))
        at = found.end()
    return (tuple(members), tuple(thresholds)) if members else None


def cascade_of(
    assignment: str, last: Member, known: Mapping[str, Estimate]
) -> CascadeStatistics | None:
    """A cascade from its statistics by name; None where one that it takes is missing."""
    parsed = parse_cascade(assignment)
    quality, loss, confidence = map(known.get, ("quality", "loss", "confidence"))
    if parsed is None or quality is None or loss is None or confidence is None:
        return None
    earlier, thresholds = parsed
    reach = [known.get(f"reach({place})") for place in range(1, len(earlier) + 1)]
    measured = tuple(share for share in reach if share is not None)
    if len(measured) < len(reach):
        return None
    bounds = {name: known[name] for name in BOUNDED if name in known}
    return CascadeStatistics(
        (*earlier, last), thresholds, measured, quality, loss, bounds, confidence.value
    )
