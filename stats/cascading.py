"""Measuring cascades: from outcomes paired on the same elements to the few worth planning with.

The answers are those that qualities were measured by. What is looked at: the members that no other
one beats in both price and quality, every pair of them and the best pairs with a third in between.
What is kept: at most `MAX_CASCADES` chains, those that save most against the cheapest single
variant that is as accurate, with one set of thresholds per tolerance.

Each set of thresholds keeps its own promise (`thresholds`). That a search takes the best-looking of
several is not in it: what AT CONFIDENCE promises is proved on held-back rows, as for every plan.

Thresholds are picked on all rows of the sample or not at all. Then looking early costs them
nothing: that a chain is picked for and breaks its tolerance is no likelier than that it would on
the whole sample, had nothing been stopped, whatever it was stopped by; no share of the error has to
be spent on looks, and what is picked is what plain profiling picks (the argument is ours). That a
choice is decided by itself does not say that cascades with it are: a cheap one far too inaccurate
alone may be the first member of the best plan. So what was stopped is looked at once more
(`lacking`), on the rows that it saw, with thresholds as low as they could be; where a cascade with
it might save something, it is run on the other rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Cascade, Choice
from ..ir.record import dataclass
from .cascades import MAX_CASCADES, MAX_MEMBERS, TOLERANCES, cascade_text
from .detection import kept
from .intervals import Interval, clustered_share
from .outcomes import Outcomes, outcomes
from .series import Series
from .thresholds import Paired, lowest, pick

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
        reference: the choices of the other steps.
        choices: of the step, as far as they are known to run.
    """

    def __init__(
        self,
        measure: Measure,
        key: str,
        metric: Metric,
        base: Choice | None,
        confidence: str,
        level: float,
        reference: Mapping[str, Choice],
        choices: Sequence[Choice],
    ) -> None:
        self.measure = measure
        self.key = key
        self.metric = metric
        self.base = base
        self.confidence = confidence
        self.level = level
        self.alpha = 1.0 - level
        self.reference = reference
        self.choices = choices
        self.stage = measure.chain.stage(key)
        prices = [usd for choice in choices for _, usd in self._prices(choice)]
        self._priced = all(usd > 0.0 for usd in prices)
        self._seen: dict[tuple[Choice, int], Outcomes] = {}
        self._pairs: dict[tuple[Choice, Choice, int], Paired] = {}

    def lacking(self, short: Collection[Choice], zone: float, enough: float) -> list[Choice]:
        """The choices stopped early that a cascade worth having may need on all rows.

        Args:
            short: those surely less accurate than is asked; a cascade hardly exceeds its last
                member, so that none of them is worth having as one.
            zone: by so much less accurate than a cheaper one on the rows it saw may a choice be
                that is more accurate on all.
            enough: the price at which a single choice suffices; nothing dearer is worth having.
        """
        every = len(self.measure.blocks)
        whole = [series for c in self.choices if len((series := self._series(c)).pieces) == every]
        if whole and len(whole[0].units()[0]) < LEAST_UNITS:
            return []
        wanted: set[Choice] = set()
        for looks in {self._looks(choice) for choice in self.choices} - {0, every}:
            candidates = self._candidates(looks)
            front = _front(candidates)
            for own in candidates:
                if self._looks(own.choice) == looks and _may_be_member(own, candidates, zone):
                    for other in front:
                        pair = (own, other) if own.price < other.price else (other, own)
                        useful = own is not other and pair[1].choice not in short
                        if useful and self._hopeful(pair, candidates, looks, enough):
                            wanted |= {own.choice, other.choice}
        return [c for c in self.choices if c in wanted and self._looks(c) < every]

    def _hopeful(
        self,
        members: tuple[Candidate, Candidate],
        singles: Sequence[Candidate],
        looks: int,
        enough: float,
    ) -> bool:
        """Might it save something, were its threshold as low as the first so many blocks allow?"""
        pair = self._pair(members[0].choice, members[1].choice, looks)
        for threshold in {lowest(pair, tolerance) for tolerance in TOLERANCES} - {None}:
            assert threshold is not None
            one = self._measured(members, (threshold,), looks)
            if _price(members, one) < min(enough, _single(singles, members, one)):
                return True
        return False

    def record(self) -> tuple[Cascade, ...]:
        """Record the cascades worth having of the choices that were run on all rows.

        Returns:
            What was recorded, what saves most first.
        """
        kept = self._found(self._candidates(len(self.measure.blocks)))
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

    def price(self, choice: Choice) -> float | None:
        """USD of an element where it takes least, seconds where not every choice has a price.

        Both at the batch size that is best for it. What evaluation took is not the measure: it
        depends on how many rows there were to look at.
        """
        return min((usd if self._priced else s for s, usd in self._prices(choice)), default=None)

    def _prices(self, choice: Choice) -> list[tuple[float, float]]:
        """Seconds and USD of an element on each device; USD are 0 where there is no price."""
        found = []
        for (key, how, device), ladder in self.measure.ladders.items():
            if (key, how) == (self.key, choice.made) and ladder.points:
                seconds = min(point.per_element for point in ladder.points)
                usd = self.measure.meter.usd_in(key, choice.replace(device=device), seconds)
                found.append((seconds, usd or 0.0))
        return found

    def _series(self, choice: Choice) -> Series:
        """Its scores."""
        return self.measure.series.get(("quality", self.key, choice.made, None)) or Series()

    def _looks(self, choice: Choice) -> int:
        """Blocks that it was scored on: the first so many."""
        return len(self._series(choice).pieces)

    def _candidates(self, looks: int) -> list[Candidate]:
        """Those timed, and scored on the first so many blocks or more, the cheapest first."""
        found = []
        for choice in self.choices:
            price = self.price(choice)
            if price is not None and self._looks(choice) >= looks:
                seen = Series(self._series(choice).pieces[:looks])
                if seen.scores:
                    found.append(Candidate(choice, price, seen.interval().value))
        return sorted(found, key=lambda each: (each.price, each.choice.made))

    def _found(self, candidates: Sequence[Candidate]) -> list[Found]:
        """All cascades that save something, chain by chain."""
        front = _front(candidates)
        found: list[Found] = []
        for count in range(2, MAX_MEMBERS + 1):
            worth = {each.chain for each in found}
            for members in combinations(front, count):
                chain = tuple(member.choice for member in members)
                # A longer chain only of pairs that save something by themselves.
                if count == 2 or worth.issuperset(combinations(chain, 2)):
                    found += self._of_chain(members, candidates)
        return found

    def _of_chain(self, members: Sequence[Candidate], singles: Sequence[Candidate]) -> list[Found]:
        """The chain with the thresholds of every tolerance, where that saves something."""
        looks = len(self.measure.blocks)
        *earlier, last = (member.choice for member in members)
        pairs = [self._pair(choice, last, looks) for choice in earlier]
        if len(pairs[0].counts) < LEAST_UNITS:
            return []
        found: dict[tuple[float, ...], Found] = {}
        for tolerance in TOLERANCES:
            thresholds = picked(pairs, tolerance, self.alpha)
            if thresholds is None or thresholds in found:
                continue
            one = self._measured(members, thresholds, looks)
            saving = _price(members, one) / _single(singles, members, one)
            if saving < 1.0:
                found[thresholds] = replace(one, saving=saving)
        return list(found.values())

    def _measured(
        self, members: Sequence[Candidate], thresholds: tuple[float, ...], looks: int
    ) -> Found:
        """What the first so many blocks say of a chain with these thresholds."""
        chain = tuple(member.choice for member in members)
        seen = [self._outcomes(choice, looks) for choice in chain]
        pairs = [self._pair(choice, chain[-1], looks) for choice in chain[:-1]]
        return measured(chain, seen, pairs, thresholds, self.alpha)

    def _outcomes(self, choice: Choice, looks: int) -> Outcomes:
        """What a choice did on the first so many blocks."""
        if (choice, looks) not in self._seen:
            own = {**self.reference, self.key: choice}
            self._seen[choice, looks] = outcomes(
                self.stage, self.measure.blocks[:looks], own, self.metric, self.base,
                self.confidence,
            )  # fmt: skip
        return self._seen[choice, looks]

    def _pair(self, earlier: Choice, last: Choice, looks: int) -> Paired:
        """Two choices on the first so many blocks."""
        key = earlier, last, looks
        if key not in self._pairs:
            seen = [self._outcomes(choice, looks) for choice in (earlier, last)]
            self._pairs[key] = paired(*seen)
        return self._pairs[key]

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


def picked(pairs: Sequence[Paired], tolerance: float, alpha: float) -> tuple[float, ...] | None:
    """Thresholds that lose at most the tolerance against the last member, at level alpha.

    Each for its share of both; None where a member would never answer.
    """
    count = len(pairs)
    found = [pick(pair, tolerance / count, alpha / count) for pair in pairs]
    known = tuple(threshold for threshold in found if threshold is not None)
    return known if len(known) == count else None


def _front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that none beats in both price and quality, at most `MAX_FRONT`, the cheapest first."""
    front: list[Candidate] = []
    for each in candidates:
        if all(before.quality < each.quality for before in front):
            front.append(each)
    if len(front) > MAX_FRONT:
        step = (len(front) - 1) / (MAX_FRONT - 1)
        front = [front[round(place * step)] for place in range(MAX_FRONT)]
    return front


def _may_be_member(own: Candidate, candidates: Sequence[Candidate], zone: float) -> bool:
    """Is it no more than the zone less accurate than any cheaper one?"""
    cheaper = [each.quality for each in candidates if each.price < own.price]
    return own.quality >= max(cheaper, default=0.0) - zone


def _price(members: Sequence[Candidate], found: Found) -> float:
    """Of an element: each member's, times the share of elements that reaches it."""
    shares = (1.0, *(share.value for share in found.reach))
    return sum(share * member.price for share, member in zip(shares, members, strict=True))


def _single(singles: Sequence[Candidate], members: Sequence[Candidate], found: Found) -> float:
    """The price of the cheapest single choice as accurate, of the last member where none is."""
    price = next((s.price for s in singles if s.quality >= found.quality.value), None)
    return price or members[-1].price


def measured(
    chain: tuple[Choice, ...],
    seen: Sequence[Outcomes],
    pairs: Sequence[Paired],
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
