"""What is true of every plan of a pipeline: the answers and the work of rows, by choices.

Two options of a stage with equal variant and knobs are one *class*: they answer alike. Answers of
rows are bits. A stage's answer is right by what it was given: of parents `p1, p2` right or wrong on
a row there are `2^2` *patterns*, and `right[g, class, pattern]` are the rows its class answers
rightly if they come so. `g` stands for the classes of the stages it is told to depend on: what a
model makes of an answer may depend on which model gave it. Rows of the sample come first, those of
the truth behind them, each padded to whole words.

The work of a row is a number of elements, or a multiple of the usual (output tokens). A call of
`b` elements takes `fixed + b x per` seconds, so that a row with work `w` takes `w (fixed / b +
per)` of its device and is answered after `fixed + b x per` seconds, times `w` if the work is
tokens, times the calls its elements need if it is elements. The `latency_p95` of a stage is that of
the rows it runs on, and of a plan the longest way through the DAG of its stages' own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from octans.ir.physical import Choice
from octans.planner.search.protocol import SOURCE, Assignment, Space, StageOptions

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]
WORD = 64
COST, ENERGY, LATENCY = "cost", "energy", "latency_p95"


@dataclass(frozen=True)
class Calls:
    """Of every option: how long and at what price its calls run.

    `fixed` and `per` are seconds, `usd` is per second of its device, `fee` USD per element,
    `joules` per element, `load` seconds.
    """

    fixed: Floats
    per: Floats
    usd: Floats
    fee: Floats
    joules: Floats
    load: Floats


class StageTruth:
    """One stage: its options and what they truly do.

    Attributes:
        given: earlier stages whose classes index `right` and `work`.
        right: `` `g x class x 2^parents x words` ``; bit i of a pattern is parent i being right.
        work: `` `g or 1 x class or 1 x rows` `` of sample and truth, or None where it is 1.
        elements: the work is elements of a row, not tokens.
    """

    def __init__(
        self,
        key: str,
        options: Sequence[Choice],
        calls: Calls,
        right: Words,
        *,
        parents: tuple[int, ...] = (SOURCE,),
        given: tuple[int, ...] = (),
        work: NDArray[np.float32] | None = None,
        elements: bool = False,
    ) -> None:
        self.key, self.options, self.calls = key, tuple(options), calls
        self.parents, self.given = parents, given
        self.right, self.work, self.elements = right, work, elements
        places: dict[object, int] = {}
        self.classes = np.array(
            [places.setdefault((o.variant, o.knobs), len(places)) for o in self.options]
        )
        if right.shape[1] != len(places):
            raise ValueError(f"{key}: answers of {right.shape[1]} classes, {len(places)} declared")
        self.batch = np.array([o.batch for o in self.options], float)

    @property
    def n_classes(self) -> int:
        """How many."""
        return int(self.classes.max()) + 1

    def work_of(self, g: int, own: int) -> NDArray[np.float32] | None:
        """Of every row."""
        if self.work is None:
            return None
        by_given, by_class, _ = self.work.shape
        found: NDArray[np.float32] = self.work[g if by_given > 1 else 0, own if by_class > 1 else 0]
        return found


class World:
    """A pipeline's stages, devices, links and rows."""

    def __init__(
        self,
        stages: Sequence[StageTruth],
        devices: Sequence[str],
        rows: int,
        truth_rows: int,
        *,
        sums: tuple[str, ...] = (COST,),
        transfers: dict[tuple[int, int], tuple[tuple[float, ...], ...]] | None = None,
    ) -> None:
        self.stages, self.rows, self.truth_rows = tuple(stages), rows, truth_rows
        self.devices, self.sums = tuple(devices), sums
        self.paths = (LATENCY,)
        self.transfers = transfers or {}
        self.sample_words = -(-rows // WORD)
        self.device_of = [
            np.array([self.devices.index(o.device) for o in stage.options]) for stage in self.stages
        ]
        self.ancestors = self._ancestors()

    def _ancestors(self) -> tuple[tuple[int, ...], ...]:
        """Of every stage, those it depends on, itself the last."""
        found: list[tuple[int, ...]] = []
        for k, stage in enumerate(self.stages):
            above = {a for p in stage.parents if p != SOURCE for a in found[p]}
            above |= {a for p in stage.given for a in found[p]}
            found.append((*sorted(above), k))
        return tuple(found)

    @cached_property
    def space(self) -> Space:
        """What a search is told."""
        return Space(
            tuple(StageOptions(s.key, s.options, s.parents) for s in self.stages),
            self.sums,
            self.paths,
            self.devices,
            self.transfers,
        )

    def class_of(self, assignment: Assignment) -> Assignment:
        """The classes of a plan."""
        return tuple(int(s.classes[o]) for s, o in zip(self.stages, assignment, strict=True))

    def given(self, k: int, classes: Sequence[int]) -> int:
        """The `g` of a stage."""
        g = 0
        for stage in self.stages[k].given:
            g = g * self.stages[stage].n_classes + classes[stage]
        return g

    # --- answers ----------------------------------------------------------------------------------

    def answers(self, k: int, g: int, right: Sequence[Words], where: slice) -> Words:
        """`` `class x words` `` of stage `k`, by the answers of its parents."""
        stage = self.stages[k]
        bits = stage.right[g][:, :, where]
        if stage.parents == (SOURCE,):
            answered: Words = bits[:, -1]
            return answered
        made: Words = np.zeros_like(bits[:, 0])
        for pattern in range(bits.shape[1]):
            mask: Words | None = None
            for i, parent in enumerate(stage.parents):
                known = right[parent] if pattern >> i & 1 else ~right[parent]
                mask = known if mask is None else mask & known
            made |= bits[:, pattern] & mask
        return made

    def correct(self, classes: Sequence[int], where: slice) -> Words:
        """Words of the rows that a plan answers rightly."""
        right: list[Words] = []
        for k, own in enumerate(classes):
            answered = self.answers(k, self.given(k, classes), right, where)
            right.append(answered[own])
        return right[-1]

    def scores(self, classes: Sequence[int]) -> Floats:
        """Of the sample's rows, 1 for a right one."""
        words = self.correct(classes, slice(0, self.sample_words))
        return np.unpackbits(words.view(np.uint8), bitorder="little")[: self.rows].astype(float)

    def accuracy(self, classes: Sequence[int]) -> float:
        """Share of the truth's rows that are right."""
        words = self.correct(classes, slice(self.sample_words, None))
        return int(np.bitwise_count(words).sum()) / self.truth_rows

    def truth_scores(self, classes: Sequence[int]) -> Floats:
        """Of the truth's rows, 1 for a right one."""
        words = self.correct(classes, slice(self.sample_words, None))
        return np.unpackbits(words.view(np.uint8), bitorder="little")[: self.truth_rows].astype(
            float
        )

    # --- numbers ----------------------------------------------------------------------------------

    def work(self, k: int, g: int, own: int, rows: slice) -> NDArray[np.float32]:
        """Of these rows of the sample (see `truth_slice`)."""
        found = self.stages[k].work_of(g, own)
        count = rows.stop - rows.start
        return np.ones(count, np.float32) if found is None else found[rows]

    @property
    def truth_slice(self) -> slice:
        """The rows the truth is of, as `work` counts them."""
        return slice(self.rows, self.rows + self.truth_rows)

    def numbers(
        self, k: int, g: int, own: int, rows: slice, options: NDArray[np.intp]
    ) -> dict[str, Floats]:
        """Dim → of these options of one class, per row or p95 over the rows."""
        stage, calls = self.stages[k], self.stages[k].calls
        work = self.work(k, g, own, rows)
        mean = float(work.mean()) if len(work) else 0.0
        batch = stage.batch[options]
        call = calls.fixed[options] + batch * calls.per[options]
        found = {
            COST: mean * (call / batch * calls.usd[options] + calls.fee[options]),
            ENERGY: mean * calls.joules[options],
            LATENCY: call * self._times(stage, work, batch),
        }
        return {dim: found[dim] for dim in (*self.sums, *self.paths)}

    @cached_property
    def true_numbers(self) -> tuple[dict[str, Floats], ...]:
        """Of every stage, dim → `` `g x option` `` on the truth's rows."""
        return tuple(self._table(k) for k in range(len(self.stages)))

    def _table(self, k: int) -> dict[str, Floats]:
        stage = self.stages[k]
        count = math.prod(self.stages[s].n_classes for s in stage.given)
        found = {dim: np.empty((count, len(stage.options))) for dim in (*self.sums, *self.paths)}
        for own in range(stage.n_classes):
            options = np.flatnonzero(stage.classes == own)
            for g in range(count):
                if g and (stage.work is None or len(stage.work) == 1):
                    for table in found.values():
                        table[g, options] = table[0, options]
                    continue
                for dim, values in self.numbers(k, g, own, self.truth_slice, options).items():
                    found[dim][g, options] = values
        return found

    @staticmethod
    def _times(stage: StageTruth, work: NDArray[np.float32], batch: Floats) -> Floats:
        """How many calls of its own length a row waits for, at the 95th percentile."""
        runs = work[work > 0]
        if not len(runs):
            return np.zeros_like(batch)
        high = float(np.quantile(runs, 0.95))
        return np.ceil(high / batch) if stage.elements else np.full_like(batch, high)

    def path(self, assignment: Assignment, service: Sequence[float]) -> float:
        """The longest way through the DAG, transfers included."""
        ready: list[float] = []
        for k, stage in enumerate(self.stages):
            here = self.device_of[k][assignment[k]]
            start = 0.0
            for parent in stage.parents:
                link = self.transfers.get((parent, k))
                before = 0.0 if parent == SOURCE else ready[parent]
                if link is not None:
                    origin = 0 if parent == SOURCE else self.device_of[parent][assignment[parent]]
                    before += link[origin][here]
                start = max(start, before)
            ready.append(start + service[k])
        return max(ready)


def pack(rows: int, right: NDArray[np.bool_]) -> Words:
    """`` `… x (sample + truth)` `` booleans as `` `… x words` ``, sample and truth apart."""
    return np.concatenate([_packed(right[..., :rows]), _packed(right[..., rows:])], axis=-1)


def _packed(right: NDArray[np.bool_]) -> Words:
    missing = -right.shape[-1] % WORD
    padded = np.pad(right, [(0, 0)] * (right.ndim - 1) + [(0, missing)])
    packed = np.packbits(padded, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view(np.uint64)
