"""Statements as written, with spans; names are not resolved and nothing is checked yet.

Expressions and queries are sqlglot trees (`exp.Expression`), parsed from a run of tokens; the span
of any sqlglot node is recoverable through `Fragment.span_of`. Spans are offsets into the whole text
and take no part in equality, so `parse(to_text(x)) == x`.
"""

from __future__ import annotations

from typing import Literal

from sqlglot import exp

from ..errors import Span
from ..ir.record import dataclass, field
from .parts import Column as Column
from .parts import Fragment as Fragment
from .parts import Literal_ as Literal_
from .parts import Name as Name
from .parts import Quantity as Quantity


@dataclass(frozen=True)
class MetricRef:
    """`QUALITY name(output, args…)`, or `name('target', output, args…)` with code of the user's."""

    name: Name
    output: Name
    args: tuple[Literal_, ...]
    span: Span = field(compare=False)
    target: Literal_ | None = None


@dataclass(frozen=True)
class CreateModel:
    """CREATE MODEL."""

    name: Name
    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]
    quality: MetricRef | None
    confidence: Name | None
    prompt: Literal_ | None
    replace: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Option:
    """`name := literal`."""

    name: Name
    value: Literal_


@dataclass(frozen=True)
class BackendRef:
    """`USING kind('target', option := value, …)`."""

    kind: Name
    target: Literal_
    options: tuple[Option, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class DerivationRef:
    """`FROM model.variant BY TRANSFORM(args…)`."""

    base: Name
    transform: Name
    args: tuple[Literal_, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class KnobRef:
    """`name IN (values…)`."""

    name: Name
    values: tuple[Literal_, ...]


@dataclass(frozen=True)
class PriceRef:
    """`amount USD PER count INPUT|OUTPUT TOKENS`; USD for one token."""

    usd_per_token: float
    side: Literal["input", "output"]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class PriorRef:
    """`PRIOR (metric quantity, …)`, one item."""

    metric: Name
    value: Quantity


@dataclass(frozen=True)
class CreateVariant:
    """CREATE VARIANT model.name USING … | FROM … BY …."""

    name: Name
    backend: BackendRef | None
    derivation: DerivationRef | None
    knobs: tuple[KnobRef, ...]
    prices: tuple[PriceRef, ...]
    priors: tuple[PriorRef, ...]
    base: bool
    volatile: bool
    replace: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class DeviceItem:
    """One item of CREATE DEVICE: `COUNT 2`, `PRICE 0.1 USD PER HOUR`, `TIER local`."""

    key: Name
    value: Quantity | Literal_ | Name


@dataclass(frozen=True)
class CreateDevice:
    """CREATE DEVICE name (items…)."""

    name: Name
    items: tuple[DeviceItem, ...]
    replace: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class CreateLink:
    """CREATE LINK a TO b (BANDWIDTH …, LATENCY …)."""

    source: Name
    target: Name
    items: tuple[DeviceItem, ...]
    replace: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Argument:
    """An argument of a step's call, `EACH` or not."""

    expr: Fragment
    each: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Step:
    """`name := call(arguments) [WHEN condition];`."""

    name: Name
    model: Name
    arguments: tuple[Argument, ...]
    when: Fragment | None
    span: Span = field(compare=False)


@dataclass(frozen=True)
class CreatePipeline:
    """CREATE PIPELINE … AS BEGIN steps; RETURN expression; END."""

    name: Name
    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]
    quality: MetricRef | None
    steps: tuple[Step, ...]
    result: Fragment
    replace: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class ConstraintRef:
    """One constraint of an SLO."""

    metric: Name
    model: Name | None
    custom: Literal_ | None
    operator: Literal["<=", ">="]
    limit: Quantity
    confidence: Quantity | None
    soft: Quantity | None
    per_token: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class ObjectiveRef:
    """`MINIMIZE metric` or `MAXIMIZE metric`."""

    metric: Name
    maximize: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class CreateSlo:
    """CREATE SLO name AS (constraints) [objective]."""

    name: Name
    constraints: tuple[ConstraintRef, ...]
    objective: ObjectiveRef | None
    replace: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class CreateStatistics:
    """CREATE STATISTICS name (kind) ON first, second: each a model or a `pipeline.step`."""

    name: Name
    kind: Name
    first: Name
    second: Name
    replace: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class SloRef:
    """`WITH SLO (constraints)` or `WITH SLO name`."""

    name: Name | None
    constraints: tuple[ConstraintRef, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Select:
    """A query with its clauses; `on_error` is fail, null or skip."""

    query: Fragment
    slo: SloRef | None
    objective: ObjectiveRef | None
    on_error: Literal["fail", "null", "skip"]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class WhyNot:
    """`WHY NOT model.variant (knob := value, …)`."""

    variant: Name
    knobs: tuple[Option, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class ExplainOptions:
    """What stands in EXPLAIN's parentheses."""

    analyze: bool = False
    format: Literal["text", "json", "html"] = "text"
    alternatives: int = 0
    steps: bool = False
    why_not: tuple[WhyNot, ...] = ()
    advice: Literal_ | None = None


@dataclass(frozen=True)
class Explain:
    """EXPLAIN [(options)] query."""

    select: Select
    options: ExplainOptions
    span: Span = field(compare=False)


@dataclass(frozen=True)
class CopyTo:
    """COPY (query) TO …; `target` is the text from TO on, for DuckDB."""

    select: Select
    target: str
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Label:
    """`output := expression` or `step.output := expression` of LABELS."""

    output: Name
    expr: Fragment


@dataclass(frozen=True)
class Analyze:
    """ANALYZE …; `sample` None: the default; rows equal in `cluster` are one independent unit.

    `search`: plans are looked for, and only what the best are made of is measured.
    """

    kind: Literal["pipeline", "model"]
    name: Name
    using: Fragment
    labels: tuple[Label, ...]
    sample: int | None
    uniform: bool
    cluster: Fragment | None
    budget: tuple[Quantity, ...]
    features: tuple[Fragment, ...]
    search: bool
    slo: SloRef | None
    objective: ObjectiveRef | None
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Derive:
    """DERIVE VARIANTS FOR model [BUDGET …]."""

    name: Name
    budget: tuple[Quantity, ...]
    span: Span = field(compare=False)


ObjectKind = Literal["model", "variant", "device", "link", "pipeline", "slo", "statistics"]


@dataclass(frozen=True)
class Show:
    """SHOW kind [OF|FOR name]; `kind` is lower case: models, variants, … jobs."""

    kind: str
    of: Name | None
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Describe:
    """DESCRIBE name (ours or DuckDB's)."""

    name: Name
    span: Span = field(compare=False)


@dataclass(frozen=True)
class Drop:
    """DROP kind [IF EXISTS] name; a link's name has two parts, written `a TO b`."""

    kind: ObjectKind
    name: Name
    if_exists: bool
    span: Span = field(compare=False)


@dataclass(frozen=True)
class SetSetting:
    """SET name = value."""

    name: Name
    value: Quantity | Literal_ | Name | tuple[Literal_ | Name, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True)
class ResetSetting:
    """RESET name."""

    name: Name
    span: Span = field(compare=False)


@dataclass(frozen=True)
class PlainSql:
    """Anything DuckDB does alone, unless it stores a query that calls models.

    `CREATE TABLE … AS query` and `INSERT INTO … query` come with that query and its clauses in
    `select`, and the text before it in `head`.
    """

    text: str
    tree: exp.Expression | None
    span: Span = field(compare=False)
    head: str = ""
    select: Select | None = None


Statement = (
    CreateModel
    | CreateVariant
    | CreateDevice
    | CreateLink
    | CreatePipeline
    | CreateSlo
    | CreateStatistics
    | Select
    | Explain
    | CopyTo
    | Analyze
    | Derive
    | Show
    | Describe
    | Drop
    | SetSetting
    | ResetSetting
    | PlainSql
)
