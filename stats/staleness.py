"""When a statistic no longer describes what it was measured of, and why.

    at once     the variant's files, its libraries or the device changed
    else        more new rows than sqrt(1000·N) since, too old, inputs drifted, or executions that
                keep contradicting it

Stale is not missing: the numbers are the best there are, so they are used, and marked. What was
measured of an earlier *definition* is another matter: it is not about this variant at all, and is
not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime

from ..ir.record import dataclass

Q_FACTOR = 2.0
"""A q-error beyond this contradicts an estimate: 95 % intervals of latencies are far narrower, and
the times of a busy machine stay within it (our choice)."""

Q_RUNS = 5
"""Executions in a row beyond `Q_FACTOR`, all to the same side, before they count.

A test, not an outlier: where a good statistic is contradicted by at most a fifth of the executions,
each on its own, five in a row have a chance of 0.2^5 = 0.00032, about 0.3 false alarms in 1,000
executions (our choice; executions on one machine are not quite independent, and all to one side
makes up for some of that)."""


@dataclass(frozen=True)
class Environment:
    """What a variant was made of: hash of its files, versions of its libraries by name.

    `stamps` tell whether the files have to be read again; they are no part of the identity.
    """

    artefact: str
    libraries: Mapping[str, str]
    stamps: Mapping[str, str] = field(default_factory=dict)

    def same(self, other: Environment) -> bool:
        """Do measurements made there hold here?"""
        return self.changed(other) is None

    def changed(self, now: Environment) -> str | None:
        """What is different now; None where nothing is."""
        if self.artefact != now.artefact:
            return "its files changed"
        for name in sorted({*self.libraries, *now.libraries}):
            then, there = self.libraries.get(name), now.libraries.get(name)
            if then != there:
                return f"{name} changed from {then or 'none'} to {there or 'none'}"
        return None


def enough_new_rows(rows: int) -> float:
    """New rows that make statistics of a source of `rows` rows stale: sqrt(1000·N).

    The dynamic threshold of SQL Server's automatic updates: 1,000 rows of 1,000, but 3 % of a
    million, where a fixed share would wait too long.
    """
    return math.sqrt(1000.0 * max(rows, 1))


def many_new_rows(rows: int, new: float) -> str | None:
    """Why statistics drawn from `rows` rows are stale after `new` ones that were not among them."""
    if new <= enough_new_rows(rows):
        return None
    return f"{round(new):,} new rows since, more than sqrt(1000·{rows:,})"


def too_old(at: datetime | None, now: datetime, limit_s: float | None) -> str | None:
    """Why a statistic of that time is stale where none may be older than `limit_s` seconds."""
    if at is None or limit_s is None:
        return None
    age = (now - at).total_seconds()
    return f"measured {_span(age)} ago" if age > limit_s else None


def _span(seconds: float) -> str:
    """A time span in the unit that shows two digits or more; as SHOW STATISTICS tells it."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{int(seconds / size):,} {unit}"
    return f"{max(int(seconds), 0)} s"


def contradicted(
    metric: str, ratios: Sequence[float], low: float = 1.0, high: float = 1.0
) -> str | None:
    """Why executions make a statistic stale.

    Args:
        metric: of the statistic.
        ratios: actual ÷ estimate, the newest last.
        low: lower end of the estimate's interval ÷ the estimate: what lies within contradicts
            nothing, however far it is from the estimate.
        high: likewise the upper end.
    """
    least, most = min(1 / Q_FACTOR, low), max(Q_FACTOR, high)
    newest = ratios[-Q_RUNS:]
    if len(newest) < Q_RUNS:
        return None
    if all(ratio > most for ratio in newest) or all(ratio < least for ratio in newest):
        middle = sorted(newest)[Q_RUNS // 2]
        return f"in the last {Q_RUNS} executions {metric} was {middle:.3g} times as much"
    return None
