"""Speech recognisers, embedding models and rerankers, from three public tables.

Their speeds are throughputs at a batch size that is not published: seconds of device time per
element, and no latency of an answer. An element of `transcribe` is 30 s of audio, the window that
Whisper reads (our choice: the table gives seconds of audio per second). Word accuracy is 1 - WER,
at least 0. A speed of -1 is not available, and such a model has no latency here.
"""

from __future__ import annotations

from .dataset import PRICES, PRICES_COLUMNS, DataSet, Number, Relation, csv

WINDOW_SECONDS = 30

_SHORT = "operator_variants/asr_en_shortform.csv"
_LONG = "operator_variants/asr_en_longform.csv"
_MULTILINGUAL = "operator_variants/asr_multilingual.csv"
_EMBEDDING = "operator_variants/embedding_models.csv"
_RERANKERS = "operator_variants/rerankers.csv"


def _recognisers(model: str, path: str, name: str, error: str) -> Relation:
    """A leaderboard of recognisers, measured on one A100 of 80 GB."""
    rows = f"""
    SELECT '{model}' AS model, "{name}" AS origin, 'a100_80gb_x1' AS device, 1 AS batch,
        nullif("RTFx"::DOUBLE, -1) AS realtimes,
        greatest(0, 1 - "{error}"::DOUBLE / 100) AS right_words
    FROM {csv(path)}
    """
    seconds = f"{WINDOW_SECONDS} / nullif(realtimes, 0)"
    return Relation(
        rows,
        (
            Number("latency", "mean", seconds, source="modelled"),
            Number("quality", "mean", "right_words", "answer"),
        ),
    )


_EMBEDDERS = Relation(
    f"""
    SELECT 'embed' AS model, model AS origin, 'v100_x1' AS device, 1 AS batch,
        speed_sentences_per_s_v100::DOUBLE AS per_second,
        semantic_search_score::DOUBLE / 100 AS search,
        sentence_embedding_score::DOUBLE / 100 AS similarity
    FROM {csv(_EMBEDDING)}
    """,
    (
        Number("latency", "mean", "1 / nullif(per_second, 0)", source="modelled"),
        Number("quality", "mean", "search", "answer"),
        Number("sentence_embedding", "mean", "similarity", "answer"),
    ),
)

_RANKERS = Relation(
    f"""
    SELECT 'rerank' AS model, model AS origin, 'v100_x1' AS device, 1 AS batch,
        docs_per_s_v100::DOUBLE AS per_second, ndcg10_trecdl19::DOUBLE / 100 AS ndcg,
        mrr10_msmarco_dev::DOUBLE / 100 AS mrr
    FROM {csv(_RERANKERS)}
    """,
    (
        Number("latency", "mean", "1 / nullif(per_second, 0)", source="modelled"),
        Number("quality", "mean", "ndcg", "answer"),
        Number("mrr10", "mean", "mrr", "answer"),
    ),
)

OPERATOR_VARIANTS = DataSet(
    "operator_variants",
    "https://github.com/huggingface/open_asr_leaderboard, scripts/data/, and the tables in the "
    "documentation of https://github.com/UKPLab/sentence-transformers",
    {
        _SHORT: ("model", "Avg. WER", "RTFx"),
        _LONG: ("model_id", "Average", "RTFx"),
        _MULTILINGUAL: ("model", "Avg", "RTFx"),
        _EMBEDDING: (
            *("model", "sentence_embedding_score", "semantic_search_score"),
            "speed_sentences_per_s_v100",
        ),
        _RERANKERS: ("model", "ndcg10_trecdl19", "mrr10_msmarco_dev", "docs_per_s_v100"),
    },
    (
        *(
            f"CREATE MODEL {name} (audio BLOB) RETURNS (text VARCHAR) QUALITY wer(text)"
            for name in ("transcribe", "transcribe_long", "transcribe_multilingual")
        ),
        "CREATE MODEL embed (text VARCHAR) RETURNS (vector FLOAT[]) QUALITY exact_match(vector)",
        "CREATE MODEL rerank (query VARCHAR, document VARCHAR) RETURNS (score DOUBLE) "
        "QUALITY exact_match(score)",
    ),
    f"""
    SELECT 'a100_80gb_x1' AS name, 'cuda' AS kind, 80 AS memory_gb, NULL AS usd_per_hour
    UNION ALL
    SELECT 'v100_x1', 'cuda', 16,
        (SELECT any_value(price::DOUBLE) FROM {csv(PRICES)} WHERE "GPU" = '1 x V100')
    """,
    (
        _recognisers("transcribe", _SHORT, "model", "Avg. WER"),
        _recognisers("transcribe_long", _LONG, "model_id", "Average"),
        _recognisers("transcribe_multilingual", _MULTILINGUAL, "model", "Avg"),
        _EMBEDDERS,
        _RANKERS,
    ),
    {PRICES: PRICES_COLUMNS},
)
