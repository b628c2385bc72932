"""`Newest`: the newest observation of every key, by subject, as estimates.

Indexes are built per subject when first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from ..ir.estimates import Estimate, weakest
from .intervals import LEVEL, wilson, z_quantile
from .observation import Observation

SHARES = frozenset(
    {
        *("quality", "row_quality", "joint_errors", "failure", "rate", "distinct", "accuracy"),
        *("length", "cascade", "precision", "recall"),
    }
)
"""Metrics whose values are shares in [0, 1]."""

Key = tuple[str, str, str | None, str, str | None, int | None, str | None, str]
"""metric, statistic, variant, knobs, device, batch, given, assignment."""


class Newest:
    """The newest observations as one deployment sees them.

    A number of the deployment is its own, partially pooled with those of the others and the
    pipeline's own (`pooling`); where it has none, what they say of one more, be it the pipeline's
    own alone. Without a deployment it is the pipeline's own, or, where that was never measured,
    what the deployments say of one more.
    """

    def __init__(self, observations: Iterable[Observation], deployment: str | None) -> None:
        """`deployment` None: the pipelines' own."""
        self._deployment = deployment
        self._rows: dict[str, list[Observation]] = {}
        for row in observations:
            self._rows.setdefault(row.subject, []).append(row)
        self._indexes: dict[str, dict[Key, Observation]] = {}
        self._groups: dict[tuple[str, Key], dict[str | None, Observation]] = {}
        self._choices: dict[str, dict[tuple[str, str, str | None, str], list[Key]]] = {}

    def estimate(self, subject: str, key: Key) -> Estimate | None:
        """The estimate of a key: of the deployment asked for, pooled with the others'."""
        row = self.rows(subject).get(key)
        groups = self._groups.get((subject, key))
        if row is None or groups is None:
            return estimate_of(row)
        from .pooling import pooled_mean, pooled_share

        own = estimate_of(groups.get(self._deployment))
        others = [
            found
            for name, each in groups.items()
            if name != self._deployment and (found := estimate_of(each)) is not None
        ]
        if own is not None and (self._deployment is None or not others):
            return own
        # A rate counts elements where EACH makes several of a row, and may then exceed 1.
        is_share = row.metric in SHARES and all(each.value <= 1.0 for each in groups.values())
        return (pooled_share if is_share else pooled_mean)(own, others)

    def rows(self, subject: str) -> dict[Key, Observation]:
        """The newest observation of every key of a subject: the deployment's own, if there is."""
        index = self._indexes.get(subject)
        if index is None:
            index = self._indexes[subject] = {}
            mine = self._rows.get(subject, ())
            several = self._deployment is not None or any(row.deployment for row in mine)
            for row in mine:
                key = (
                    row.metric,
                    row.statistic,
                    row.variant,
                    row.knobs if row.variant is not None else "",
                    row.device,
                    row.batch,
                    row.given,
                    row.assignment,
                )
                before = index.get(key)
                if before is None or self.preference(row) >= self.preference(before):
                    index[key] = row
                if several:
                    groups = self._groups.setdefault((subject, key), {})
                    other = groups.get(row.deployment)
                    if other is None or row.at >= other.at:
                        groups[row.deployment] = row
        return index

    def preference(self, row: Observation) -> tuple[bool, bool, datetime]:
        """Its own before the pipeline's, that before other deployments', then the newer one."""
        return row.deployment == self._deployment, row.deployment is None, row.at

    def by_choice(self, subject: str) -> dict[tuple[str, str, str | None, str], list[Key]]:
        """A subject's keys by metric, statistic, variant and knobs."""
        found = self._choices.get(subject)
        if found is None:
            found = self._choices[subject] = {}
            for key in self.rows(subject):
                found.setdefault(key[:4], []).append(key)
        return found


def estimate_of(row: Observation | None) -> Estimate | None:
    """An observation as an estimate.

    One without an interval (imported) gets Wilson's if it is a share of n, and is trusted within a
    factor of two otherwise (our choice: no interval is not certainty).
    """
    if row is None:
        return None
    low, high = row.low, row.high
    if low is None or high is None:
        if row.metric in SHARES:
            low, high = wilson(row.value * row.n, row.n)
        else:
            low, high = sorted((row.value / 2, row.value * 2))
    return Estimate(row.value, low, high, row.n, row.source, row.at)


def alike(shares: Sequence[Estimate]) -> Estimate | None:
    """Shares of several devices as one; None where one differs significantly from the rest.

    Each against the sum of the others by the two-proportion z test at 95 %.
    """
    n = sum(share.n for share in shares)
    right = sum(share.value * share.n for share in shares)
    if len(shares) == 1:
        return shares[0]
    for share in shares:
        rest = n - share.n
        if not share.n or not rest:
            continue
        gap = share.value - (right - share.value * share.n) / rest
        spread = (right / n) * (1.0 - right / n) * (1.0 / share.n + 1.0 / rest)
        if gap**2 > z_quantile(LEVEL) ** 2 * spread:
            return None
    _, source, at = weakest(list(shares))
    return Estimate(right / n, *wilson(right, n), n, source, at) if n else shares[0]
