"""Histories of searches: which plans a query profiled, and what was seen of each.

A search of another query over shared models starts from them. Options are kept by name, since
another query's places mean nothing here; dims are kept by option, quality by plan. What a variant
did with other files than it has now counts no more than what an earlier definition of it did.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field, replace
from datetime import datetime

from ..ir.physical import Choice
from ..ir.record import dataclass

OTHER_FILES = 0
"""The version, which no definition has, of a variant that had other files when it was seen."""


@dataclass(frozen=True)
class Signature:
    """What a space of plans is made of.

    Attributes:
        stages: the model of each, in topological order.
        edges: (parent, stage) places; stages that read the query's rows have no parent.
        variants: full names of all that could have been chosen, told apart by definition.
        devices: likewise.
    """

    stages: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    variants: frozenset[str]
    devices: frozenset[str]

    @property
    def models(self) -> frozenset[str]:
        """Those called."""
        return frozenset(self.stages)


@dataclass(frozen=True)
class Option:
    """An option that was profiled: `dims` are the means of its stage's values per row."""

    choice: Choice
    dims: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenPlan:
    """A plan that was profiled on `n` rows: the mean and variance of its score.

    `options` are places in the `History.options` of each stage.
    """

    options: tuple[int, ...]
    n: int
    mean: float
    variance: float


@dataclass(frozen=True)
class History:
    """One search: `options` by stage are those profiled, `slo` its text.

    Attributes:
        subject: the model or pipeline that was analyzed; None: nobody noted it.
        at: when it was kept; None: it was not yet.
        run: the ANALYZE that it comes from; None: nobody noted it.
        changed: variants that have other files since; their options have the version `OTHER_FILES`.
    """

    signature: Signature
    slo: str
    options: tuple[tuple[Option, ...], ...]
    plans: tuple[SeenPlan, ...]
    subject: str | None = None
    at: datetime | None = field(default=None, compare=False)
    run: int | None = field(default=None, compare=False)
    changed: tuple[str, ...] = field(default=(), compare=False)

    def without(self, changed: Collection[str]) -> History:
        """The same where these variants (any case) have other files: none of theirs counts."""
        gone = {name.lower() for name in changed}
        seen = {option.choice.variant for stage in self.options for option in stage}
        signature = replace(
            self.signature,
            variants=frozenset(
                name for name in self.signature.variants if name.split("#")[0].lower() not in gone
            ),
        )
        options = tuple(
            tuple(
                replace(option, choice=option.choice.replace(version=OTHER_FILES))
                if option.choice.variant.lower() in gone
                else option
                for option in stage
            )
            for stage in self.options
        )
        names = tuple(sorted(name for name in seen if name.lower() in gone))
        return replace(self, signature=signature, options=options, changed=names)
