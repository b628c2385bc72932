"""Columns, schemas and SQL expressions: opaque text plus the columns it refers to.

Type names are canonical DuckDB text (`BIGINT`, `DOUBLE[64]`, `STRUCT(a INTEGER)`); only `dsl`
parses or writes SQL, every other folder splices it.
"""

from __future__ import annotations

from .node import Value

ROW = "__row"
"""The engine's row number: BIGINT, 0-based, in source order; carried through every chunk."""

FAILED = "__failed"
"""BOOLEAN: the row failed under ON ERROR NULL; a residual's inputs have it if its SQL reads it."""


class Field(Value):
    """A named, typed column."""

    name: str
    type: str


Schema = tuple[Field, ...]


class SqlExpr(Value):
    """A scalar DuckDB expression over the columns of its input.

    `text` is canonical SQL in which every column stands as a quoted identifier; `columns` are their
    names, sorted. `volatile` expressions (`random()`) are never moved or computed once for two.
    """

    text: str
    columns: tuple[str, ...]
    volatile: bool = False


class NamedExpr(Value):
    """`expr AS name`, with the type it has."""

    name: str
    expr: SqlExpr
    type: str

    @property
    def field(self) -> Field:
        """The column this makes."""
        return Field(self.name, self.type)


def quote(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


RESERVED = frozenset(
    (
        *("BEGIN", "CASE", "EACH", "END", "FALSE", "FROM", "IF", "NULL", "ON", "PER", "RETURN"),
        *("SELECT", "SLO", "TABLE", "TRUE", "VALUES", "WITH"),
    )
)
"""Words that mean something else in one of the places where a name may stand."""


def identifier(name: str) -> str:
    """A name as it is written in a statement: quoted unless it is a plain word."""
    word = name[:1] != "$" and name.replace("$", "_").isidentifier()
    return name if word and name.upper() not in RESERVED else quote(name)


def column(field: Field) -> NamedExpr:
    """A column passed through unchanged."""
    return NamedExpr(field.name, SqlExpr(quote(field.name), (field.name,)), field.type)


def names(schema: Schema) -> tuple[str, ...]:
    """The column names in order."""
    return tuple(field.name for field in schema)


def field_named(schema: Schema, name: str) -> Field:
    """The column of that name.

    Raises:
        KeyError: there is none.
    """
    for field in schema:
        if field.name == name:
            return field
    raise KeyError(name)
