"""Cascades as options of a step: those measured, with batch sizes, on every device that has all.

A cascade's members run on one device (our choice: a stage of the plan has one). Each runs at a
batch size of its own, the largest measured that is not larger than the cascade's; to keep options
few, that goes through the sizes 1, 4, 16, … and the largest of its first member, the one that all
elements reach. With `stats.cascades.MAX_CASCADES` chains of at most four sets of thresholds, a step
has at most sixteen cascades per device and batch size; what is no cheaper than the last member
alone is left out here, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..cost.cascade import CascadeCall, cascade_call
from ..cost.model import Call
from ..ir.models import knobs_text
from ..ir.physical import Cascade, Choice
from ..stats.cascades import CascadeStatistics

_Single = dict[int, tuple[Choice, Call]]
"""One variant with its knobs on one device, by batch size."""


def cascades(
    measured: Sequence[CascadeStatistics], single: Sequence[tuple[Choice, Call]], confidence: str
) -> Iterator[tuple[Cascade, CascadeCall]]:
    """Every cascade whose members are among a step's single choices.

    Args:
        measured: the statistics.
        single: choices that can be planned, and their calls.
        confidence: the model's output that says how sure an answer is.
    """
    if not measured:
        return
    known: dict[tuple[str, str, str], _Single] = {}
    for choice, call in single:
        key = (choice.variant, knobs_text(choice.knobs), choice.device)
        known.setdefault(key, {})[choice.batch] = choice, call
    devices = dict.fromkeys(choice.device for choice, _ in single)
    for statistics in measured:
        for device in devices:
            groups = [known.get((*member, device)) for member in statistics.members]
            present = [group for group in groups if group]
            if len(present) == len(groups):
                yield from _sized(statistics, present, confidence)


def _sized(
    statistics: CascadeStatistics, members: Sequence[_Single], confidence: str
) -> Iterator[tuple[Cascade, CascadeCall]]:
    """One cascade on one device, at every batch size of its first member."""
    largest = max(members[0])
    for batch in members[0]:
        if batch != largest and batch.bit_length() % 2 == 0:
            continue
        picked = [
            sizes[max((size for size in sizes if size <= batch), default=min(sizes))]
            for sizes in members
        ]
        choices, calls = zip(*picked, strict=True)
        last = choices[-1]
        cascade = Cascade(
            last.variant, last.knobs, last.batch, last.device, last.replicas, last.version,
            choices[:-1], statistics.thresholds, confidence,
        )  # fmt: skip
        call = cascade_call(cascade.made, calls, statistics)
        if _saves(call):
            yield cascade, call


def _saves(call: CascadeCall) -> bool:
    """Does it take fewer seconds, or USD for tokens, an element than its last member alone?"""
    last = call.members[-1]
    if call.seconds.value / call.batch < last.seconds.value / last.batch:
        return True
    return (
        call.tokens_usd is not None
        and last.tokens_usd is not None
        and call.tokens_usd.value < last.tokens_usd.value
    )
