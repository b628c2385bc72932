"""CREATE DEVICE and CREATE LINK: items known, each with a value of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...ir.models import Device, Link
from .. import ast
from ..diagnostics import nearest
from ..units import require
from .problems import problem

_DEVICE_UNITS = {
    "memory": ("B", "memory_bytes"),
    "price": ("USD/h", "usd_per_hour"),
    "power": ("W", "power_watts"),
    "grid": ("g/kWh", "grid_g_co2_per_kwh"),
}
_DEVICE_COUNTS = ("count", "threads")
_DEVICE_WORDS = ("kind", "tier")
_KINDS = ("cpu", "cuda")
_DEVICE_KEYS = (*_DEVICE_WORDS, *_DEVICE_COUNTS, *_DEVICE_UNITS)


def bind_device(stmt: ast.CreateDevice) -> Device:
    """A device in base units.

    Raises:
        BindError: OC0220 or OC0230, an item twice, unknown or wrong; no KIND.
    """
    unique((item.key for item in stmt.items), "item")
    found: dict[str, object] = {}
    for item in stmt.items:
        key = item.key.text.lower()
        if key in _DEVICE_WORDS:
            found[key] = _word(item)
        elif key in _DEVICE_COUNTS:
            found[key] = _count(item)
        elif key in _DEVICE_UNITS:
            unit, name = _DEVICE_UNITS[key]
            found[name] = _amount(item, unit)
        else:
            raise _unknown_item(item, _DEVICE_KEYS, "device")
    if "kind" not in found:
        raise problem(
            "OC0230",
            f"device {stmt.name.text} has no KIND",
            stmt.span,
            hint="KIND cpu, or KIND cuda",
        )
    _check_kind(stmt)
    return Device(stmt.name.text, **found)  # type: ignore[arg-type]


def _check_kind(stmt: ast.CreateDevice) -> None:
    for item in stmt.items:
        if item.key.text.lower() == "kind" and _word(item).lower() not in _KINDS:
            raise problem(
                "OC0230",
                f"there is no KIND {_word(item)}",
                item.value.span,
                label="no such kind",
                candidates=nearest(_word(item).lower(), _KINDS) or _KINDS,
            )


def bind_link(stmt: ast.CreateLink) -> Link:
    """A link in base units.

    Raises:
        BindError: OC0220 or OC0230, an item twice, unknown or wrong; no BANDWIDTH.
    """
    unique((item.key for item in stmt.items), "item")
    found: dict[str, float] = {"latency": 0.0}
    for item in stmt.items:
        key = item.key.text.lower()
        units = {"bandwidth": "B/s", "latency": "s"}
        if key not in units:
            raise _unknown_item(item, tuple(units), "link")
        found[key] = _amount(item, units[key])
    if not found.get("bandwidth"):
        raise problem("OC0230", "a link needs a BANDWIDTH above 0", stmt.span)
    return Link(stmt.source.text, stmt.target.text, found["bandwidth"], found["latency"])


def _unknown_item(item: ast.DeviceItem, known: Sequence[str], what: str) -> Exception:
    listed = [key.upper() for key in known]
    return problem(
        "OC0230",
        f"a {what} has no {item.key.text}",
        item.key.span,
        label="unknown item",
        candidates=nearest(item.key.text.upper(), listed),
        notes=("there are " + ", ".join(listed),),
    )


def _word(item: ast.DeviceItem) -> str:
    match item.value:
        case ast.Name(text=text):
            return text.lower() if item.key.text.lower() == "kind" else text
        case ast.Literal_(value=str() as text):
            return text
    raise problem("OC0230", f"{item.key.text} takes a name", item.value.span, label="not a name")


def _count(item: ast.DeviceItem) -> int:
    value = item.value.value if isinstance(item.value, ast.Literal_ | ast.Quantity) else None
    dimension = item.value.dimension if isinstance(item.value, ast.Quantity) else ""
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    if not whole or dimension or int(str(value).partition(".")[0]) < 1:
        raise problem(
            "OC0230", f"{item.key.text} takes a whole number from 1", item.value.span, label="here"
        )
    assert isinstance(value, int | float)
    return int(value)


def _amount(item: ast.DeviceItem, unit: str) -> float:
    if not isinstance(item.value, ast.Quantity):
        value = item.value.value if isinstance(item.value, ast.Literal_) else None
        if value == 0 and not isinstance(value, bool):
            return 0.0
        raise problem("OC0230", f"{item.key.text} takes a quantity with its unit", item.value.span)
    amount = require(item.value, unit, item.key.text.upper())
    if amount < 0:
        raise problem("OC0230", f"{item.key.text} cannot be negative", item.value.span)
    return int(amount) if unit == "B" else amount


def unique(found: Iterable[ast.Name], what: str) -> None:
    """Names that must differ.

    Raises:
        BindError: OC0220, one stands twice.
    """
    seen: set[str] = set()
    for name in found:
        if name.text.lower() in seen:
            raise problem(
                "OC0220", f"{what} {name.text} is declared twice", name.span, label="again here"
            )
        seen.add(name.text.lower())
