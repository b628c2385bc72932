"""What a rule may know besides the node: the plan around it, models, statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from functools import cached_property
from typing import Protocol, cast

from ...ir.logical import Apply, Filter, Join, Limit, LogicalNode, Project
from ...ir.models import Model
from ...ir.node import Node, parents
from ...ir.record import dataclass
from ..columns import Demand, demand
from ..steps import Flow, flows


class StepStatistics(Protocol):
    """The three numbers some rules weigh; None is unknown."""

    def selectivity(self, subject: str) -> float | None:
        """Share of rows a filter keeps; `subject` as `planner.steps.filter_subject` gives it."""

    def seconds_per_row(self, context: str, model: str) -> float | None:
        """Slot-seconds of one row at the model's cheapest choice known, EACH and WHEN included."""

    def distinct(self, context: str) -> float | None:
        """Distinct inputs ÷ inputs of a call."""


@dataclass(frozen=True)
class RuleContext:
    """The plan a rule looks at, and what is known.

    Attributes:
        models: by name, as declared.
        stats: None when nothing was measured.
        on_error: `fail`, `null` or `skip`.
        disabled: names of rules that are switched off.
        plan: the whole plan now; the driver sets it.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    stats: StepStatistics | None = None
    on_error: str = "fail"
    disabled: frozenset[str] = frozenset()
    plan: LogicalNode | None = None

    def at(self, plan: LogicalNode) -> RuleContext:
        """The same knowledge for another plan."""
        return replace(self, plan=plan)

    def is_root(self, node: LogicalNode) -> bool:
        """Is this the whole plan? Rules that must see all of it fire there."""
        return node == self.plan

    def shared(self, node: LogicalNode) -> bool:
        """Do several nodes read it? Work pushed into it for one reader would be done twice."""
        return len(self._readers[node]) > 1

    def readers(self, node: LogicalNode) -> tuple[Node, ...]:
        """The nodes that read it; none for the root."""
        return self._readers[node]

    def flow(self, node: LogicalNode) -> Flow:
        """Lineage and row facts of a node of the plan."""
        return self._flows[node]

    def needed(self, node: LogicalNode) -> frozenset[str]:
        """The columns of a node that its readers need."""
        return self._demand.get(node, frozenset())

    def feeds_limit(self, node: LogicalNode) -> bool:
        """Does a LIMIT above stop this node's stream early?"""
        return node in self._limited

    @property
    def root(self) -> LogicalNode:
        """The whole plan.

        Raises:
            ValueError: the driver set none.
        """
        if self.plan is None:
            raise ValueError("a rule's context needs a plan")
        return self.plan

    @cached_property
    def _readers(self) -> dict[Node, tuple[Node, ...]]:
        return parents(self.root)

    @cached_property
    def _flows(self) -> dict[LogicalNode, Flow]:
        return flows(self.root)

    @cached_property
    def _demand(self) -> Demand:
        return demand(self.root, pruned="prune_calls" not in self.disabled)

    @cached_property
    def _limited(self) -> frozenset[LogicalNode]:
        found: set[LogicalNode] = set()
        for node in self.root.postorder():
            if not isinstance(node, Limit):
                continue
            below: Node = node.input
            while isinstance(below, Apply | Filter | Project | Join | Limit):
                found.add(below)
                below = below.children[0]
            found.add(cast(LogicalNode, below))
        return frozenset(found)
