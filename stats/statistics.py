"""`Statistics`: the newest observations, looked up as estimates.

Plain Python over a list of observations: it lies on the way of a cold EXPLAIN, which loads no
numerical library. Indexes are built per subject when first asked for. What a step of a pipeline
has not measured falls back to its model's own measurements, one kind of number at a time, never
mixing both in one batch curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from ..ir.estimates import Estimate
from ..ir.models import Prior, Variant
from .intervals import wilson
from .observation import Observation, assignment_text

Given = tuple[str, str, str]
"""A conditioning choice: context, variant's full name, knobs text."""

SHARES = frozenset({"quality", "failure", "rate", "distinct", "accuracy", "length"})
"""Metrics whose values are shares in [0, 1]."""

LATENCY_STATISTICS = ("mean", "p50", "p90", "p95", "p99")

_Key = tuple[str, str, str | None, str, str | None, int | None, str | None, str]
"""metric, statistic, variant, knobs, device, batch, given, assignment."""


class Statistics:
    """Estimates by context, from observations; later ones replace earlier ones of the same key.

    Args:
        observations: of any subjects, in any order.
        variants: whose declared priors may stand in, with `allow_priors`.
        allow_priors: use them where nothing is measured; always labelled `prior`, n = 0.
    """

    def __init__(
        self,
        observations: Iterable[Observation],
        *,
        variants: Iterable[Variant] = (),
        allow_priors: bool = False,
    ) -> None:
        self._rows: dict[str, list[Observation]] = {}
        for row in observations:
            self._rows.setdefault(row.subject, []).append(row)
        self._indexes: dict[str, dict[_Key, Observation]] = {}
        self._batches: dict[tuple[str, str, str, str], tuple[int, ...]] = {}
        self._priors: dict[str, dict[str, float]] = {}
        if allow_priors:
            for variant in variants:
                self._priors[variant.full_name] = _priors(variant.priors)

    def batches(self, context: str, variant: str, knobs: str, device: str) -> tuple[int, ...]:
        """The batch sizes measured, ascending; of the step, else of its model."""
        for subject in _subjects(context, variant):
            found = self._measured_batches(subject, variant, knobs, device)
            if found:
                return found
        return (1,) if "latency" in self._priors.get(variant, ()) else ()

    def latency(
        self, context: str, variant: str, knobs: str, device: str, batch: int, statistic: str
    ) -> Estimate | None:
        """Seconds of one batch call at a measured batch size; `statistic` is mean, p50, …, p99."""
        for subject in _subjects(context, variant):
            if self._measured_batches(subject, variant, knobs, device):
                key = ("latency", statistic, variant, knobs, device, batch, None, "")
                return _estimate(self._index(subject).get(key))
        prior = self._priors.get(variant, {}).get("latency")
        if prior is None or batch != 1:
            return None
        return _prior(prior)

    def quality(
        self, context: str, variant: str, knobs: str, given: Given | None = None
    ) -> Estimate | None:
        """Share of right answers per element, where the step ran.

        With `given`, under that choice of the conditioning step; where that is not measured, the
        unconditional one. Conditioned on the step itself: where no later step replaced its answer.
        """
        if given is not None:
            text = assignment_text({given[0]: (given[1], given[2])})
            key = ("quality", "mean", variant, knobs, None, None, given[0], text)
            found = self._index(context).get(key)
            if found is not None:
                return _estimate(found)
        for subject in _subjects(context, variant):
            found = self._index(subject).get(
                ("quality", "mean", variant, knobs, None, None, None, "")
            )
            if found is not None:
                return _estimate(found)
        prior = self._priors.get(variant, {}).get("quality")
        return None if prior is None else Estimate(prior, 0.0, 1.0, 0, "prior")

    def failure(self, context: str, variant: str, knobs: str, device: str) -> Estimate | None:
        """Share of failed elements; of any device where this one was not measured."""
        here = self._of_choice(context, "failure", "share", variant, knobs, device)
        return here or self._of_choice(context, "failure", "share", variant, knobs, None)

    def memory(self, context: str, variant: str, knobs: str, device: str) -> Estimate | None:
        """Peak bytes of the loaded variant on one slot."""
        return self._of_choice(context, "memory", "peak", variant, knobs, device)

    def load(self, context: str, variant: str, knobs: str, device: str) -> Estimate | None:
        """Seconds to load the variant."""
        return self._of_choice(context, "load", "mean", variant, knobs, device)

    def tokens(self, context: str, variant: str, knobs: str) -> tuple[Estimate, Estimate] | None:
        """Tokens per element, read and written."""
        read = self._of_choice(context, "tokens_in", "mean", variant, knobs, None)
        written = self._of_choice(context, "tokens_out", "mean", variant, knobs, None)
        if read is None or written is None:
            return None
        return read, written

    def rate(self, context: str, given: Given | None = None) -> Estimate | None:
        """Share of rows whose WHEN (or filter) is TRUE, under the choice of the step it reads."""
        index = self._index(context)
        if given is not None:
            found = index.get(("rate", "share", given[1], given[2], None, None, given[0], ""))
            if found is not None:
                return _estimate(found)
        return _estimate(index.get(("rate", "share", None, "", None, None, None, "")))

    def lengths(self, context: str) -> tuple[tuple[int, float], ...] | None:
        """The distribution of EACH list lengths: (elements, share of rows), ascending."""
        rows = self._newest_lengths(context)
        if not rows:
            return None
        pairs = [(int(row.statistic[4:-1]), row.value) for row in rows]
        return tuple(sorted(pair for pair in pairs if pair[1] > 0.0))

    def length_n(self, context: str) -> int:
        """Independent units behind `lengths`; 0 where it is unknown."""
        return min((row.n for row in self._newest_lengths(context)), default=0)

    def distinct(self, context: str) -> Estimate | None:
        """Distinct inputs ÷ inputs."""
        return _estimate(
            self._index(context).get(("distinct", "share", None, "", None, None, None, ""))
        )

    def end_to_end(self, subject: str) -> Mapping[str, Mapping[str, Estimate]]:
        """Assignment text → metric (`latency_p95`, `accuracy`, …) → its end-to-end measurement."""
        found: dict[str, dict[str, Estimate]] = {}
        for row in self._index(subject).values():
            if row.assignment and row.variant is None:
                estimate = _estimate(row)
                if estimate is not None:
                    found.setdefault(row.assignment, {})[row.metric] = estimate
        return MappingProxyType(found)

    def stale(self, context: str, variant: str, knobs: str, device: str, batch: int) -> str | None:
        """Why what is known of a choice, or of the rows that reach it, may no longer hold."""
        for subject in _subjects(context, variant):
            own = [
                row
                for key, row in self._index(subject).items()
                if key[2:4] == (variant, knobs)
                and key[4] in (None, device)
                and key[5] in (None, batch)
            ]
            if own:
                inputs = [r for r in self._rows.get(context, ()) if r.variant is None]
                return next((r.stale for r in (*own, *inputs) if r.stale is not None), None)
        return None

    def _of_choice(
        self,
        context: str,
        metric: str,
        statistic: str,
        variant: str,
        knobs: str,
        device: str | None,
    ) -> Estimate | None:
        """One number about a choice: of the step, else of its model, else its prior."""
        for subject in _subjects(context, variant):
            found = self._index(subject).get(
                (metric, statistic, variant, knobs, device, None, None, "")
            )
            if found is None and device is None:
                found = self._any_device(subject, metric, statistic, variant, knobs)
            if found is not None:
                return _estimate(found)
        prior = self._priors.get(variant, {}).get(metric)
        return None if prior is None else _prior(prior)

    def _any_device(
        self, subject: str, metric: str, statistic: str, variant: str, knobs: str
    ) -> Observation | None:
        """The newest such number of any device: failures and tokens hardly depend on it."""
        wanted = (metric, statistic, variant, knobs)
        rows = [row for key, row in self._index(subject).items() if key[:4] == wanted]
        return max(rows, key=lambda row: row.at, default=None)

    def _index(self, subject: str) -> dict[_Key, Observation]:
        """The newest observation of every key of a subject."""
        index = self._indexes.get(subject)
        if index is None:
            index = self._indexes[subject] = {}
            for row in self._rows.get(subject, ()):
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
                if before is None or row.at >= before.at:
                    index[key] = row
        return index

    def _measured_batches(
        self, subject: str, variant: str, knobs: str, device: str
    ) -> tuple[int, ...]:
        """Batch sizes with a mean latency."""
        asked = (subject, variant, knobs, device)
        found = self._batches.get(asked)
        if found is None:
            for key in self._index(subject):
                metric, statistic, of, setting, on, batch, _, _ = key
                if metric == "latency" and statistic == "mean" and of and on and batch is not None:
                    there = (subject, of, setting, on)
                    self._batches[there] = (*self._batches.get(there, ()), batch)
            for there, sizes in self._batches.items():
                if there[0] == subject:
                    self._batches[there] = tuple(sorted(set(sizes)))
            found = self._batches.setdefault(asked, ())
        return found

    def _newest_lengths(self, context: str) -> list[Observation]:
        """All of one measured distribution: shares of two samples would not add to one."""
        rows = [row for key, row in self._index(context).items() if key[0] == "length"]
        if not rows:
            return []
        newest = max(rows, key=lambda row: row.at)
        return [row for row in rows if row.run == newest.run and row.at == newest.at]


def _subjects(context: str, variant: str) -> tuple[str, ...]:
    """Where to look: the step, then its model."""
    model = variant.split(".", 1)[0]
    return (context,) if context == model else (context, model)


def _estimate(row: Observation | None) -> Estimate | None:
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


_OBSERVED = {"accuracy": "quality", "latency_p95": "latency"}
"""What an SLO's metrics are called where one call is observed; a bare `latency` binds as p95."""


def _priors(priors: Sequence[Prior]) -> dict[str, float]:
    """Declared values by metric; accuracy of a variant is its quality."""
    return {_OBSERVED.get(p.metric, p.metric): p.value for p in priors}


def _prior(value: float) -> Estimate:
    """A declared number: trusted within a factor of ten (our choice), n = 0."""
    return Estimate(value, value / 10, value * 10, 0, "prior")
