"""The cheque pipeline replayed: real answers and times of a recording, for every plan.

The stages are those of the demo: segment, classify, luhn, classify_hard, assemble. Every recorded
reader may be the first and the second. The second runs on the strips whose check digit is wrong
after the first, as `WHEN NOT luhn(...)` says: how many these are, and so what it costs, depends on
the first. A strip is right if its amount is. The truth is of all recorded strips; a seed draws the
sample from them and its order. Nothing here is synthetic but the price (the demo's).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from octans.ir.models import Knobs
from octans.ir.physical import Choice
from octans.planner.search.protocol import SOURCE

from .record_cheques import record
from .world import Calls, Floats, StageTruth, Words, World, pack

USD_PER_SECOND = 0.10 / 3600
ROWS = 2000
DEVICE = "cpu"


class Recording:
    """A file of `record_cheques`, by strips."""

    def __init__(self, path: Path) -> None:
        found = np.load(path)
        self.names = [_named(str(name)) for name in found["names"]]
        self.seconds: Floats = found["seconds"]
        self.loads: Floats = found["loads"]
        self.batches: list[int] = found["batches"].tolist()
        self.counts: NDArray[np.int64] = found["counts"].astype(np.int64)
        self.steps = {step: found[f"{step}_seconds"] for step in ("segment", "luhn", "assemble")}
        ends = np.cumsum(self.counts)
        starts, truth = ends - self.counts, found["truth"]
        place = np.repeat(ends, self.counts) - 1 - np.arange(len(truth))
        wrong = (found["answers"] != truth) & (place > 0)
        doubled = found["answers"].astype(np.int64) * (1 + place % 2)
        sums = np.add.reduceat(doubled - 9 * (doubled > 9), starts, axis=1)
        self.right: NDArray[np.bool_] = ~np.logical_or.reduceat(wrong, starts, axis=1)
        """`` `reader x strip` ``: the amount, of which the check digit is no part."""
        self.valid: NDArray[np.bool_] = sums % 10 == 0
        """`` `reader x strip` ``: the check digit says so, right or not."""


def _named(text: str) -> tuple[str, Knobs]:
    """`forest trees=10` as its variant and knobs."""
    variant, *knobs = text.split(" ")
    return variant, tuple((k, int(v)) for k, _, v in (knob.partition("=") for knob in knobs))


def cheques(path: Path, rng: np.random.Generator) -> World:
    """The pipeline, from a recording; one is made where there is none."""
    if not path.exists():
        record(path)
    recording = Recording(path)
    strips = len(recording.counts)
    rows = min(ROWS, strips)
    order = np.concatenate([rng.permutation(strips)[:rows], np.arange(strips)])
    right, valid = recording.right[:, order], recording.valid[:, order]
    counts = recording.counts[order].astype(np.float32)
    first = pack(rows, right)
    both = pack(rows, np.where(valid[:, None], right[:, None], right[None]))
    always = pack(rows, np.ones(len(order), bool))
    again = (counts * ~valid)[:, None]
    stages = (
        _step(recording, "segment", (SOURCE,), always[None]),
        _reader(recording, "classify", first[None, :, None], counts[None, None], (0,), ()),
        _step(recording, "luhn", (1,), _passed(always, 1, 0)),
        _reader(recording, "classify_hard", both[:, :, None], again, (0, 2), (1,)),
        _step(recording, "assemble", (1, 3), _passed(always, 2, 1)),
    )
    return World(stages, (DEVICE,), rows, strips)


def _passed(always: Words, parents: int, passed: int) -> Words:
    """Right where that parent is, `` `pattern x words` ``."""
    return np.stack([always * np.uint64(p >> passed & 1) for p in range(2**parents)])


def _step(recording: Recording, key: str, parents: tuple[int, ...], right: Words) -> StageTruth:
    """One that has one variant."""
    choices = [Choice(f"{key}.base", (), batch, DEVICE) for batch in recording.batches]
    calls = _calls(recording.steps[key][None], np.zeros(1), recording.batches)
    return StageTruth(key, choices, calls, right[None, None], parents=parents)


def _reader(
    recording: Recording,
    key: str,
    right: Words,
    work: NDArray[np.float32],
    parents: tuple[int, ...],
    given: tuple[int, ...],
) -> StageTruth:
    """One that any reader does; `right` is `` `g x reader x 1 x words` ``."""
    choices = [
        Choice(f"{key}.{variant}", knobs, batch, DEVICE)
        for variant, knobs in recording.names
        for batch in recording.batches
    ]
    calls = _calls(recording.seconds, recording.loads, recording.batches)
    patterns = np.repeat(right, 2 ** len(parents), axis=2)
    return StageTruth(
        key, choices, calls, patterns, parents=parents, given=given, work=work, elements=True
    )


def _calls(seconds: Floats, loads: Floats, batches: Sequence[int]) -> Calls:
    """Of `` `variant x batch` `` seconds; beyond one element a call is a line from one to it."""
    size = np.array(batches, float)
    one = seconds[:, :1]
    per = np.maximum(0.0, (seconds - one)[:, 1:] / (size[1:] - 1))
    per = np.minimum(np.concatenate([per[:, :1], per], axis=1), seconds / size)
    zero = np.zeros(seconds.size)
    return Calls(
        (seconds - per * size).reshape(-1),
        per.reshape(-1),
        zero + USD_PER_SECOND,
        zero,
        zero,
        np.repeat(loads, len(batches)),
    )
