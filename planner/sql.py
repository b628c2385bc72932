"""SQL text of relational plan nodes, spliced from canonical pieces; nothing here parses SQL.

`in0`, `in1`, … are inputs another node computes; each has the engine's `__row` and `__failed`. SQL
whose rows are still source rows gives them back, so that a failure is reported at its source row
and a failed row stays known as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..ir.logical import Join, Order, Source
from ..ir.types import FAILED, ROW, NamedExpr, Schema, SqlExpr, names, quote

TIE = "__tie"
"""Source order inside one query: the last sort key, so that ties keep it as `Sort` demands."""


def select_list(columns: Iterable[NamedExpr]) -> str:
    """`expr AS "name", …`; a select list cannot be empty, so none is a NULL nobody reads."""
    parts = [
        named.expr.text
        if named.expr.text == quote(named.name)
        else f"{named.expr.text} AS {quote(named.name)}"
        for named in columns
    ]
    return ", ".join(parts) or "NULL"


def name_list(wanted: Iterable[str]) -> str:
    """Quoted names; a NULL nobody reads for none."""
    return ", ".join(map(quote, wanted)) or "NULL"


def order_list(keys: Sequence[Order]) -> str:
    """`expr DESC NULLS FIRST, …`."""
    parts = []
    for key in keys:
        text = key.expr.text + (" DESC" if key.descending else "")
        if key.nulls_first is not None:
            text += " NULLS FIRST" if key.nulls_first else " NULLS LAST"
        parts.append(text)
    return ", ".join(parts)


def conjunction(predicates: Iterable[SqlExpr]) -> str:
    """`(p) AND (q)`; the parentheses keep each predicate whole."""
    return " AND ".join(f"({predicate.text})" for predicate in predicates)


def limit_clause(limit: int | None, offset: int) -> str:
    """`LIMIT n OFFSET m`, each where there is one."""
    text = "" if limit is None else f" LIMIT {limit}"
    return text + (f" OFFSET {offset}" if offset else "")


def source_sql(source: Source, wanted: frozenset[str]) -> str:
    """The query of a source, producing the wanted columns in schema order."""
    produced = [named for named in source.columns if named.name in wanted or source.distinct]
    used = {c for p in source.predicates for c in p.columns}
    used |= {c for key in source.order for c in key.expr.columns}
    rest = [named for named in (*source.columns, *source.hidden) if named not in produced]
    computed = [*produced, *(named for named in rest if named.name in used)]
    plain = not source.predicates and not source.order
    if plain and not source.distinct:
        base = f"SELECT {select_list(produced)} FROM {source.relation}"
        return base + limit_clause(source.limit, source.offset)
    where = f" WHERE {conjunction(source.predicates)}" if source.predicates else ""
    inner = f"(SELECT {select_list(computed)} FROM {source.relation})"
    shown = name_list(named.name for named in produced)
    if source.distinct:
        inner = f"(SELECT DISTINCT {shown} FROM {inner}{where})"
        where = ""
    order = ""
    if source.order:
        inner = f"(SELECT *, row_number() OVER () AS {TIE} FROM {inner}{where})"
        order, where = f" ORDER BY {order_list(source.order)}, {TIE}", ""
    text = f"SELECT {shown} FROM {inner}{where}{order}"
    return text + limit_clause(source.limit, source.offset)


def filter_sql(sql: str, predicate: SqlExpr, wanted: Sequence[str]) -> str:
    """The rows of a query where the predicate is TRUE."""
    return f"SELECT {name_list(wanted)} FROM ({sql}) WHERE {predicate.text}"


def project_sql(sql: str, columns: Sequence[NamedExpr]) -> str:
    """Expressions over a query."""
    return f"SELECT {select_list(columns)} FROM ({sql})"


def sort_sql(sql: str, keys: Sequence[Order], wanted: Sequence[str]) -> str:
    """A query's rows in order, ties in the order they came."""
    numbered = f"(SELECT *, row_number() OVER () AS {TIE} FROM ({sql}))"
    return f"SELECT {name_list(wanted)} FROM {numbered} ORDER BY {order_list(keys)}, {TIE}"


def sort_input_sql(keys: Sequence[Order], wanted: Sequence[str]) -> str:
    """The rows of `in0` in order, ties by row number; the order is the new numbering."""
    return f"SELECT {name_list([*wanted, FAILED])} FROM in0 ORDER BY {order_list(keys)}, {ROW}"


def distinct_sql(sql: str, wanted: Sequence[str]) -> str:
    """Each distinct row of a query."""
    return f"SELECT DISTINCT {name_list(wanted)} FROM ({sql})"


def distinct_input_sql(wanted: Sequence[str], relation: str = "in0") -> str:
    """Each distinct row of an input once, as the first of its source rows."""
    shown = name_list(wanted)
    return (
        f"SELECT {shown}, min({ROW}) AS {ROW}, bool_and({FAILED}) AS {FAILED} FROM {relation} "
        f"GROUP BY {shown} ORDER BY min({ROW})"
    )


def limit_sql(sql: str, wanted: Sequence[str], limit: int | None, offset: int) -> str:
    """The first rows of a query."""
    return f"SELECT {name_list(wanted)} FROM ({sql}){limit_clause(limit, offset)}"


def limit_rows_sql(sql: str, limit: int | None, offset: int) -> str:
    """The first rows of a query, with whatever else it gives."""
    return f"SELECT * FROM ({sql}){limit_clause(limit, offset)}"


def limit_input_sql(wanted: Sequence[str], limit: int | None, offset: int) -> str:
    """The first rows of `in0`."""
    shown = name_list([*wanted, ROW, FAILED])
    return f"SELECT {shown} FROM in0 ORDER BY {ROW}{limit_clause(limit, offset)}"


def join_sql(join: Join, left: str, right: str, fields: Schema) -> str:
    """A join of two relations given as FROM items; a lookup keeps the left one's rows and order.

    A lookup is an inner join: under ON ERROR SKIP a failed input has no row on the right, and all
    rows that had it are to go.
    """
    on_left = set(names(join.left.schema))
    shown = ", ".join(f"{'l' if f.name in on_left else 'r'}.{quote(f.name)}" for f in fields)
    shown = shown or "NULL"
    if join.kind == "lookup":
        pairs = (f"l.{quote(a)} IS NOT DISTINCT FROM r.{quote(b)}" for a, b in join.keys)
        how, on = "JOIN", " AND ".join(pairs)
        shown += f", l.{ROW} AS {ROW}, (l.{FAILED} OR r.{FAILED}) AS {FAILED}"
    else:
        how = {"inner": "JOIN", "left": "LEFT JOIN", "cross": "CROSS JOIN", "semi": "SEMI JOIN"}[
            join.kind
        ]
        on = join.condition.text if join.condition is not None else ""
    if how == "CROSS JOIN" and on:
        how = "JOIN"
    elif how != "CROSS JOIN" and not on:
        on = "TRUE"
    text = f"SELECT {shown} FROM {left} AS l {how} {right} AS r"
    text += f" ON {on}" if on else ""
    return text + (f" ORDER BY l.{ROW}" if join.kind == "lookup" else "")
