"""One SELECT with model calls, phase by phase: FROM, WHERE, groups, windows, output.

    rows ─ calls and filters of WHERE ─▶ [groups] ─▶ [windows] ─▶ sort, limit, projection

Where a call needs the answer of an aggregate or a window, that phase is computed first, by a
residual, and its values become columns; otherwise one residual does everything that is left.
"""

from __future__ import annotations

from sqlglot import exp

from ...ir.logical import Filter, LogicalNode, Residual, Source
from ...ir.record import dataclass
from ...ir.types import ROW, SqlExpr, column, names, quote
from .clauses import Clauses
from .items import expand
from .names import ScopeNames
from .outputs import Output
from .problems import Place
from .relations import Bound, Ctes
from .rewriting import Names, Queries, Rewriter
from .rows import Rows, describe_over
from .shapes import aggregates, as_aggregate, holds_query, operands
from .sources import Sources
from .trees import (
    conjuncts,
    function_name,
    is_query,
    is_unnest,
    is_volatile,
    plan_column,
    sql_of,
    text_of,
    walk_scope,
)
from .types import NULL, cast, is_number
from .view import Context


@dataclass
class Scope:
    """Binds one SELECT."""

    ctx: Context
    place: Place
    select: exp.Select
    ctes: Ctes
    queries: Queries
    sources: Sources
    outer: Names | None
    where: list[exp.Expr]

    def bind(self) -> Bound:
        """The plan of the SELECT.

        Raises:
            BindError: whatever is wrong with it.
        """
        items = expand(self.ctx, self.place, self.sources, self.select.expressions)
        self.clauses = Clauses(self.select, self.place, self.sources, items, self.where)
        self.names = ScopeNames(self.sources, self.place, items, self.outer)
        self._precompute()
        self._register()
        self.rows = Rows(self.ctx, self.sources.plan())
        self.rewriter = Rewriter(self.ctx, self.rows, self.names, self.place, self.queries)
        self.names.rewriter = self.rewriter
        self._refuse_late_values()
        self._filter(self.where)
        having, qualify = self.clauses.clause("having"), self.clauses.clause("qualify")
        aggregated = self.clauses.aggregated
        if aggregated and self._calls_over_groups():
            self._compute_groups()
            aggregated = False
            if having is not None:
                self._filter([having])
        windowed = any(isinstance(node, exp.Window) for node in self.clauses.late_nodes())
        if windowed and not aggregated and self._calls_over_windows():
            self._compute_windows()
            windowed = False
            if qualify is not None:
                self._filter([qualify])
        makes_rows = any(
            is_unnest(node) and id(node) not in self.names.computed
            for node in self.clauses.late_nodes()
        )
        distinct = self.select.args.get("distinct") is not None
        output = Output(self.ctx, self.clauses, self.ctes, self.names, self.rows, self.rewriter)
        if aggregated or windowed or distinct or makes_rows or self.clauses.limits() is None:
            return output.residual(aggregated, windowed, distinct, makes_rows)
        return output.plain()

    def _calls_in(self, tree: exp.Expr) -> bool:
        return any(self.ctx.is_call(function_name(node)) for node in tree.walk())

    # Below WHERE.

    def _precompute(self) -> None:
        """Subqueries without calls become columns of FROM; so does unnest() inside a call."""
        late = {id(tree) for tree in self.clauses.late()} if self.clauses.aggregated else set()
        for tree in self.clauses.everything():
            if id(tree) not in late:
                self._precompute_queries(tree)
            else:
                for inside in aggregates(tree):
                    self._precompute_queries(inside)
        unnests = [node for node in self.clauses.late_nodes() if is_unnest(node)]
        if any(self._inside_call(node) for node in unnests):
            for node in unnests:
                if self._calls_in(node):
                    raise self.place.error(
                        "OC0229", "unnest() of a call beside unnest() inside one", node
                    )
                self.names.computed[id(node)] = self.sources.compute(node, "unnest")

    def _inside_call(self, node: exp.Expr) -> bool:
        above = node.parent
        while above is not None and not is_query(above):
            if self.ctx.is_call(function_name(above)):
                return True
            above = above.parent
        return False

    def _precompute_queries(self, tree: exp.Expr) -> None:
        stack = [tree]
        while stack:
            node = stack.pop()
            if not holds_query(node):
                stack.extend(node.iter_expressions())
            elif not self.queries.with_calls(node):
                made = self.sources.compute(node, "subquery")
                self.names.computed[id(node)] = made
            else:
                stack.extend(operands(node))

    def _register(self) -> None:
        bound: set[str] = set()
        for tree in self.clauses.everything():
            stack = [tree]
            while stack:
                node = stack.pop()
                if id(node) in self.names.computed or is_query(node):
                    continue
                if isinstance(node, exp.Lambda):
                    bound |= {part.name.lower() for part in node.expressions}
                if isinstance(node, exp.Comprehension):
                    bound |= {
                        part.name.lower() for part in node.expression.find_all(exp.Identifier)
                    }
                if isinstance(node, exp.Column):
                    if not isinstance(node.this, exp.Identifier | exp.Star):
                        raise self.place.error("OC0228", "this is not a column", node)
                    if node.parts and node.parts[0].name.lower() not in bound:
                        self.names.register(node)
                    continue
                stack.extend(node.iter_expressions())

    def _refuse_late_values(self) -> None:
        """Aggregates and windows come after WHERE."""
        for node in (node for tree in self.where for node in walk_scope(tree)):
            if isinstance(node, exp.Window) or as_aggregate(node) is not None or is_unnest(node):
                what = text_of(node)
                raise self.place.error("OC0228", f"WHERE cannot contain {what}", node)

    def _filter(self, conditions: list[exp.Expr]) -> None:
        """Keep the rows all conditions hold for; one question to DuckDB for all their types."""
        parts = [part for condition in conditions for part in conjuncts(condition)]
        predicates: list[SqlExpr] = []
        for part in parts:
            predicate = sql_of(self.rewriter.expr(part))
            if not isinstance(part, exp.Predicate | exp.Not | exp.Connector):
                predicate = self._boolean(predicate, part)
            predicates.append(predicate)
            self.rows.filter(predicate)
        self.rows.types(predicates, self.place, parts)

    def _boolean(self, value: SqlExpr, node: exp.Expr) -> SqlExpr:
        """A condition that is no predicate: numbers and texts are cast, as DuckDB does."""
        type_ = self.rows.types([value], self.place, [node])[0]
        if type_ in ("BOOLEAN", NULL):
            return value
        if is_number(type_) or type_ == "VARCHAR":
            return cast(value, "BOOLEAN")
        raise self.place.error(
            "OC0209", f"a condition must be BOOLEAN, not {type_}", node, label=f"this is {type_}"
        )

    # Groups and windows that calls stand above.

    def _calls_over_groups(self) -> bool:
        """Does a call stand neither inside an aggregate nor in a grouping expression?"""
        keys = {self.names.canonical(tree) for tree in self.clauses.group_trees()}
        return any(self._over(tree, keys) for tree in self.clauses.late())

    def _over(self, tree: exp.Expr, keys: set[str]) -> bool:
        if is_query(tree) or as_aggregate(tree) is not None:
            return False
        if not self._calls_in(tree) or self.names.canonical(tree) in keys:
            return False
        if isinstance(tree, exp.Column):
            return False
        if self.ctx.is_call(function_name(tree)):
            return True
        return any(self._over(child, keys) for child in tree.iter_expressions())

    def _compute_groups(self) -> None:
        group = self.select.args.get("group")
        if group is not None and any(
            group.args.get(k) for k in ("rollup", "cube", "grouping_sets")
        ):
            raise self.place.error(
                "OC0229",
                "a call over grouping sets is not possible",
                group,
                hint="group in a subquery and call the model above it",
            )
        keys = self.clauses.group_trees()
        found = {
            self.names.canonical(n): n for tree in self.clauses.late() for n in aggregates(tree)
        }
        computed: list[tuple[str, str, exp.Expr]] = []
        for tree in keys:
            name = tree.name if isinstance(tree, exp.Column) else "key"
            computed.append((self.names.canonical(tree), name, self.rewriter.expr(tree)))
        by = ", ".join(str(i + 1) for i in range(len(computed)))
        for text, node in found.items():
            computed.append((text, _short(node), self.rewriter.expr(node)))
        self._compute(computed, f" GROUP BY {by}" if by else "", keep=False)
        self.names.grouped = True

    def _calls_over_windows(self) -> bool:
        return any(
            self.ctx.is_call(function_name(node))
            and any(isinstance(part, exp.Window) for part in walk_scope(node))
            for node in self.clauses.late_nodes()
        )

    def _compute_windows(self) -> None:
        if self.select.args.get("windows"):
            raise self.place.error(
                "OC0229",
                "a call over a named window is not possible",
                hint="write the window where it is used",
            )
        windows = {
            self.names.canonical(node): node
            for node in self.clauses.late_nodes()
            if isinstance(node, exp.Window)
        }
        computed = [
            (text, _short(node.this), self.rewriter.expr(node)) for text, node in windows.items()
        ]
        self._compute(computed, "", keep=True)

    def _compute(self, computed: list[tuple[str, str, exp.Expr]], tail: str, *, keep: bool) -> None:
        """Values as columns, by a residual; by DuckDB alone where no call is below."""
        kept = names(self.rows.schema) if keep else ()
        made = [(text, self.ctx.unique(name), tree) for text, name, tree in computed]
        listed = [f"in0.{quote(name)}" for name in kept]
        listed += [f"{text_of(tree)} AS {quote(name)}" for _, name, tree in made]
        order = f" ORDER BY in0.{ROW}" if keep else ""
        sql = f"SELECT {', '.join(listed) or '1 AS nothing'} FROM in0{tail}"
        volatile = any(is_volatile(tree) for _, _, tree in made)
        self._put(sql + order, sql, aggregated=not keep, volatile=volatile)
        for text, name, _ in made:
            self.names.by_text[text] = plan_column(name)
        self.names.forget()
        if not keep:
            self.rewriter.rows = self.rows = Rows(self.ctx, self.rows.plan)

    def _put(self, sql: str, unordered: str, *, aggregated: bool, volatile: bool) -> None:
        below = self.rows.plan
        text = _relational_text(below)
        if text is not None:
            relation = f"(WITH in0 AS ({text}) {unordered}) AS {quote('groups')}"
            fields = self.ctx.describe(f"SELECT * FROM {relation}", self.place)
            self.rows.plan = Source(relation, tuple(column(field) for field in fields))
            return
        if aggregated and self.rows.has_calls:
            self.ctx.lose_accuracy("the query aggregates")
        fields = describe_over(self.ctx, sql, (below,), self.place)
        self.rows.plan = Residual((below,), sql, fields, aggregated, volatile)


def _relational_text(plan: LogicalNode) -> str | None:
    """The rows as a query DuckDB runs alone; None when calls are below."""
    predicates: list[str] = []
    while isinstance(plan, Filter):
        predicates.append(f"({plan.predicate.text})")
        plan = plan.input
    if not isinstance(plan, Source):
        return None
    listed = ", ".join(f"{c.expr.text} AS {quote(c.name)}" for c in plan.columns)
    text = f"SELECT {listed} FROM {plan.relation}"
    if not predicates:
        return text
    return f"SELECT * FROM ({text}) WHERE {' AND '.join(reversed(predicates))}"


def _short(node: exp.Expr) -> str:
    return function_name(node) or type(node).__name__.lower()
