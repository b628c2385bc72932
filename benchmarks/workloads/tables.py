"""Variants as the public tables measured them: speed, energy, price and published quality.

SYNTHETIC, as no table has it: the quality of served LLMs (rising with the logarithm of their
parameters, a draw of their own added), batch ladders where one throughput is published (a call
costs two elements before its first), seconds to load (start-up and two bytes a parameter at
`LOAD_BYTES_PER_SECOND`), and speeds on a device where nothing was measured (`SCALED`: its speed
relative to the measured one).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .imported import ASSUMED_USD_PER_HOUR
from .outcomes import FIXED_ELEMENTS, Kind, Way

LOAD_BYTES_PER_SECOND = 1.5e9
START_SECONDS = 2.0
BATCHES = (1, 4, 16)
AUDIO_WINDOW_SECONDS = 30
SCALED = {
    "a100_80gb_x1": {"h100_x1": 1.7, "a10_x1": 0.35},
    "v100_x1": {"t4_x1": 0.45, "a100_x1": 1.9},
}
"""Speed on other devices relative to the one measured on: SYNTHETIC, near ratios of their fp16."""
WATTS = {
    "a100_80gb_x1": 300,
    "h100_x1": 500,
    "a10_x1": 130,
    "v100_x1": 220,
    "t4_x1": 65,
    "a100_x1": 280,
    "rtx3090": 350,
    "rtx4090": 400,
    "i9_10940x": 165,
}
"""Assumed draw under load where no energy is published: SYNTHETIC."""
MOST_FAILED = 0.01


SPEEDS = {
    "rtx3090": "benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv",
    "rtx4090": "benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv",
    "i9_10940x": "benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv",
}


@cache
def rows_of(path: Path) -> tuple[dict[str, str], ...]:
    """Of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def configurations(path: Path) -> tuple[dict[str, Any], ...]:
    """Of an ML.ENERGY task."""
    return tuple(json.loads(path.read_text(encoding="utf-8"))["configurations"])


def usd_per_second(folder: Path, devices: Iterable[str]) -> dict[str, float]:
    """Published prices, else assumed ones; of several GPUs a multiple of one's."""
    published = {
        "{1}_x{0}".format(*row["GPU"].lower().split(" x ")): float(row["price"])
        for row in rows_of(folder / "llm_pilot" / "prices.csv")
    }
    found = {}
    for device in devices:
        hourly = published.get(device) or ASSUMED_USD_PER_HOUR.get(device)
        if hourly is None:
            one, _, count = device.rpartition("_x")
            single = published.get(f"{one}_x1") or ASSUMED_USD_PER_HOUR[f"{one}_x1"]
            hourly = single * int(count)
        found[device] = hourly / 3600
    return found


def load_seconds(billions: float) -> float:
    """To load so many parameters."""
    return START_SECONDS + 2e9 * billions / LOAD_BYTES_PER_SECOND


def ladder(device: str, per_element: float, batches: Sequence[int] = BATCHES) -> tuple[Way, ...]:
    """Ways of a device of which a throughput in large batches is known, and of those like it."""
    found = []
    for name, speed in {device: 1.0, **SCALED.get(device, {})}.items():
        for batch in batches:
            seconds = per_element / speed * (batch + FIXED_ELEMENTS)
            joules = WATTS.get(name, 0) * seconds / batch
            found.append(Way(name, batch, seconds, joules))
    return tuple(found)


def recognisers(folder: Path) -> list[Kind]:
    """Speech: word accuracy for accuracy, 30 s of audio an element."""
    found = []
    for row in rows_of(folder / "operator_variants" / "asr_en_shortform.csv"):
        speed, size = float(row["RTFx"] or -1), float(row["Model size (B)"] or -1)
        if speed > 0 and size > 0:
            right = float(np.clip(1 - float(row["Avg. WER"]) / 100, 0.02, 0.98))
            ways = ladder("a100_80gb_x1", AUDIO_WINDOW_SECONDS / speed)
            found.append(Kind(plain(row["model"]), right, ways, load_seconds(size), 0.02))
    return found


def embedders(folder: Path, elements: int = 1) -> list[Kind]:
    """Retrieval: the semantic search score, lifted as a search for several passages is easier."""
    found = []
    for row in rows_of(folder / "operator_variants" / "embedding_models.csv"):
        score = float(row["semantic_search_score"]) / 100
        ways = ladder("v100_x1", elements / float(row["speed_sentences_per_s_v100"]))
        load = load_seconds(float(row["size_mb"]) / 2000)
        found.append(Kind(plain(row["model"]), 1 - (1 - score) ** 3, ways, load, 0.1))
    return found


def rerankers(folder: Path, documents: int) -> list[Kind]:
    """Reranking so many documents a row: NDCG at 10, lifted likewise."""
    found = []
    for row in rows_of(folder / "operator_variants" / "rerankers.csv"):
        score = float(row["ndcg10_trecdl19"]) / 100
        ways = ladder("v100_x1", documents / float(row["docs_per_s_v100"]))
        found.append(Kind(plain(row["model"]), 1 - (1 - score) ** 2, ways, load_seconds(0.1), 0.2))
    return found


def served(folder: Path, rng: np.random.Generator, devices: Sequence[str]) -> list[Kind]:
    """LLM-Pilot: calls at so many users; where more than 1 % failed there is no such way."""
    sizes = {
        row["model"]: float(row["model_n_parameters"])
        for row in rows_of(folder / "llm_pilot" / "llm_features.csv")
    }
    ways: dict[str, list[Way]] = {}
    for row in rows_of(folder / "llm_pilot" / "summary_by_config.csv"):
        device = f"{row['gpu_type'].lower()}_x{row['n_gpus']}"
        users, failed = int(row["num_users"]), int(row["n_failed"])
        if (
            device in devices
            and users in (1, 8, 32)
            and failed <= MOST_FAILED * int(row["n_requests"])
        ):
            seconds = users / float(row["req_per_s"])
            ways.setdefault(row["model"], []).append(Way(device, users, seconds))
    return _language_models(ways, sizes, rng)


def ml_energy(
    folder: Path, task: str, rng: np.random.Generator, devices: Sequence[str]
) -> list[Kind]:
    """ML.ENERGY: at every limit of sequences the parallelism that is fastest, with its energy."""
    sizes: dict[str, float] = {}
    fastest: dict[tuple[str, str, int], Way] = {}
    for each in configurations(folder / "mlenergy_v3" / "tasks" / f"{task}.json"):
        device = f"{each['gpu_model'].lower()}_x{each['num_gpus']}"
        if device not in devices:
            continue
        model, batch = each["model_id"], int(each["max_num_seqs"])
        sizes[model] = each["total_params_billions"]
        seconds = batch * each["avg_output_len"] / each["output_throughput_tokens_per_sec"]
        way = Way(device, batch, seconds, each["energy_per_request_joules"])
        known = fastest.get((model, device, batch))
        if known is None or seconds < known.seconds:
            fastest[model, device, batch] = way
    ways: dict[str, list[Way]] = {}
    for (model, *_), way in sorted(fastest.items(), key=lambda item: item[0]):
        ways.setdefault(model, []).append(way)
    return _language_models(ways, sizes, rng)


def backbones(folder: Path, images: int = 1) -> list[Kind]:
    """timm at a resolution, where it was measured on all three devices; `images` an element.

    Top-5 accuracy stands for finding the object (our choice: top-1 is of 1,000 classes).
    """
    speeds = {
        device: {
            (row["model"].split(".")[0], row["infer_img_size"]): float(row["infer_samples_per_sec"])
            for row in rows_of(folder / "timm_vision" / name)
        }
        for device, name in SPEEDS.items()
    }
    found = []
    for row in rows_of(folder / "timm_vision" / "results-imagenet.csv"):
        key = (row["model"].split(".")[0], row["img_size"])
        if all(key in speeds[device] for device in speeds):
            ways = [w for d, known in speeds.items() for w in ladder(d, images / known[key])]
            load = load_seconds(float(row["param_count"].replace(",", "")) / 1000)
            knobs = (("image_size", int(row["img_size"])),)
            right = float(row["top5"]) / 100
            found.append(Kind(plain(row["model"]), right, tuple(ways), load, 0.05, knobs))
    return found


def operators(folder: Path, device: str) -> list[Kind]:
    """Palimpzest's operators on CUAD: quality, USD and seconds of a record."""
    path = folder / "palimpzest_priors" / "cuad-priors.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    return [
        Kind(
            f"operator_{name}",
            float(np.clip(seen["quality"], 0.005, 0.995)),
            (Way(device, 1, seen["time"], fee=seen["cost"]),),
            0.0,
        )
        for name, seen in sorted(listed.items())
    ]


def _language_models(
    ways: dict[str, list[Way]], sizes: dict[str, float], rng: np.random.Generator
) -> list[Kind]:
    found = []
    for name, made in sorted(ways.items()):
        accuracy, repair = quality(rng, sizes[name])
        found.append(Kind(plain(name), accuracy, thin(made), load_seconds(sizes[name]), repair))
    return found


def thin(ways: Sequence[Way], most: int = 3) -> tuple[Way, ...]:
    """At most so many batch sizes of every device, spread over those measured."""
    found: list[Way] = []
    for device in dict.fromkeys(way.device for way in ways):
        here = sorted((w for w in ways if w.device == device), key=lambda w: w.batch)
        places = np.unique(np.linspace(0, len(here) - 1, min(most, len(here))).round().astype(int))
        found += [here[place] for place in places]
    return tuple(found)


def quality(rng: np.random.Generator, billions: float) -> tuple[float, float]:
    """Accuracy and rate of repairs of an LLM of so many parameters: SYNTHETIC."""
    from scipy.special import ndtr

    level = 0.55 + 0.22 * np.log(billions) + 0.2 * rng.normal()
    accuracy = float(np.clip(ndtr(level), 0.3, 0.985))
    return accuracy, float(np.clip(0.35 * accuracy + 0.08 * rng.normal(), 0.02, 0.6))


def plain(name: str) -> str:
    """A name as variants have them."""
    kept = "".join(c if c.isalnum() else "_" for c in name.lower())
    return "_".join(part for part in kept.split("_") if part)


def spread(rng: np.random.Generator, kinds: Sequence[Kind], count: int) -> list[Kind]:
    """So many of the variants, spread over their speeds."""
    ordered = sorted(kinds, key=lambda k: min(w.seconds / w.batch for w in k.ways))
    parts = np.array_split(np.arange(len(ordered)), min(count, len(ordered)))
    return [ordered[int(rng.choice(part))] for part in parts]
