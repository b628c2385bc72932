"""From statements to plans and objects: every name resolved, every type checked.

    bind_select      a query          → `BoundQuery`: logical plan, SLO, visible columns
    bind_definition  a CREATE         → the object declared
    bind_derive      a DERIVE VARIANTS → `BoundDerive`: the model, the budget
    bind_analyze     an ANALYZE       → `BoundAnalyze`: inputs, labels, and the subject's plan

The work is in `binding/`. All errors are `BindError`s with the codes of `binding.problems.CODES`.
"""

from __future__ import annotations

from sqlglot import exp

from ..ir.logical import LogicalNode, Source
from ..ir.record import dataclass
from ..ir.slo import Slo
from ..ir.types import Schema
from . import ast
from .binding.analyze import BoundAnalyze, BoundLabel
from .binding.analyze import bind_analyze as _bind_analyze
from .binding.calls import CallSites, own_names
from .binding.definitions import Declared, Definition
from .binding.definitions import bind_definition as _bind_definition
from .binding.derivations import BoundDerive, bind_derive
from .binding.problems import Place
from .binding.queries import QueryBinder
from .binding.relations import Ctes
from .binding.slos import accuracy_asked, bind_slo
from .binding.trees import function_name, text_of
from .binding.view import CatalogView, Context
from .diagnostics import nearest
from .sqlbridge import too_deep

__all__ = [
    "BoundAnalyze",
    "BoundDerive",
    "BoundLabel",
    "BoundQuery",
    "CatalogView",
    "bind_analyze",
    "bind_definition",
    "bind_derive",
    "bind_select",
]


@dataclass(frozen=True)
class BoundQuery:
    """A query ready for planning.

    `fields` are the columns as the user sees them (names may repeat), pairwise with the plan's.
    `calls` is False when DuckDB can run the text alone; the plan is then that text as a source.
    `accuracy_undefined` says why the query has no accuracy, if it has none.
    """

    plan: LogicalNode
    fields: Schema
    slo: Slo
    on_error: str
    text: str
    calls: bool
    accuracy_undefined: str | None = None


def bind_select(stmt: ast.Select, catalog: CatalogView) -> BoundQuery:
    """The logical plan of a query with model calls.

    Raises:
        BindError: unknown names, wrong types, misplaced calls, an impossible SLO.
        SyntaxProblem: OC0109, it is nested too deeply; long chains of operators nest too.
    """
    try:
        return _select(stmt, catalog)
    except RecursionError:
        raise too_deep(stmt.span) from None


def bind_definition(stmt: Definition, catalog: CatalogView) -> Declared:
    """The object a CREATE declares.

    Raises:
        BindError: unknown types, names, units; duplicates; a body that does not bind.
        SyntaxProblem: OC0109, it is nested too deeply.
    """
    try:
        return _bind_definition(stmt, catalog)
    except RecursionError:
        raise too_deep(stmt.span) from None


def bind_analyze(stmt: ast.Analyze, catalog: CatalogView) -> BoundAnalyze:
    """Everything ANALYZE needs of the rows of USING.

    Raises:
        BindError: an unknown subject, a missing input, a label that is no output, a wrong budget.
        SyntaxProblem: OC0109, it is nested too deeply.
    """
    try:
        return _bind_analyze(stmt, catalog)
    except RecursionError:
        raise too_deep(stmt.span) from None


def _select(stmt: ast.Select, catalog: CatalogView) -> BoundQuery:
    ctx = Context(catalog)
    slo = bind_slo(stmt.slo, stmt.objective, catalog)
    place = own_names(ctx, Place(stmt.query))
    text = text_of(place.fragment.tree)
    sites = CallSites(ctx, place.fragment.tree)
    if not sites.calls:
        _check_misspelt(ctx, place, text)
        source = Source(f"({text})", ())
        return BoundQuery(source, (), slo, stmt.on_error, text, calls=False)
    bound = QueryBinder(ctx, place, sites).bind(place.fragment.tree, Ctes())
    if not bound.fields:
        raise place.error("OC0228", "SELECT without a selection list", place.fragment.tree)
    if not all(field.name for field in bound.fields):
        raise place.error("OC0228", "a column needs a name that is not empty", place.fragment.tree)
    asked = accuracy_asked(stmt.slo, slo)
    if ctx.undefined is not None and asked is not None:
        raise place.error(
            "OC0215",
            f"accuracy is undefined: {ctx.undefined}",
            asked if asked.end > asked.start else stmt.span,
            label="needs one right answer per source row",
            hint="ask for the accuracy of a model: accuracy(name) >= …",
        )
    return BoundQuery(bound.plan, bound.fields, slo, stmt.on_error, text, True, ctx.undefined)


def _check_misspelt(ctx: Context, place: Place, text: str) -> None:
    """A call of a model that does not exist reads like plain SQL: say so before DuckDB does."""
    for node in place.fragment.tree.find_all(exp.Anonymous):
        if nearest(str(function_name(node)), ctx.functions):
            ctx.describe(text, place)
            return
