"""The physical plan: what the executor runs, every choice made.

Relational work is SQL text already; between stages it runs per chunk (`SqlStep`), elsewhere over
whole inputs (`SqlScan`, `SqlResidual`). A node with several readers is materialised once.
"""

from __future__ import annotations

from .models import Knobs, knobs_text
from .node import Node, Value
from .types import NamedExpr, Schema, SqlExpr


class Choice(Value):
    """How one call is computed: the point of the configuration space.

    `variant` is its full name, `version` the catalog's version of it.
    """

    variant: str
    knobs: Knobs = ()
    batch: int = 1
    device: str = "cpu"
    replicas: int = 1
    version: int = 1

    @property
    def members(self) -> tuple[Choice, ...]:
        """The choices that run: itself, or a cascade's."""
        return (self,)

    @property
    def made(self) -> tuple[str, str]:
        """What decides its answers: variant and knobs text."""
        return self.variant, knobs_text(self.knobs)

    def __str__(self) -> str:
        knobs = f" ({knobs_text(self.knobs)})" if self.knobs else ""
        return f"{self.variant}{knobs}, batch {self.batch}, {self.device}"


class Named(Value):
    """A word of advice: a variant and the knobs behind it, each with its value as written, or a
    threshold, a batch size, a device.
    """

    word: str
    knobs: tuple[tuple[str, str], ...] = ()


class Cascade(Choice):
    """A cheap choice first, and the next one for the elements that it is unsure of.

    `earlier` are the members before the last, cheapest first; what `Choice` has is the last
    member's. An element goes on from `earlier[i]` where its output `confidence` is below
    `thresholds[i]`, or unknown.
    """

    earlier: tuple[Choice, ...] = ()
    thresholds: tuple[float, ...] = ()
    confidence: str = ""

    @property
    def last(self) -> Choice:
        """The member that answers what all others are unsure of."""
        return Choice(
            self.variant, self.knobs, self.batch, self.device, self.replicas, self.version
        )

    @property
    def members(self) -> tuple[Choice, ...]:
        """All of them, in the order in which they run."""
        return (*self.earlier, self.last)

    @property
    def made(self) -> tuple[str, str]:
        """The path through its members, as assignment texts have it, and the last one's knobs.

        `m.tiny();0.93=m.mlp`: every member stands behind a `=` and before a bracket.
        """
        path, lead = "", ""
        for member, threshold in zip(self.earlier, self.thresholds, strict=True):
            path += "{}{}({});".format(lead, *member.made)
            lead = f"{threshold!r}="
        return f"{path}{lead}{self.variant}", knobs_text(self.knobs)

    def __str__(self) -> str:
        parts = [
            f"{member} below {threshold:g} then"
            for member, threshold in zip(self.earlier, self.thresholds, strict=True)
        ]
        return " ".join([*parts, str(self.last)])


class Escalation(Value):
    """Which elements a later member of a cascade gets, and what answers the others.

    Those that all members before are unsure of: each one's confidence (an input column) is below
    its threshold, NULL or NaN. The others keep the answers so far, in the input columns `answers`,
    pairwise with the outputs; outputs beyond them are NULL there.
    """

    confidences: tuple[str, ...]
    thresholds: tuple[float, ...]
    answers: tuple[str, ...]


class SqlScan(Node):
    """Rows of a query DuckDB runs alone, in source order."""

    sql: str
    fields: Schema

    @property
    def schema(self) -> Schema:
        """As declared."""
        return self.fields


class SqlStep(Node):
    """Per chunk: keep rows where `predicate` is TRUE, then compute `columns` (in this order)."""

    input: PhysicalNode
    columns: tuple[NamedExpr, ...]
    predicate: SqlExpr | None = None

    @property
    def schema(self) -> Schema:
        """The columns."""
        return tuple(named.field for named in self.columns)


class Stage(Node):
    """One model call per row, or per element of the `lists` arguments, as `choice` says.

    `args` name input columns holding the arguments; `when` names a BOOLEAN input column (NULL is
    false). The outputs are added behind the input's columns; `produce` are the model's output
    names, pairwise with `outputs` (pruned outputs are not there). `step` is the stable name of the
    call in this plan (its first output column's step), used in EXPLAIN and ADVICE. A cascade is a
    chain of stages of one `step`, a member each; `escalation` says what comes to the later ones.
    """

    input: PhysicalNode
    step: str
    model: str
    context: str
    args: tuple[str, ...]
    outputs: Schema
    produce: tuple[str, ...]
    choice: Choice
    lists: tuple[bool, ...] | None = None
    when: str | None = None
    escalation: Escalation | None = None

    @property
    def schema(self) -> Schema:
        """The input's columns, then the outputs."""
        return self.input.schema + self.outputs


class SqlResidual(Node):
    """SQL over whole inputs, named `in0`, `in1`, …; `sql` may use each input's `__row`."""

    inputs: tuple[PhysicalNode, ...]
    sql: str
    fields: Schema

    @property
    def schema(self) -> Schema:
        """As declared."""
        return self.fields


class StopAfter(Node):
    """Stop everything below once `count` rows have come (after dropping `offset`)."""

    input: PhysicalNode
    count: int
    offset: int = 0

    @property
    def schema(self) -> Schema:
        """The input's."""
        return self.input.schema


PhysicalNode = SqlScan | SqlStep | Stage | SqlResidual | StopAfter


class PhysicalPlan(Value):
    """A runnable plan: the DAG and what to do with failed rows (`fail`, `null`, `skip`)."""

    root: PhysicalNode
    on_error: str = "fail"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, inputs before readers."""
        return tuple(node for node in self.root.postorder() if isinstance(node, Stage))
