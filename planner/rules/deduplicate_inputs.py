"""A call is made once for equal inputs, and its answers looked up for every row.

    Apply(X, call) = X ⋈_{lookup} Apply(δ(π_{arguments}(X)), call)

DuckDB removes the duplicates and joins the answers back; it spills. That costs about 10 µs a row
and makes the call wait for the last row, so the rule weighs:

* share of distinct inputs known: fires if it is at most 0.9 and the calls saved take longer than
  the join;
* unknown, but a call takes 1 ms or more: fires, since the most it can lose is 1 %;
* else, or where a LIMIT above stops the calls early: does not fire.

Precondition: the call, its arguments and its condition are not volatile. Inputs are equal when
DuckDB says so (NULL equals NULL, -0.0 equals 0.0).
Counter-example: two volatile answers for two equal rows may differ.
[Hellerstein, Naughton, "Query Execution Techniques for Caching Expensive Methods", SIGMOD 1996]
"""

from __future__ import annotations

from collections.abc import Iterator

from ...ir.logical import (
    Apply,
    Distinct,
    Join,
    LogicalNode,
    Project,
    condition_of,
    each_of,
    model_call,
)
from ...ir.types import Field, NamedExpr, SqlExpr, field_named, names
from ..columns import is_column, reference, through
from .calls import asking, asks, is_volatile
from .context import RuleContext

MOST_DISTINCT = 0.9
"""Above this share of distinct inputs they hardly repeat (our choice)."""
JOIN_SECONDS = 10e-6
"""Seconds per row to store, make distinct and join back (DuckDB, 1 kB rows; our choice)."""
CERTAIN_SECONDS = 100 * JOIN_SECONDS
"""A call this long makes the join's price at most 1 % of it."""


def deduplicate_inputs(node: LogicalNode, ctx: RuleContext) -> Iterator[LogicalNode]:
    """`Apply(X)` → `Join(lookup, X, Apply(Distinct(Project(X))))`."""
    if not isinstance(node, Apply) or not _pays(node, ctx):
        return
    model = ctx.models.get(model_call(node.call).model)
    if model is None or ctx.feeds_limit(node) or ctx.flow(node.input).distinct:
        return
    if is_volatile(node.call) or not model.inputs:
        return
    lists = each_of(node.call) or (False,) * len(model.inputs)
    types = [
        f"{given.type}[]" if listed else given.type
        for given, listed in zip(model.inputs, lists, strict=True)
    ]
    if condition_of(node.call) is not None:
        types.append("BOOLEAN")
    left, keys = _with_keys(node, list(zip(asks(node.call), types, strict=True)))
    taken = set(names(left.schema)) | set(names(node.outputs))
    inner = {key.name: Field(_free(f"{key.name}.input", taken), key.type) for key in keys}
    args = [reference(inner[key.name]) for key in keys]
    right = Project(
        left,
        tuple(NamedExpr(inner[k.name].name, reference(k), k.type) for k in dict.fromkeys(keys)),
    )
    answered = node.replace(input=Distinct(right), call=asking(node.call, args))
    pairs = tuple((outer, field.name) for outer, field in inner.items())
    joined = Join(left, answered, "lookup", None, pairs)
    yield joined if joined.schema == node.schema else Project(joined, through(node.schema))


def _pays(node: Apply, ctx: RuleContext) -> bool:
    """Is the join cheaper than the calls it saves?"""
    if ctx.stats is None:
        return False
    call = model_call(node.call)
    share = ctx.stats.distinct(call.context)
    seconds = ctx.stats.seconds_per_row(call.context, call.model)
    if seconds is None:
        return False
    if share is None:
        return seconds >= CERTAIN_SECONDS
    return share <= MOST_DISTINCT and (1.0 - share) * seconds > JOIN_SECONDS


def _with_keys(node: Apply, asked: list[tuple[SqlExpr, str]]) -> tuple[LogicalNode, list[Field]]:
    """The input with a column for every argument, and these columns."""
    below = node.input
    taken = set(names(node.schema))
    added: dict[tuple[SqlExpr, str], NamedExpr] = {}
    keys = []
    for expr, kind in asked:
        plain = [name for name in expr.columns if is_column(expr, name)]
        if plain and field_named(below.schema, plain[0]).type == kind:
            keys.append(Field(plain[0], kind))
            continue
        if (expr, kind) not in added:
            name = _free(f"{node.outputs[0].name}.key", taken)
            made = SqlExpr(f"CAST({expr.text} AS {kind})", expr.columns)
            added[expr, kind] = NamedExpr(name, made, kind)
        keys.append(added[expr, kind].field)
    if not added:
        return below, keys
    return Project(below, (*through(below.schema), *added.values())), keys


def _free(name: str, taken: set[str]) -> str:
    """A name nobody has yet."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
