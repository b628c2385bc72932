"""Five applications over measured variants, and one operator of 1,014: instances from a seed.

What a table measured, `tables` reads; what none has, `outcomes` draws (SYNTHETIC). Which variants
a stage has is drawn too, spread over their speeds. Effects of knobs, links between devices and the
spread of rows' work (output tokens, lengths of utterances) are SYNTHETIC, stated where they stand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .outcomes import Outcomes, Setting
from .tables import embedders, recognisers, rerankers, served, spread, usd_per_second
from .world import World

ROWS = 2048
"""Of the sample."""
TOKENS = 0.4
"""Spread of output tokens."""
ASR_DEVICES = ("a100_80gb_x1", "h100_x1", "a10_x1")
TEXT_DEVICES = ("v100_x1", "t4_x1", "a100_x1")
LLM_DEVICES = ("a100_x1", "a100_x2", "h100_x1", "t4_x4")


def speech(folder: Path, rng: np.random.Generator) -> World:
    """Transcribe a question, find passages, order them, answer."""
    devices = tuple(dict.fromkeys((*ASR_DEVICES, *TEXT_DEVICES, *LLM_DEVICES)))
    usd = usd_per_second(folder, devices)
    rows = Outcomes(rng, ROWS)
    beams = [Setting((("beam", 1),)), Setting((("beam", 5),), 0.08, 1.6)]
    depth = [Setting((("passages", 5),)), Setting((("passages", 20),), 0.25, 1.3)]
    shown = [Setting((("documents", 10),)), Setting((("documents", 50),), 0.15, 5.0)]
    context = [Setting((("context", 1),)), Setting((("context", 4),), 0.2, 1.5)]
    heard = rows.stage(
        "transcribe", spread(rng, recognisers(folder), 8), usd, settings=beams, spread=0.3
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
