"""Which choices and plans are decided so far, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..ir.physical import Choice
from .decide import Costs, Judge, K, Verdict, final, least
from .end_to_end import Made, made, text_of
from .intervals import Interval
from .lineage import Chain
from .lineages import Lineage, audited, lineage, milder
from .measure import Measure
from .observation import assignment_text
from .request import ProfiledStep, Request
from .series import Series, calibrated
from .strategy import StoppedChoice

Own = tuple[str, Made]
"""A step and how it is made."""

Plan = tuple[Own, ...]
"""A complete assignment: how every step is made, in the order of the steps."""


class Verdicts:
    """Judges what was measured.

    Args:
        request: what is measured, and what for.
        chain: its plan.
        measure: what was seen so far.
        judge: the tests.
        makers: by step key, the choices that are known to run; asked anew at every look.
        plans: what was seen of complete assignments; filled by the caller.
        reference: by step key, the choice that answers where others are measured; the caller's.
    """

    def __init__(
        self,
        request: Request,
        chain: Chain,
        measure: Measure,
        judge: Judge,
        makers: Callable[[str], tuple[Choice, ...]],
        plans: Mapping[Plan, Series],
        reference: Mapping[str, Choice],
    ) -> None:
        self.request = request
        self.chain = chain
        self.measure = measure
        self.judge = judge
        self.makers = makers
        self.plans = plans
        self.choices: dict[Own, Verdict[Own]] = {}
        self.plans_done: dict[Plan, Verdict[Plan]] = {}
        self.violated: dict[Lineage, str] = {}
        self._pruned: set[Own] = set()
        self._planned: set[Own] = set()
        self._worsened: set[Own] = set()
        self._worsened_plans: set[Plan] = set()
        self._reference = reference
        self._keys = [stage.step for stage in chain.stages]

    def _step(self, key: str) -> ProfiledStep:
        return self.request.steps.get(key) or ProfiledStep(key)

    def pair_matters(self, *pair: Own) -> bool:
        """Is there an undecided plan with both, or none known yet?"""
        if any(one in self.choices for one in pair):
            return False
        with_both = [plan for plan in self.plans if set(pair) <= set(plan)]
        return not with_both or any(plan not in self.plans_done for plan in with_both)

    def decide(self) -> None:
        """Stop what the blocks so far have decided, and go on with what they contradict."""
        self.reopen()
        for key in self._keys:
            own = [(key, made(choice)) for choice in self.makers(key)]
            costs = {one: self.measure.costs(*one) for one in own}
            self._stop(self.choices, self._judged, costs)
        plans = self._live()
        self._stop(self.plans_done, self._judged_plan, {p: self._plan_costs(p) for p in plans})
        for key in self._keys:
            for choice in self.makers(key):
                one = (key, made(choice))
                holding = [plan for plan in plans if one in plan]
                if one in self.choices or not holding:
                    continue
                if all(plan in self.plans_done for plan in holding):
                    reasons = {self.plans_done[plan].reason for plan in holding}
                    why = reasons.pop() if len(reasons) == 1 else "decided"
                    short = all(self.plans_done[plan].short for plan in holding)
                    reason = f"every plan with it is {why}"
                    self.choices[one] = Verdict(reason, self._seen(), short=short)
                    self._planned.add(one)
        self._prune()
        self.settle()

    def reopen(self) -> bool:
        """Take back what rests on a dominator that has changed since; was there any?"""
        before = len(self.choices), len(self.plans_done)
        for own, verdict in list(self.choices.items()):
            if verdict.by is not None and self._changed(verdict.by, self.quality(own)):
                self._take_back(own)
        for plan, judged in list(self.plans_done.items()):
            if judged.by is not None and self._changed_plan(judged.by, self.plans[plan]):
                del self.plans_done[plan]
        for own in list(self._planned):
            if any(own in plan and plan not in self.plans_done for plan in self._live()):
                self._planned.discard(own)
                self.choices.pop(own, None)
        return before != (len(self.choices), len(self.plans_done))

    def _changed(self, dominator: Own, seen: Series) -> bool:
        """Is a choice worse, or gone, since it was compared with what has been `seen`?"""
        if not self._runs(dominator):
            return True
        own, looks = self.quality(dominator), self.measure.looks
        if seen.pieces and self.judge.worsened(own, len(seen.pieces), looks):
            self._worsened.add(dominator)
        return dominator in self._worsened

    def _changed_plan(self, dominator: Plan, seen: Series) -> bool:
        """The same of a plan; one that was never run end to end is what its steps are."""
        if not all(map(self._runs, dominator)):
            return True
        own = self.plans.get(dominator, Series())
        if self.judge.worsened(own, len(seen.pieces), self.measure.looks):
            self._worsened_plans.add(dominator)
        return dominator in self._worsened_plans

    def _runs(self, own: Own) -> bool:
        """Is the choice known to run, still?"""
        return any(made(choice) == own[1] for choice in self.makers(own[0]))

    def _live(self) -> list[Plan]:
        """The plans seen so far of choices that run, still."""
        return [plan for plan in self.plans if all(map(self._runs, plan))]

    def _take_back(self, own: Own) -> None:
        """Go on measuring a choice, and the plans that were stopped for it."""
        reason = self.choices.pop(own).reason
        for plan in [p for p in self.plans_done if own in p]:
            if self.plans_done[plan].reason == reason:
                del self.plans_done[plan]

    def _prune(self) -> None:
        """Stop derived variants where a milder one of their lineage surely falls short."""
        if not self.judge.strategy.ladders:
            return
        for own in [(key, made(c)) for key in self._keys for c in self.makers(key)]:
            found, shorter = self._lineage(own), self._short(own)
            if found is None or shorter is None or found in self.violated:
                continue
            if self._suffices(own):
                self.violated[found] = (
                    f"{own[1][0]} suffices although {shorter}, which is milder, falls short: "
                    f"variants of {found[0]} by {found[1]} are not pruned"
                )
                for other in [one for one in self._pruned if self._lineage(one) == found]:
                    self._pruned.discard(other)
                    self._take_back(other)
        for key in self._keys:
            for own in [(key, made(choice)) for choice in self.makers(key)]:
                strategy = self.judge.strategy
                open_to_it = own not in self.choices and self._lineage(own) not in self.violated
                if not open_to_it or audited(own[1][0], strategy.audit, strategy.seed):
                    continue
                shorter = self._short(own)
                if shorter is not None:
                    self._pruned.add(own)
                    reason = f"{shorter}, which is milder, falls short"
                    self.choices[own] = Verdict(reason, self._seen())

    def _suffices(self, own: Own) -> bool:
        """Is it surely above what is asked of its model, or of the subject that it is?"""
        if own in self._pruned:
            return False
        aim, key = self.request.aim, own[0]
        asked = dict(aim.models).get(self.chain.stage(key).model)
        if asked is None and key == self.request.subject:
            asked = aim.accuracy
        if asked is None:
            return self.choices.get(own, Verdict("", 0)).meets
        verdict: Verdict[Own] | None = self.judge.against(
            self.quality(own), asked, self._seen(), above=True
        )
        return verdict is not None and verdict.meets

    def _lineage(self, own: Own) -> Lineage | None:
        derivation = self.request.derivations.get(own[1][0])
        return None if derivation is None else lineage(derivation)

    def _short(self, own: Own) -> str | None:
        """A milder variant at the same knobs that surely falls short."""
        for name in milder(own[1][0], self.request.derivations):
            verdict = self.choices.get((own[0], (name, own[1][1])))
            if verdict is not None and verdict.short:
                return name
        return None

    def _stop(
        self,
        done: dict[K, Verdict[K]],
        judged: Callable[[K, Mapping[K, Costs]], Verdict[K] | None],
        costs: Mapping[K, Costs],
    ) -> None:
        """Judge what is not done; then what is needless beside what meets what is asked."""
        for target in costs:
            verdict = judged(target, costs) if target not in done else None
            if verdict is not None:
                done[target] = verdict
        winners = [target for target in costs if target in done and done[target].meets]
        for target in costs if winners else ():
            if target not in done:
                verdict = self.judge.needless(target, winners, costs, self._seen())
                if verdict is not None:
                    done[target] = verdict

    def _seen(self) -> int:
        """Rows in the open blocks."""
        return sum(len(block.places) for block in self.measure.blocks)

    def _judged(self, own: Own, costs: Mapping[Own, Costs]) -> Verdict[Own] | None:
        """Why a choice is decided, if it is."""
        key, choice = own[0], self._choice_of(own)
        if not self.measure.ran(key, choice, self._reference):
            return None
        seen = self.quality(own)
        reason = self.judge.failing(self.measure.failures(key, choice, self._reference))
        if reason is not None:
            return Verdict(reason, self._seen())
        verdict = self._missed(key, seen) if seen.scores else None
        if verdict is not None:
            return verdict
        others = [(key, made(other)) for other in self.makers(key)]
        gone = self._worsened | self.choices.keys()
        rivals = [one for one in others if one != own and one not in gone]
        by = self.judge.dominator(own, rivals, self.quality, costs)
        if by is None:
            return None
        variant, knobs = by[1]
        name = variant + (f" ({knobs})" if knobs else "")
        return Verdict(f"dominated by {name}", self._seen(), by)

    def quality(self, own: Own) -> Series:
        """Scores of a step under the reference choices below it."""
        return self.measure.series.get(("quality", *own, None)) or Series()

    def _missed(self, key: str, seen: Series) -> Verdict[Own] | None:
        """What an SLO on the model, or on the subject that the step is, says of a choice."""
        aim = self.request.aim
        asked = dict(aim.models).get(self.chain.stage(key).model)
        verdict: Verdict[Own] | None = None
        if asked is not None:
            verdict = self.judge.against(seen, asked, self._seen())
        if verdict is None and aim.accuracy is not None and key == self.request.subject:
            enough = not aim.maximize_accuracy
            verdict = self.judge.against(
                seen, aim.accuracy, self._seen(), above=enough, least=aim.least
            )
        return verdict

    def _judged_plan(self, plan: Plan, costs: Mapping[Plan, Costs]) -> Verdict[Plan] | None:
        """Why a plan is decided, if it is."""
        for own in plan:
            verdict = self.choices.get(own)
            if verdict is not None:
                better = verdict.by
                by = None
                if better is not None:
                    by = tuple(better if part == own else part for part in plan)
                if by not in self._worsened_plans:
                    return Verdict(verdict.reason, self._seen(), by)
        aim = self.request.aim
        if aim.accuracy is not None:
            enough = not aim.maximize_accuracy
            judged: Verdict[Plan] | None = self.judge.against(
                self.plans[plan], aim.accuracy, self._seen(), above=enough, least=aim.least
            )
            if judged is not None:
                return judged
        gone = self._worsened_plans | self.plans_done.keys()
        rivals = [other for other in costs if other != plan and other not in gone]
        by_plan = self.judge.dominator(plan, rivals, self.plans.__getitem__, costs)
        return None if by_plan is None else Verdict("dominated", self._seen(), by_plan)

    def _plan_costs(self, plan: Plan) -> Costs:
        """Of each way to place its steps: seconds of single calls in a row, what a row takes."""
        placed: Costs = [()]
        for key, own in plan:
            given = self._step(key).given
            below = next((o for k, o in plan if k == given), None)
            share = self.measure.runs_on(key, given, below)
            costs = [
                (call, *(share * n for n in each)) for call, *each in self.measure.costs(key, own)
            ]
            placed = least([_added(sums, numbers) for sums in placed for numbers in costs])
        return placed

    def settle(self) -> None:
        """Record what was stopped beside what was not, on the rows both saw."""
        for own, verdict in self.choices.items():
            series = self.quality(own)
            if verdict.by is not None and series.scores:
                anchor = self.quality(final(self.choices, verdict.by))
                interval = self._beside(series, anchor)
                self.measure.recorded_quality(own[0], self._choice_of(own), series, interval)
        for plan in [plan for plan in self._live() if plan in self.plans_done]:
            judged = self.plans_done[plan]
            anchor_plan = final(self.plans_done, judged.by) if judged.by is not None else None
            if anchor_plan is not None and anchor_plan in self.plans:
                interval = self._beside(self.plans[plan], self.plans[anchor_plan])
                text = text_of({own[0]: self._choice_of(own) for own in plan})
                self.measure.recorded_accuracy(self.request.subject, text, interval)

    def decided(self) -> tuple[StoppedChoice, ...]:
        """The choices measured no further, in the order of the steps."""
        return tuple(
            StoppedChoice(key, *own, verdict.reason, verdict.rows)
            for key in self._keys
            for (of, own), verdict in self.choices.items()
            if of == key
        )

    def sure(self) -> dict[str, bool]:
        """By text, the plans that surely have the accuracy asked of the subject, or surely not."""
        subject = self.request.subject
        alone = [((own,), v.meets, v.short) for own, v in self.choices.items() if own[0] == subject]
        whole = [(plan, v.meets, v.short) for plan, v in self.plans_done.items()]
        return {
            assignment_text(dict(plan)): meets
            for plan, meets, short in [*alone, *whole]
            if meets or short
        }

    def saved(self) -> float:
        """Share of the rows of all choices and plans that was not needed."""
        seen = [
            series
            for key in self._keys
            for choice in self.makers(key)
            if (series := self.quality((key, made(choice)))).pieces
        ]
        seen += self.plans.values()
        sizes = [len(block.places) for block in self.measure.blocks]
        done = sum(sum(sizes[: len(series.pieces)]) for series in seen)
        every = self.measure.rows * len(seen)
        return 1.0 - done / every if every else 0.0

    def _beside(self, series: Series, anchor: Series) -> Interval:
        """A stopped series' estimate, see `calibrated`."""
        raw = series.interval(self.measure.level(series))
        return calibrated(raw, series, anchor, self.judge.alpha)

    def _choice_of(self, own: Own) -> Choice:
        """The choice on its first device."""
        return next(c for c in self.makers(own[0]) if made(c) == own[1])


def _added(sums: tuple[float, ...], numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Number by number, as far as both know them; the first ones are taken as they are."""
    return tuple(a + b for a, b in zip(sums, numbers, strict=False)) if sums else numbers
