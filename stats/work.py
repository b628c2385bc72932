"""The pieces of work of one ANALYZE, block after block, and what they found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain as chain_of
from itertools import product, zip_longest

from ..errors import RunError
from ..ir.models import Metric
from ..ir.physical import Cascade, Choice
from ..ir.types import ROW
from .blocks import Block
from .candidates import Candidates
from .cascading import CascadesMeasure
from .decide import Judge
from .detection import record_detection
from .end_to_end import Evaluator, Made, Truth, made, text_of, truth_of
from .joint_errors import JointErrorsMeasure
from .ladder import Policy, frugal
from .lineage import Chain, chain
from .measure import Measure
from .meter import Meter, Unaffordable
from .observation import Observation
from .outcomes import is_boolean
from .prefixes import Recall
from .recorder import Recorder
from .request import Pick, Request, base_assignment
from .runner import CannotRun
from .sequential import blocks
from .series import Series
from .strategy import Strategy
from .verdicts import Plan, Verdicts

MAX_ASSIGNMENTS = 64
"""Complete assignments (or pairs of choices) measured without asking which ones matter (ours)."""

Piece = tuple[str, Callable[[], None]]


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
        prefixes: Recall | None = None,
    ) -> None:
        self.request = request
        self.meter = meter
        self.strategy = strategy
        self.pick = pick
        self.observations = observations
        self.notes = notes
        self._prefixes = prefixes
        self.chain: Chain = chain(request.plan)
        self.candidates = Candidates(request, self.chain)
        self.step, self.choices = self.candidates.step, self.candidates.choices
        self.makers, self.reference = self.candidates.makers, self.candidates.reference
        self.plans: dict[Plan, Series] = {}
        self.cascades: dict[str, tuple[Cascade, ...]] = {}
        self._source = meter.scan(self.chain.scan).sort_by(ROW)
        self._batches: dict[tuple[str, Made], int] = {}
        self._truths: dict[int, Truth | None] = {}
        self._places = self._blocks()
        if strategy.ladders:
            policy = frugal(policy, request.aim.latency)
        record = Recorder(observations, meter.now, request.run, request.versions)
        self.measure = Measure(meter, record, policy, self.rows, len(self._places))
        self.joint = JointErrorsMeasure(self.measure, record)
        judge = Judge(strategy, request.aim.confidence or strategy.confidence)
        self.verdicts = Verdicts(
            request, self.chain, self.measure, judge, self.makers, self.plans, self.reference
        )

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
        )[: self.strategy.looks]

    def _open(self, look: int) -> None:
        """Let the measurements see the blocks up to this look's."""
        while len(self.measure.blocks) <= look:
            places = self._places[len(self.measure.blocks)]
            evaluator = Evaluator(
                self.chain, self.meter, self._source.take(places), self._batches,
                prefixes=self._prefixes,
            )  # fmt: skip
            self.measure.blocks.append(
                Block(evaluator, places, self.request.labels, self.request.clusters)
            )

    # What there is to measure

    def undecided(self, key: str, choice: Choice) -> bool:
        """Is it still worth measuring?"""
        own = (key, made(choice))
        return own not in self.verdicts.choices and own not in self.candidates.broken

    def pieces(self) -> list[Piece]:
        """All work, most needed first."""
        return [piece for look in range(len(self._places)) for piece in self._round(look)]

    def _round(self, look: int) -> Iterator[Piece]:
        """Everything on one more block."""
        keys = list(self.reference)

        def at(label: str, work: Callable[..., None], *given: object) -> Piece:
            def run() -> None:
                self._open(look)
                self._attempt(lambda: work(look, *given))

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
        last = look == len(self._places) - 1
        if last and look > 0:
            yield at("what was stopped too soon", self._resumed)
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
        if last:
            for first, second in self.request.dependences:
                for choice in self.makers(first):
                    label = f"{second}: errors together with {first} as {choice.variant}"
                    yield at(label, self._together, first, second, choice)
            for key in keys:
                metric = self.step(key).metric
                if metric is not None and is_boolean(self.chain.stage(key), metric):
                    yield at(f"{key}: precision and recall", self._detection, key, metric)
                if metric is not None and len(self.makers(key)) > 1:
                    yield at(f"{key}: cascades", self._cascades, key, metric)
        if self.request.metric is not None and self.request.subject not in keys:
            yield at("end to end", self._end_to_end)
        if self.strategy.early_stop and not last:
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
        """Ladder and quality of one choice, unless it is decided; a plan needs the first anyway."""
        own = (key, made(choice))
        if self.undecided(key, choice):
            self._run(key, choice)
        elif (*own, choice.device) in self.measure.unreached and own not in self.candidates.broken:
            self._time(key, choice)

    def _time(self, key: str, choice: Choice) -> None:
        """The ladder alone."""
        every = len(self.measure.blocks) == len(self._places)
        problem = self.measure.ladder(key, choice, self.candidates.ways(key, every=every))
        if problem is not None:
            self.notes.append(f"{key}: {choice.variant}: {problem}")

    def _resumed(self, look: int) -> None:
        """Measure to the end what the last rows show to have been stopped too soon."""
        while self._reopened(look):
            pass

    def _reopened(self, look: int) -> bool:
        """Take back what the open blocks contradict and measure those choices; was there any?"""
        stopped = list(self.verdicts.choices)
        found = self.verdicts.reopen()
        for key, how in stopped:
            if (key, how) not in self.verdicts.choices:
                for choice in [c for c in self.choices(key) if made(c) == how]:
                    self._choice(look, key, choice)
        return found

    def _run(self, key: str, choice: Choice) -> None:
        """On all open blocks."""
        step = self.step(key)
        first_device = next(c.device for c in self.choices(key) if made(c) == made(choice))
        is_reference = made(choice) == made(self.reference[key])
        self._time(key, choice)
        if choice.device != first_device:
            return
        self.measure.answers(key, choice, self.reference, refusable=not is_reference)
        why = self.measure.failed_by(key, choice)
        if why is not None:
            self.notes.append(f"{key}: {choice.variant}: rows failed, the first: {why}")
        problem = self.measure.untruthful(key, step.metric, step.base)
        if problem is not None:
            self.notes.append(f"{key}: {problem}")
        elif step.metric is not None:
            self.measure.quality(key, choice, self.reference, step.metric, step.base)

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do a piece of work; a choice that cannot run is noted, and the others go on."""
        left = [work]
        while left:
            try:
                left[-1]()
                left.pop()
            except CannotRun as ended:
                # A runner stopped from outside may report it as a failed run.
                self.meter.check()
                left += self._go_on_without(ended)

    def _go_on_without(self, ended: CannotRun) -> list[Callable[[], None]]:
        """Count a choice's failures; what takes its place, if it had one, is to be run first.

        Raises:
            CannotRun: none can, or nothing else says what is right.
        """
        key, choice = ended.stage.step, ended.stage.choice
        if (key, made(choice)) in self.candidates.broken:
            raise ended
        self.verdicts.choices.pop((key, made(choice)), None)
        self.notes.append(f"{key}: {choice.variant} cannot run: {ended.message}")
        self.measure.cannot_run(key, choice)
        instead = self.candidates.without(ended, self.undecided)
        if instead is None:
            return []
        self.notes.append(f"{key}: {instead.variant} takes its place")
        for below in [step for step, above in self.chain.ancestors.items() if key in above]:
            self.measure.forget(below)
        return [lambda: self._run(key, instead)] if self.undecided(key, instead) else []

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
                if self.verdicts.pair_matters((given, made(choice)), (key, made(own))):
                    self.measure.quality(key, own, assignment, step.metric, step.base, condition)

    def _kept(self, look: int, key: str, choice: Choice, above: Sequence[str]) -> None:
        """Quality of a replaced step on the rows where nothing replaced it."""
        step = self.step(key)
        if not self.undecided(key, choice) or step.metric is None:
            return
        if self.measure.untruthful(key, step.metric, step.base) is None:
            condition = (self.chain.stage(key).context, choice)
            assignment = {**self.reference, key: choice}
            self.measure.quality(key, choice, assignment, step.metric, step.base, condition, above)

    def _together(self, look: int, first: str, second: str, choice: Choice) -> None:
        """Errors of the second step together with those of a choice of the first.

        Beyond `MAX_ASSIGNMENTS` pairs, only those in which one step is at its reference. A choice
        that was stopped is taken as far as its answers are known: nothing is run for it.
        """
        others = self.makers(second)
        if len(self.makers(first)) * len(others) > MAX_ASSIGNMENTS:
            if made(choice) != made(self.reference[first]):
                others = others[:1]
            self.notes.append(f"{first} and {second}: not all pairs of choices were run together")
        for other in others:
            pair = (choice, other)
            open_ = self.undecided(first, choice) and self.undecided(second, other)
            try:
                problem = self.joint.pair(
                    self.step(first), self.step(second), pair, self.reference, run=open_
                )
            except RunError as error:
                self.meter.check()
                problem = f"{other.variant} after {choice.variant}: {error.message}"
            if problem is not None:
                self.notes.append(f"{first} and {second}: {problem}")

    def _detection(self, look: int, key: str, metric: Metric) -> None:
        """Precision and recall, from answers that are known."""
        base = self.step(key).base
        if self.measure.untruthful(key, metric, base) is None:
            for choice in self.makers(key):
                record_detection(self.measure, key, choice, self.reference, metric, base)

    def _cascades(self, look: int, key: str, metric: Metric) -> None:
        """Thresholds of cascades; what was stopped is run on all rows where one may need it."""
        base, confidence = self.step(key).base, self.step(key).confidence
        if confidence is None or confidence not in self.chain.stage(key).produce:
            return
        if self.measure.untruthful(key, metric, base) is not None:
            return
        level = self.request.aim.confidence or self.strategy.confidence
        found = CascadesMeasure(
            self.measure, key, metric, base, confidence, level, self.reference, self.makers(key)
        )
        decided = {c: self.verdicts.choices.get((key, made(c))) for c in found.choices}
        short = {choice for choice, verdict in decided.items() if verdict and verdict.short}
        prices = [found.price(c) for c, verdict in decided.items() if verdict and verdict.meets]
        enough = min((price for price in prices if price is not None), default=math.inf)
        for choice in found.lacking(short, self.strategy.zone, enough):
            try:
                self._run(key, choice)
            except Unaffordable as refused:
                self.notes.append(f"{key}: no cascade with {choice.variant}: {refused}")
            else:
                del self.verdicts.choices[key, made(choice)]
        self.cascades[key] = found.record()

    def _end_to_end(self, look: int) -> None:
        """Accuracy of complete assignments."""
        metric = self.request.metric
        if metric is None:
            return
        if self._truth(self.measure.blocks[0]) is None:
            self.notes.append("end to end: no label, and not every model has a BASE variant")
            return
        assignments = list(self._assignments(look))
        self._score_open(assignments, metric)
        while look == len(self._places) - 1 and self._reopened(look):
            self._score_open(assignments, metric)
        for assignment in self._cascaded():
            self._scored(assignment, metric)

    def _score_open(self, assignments: Sequence[Mapping[str, Choice]], metric: Metric) -> None:
        """Accuracy of those that are not decided, on the blocks that each lacks."""
        for assignment in assignments:
            plan = tuple((key, made(choice)) for key, choice in assignment.items())
            seen = self.plans.get(plan, Series())
            if plan in self.verdicts.plans_done or len(seen.pieces) == len(self.measure.blocks):
                continue
            scored = self._scored(assignment, metric)
            if scored is not None:
                self.plans[plan] = scored

    def _scored(self, assignment: Mapping[str, Choice], metric: Metric) -> Series | None:
        """A complete assignment's accuracy; None where it cannot run, which is noted."""
        try:
            return self.measure.accuracy(
                self.request.subject, assignment, metric, self._known_truth
            )
        except RunError as error:
            self.meter.check()
            self.notes.append(f"end to end: {text_of(assignment)}: {error.message}")
            return None

    def _cascaded(self) -> Iterator[Mapping[str, Choice]]:
        """Complete assignments with one cascade: their answers are put together from known ones.

        The cascades that save most first, as many as there are single assignments at most; none
        with a choice that was stopped, which would have to be run on the rows it was spared.
        """
        open_ = {
            key: [choice for choice in self.makers(key) if self.undecided(key, choice)]
            for key in self.reference
        }
        left = MAX_ASSIGNMENTS
        by_step = [[(key, each) for each in found] for key, found in self.cascades.items()]
        for key, cascade in filter(None, chain_of.from_iterable(zip_longest(*by_step))):
            if any((key, made(m)) in self.verdicts.choices for m in cascade.members):
                continue
            others = [[cascade] if other == key else open_[other] for other in self.reference]
            if math.prod(map(len, others)) > left:
                return
            left -= math.prod(map(len, others))
            for combination in product(*others):
                yield dict(zip(self.reference, combination, strict=True))

    def _truth(self, block: Block) -> Truth | None:
        """What is right end to end on a block's rows."""
        place = self.measure.blocks.index(block)
        if place not in self._truths:
            metric = self.request.metric
            assert metric is not None
            label = block.labels.get((self.request.subject, metric.output))
            base = base_assignment(self.reference, self.request.steps, self.makers)
            self._truths[place] = truth_of(block.evaluator, metric, label, base)
        return self._truths[place]

    def _known_truth(self, block: Block) -> Truth:
        truth = self._truth(block)
        assert truth is not None  # known on the first block, so on all
        return truth

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
        """End a round; killed from now on, it is not made again."""
        self.verdicts.decide()
        self.notes.extend(self.verdicts.violated.values())
        if self._prefixes is not None:
            self._prefixes.flush()
