"""A space as arrays: what options have in common, and plans as rows of option indices.

Variants, classes (variant and knobs) and devices are one-hot in effect: a kernel part over them is
1 where two options agree and 0 where they do not. `ordinal` encoding puts a class on a line instead
(the order of declaration, knobs scaled to [0, 1]): it is there to be compared with
[Circinus finds one-hot often better]. And what is the same whoever knows or bounds what an option
takes: how it adds up along the DAG.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from ...ir.models import knobs_text
from ...ir.physical import Choice
from ...ir.record import dataclass
from .protocol import SOURCE, Space, StageOptions

Encoding = Literal["one_hot", "ordinal"]


@dataclass(frozen=True)
class StageFeatures:
    """One stage's `` `m` `` options and `` `k` `` classes.

    Attributes:
        option_class: `` `m` ``, class of every option; `option_variant`, `option_device` likewise.
        log_batch: `` `m` ``, log2 of the batch size.
        loading: `` `m` ``, what is loaded to run it: one number per class and device.
        class_variant: `` `k` ``, variant of every class.
        knobs: `` `k x k` ``, the share of knobs that two classes both have at the same value.
        line: `` `k` ``, the class on [0, 1], for the ordinal encoding.
    """

    option_class: np.ndarray
    option_variant: np.ndarray
    option_device: np.ndarray
    log_batch: np.ndarray
    loading: np.ndarray
    class_variant: np.ndarray
    knobs: np.ndarray
    line: np.ndarray

    @property
    def size(self) -> int:
        """How many options."""
        return len(self.option_class)

    @property
    def classes(self) -> int:
        """How many classes."""
        return len(self.class_variant)


def features(space: Space) -> tuple[StageFeatures, ...]:
    """Every stage's features."""
    return tuple(_stage(stage, space.devices) for stage in space.stages)


def ancestors(space: Space) -> tuple[tuple[int, ...], ...]:
    """Every stage with all stages its answers depend on, ascending."""
    found: list[tuple[int, ...]] = []
    for place, stage in enumerate(space.stages):
        above = {place}
        for parent in stage.parents:
            above |= set(found[parent]) if parent != SOURCE else set()
        found.append(tuple(sorted(above)))
    return tuple(found)


def longest(
    space: Space,
    stages: Sequence[StageFeatures],
    plans: np.ndarray,
    means: Sequence[np.ndarray],
    variances: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The longest way of `` `m` `` plans through the DAG, with the transfers between devices.

    Args:
        space: the DAG and its transfers.
        stages: its features.
        plans: `` `m x stages` ``, option indices.
        means: by stage, `` `m` ``.
        variances: likewise.

    Returns:
        The way of the largest mean, and the variance along it (our choice: ways that are about as
        long are so taken for the safer one).
    """
    on = [stage.option_device[plans[:, place]] for place, stage in enumerate(stages)]
    ends: list[tuple[np.ndarray, np.ndarray]] = []
    for place, stage in enumerate(space.stages):
        start = np.zeros(len(plans))
        spread = np.zeros(len(plans))
        for parent in stage.parents:
            come, noise = (np.zeros(len(plans)), 0.0) if parent == SOURCE else ends[parent]
            table = space.transfers.get((parent, place))
            if table is not None:
                come = come + np.array(table)[0 if parent == SOURCE else on[parent], on[place]]
            later = come > start
            start = np.where(later, come, start)
            spread = np.where(later, noise, spread)
        ends.append((start + means[place], spread + variances[place]))
    leaves = set(range(len(ends))) - {p for s in space.stages for p in s.parents}
    total, noise = ends[min(leaves)]
    for place in sorted(leaves)[1:]:
        longer = ends[place][0] > total
        total = np.where(longer, ends[place][0], total)
        noise = np.where(longer, ends[place][1], noise)
    return total, noise


def _stage(stage: StageOptions, devices: Sequence[str]) -> StageFeatures:
    classes = [(o.variant, knobs_text(o.knobs)) for o in stage.options]
    option_class, named = _numbered(classes)
    option_variant, _ = _numbered([o.variant for o in stage.options])
    first = [int(np.flatnonzero(option_class == k)[0]) for k in range(len(named))]
    device = np.array([devices.index(o.device) for o in stage.options])
    return StageFeatures(
        option_class,
        option_variant,
        device,
        np.log2([float(o.batch) for o in stage.options]),
        option_class * len(devices) + device,
        option_variant[first],
        _same_knobs([stage.options[at] for at in first]),
        _line([stage.options[at] for at in first]),
    )


def _numbered(values: Sequence[Hashable]) -> tuple[np.ndarray, list[Hashable]]:
    """Numbers in order of first appearance, and what they stand for."""
    places: dict[Hashable, int] = {}
    numbers = [places.setdefault(value, len(places)) for value in values]
    return np.array(numbers), list(places)


def _same_knobs(choices: Sequence[Choice]) -> np.ndarray:
    """What a knob does is much the same under any variant: see `StageFeatures.knobs`."""
    names = dict.fromkeys(name for choice in choices for name, _ in choice.knobs)
    total = np.zeros((len(choices), len(choices)))
    for name in names:
        values, _ = _numbered([dict(choice.knobs).get(name) for choice in choices])
        total += values[:, None] == values[None, :]
    return total / max(len(names), 1)


def _line(choices: Sequence[Choice]) -> np.ndarray:
    """Classes on a line: by variant in order of declaration, then by the knobs' values."""
    names = list(dict.fromkeys(choice.variant for choice in choices))
    order = sorted(
        range(len(choices)),
        key=lambda at: (
            names.index(choices[at].variant),
            [(name, str(type(value)), value) for name, value in choices[at].knobs],
        ),
    )
    line = np.empty(len(choices))
    line[order] = np.arange(len(choices)) / max(len(choices) - 1, 1)
    return line
