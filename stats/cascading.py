"""Measuring cascades: from outcomes paired on the same elements to the few worth planning with.

Nothing is run for it: the answers are those that qualities were measured by. What is looked at:
the members that no other one beats in both price and quality, every pair of them and the best pairs
with a third in between. What is kept: at most `MAX_CASCADES` chains, those that save most against
the cheapest single variant that is as accurate, with one set of thresholds per tolerance.

Each set of thresholds keeps its own promise (`thresholds`). That a search takes the best-looking of
several is not in it: what AT CONFIDENCE promises is proved on held-back rows, as for every plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Cascade, Choice
from ..ir.record import dataclass
from .cascades import MAX_CASCADES, MAX_MEMBERS, TOLERANCES, cascade_text
from .detection import kept
from .intervals import LEVEL, Interval, clustered_share
from .outcomes import Outcomes, outcomes
from .sequential import look_level
from .thresholds import Paired, pick

if TYPE_CHECKING:
    from .measure import Measure

MAX_FRONT = 8
"""Choices looked at as members, evenly along the front (our choice: 28 pairs take a second)."""

LEAST_UNITS = 50
"""Independent units below which no cascade is looked at: no tolerance could be kept on fewer."""


@dataclass(frozen=True)
class Candidate:
    """A choice that a cascade may have as a member: USD (or seconds) of an element, quality."""

    choice: Choice
    price: float
    quality: float


@dataclass(frozen=True)
class Found:
    """A chain of choices with thresholds, and what was seen of it; `bounds` are from below.

    `saving` is its price ÷ that of the cheapest single choice as accurate.
    """

    chain: tuple[Choice, ...]
    thresholds: tuple[float, ...]
    quality: Interval
    reach: tuple[Interval, ...]
    loss: Interval
    bounds: Mapping[str, Interval]
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

    def record(
        self, choices: Sequence[Choice], reference: Mapping[str, Choice]
    ) -> tuple[Cascade, ...]:
        """Record the cascades worth having of these choices, the other steps as in `reference`.

        Returns:
            What was recorded, what saves most first.
        """
        if self.confidence not in self.stage.produce:
            return ()
        kept = self._found(self._candidates(choices), reference)
        best: dict[tuple[Choice, ...], float] = {}
        for each in kept:
            best[each.chain] = min(each.saving, best.get(each.chain, each.saving))
        chains = sorted(best, key=best.__getitem__)[:MAX_CASCADES]
        worth = sorted(
            (each for each in kept if each.chain in chains), key=lambda each: each.saving
        )
        for each in worth:
            self._record(each)
        return tuple(self._cascade(each) for each in worth)

    def _cascade(self, found: Found) -> Cascade:
        """As a choice."""
        *earlier, last = found.chain
        return Cascade(
            last.variant, last.knobs, last.batch, last.device, last.replicas, last.version,
            tuple(earlier), found.thresholds, self.confidence,
        )  # fmt: skip

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
    ) -> list[Found]:
        """All cascades that save something, chain by chain."""
        front = [
            each
            for place, each in enumerate(candidates)
            if all(before.quality < each.quality for before in candidates[:place])
        ]
        if len(front) > MAX_FRONT:
            step = (len(front) - 1) / (MAX_FRONT - 1)
            front = [front[round(place * step)] for place in range(MAX_FRONT)]
        found: list[Found] = []
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
    ) -> list[Found]:
        """The chain with the thresholds of every tolerance, where that saves something."""
        chain = tuple(member.choice for member in members)
        blocks = [
            block
            for block in self.measure.blocks
            if all(block.evaluator.knows(self.key, {**reference, self.key: c}) for c in chain)
        ]
        seen = [
            outcomes(
                self.stage, blocks, {**reference, self.key: choice}, self.metric, self.base,
                self.confidence,
            )
            for choice in chain
        ]  # fmt: skip
        if len(set(seen[0].units)) < LEAST_UNITS:
            return []
        # A member that was stopped early ends the pairing at a look: see `look_level`.
        spent = (1.0 - look_level(len(blocks), self.measure.looks)) / (1.0 - LEVEL)
        alpha = (1.0 - self.level) * spent
        found: dict[tuple[float, ...], Found] = {}
        for tolerance in TOLERANCES:
            thresholds = picked(seen, tolerance, alpha)
            if thresholds is None or thresholds in found:
                continue
            one = measured(chain, seen, thresholds, alpha)
            price = members[0].price + sum(
                share.value * member.price
                for share, member in zip(one.reach, members[1:], strict=True)
            )
            single = next((s.price for s in singles if s.quality >= one.quality.value), None)
            saving = price / (single or members[-1].price)
            if saving < 1.0:
                found[thresholds] = replace(one, saving=saving)
        return list(found.values())

    def _record(self, found: Found) -> None:
        """Keep what was seen, as `cascades` has it."""
        members = [choice.made for choice in found.chain]
        text = cascade_text(members, found.thresholds)
        level = Interval(self.level, self.level, self.level, found.loss.n)
        recorded = {"quality": found.quality, "loss": found.loss, "confidence": level}
        recorded |= {f"reach({place})": share for place, share in enumerate(found.reach, 1)}
        recorded |= found.bounds
        for statistic, interval in recorded.items():
            self.measure.record.add(
                self.stage.context, "cascade", statistic, interval,
                choice=found.chain[-1], assignment=text,
            )  # fmt: skip


def paired(earlier: Outcomes, last: Outcomes, *, whole: bool = False) -> Paired:
    """The losses of taking the earlier member's answers; `whole`: the last one's errors too."""
    import numpy as np

    better = np.maximum(last.scores - earlier.scores, 0.0)
    always = 1.0 - last.scores if whole else np.zeros(len(better))
    return Paired(earlier.confidence, better, always, earlier.units)


def picked(seen: Sequence[Outcomes], tolerance: float, alpha: float) -> tuple[float, ...] | None:
    """Thresholds that lose at most the tolerance against the last member, at level alpha.

    Each for its share of both; None where a member would never answer.
    """
    count = len(seen) - 1
    found = [
        pick(paired(earlier, seen[-1]), tolerance / count, alpha / count) for earlier in seen[:-1]
    ]
    known = tuple(threshold for threshold in found if threshold is not None)
    return known if len(known) == count else None


def measured(
    chain: tuple[Choice, ...],
    seen: Sequence[Outcomes],
    thresholds: tuple[float, ...],
    alpha: float,
) -> Found:
    """What the paired outcomes say of a chain with these thresholds."""
    import numpy as np

    last, units = seen[-1], seen[0].units
    open_ = np.ones(len(last.scores), dtype=bool)
    scores = np.zeros(len(last.scores))
    reach = []
    for earlier, threshold in zip(seen, thresholds, strict=False):
        taken = open_ & (earlier.confidence >= threshold)
        scores[taken] = earlier.scores[taken]
        open_ &= ~taken
        reach.append(clustered_share(open_.astype(float).tolist(), units))
    scores[open_] = last.scores[open_]
    pairs = [paired(earlier, last) for earlier in seen[:-1]]
    bound = sum(
        pair.upper(threshold, alpha / len(pairs))
        for pair, threshold in zip(pairs, thresholds, strict=True)
    )
    lost = float((last.scores - scores).mean())
    count = len(pairs[0].counts)
    bounds: dict[str, float] = {}
    if len(pairs) == 1:
        least = 1.0 - paired(seen[0], last, whole=True).upper(thresholds[0], alpha)
        bounds["accuracy"] = least
        if last.answered is not None:
            bounds |= kept(seen[0], last, thresholds[0], alpha)
    return Found(
        chain,
        thresholds,
        clustered_share(scores.tolist(), units),
        tuple(reach),
        Interval(max(lost, 0.0), 0.0, max(bound, lost, 0.0), count),
        {name: Interval(least, least, 1.0, count) for name, least in bounds.items()},
    )
