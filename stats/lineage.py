"""A plan to be profiled as a chain of nodes, and which stages each stage's inputs come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import InternalError
from ..ir.physical import PhysicalPlan, SqlScan, SqlStep, Stage
from ..ir.record import dataclass


@dataclass(frozen=True)
class Chain:
    """One scan and what runs above it, in order.

    `ancestors` holds for every stage the stages whose answers its arguments and its WHEN are
    computed from, directly or not: given their choices and its own, its outputs are determined.
    `reads` are those of its arguments alone: they determine its outputs on the rows where it runs.
    """

    scan: SqlScan
    nodes: tuple[SqlStep | Stage, ...]
    ancestors: Mapping[str, frozenset[str]]
    reads: Mapping[str, frozenset[str]]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order."""
        return tuple(node for node in self.nodes if isinstance(node, Stage))

    def stage(self, key: str) -> Stage:
        """The stage of that key.

        Raises:
            KeyError: there is none.
        """
        for stage in self.stages:
            if stage.step == key:
                return stage
        raise KeyError(key)


def chain(plan: PhysicalPlan) -> Chain:
    """Take the plan apart.

    Raises:
        InternalError: it is not a chain of stages and per-row steps over one scan. The body of a
            pipeline always lowers to one, as long as no rewrite shares or joins relations.
    """
    nodes: list[SqlStep | Stage] = []
    node = plan.root
    while not isinstance(node, SqlScan):
        if not isinstance(node, (SqlStep, Stage)):
            raise InternalError(
                f"cannot profile a plan with a {type(node).__name__}", code="OC0910"
            )
        if isinstance(node, SqlStep) and node.predicate is not None:
            raise InternalError("cannot profile a plan that drops rows", code="OC0910")
        nodes.append(node)
        node = node.input
    nodes.reverse()
    return Chain(node, tuple(nodes), *_ancestors(node, nodes))


def _ancestors(
    scan: SqlScan, nodes: Iterable[SqlStep | Stage]
) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """Of every stage: of its arguments and its WHEN, and of its arguments alone."""
    lineage: dict[str, frozenset[str]] = {field.name: frozenset() for field in scan.fields}
    found: dict[str, frozenset[str]] = {}
    reads: dict[str, frozenset[str]] = {}

    def of(columns: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(lineage.get(name, frozenset()) for name in columns))

    for node in nodes:
        if isinstance(node, SqlStep):
            lineage = {named.name: of(named.expr.columns) for named in node.columns}
            continue
        read = of([*node.args, *([node.when] if node.when is not None else [])])
        if node.step in found:
            raise InternalError(f"two stages are named {node.step}", code="OC0910")
        found[node.step] = read
        reads[node.step] = of(node.args)
        lineage |= {field.name: read | {node.step} for field in node.outputs}
    return found, reads
