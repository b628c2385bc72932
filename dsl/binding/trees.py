"""sqlglot trees: what they contain, and their text.

Column references over a plan are made by `plan_column` and marked, so that they are told from names
not yet resolved and from a lambda's own parameters.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from ...ir.types import SqlExpr

_PLAN = "octans_column"

AGGREGATES = frozenset(
    [
        "any_value",
        "approx_count_distinct",
        "approx_quantile",
        "approx_top_k",
        "arbitrary",
        "arg_max",
        "arg_max_null",
        "arg_max_nulls_last",
        "arg_min",
        "arg_min_null",
        "arg_min_nulls_last",
        "argmax",
        "argmin",
        "array_agg",
        "avg",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bitstring_agg",
        "bool_and",
        "bool_or",
        "combine_aggr",
        "corr",
        "count",
        "count_if",
        "count_star",
        "countif",
        "covar_pop",
        "covar_samp",
        "decimal_average",
        "entropy",
        "favg",
        "first",
        "fsum",
        "group_concat",
        "grouping",
        "grouping_id",
        "histogram",
        "histogram_exact",
        "kahan_sum",
        "kurtosis",
        "kurtosis_pop",
        "last",
        "list",
        "listagg",
        "lttb",
        "mad",
        "max",
        "max_by",
        "mean",
        "median",
        "min",
        "min_by",
        "mode",
        "product",
        "quantile",
        "quantile_cont",
        "quantile_disc",
        "regr_avgx",
        "regr_avgy",
        "regr_count",
        "regr_intercept",
        "regr_r2",
        "regr_slope",
        "regr_sxx",
        "regr_sxy",
        "regr_syy",
        "reservoir_quantile",
        "sem",
        "skewness",
        "stddev",
        "stddev_pop",
        "stddev_samp",
        "string_agg",
        "sum",
        "sum_no_overflow",
        "sumkahan",
        "var_pop",
        "var_samp",
        "variance",
        "variant_group_object",
    ]
)
"""DuckDB 2.0's aggregate functions (`duckdb_functions()`), for those sqlglot does not type."""

_VOLATILE = frozenset(
    [
        "random",
        "uuid",
        "gen_random_uuid",
        "uuidv4",
        "uuidv7",
        "nextval",
        "currval",
        "setval",
        "setseed",
        "rand",
        "sleep_ms",
    ]
)
"""DuckDB's volatile functions that a query may hold (`duckdb_functions().stability`)."""


def text_of(tree: exp.Expr) -> str:
    """Canonical DuckDB text."""
    return tree.sql(dialect="duckdb", normalize_functions=False, comments=False)


def plan_column(name: str) -> exp.Column:
    """A reference to a column of the plan."""
    column = exp.Column(this=exp.Identifier(this=name, quoted=True))
    column.meta[_PLAN] = True
    return column


def is_plan_column(node: exp.Expr) -> bool:
    """Made by `plan_column`?"""
    return isinstance(node, exp.Column) and bool(node.meta.get(_PLAN))


def plan_columns(tree: exp.Expr) -> tuple[str, ...]:
    """The plan columns a tree reads, sorted."""
    return tuple(sorted({node.name for node in tree.find_all(exp.Column) if is_plan_column(node)}))


def sql_of(tree: exp.Expr) -> SqlExpr:
    """A rewritten tree as a plan's expression."""
    return SqlExpr(text_of(tree), plan_columns(tree), is_volatile(tree))


def function_name(node: exp.Expr) -> str | None:
    """The function's name in lower case, None for what is not a function."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower() if isinstance(node.this, str) else node.name.lower()
    return node.sql_name().lower() if isinstance(node, exp.Func) else None


def is_volatile(tree: exp.Expr) -> bool:
    """Does it hold a function that answers differently every time?"""
    return any(
        isinstance(node, exp.Func) and function_name(node) in _VOLATILE for node in tree.walk()
    )


def is_aggregate(node: exp.Expr) -> bool:
    """An aggregate function's own node?"""
    return isinstance(node, exp.AggFunc) or (
        isinstance(node, exp.Func) and function_name(node) in AGGREGATES
    )


def is_query(node: exp.Expr) -> bool:
    """A query in its own scope?"""
    return isinstance(node, exp.Query | exp.Subquery | exp.Values)


def is_unnest(node: exp.Expr) -> bool:
    """`unnest(…)` as an expression: it makes rows."""
    return isinstance(node, exp.Explode | exp.Unnest) or (
        isinstance(node, exp.Anonymous) and function_name(node) == "unnest"
    )


def walk_scope(tree: exp.Expr) -> Iterator[exp.Expr]:
    """Depth first over an expression, not into the queries inside it (they are yielded)."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        if not is_query(node):
            stack.extend(reversed(list(node.iter_expressions())))


def conjuncts(tree: exp.Expr) -> list[exp.Expr]:
    """The parts of a conjunction, in order."""
    match tree:
        case exp.And():
            return [*conjuncts(tree.left), *conjuncts(tree.right)]
        case exp.Paren(this=exp.And() as inside):
            return conjuncts(inside)
        case _:
            return [tree]


def conjunction(parts: tuple[exp.Expr, ...]) -> exp.Expr:
    """`a AND b AND …`, each in parentheses where it needs them."""
    trees = [wrapped(part.copy()) for part in parts]
    result = trees[0]
    for tree in trees[1:]:
        result = exp.And(this=result, expression=tree)
    return result


_ATOMS = (
    exp.Column,
    exp.Literal,
    exp.Paren,
    exp.Boolean,
    exp.Null,
    exp.Anonymous,
    exp.Cast,
    exp.Case,
    exp.Coalesce,
    exp.Struct,
    exp.AggFunc,
    exp.Subquery,
)
"""What is written in one piece; sqlglot types some operators (`//`, `->`) as functions."""


def wrapped(tree: exp.Expr) -> exp.Expr:
    """In parentheses unless it cannot be read otherwise."""
    return tree if isinstance(tree, _ATOMS) else exp.Paren(this=tree)


def is_true(tree: exp.Expr) -> exp.Expr:
    """`tree IS TRUE`."""
    return exp.Is(this=wrapped(tree.copy()), expression=exp.true())


def is_not_true(tree: exp.Expr) -> exp.Expr:
    """`tree IS NOT TRUE`: false or NULL."""
    return exp.Not(this=exp.Is(this=wrapped(tree.copy()), expression=exp.true()))


def is_plain(tree: exp.Expr) -> bool:
    """Cannot fail and costs nothing: columns, literals, and their fields."""
    match tree:
        case exp.Column() | exp.Literal() | exp.Boolean() | exp.Null() | exp.Identifier():
            return True
        case exp.Paren(this=inside) | exp.Neg(this=inside):
            return is_plain(inside)
        case exp.Struct():
            return all(is_plain(item.expression) for item in tree.expressions)
        case exp.Anonymous():
            return function_name(tree) == "struct_extract" and all(map(is_plain, tree.expressions))
        case _:
            return False


def field_of(tree: exp.Expr, name: str) -> exp.Expr:
    """`tree.name`; a struct built in place gives its field itself."""
    inside = tree.this if isinstance(tree, exp.Paren) else tree
    if isinstance(inside, exp.Struct):
        for item in inside.expressions:
            if isinstance(item, exp.PropertyEQ) and item.name.lower() == name.lower():
                value: exp.Expr = item.expression
                return value
    return exp.Anonymous(this="struct_extract", expressions=[tree, exp.Literal.string(name)])


def typed_as(tree: exp.Expr, type_: str) -> exp.Cast:
    """`CAST(tree AS type)`; the type stays DuckDB's own text."""
    written = exp.DataType(this=exp.DType.USERDEFINED, kind=exp.Var(this=type_))
    return exp.Cast(this=tree.copy(), to=written)


def struct_of(fields: list[tuple[str, exp.Expr]]) -> exp.Struct:
    """`{'a': …, 'b': …}`."""
    return exp.Struct(
        expressions=[
            exp.PropertyEQ(this=exp.Identifier(this=name, quoted=True), expression=tree.copy())
            for name, tree in fields
        ]
    )
