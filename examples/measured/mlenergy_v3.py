"""The ML.ENERGY benchmark, version 3: LLMs under vLLM and diffusion models, with their energy.

Steady state at a limit of `concurrency` sequences: the mean seconds of a request are those of its
tokens, `batch x tokens ÷ tokens per second` (Little's law), with `batch` the mean number of
sequences in flight. Energy and power are of all GPUs together, measured from their counters; energy
is kept as joules of one call, as latency is its seconds. Configurations that were measured twice
are averaged. Sample sizes are not published.
"""

from __future__ import annotations

from .dataset import PRICES, PRICES_COLUMNS, DataSet, Number, Relation, csv

_TASKS = {
    "gpqa": "solve",
    "lm-arena-chat": "chat",
    "image-chat": "image_chat",
    "video-chat": "video_chat",
    "sourcegraph-fim": "complete_code",
}
_SIGNATURES = {
    "solve": "(question VARCHAR) RETURNS (answer VARCHAR) QUALITY exact_match(answer)",
    "chat": "(prompt VARCHAR) RETURNS (text VARCHAR) QUALITY exact_match(text)",
    "image_chat": "(prompt VARCHAR, image BLOB) RETURNS (text VARCHAR) QUALITY exact_match(text)",
    "video_chat": "(prompt VARCHAR, video BLOB) RETURNS (text VARCHAR) QUALITY exact_match(text)",
    "complete_code": "(code VARCHAR) RETURNS (middle VARCHAR) QUALITY exact_match(middle)",
    "draw_image": "(prompt VARCHAR) RETURNS (image BLOB) QUALITY exact_match(image)",
    "draw_video": "(prompt VARCHAR) RETURNS (video BLOB) QUALITY exact_match(video)",
}
_SHARED = ("model_id", "gpu_model", "num_gpus", "avg_power_watts")
_TEXT = (
    *(*_SHARED, "tensor_parallel", "expert_parallel", "data_parallel", "max_num_seqs"),
    *("avg_batch_size", "avg_output_len", "output_throughput_tokens_per_sec"),
    *("median_itl_ms", "p90_itl_ms", "p95_itl_ms", "p99_itl_ms", "energy_per_request_joules"),
)
_DRAWN = (*_SHARED, "batch_size", "batch_latency_s", "ring_degree", "ulysses_degree")
_DEVICE = "lower(gpu_model) || '_x' || num_gpus"


def _path(task: str) -> str:
    return f"mlenergy_v3/tasks/{task}.json"


def _task(task: str) -> str:
    """SQL of a task's configurations, one a row."""
    return (
        "(SELECT unnest(configurations, recursive := true) "
        f"FROM read_json('{{folder}}/{_path(task)}'))"
    )


def _language_model(task: str, model: str) -> Relation:
    rows = f"""
    SELECT '{model}' AS model, model_id AS origin, {_DEVICE} AS device,
        max_num_seqs::INTEGER AS concurrency, tensor_parallel::INTEGER AS tensor_parallel,
        expert_parallel::INTEGER AS expert_parallel, data_parallel::INTEGER AS data_parallel,
        greatest(1, round(avg(avg_batch_size)))::INTEGER AS batch,
        avg(avg_output_len / nullif(output_throughput_tokens_per_sec, 0)) AS seconds,
        avg(energy_per_request_joules) AS joules, avg(avg_power_watts) AS watts,
        avg(avg_output_len) AS tokens, avg(median_itl_ms) AS itl50, avg(p90_itl_ms) AS itl90,
        avg(p95_itl_ms) AS itl95, avg(p99_itl_ms) AS itl99
    FROM {_task(task)} GROUP BY ALL
    """
    return Relation(
        rows,
        (
            Number("latency", "mean", "batch * seconds", source="modelled"),
            *(Number("tpot", f"p{q}", f"itl{q} / 1000") for q in (50, 90, 95, 99)),
            Number("tokens_out", "mean", "tokens", "choice"),
            Number("energy", "mean", "batch * joules"),
            Number("power", "mean", "watts"),
        ),
        ("concurrency", "data_parallel", "expert_parallel", "tensor_parallel"),
    )


def _diffusion(task: str, model: str, energy: str, shape: tuple[str, ...]) -> Relation:
    fixed = ", ".join(f"{each}::INTEGER AS {each}" for each in shape)
    rows = f"""
    SELECT '{model}' AS model, model_id AS origin, {_DEVICE} AS device,
        batch_size::INTEGER AS batch, ring_degree::INTEGER AS ring,
        ulysses_degree::INTEGER AS ulysses, {fixed},
        avg(batch_latency_s) AS seconds, avg({energy}) AS joules, avg(avg_power_watts) AS watts
    FROM {_task(task)} GROUP BY ALL
    """
    return Relation(
        rows,
        (
            Number("latency", "mean", "seconds"),
            Number("energy", "mean", "batch * joules"),
            Number("power", "mean", "watts"),
        ),
        ("ring", "ulysses", *shape),
    )


_GPUS = " UNION ALL ".join(
    f"SELECT gpu_model, num_gpus FROM {_task(task)}"
    for task in (*_TASKS, "text-to-image", "text-to-video")
)

MLENERGY_V3 = DataSet(
    "mlenergy_v3",
    "https://github.com/ml-energy/leaderboard, public/data/tasks/",
    {
        **{_path(task): _TEXT for task in _TASKS},
        _path("text-to-image"): (*_DRAWN, "inference_steps", "energy_per_image_joules"),
        _path("text-to-video"): (*_DRAWN, "inference_steps", "energy_per_video_joules"),
    },
    tuple(f"CREATE MODEL {name} {signature}" for name, signature in _SIGNATURES.items()),
    f"""
    SELECT DISTINCT {_DEVICE} AS name, 'cuda' AS kind, NULL AS memory_gb,
        price::DOUBLE AS usd_per_hour
    FROM ({_GPUS}) LEFT JOIN {csv(PRICES)} ON "GPU" = num_gpus || ' x ' || gpu_model
    """,
    (
        *(_language_model(task, model) for task, model in _TASKS.items()),
        _diffusion("text-to-image", "draw_image", "energy_per_image_joules", ("inference_steps",)),
        _diffusion("text-to-video", "draw_video", "energy_per_video_joules", ("inference_steps",)),
    ),
    {PRICES: PRICES_COLUMNS},
)
