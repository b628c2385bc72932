"""What a cascade costs: its members' calls, each on the share of elements that reaches it.

Per element a cascade takes sum over members i of reach_i · (what one element of member i takes):
slot-seconds, tokens, joules. As one `Call` it has the first member's batch size b, and as seconds
and joules of "one call" those of b elements; what a query's elements take is the sum over its
`singles`, each pooling its own share of them into calls of its own batch size. A row's service time
is the sum over the members' at 1 - (1 - p)/m (union bound), where without EACH a member runs on
reach_i of the rows, and under EACH on lists thinned by reach_i (elements are unsure independently
of each other: our choice, as E[q^L] composes their answers).

Its members' memory and loading times add up: all are loaded. A failing element of an earlier member
fails; of a later one, where it is reached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import NormalDist

from ..ir.estimates import Estimate
from ..ir.record import dataclass
from ..stats.cascades import CascadeStatistics
from .compose import Lengths, positive, propagate, share
from .model import Call, Flow

EXACT_LENGTH = 64
NORMAL_POINTS = 255
"""The binomial is near its normal limit there; the quantiles reach to the p99.6 of a row's list."""


@dataclass(frozen=True)
class CascadeCall(Call):
    """A `Call` made of its members'."""

    members: tuple[Call, ...] = ()

    @property
    def singles(self) -> tuple[Call, ...]:
        """Its members."""
        return self.members

    @property
    def reach(self) -> tuple[Estimate, ...]:
        """The share of elements that reaches each member after the first."""
        return () if self.cascade is None else self.cascade.reach

    def sized(self, elements: float) -> Call:
        """Its members, each as large as its share of the elements lets it be."""
        shares = (1.0, *(reach.value for reach in self.reach))
        members = zip(self.members, shares, strict=True)
        return replace(self, members=tuple(m.sized(elements * share) for m, share in members))

    def service_seconds(self, lengths: Lengths | None, level: float, run: float) -> float:
        """The members' one after the other."""
        at = 1.0 - (1.0 - level) / len(self.members)
        total = self.members[0].service_seconds(lengths, at, run)
        for member, reach in zip(self.members[1:], self.reach, strict=True):
            if lengths is None:
                total += member.service_seconds(None, at, run * reach.value)
            else:
                total += member.service_seconds(thinned(lengths, reach.value), at, run)
        return total

    def service(self, flow: Flow, level: float) -> Estimate | None:
        """The members' one after the other; None where one is."""
        at = 1.0 - (1.0 - level) / len(self.members)
        found = [member.service(place, at) for member, place in self.parts(flow)]
        known = [estimate for estimate in found if estimate is not None]
        return positive(propagate(sum, known)) if len(known) == len(found) else None

    def parts(self, flow: Flow) -> tuple[tuple[Call, Flow], ...]:
        """The members in their places."""
        found: list[tuple[Call, Flow]] = [(self.members[0], flow)]
        for member, reach in zip(self.members[1:], self.reach, strict=True):
            if flow.lengths is None:
                mine = Flow((*flow.run, reach), None, flow.length_n, flow.distinct)
            else:
                lengths = thinned(flow.lengths, reach.value)
                mine = Flow(flow.run, lengths, flow.length_n, flow.distinct)
            found.append((member, mine))
        return tuple(found)


def cascade_call(
    name: tuple[str, str], members: Sequence[Call], measured: CascadeStatistics
) -> CascadeCall:
    """The call of a cascade.

    Args:
        name: `Cascade.made`.
        members: in the order in which they run, all on one device.
        measured: of these members.
    """
    reach = measured.reach
    first = members[0]
    variant, knobs = name
    sizes = [first.batch / member.batch for member in members]
    ones = [1.0] * len(members)
    sources = dict.fromkeys(member.energy_source for member in members if member.energy_source)
    seconds = _total([member.seconds for member in members], reach, sizes)
    assert seconds is not None  # every call has been timed
    failure = _total([member.failure for member in members], reach, ones)
    return CascadeCall(
        variant=variant,
        knobs=knobs,
        batch=first.batch,
        device=first.device,
        seconds=seconds,
        quantiles=first.quantiles if all(member.quantiles for member in members) else (),
        tokens_usd=_total([member.tokens_usd for member in members], reach, ones),
        memory=_sum([member.memory for member in members]),
        load=_sum([member.load for member in members]),
        quality=measured.quality,
        energy=_total([member.energy for member in members], reach, sizes),
        energy_source=", ".join(sources),
        failure=None if failure is None else share(failure),
        precision=measured.bounds.get("precision"),
        recall=measured.bounds.get("recall"),
        cascade=measured,
        members=tuple(members),
    )


def _total(
    parts: Sequence[Estimate | None], reach: Sequence[Estimate], factors: Sequence[float]
) -> Estimate | None:
    """The sum of the parts, each times its factor and the share that reaches it; None: unknown."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if not any(part.high for part in known):
        return known[0]
    count = len(reach)

    def total(v: Sequence[float]) -> float:
        shares = (1.0, *v[:count])
        return sum(r * x * f for r, x, f in zip(shares, v[count:], factors, strict=True))

    return positive(propagate(total, [*reach, *known]))


def _sum(parts: Sequence[Estimate | None]) -> Estimate | None:
    """The sum; None where one is unknown."""
    known = [part for part in parts if part is not None]
    return positive(propagate(sum, known)) if len(known) == len(parts) else None


def between(call: Call, first: Estimate | None, last: Estimate | None) -> Estimate | None:
    """A share measured under a cascade's first and last member, but not under the cascade.

    As far from the last one's as the cascade's quality is, on the way to the first one's (our
    choice: what follows from answers, such as a check that fails, follows from the wrong ones). The
    last one's where the first one's is not known.
    """
    if first is None or last is None or call.quality is None or not isinstance(call, CascadeCall):
        return last
    ends = [call.members[0].quality, call.members[-1].quality]
    known = [end for end in ends if end is not None]
    if len(known) < 2 or known[0].value >= known[1].value:
        return last
    worst, best = (end.value for end in known)
    part = min(1.0, max(0.0, (best - call.quality.value) / (best - worst)))
    return share(propagate(lambda v: v[1] + part * (v[0] - v[1]), [first, last]))


@lru_cache(maxsize=512)
def thinned(lengths: Lengths, reach: float) -> Lengths:
    """Lengths of the lists of which every element is kept with probability `reach`.

    Binomial; of lists longer than `EXACT_LENGTH` its normal limit at `NORMAL_POINTS` quantiles.
    """
    if not 0.0 < reach < 1.0:
        return lengths if reach >= 1.0 else ((0, 1.0),)
    found: dict[int, float] = {}
    for length, probability in lengths:
        if length <= EXACT_LENGTH:
            for kept in range(length + 1):
                chance = math.comb(length, kept) * reach**kept * (1.0 - reach) ** (length - kept)
                found[kept] = found.get(kept, 0.0) + probability * chance
            continue
        mean, spread = length * reach, math.sqrt(length * reach * (1.0 - reach))
        for point in range(NORMAL_POINTS):
            level = (point + 1.0) / (NORMAL_POINTS + 1.0)
            kept = min(length, max(0, math.ceil(mean + spread * NormalDist().inv_cdf(level))))
            found[kept] = found.get(kept, 0.0) + probability / NORMAL_POINTS
    return tuple(sorted(found.items()))
