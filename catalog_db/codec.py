"""Definitions as JSON and back, without loss.

A `Value` becomes an object of its fields with its class in `_`; a tuple becomes an array. JSON has
no infinity and no NaN, so a float that is not finite becomes `{"float": "inf"}`. Decoding goes
through the constructor, so a field that a later version adds gets its default.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from ..errors import InternalError
from ..ir.models import (
    Backend,
    Build,
    Derivation,
    Device,
    Effect,
    ExtendedStatistics,
    KnobDomain,
    Link,
    Metric,
    Model,
    Pipeline,
    Prior,
    TokenPrice,
    Variant,
)
from ..ir.node import Value
from ..ir.slo import Constraint, Objective, Slo
from ..ir.types import Field

Definition = Model | Variant | Device | Link | Pipeline | Slo | ExtendedStatistics
"""What the catalog keeps under a name."""

_CLASSES: dict[str, type[Value]] = {
    cls.__name__: cls
    for cls in (
        Backend, Build, Constraint, Derivation, Device, Effect, ExtendedStatistics, Field,
        KnobDomain, Link, Metric, Model, Objective, Pipeline, Prior, Slo, TokenPrice, Variant,
    )
}  # fmt: skip


def dumps(definition: Definition) -> str:
    """The JSON text of a definition."""
    return json.dumps(_encode(definition), allow_nan=False, separators=(",", ":"))


def loads(text: str) -> Definition:
    """The definition a JSON text stands for.

    Raises:
        InternalError: the text was not written by `dumps`.
    """
    value = json.loads(text, object_hook=_object)
    if not isinstance(value, Definition):
        raise InternalError("a stored definition is not one", code="OC0905", notes=(text[:200],))
    return value


def _encode(value: object) -> object:
    if isinstance(value, Value):
        fields = dataclasses.fields(value)  # type: ignore[arg-type]
        encoded = {field.name: _encode(getattr(value, field.name)) for field in fields}
        return {"_": type(value).__name__, **encoded}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _object(data: dict[str, Any]) -> object:
    name = data.pop("_", None)
    if name is None:
        return float(data["float"])
    cls = _CLASSES.get(name)
    if cls is None:
        raise InternalError(f"the catalog holds an unknown kind of value: {name}", code="OC0905")
    return cls(**{key: _frozen(value) for key, value in data.items()})


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
