"""Tables of every step's choices: the float side of the cost model.

Which entries depend on which earlier choices: a WHEN rate, and the quality where it ran, on the
step the condition reads; and where a step stands in for others (`instead_of`), its factor of the
accuracy holds theirs too, so it depends on their choices and their own factor is left out. Each
replaced step is owned by the first that replaces it. Where errors of two steps were measured
together, the later one's factor is its quality where the earlier one is right (`dependence`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..cost.cascade import between
from ..cost.compose import (
    Lengths,
    co2_grams,
    each_factor,
    instead_factor,
    mean_length,
    stage_level,
    when_factor,
)
from ..cost.model import Call, Flow
from ..cost.provider import Given, StatsProvider
from ..cost.stages import Taken
from ..ir.estimates import Estimate
from ..ir.models import Device, Model
from ..ir.physical import Cascade, Choice
from .dependence import alone, dependent, partners
from .objectives import Needs
from .occupancy import memory, pace
from .search.table import StageTable
from .stage_plan import NEVER_SECONDS, Class, Factor, StagePlan
from .steps import StepInfo

UNKNOWN_LOSS = 700.0
"""-log accuracy where it is unknown and not asked for: such a choice never looks accurate."""
UNKNOWN_RATE = Estimate(1.0, 0.0, 1.0, 0, "prior")
"""A share nothing is known of: all rows, the upper bound."""


def tabulate(
    infos: Sequence[StepInfo],
    options: Sequence[Sequence[tuple[Choice, Call]]],
    stats: StatsProvider,
    models: Mapping[str, Model],
    devices: Sequence[Device],
    needs: Needs,
    rows: Estimate | None,
    notes: list[str],
) -> tuple[StagePlan, ...]:
    """One `StagePlan` per step; assumptions made are appended to `notes`."""
    work = _Tabulator(infos, options, stats, models, devices, needs, rows, notes)
    return tuple(work.stage(place) for place in range(len(infos)))


class _Tabulator:
    """Holds what all stages share while they are tabulated one after the other."""

    def __init__(
        self,
        infos: Sequence[StepInfo],
        options: Sequence[Sequence[tuple[Choice, Call]]],
        stats: StatsProvider,
        models: Mapping[str, Model],
        devices: Sequence[Device],
        needs: Needs,
        rows: Estimate | None,
        notes: list[str],
    ) -> None:
        self.infos, self.options, self.stats, self.models = infos, options, stats, models
        self.devices, self.needs, self.rows, self.notes = devices, needs, rows, notes
        self.place = {info.key: at for at, info in enumerate(infos)}
        self.classes: list[tuple[Class, ...]] = [
            tuple(dict.fromkeys(c.made for c, _ in found)) for found in options
        ]
        self.cascades = [
            {choice.made: (choice, call) for choice, call in found if isinstance(choice, Cascade)}
            for found in options
        ]
        self.lengths = [self._lengths(info) for info in infos]
        self.owned: list[tuple[int, ...]] = []
        owner: dict[int, int] = {}
        for at, info in enumerate(infos):
            replaced = [self.place[key] for key in info.instead_of if key in self.place]
            mine = tuple(sorted(d for d in replaced if d not in owner and d < at))
            owner.update(dict.fromkeys(mine, at))
            self.owned.append(mine)
        self.owner = owner
        self.partner = partners(infos, self.classes, self.owned, stats)

    def stage(self, place: int) -> StagePlan:
        """Tabulate one stage."""
        info, found = self.infos[place], self.options[place]
        classes = self.classes[place]
        of_class = {cls: at for at, cls in enumerate(classes)}
        option_class = tuple(of_class[c.made] for c, _ in found)
        index = {device.name: at for at, device in enumerate(self.devices)}
        option_device = tuple(index[c.device] for c, _ in found)
        given = self._given(place)
        combos = self._combinations(given)
        calls = tuple(call for _, call in found)
        flows = tuple(self._flow(place, combo) for combo in combos)
        factors, qualities = [], []
        for combo in combos:
            each = [self._own(place, cls, combo) for cls in range(len(classes))]
            factors.append(tuple(factor for factor, _ in each))
            qualities.append(tuple(quality for _, quality in each))
        table = StageTable(
            info.key,
            len(classes),
            option_class,
            option_device,
            tuple(sorted(self.place[key] for key in info.predecessors)),
            given,
            self._rows(place, calls, option_class, flows, factors),
        )
        lengths, length_n = self.lengths[place]
        return StagePlan(
            info,
            tuple(choice for choice, _ in found),
            calls,
            classes,
            lengths,
            length_n,
            flows,
            tuple(factors),
            tuple(qualities),
            table,
            self.partner[place],
        )

    def _lengths(self, info: StepInfo) -> tuple[Lengths | None, int]:
        """The EACH list's lengths; one element and a note where they are unknown."""
        if info.lists is None:
            return None, 0
        known = self.stats.lengths(info.context)
        if known is None:
            self.notes.append(f"{info.key}: list lengths unknown, taken as 1")
            return ((1, 1.0),), 0
        return known, self.stats.length_n(info.context)

    def _given(self, place: int) -> tuple[int, ...]:
        """The earlier stages whose classes this one's entries depend on."""
        info = self.infos[place]
        found = set(self.owned[place])
        if info.given is not None and info.when is not None:
            found.add(self.place[info.given])
        for replaced in self.owned[place]:
            found.update(self._given(replaced))
        partner = self.partner[place]
        if partner is not None:
            found.add(partner)
        return tuple(sorted(found))

    def _combinations(self, given: Sequence[int]) -> list[dict[int, int]]:
        """Every combination of classes of `given`, the last one fastest."""
        combos: list[dict[int, int]] = [{}]
        for before in given:
            combos = [
                combo | {before: cls}
                for combo in combos
                for cls in range(len(self.classes[before]))
            ]
        return combos

    def _condition(self, place: int, combo: Mapping[int, int]) -> Given | None:
        """The choice that conditions this stage's WHEN."""
        info = self.infos[place]
        if info.given is None:
            return None
        before = self.place[info.given]
        if before not in combo:
            return None
        return self._call(before, combo[before])

    def _call(self, place: int, cls: int) -> Given:
        """A step's choice as the statistics know it; of a cascade its last member.

        What was measured under one choice of another step was not under cascades: their answers
        are nearest to those of the last member. Rates and qualities are better told: `between`.
        """
        cascade = self._cascade(place, cls)
        made = self.classes[place][cls] if cascade is None else cascade[0].last.made
        return self.infos[place].context, *made

    def _rate(self, place: int, combo: Mapping[int, int]) -> Estimate | None:
        """The share of rows its WHEN holds on; None without WHEN."""
        info = self.infos[place]
        if info.when is None:
            return None
        rate = self._conditional_rate(place, combo)
        if rate is None:
            self.notes.append(f"{info.key}: WHEN rate unknown, taken as 1 (an upper bound)")
            return UNKNOWN_RATE
        return rate

    def _conditional_rate(self, place: int, combo: Mapping[int, int]) -> Estimate | None:
        """The share under the choice that conditions it; of a cascade between its members'."""
        context, condition = self.infos[place].context, self._condition(place, combo)
        if condition is not None:
            before = self.place[self.infos[place].given or ""]
            cascade = self._cascade(before, combo[before])
            if cascade is not None:
                return between(
                    cascade[1],
                    *(
                        self.stats.rate(context, (condition[0], *member.made))
                        for member in _ends(cascade[0])
                    ),
                )
        return self.stats.rate(context, condition)

    def _kept(self, place: int) -> tuple[Estimate, ...]:
        """The selectivities of the filters below."""
        found = []
        for filtered in self.infos[place].filters:
            rate = self.stats.rate(filtered.subject)
            if rate is None:
                self.notes.append(
                    f"{self.infos[place].key}: a filter's selectivity is unknown, taken as 1"
                )
                rate = UNKNOWN_RATE
            found.append(rate)
        return tuple(found)

    def _flow(self, place: int, combo: Mapping[int, int]) -> Flow:
        """Its place in the plan."""
        rate = self._rate(place, combo)
        run = (*self._kept(place), *(() if rate is None else (rate,)))
        info = self.infos[place]
        distinct = self.stats.distinct(info.context) if info.distinct else None
        lengths, length_n = self.lengths[place]
        return Flow(run, lengths, length_n, distinct)

    def _own(
        self, place: int, cls: int, combo: Mapping[int, int]
    ) -> tuple[Factor, Estimate | None]:
        """Its factor of the accuracy, filters included, and its quality where it ran."""
        info = self.infos[place]
        condition = self._condition(place, combo) if info.when is not None else None
        quality = self._quality(place, cls, condition)
        if place in self.owner:
            return _ONE, quality
        mine = self._call(place, cls)
        partner = self.partner[place]
        factor = None
        single = self._cascade(place, cls) is None
        if partner is not None and single:
            first = self._call(partner, combo[partner])
            factor = dependent(self.stats, first, mine, stands_in=partner in self.owned[place])
        if factor is None and place in self.partner and single:
            factor = alone(self.stats, mine)
        factor = factor or self._answer(place, cls, quality, combo)
        kept = self._kept(place)
        if not kept:
            return factor, quality
        count, inner = len(kept), factor.formula
        gated = Factor(
            (*kept, *factor.parts),
            lambda v: when_factor(math.prod(v[:count]), inner(v[count:])),
            factor.known,
            factor.dependence,
        )
        return gated, quality

    def _answer(
        self, place: int, cls: int, quality: Estimate | None, combo: Mapping[int, int]
    ) -> Factor:
        """The chance that the answer is right, where it stands in for others theirs included."""
        base = self._graded(place, cls, quality)
        rate = self._rate(place, combo)
        if rate is None:
            return base
        replaced = [self._replaced(d, combo) for d in self.owned[place]]
        own = base.formula
        if not replaced:
            return Factor((rate, *base.parts), lambda v: when_factor(v[0], own(v[1:])), base.known)
        cuts = [1 + len(base.parts)]
        for other in replaced:
            cuts.append(cuts[-1] + len(other.parts))
        formulas = [other.formula for other in replaced]

        def combined(v: Sequence[float]) -> float:
            others = math.prod(
                formula(v[start:stop])
                for formula, start, stop in zip(formulas, cuts, cuts[1:], strict=False)
            )
            return instead_factor(v[0], others, own(v[1 : cuts[0]]))

        parts = (rate, *base.parts, *(part for other in replaced for part in other.parts))
        return Factor(parts, combined, base.known and all(other.known for other in replaced))

    def _replaced(self, place: int, combo: Mapping[int, int]) -> Factor:
        """A replaced step's chance of a right answer on the rows where it was not replaced."""
        quality = self._quality(place, combo[place], self._call(place, combo[place]))
        return self._answer(place, combo[place], quality, combo)

    def _quality(self, place: int, cls: int, condition: Given | None) -> Estimate | None:
        """The quality of a step's answers, under a condition where it was measured under that."""
        context, variant, knobs = self._call(place, cls)
        cascade = self._cascade(place, cls)
        if cascade is None:
            return self.stats.quality(context, variant, knobs, condition)
        if condition is None:
            return cascade[1].quality
        own = condition == (context, variant, knobs)  # where no later step replaced its answer

        def under(member: Choice) -> Estimate | None:
            given = (context, *member.made) if own else condition
            return self.stats.quality(context, *member.made, given)

        return between(cascade[1], *map(under, _ends(cascade[0])))

    def _cascade(self, place: int, cls: int) -> tuple[Cascade, Call] | None:
        """The cascade of a class, and a call of it; None where it is a single choice."""
        return self.cascades[place].get(self.classes[place][cls])

    def _graded(self, place: int, cls: int, quality: Estimate | None) -> Factor:
        """E[q^L]; where the model has no QUALITY, that no element fails; unknown if unmeasured."""
        info = self.infos[place]
        if quality is None:
            if self.models[info.model].quality is None:
                self.notes.append(f"{info.key}: {info.model} has no QUALITY, taken as right")
                return self._unfailed(place, cls)
            return Factor((), lambda v: math.exp(-UNKNOWN_LOSS), known=False)
        lengths, _ = self.lengths[place]
        return Factor((quality,), lambda v: each_factor(v[0], lengths))

    def _unfailed(self, place: int, cls: int) -> Factor:
        """The chance that no element fails, at the batch size where most do; 1 if none was seen."""
        failures = [
            call.failure
            for choice, call in self.options[place]
            if choice.made == self.classes[place][cls]
            and call.failure is not None
            and call.fails > 0.0
        ]
        if not failures:
            return _ONE
        lengths, _ = self.lengths[place]
        worst = max(failures, key=lambda failure: failure.value)
        return Factor((worst,), lambda v: each_factor(1.0 - v[0], lengths))

    def _rows(
        self,
        place: int,
        calls: Sequence[Call],
        option_class: Sequence[int],
        flows: Sequence[Flow],
        factors: Sequence[Sequence[Factor]],
    ) -> dict[str, tuple[tuple[float, ...], ...]]:
        """All dims of one stage."""
        lengths, _ = self.lengths[place]
        needs, model = self.needs, self.infos[place].model
        count = None if self.rows is None else self.rows.value
        takes = [[Taken(c, flow.called_share, lengths, count) for c in calls] for flow in flows]

        def each(value: Callable[[Call, Taken], float]) -> tuple[tuple[float, ...], ...]:
            return tuple(tuple(map(value, calls, entries)) for entries in takes)

        rows = {
            "cost": each(lambda _, took: _known(took.usd)),
            "busy": each(lambda _, took: took.busy),
        }
        if any(call.tokens_usd is None for call in calls):
            self.notes.append(f"{self.infos[place].key}: tokens unknown, not in comparisons")
        rows["loss"] = tuple(
            tuple([loss[cls] for cls in option_class])
            for loss in ([_loss(factor) for factor in of_class] for of_class in factors)
        )
        stages = len(self.infos)
        made = [[call.sized(flow.elements(count)) for call in calls] for flow in flows]
        for name, level in needs.levels.items():
            at = stage_level(level, stages)
            rows[name] = tuple(
                tuple([_service(call, lengths, at, flow.share) for call in mine])
                for flow, mine in zip(flows, made, strict=True)
            )
        if needs.energy:
            rows["energy"] = each(lambda _, took: _known(took.joules))
            if needs.co2:
                rows["co2"] = each(
                    lambda call, took: co2_grams(
                        _known(took.joules), call.device.grid_g_co2_per_kwh or 0.0
                    )
                )
        for dim in ("cost", "energy", "co2"):
            if dim in rows:
                rows[f"{dim}({model})"] = rows[dim]
                if count is not None:
                    rows[f"total_{dim}"] = tuple(
                        tuple([count * x for x in entries]) for entries in rows[dim]
                    )
        rows |= memory(calls, self.devices, len(flows), asked=needs.memory)
        if needs.pace or needs.wall:
            rows |= pace(place, len(self.infos), calls, self.devices, takes, needs, self.rows)
        return rows


_ONE = Factor((), lambda v: 1.0)


def _ends(cascade: Cascade) -> tuple[Choice, Choice]:
    """Its first and its last member."""
    return cascade.members[0], cascade.last


def _loss(factor: Factor) -> float:
    """-log of a factor."""
    return -math.log(max(factor.value, math.exp(-UNKNOWN_LOSS)))


def _known(value: float) -> float:
    """In tables 0 where it is unknown: then it is not asked for, and the plan's cost says None."""
    return 0.0 if math.isnan(value) else value


def _service(call: Call, lengths: Lengths | None, level: float, run: float) -> float:
    """Service time at a level; the mean call where no quantile was measured (see the notes)."""
    if not call.points:
        calls = math.ceil(mean_length(lengths) / call.batch)
        return calls * call.seconds.value
    return min(call.service_seconds(lengths, level, run), NEVER_SECONDS)
