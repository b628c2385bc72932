"""Types of scored values: what DuckDB calls them, and which compare with which."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)")
_LIST = re.compile(r"(.*)\[(\d*)\]", re.DOTALL)
_STRUCT = re.compile(r"STRUCT\((.*)\)", re.DOTALL)


def is_number(type_name: str) -> bool:
    """A numeric type?"""
    return _NUMBER.fullmatch(type_name) is not None


def is_text(type_name: str) -> bool:
    """VARCHAR or an ENUM?"""
    return type_name == "VARCHAR" or type_name.startswith("ENUM(")


def is_list(type_name: str) -> bool:
    """A list or an array?"""
    return _LIST.fullmatch(type_name) is not None


def is_vector(type_name: str) -> bool:
    """A list or an array of numbers?"""
    listed = _LIST.fullmatch(type_name)
    return listed is not None and is_number(listed[1])


def has_shapes(type_name: str) -> bool:
    """A box of four numbers (list or struct), a list of boxes, or a mask of BOOLEAN?"""
    if (struct := _STRUCT.fullmatch(type_name)) is not None:
        fields = struct[1].split(", ")
        return len(fields) == 4 and all(is_number(each.rpartition(" ")[2]) for each in fields)
    listed = _LIST.fullmatch(type_name)
    if listed is None:
        return False
    inner, size = listed[1], listed[2]
    if inner == "BOOLEAN" or (is_number(inner) and size in ("", "4")):
        return True
    return has_shapes(inner)


def type_text(type_: pa.DataType) -> str | None:
    """DuckDB's name of an Arrow type, as far as scoring tells types apart; None of NULLs alone."""
    import pyarrow.types as kinds

    if kinds.is_null(type_):
        return None
    if kinds.is_list(type_) or kinds.is_large_list(type_):
        return f"{type_text(type_.value_type)}[]"
    if kinds.is_fixed_size_list(type_):
        return f"{type_text(type_.value_type)}[{type_.list_size}]"
    if kinds.is_struct(type_):
        fields = (type_.field(place) for place in range(type_.num_fields))
        return f"STRUCT({', '.join(f'{f.name} {type_text(f.type)}' for f in fields)})"
    named: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
        (kinds.is_boolean, "BOOLEAN"),
        (kinds.is_integer, "BIGINT"),
        (kinds.is_floating, "DOUBLE"),
        (kinds.is_decimal, "DECIMAL()"),
        (lambda t: kinds.is_string(t) or kinds.is_large_string(t), "VARCHAR"),
        (kinds.is_dictionary, "VARCHAR"),
    )
    return next((name for fits, name in named if fits(type_)), str(type_).upper())


def is_listed(type_: pa.DataType) -> bool:
    """An Arrow type of lists or arrays?"""
    import pyarrow.types as kinds

    return bool(
        kinds.is_list(type_) or kinds.is_large_list(type_) or kinds.is_fixed_size_list(type_)
    )


def comparable(answer: pa.DataType, truth: pa.DataType) -> bool:
    """Types whose Python values compare meaningfully: equal ones, any two numbers, texts, …"""
    import pyarrow.types as kinds

    if answer == truth or kinds.is_null(answer) or kinds.is_null(truth):
        return True
    families: tuple[Callable[[pa.DataType], bool], ...] = (
        lambda t: kinds.is_integer(t) or kinds.is_floating(t) or kinds.is_decimal(t),
        lambda t: kinds.is_string(t) or kinds.is_large_string(t) or kinds.is_dictionary(t),
        lambda t: kinds.is_binary(t) or kinds.is_large_binary(t),
        kinds.is_temporal,
        kinds.is_struct,
    )
    if is_listed(answer) and is_listed(truth):
        return comparable(answer.value_type, truth.value_type)
    return any(family(answer) and family(truth) for family in families)
