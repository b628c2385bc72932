"""The choices of every step: which can run, and which one answers where others are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..ir.physical import Choice
from .end_to_end import Made, made
from .lineage import Chain
from .request import ProfiledStep, Request
from .runner import CannotRun


class Candidates:
    """What there is to measure of a request.

    `reference` holds by step key the choice whose answers later steps read while they are measured
    themselves: the plan's own, until it cannot run. `broken` are the choices that cannot.
    """

    def __init__(self, request: Request, chain: Chain) -> None:
        self.request = request
        self.reference = {stage.step: stage.choice for stage in chain.stages}
        self.broken: set[tuple[str, Made]] = set()

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

    def ways(self, key: str, *, every: bool) -> Iterator[dict[str, Choice]]:
        """The reference; then, where `every` one is asked for, with each conditioning choice."""
        yield self.reference
        given = self.step(key).given
        if every and given in self.reference:
            yield from ({**self.reference, given: choice} for choice in self.makers(given))

    def without(self, ended: CannotRun, undecided: Callable[[str, Choice], bool]) -> Choice | None:
        """Leave out a choice that cannot run; what takes its place, if it was the reference.

        One that is still `undecided` is taken first: it is measured on all rows anyway.

        Raises:
            CannotRun: none is left, or nothing else says what is right.
        """
        key, choice = ended.stage.step, ended.stage.choice
        self.broken.add((key, made(choice)))
        others = self.makers(key)
        if not others or self._is_truth(key, choice):
            raise ended
        if made(self.reference[key]) != made(choice):
            return None
        self.reference[key] = max(others, key=lambda other: undecided(key, other))
        return self.reference[key]

    def _is_truth(self, key: str, choice: Choice) -> bool:
        """Does what the choice answers say what is right, at its step or end to end?"""
        base = self.step(key).base
        if base is None or made(base) != made(choice):
            return False
        scored = ((key, self.step(key).metric), (self.request.subject, self.request.metric))
        return any(
            metric is not None and (of, metric.output) not in self.request.labels
            for of, metric in scored
        )
