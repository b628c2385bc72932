"""`Observation`: one measured number about a model, a step, a pipeline or a filter, as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..ir.estimates import Source


@dataclass(frozen=True, slots=True)
class Observation:
    """One number; append-only in the catalog, the newest of a key counts.

    `subject` is a context: a model `m`, a pipeline `p`, a step `p.step`, or a filter
    `filter:<fingerprint of its predicate>`. The metrics and their statistics:

    ========== ===================== ==========================================================
    metric     statistic             value
    ========== ===================== ==========================================================
    latency    mean p50 p90 p95 p99  seconds of one batch call of `batch` elements
    quality    mean                  share (or mean score) of right answers, per element, where it ran
    failure    share                 failed elements ÷ elements
    memory     peak                  bytes of the loaded variant on one slot
    load       mean                  seconds to load the variant
    tokens_in  mean                  tokens per element; likewise tokens_out
    rate       share                 rows whose WHEN (or filter) is TRUE ÷ rows; with variant and knobs
                                     set: when that choice made the step `given` (see `given`)
    length     pmf(k)                share of rows whose EACH list has k elements
    distinct   share                 distinct inputs ÷ inputs
    accuracy   mean                  end to end; `knobs` holds the assignment's text (see below)
    cost       mean                  end to end, USD per row; latency_p50/p95/p99 likewise
    ========== ===================== ==========================================================

    `given` is the context of the step whose choice (`variant`, `knobs`) conditions a `rate` or a
    `quality`; None otherwise. End-to-end metrics have `variant` None and in `assignment` the
    canonical text `context=variant(knobs);…`, sorted by context. `n` counts independent units
    (clusters where the sample was clustered). `run` is the ANALYZE that measured it.
    """

    subject: str
    metric: str
    statistic: str
    value: float
    n: int
    at: datetime
    low: float | None = None
    high: float | None = None
    n_failed: int = 0
    variant: str | None = None
    knobs: str = ""
    device: str | None = None
    batch: int | None = None
    given: str | None = None
    assignment: str = ""
    source: Source = "measured"
    subject_version: int = 1
    variant_version: int | None = None
    run: int | None = None
