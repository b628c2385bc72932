"""Measuring cascades: from outcomes paired on the same elements to the few worth planning with.

Nothing is run for it: the answers are those that qualities were measured by. What is looked at:
the members that no other one beats in both price and quality, every pair of them and the best pairs
with a third in between. What is kept: at most `MAX_CASCADES` chains, those that save most against
the cheapest single variant that is as accurate, with one set of thresholds per tolerance.

Each set of thresholds keeps its own promise (`thresholds`). That a search takes the best-looking of
several is not in it: what AT CONFIDENCE promises is proved on held-back rows, as for every plan.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Choice
from ..ir.record import dataclass
from .blocks import Block
from .cascades import MAX_CASCADES, MAX_MEMBERS, TOLERANCES, cascade_text
from .grading import element_counts, truth_for
from .intervals import LEVEL, Interval, clustered_share
from .metrics import score
from .scoring import list_lengths
from .sequential import look_level
from .thresholds import Paired, pick

if TYPE_CHECKING:
    import numpy as np

    from .measure import Measure

LEAST_UNITS = 50
"""Independent units below which no cascade is looked at: no tolerance could be kept on fewer."""


@dataclass(frozen=True)
class Outcomes:
    """A choice on `n` elements: scores, confidences (infinite where it failed), their units."""

    scores: np.ndarray
    confidence: np.ndarray
    units: Sequence[Hashable]


@dataclass(frozen=True)
class Candidate:
    """A choice that a cascade may have as a member: USD (or seconds) of an element, quality."""

    choice: Choice
    price: float
    quality: float


@dataclass(frozen=True)
class Kept:
    """A chain of choices with thresholds, and what was seen of it.

    `saving` is its price ÷ that of the cheapest single choice as accurate.
    """

    chain: tuple[Choice, ...]
    thresholds: tuple[float, ...]
    quality: Interval
    reach: tuple[Interval, ...]
    loss: Interval
    accuracy: Interval | None
    saving: float = 1.0


class CascadesMeasure:
    """Looks for the cascades of one step on the open blocks of a measure.

    Args:
        measure: what was measured so far.
        key: the step.
        metric: scores its answers, against a label or against `base`.
        confidence: the output that says how sure an answer is.
        level: confidence at which thresholds keep their tolerance.
    """

    def __init__(
        self,
        measure: Measure,
        key: str,
        metric: Metric,
        base: Choice | None,
        confidence: str,
        level: float,
    ) -> None:
        self.measure = measure
        self.key = key
        self.metric = metric
        self.base = base
        self.confidence = confidence
        self.level = level
        self.stage = measure.chain.stage(key)

    def record(self, choices: Sequence[Choice], reference: Mapping[str, Choice]) -> None:
        """Record the cascades worth having of these choices, the other steps as in `reference`."""
        if self.confidence not in self.stage.produce:
            return
        kept = self._found(self._candidates(choices), reference)
        best: dict[tuple[Choice, ...], float] = {}
        for each in kept:
            best[each.chain] = min(each.saving, best.get(each.chain, each.saving))
        chains = sorted(best, key=best.__getitem__)[:MAX_CASCADES]
        for each in kept:
            if each.chain in chains:
                self._record(each)

    def _candidates(self, choices: Sequence[Choice]) -> list[Candidate]:
        """Those timed and scored, the cheapest first."""
        timed = {choice: self.measure.costs(self.key, choice.made) for choice in choices}
        priced = all(len(cost) > 2 and cost[2] > 0.0 for costs in timed.values() for cost in costs)
        found = []
        for choice, costs in timed.items():
            series = self.measure.series.get(("quality", self.key, choice.made, None))
            if costs and series is not None and series.scores:
                price = min(cost[2 if priced else 1] for cost in costs)
                found.append(Candidate(choice, price, series.interval().value))
        return sorted(found, key=lambda each: (each.price, each.choice.made))

    def _found(
        self, candidates: Sequence[Candidate], reference: Mapping[str, Choice]
    ) -> list[Kept]:
        """All cascades that save something, chain by chain."""
        front = [
            each
            for place, each in enumerate(candidates)
            if all(before.quality < each.quality for before in candidates[:place])
        ]
        found: list[Kept] = []
        for count in range(2, MAX_MEMBERS + 1):
            worth = {each.chain for each in found}
            for members in combinations(front, count):
                chain = tuple(member.choice for member in members)
                # A longer chain only of pairs that save something by themselves.
                if count == 2 or worth.issuperset(combinations(chain, 2)):
                    found += self._of_chain(members, candidates, reference)
        return found

    def _of_chain(
        self,
        members: Sequence[Candidate],
        singles: Sequence[Candidate],
        reference: Mapping[str, Choice],
    ) -> list[Kept]:
        """The chain with the thresholds of every tolerance, where that saves something."""
        chain = tuple(member.choice for member in members)
        blocks = [
            block
            for block in self.measure.blocks
            if all(block.evaluator.knows(self.key, {**reference, self.key: c}) for c in chain)
        ]
        outcomes = [self._outcomes(choice, blocks, reference) for choice in chain]
        if len(set(outcomes[0].units)) < LEAST_UNITS:
            return []
        # A member that was stopped early ends the pairing at a look: see `look_level`.
        spent = (1.0 - look_level(len(blocks), self.measure.looks)) / (1.0 - LEVEL)
        alpha = (1.0 - self.level) * spent
        found: dict[tuple[float, ...], Kept] = {}
        for tolerance in TOLERANCES:
            thresholds = picked(outcomes, tolerance, alpha)
            if thresholds is None or thresholds in found:
                continue
            kept = measured(chain, outcomes, thresholds, alpha)
            price = members[0].price + sum(
                share.value * member.price
                for share, member in zip(kept.reach, members[1:], strict=True)
            )
            single = next((s.price for s in singles if s.quality >= kept.quality.value), None)
            saving = price / (single or members[-1].price)
            if saving < 1.0:
                found[thresholds] = replace(kept, saving=saving)
        return list(found.values())

    def _outcomes(
        self, choice: Choice, blocks: Sequence[Block], reference: Mapping[str, Choice]
    ) -> Outcomes:
        """A choice on the elements of these blocks."""
        import numpy as np

        parts = [self._of_block(block, {**reference, self.key: choice}) for block in blocks]
        if not parts:
            return Outcomes(np.zeros(0), np.zeros(0), ())
        scores, confidences, units = zip(*parts, strict=True)
        return Outcomes(
            np.concatenate(scores),
            np.concatenate(confidences),
            [unit for part in units for unit in part],
        )

    def _of_block(
        self, block: Block, assignment: Mapping[str, Choice]
    ) -> tuple[np.ndarray, np.ndarray, list[Hashable]]:
        """Scores, confidences and units of a block's elements, in the order of its inputs.

        An element that fails is wrong and, where an earlier member fails, final: it is lost.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        stage, evaluator = self.stage, block.evaluator
        truth = truth_for(evaluator, self.key, assignment, self.metric, self.base, block.labels)
        assert not isinstance(truth, str)  # `untruthful` was asked before
        outputs = evaluator.outputs(self.key, assignment)
        state = evaluator.before(self.key, assignment)
        failed = np.zeros(evaluator.rows, dtype=bool)
        failed[list(outputs.failed)] = True
        places = np.flatnonzero(evaluator.live(stage, state))
        lengths = element_counts(stage, state.table.take(pa.array(places)))
        index = pa.array(places)
        columns = [
            outputs.columns[stage.produce.index(self.metric.output)].take(index),
            truth.values.take(index),
            outputs.columns[stage.produce.index(self.confidence)].take(index),
        ]
        unscored = failed[places] | truth.unknown[places]
        if stage.lists is not None:
            unscored |= (list_lengths(columns[0]) != lengths) | (
                list_lengths(columns[1]) != lengths
            )
        element_row = np.repeat(np.arange(len(places)), lengths)
        scorable = pa.array(~unscored)
        kept = [column.filter(scorable) for column in columns]
        if stage.lists is not None:
            kept = [pc.list_flatten(column) for column in kept]
        where = ~unscored[element_row]
        scores = np.zeros(len(element_row))
        scores[where] = score(self.metric, kept[0], kept[1])
        confidence = np.where(failed[places][element_row], np.inf, np.nan)
        confidence[where] = kept[2].cast(pa.float64()).to_numpy()
        names = block.names_of(places)
        return scores, confidence, [names[row] for row in element_row.tolist()]

    def _record(self, kept: Kept) -> None:
        """Keep what was seen, as `cascades` has it."""
        members = [choice.made for choice in kept.chain]
        text = cascade_text(members, kept.thresholds)
        level = Interval(self.level, self.level, self.level, kept.loss.n)
        recorded = {"quality": kept.quality, "loss": kept.loss, "confidence": level}
        recorded |= {f"reach({place})": share for place, share in enumerate(kept.reach, 1)}
        if kept.accuracy is not None:
            recorded["accuracy"] = kept.accuracy
        for statistic, interval in recorded.items():
            self.measure.record.add(
                self.stage.context, "cascade", statistic, interval,
                choice=kept.chain[-1], assignment=text,
            )  # fmt: skip


def paired(earlier: Outcomes, last: Outcomes, *, whole: bool = False) -> Paired:
    """The losses of taking the earlier member's answers; `whole`: the last one's errors too."""
    import numpy as np

    better = np.maximum(last.scores - earlier.scores, 0.0)
    always = 1.0 - last.scores if whole else np.zeros(len(better))
    return Paired(earlier.confidence, better, always, earlier.units)


def picked(
    outcomes: Sequence[Outcomes], tolerance: float, alpha: float
) -> tuple[float, ...] | None:
    """Thresholds that lose at most the tolerance against the last member, at level alpha.

    Each for its share of both; None where a member would never answer.
    """
    count = len(outcomes) - 1
    found = [
        pick(paired(earlier, outcomes[-1]), tolerance / count, alpha / count)
        for earlier in outcomes[:-1]
    ]
    known = tuple(threshold for threshold in found if threshold is not None)
    return known if len(known) == count else None


def measured(
    chain: tuple[Choice, ...],
    outcomes: Sequence[Outcomes],
    thresholds: tuple[float, ...],
    alpha: float,
) -> Kept:
    """What the paired outcomes say of a chain with these thresholds."""
    import numpy as np

    last, units = outcomes[-1], outcomes[0].units
    open_ = np.ones(len(last.scores), dtype=bool)
    scores = np.zeros(len(last.scores))
    reach = []
    for earlier, threshold in zip(outcomes, thresholds, strict=False):
        taken = open_ & (earlier.confidence >= threshold)
        scores[taken] = earlier.scores[taken]
        open_ &= ~taken
        reach.append(clustered_share(open_.astype(float).tolist(), units))
    scores[open_] = last.scores[open_]
    pairs = [paired(earlier, last) for earlier in outcomes[:-1]]
    bound = sum(
        pair.upper(threshold, alpha / len(pairs))
        for pair, threshold in zip(pairs, thresholds, strict=True)
    )
    lost = float((last.scores - scores).mean())
    count = len(pairs[0].counts)
    accuracy = None
    if len(pairs) == 1:
        least = 1.0 - paired(outcomes[0], last, whole=True).upper(thresholds[0], alpha)
        accuracy = Interval(least, least, 1.0, count)
    return Kept(
        chain,
        thresholds,
        clustered_share(scores.tolist(), units),
        tuple(reach),
        Interval(max(lost, 0.0), 0.0, max(bound, lost, 0.0), count),
        accuracy,
    )
