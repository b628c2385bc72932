"""Collects observations of one run, all stamped alike; more rows replace what fewer said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from ..ir.models import knobs_text
from ..ir.physical import Choice, Stage
from .intervals import Interval, repeated
from .observation import Observation


class Recorder:
    """Appends observations to `rows`."""

    def __init__(
        self,
        rows: list[Observation],
        now: Callable[[], datetime],
        run: int | None,
        versions: Mapping[str, int],
    ) -> None:
        self.rows = rows
        self._now = now
        self._run = run
        self._versions = versions
        self._places: dict[tuple[object, ...], int] = {}

    def add(
        self,
        subject: str,
        metric: str,
        statistic: str,
        interval: Interval,
        *,
        choice: Choice | None = None,
        device: str | None = None,
        batch: int | None = None,
        given: str | None = None,
        assignment: str = "",
        n_failed: int = 0,
        at: datetime | None = None,
    ) -> None:
        """Keep one number unless it is NaN (nothing was seen), in place of an earlier one.

        `choice` gives variant and knobs; its device and batch only count where they are given.
        """
        if math.isnan(interval.value):
            return
        seen = Observation(
            subject=subject,
            metric=metric,
            statistic=statistic,
            value=interval.value,
            n=interval.n,
            at=at or self._now(),
            low=interval.low,
            high=interval.high,
            n_failed=n_failed,
            variant=choice.variant if choice is not None else None,
            knobs=knobs_text(choice.knobs) if choice is not None else "",
            device=device,
            batch=batch,
            given=given,
            assignment=assignment,
            subject_version=self._versions.get(subject, 1),
            variant_version=choice.version if choice is not None else None,
            run=self._run,
        )
        key = (
            subject, metric, statistic, seen.variant, seen.knobs, device, batch, given, assignment,
        )  # fmt: skip
        place = self._places.setdefault(key, len(self.rows))
        if place == len(self.rows):
            self.rows.append(seen)
        else:
            self.rows[place] = seen

    def now(self) -> datetime:
        """One time for numbers that belong together."""
        return self._now()


def record_unloads(record: Recorder, unloads: Iterable[tuple[Stage, float]]) -> None:
    """Seconds that closing copies took, one number a variant, its knobs and device."""
    found: dict[tuple[str, Choice], list[float]] = {}
    for stage, seconds in unloads:
        choice = stage.choice.replace(batch=1)
        found.setdefault((stage.context, choice), []).append(seconds)
    for (context, choice), times in found.items():
        record.add(context, "unload", "mean", repeated(times), choice=choice, device=choice.device)
