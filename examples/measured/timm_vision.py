"""Image classifiers of timm [Wightman, pytorch-image-models]: ImageNet top-1 and throughput.

Accuracy is of the 50,000 images of ImageNet's validation set. Speeds are of an architecture at an
image size and one batch size per device; they are joined to weights by the name before the '.' and
the image size. Neither the number of timed batches nor quantiles are published.
"""

from __future__ import annotations

from .dataset import DataSet, Number, Relation, csv

IMAGENET_IMAGES = 50_000

_RESULTS = "timm_vision/results-imagenet.csv"
_SPEEDS = {
    "rtx3090": "timm_vision/benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv",
    "rtx4090": "timm_vision/benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv",
    "i9_10940x": "timm_vision/benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv",
}
_NEEDED = ("model", "infer_img_size", "infer_batch_size", "infer_samples_per_sec")

_TIMED = " UNION ALL ".join(
    f"SELECT '{device}' AS device, split_part(model, '.', 1) AS architecture, "
    "infer_img_size::INTEGER AS size, infer_batch_size::INTEGER AS batch, "
    f"infer_samples_per_sec::DOUBLE AS per_second FROM {csv(path)}"
    for device, path in _SPEEDS.items()
)

_ROWS = f"""
SELECT 'classify_image' AS model, r.model AS origin, r.img_size::INTEGER AS image_size,
    t.device, t.batch, t.per_second, r.top1::DOUBLE / 100 AS top1, r.top5::DOUBLE / 100 AS top5
FROM {csv(_RESULTS)} AS r JOIN ({_TIMED}) AS t
    ON t.architecture = split_part(r.model, '.', 1) AND t.size = r.img_size::INTEGER
"""

TIMM_VISION = DataSet(
    "timm_vision",
    "https://github.com/huggingface/pytorch-image-models, results/",
    {_RESULTS: ("model", "img_size", "top1", "top5")} | dict.fromkeys(_SPEEDS.values(), _NEEDED),
    (
        "CREATE MODEL classify_image (image BLOB) RETURNS (label INTEGER) "
        "QUALITY exact_match(label)",
    ),
    """
    SELECT * FROM (VALUES ('rtx3090', 'cuda', 24, NULL), ('rtx4090', 'cuda', 24, NULL),
        ('i9_10940x', 'cpu', NULL, NULL)) AS d(name, kind, memory_gb, usd_per_hour)
    """,
    (
        Relation(
            _ROWS,
            (
                Number("latency", "mean", "batch / nullif(per_second, 0)"),
                Number("quality", "mean", "top1", "answer", n=str(IMAGENET_IMAGES)),
                Number("top5", "mean", "top5", "answer", n=str(IMAGENET_IMAGES)),
            ),
            ("image_size",),
        ),
    ),
)
