"""Whole queries: CTEs, set operations, subqueries, and the SELECTs in them."""

from __future__ import annotations

from sqlglot import exp

from ...ir.logical import LogicalNode, Residual
from ...ir.record import dataclass
from ...ir.types import Field, quote
from .calls import CallSites
from .problems import Place
from .relations import Bound, Ctes, renamed
from .rewriting import Names, from_input
from .rows import describe_over, source_of
from .scopes import Scope
from .sources import Sources
from .trees import conjuncts, function_name, is_query, text_of
from .view import Context

_MODIFIERS = ("order", "limit", "offset")


@dataclass
class QueryBinder:
    """Binds the queries of one statement."""

    ctx: Context
    place: Place
    sites: CallSites

    def bind(self, node: exp.Expr, ctes: Ctes, outer: Names | None = None) -> Bound:
        """The plan of a query.

        Raises:
            BindError: whatever is wrong with it.
        """
        with_ = node.args.get("with_") or node.args.get("with")
        if with_ is not None:
            ctes = self._extended(with_, ctes)
        if node not in self.sites:
            return self._text(node, ctes)
        match node:
            case exp.Subquery():
                inner = self.bind(node.this, ctes, outer)
                return self._modified(node, inner, ctes)
            case exp.Select():
                return self._select(node, ctes, outer)
            case exp.SetOperation():
                return self._set(node, ctes, outer)
            case exp.Table() if node.name.lower() in ctes.plans:
                return ctes.plans[node.name.lower()]
        raise self.place.error(
            "OC0229",
            "model calls cannot stand in a query of this form",
            node,
            hint="call the model in a SELECT below or above it",
        )

    def _text(self, node: exp.Expr, ctes: Ctes) -> Bound:
        """A query DuckDB runs alone."""
        bare = node.copy()
        bare.set("with_", None)
        relation = f"({ctes.prefix(bare)}{text_of(bare)})"
        fields = self.ctx.describe(f"SELECT * FROM {relation}", self.place)
        made = tuple(Field(self.ctx.unique(f.name), f.type) for f in fields)
        listed = ", ".join(quote(f.name) for f in made)
        alias = quote(self.ctx.unique("query"))
        return Bound(
            source_of(f"{relation} AS {alias}({listed})", made), tuple(f.name for f in fields)
        )

    def _extended(self, with_: exp.Expr, ctes: Ctes) -> Ctes:
        recursive = bool(with_.args.get("recursive")) or ctes.recursive
        for cte in with_.expressions:
            name = cte.alias.lower()
            reads_itself = any(t.name.lower() == name for t in cte.this.find_all(exp.Table))
            if cte in self.sites:
                if recursive and reads_itself:
                    call = next((c for c in self.sites.calls if _inside(c, cte)), cte)
                    raise self.place.error(
                        "OC0213",
                        "a model call cannot stand in a recursive CTE",
                        call,
                        hint="call the model over its result",
                    )
                bound = self.bind(cte.this, ctes)
                texts = {k: v for k, v in ctes.texts.items() if k != name}
                plans = {**ctes.plans, name: renamed(bound, cte.args["alias"], self.place)}
                ctes = Ctes(texts, plans, recursive)
            else:
                plans = {k: v for k, v in ctes.plans.items() if k != name}
                ctes = Ctes({**ctes.texts, name: cte}, plans, recursive)
        return ctes

    def _modified(self, node: exp.Expr, inner: Bound, ctes: Ctes) -> Bound:
        """`(query) ORDER BY … LIMIT …`."""
        if not any(node.args.get(name) is not None for name in _MODIFIERS):
            return inner
        self._refuse_calls(node)
        body = from_input(inner.plan.schema, inner.names, 0)
        return self._residual(f"SELECT * FROM ({body}){self._tail(node)}", [inner.plan], False)

    def _tail(self, node: exp.Expr) -> str:
        clauses = [node.args.get(name) for name in _MODIFIERS]
        return "".join(f" {text_of(clause).strip()}" for clause in clauses if clause is not None)

    def _refuse_calls(self, node: exp.Expr, clauses: tuple[str, ...] = _MODIFIERS) -> None:
        for name in clauses:
            clause = node.args.get(name)
            for part in clause.walk() if clause is not None else ():
                if self.ctx.is_call(function_name(part)):
                    raise self.place.error(
                        "OC0214",
                        f"a model call cannot stand in {name.upper()} here",
                        part,
                        hint="call it in the SELECT list of a subquery",
                    )

    def _residual(
        self, sql: str, inputs: list[LogicalNode], aggregated: bool, reason: str = ""
    ) -> Bound:
        fields = describe_over(self.ctx, sql, inputs, self.place)
        made = tuple(Field(self.ctx.unique(f.name), f.type) for f in fields)
        listed = ", ".join(quote(f.name) for f in made)
        if aggregated:
            self.ctx.lose_accuracy(reason)
        plan = Residual(
            tuple(inputs), f"SELECT * FROM ({sql}) AS result({listed})", made, aggregated
        )
        return Bound(plan, tuple(f.name for f in fields))

    def _set(self, node: exp.SetOperation, ctes: Ctes, outer: Names | None) -> Bound:
        self._refuse_calls(node)
        inputs: list[LogicalNode] = []
        merges = False

        def operand(tree: exp.Expr) -> str:
            nonlocal merges
            nested = tree in self.sites and not tree.args.get("with_")
            if isinstance(tree, exp.SetOperation) and (tree is node or nested):
                keeps = isinstance(tree, exp.Union) and not tree.args.get("distinct")
                merges = merges or not keeps
                left, right = operand(tree.this), operand(tree.expression)
                text = f"{left} {_operator(tree)} {right}{self._tail(tree)}"
                return text if tree is node else f"({text})"
            if tree not in self.sites:
                return f"({text_of(tree)})"
            bound = self.bind(tree, ctes, outer)
            inputs.append(bound.plan)
            return f"({from_input(bound.plan.schema, bound.names, len(inputs) - 1)})"

        text = operand(node)
        others = [tree for tree in node.find_all(exp.Select) if tree not in self.sites]
        sql = ctes.prefix(*others) + text
        return self._residual(sql, inputs, merges, "a set operation merges rows")

    def _select(self, node: exp.Select, ctes: Ctes, outer: Names | None) -> Bound:
        self._refuse_forms(node)
        from_ = node.args.get("from_") or node.args.get("from")
        joins = [join.copy() for join in node.args.get("joins") or ()]
        where: list[exp.Expr] = []
        originals = node.args.get("joins") or ()
        if originals and from_ is None:
            raise self.place.error("OC0228", "JOIN without FROM", originals[0])
        for join, original in zip(joins, originals, strict=True):
            where += self._calls_out(join, original, [*originals])
        items = [from_.this] if from_ is not None else []
        items += [join.this for join in originals]
        plans = {id(item): self._item(item, ctes) for item in items if item in self.sites}
        clause = node.args.get("where")
        if clause is not None:
            where.append(clause.this)
        sources = Sources(self.ctx, self.place, ctes, items, joins, plans)
        queries = ScopeQueries(self, ctes)
        scope = Scope(self.ctx, self.place, node, ctes, queries, sources, outer, where)
        return scope.bind()

    def _refuse_forms(self, node: exp.Select) -> None:
        """Clauses whose place among the calls DuckDB does not let us keep, and calls in LIMIT."""
        self._refuse_calls(node, ("limit", "offset"))
        for name in ("sample", "into", "laterals", "pivots", "connect", "locks", "kind"):
            if node.args.get(name):
                raise self.place.error(
                    "OC0229",
                    f"{name.upper()} cannot stand beside model calls",
                    hint="put it in a subquery in FROM",
                )

    def _calls_out(
        self, join: exp.Join, original: exp.Join, joins: list[exp.Join]
    ) -> list[exp.Expr]:
        """The conjuncts of an inner join's ON that hold calls: they become filters.

        Raises:
            BindError: OC0214, the join is an outer one, or one after it is.
        """
        on = original.args.get("on")
        if on is None or on not in self.sites:
            return []
        later = joins[joins.index(original) :]
        if any(j.side.upper() in ("RIGHT", "FULL") for j in later) or (
            original.side or original.method or original.kind.upper() not in ("", "INNER")
        ):
            raise self.place.error(
                "OC0214",
                "a model call cannot stand in the ON of an outer join",
                on,
                hint="call the model in a subquery and join on its answer",
            )
        kept = [part.copy() for part in conjuncts(on) if part not in self.sites]
        condition = exp.and_(*kept, copy=False) if kept else None
        join.set("on", condition)
        if condition is None:
            join.set("kind", "CROSS")
        return [part for part in conjuncts(on) if part in self.sites]

    def _item(self, item: exp.Expr, ctes: Ctes) -> Bound:
        """An item of FROM with calls below it."""
        plain = not (item.args.get("pivots") or item.args.get("sample") or item.args.get("joins"))
        if plain and isinstance(item, exp.Subquery) and is_query(item.this):
            return self.bind(item.this, ctes)
        if plain and isinstance(item, exp.Table) and item.name.lower() in ctes.plans:
            return ctes.plans[item.name.lower()]
        call = next((c for c in self.sites.calls if _inside(c, item)), item)
        name = function_name(call)
        if isinstance(item, exp.Table) and call.parent is item and self.ctx.is_call(name):
            raise self.place.error(
                "OC0205",
                f"{name} is not a table function",
                call,
                hint=f"call it for every row: SELECT {name}(…) FROM …",
            )
        raise self.place.error(
            "OC0214",
            "a model call cannot stand here in FROM",
            call,
            hint="call the model in a subquery",
        )


@dataclass
class ScopeQueries:
    """The queries inside the expressions of one SELECT."""

    binder: QueryBinder
    ctes: Ctes

    def with_calls(self, node: exp.Expr) -> bool:
        """Does it hold a call, or read a CTE that does?"""
        return node in self.binder.sites

    def nested(self, node: exp.Expr, names: Names) -> LogicalNode:
        """The plan of a query inside an expression."""
        return self.binder.bind(node, self.ctes, names).plan

    def prefix(self, node: exp.Expr) -> str:
        """The WITH clause its text needs."""
        return self.ctes.prefix(node)


def _inside(node: exp.Expr, above: exp.Expr) -> bool:
    current: exp.Expr | None = node
    while current is not None:
        if current is above:
            return True
        current = current.parent
    return False


def _operator(tree: exp.SetOperation) -> str:
    word = {exp.Union: "UNION", exp.Intersect: "INTERSECT", exp.Except: "EXCEPT"}[type(tree)]
    every = "" if tree.args.get("distinct", True) else " ALL"
    return word + every + (" BY NAME" if tree.args.get("by_name") else "")
