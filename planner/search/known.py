"""The exact search behind the protocol: for spaces of which all that is asked is known.

There is nothing to profile, so `ask` proposes nothing; incumbent and frontier are those of `exact`
and `frontier` over the same plans as a `Problem`. Transfers depend on the devices at both ends of
an edge, which a stage's table takes as entries that depend on its parent's class:

- a stage that waits for one other has the transfer in its own entry;
- one that waits for several, over links of their own, becomes a stage that chooses and takes no
  time, one per edge that takes the transfer, and one that waits for all of these and takes the
  chosen option's time.

A row is alone in the protocol's path dims: every stage has a slot of its own.

Equally good plans are told apart as everywhere, by `objectives.TIES`, as far as these are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import PlanError
from ...ir.record import dataclass, field
from ...ir.slo import Slo
from ..objectives import TIES, goal_of, limits_of
from .exact import Infeasible, solve
from .frontier import frontier
from .learned.settings import asked
from .protocol import LOSS, SOURCE, Candidate, Evaluation, Proposal, Space, StageOptions
from .table import Assignment, Limit, Problem, StageTable

_Links = Mapping[int, tuple[tuple[float, ...], ...]]
"""Parent → seconds `[from device][to device]`."""


class KnownSearch:
    """`PlanSearch` where the catalog knows every option in every dim asked.

    Values known are taken as they are: a plan meets the SLO or does not, and what is told of one
    changes nothing. `frontier` is exact as long as labels stay few, beyond that within the factor
    of `frontier.frontier`.

    Args:
        space: the plans; `StageOptions.known` has every option's value of every dim asked, `loss`
            for accuracy.
        slo: limits on accuracy and on the space's dims; the objective is one of them.

    Raises:
        PlanError: OC0310, something asked is not known of an option; OC0311, the SLO asks for
            something the space has no dim for, or for something of one model.
    """

    def __init__(self, space: Space, slo: Slo) -> None:
        self.space, self.slo = space, slo
        outcomes = asked(space, slo).outcomes
        _check_slo(slo)
        _check(space, outcomes)
        self._outcomes = outcomes
        ties = _ties(space)
        self._tables = _Tables(space, outcomes, ties)
        stages = tuple(self._tables.found)
        self._problem = Problem(
            stages,
            (1,) * len(stages),
            limits_of(slo, (), stages),
            goal_of(slo, (), stages),
            tuple(dim for dim in space.paths if dim in outcomes),
            ties=tuple(ties),
        )

    def ask(self) -> Proposal | None:
        """See `PlanSearch`: nothing, all is known."""
        return None

    def tell(self, evaluation: Evaluation) -> None:
        """See `PlanSearch`: what is known stands."""

    def incumbent(self) -> Candidate | None:
        """See `PlanSearch`: a proven optimum; None where no plan meets the SLO."""
        found = solve(self._problem, explain=False)
        return None if isinstance(found, Infeasible) else self._candidate(found.assignment)

    def frontier(self) -> tuple[Candidate, ...]:
        """See `PlanSearch`: those that meet the SLO first, each part by the objective."""
        goal = self._problem.goal.terms[0]
        objectives = (goal, *(dim for dim in self._outcomes if dim != goal))
        points = frontier(self._problem, 0.0, objectives).points
        found = [self._candidate(point.assignment) for point in points]
        return tuple(sorted(found, key=lambda candidate: -candidate.feasible))

    def state(self) -> dict[str, Any]:
        """See `PlanSearch`: nothing beyond the space and the SLO."""
        return {}

    def _candidate(self, assignment: Assignment) -> Candidate:
        values = {dim: self._problem.value(dim, assignment) for dim in self._outcomes}
        meets = all(_meets(limit, values) for limit in self._problem.limits)
        metrics = {dim: value for dim, value in values.items() if dim != LOSS}
        if LOSS in values:
            metrics["accuracy"] = math.exp(-values[LOSS])
        plan = tuple(assignment[place] for place in self._tables.chooses)
        return Candidate(plan, metrics, float(meets), 0)


def _meets(limit: Limit, values: Mapping[str, float]) -> bool:
    return all(values[dim] <= limit.bound for dim in limit.terms)


def _ties(space: Space) -> dict[str, tuple[str, ...]]:
    """The dims that decide between equally good plans, as sums of the space's; those known."""
    parts = {tie: tuple(dim for dim in space.sums if dim.partition(":")[0] == tie) for tie in TIES}
    return {tie: dims for tie, dims in parts.items() if dims and _all_known(space, dims)}


def _all_known(space: Space, dims: Sequence[str]) -> bool:
    return all(
        dim in stage.known and None not in stage.known[dim]
        for stage in space.stages
        for dim in dims
    )


def _check_slo(slo: Slo) -> None:
    """Is it of whole plans?"""
    for constraint in slo.constraints:
        if constraint.model is not None:
            raise PlanError(
                f"{constraint.metric} of {constraint.model} alone: only whole plans are searched",
                code="OC0311",
                hint="leave out the options that miss it",
            )


def _check(space: Space, outcomes: Sequence[str]) -> None:
    """Is everything known?"""
    for stage in space.stages:
        for dim in outcomes:
            known = stage.known.get(dim, (None,) * len(stage.options))
            for option, value in zip(stage.options, known, strict=True):
                if value is None:
                    what = "accuracy" if dim == LOSS else dim
                    raise PlanError(
                        f"the {what} of {option} at {stage.key} is not known, so no plan can be "
                        "proved best",
                        code="OC0310",
                        hint="ANALYZE its model, or search by profiling plans",
                    )


@dataclass
class _Tables:
    """Tables of a space's stages.

    Attributes:
        found: in topological order.
        chooses: by stage of the space, the table that chooses its option.
        ends: by stage of the space, the table that ends when it is done.
    """

    space: Space
    outcomes: tuple[str, ...]
    ties: Mapping[str, tuple[str, ...]]
    found: list[StageTable] = field(default_factory=list)
    chooses: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Stage after stage."""
        self.paths = [dim for dim in self.space.paths if dim in self.outcomes]
        self._devices: list[tuple[int, ...]] = []
        for place, stage in enumerate(self.space.stages):
            links = {
                parent: self.space.transfers[parent, place]
                for parent in stage.parents
                if self.paths and (parent, place) in self.space.transfers
            }
            if links and len(stage.parents) > 1:
                self._apart(place, stage, links)
            else:
                self._alone(place, stage, links)

    def _alone(self, place: int, stage: StageOptions, links: _Links) -> None:
        """One table, its transfer in its own entries."""
        table = self._choosing(place, stage, self._by_device(stage))
        waits = tuple(self.ends[parent] for parent in stage.parents if parent != SOURCE)
        given: tuple[int, ...] = ()
        rows = dict(table.rows)
        for parent, link in links.items():
            given = () if parent == SOURCE else (self.chooses[parent],)
            origins, here = self._origins(parent), self._devices[place]
            for dim, (own,) in table.rows.items():
                if dim in self.paths:
                    rows[dim] = tuple(
                        tuple(v + link[origin][to] for v, to in zip(own, here, strict=True))
                        for origin in origins
                    )
                else:
                    rows[dim] = (own,) * len(origins)
        self._ended(replace(table, parents=waits, given=given, rows=rows))

    def _apart(self, place: int, stage: StageOptions, links: _Links) -> None:
        """Tables that choose, transfer, and take the time."""
        by_itself = tuple(range(len(stage.options)))
        table = self._choosing(place, stage, by_itself)
        own = {dim: table.rows[dim][0] for dim in self.paths}
        rows = {dim: row for dim, row in table.rows.items() if dim not in own}
        self.found.append(replace(table, rows=rows))
        chooses = self.chooses[place]
        waits: list[int] = []
        for parent in stage.parents:
            before = () if parent == SOURCE else (self.ends[parent],)
            if parent not in links:
                waits += before
                continue
            given = (*(() if parent == SOURCE else (self.chooses[parent],)), chooses)
            moved = tuple(
                (links[parent][origin][device],)
                for origin in self._origins(parent)
                for device in self._devices[place]
            )
            waits.append(len(self.found))
            self._single(f"{stage.key} from {parent}", before, given, dict.fromkeys(own, moved))
        self._single(
            f"{stage.key} itself",
            tuple(waits),
            (chooses,),
            {dim: tuple((value,) for value in values) for dim, values in own.items()},
        )
        self.ends.append(len(self.found) - 1)

    def _single(
        self,
        key: str,
        parents: tuple[int, ...],
        given: tuple[int, ...],
        rows: dict[str, tuple[tuple[float, ...], ...]],
    ) -> None:
        """A table of one option, nothing in the sum dims."""
        count = len(next(iter(rows.values())))
        dims = (*self.outcomes, *self.ties)
        nothing = {dim: ((0.0,),) * count for dim in dims if dim not in rows}
        self.found.append(
            StageTable(key, 1, (0,), (len(self.found),), parents, given, nothing | rows)
        )

    def _choosing(self, place: int, stage: StageOptions, classes: tuple[int, ...]) -> StageTable:
        """The table of a stage's options as they are known."""
        names = self.space.devices
        self._devices.append(tuple(names.index(option.device) for option in stage.options))
        self.chooses.append(len(self.found))
        sums = {**self.ties, **{dim: (dim,) for dim in self.outcomes}}
        rows = {
            dim: (tuple(map(sum, zip(*(_floats(stage, part) for part in parts), strict=True))),)
            for dim, parts in sums.items()
        }
        own = (len(self.found),) * len(stage.options)
        return StageTable(stage.key, max(classes) + 1, classes, own, rows=rows)

    def _by_device(self, stage: StageOptions) -> tuple[int, ...]:
        """Classes where only transfers read them; one where there are none."""
        if not self.paths or not self.space.transfers:
            return (0,) * len(stage.options)
        return tuple(self.space.devices.index(option.device) for option in stage.options)

    def _origins(self, parent: int) -> tuple[int, ...]:
        """The device of every class of a parent; the source has one."""
        if parent == SOURCE:
            return (0,)
        table = self.found[self.chooses[parent]]
        by_class = dict(zip(table.option_class, self._devices[parent], strict=True))
        return tuple(by_class.get(cls, 0) for cls in range(table.classes))

    def _ended(self, table: StageTable) -> None:
        self.ends.append(len(self.found))
        self.found.append(table)


def _floats(stage: StageOptions, dim: str) -> tuple[float, ...]:
    """What is known of every option in a dim."""
    return tuple(float(value) for value in stage.known[dim] if value is not None)
