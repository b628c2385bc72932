"""DuckDB's types as text: list elements, and which casts an argument takes silently.

The rules are DuckDB's for function arguments: numbers widen, dates become timestamps, nothing
becomes VARCHAR by itself. One is wider (our choice): a list is accepted where a fixed-size array is
wanted, because Parquet cannot store arrays; a wrong length fails the row.
"""

from __future__ import annotations

import re

from ...ir.types import Field, Schema, SqlExpr, quote

NULL = '"NULL"'
"""What DuckDB calls the type of a bare NULL."""

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
_NUMBERS = frozenset((*_INTEGERS, *_UNSIGNED, "FLOAT", "DOUBLE", "BIGNUM"))
_WIDER = {
    ("FLOAT", "DOUBLE"),
    ("DATE", "TIMESTAMP"),
    ("DATE", "TIMESTAMP WITH TIME ZONE"),
    ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
    ("TIMESTAMP_S", "TIMESTAMP"),
    ("TIMESTAMP_MS", "TIMESTAMP"),
    ("TIMESTAMP", "TIMESTAMP_NS"),
    ("JSON", "VARCHAR"),
    ("VARCHAR", "JSON"),
}


def element(type_: str) -> str | None:
    """The element type of a list or array, None for anything else."""
    if not type_.endswith("]"):
        return None
    return type_[: type_.rindex("[")]


def is_list(type_: str) -> bool:
    """Is it a list or an array?"""
    return type_.endswith("]")


def _size(type_: str) -> int | None:
    """The length of a fixed-size array, None for a list."""
    inside = type_[type_.rindex("[") + 1 : -1]
    return int(inside) if inside else None


def struct_fields(type_: str) -> Schema | None:
    """The fields of a STRUCT, None for anything else."""
    if not (type_.startswith("STRUCT(") and type_.endswith(")")):
        return None
    fields = []
    for part in _split(type_[len("STRUCT(") : -1]):
        quoted = re.match(r'"((?:[^"]|"")+)"\s+(.+)', part)
        name, rest = (quoted[1].replace('""', '"'), quoted[2]) if quoted else part.split(" ", 1)
        fields.append(Field(name, rest))
    return tuple(fields)


def _split(text: str) -> list[str]:
    """The parts at commas outside brackets and quotes."""
    parts, depth, start, inside = [], 0, 0, ""
    for i, char in enumerate(text):
        if inside:
            inside = "" if char == inside else inside
        elif char in "'\"":
            inside = char
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def castable(have: str, want: str) -> bool:
    """Does DuckDB cast an argument of type `have` to `want` by itself?"""
    if have in (want, NULL) or (have, want) in _WIDER:
        return True
    if is_list(have) and is_list(want):
        sizes = _size(have), _size(want)
        fits = None in sizes or sizes[0] == sizes[1]
        return fits and castable(str(element(have)), str(element(want)))
    theirs, ours = struct_fields(have), struct_fields(want)
    if theirs is not None and ours is not None:
        return len(theirs) == len(ours) and all(
            a.name.lower() == b.name.lower() and castable(a.type, b.type)
            for a, b in zip(theirs, ours, strict=True)
        )
    if have.startswith("ENUM(") and want == "VARCHAR":
        return True
    return _widens(have, want)


def _widens(have: str, want: str) -> bool:
    decimal = want.startswith("DECIMAL")
    if have.startswith("DECIMAL"):
        return decimal or want in ("FLOAT", "DOUBLE")
    if have in _INTEGERS:
        wider = _INTEGERS[_INTEGERS.index(have) :]
        return want in wider or want in ("FLOAT", "DOUBLE", "BIGNUM") or decimal
    if have in _UNSIGNED:
        place = _UNSIGNED.index(have)
        wider = (*_UNSIGNED[place:], *_INTEGERS[place + 1 :])
        return want in wider or want in ("FLOAT", "DOUBLE", "BIGNUM") or decimal
    return False


def is_number(type_: str) -> bool:
    """A numeric type?"""
    return type_ in _NUMBERS or type_.startswith("DECIMAL")


def literal_fits(kind: str, want: str) -> bool:
    """May a literal (`string` or `number`) stand for a value of this type?

    A string literal is of any type DuckDB can read from text; a number fits any numeric type.
    """
    return kind == "string" or (kind == "number" and is_number(want))


def null_row(schema: Schema) -> str:
    """`SELECT NULL::T AS "c", …`: a row of these columns, to ask DuckDB for types over it."""
    if not schema:
        return "SELECT 1 AS nothing"
    return "SELECT " + ", ".join(null_of(field) for field in schema)


def null_of(field: Field) -> str:
    """`NULL::T AS "c"`."""
    value = "NULL" if field.type == NULL else f"CAST(NULL AS {field.type})"
    return f"{value} AS {quote(field.name)}"


def cast(expr: SqlExpr, type_: str) -> SqlExpr:
    """The expression as a value of a type."""
    return SqlExpr(f"CAST({expr.text} AS {type_})", expr.columns, expr.volatile)
