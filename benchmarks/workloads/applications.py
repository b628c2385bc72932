"""Five applications over measured variants, and one operator of 1,014: instances from a seed.

What a table measured, `tables` reads; what none has, `outcomes` draws (SYNTHETIC). Which variants
a stage has is drawn too, spread over their speeds. Effects of knobs, links between devices and the
spread of rows' work (output tokens, lengths of utterances) are SYNTHETIC, stated where they stand.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from octans.ir.models import Knobs, Scalar
from octans.planner.search.protocol import SOURCE

from .outcomes import Kind, Outcomes, Setting, Way
from .tables import (
    backbones,
    embedders,
    ml_energy,
    operators,
    recognisers,
    rerankers,
    served,
    spread,
    usd_per_second,
)
from .world import COST, ENERGY, World

ROWS = 16_384
"""Of the sample: on 2,048 rows the best plan itself is not seen to be best, see docs/benchmarks."""
TOKENS, OBJECTS, AUDIO = 0.4, 0.3, 0.3
"""Spread of output tokens, of objects in a frame, of lengths of utterances: SYNTHETIC."""
ASR_DEVICES = ("a100_80gb_x1", "h100_x1", "a10_x1")
TEXT_DEVICES = ("v100_x1", "t4_x1", "a100_x1")
LLM_DEVICES = ("a100_x1", "a100_x2", "h100_x1", "t4_x4")
EDGE, CLOUD = ("i9_10940x", "rtx3090"), "rtx4090"
SERVERS = tuple(f"{gpu}_x{count}" for gpu in ("h100", "b200") for count in (1, 2, 4, 8))
FRAME_BYTES, CROP_BYTES = 150e3, 12e3
LINK_BYTES_PER_SECOND = (2.5e6, 12e6)
"""Between edge and cloud: the seed draws one in between. SYNTHETIC."""
ROUND_TRIP_SECONDS = 0.02


def setting(name: str, value: Scalar, shift: float = 0.0, factor: float = 1.0) -> Setting:
    """One knob's value and its effect: SYNTHETIC."""
    knobs: Knobs = ((name, value),)
    return Setting(knobs, shift, factor)


def speech(folder: Path, rng: np.random.Generator) -> World:
    """Transcribe a question, find passages, order them, answer."""
    devices = tuple(dict.fromkeys((*ASR_DEVICES, *TEXT_DEVICES, *LLM_DEVICES)))
    usd = usd_per_second(folder, devices)
    rows = Outcomes(rng, ROWS)
    beams = [setting("beam", 1), setting("beam", 5, 0.08, 1.6)]
    depth = [setting("passages", 5), setting("passages", 20, 0.25, 1.3)]
    shown = [setting("documents", 10), setting("documents", 50, 0.15, 5.0)]
    context = [setting("context", 1), setting("context", 4, 0.2, 1.5)]
    heard = rows.stage(
        "transcribe", spread(rng, recognisers(folder), 8), usd, settings=beams, spread=AUDIO
    )
    found = rows.stage(
        "embed", spread(rng, embedders(folder), 6), usd, settings=depth, parents=(0,),
        before=heard.n_classes,
    )  # fmt: skip
    ordered = rows.stage(
        "rerank", spread(rng, rerankers(folder, 10), 6), usd, settings=shown, parents=(1,),
        before=found.n_classes,
    )  # fmt: skip
    answered = rows.stage(
        "generate", spread(rng, served(folder, rng, LLM_DEVICES), 6), usd, settings=context,
        parents=(2,), before=ordered.n_classes, spread=TOKENS,
    )  # fmt: skip
    return World((heard, found, ordered, answered), devices, ROWS, rows.total - ROWS)


def tracking(folder: Path, rng: np.random.Generator) -> World:
    """Find objects in a frame, tell them apart, name them, join them to tracks; edge or cloud."""
    devices = (*EDGE, CLOUD)
    usd = usd_per_second(folder, devices)
    rows = Outcomes(rng, ROWS)
    known = backbones(folder)
    tiles = [setting("tiles", 1), setting("tiles", 4, 0.3, 4.0)]
    crops = [setting("crops", 1), setting("crops", 3, 0.15, 3.0)]
    age = [setting("max_age", 1), setting("max_age", 30, 0.15, 1.2)]
    found = rows.stage("detect", spread(rng, known, 8), usd, settings=tiles)
    same = rows.stage(
        "identify", spread(rng, known, 6), usd, settings=crops, parents=(0,),
        before=found.n_classes, spread=OBJECTS,
    )  # fmt: skip
    named = rows.stage(
        "name", spread(rng, known, 8), usd, parents=(0,), before=found.n_classes, spread=OBJECTS
    )
    joined = rows.stage(
        "associate", _associations(), usd, settings=age, parents=(1, 2), before=same.n_classes
    )
    speed = float(rng.uniform(*LINK_BYTES_PER_SECOND))
    frame, crop = _links(FRAME_BYTES / speed), _links(CROP_BYTES / speed)
    transfers = {
        (SOURCE, 0): frame[:1],
        (0, 1): crop, (0, 2): crop, (1, 3): _links(0.0), (2, 3): _links(0.0),
    }  # fmt: skip
    return World(
        (found, same, named, joined), devices, ROWS, rows.total - ROWS,
        sums=(COST, ENERGY), transfers=transfers,
    )  # fmt: skip


def _links(seconds: float) -> tuple[tuple[float, ...], ...]:
    """From device to device, of which the last is in the cloud."""
    far = seconds + ROUND_TRIP_SECONDS
    return ((0.0, 0.0, far), (0.0, 0.0, far), (far, far, 0.0))


def _associations() -> list[Kind]:
    """Ways to join objects to tracks: SYNTHETIC, no table has them."""
    seconds = {"motion": (0.86, 0.0004), "appearance": (0.9, 0.002), "both": (0.95, 0.004)}
    return [
        Kind(
            name,
            right,
            tuple(
                Way(device, batch, per * (batch + 1), 60 * per)
                for device in EDGE[:1]
                for batch in (1, 8)
            ),
            0.1,
            0.25 * right,
        )
        for name, (right, per) in seconds.items()
    ]


def video_qa(folder: Path, rng: np.random.Generator) -> World:
    """Pick frames, describe the video; find subtitles beside it; answer from both."""
    devices = (*EDGE[1:], CLOUD, *TEXT_DEVICES, *SERVERS)
    usd = usd_per_second(folder, (*devices, *EDGE))
    rows = Outcomes(rng, ROWS)
    frames = [setting("frames", 16), setting("frames", 64, 0.3, 4.0)]
    pixels = [setting("pixels", 256), setting("pixels", 512, 0.2, 1.8)]
    depth = [setting("passages", 5), setting("passages", 20, 0.25, 1.3)]
    thought = [setting("reasoning", 0), setting("reasoning", 1, 0.25, 2.5)]
    on_gpus = [_only(kind, devices) for kind in backbones(folder, images=16)]
    picked = rows.stage("pick", spread(rng, on_gpus, 6), usd, settings=frames)
    seen = rows.stage(
        "watch", ml_energy(folder, "video-chat", rng, SERVERS), usd, settings=pixels,
        parents=(0,), before=picked.n_classes, spread=TOKENS,
    )  # fmt: skip
    found = rows.stage("recall", spread(rng, embedders(folder, 200), 6), usd, settings=depth)
    answered = rows.stage(
        "answer", spread(rng, ml_energy(folder, "lm-arena-chat", rng, SERVERS), 8), usd,
        settings=thought, parents=(1, 2), before=seen.n_classes, spread=TOKENS,
    )  # fmt: skip
    return World(
        (picked, seen, found, answered), devices, ROWS, rows.total - ROWS, sums=(COST, ENERGY)
    )


def _only(kind: Kind, devices: tuple[str, ...]) -> Kind:
    """On these devices."""
    return replace(kind, ways=tuple(way for way in kind.ways if way.device in devices))


def captioning(folder: Path, rng: np.random.Generator) -> World:
    """Describe keyframes and clip by themselves, merge the descriptions, revise."""
    usd = usd_per_second(folder, SERVERS)
    rows = Outcomes(rng, ROWS)
    pixels = [setting("pixels", 256), setting("pixels", 512, 0.2, 1.8)]
    words = [setting("words", 50), setting("words", 200, 0.15, 2.0)]
    writers = ml_energy(folder, "lm-arena-chat", rng, SERVERS)
    looked = rows.stage(
        "look", spread(rng, ml_energy(folder, "image-chat", rng, SERVERS), 8), usd,
        settings=pixels, spread=TOKENS,
    )  # fmt: skip
    seen = rows.stage(
        "watch", ml_energy(folder, "video-chat", rng, SERVERS), usd, settings=pixels,
        spread=TOKENS,
    )  # fmt: skip
    merged = rows.stage(
        "merge", spread(rng, writers, 6), usd, settings=words, parents=(0, 1),
        before=looked.n_classes, spread=TOKENS,
    )  # fmt: skip
    revised = rows.stage(
        "revise", spread(rng, writers, 6), usd, parents=(2,), before=merged.n_classes,
        spread=TOKENS,
    )  # fmt: skip
    return World(
        (looked, seen, merged, revised), SERVERS, ROWS, rows.total - ROWS, sums=(COST, ENERGY)
    )


def code(folder: Path, rng: np.random.Generator) -> World:
    """Find like code, order it, complete until the tests pass or attempts are spent, review."""
    devices = (*TEXT_DEVICES, *SERVERS)
    usd = usd_per_second(folder, devices)
    rows = Outcomes(rng, ROWS)
    depth = [setting("passages", 5), setting("passages", 20, 0.25, 1.3)]
    attempts = [
        Setting((("attempts", k), ("lines", lines)), shift, factor, k)
        for k in (1, 2, 3, 5)
        for lines, shift, factor in ((50, 0.0, 1.0), (200, 0.2, 1.4))
    ]
    found = rows.stage("embed", spread(rng, embedders(folder), 6), usd, settings=depth)
    ordered = rows.stage(
        "rerank", spread(rng, rerankers(folder, 10), 6), usd, parents=(0,), before=found.n_classes
    )
    made = rows.stage(
        "complete", ml_energy(folder, "sourcegraph-fim", rng, SERVERS), usd, settings=attempts,
        parents=(1,), before=ordered.n_classes, spread=TOKENS,
    )  # fmt: skip
    reviewed = rows.stage(
        "review", spread(rng, ml_energy(folder, "lm-arena-chat", rng, SERVERS), 8), usd,
        parents=(2,), before=made.n_classes, spread=TOKENS,
    )  # fmt: skip
    return World(
        (found, ordered, made, reviewed), devices, ROWS, rows.total - ROWS, sums=(COST, ENERGY)
    )


def cuad(folder: Path, rng: np.random.Generator) -> World:
    """One model of 1,014 opaque variants, each with its price and seconds of a record."""
    rows = Outcomes(rng, ROWS)
    stage = rows.stage("extract", operators(folder, "api"), {"api": 0.0})
    return World((stage,), ("api",), ROWS, rows.total - ROWS)
