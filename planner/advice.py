"""Advice given to the planner: it narrows what there is to choose, and every item is answered.

    matched      the step's choices were narrowed to what the item says
    not matched  the item names no step of this plan, or more than one
    impossible   the step has no such choice: unknown, excluded, or ruled out by an item before

An item that is not matched or impossible narrows nothing: it is reported, never dropped silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from ..ir.models import Scalar, scalar_text
from ..ir.physical import Cascade, Choice, Named
from ..ir.record import dataclass
from .explain.advice import cascade_words, matching_keys
from .problem import Allow, PlanProblem
from .steps import StepInfo

Outcome = Literal["matched", "not matched", "impossible"]
_ORDER = ("VARIANT", "CASCADE", "DEVICE", "BATCH")
"""Items are applied in this order: batch sizes are measured per variant and device."""


class Item(Protocol):
    """An item as it was read: its kind, a step, and what it asks for."""

    @property
    def kind(self) -> str:
        """`VARIANT`, `CASCADE`, `BATCH` or `DEVICE`."""
        ...

    @property
    def step(self) -> str:
        """A step's key or a suffix of it."""
        ...

    @property
    def values(self) -> tuple[Named, ...]:
        """A variant, members of a cascade with thresholds between them, sizes, or a device."""
        ...

    @property
    def text(self) -> str:
        """As written."""
        ...


@dataclass(frozen=True)
class Report:
    """What became of an item, and why."""

    item: str
    outcome: Outcome
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.item}: {self.outcome}" + (f", {self.reason}" if self.reason else "")


Excluded = Callable[[str, str], str | None]
"""(step key, full variant name) → why the variant cannot be planned there; None if unknown."""


def restrict(problem: PlanProblem, items: Sequence[Item]) -> tuple[Allow, tuple[Report, ...]]:
    """What `build_problem` should allow to follow the advice, and what became of every item.

    Args:
        problem: built without the advice: it knows every choice, and why others are not there.
        items: the advice.
    """
    options = {stage.step.key: stage.choices for stage in problem.stages}

    def excluded(key: str, variant: str) -> str | None:
        for item in problem.excluded:
            if item.key == key and item.variant == variant:
                return item.reason
        return None

    left, reports = narrow(options, items, excluded)
    kept = {key: frozenset(choices) for key, choices in left.items()}

    def allow(step: StepInfo, choice: Choice) -> str | None:
        return None if choice in kept.get(step.key, (choice,)) else "the advice asks for another"

    return allow, reports


def narrow(
    options: Mapping[str, Sequence[Choice]],
    items: Sequence[Item],
    excluded: Excluded = lambda key, variant: None,
) -> tuple[dict[str, tuple[Choice, ...]], tuple[Report, ...]]:
    """The choices left for every step, and a report for every item in the order given.

    Args:
        options: what there is to choose, by step key.
        items: the advice.
        excluded: tells why a variant is not among the options.
    """
    left = {key: tuple(choices) for key, choices in options.items()}
    reports: dict[int, Report] = {}
    ordered = sorted(range(len(items)), key=lambda place: _ORDER.index(items[place].kind))
    for place in ordered:
        item = items[place]
        keys = matching_keys(item.step, left)
        if len(keys) != 1:
            reports[place] = Report(item.text, "not matched", _which(item.step, keys, tuple(left)))
            continue
        (key,) = keys
        kept = tuple(choice for choice in left[key] if fits(choice, item))
        if kept:
            left[key] = kept
            reports[place] = Report(item.text, "matched")
        else:
            reason = _why(key, item, left[key], excluded)
            reports[place] = Report(item.text, "impossible", reason)
    return left, tuple(reports[place] for place in range(len(items)))


def fits(choice: Choice, item: Item) -> bool:
    """Does a choice agree with an item? Knobs that the item does not name may be anything."""
    match item.kind:
        case "VARIANT":
            return not isinstance(choice, Cascade) and _is_variant(choice, item.values[0])
        case "CASCADE":
            return isinstance(choice, Cascade) and _is_cascade(choice, item.values)
        case "BATCH":
            sizes = [str(member.batch) for member in choice.members]
            return sizes[: len(item.values)] == [value.word for value in item.values]
        case _:
            return choice.device == item.values[0].word


def _is_variant(choice: Choice, named: Named) -> bool:
    """Is it the variant named, with the knobs that are? Others may be anything."""
    knobs = dict(choice.knobs)
    return names_variant(choice.variant, named.word) and all(
        knob in knobs and same_value(knobs[knob], text) for knob, text in named.knobs
    )


def _is_cascade(choice: Cascade, values: Sequence[Named]) -> bool:
    """Are its members and thresholds those named? A threshold left out may be any."""
    members: list[Named] = []
    thresholds: dict[int, float] = {}
    for value in values:
        if _is_number(value.word):
            thresholds[len(members) - 1] = float(value.word)
        else:
            members.append(value)
    return len(members) == len(choice.members) and all(
        (place not in thresholds or thresholds[place] == choice.thresholds[place])
        and _is_variant(member, named)
        for place, (member, named) in enumerate(zip(choice.members, members, strict=True))
    )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def names_variant(full_name: str, text: str) -> bool:
    """`classify.forest` or `forest` for `classify.forest`."""
    return text in (full_name, full_name.partition(".")[2])


def same_value(value: Scalar, text: str) -> bool:
    """Is this the knob's value, written as SQL or bare?"""
    if text in (scalar_text(value), str(value)):
        return True
    if isinstance(value, bool) or value is None:
        return text.upper() == scalar_text(value)
    if isinstance(value, (int, float)):
        try:
            return float(text) == value
        except ValueError:
            return False
    return False


def _which(step: str, keys: tuple[str, ...], steps: tuple[str, ...]) -> str:
    if keys:
        return f"{step} may be {' or '.join(keys)}"
    return f"no step is called {step}; there are {', '.join(steps)}"


def _why(key: str, item: Item, left: Sequence[Choice], excluded: Excluded) -> str:
    """Why no choice of the step agrees."""
    named = item.values[0]
    first = named.word
    match item.kind:
        case "VARIANT":
            if named.knobs and any(names_variant(choice.variant, first) for choice in left):
                return f"{first} has no such knobs here"
            model = left[0].variant.partition(".")[0] if left else ""
            full = first if "." in first else f"{model}.{first}"
            return excluded(key, full) or f"{key} has no variant {full}"
        case "BATCH":
            sizes = sorted({choice.members[0].batch for choice in left})
            return f"measured batch sizes are {', '.join(map(str, sizes))}"
        case "CASCADE":
            return _why_no_cascade(key, item, [c for c in left if isinstance(c, Cascade)])
        case _:
            return f"it can run on {', '.join(sorted({choice.device for choice in left}))}"


def _why_no_cascade(key: str, item: Item, left: Sequence[Cascade]) -> str:
    """Which thresholds there are of these members, else which members, else why there are none."""
    if not left:
        return (
            f"no cascade is measured of {key}: ANALYZE measures those that pay, of models with "
            "QUALITY and CONFIDENCE"
        )
    members = [value for value in item.values if not _is_number(value.word)]
    same = [choice for choice in left if _is_cascade(choice, members)]
    known = dict.fromkeys(
        cascade_words(choice) if same else ", ".join(m.variant for m in choice.members)
        for choice in same or left
    )
    return f"those measured are {'; '.join(known)}"
