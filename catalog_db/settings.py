"""`SET name = value`: a session's settings, typed and checked; like DuckDB's they end with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

from ..errors import CatalogError

Setting = float | int | bool | str | tuple[str, ...] | None
Shape = Literal["amount", "whole", "switch", "names", "name", "word"]


class Declared(NamedTuple):
    """A setting: its shape, default, an amount's unit or words allowed, least value, meaning."""

    shape: Shape
    default: Setting
    unit: str
    least: float
    meaning: str
    nullable: bool = False


DECLARED = {
    "max_total_cost": Declared("amount", None, "USD", 0, "a query estimated dearer is refused"),
    "max_wall": Declared("amount", None, "s", 0, "a query estimated to take longer is refused"),
    "call_timeout": Declared(
        "amount", None, "s", 0.001, "a call that takes longer is given up, its rows fail"
    ),
    "max_profiling_cost": Declared("amount", None, "USD", 0, "the most one ANALYZE may spend"),
    "max_statistics_age": Declared(
        "amount",
        30 * 86400.0,
        "s",
        0,
        "older statistics are stale: used, and marked",
        nullable=True,
    ),
    "seed": Declared("whole", 0, "", 0, "of samples and everything else drawn at random"),
    "disabled_rules": Declared("names", (), "", 0, "rewrite rules that are not applied"),
    "workers": Declared(
        "whole", None, "", 1, "model calls at once, over all devices; NULL: all slots"
    ),
    "progress": Declared("switch", True, "", 0, "a progress bar, on terminals"),
    "allow_priors": Declared("switch", False, "", 0, "plan on declared priors where unmeasured"),
    "deployment": Declared("name", None, "", 0, "whose statistics are measured and planned with"),
    "sequential_test": Declared(
        "word", "betting", "betting|t", 0, "of ANALYZE: betting holds however often it looks, t not"
    ),
    "cache": Declared("switch", False, "", 0, "keep results of calls and use them again"),
    "prefix_store": Declared(
        "amount", 1e9, "B", 0, "the most that outputs kept between ANALYZEs take; 0: off"
    ),
}
_SWITCH = {"true": True, "on": True, "false": False, "off": False}


class Settings:
    """The settings of one session."""

    def __init__(self) -> None:
        self._values: dict[str, Setting] = {}

    def set(
        self, name: str, value: str | float | tuple[str, ...] | None, *, unit: str = ""
    ) -> None:
        """Give a setting a value; `unit` is the dimension of a quantity, '' for a bare number.

        Raises:
            CatalogError: OC0509 unknown, OC0510 wrong type, unit or range.
        """
        declared = self._declared(name)
        checked = _checked(declared, value, unit)
        if isinstance(checked, _Refused):
            raise CatalogError(
                f"{name.lower()} cannot be {_shown(value)}: {checked.expected} is expected",
                code="OC0510",
                notes=(f"{name.lower()}: {declared.meaning}",),
            )
        self._values[name.lower()] = checked

    def get(self, name: str) -> Setting:
        """The value of a setting.

        Raises:
            CatalogError: OC0509, unknown.
        """
        return self._values.get(name.lower(), self._declared(name).default)

    def reset(self, name: str) -> None:
        """Back to the default.

        Raises:
            CatalogError: OC0509, unknown.
        """
        self._declared(name)
        self._values.pop(name.lower(), None)

    def __contains__(self, name: str) -> bool:
        return name.lower() in DECLARED

    def __iter__(self) -> Iterator[str]:
        return iter(DECLARED)

    @property
    def max_total_cost(self) -> float | None:
        """USD; None: no limit."""
        return cast("float | None", self.get("max_total_cost"))

    @property
    def max_wall(self) -> float | None:
        """Seconds; None: no limit."""
        return cast("float | None", self.get("max_wall"))

    @property
    def call_timeout(self) -> float | None:
        """Seconds that one call of a model may take; None: as long as it takes."""
        return cast("float | None", self.get("call_timeout"))

    @property
    def max_profiling_cost(self) -> float | None:
        """USD; None: no limit."""
        return cast("float | None", self.get("max_profiling_cost"))

    @property
    def max_statistics_age(self) -> float | None:
        """Seconds; None: statistics never grow old."""
        return cast("float | None", self.get("max_statistics_age"))

    @property
    def seed(self) -> int:
        """Of everything drawn at random."""
        return cast("int", self.get("seed"))

    @property
    def disabled_rules(self) -> tuple[str, ...]:
        """Names of rewrite rules, as given."""
        return cast("tuple[str, ...]", self.get("disabled_rules"))

    @property
    def workers(self) -> int | None:
        """Model calls at once over all devices; None: as many as there are slots."""
        return cast("int | None", self.get("workers"))

    @property
    def progress(self) -> bool:
        """Show a progress bar on a terminal."""
        return cast("bool", self.get("progress"))

    @property
    def allow_priors(self) -> bool:
        """Plan on declared priors where nothing was measured."""
        return cast("bool", self.get("allow_priors"))

    @property
    def deployment(self) -> str | None:
        """Whose statistics are measured and planned with; None: the pipelines' own."""
        return cast("str | None", self.get("deployment"))

    @property
    def sequential_test(self) -> Literal["betting", "t"]:
        """How ANALYZE decides that it knows enough."""
        return cast('Literal["betting", "t"]', self.get("sequential_test"))

    @property
    def cache(self) -> bool:
        """Keep results of calls."""
        return cast("bool", self.get("cache"))

    @property
    def prefix_store(self) -> float:
        """Bytes that outputs of operator prefixes may take between statements."""
        return cast("float", self.get("prefix_store"))

    @staticmethod
    def _declared(name: str) -> Declared:
        declared = DECLARED.get(name.lower())
        if declared is None:
            import difflib  # errors only

            raise CatalogError(
                f"there is no setting {name}",
                code="OC0509",
                candidates=tuple(difflib.get_close_matches(name.lower(), DECLARED, n=2)),
                hint=f"the settings are {', '.join(DECLARED)}",
            )
        return declared


class _Refused(NamedTuple):
    expected: str


def _checked(
    declared: Declared, value: str | float | tuple[str, ...] | None, unit: str
) -> Setting | _Refused:
    """The value in the setting's own type, or what was expected instead."""
    if value is None and (declared.default is None or declared.nullable):
        return None
    match declared.shape:
        case "amount":
            return _amount(declared, value, unit)
        case "whole":
            expected = _Refused(f"a whole number of at least {declared.least}")
            if isinstance(value, bool) or not isinstance(value, int | float) or unit:
                return expected
            whole = isinstance(value, int) or value.is_integer()
            return int(value) if whole and value >= declared.least else expected
        case "switch":
            if isinstance(value, bool):
                return value
            known = _SWITCH.get(value.lower()) if isinstance(value, str) else None
            return _Refused("true or false") if known is None else known
        case "name":
            return value if isinstance(value, str) and value else _Refused("a name, or NULL")
        case "word":
            words = declared.unit.split("|")
            word = value.lower() if isinstance(value, str) else None
            return word if word in words else _Refused(" or ".join(words))
        case "names":
            if isinstance(value, str):
                return tuple(part.strip() for part in value.split(",") if part.strip())
            return value if isinstance(value, tuple) else _Refused("a list of names")


def _amount(declared: Declared, value: object, unit: str) -> Setting | _Refused:
    absent = ", or NULL" if declared.default is None else ""
    least = f"at least {declared.least:g} {declared.unit}" if declared.least else "not negative"
    expected = _Refused(f"a quantity in {declared.unit}, {least}{absent}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return expected
    fits = unit == declared.unit and declared.least <= value < float("inf")
    return float(value) if fits else expected


def _shown(value: object) -> str:
    return "NULL" if value is None else repr(value) if isinstance(value, str) else str(value)
