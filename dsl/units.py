"""Quantities: a number with its unit, turned into the base unit of its dimension.

A dimension is named by its base unit, so a metric's unit in `ir.slo.UNITS` *is* its dimension:

    s  B  USD  J  W  B/s  g  /s  USD/h  g/kWh     and  share (written %), '' (no unit)

Units are case-sensitive. Decimal prefixes are powers of 1000, `Ki Mi Gi Ti` of 1024; a bit is an
eighth of a byte. Emissions may be written `g` or `g CO2`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .problems import problem

if TYPE_CHECKING:
    from .ast import Quantity


class Unit(NamedTuple):
    """`value_in_base = number × factor`; divide by `divisor` first so that 3 % is exactly 0.03."""

    dimension: str
    factor: float
    divisor: float = 1.0


SHARE = "share"
NUMBER = ""

_TIME = {"ns": (1, 1e9), "us": (1, 1e6), "µs": (1, 1e6), "ms": (1, 1e3), "s": (1, 1)}
_TIME |= {"min": (60, 1), "h": (3600, 1), "d": (86400, 1)}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BITS = {"bit": 1, "kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9, "Tbit": 10**12}
_ENERGY = {"mJ": (1, 1e3), "J": (1, 1), "kJ": (10**3, 1), "MJ": (10**6, 1)}
_ENERGY |= {"Wh": (3600, 1), "kWh": (3600 * 10**3, 1), "MWh": (3600 * 10**6, 1)}
_POWER = {"mW": (1, 1e3), "W": (1, 1), "kW": (10**3, 1), "MW": (10**6, 1)}
_MASS = {"mg": (1, 1e3), "g": (1, 1), "kg": (10**3, 1), "t": (10**6, 1)}
_PER_HOUR = {"SECOND": (3600, 1), "MINUTE": (60, 1), "HOUR": (1, 1), "DAY": (1, 24)}


def _table() -> dict[str, Unit]:
    table = {"": Unit(NUMBER, 1), "%": Unit(SHARE, 1, 100), "USD": Unit("USD", 1)}
    for dimension, group in (("s", _TIME), ("J", _ENERGY), ("W", _POWER), ("g", _MASS)):
        table |= {name: Unit(dimension, *scale) for name, scale in group.items()}
    table |= {name: Unit("B", size) for name, size in _BYTES.items()}
    table |= {f"{name}/s": Unit("B/s", size) for name, size in _BYTES.items()}
    table |= {f"{name}/s": Unit("B/s", size, 8) for name, size in _BITS.items()}
    table |= {"/s": Unit("/s", 1), "/min": Unit("/s", 1, 60), "/h": Unit("/s", 1, 3600)}
    for name, scale in _MASS.items():
        table[f"{name} CO2"] = Unit("g", *scale)
        table[f"{name}/kWh"] = table[f"{name} CO2/kWh"] = Unit("g/kWh", *scale)
    for word, scale in _PER_HOUR.items():
        table[f"USD PER {word}"] = Unit("USD/h", *scale)
    table["USD/h"] = Unit("USD/h", 1)
    return table


UNITS: dict[str, Unit] = _table()
"""Every unit as it is printed, '' for none."""

WORDS = frozenset(
    part for name in UNITS for part in name.replace("/", " ").replace("PER", " ").split()
)
"""The words units are made of: after a number they are read as its unit, not as a keyword."""

_DESCRIBED = {
    "s": "a time such as 200 ms",
    "B": "a size such as 16 GB",
    "USD": "an amount such as 0.01 USD",
    "J": "an energy such as 3 J",
    "W": "a power such as 400 W",
    "B/s": "a bandwidth such as 50 Mbit/s",
    "g": "a mass such as 0.4 g CO2",
    "/s": "a rate such as 20 /s",
    "USD/h": "a price such as 0.10 USD PER HOUR",
    "g/kWh": "a grid intensity such as 400 g CO2/kWh",
    SHARE: "a share such as 10 %",
    NUMBER: "a number without a unit",
}


def to_base(number: float, unit: str) -> tuple[float, str]:
    """The value in base units and the dimension.

    Raises:
        KeyError: no such unit.
    """
    found = UNITS[unit]
    return number * found.factor / found.divisor, found.dimension


def described(dimension: str) -> str:
    """A dimension in words, with an example."""
    return _DESCRIBED[dimension]


def require(quantity: Quantity, dimension: str, what: str) -> float:
    """The value of a quantity that must have a dimension; a share is a number and the reverse.

    Raises:
        SyntaxProblem: OC0108, it has another dimension.
    """
    plain = (SHARE, NUMBER)
    if quantity.dimension == dimension or (quantity.dimension in plain and dimension in plain):
        return quantity.value
    raise problem(
        "OC0108",
        f"{what} is {described(dimension)}, not {quantity.text}",
        span=quantity.span,
        label=f"expected {described(dimension)}",
    )
