"""The plan a search would promise: its accuracy proved on held-back rows, as a query's is.

What a search believes of the plans it picked is the best of many, so that it believes too much; it
declares a plan feasible AT CONFIDENCE only as Octans does, by `stats.promise`: candidates in the
order of preference, first those with the margin that a test needs, the i-th tested at half the
level of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from octans.ir.slo import Constraint, Slo
from octans.planner.search.protocol import Assignment, Candidate
from octans.stats.promise import MAX_CANDIDATES, Scored, first_proved, levels, required_margin

from .race import Environment


@dataclass(frozen=True)
class Promised:
    """After `tests` tests a plan was proved, or none was; `kept` says whether it truly is good."""

    tests: int
    kept: bool | None


def promised(
    environment: Environment, candidates: Sequence[Candidate], confidence: float
) -> Promised:
    """Test candidates until one is proved.

    Args:
        environment: the rows, and the truth to judge by.
        candidates: the incumbent first, then the frontier, best first.
        confidence: of the promise.
    """
    limit = next(c for c in environment.slo.constraints if c.metric == "accuracy")
    found = first_proved(
        _in_order(environment, candidates, limit, confidence),
        lambda plan: Scored(environment.held_back(plan)),
        limit.limit,
        confidence,
        fingerprint=str,
        promise="",
        now=lambda: datetime.now(UTC),
    )
    kept = None if found.accepted is None else environment.meets(found.accepted)
    return Promised(len(found.proofs), kept)


def _in_order(
    environment: Environment, candidates: Sequence[Candidate], limit: Constraint, confidence: float
) -> Iterator[Assignment]:
    """As planning orders them: the best with a margin for the next test, then the most accurate."""
    units = len(environment.held_back(candidates[0].assignment)) if candidates else 0
    left = [c for c in candidates if _within(environment.slo, c.metrics)]
    for test in range(1, MAX_CANDIDATES + 1):
        if not left:
            return
        least = limit.limit + required_margin(units, limit.limit, levels(confidence, test))
        good = [c for c in left if c.metrics["accuracy"] >= least]
        chosen = good[0] if good else max(left, key=lambda c: c.metrics["accuracy"])
        left.remove(chosen)
        yield chosen.assignment


def _within(slo: Slo, believed: Mapping[str, float]) -> bool:
    """Does it meet every limit but the accuracy's, by what is believed?"""
    return all(c.metric == "accuracy" or c.allows(believed[c.metric]) for c in slo.constraints)
