"""Splitwise [Patel et al. 2024, ISCA'24]: prefill and decode of two LLMs on DGX machines, repeated.

A request's shape (tokens read and written) is not for a planner to choose, so every shape is a
model of its own: `generate_p512_t128`. `h100_80gb_pcap` is the H100 with its power capped. Power is
published as a share of the cards' TDP and kept as such; 0 is not measured.
"""

from __future__ import annotations

from ...stats.intervals import LEVEL, t_quantile
from .dataset import DataSet, Number, Relation, csv

_FILE = "splitwise_perf/perf_model.csv"
_SHAPES = (
    *((prompt, 128) for prompt in (128, 256, 512, 1024, 2048, 4096, 8192)),
    *((512, tokens) for tokens in (256, 512, 1024, 2048, 4096, 8192)),
)
_MOST_RUNS = 60
"""Repetitions of one configuration whose t quantile is written into the query."""


def _student() -> str:
    """SQL of the two-sided t quantile by number of runs."""
    rows = ", ".join(f"({n}, {t_quantile(LEVEL, n - 1)!r})" for n in range(2, _MOST_RUNS + 1))
    return f"(VALUES {rows}) AS student(runs, t)"


def _rows() -> str:
    """Means over runs, with the half width of their t interval; sums in the order of the values,
    so that they do not depend on DuckDB's threads.
    """
    return f"""
    SELECT r.*, t * deviation / sqrt(n) AS half FROM (
        SELECT 'generate_p' || prompt_size || '_t' || token_size AS model, model AS origin,
            replace(hardware, '-', '_') || '_x' || tensor_parallel AS device,
            batch_size::INTEGER AS batch, tensor_parallel::INTEGER AS tensor_parallel,
            count(*) AS n, list_avg(list_sort(list(e2e_time::DOUBLE / 1000))) AS seconds,
            list_stddev_samp(list_sort(list(e2e_time::DOUBLE / 1000))) AS deviation,
            list_avg(list_sort(list(token_time::DOUBLE / 1000))) AS token_seconds,
            list_avg(list_sort(list(prompt_time::DOUBLE / 1000))) AS prompt_seconds,
            list_avg(list_sort(list(nullif(average_power::DOUBLE, 0)))) AS power,
            list_avg(list_sort(list(nullif(peak_power::DOUBLE, 0)))) AS peak
        FROM {csv(_FILE)} GROUP BY ALL
    ) AS r LEFT JOIN {_student()} ON runs = n
    """


SPLITWISE_PERF = DataSet(
    "splitwise_perf",
    "https://github.com/Mutinifni/splitwise-sim, data/perf_model.csv",
    {
        _FILE: (
            *("model", "hardware", "prompt_size", "batch_size", "token_size", "tensor_parallel"),
            *("peak_power", "average_power", "prompt_time", "token_time", "e2e_time"),
        )
    },
    tuple(
        f"CREATE MODEL generate_p{prompt}_t{tokens} (prompt VARCHAR) RETURNS (text VARCHAR) "
        "QUALITY exact_match(text)"
        for prompt, tokens in _SHAPES
    ),
    f"""
    SELECT DISTINCT replace(hardware, '-', '_') || '_x' || tensor_parallel AS name,
        'cuda' AS kind, 80 * tensor_parallel::INTEGER AS memory_gb, NULL AS usd_per_hour
    FROM {csv(_FILE)}
    """,
    (
        Relation(
            _rows(),
            (
                Number(
                    "latency",
                    "mean",
                    "seconds",
                    n="n",
                    low="greatest(0, seconds - half)",
                    high="seconds + half",
                ),
                Number("tpot", "mean", "token_seconds", n="n"),
                Number("ttft", "mean", "prompt_seconds", n="n"),
                Number("power_share", "mean", "power", n="n"),
                Number("power_share", "peak", "peak", n="n"),
            ),
            ("tensor_parallel",),
        ),
    ),
)
