"""`Statistics`: the newest observations, looked up as estimates.

Plain Python over a list of observations: it lies on the way of a cold EXPLAIN, which loads no
numerical library. What a step of a pipeline has not measured falls back to its model's own
measurements, one kind of number at a time, never mixing both in one batch curve. Distributions of
lengths are not pooled over deployments: its own where measured, else the pipeline's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from ..ir.estimates import Estimate
from ..ir.models import ExtendedStatistics, Prior, Variant
from .cascades import CascadeStatistics, cascade_of
from .dependence import CELLS, JointErrors, names_pair
from .intervals import wilson
from .newest import Key, Newest, alike
from .observation import Observation, assignment_text

Given = tuple[str, str, str]
"""A conditioning choice: context, variant's full name, knobs text."""

LATENCY_STATISTICS = ("mean", "p50", "p90", "p95", "p99")


class Statistics:
    """Estimates by context, from observations; later ones replace earlier ones of the same key.

    Args:
        observations: of any subjects, in any order.
        variants: whose declared priors may stand in, with `allow_priors`.
        allow_priors: use them where nothing is measured; always labelled `prior`, n = 0.
        deployment: whose numbers are asked for; None: the pipelines' own.
        dependences: the declared statistics whose joint errors may be used.
        left_out: what is said of observations that were left out, for the user.
    """

    def __init__(
        self,
        observations: Iterable[Observation],
        *,
        variants: Iterable[Variant] = (),
        allow_priors: bool = False,
        deployment: str | None = None,
        dependences: Iterable[ExtendedStatistics] = (),
        left_out: Sequence[str] = (),
    ) -> None:
        self._dependences = tuple(dependences)
        self.left_out = tuple(left_out)
        self._newest = Newest(observations, deployment)
        self._batches: dict[str, dict[tuple[str, str, str], list[tuple[int, Observation]]]] = {}
        self._energies: dict[str, dict[tuple[object, ...], Key]] = {}
        self._priors: dict[str, dict[str, float]] = {}
        if allow_priors:
            for variant in variants:
                self._priors[variant.full_name] = _priors(variant.priors)

    def latest_run(self, context: str) -> int | None:
        """The latest run that timed a choice of a context; None where none did."""
        rows = self._newest.rows(context).values()
        timed = (row.run for row in rows if row.metric == "latency")
        return max((run for run in timed if run is not None), default=None)

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
                return self._newest.estimate(subject, key)
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
        Devices share it; where those it was imported of differ significantly, it is the worst.
        """
        if given is not None:
            text = assignment_text({given[0]: (given[1], given[2])})
            found = self._newest.estimate(
                context, ("quality", "mean", variant, knobs, None, None, given[0], text)
            )
            if found is not None:
                return found
        for subject in _subjects(context, variant):
            by_device = self._by_device(subject, "quality", "mean", variant, knobs)
            if by_device:
                return alike(list(by_device.values())) or min(
                    by_device.values(), key=lambda estimate: estimate.value
                )
        prior = self._priors.get(variant, {}).get("quality")
        return None if prior is None else Estimate(prior, 0.0, 1.0, 0, "prior")

    def detection(self, context: str, variant: str, knobs: str, metric: str) -> Estimate | None:
        """Precision or recall of a choice, which `metric` says."""
        for subject in _subjects(context, variant):
            key: Key = (metric, "mean", variant, knobs, None, None, None, "")
            found = self._newest.estimate(subject, key)
            if found is not None:
                return found
        return None

    def row_quality(self, context: str, variant: str, knobs: str) -> Estimate | None:
        """Share of rows a step gets right, all elements of it; measured beside joint errors."""
        key = ("row_quality", "mean", variant, knobs, None, None, None, "")
        return self._newest.estimate(context, key) if self._dependences else None

    def partners(self, context: str) -> tuple[str, ...]:
        """Contexts of the steps whose errors were measured together with this one's."""
        if not self._dependences:
            return ()
        index = self._newest.rows(context)
        found = (key[6] for key in index if key[:2] == ("joint_errors", "together"))
        return tuple(dict.fromkeys(given for given in found if given is not None))

    def joint(self, first: Given, second: Given) -> JointErrors | None:
        """How a choice of the second step errs together with one of the first, as declared."""
        sides = [(context, variant.partition(".")[0]) for context, variant, _ in (first, second)]
        name = next((d.name for d in self._dependences if names_pair(d, *sides)), None)
        if name is None:
            return None
        context, variant, knobs = second
        text = assignment_text({first[0]: (first[1], first[2])})

        def at(statistic: str) -> Estimate | None:
            key = ("joint_errors", statistic, variant, knobs, None, None, first[0], text)
            return self._newest.estimate(context, key)

        cells = tuple(found.value for cell in CELLS if (found := at(cell)) is not None)
        together = at("together")
        if together is None:
            return None
        whole = (cells[0], cells[1], cells[2], cells[3]) if len(cells) == len(CELLS) else None
        return JointErrors(name, whole, at("second_if_first"), together)

    def cascades(self, context: str, model: str) -> tuple[CascadeStatistics, ...]:
        """The cascades measured of a step, else of its model.

        Those of the newest ANALYZE that measured any, without those whose first and last members
        were measured again since: that ANALYZE kept other thresholds, or found none.
        """
        for subject in _subjects(context, model):
            index = self._newest.rows(subject)
            rows = {key: row for key, row in index.items() if key[0] == "cascade"}
            if not rows:
                continue
            run = max(rows.values(), key=self._newest.preference).run
            groups: dict[tuple[str, str, str], dict[str, Estimate]] = {}
            for key, row in rows.items():
                estimate = self._newest.estimate(subject, key)
                if row.run == run and key[2] is not None and estimate is not None:
                    groups.setdefault((key[7], key[2], key[3]), {})[key[1]] = estimate
            made = [
                cascade_of(text, (variant, knobs), known)
                for (text, variant, knobs), known in groups.items()
            ]
            return tuple(
                each
                for each in made
                if each is not None
                and any(
                    self._run_of_quality(subject, *each.members[end]) in (None, run)
                    for end in (0, -1)
                )
            )
        return ()

    def _run_of_quality(self, subject: str, variant: str, knobs: str) -> int | None:
        """The ANALYZE that a choice's quality is from; None where none measured it."""
        row = self._newest.rows(subject).get(
            ("quality", "mean", variant, knobs, None, None, None, "")
        )
        return None if row is None else row.run

    def failure(
        self, context: str, variant: str, knobs: str, device: str, batch: int | None = None
    ) -> Estimate | None:
        """Share of failed elements (of calls, where only calls that failed were counted).

        Devices share it unless this one differs significantly. Where no share was measured, that of
        the latencies' own counts, `n_failed` ÷ (`n` + `n_failed`): of the batch size, if one is
        asked for, and of all else.
        """
        for subject in _subjects(context, variant):
            found = self._by_device(subject, "failure", "share", variant, knobs)
            if found:
                shared = alike(list(found.values()))
                return shared or found.get(device) or max(found.values(), key=lambda e: e.value)
            counted = self._counted_failures(subject, variant, knobs, device, batch)
            if counted is not None:
                return counted
        prior = self._priors.get(variant, {}).get("failure")
        return None if prior is None else _prior(prior)

    def failure_seconds(
        self, context: str, variant: str, knobs: str, device: str, batch: int
    ) -> Estimate | None:
        """Seconds of the calls in which elements failed ÷ all elements, at a batch size."""
        for subject in _subjects(context, variant):
            if self._measured_batches(subject, variant, knobs, device):
                key = ("failure_seconds", "mean", variant, knobs, device, batch, None, "")
                return self._newest.estimate(subject, key)
        return None

    def memory(self, context: str, variant: str, knobs: str, device: str) -> Estimate | None:
        """Peak bytes of the loaded variant on one slot."""
        return self._of_choice(context, "memory", "peak", variant, knobs, device)

    def load(self, context: str, variant: str, knobs: str, device: str) -> Estimate | None:
        """Seconds to load the variant."""
        return self._of_choice(context, "load", "mean", variant, knobs, device)

    def energy(
        self, context: str, variant: str, knobs: str, device: str, batch: int
    ) -> tuple[Estimate, str] | None:
        """J of one batch call and the counter that tells it, '' for an imported number.

        The newest; numbers of calls that had to share the counter only where there are no others.
        """
        for subject in _subjects(context, variant):
            if not self._measured_batches(subject, variant, knobs, device):
                continue
            key = self._energies_of(subject).get((variant, knobs, device, batch))
            estimate = None if key is None else self._newest.estimate(subject, key)
            return None if key is None or estimate is None else (estimate, key[1][5:-1])
        return None

    def tokens(self, context: str, variant: str, knobs: str) -> tuple[Estimate, Estimate] | None:
        """Tokens per element, read and written."""
        read = self._of_choice(context, "tokens_in", "mean", variant, knobs, None)
        written = self._of_choice(context, "tokens_out", "mean", variant, knobs, None)
        if read is None or written is None:
            return None
        return read, written

    def rate(self, context: str, given: Given | None = None) -> Estimate | None:
        """Share of rows whose WHEN (or filter) is TRUE, under the choice of the step it reads."""
        if given is not None:
            key = ("rate", "share", given[1], given[2], None, None, given[0], "")
            found = self._newest.estimate(context, key)
            if found is not None:
                return found
        return self._newest.estimate(context, ("rate", "share", None, "", None, None, None, ""))

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
        return self._newest.estimate(context, ("distinct", "share", None, "", None, None, None, ""))

    def end_to_end(self, subject: str) -> Mapping[str, Mapping[str, Estimate]]:
        """Assignment text → metric (`latency_p95`, `accuracy`, …) → its end-to-end measurement."""
        found: dict[str, dict[str, Estimate]] = {}
        for key, row in self._newest.rows(subject).items():
            if row.assignment and row.variant is None:
                estimate = self._newest.estimate(subject, key)
                if estimate is not None:
                    found.setdefault(row.assignment, {})[row.metric] = estimate
        return MappingProxyType(found)

    def stale(self, context: str, variant: str, knobs: str, device: str, batch: int) -> str | None:
        """Why what is known of a choice, or of the rows that reach it, may no longer hold."""
        for subject in _subjects(context, variant):
            own = [
                row
                for key, row in self._newest.rows(subject).items()
                if key[2:4] == (variant, knobs)
                and key[4] in (None, device)
                and key[5] in (None, batch)
            ]
            if own:
                inputs = [r for r in self._newest.rows(context).values() if r.variant is None]
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
            key: Key = (metric, statistic, variant, knobs, device, None, None, "")
            found = self._newest.estimate(subject, key)
            if found is None and device is None:
                found = self._any_device(subject, metric, statistic, variant, knobs)
            if found is not None:
                return found
        prior = self._priors.get(variant, {}).get(metric)
        return None if prior is None else _prior(prior)

    def _any_device(
        self, subject: str, metric: str, statistic: str, variant: str, knobs: str
    ) -> Estimate | None:
        """The newest such number of any device: token counts hardly depend on it."""
        wanted = (metric, statistic, variant, knobs)
        rows = [
            (row.at, key) for key, row in self._newest.rows(subject).items() if key[:4] == wanted
        ]
        return (
            self._newest.estimate(subject, max(rows, key=lambda row: row[0])[1]) if rows else None
        )

    def _by_device(
        self, subject: str, metric: str, statistic: str, variant: str, knobs: str
    ) -> dict[str | None, Estimate]:
        """A number of a choice by device; under None what was measured for all."""
        found: dict[str | None, Estimate] = {}
        for key in self._newest.by_choice(subject).get((metric, statistic, variant, knobs), ()):
            estimate = self._newest.estimate(subject, key) if key[5:] == (None, None, "") else None
            if estimate is not None:
                found[key[4]] = estimate
        return found

    def _counted_failures(
        self, subject: str, variant: str, knobs: str, device: str, batch: int | None
    ) -> Estimate | None:
        """From the counts beside latencies: of one batch size, else of all; None without counts."""
        most: dict[int | None, Observation] = {}
        for statistic in LATENCY_STATISTICS:
            for key in self._newest.by_choice(subject).get(
                ("latency", statistic, variant, knobs), ()
            ):
                row = self._newest.rows(subject)[key]
                before = most.get(row.batch)
                fuller = before is None or row.n + row.n_failed > before.n + before.n_failed
                if row.device == device and fuller:
                    most[row.batch] = row
        rows = [row for row in most.values() if batch is None or row.batch == batch]
        failed = sum(row.n_failed for row in rows)
        tried = failed + sum(row.n for row in rows)
        if not failed:
            return None
        low, high = wilson(failed, tried)
        at = min(row.at for row in rows)
        return Estimate(failed / tried, low, high, tried, rows[0].source, at)

    def _measured_batches(
        self, subject: str, variant: str, knobs: str, device: str
    ) -> tuple[int, ...]:
        """Batch sizes with a mean latency; without stale ones where an ANALYZE since timed any.

        A size that its ladder did not reach any more is of another thing than those beside it.
        """
        sizes = self._batches.get(subject)
        if sizes is None:
            sizes = self._batches[subject] = {}
            for key, row in self._newest.rows(subject).items():
                if key[:2] == ("latency", "mean") and row.variant and row.device and row.batch:
                    choice = row.variant, row.knobs, row.device
                    sizes.setdefault(choice, []).append((row.batch, row))
        known = sizes.get((variant, knobs, device), [])
        anew = any(row.stale is None and row.run is not None for _, row in known)
        return tuple(sorted(size for size, row in known if row.stale is None or not anew))

    def _energies_of(self, subject: str) -> dict[tuple[object, ...], Key]:
        """The energy that counts by variant, knobs, device and batch, whatever counter told it."""
        found = self._energies.get(subject)
        if found is None:
            found = self._energies[subject] = {}
            rows = self._newest.rows(subject)
            for key, row in rows.items():
                if key[0] == "energy":
                    other = found.get(key[2:6])
                    if other is None or _undivided(row) > _undivided(rows[other]):
                        found[key[2:6]] = key
        return found

    def _newest_lengths(self, context: str) -> list[Observation]:
        """All of one measured distribution: shares of two samples would not add to one."""
        rows = [row for key, row in self._newest.rows(context).items() if key[0] == "length"]
        if not rows:
            return []
        newest = max(rows, key=self._newest.preference)
        own = (newest.run, newest.at, newest.deployment)
        return [row for row in rows if (row.run, row.at, row.deployment) == own]


def _undivided(row: Observation) -> tuple[bool, datetime]:
    """An order of energies: counted for these calls alone first, then the newest."""
    return not row.statistic.endswith(", split)"), row.at


def _subjects(context: str, variant: str) -> tuple[str, ...]:
    """Where to look: the step, then its model."""
    model = variant.split(".", 1)[0]
    return (context,) if context == model else (context, model)


_OBSERVED = {"accuracy": "quality", "latency_p95": "latency"}
"""What an SLO's metrics are called where one call is observed; a bare `latency` binds as p95."""


def _priors(priors: Sequence[Prior]) -> dict[str, float]:
    """Declared values by metric; accuracy of a variant is its quality."""
    return {_OBSERVED.get(p.metric, p.metric): p.value for p in priors}


def _prior(value: float) -> Estimate:
    """A declared number: trusted within a factor of ten (our choice), n = 0."""
    return Estimate(value, value / 10, value * 10, 0, "prior")
