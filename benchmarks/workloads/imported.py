"""Pipelines whose variants, speeds, prices and published qualities come from public measurements.

Where a table publishes no quality (served LLMs) it is drawn from the seed, rising with the time a
model takes: SYNTHETIC, as all outcomes of single rows are (`simulated`). Prices that no table has
are assumed and named in `ASSUMED_USD_PER_HOUR`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import octans
from octans.examples.measured import DATA_SETS
from octans.examples.measured.loading import load
from octans.session import Session

from .simulated import Simulated, Workload

ASSUMED_USD_PER_HOUR = {
    "a100_80gb_x1": 5.0,
    "rtx3090": 0.25,
    "rtx4090": 0.45,
    "i9_10940x": 0.20,
    "b200_x1": 14.0,
    "b200_x2": 28.0,
}
VARIANTS = 8
NEEDED = ("llm_pilot", "operator_variants", "timm_vision", "mlenergy_v3")

_CHOICES = """
SELECT l.variant, l.device, min(l.value / l.batch) AS seconds,
    (SELECT min(q.value) FROM octans.statistics AS q
     WHERE q.variant = l.variant AND q.metric = 'quality') AS accuracy
FROM octans.statistics AS l
WHERE l.subject = '{model}' AND l.metric = 'latency' AND l.statistic = 'mean'
    AND l.device IN ({devices}) AND coalesce(l.n_failed, 0) = 0
GROUP BY l.variant, l.device ORDER BY ALL
"""


def workloads(folder: Path, seed: int) -> list[Workload]:
    """The four pipelines, of variants drawn by the seed."""
    with octans.connect() as session:
        for name in NEEDED:
            load(session, DATA_SETS[name], folder, lambda text: None)
        return [
            _workload(session, "speech", seed, ("transcribe", "a100_80gb_x1"),
                      ("generate", "a100_x1", "h100_x1")),
            _workload(session, "vision", seed, ("classify_image", "rtx3090", "i9_10940x"),
                      ("classify_image", "rtx4090")),
            _workload(session, "search", seed, ("embed", "v100_x1"), ("rerank", "v100_x1")),
            _workload(session, "chat", seed, ("chat", "h100_x1", "h100_x2"),
                      ("solve", "b200_x1", "b200_x2")),
        ]  # fmt: skip


def _workload(session: Session, name: str, seed: int, *steps: tuple[str, ...]) -> Workload:
    rng = np.random.default_rng([seed, len(name), ord(name[0])])
    priced = {d.name: d.usd_per_hour for d in session.catalog.devices()}
    devices = sorted({device for _, *on in steps for device in on})
    made = tuple(
        (f"m{place}_{model}", _variants(session, model, on, rng))
        for place, (model, *on) in enumerate(steps)
    )
    return Workload(
        name, made, {d: priced[d] or ASSUMED_USD_PER_HOUR[d] for d in devices}
    )  # fmt: skip


def _variants(
    session: Session, model: str, devices: Sequence[str], rng: np.random.Generator
) -> tuple[Simulated, ...]:
    """`VARIANTS` of the model's, spread over its speeds."""
    listed = ", ".join(f"'{device}'" for device in devices)
    rows = session.sql(_CHOICES.format(model=model, devices=listed)).fetchall()
    seconds: dict[str, dict[str, float]] = {}
    published: dict[str, float | None] = {}
    for variant, device, value, accuracy in rows:
        seconds.setdefault(variant, {})[device] = value
        published[variant] = accuracy
    ordered = sorted(seconds, key=lambda v: min(seconds[v].values()))
    parts = np.array_split(np.arange(len(ordered)), min(VARIANTS, len(ordered)))
    drawn = np.clip(np.linspace(0.6, 0.95, len(parts)) + rng.normal(0, 0.03, len(parts)), 0.5, 0.98)
    found = []
    for part, guess in zip(parts, drawn, strict=True):
        variant = ordered[int(rng.choice(part))]
        accuracy = published[variant]
        right = float(guess) if accuracy is None else min(max(accuracy, 0.02), 0.98)
        found.append(Simulated(variant.split(".", 1)[1], right, seconds[variant]))
    return tuple(found)
