"""`Observation`: one measured number about a model, step, pipeline or filter, as it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ..ir.estimates import Source
from ..ir.record import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """One number; append-only in the catalog, the newest of a key counts.

    `subject` is a context: a model `m`, a pipeline `p`, a step `p.step`, or a filter
    `filter:<fingerprint of its predicate>`. The metrics and their statistics:

    ========== ===================== ==========================================================
    metric     statistic             value
    ========== ===================== ==========================================================
    latency    mean p50 p90 p95 p99  seconds of one batch call of `batch` elements
    quality    mean                  share (or mean score) of right answers per element that ran
    agreement  mean                  the same with BASE as the truth, on ANALYZE's rows; with
                                     `(audit)`, on rows that executions saw; likewise a rate
    failure    share                 failed elements ÷ elements
    failure_seconds mean             seconds of the calls in which elements failed, timeouts among
                                     them, ÷ all elements, at batches of `batch`
    memory     peak                  bytes of the loaded variant on one slot
    load       mean                  seconds to load the variant; likewise unload, to release it
    energy     mean                  J of one batch call of `batch` elements; `mean(counter)` where
                                     a counter of ours told it: rapl, nvml, nvml power; with
                                     `, split` where it was shared with other stages' calls
    tokens_in  mean                  tokens per element; likewise tokens_out
    rate       share                 rows whose WHEN (or filter) is TRUE ÷ rows; with variant and
                                     knobs set: when that choice made the step `given`
    length     pmf(k)                share of rows whose EACH list has k elements
    distinct   share                 distinct inputs ÷ inputs
    row_quality mean                 share (or mean score) of right rows, a row being right where
                                     every element of it is, or where the step did not run
    joint_errors both_right, …       see `stats/dependence.py`; `given` is the first step and
                                     `assignment` its choice
    precision  mean                  share of TRUE answers that are right; recall: share of what is
                                     TRUE that is answered so
    cascade    quality, reach(1), …  see `stats/cascades.py`; `variant` is the last member and
                                     `assignment` the others with their thresholds
    accuracy   mean                  end to end, of the `assignment`
    cost       mean                  end to end, USD per row; latency_p50/p95/p99 likewise
    ========== ===================== ==========================================================

    `given` is the context of the step whose choice conditions a `rate` or a `quality`; None
    otherwise. For a `rate` that choice is `variant` and `knobs`; for a `quality` those are the
    step's own and `assignment` holds the text of the conditioning choice. A `quality` conditioned
    on the step itself is that on the rows where no later step replaced its answer. End-to-end
    metrics have `variant` None and in `assignment` the whole assignment's text. `n` counts
    independent units (clusters where the sample was clustered). `run` is the ANALYZE that measured
    it, or the query; `deployment` whose rows they were: None are the pipeline's own. For a query
    `filter` is what rows had passed before they came here, '' where nothing; it is None otherwise.
    The `n_failed` of a latency are the elements that failed: its seconds are of the survivors.

    `stale` is why the number may no longer hold, None where nothing says so; the catalog tells it
    when it is read, and keeps none.
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
    deployment: str | None = None
    filter: str | None = None
    stale: str | None = None


STATISTICS: Mapping[str, tuple[str, ...]] = {
    "latency": ("mean", "p50", "p90", "p95", "p99"),
    "agreement": ("…",),
    "failure": ("share",),
    "memory": ("peak",),
    "energy": ("mean", "mean(…)"),
    "rate": ("share", "share(audit)"),
    "length": ("pmf(…)",),
    "distinct": ("share",),
    "joint_errors": ("…",),
    "cascade": ("…",),
    **dict.fromkeys(("quality", "row_quality", "precision", "recall", "accuracy"), ("mean",)),
    **dict.fromkeys(("load", "unload", "tokens_in", "tokens_out", "cost"), ("mean",)),
    "failure_seconds": ("mean",),
    **dict.fromkeys(("latency_p50", "latency_p95", "latency_p99"), ("mean",)),
}
"""The metrics that plans are made with, and the statistics of each; … is any text."""


def assignment_text(choices: Mapping[str, tuple[str, str]]) -> str:
    """`context=variant(knobs);…` sorted by context: the text of a (partial) assignment.

    `choices` maps a step's key to its variant's full name and `ir.models.knobs_text`.
    """
    return ";".join(
        f"{context}={variant}({knobs})" for context, (variant, knobs) in sorted(choices.items())
    )
