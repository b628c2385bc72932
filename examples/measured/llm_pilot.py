"""LLM-Pilot [Łazuka, Anghel, Parnell 2024, SC'24]: ten LLMs served on five kinds of GPU.

A closed loop of `num_users` users, each asking again as soon as it is answered, so the mean
seconds of a request are `num_users / req_per_s` (Little's law); quantiles are published. They are
of the requests that were answered: where many failed, short ones survive and look fast. Failures
are therefore counted beside every number, and their share is an observation of its own, by which
planning refuses such a choice.
"""

from __future__ import annotations

from .dataset import PRICES, PRICES_COLUMNS, DataSet, Number, Relation, csv

_SUMMARY = "llm_pilot/summary_by_config.csv"
_GPUS = "llm_pilot/gpu_features.csv"

_ROWS = f"""
SELECT 'generate' AS model, model AS origin,
    lower(gpu_type) || '_x' || n_gpus AS device,
    num_users::INTEGER AS batch, num_users::INTEGER AS concurrency,
    n_gpus::INTEGER AS tensor_parallel,
    n_requests::BIGINT AS answered, n_failed::BIGINT AS failed,
    req_per_s::DOUBLE AS per_second,
    e2e_ms_p50::DOUBLE AS p50_ms, e2e_ms_p95::DOUBLE AS p95_ms, e2e_ms_p99::DOUBLE AS p99_ms,
    itl_ms_p50::DOUBLE AS token_p50_ms, itl_ms_p95::DOUBLE AS token_p95_ms,
    itl_ms_p99::DOUBLE AS token_p99_ms,
    ttft_ms_p50::DOUBLE AS first_p50_ms, ttft_ms_p95::DOUBLE AS first_p95_ms,
    ttft_ms_p99::DOUBLE AS first_p99_ms
FROM {csv(_SUMMARY)}
"""

_DEVICES = f"""
SELECT lower(split_part(g.gpu, ' x ', 2)) || '_x' || split_part(g.gpu, ' x ', 1) AS name,
    'cuda' AS kind, gpu_memory_capacity_gb::DOUBLE * gpu_n_gpus::DOUBLE AS memory_gb,
    price::DOUBLE AS usd_per_hour
FROM {csv(_GPUS)} AS g LEFT JOIN {csv(PRICES)} AS p ON p."GPU" = g.gpu
"""


def _quantiles(metric: str, prefix: str) -> tuple[Number, ...]:
    return tuple(
        Number(metric, f"p{q}", f"{prefix}p{q}_ms / 1000", n="answered", failed="failed")
        for q in (50, 95, 99)
    )


LLM_PILOT = DataSet(
    "llm_pilot",
    "https://github.com/IBM/LLM-performance-prediction (per-request files summarised)",
    {
        _SUMMARY: (
            *("model", "gpu_type", "n_gpus", "num_users", "n_requests", "n_failed", "req_per_s"),
            *(f"{name}_ms_p{q}" for name in ("ttft", "itl", "e2e") for q in (50, 95, 99)),
        ),
        _GPUS: ("gpu", "gpu_memory_capacity_gb", "gpu_n_gpus"),
        PRICES: PRICES_COLUMNS,
    },
    ("CREATE MODEL generate (prompt VARCHAR) RETURNS (text VARCHAR) QUALITY exact_match(text)",),
    _DEVICES,
    (
        Relation(
            _ROWS,
            (
                Number(
                    "latency",
                    "mean",
                    "concurrency / nullif(per_second, 0)",
                    n="answered",
                    failed="failed",
                    source="modelled",
                ),
                *_quantiles("latency", ""),
                *_quantiles("tpot", "token_"),
                *_quantiles("ttft", "first_"),
                Number(
                    "failure",
                    "share",
                    "failed / nullif(answered + failed, 0)",
                    "choice",
                    n="answered + failed",
                    failed="failed",
                ),
            ),
            ("concurrency", "tensor_parallel"),
        ),
    ),
)
