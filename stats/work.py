"""The pieces of work of one ANALYZE, block after block, and what they found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product, zip_longest

from ..errors import RunError
from ..ir.physical import Choice
from ..ir.types import ROW
from .blocks import Block
from .decide import Costs, Judge, Verdict, final
from .end_to_end import Evaluator, Made, Truth, made, text_of, truth_of
from .intervals import Interval
from .ladder import Policy, frugal
from .lineage import Chain, chain
from .measure import Measure
from .meter import Meter
from .observation import Observation
from .recorder import Recorder
from .request import Pick, ProfiledStep, Request
from .sequential import blocks
from .series import Series, calibrated, paired
from .strategy import StoppedChoice, Strategy

MAX_ASSIGNMENTS = 64
"""Complete assignments (or pairs of choices) measured without asking which ones matter (ours)."""

Piece = tuple[str, Callable[[], None]]

Own = tuple[str, Made]
"""A step and how it is made."""

Plan = tuple[Own, ...]
"""A complete assignment: how every step is made, in the order of the steps."""


class Work:
    """Everything to be done, most needed first, and what is known so far."""

    def __init__(
        self,
        request: Request,
        meter: Meter,
        policy: Policy,
        strategy: Strategy,
        pick: Pick | None,
        observations: list[Observation],
        notes: list[str],
    ) -> None:
        self.request = request
        self.meter = meter
        self.strategy = strategy
        self.pick = pick
        self.observations = observations
        self.notes = notes
        self.chain: Chain = chain(request.plan)
        self.reference = {stage.step: stage.choice for stage in self.chain.stages}
        self.broken: set[tuple[str, Made]] = set()
        self.choices_done: dict[Own, Verdict[Own]] = {}
        self.plans_done: dict[Plan, Verdict[Plan]] = {}
        self.plans: dict[Plan, Series] = {}
        self.judge = Judge(strategy, request.aim.confidence or strategy.confidence)
        self._source = meter.scan(self.chain.scan).sort_by(ROW)
        self._batches: dict[tuple[str, Made], int] = {}
        self._truths: dict[int, Truth | None] = {}
        self._places = self._blocks()
        if strategy.ladders:
            policy = frugal(policy, request.aim.latency)
        record = Recorder(observations, meter.now, request.run, request.versions)
        self.measure = Measure(meter, record, policy, self.rows, len(self._places))

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return int(self._source.num_rows)

    def _blocks(self) -> list[list[int]]:
        """Positions of the rows looked at together: all at once unless stopping early."""
        if not self.strategy.early_stop or not self.rows:
            return [list(range(self.rows))]
        return blocks(
            self.request.strata if self.strategy.stratify else None,
            self.rows,
            self.request.clusters,
            self.strategy.first_block,
            self.strategy.growth,
            self.strategy.seed,
        )

    def _open(self, look: int) -> None:
        """Let the measurements see the blocks up to this look's."""
        while len(self.measure.blocks) <= look:
            places = self._places[len(self.measure.blocks)]
            evaluator = Evaluator(
                self.chain, self.meter, self._source.take(places), self._batches,
                remember=self.strategy.reuse,
            )  # fmt: skip
            self.measure.blocks.append(
                Block(evaluator, places, self.request.labels, self.request.clusters)
            )

    # What there is to measure

    def step(self, key: str) -> ProfiledStep:
        """What the request says of a step."""
        return self.request.steps.get(key) or ProfiledStep(key)

    def choices(self, key: str) -> tuple[Choice, ...]:
        """The reference first, then the others, each once."""
        found: dict[tuple[Made, str], Choice] = {}
        for choice in (self.reference[key], *self.request.choices.get(key, ())):
            found.setdefault((made(choice), choice.device), choice)
        return tuple(found.values())

    def makers(self, key: str) -> tuple[Choice, ...]:
        """The choices that may answer differently, as far as they are known to run."""
        found: dict[Made, Choice] = {}
        for choice in self.choices(key):
            if (key, made(choice)) not in self.broken:
                found.setdefault(made(choice), choice)
        return tuple(found.values())

    def undecided(self, key: str, choice: Choice) -> bool:
        """Is it still worth measuring?"""
        own = (key, made(choice))
        return own not in self.choices_done and own not in self.broken

    def pieces(self) -> list[Piece]:
        """All work, most needed first."""
        return [piece for look in range(len(self._places)) for piece in self._round(look)]

    def _round(self, look: int) -> Iterator[Piece]:
        """Everything on one more block."""
        keys = list(self.reference)

        def at(label: str, work: Callable[..., None], *given: object) -> Piece:
            def run() -> None:
                self._open(look)
                work(look, *given)

            return label, run

        for key in keys:
            yield at(f"{key}: inputs", self._inputs, key)
            yield at(
                self._label(key, self.choices(key)[0]), self._choice, key, self.choices(key)[0]
            )
        for others in zip_longest(*(self.choices(key)[1:] for key in keys)):
            for key, choice in zip(keys, others, strict=True):
                if choice is not None:
                    yield at(self._label(key, choice), self._choice, key, choice)
        for key in keys:
            given = self.step(key).given
            for choice in self.makers(given) if given in self.reference else ():
                label = f"{key}: when {given} is {choice.variant}"
                yield at(label, self._condition, key, given, choice)
        for key in keys:
            above = [other for other in keys if key in self.step(other).instead_of]
            for choice in self.makers(key) if above else ():
                label = f"{key}: {choice.variant} where it is not replaced"
                yield at(label, self._kept, key, choice, above)
        if self.request.metric is not None and self.request.subject not in keys:
            yield at("end to end", self._end_to_end)
        if self.strategy.early_stop and look < len(self._places) - 1:
            yield at("what is decided", self._decide)

    @staticmethod
    def _label(key: str, choice: Choice) -> str:
        variant, knobs = made(choice)
        return f"{key}: {variant}" + (f" ({knobs})" if knobs else "") + f" on {choice.device}"

    # Single pieces

    def _inputs(self, look: int, key: str) -> None:
        self.measure.rate(key, self.reference)
        if look in (0, len(self._places) - 1):
            self.measure.inputs(key, self.reference)

    def _choice(self, look: int, key: str, choice: Choice) -> None:
        """Ladder and quality of one choice; a choice that cannot run is noted, not fatal."""
        if not self.undecided(key, choice):
            return
        step = self.step(key)
        first_device = next(c.device for c in self.choices(key) if made(c) == made(choice))
        is_reference = made(choice) == made(self.reference[key])
        try:
            problem = self.measure.ladder(key, choice, self.reference)
            if problem is not None:
                self.notes.append(f"{key}: {choice.variant}: {problem}")
            if choice.device == first_device:
                self.measure.answers(key, choice, self.reference, refusable=not is_reference)
                problem = self.measure.untruthful(key, step.metric, step.base)
                if problem is not None:
                    self.notes.append(f"{key}: {problem}")
                elif step.metric is not None:
                    self.measure.quality(key, choice, self.reference, step.metric, step.base)
        except RunError as error:
            # A runner stopped from outside may report it as a failed run.
            self.meter.check()
            if is_reference:
                raise
            self.broken.add((key, made(choice)))
            self.notes.append(f"{key}: {choice.variant} cannot run: {error.message}")
            self.measure.broken(key, choice)

    def _condition(self, look: int, key: str, given: str, choice: Choice) -> None:
        """One conditioning choice: the rate under it, and what this step is worth there."""
        if not self.undecided(given, choice):
            return
        step = self.step(key)
        assignment = {**self.reference, given: choice}
        condition = (self.chain.stage(given).context, choice)
        self.measure.rate(key, assignment, condition)
        few = len(self.makers(given)) * len(self.makers(key)) <= MAX_ASSIGNMENTS
        if step.metric is None or self.measure.untruthful(key, step.metric, step.base):
            return
        if few or made(choice) == made(self.reference[given]):
            for own in self.makers(key):
                if self._pair_matters((given, made(choice)), (key, made(own))):
                    self.measure.quality(key, own, assignment, step.metric, step.base, condition)

    def _pair_matters(self, *pair: tuple[str, Made]) -> bool:
        """Is there an undecided plan with both, or none known yet?"""
        if any(one in self.choices_done for one in pair):
            return False
        with_both = [plan for plan in self.plans if set(pair) <= set(plan)]
        return not with_both or any(plan not in self.plans_done for plan in with_both)

    def _kept(self, look: int, key: str, choice: Choice, above: Sequence[str]) -> None:
        """Quality of a replaced step on the rows where nothing replaced it."""
        step = self.step(key)
        if not self.undecided(key, choice) or step.metric is None:
            return
        if self.measure.untruthful(key, step.metric, step.base) is None:
            condition = (self.chain.stage(key).context, choice)
            assignment = {**self.reference, key: choice}
            self.measure.quality(key, choice, assignment, step.metric, step.base, condition, above)

    def _end_to_end(self, look: int) -> None:
        """Accuracy of complete assignments."""
        metric = self.request.metric
        if metric is None:
            return
        if self._truth(self.measure.blocks[0]) is None:
            self.notes.append("end to end: no label, and not every model has a BASE variant")
            return
        for assignment in self._assignments(look):
            plan = tuple((key, made(choice)) for key, choice in assignment.items())
            if plan in self.plans_done:
                continue
            try:
                self.plans[plan] = self.measure.accuracy(
                    self.request.subject, assignment, metric, self._known_truth
                )
            except RunError as error:
                self.meter.check()
                self.notes.append(f"end to end: {text_of(assignment)}: {error.message}")

    def _truth(self, block: Block) -> Truth | None:
        """What is right end to end on a block's rows."""
        place = self.measure.blocks.index(block)
        if place not in self._truths:
            metric = self.request.metric
            assert metric is not None
            label = block.labels.get((self.request.subject, metric.output))
            self._truths[place] = truth_of(block.evaluator, metric, label, self._base())
        return self._truths[place]

    def _known_truth(self, block: Block) -> Truth:
        truth = self._truth(block)
        assert truth is not None  # known on the first block, so on all
        return truth

    def _base(self) -> dict[str, Choice] | None:
        """The assignment of BASE variants; a step with one way to compute it is its own base."""
        found: dict[str, Choice] = {}
        for key in self.reference:
            base = self.step(key).base
            only = self.makers(key)
            if base is None and len(only) != 1:
                return None
            found[key] = base if base is not None else only[0]
        return found

    def _assignments(self, look: int) -> Iterator[Mapping[str, Choice]]:
        """All complete assignments while they are few, else (on all rows) the picked ones."""
        keys = list(self.reference)
        makers = [self.makers(key) for key in keys]
        if math.prod(len(options) for options in makers) <= MAX_ASSIGNMENTS:
            for combination in product(*makers):
                yield dict(zip(keys, combination, strict=True))
            return
        if look < len(self._places) - 1:
            return
        if self.pick is None:
            yield self.reference
            self.notes.append("end to end: only the reference; there are too many assignments")
            return
        picked = self.pick(tuple(self.observations))
        yield from ({key: choices[key] for key in keys} for choices in picked[:MAX_ASSIGNMENTS])
        if len(picked) > MAX_ASSIGNMENTS:
            self.notes.append(f"end to end: {len(picked) - MAX_ASSIGNMENTS} picked were left out")

    # What is decided

    def _decide(self, look: int) -> None:
        """Stop what the blocks so far have decided."""
        for key in self.reference:
            for choice in self.makers(key):
                verdict = self._judged(key, choice) if self.undecided(key, choice) else None
                if verdict is not None:
                    self.choices_done[key, made(choice)] = verdict
        for plan in self.plans:
            if plan not in self.plans_done:
                judged = self._judged_plan(plan)
                if judged is not None:
                    self.plans_done[plan] = judged
        for key in self.reference:
            for choice in self.makers(key):
                own = (key, made(choice))
                holding = [plan for plan in self.plans if own in plan]
                if own in self.choices_done or not holding:
                    continue
                if all(plan in self.plans_done for plan in holding):
                    reasons = {self.plans_done[plan].reason for plan in holding}
                    why = reasons.pop() if len(reasons) == 1 else "decided"
                    self.choices_done[own] = Verdict(f"every plan with it is {why}", self._seen())
        self.settle()

    def _seen(self) -> int:
        """Rows in the open blocks."""
        return sum(len(block.places) for block in self.measure.blocks)

    def _judged(self, key: str, choice: Choice) -> Verdict[Own] | None:
        """Why a choice is decided, if it is."""
        own = (key, made(choice))
        seen = self._quality(own)
        reason = self.judge.failing(self.measure.failures(key, choice, self.reference))
        if reason is None and seen.scores:
            reason = self._missed(key, seen)
        if reason is not None:
            return Verdict(reason, self._seen())
        rivals = [
            (key, made(other))
            for other in self.makers(key)
            if made(other) != made(choice) and self.undecided(key, other)
        ]
        by = self.judge.dominator(
            own, rivals, self._quality, lambda other: self.measure.costs(*other)
        )
        if by is None:
            return None
        variant, knobs = by[1]
        name = variant + (f" ({knobs})" if knobs else "")
        return Verdict(f"dominated by {name}", self._seen(), by)

    def _quality(self, own: Own) -> Series:
        """Scores of a step under the reference choices below it."""
        return self.measure.series.get(("quality", *own, None)) or Series()

    def _missed(self, key: str, seen: Series) -> str | None:
        """What an SLO on the model, or on the subject that the step is, says of a choice."""
        aim = self.request.aim
        model = self.chain.stage(key).model
        asked = dict(aim.models).get(model)
        if asked is not None:
            reason = self.judge.against(seen, asked, above=False, below=True)
            if reason is not None:
                return reason
        if aim.accuracy is None or key != self.request.subject:
            return None
        above = not aim.maximize_accuracy
        return self.judge.against(seen, aim.accuracy, above=above, below=True)

    def _judged_plan(self, plan: Plan) -> Verdict[Plan] | None:
        """Why a plan is decided, if it is."""
        for own in plan:
            verdict = self.choices_done.get(own)
            if verdict is not None:
                better = verdict.by
                by = None
                if better is not None:
                    by = tuple(better if part == own else part for part in plan)
                return Verdict(verdict.reason, self._seen(), by)
        aim = self.request.aim
        if aim.accuracy is not None:
            above = not aim.maximize_accuracy
            reason = self.judge.against(self.plans[plan], aim.accuracy, above=above, below=True)
            if reason is not None:
                return Verdict(reason, self._seen())
        rivals = [other for other in self.plans if other != plan and other not in self.plans_done]
        by_plan = self.judge.dominator(plan, rivals, self.plans.__getitem__, self._plan_costs)
        return None if by_plan is None else Verdict("dominated", self._seen(), by_plan)

    def _plan_costs(self, plan: Plan) -> Costs:
        """By device, all steps on it: seconds of single calls in a row, and what a row takes."""
        parts = []
        for key, own in plan:
            given = self.step(key).given
            below = next((o for k, o in plan if k == given), None)
            share = self.measure.runs_on(key, given, below)
            parts.append((self.measure.costs(key, own), share))
        devices = set.intersection(*(set(costs) for costs, _ in parts)) if parts else set()
        found: dict[str, tuple[float, ...]] = {}
        for device in devices:
            single = sum(costs[device][0] for costs, _ in parts)
            sums = [
                sum(share * costs[device][place] for costs, share in parts)
                for place in range(1, min(len(costs[device]) for costs, _ in parts))
            ]
            found[device] = (single, *sums)
        return found

    # What is said of it

    def settle(self) -> None:
        """Record what was stopped beside what was not, on the rows both saw."""
        for own, verdict in self.choices_done.items():
            series = self._quality(own)
            if verdict.by is not None and series.scores:
                anchor = self._quality(final(self.choices_done, verdict.by))
                interval = self._beside(series, anchor)
                self.measure.recorded_quality(own[0], self._choice_of(own), series, interval)
        for plan, judged in self.plans_done.items():
            anchor_plan = judged.by and final(self.plans_done, judged.by)
            if anchor_plan in self.plans:
                interval = self._beside(self.plans[plan], self.plans[anchor_plan])
                text = text_of({own[0]: self._choice_of(own) for own in plan})
                self.measure.recorded_accuracy(self.request.subject, text, interval)

    def _beside(self, series: Series, anchor: Series) -> Interval:
        """A stopped series' estimate, see `calibrated`."""
        raw = series.interval(self.measure.level(series))
        differences, _ = paired(series, anchor)
        if not len(differences):
            return raw
        return calibrated(raw, float(differences.mean()), anchor.interval().value)

    def _choice_of(self, own: Own) -> Choice:
        """The choice on its first device."""
        return next(c for c in self.makers(own[0]) if made(c) == own[1])

    def decided(self) -> tuple[StoppedChoice, ...]:
        """The choices measured no further, in the order of the steps."""
        return tuple(
            StoppedChoice(key, *own, verdict.reason, verdict.rows)
            for key in self.reference
            for (of, own), verdict in self.choices_done.items()
            if of == key
        )

    def saved(self) -> float:
        """Share of the rows of all choices and plans that was not needed."""
        targets = [
            self._quality((key, made(choice)))
            for key in self.reference
            for choice in self.makers(key)
            if self._quality((key, made(choice))).pieces
        ]
        targets += self.plans.values()
        if not targets:
            return 0.0
        sizes = [len(places) for places in self._places]
        done = sum(sum(sizes[: len(seen.pieces)]) for seen in targets)
        return 1.0 - done / (self.rows * len(targets)) if self.rows else 0.0
