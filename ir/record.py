"""`@dataclass` as the standard library's, made in a tenth of the time.

The standard decorator compiles up to six functions for every class, about 0.4 ms. Octans has some
150 such classes on the way to a plan: that would be a third of what a cold EXPLAIN takes. Here the
standard library still reads the fields, so that `fields`, `replace` and `asdict` work; but `repr`,
equality, hash and the guard against assignment are functions shared by all classes, and `__init__`
is compiled when a class makes its first instance, which most never do.

Only what Octans uses is taken: `frozen`, `eq` and `slots`. A test holds it to the original.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field as field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        cls: Any = None, /, *, frozen: bool = False, eq: bool = True, slots: bool = False
    ) -> Any:
        """The class with its fields made; see the standard library."""

        def made(cls: Any) -> Any:
            return _made(cls, frozen, eq, slots)

        return made if cls is None else made(cls)


_set = object.__setattr__


def _made(cls: Any, frozen: bool, eq: bool, slots: bool) -> Any:
    own = set(vars(cls))
    cls = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
    methods: dict[str, Any] = {"__init__": _first_init(cls), "__repr__": _repr}
    if eq:
        methods["__eq__"] = _eq
        if "__hash__" not in own:
            methods["__hash__"] = _hash if frozen else None
        compared = [f.name for f in dataclasses.fields(cls) if f.compare]
        cls._compared = staticmethod(_key(compared))
    if frozen:
        methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
        if slots:
            methods |= {"__getstate__": _state, "__setstate__": _restore}
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    return cls


def _key(names: list[str]) -> Any:
    """What of an instance is compared and hashed."""
    return attrgetter(*names) if names else lambda instance: ()


def _first_init(cls: Any) -> Any:
    """An `__init__` that puts the compiled one in its own place when it is first called."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        init = _compiled(cls)
        if vars(cls).get("__init__") is __init__:
            type.__setattr__(cls, "__init__", init)
        init(self, *args, **kwargs)

    return __init__


def _compiled(cls: Any) -> Any:
    """`__init__` with the fields as parameters, as the standard library writes it."""
    names: dict[str, Any] = {"_set": _set, "_missing": dataclasses.MISSING}
    positional, body = ["self"], []
    keyword: list[str] = []
    for each in dataclasses.fields(cls):
        parameter, value = each.name, each.name
        if each.default_factory is not dataclasses.MISSING:
            names[f"_make_{each.name}"] = each.default_factory
            parameter = f"{each.name}=_missing"
            value = f"_make_{each.name}() if {each.name} is _missing else {each.name}"
        elif each.default is not dataclasses.MISSING:
            names[f"_default_{each.name}"] = each.default
            parameter = f"{each.name}=_default_{each.name}"
        if each.init:
            (keyword if each.kw_only else positional).append(parameter)
        elif each.default_factory is not dataclasses.MISSING:
            value = f"_make_{each.name}()"
        elif each.default is not dataclasses.MISSING and "__slots__" in vars(cls):
            value = f"_default_{each.name}"
        else:
            continue
        body.append(f"_set(self, {each.name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join(positional + (["*", *keyword] if keyword else []))
    lines = "\n    ".join(body or ["pass"])
    exec(f"def __init__({parameters}):\n    {lines}", names)
    init = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _repr(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented  # type: ignore[no-any-return]
    return bool(self._compared(self) == self._compared(other))


def _hash(self: Any) -> int:
    return hash(self._compared(self))


def _refuse(self: Any, name: str, *value: Any) -> None:
    verb = "assign to" if value else "delete"
    raise dataclasses.FrozenInstanceError(f"cannot {verb} field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for each, value in zip(dataclasses.fields(self), state, strict=True):
        _set(self, each.name, value)
