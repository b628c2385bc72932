"""What a user declares, as plain data: models, variants, devices, pipelines, SLOs.

The catalog stores these and hands them out; dsl makes them; planner and executor read them.
Quantities are in base units: seconds, bytes, USD, joules, watts, bytes per second.
"""

from __future__ import annotations

from .node import Value
from .types import Field, Schema

Scalar = str | int | float | bool | None
Knobs = tuple[tuple[str, Scalar], ...]
"""Knob settings sorted by name; as a catalog key they are printed by `knobs_text`."""


class Metric(Value):
    """`QUALITY name(output, args…)`: how an answer is scored; `output` names the scored field.

    `target` is the `module:function` of `python('module:function', output)`.
    """

    name: str
    output: str
    args: tuple[Scalar, ...] = ()
    target: str | None = None


class Model(Value):
    """A function with interchangeable variants."""

    name: str
    inputs: Schema
    outputs: Schema
    quality: Metric | None = None
    confidence: str | None = None
    prompt: str | None = None
    version: int = 1


class Backend(Value):
    """`USING kind('target', option := value, …)`."""

    kind: str
    target: str
    options: Knobs = ()


class Effect(Value):
    """What is expected of a transform before anything is measured: factors of the base's numbers.

    `size` is that of the artefact; `quality` and `latency` are (low, expected, high); `source` says
    where they are from. Only ever used as a prior.
    """

    size: float
    quality: tuple[float, ...]
    latency: tuple[float, ...]
    source: str


class Build(Value):
    """What building a derivation made, from what and with what.

    `file` is the artefact in the catalog's folder of artefacts, named by its hash;
    `base_artefact` the hash of what it was made from, of the base's version `base_version`;
    `libraries` the versions used to build it, which are also what runs it; `rows` the number of
    sample rows that entered it.
    """

    file: str
    size_bytes: int
    base_version: int
    base_artefact: str
    base_bytes: int
    libraries: Knobs
    effect: Effect
    rows: int = 0


class Derivation(Value):
    """`FROM base BY transform(args…)`; `base` is `model.variant`; `build` None: not built."""

    base: str
    transform: str
    args: tuple[Scalar, ...] = ()
    build: Build | None = None


class KnobDomain(Value):
    """`KNOBS (name IN (values…))`, in the order written."""

    name: str
    values: tuple[Scalar, ...]


class TokenPrice(Value):
    """USD for one token."""

    input_usd: float = 0.0
    output_usd: float = 0.0


class Prior(Value):
    """A declared expectation: used only under `SET allow_priors`, always labelled `prior`."""

    metric: str
    value: float


class Variant(Value):
    """One way to compute a model; full name `model.name`."""

    model: str
    name: str
    backend: Backend | None
    derivation: Derivation | None = None
    knobs: tuple[KnobDomain, ...] = ()
    price: TokenPrice | None = None
    priors: tuple[Prior, ...] = ()
    base: bool = False
    volatile: bool = False
    version: int = 1

    @property
    def full_name(self) -> str:
        """`model.variant`."""
        return f"{self.model}.{self.name}"


class Device(Value):
    """A kind of device with `count` slots; price and power are per slot."""

    name: str
    kind: str
    count: int = 1
    threads: int | None = None
    memory_bytes: int | None = None
    usd_per_hour: float = 0.0
    power_watts: float | None = None
    tier: str = "local"
    grid_g_co2_per_kwh: float | None = None
    version: int = 1


class Link(Value):
    """A directed network link between two tiers."""

    source: str
    target: str
    bytes_per_second: float
    latency_seconds: float


class Pipeline(Value):
    """A declared pipeline; `text` is its canonical CREATE statement, bound anew at each use."""

    name: str
    inputs: Schema
    outputs: Schema
    text: str
    quality: Metric | None = None
    version: int = 1


class ExtendedStatistics(Value):
    """`CREATE STATISTICS name (kind) ON first, second`: what is measured of two calls together.

    `first` and `second` are models or steps `pipeline.step`; the one kind is `error_dependence`.
    """

    name: str
    kind: str
    first: str
    second: str
    version: int = 1


def knobs_text(knobs: Knobs) -> str:
    """`trees := 500, depth := 8`: the canonical text of knob settings, '' for none."""
    return ", ".join(f"{name} := {scalar_text(value)}" for name, value in knobs)


def transform_text(derivation: Derivation) -> str:
    """`QUANTIZE('int8')`: the transform as it is written."""
    return f"{derivation.transform.upper()}({', '.join(map(scalar_text, derivation.args))})"


def scalar_text(value: Scalar) -> str:
    """A scalar as a SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def output_field(model: Model, name: str) -> Field:
    """The output of that name.

    Raises:
        KeyError: the model has none.
    """
    for field in model.outputs:
        if field.name == name:
            return field
    raise KeyError(name)
