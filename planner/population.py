"""Which rows a query asks a subject about, told in the columns of the subject's kept sample.

A promise is proved on rows that ANALYZE held back, and holds for rows like those. A query with a
WHERE asks about some of them only, and there a plan may be right less often. So the relational work
between the query's source and its calls is repeated on the kept rows, and only the rows that pass
it stand for the query. Where it cannot be repeated, the reason is given and nothing is proved.

What a query reads is found among the kept columns: the argument of an input is that input; any
other column is the one of the same name and type that USING had (our choice: one name means one
thing in the rows analyzed and in the rows asked about). Filters on the models' own answers, and
calls under a CASE, take no row out of the question: a row dropped or left out rightly is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field

from ..ir.logical import (
    Apply,
    Distinct,
    Filter,
    Limit,
    LogicalNode,
    Project,
    Sort,
    Source,
    model_call,
)
from ..ir.node import Node, collect
from ..ir.record import dataclass
from ..ir.types import SqlExpr, quote
from .sql import conjunction, select_list


@dataclass(frozen=True)
class Population:
    """The rows asked about.

    Attributes:
        sql: their `__row`s, a query over the kept sample; None: all of the sample's.
        where: the conditions they pass, as text; '' without any.
        limited: a LIMIT takes some of them, and nothing tells which are like those.
        unclear: why they cannot be told from others of the sample; None where they can.
        missing: the columns that are not among the kept ones.
    """

    sql: str | None = None
    where: str = ""
    limited: bool = False
    unclear: str | None = None
    missing: tuple[str, ...] = ()

    def text(self) -> str:
        """What to add to a promise, '' where it is about all rows."""
        parts = [f" WHERE {self.where}"] if self.where else []
        if self.limited:
            parts.append(", of all rows that LIMIT chooses from")
        return "".join(parts)


@dataclass(frozen=True)
class Kept:
    """A kept sample: its relation, and its column for each input and each column of USING.

    `using` maps a column's name, in lower case, to its own column of the sample and its type.
    """

    relation: str
    inputs: Mapping[str, str]
    using: Mapping[str, tuple[str, str]]


@dataclass
class _Walk:
    """What is known of the columns so far: `select` lists those the sample can compute."""

    sql: str
    select: set[str]
    derived: set[str] = field(default_factory=set)
    where: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    limited: bool = False
    unclear: str | None = None


def population(
    plan: LogicalNode, body: LogicalNode, kept: Kept, whole: Callable[[str], bool]
) -> Population:
    """The rows of a sample that stand for a query's.

    Args:
        plan: the query as bound, with one call of the subject.
        body: the subject's own plan over a relation with its inputs as columns.
        kept: the subject's sample.
        whole: is a FROM clause the whole of what it names, without anything that takes rows out?
    """
    sources = collect(plan, Source)
    if len(sources) != 1:
        return Population(unclear="it reads several relations")
    walk = _begin(sources[0], plan, body, kept)
    if not whole(sources[0].relation):
        walk.unclear = f"its FROM is more than a table: {sources[0].relation}"
    for node in plan.postorder():
        if walk.unclear is None:
            _step(walk, node)
    if walk.unclear is not None:
        return Population(unclear=walk.unclear, missing=tuple(sorted(walk.missing)))
    if not walk.where:
        return Population(limited=walk.limited)
    return Population(walk.sql, " AND ".join(walk.where), walk.limited)


def _begin(source: Source, plan: LogicalNode, body: LogicalNode, kept: Kept) -> _Walk:
    """The source's columns, as the sample has them."""
    by_argument = _arguments(plan, body, kept.inputs)
    columns = ["__row"]
    known = set()
    for named in source.columns:
        found = by_argument.get(named.name)
        if found is None:
            own = _plain_name(named.expr)
            candidate = kept.using.get(own.lower()) if own is not None else None
            found = candidate[0] if candidate is not None and candidate[1] == named.type else None
        if found is not None:
            known.add(named.name)
            columns.append(f"{quote(found)} AS {quote(named.name)}")
    walk = _Walk(f"SELECT {', '.join(columns)} FROM {kept.relation}", known)
    for predicate in source.predicates:
        _filter(walk, predicate)
    walk.limited = source.limit is not None or source.offset > 0
    if source.distinct:
        walk.unclear = "DISTINCT merges rows"
    return walk


def _arguments(plan: LogicalNode, body: LogicalNode, inputs: Mapping[str, str]) -> dict[str, str]:
    """Columns of the query's source that are given as an input, and that input's kept column."""
    own = {model_call(apply.call).context: apply for apply in collect(body, Apply)}
    origin: dict[str, str] = {}
    for node in plan.postorder():
        if isinstance(node, Source):
            origin.update({named.name: named.name for named in node.columns})
        elif isinstance(node, Project):
            for named in node.columns:
                column = _column(named.expr)
                if column is not None and column in origin:
                    origin[named.name] = origin[column]
    found = {}
    for apply in collect(plan, Apply):
        reference = own.get(model_call(apply.call).context)
        if reference is not None:
            pairs = zip(model_call(apply.call).args, model_call(reference.call).args, strict=True)
            for given, wanted in pairs:
                column, name = _column(given), _column(wanted)
                if column is not None and column in origin and name is not None and name in inputs:
                    found[origin[column]] = inputs[name]
    return found


def _step(walk: _Walk, node: Node) -> None:
    """Take a node into account."""
    match node:
        case Source() | Sort():
            pass
        case Apply():
            walk.derived |= {field.name for field in node.outputs}
        case Filter():
            _filter(walk, node.predicate)
        case Project():
            _project(walk, node)
        case Limit():
            walk.limited = True
        case Distinct():
            walk.unclear = "DISTINCT merges rows"
        case _:
            walk.unclear = f"a {type(node).__name__.lower()} decides which rows there are"


def _filter(walk: _Walk, predicate: SqlExpr) -> None:
    """A relational filter; one that reads answers keeps every row in question."""
    if walk.derived.intersection(predicate.columns):
        return
    missing = set(predicate.columns) - walk.select
    if missing or (predicate.volatile and predicate.columns):
        walk.missing |= missing
        walk.unclear = f"WHERE {predicate.text}"
    elif not predicate.volatile:
        walk.sql = f"SELECT * FROM ({walk.sql}) WHERE {conjunction([predicate])}"
        walk.where.append(predicate.text)


def _project(walk: _Walk, node: Project) -> None:
    """Computed columns; those of answers or of unknown columns are not there."""
    kept = [
        named
        for named in node.columns
        if walk.select.issuperset(named.expr.columns) and not named.expr.volatile
    ]
    walk.derived = {n.name for n in node.columns if walk.derived.intersection(n.expr.columns)}
    listed = f", {select_list(kept)}" if kept else ""
    walk.sql = f"SELECT __row{listed} FROM ({walk.sql})"
    walk.select = {named.name for named in kept}


def _column(expr: SqlExpr) -> str | None:
    """The column an expression is; None where it is more than one."""
    columns = expr.columns
    return columns[0] if len(columns) == 1 and expr.text == quote(columns[0]) else None


def _plain_name(expr: SqlExpr) -> str | None:
    """The column of a relation that an expression over it is: `"k"` or `"n"."k"`."""
    text = expr.text.rsplit('."', 1)[-1]
    name = text.strip('"')
    return name if f'"{name}"' in (expr.text, f'"{text}') else None
