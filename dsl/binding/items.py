"""The SELECT list: stars and COLUMNS() expanded, every item with the name a user sees."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from ...ir.record import dataclass
from ..diagnostics import nearest
from .problems import Place
from .relations import Key
from .sources import Sources
from .trees import function_name, text_of, walk_scope
from .view import Context

_KEY = "octans_key"


@dataclass(frozen=True)
class Item:
    """One output of a SELECT; `alias` in lower case when it may be referred to by it."""

    tree: exp.Expr
    name: str
    alias: str | None


def key_of(column: exp.Column) -> Key | None:
    """The key a column made from a star stands for."""
    found = column.meta.get(_KEY)
    return found if isinstance(found, Key) else None


def expand(ctx: Context, place: Place, sources: Sources, expressions: list[exp.Expr]) -> list[Item]:
    """The items in order.

    Raises:
        BindError: an unknown alias before `.*`; a call inside COLUMNS.
    """
    items: list[Item] = []
    for tree in expressions:
        items.extend(_expanded(ctx, place, sources, tree))
    return items


def _expanded(ctx: Context, place: Place, sources: Sources, tree: exp.Expr) -> Iterator[Item]:
    match tree:
        case exp.Star():
            yield from _star(place, sources, None, tree)
        case exp.Column(this=exp.Star() as star):
            yield from _star(place, sources, tree.table, star)
        case (
            exp.Alias(this=exp.Star() | exp.Column(this=exp.Star()))
            | exp.Paren(this=exp.Star() | exp.Column(this=exp.Star()))
        ):
            yield from _expanded(ctx, place, sources, tree.this)
        case exp.Alias():
            if _columns_in(tree.this) is None:
                yield Item(tree.this, tree.alias, tree.alias.lower())
            else:
                yield from _columns(ctx, place, sources, tree.this)
        case exp.Aliases():
            raise place.error(
                "OC0229", "several aliases for one expression cannot stand beside calls", tree
            )
        case _ if _columns_in(tree) is not None:
            yield from _columns(ctx, place, sources, tree)
        case exp.Binary() if isinstance(tree.left, exp.Star):
            for field in sources.describe_item(text_of(tree)):
                yield _named(sources, field, tree)
        case _:
            yield Item(tree, output_name(tree), None)


def _star(place: Place, sources: Sources, alias: str | None, star: exp.Star) -> Iterator[Item]:
    dropped = {part.name.lower() for part in star.args.get("except_") or ()}
    replaced = {part.alias.lower(): part.this for part in star.args.get("replace") or ()}
    renamed = {part.this.name.lower(): part.alias for part in star.args.get("rename") or ()}
    keys = sources.star(alias, star)
    known = [key.name.strip('"') if key.relation is None else key.name for key in keys]
    for wanted in {**dict.fromkeys(dropped), **replaced, **renamed}:
        if wanted not in {name.lower() for name in known}:
            raise place.error(
                "OC0203",
                f"unknown column {wanted}",
                star,
                label="no such column among these",
                candidates=nearest(wanted, known),
            )
    for key in keys:
        name = key.name.strip('"') if key.relation is None else key.name
        lower = name.lower()
        if lower in dropped:
            continue
        column = _column(name)
        column.meta[_KEY] = key
        yield Item(replaced.get(lower, column), renamed.get(lower, name), None)


def _column(name: str) -> exp.Column:
    return exp.Column(this=exp.Identifier(this=name, quoted=not name.isidentifier()))


def _columns_in(tree: exp.Expr) -> exp.Columns | None:
    return next((node for node in walk_scope(tree) if isinstance(node, exp.Columns)), None)


def _columns(ctx: Context, place: Place, sources: Sources, tree: exp.Expr) -> Iterator[Item]:
    """`f(COLUMNS(…))`: the expression once for each column."""
    found = _columns_in(tree)
    assert found is not None
    if any(ctx.is_call(function_name(node)) for node in found.walk()):
        raise place.error("OC0214", "a model call cannot choose columns", found)
    for name in sources.describe_item(text_of(found)):
        column = _column(name)

        def swap(node: exp.Expr, column: exp.Column = column) -> exp.Expr:
            return column.copy() if isinstance(node, exp.Columns) else node

        one = tree.copy().transform(swap)
        yield Item(one, name if tree is found else output_name(one), None)


def _named(sources: Sources, name: str, node: exp.Expr) -> Item:
    column = _column(name)
    found = sources.find([name], node)
    if found is not None:
        column.meta[_KEY] = found[0]
    return Item(column, name, None)


def output_name(tree: exp.Expr) -> str:
    """The name of an output without alias: its column or field, else its text."""
    match tree:
        case exp.Column() | exp.Dot(expression=exp.Identifier()):
            return str(tree.parts[-1].name) if isinstance(tree, exp.Column) else tree.name
        case exp.Paren():
            return output_name(tree.this)
        case _:
            return tree.sql(dialect="duckdb", normalize_functions="lower", comments=False)
