"""The last phase of a SELECT: its outputs in order, by plan nodes or by one residual."""

from __future__ import annotations

from sqlglot import exp

from ...ir.logical import Limit, LogicalNode, Order, Project, Residual, Sort
from ...ir.record import dataclass
from ...ir.types import ROW, Field, NamedExpr, quote
from .clauses import Clauses
from .names import ScopeNames
from .relations import Bound, Ctes
from .rewriting import Rewriter
from .rows import Rows, describe_over
from .shapes import windows
from .trees import is_volatile, plan_columns, sql_of, text_of
from .view import Context


@dataclass
class Output:
    """Puts the SELECT list, ORDER BY and LIMIT on top of the rows."""

    ctx: Context
    clauses: Clauses
    ctes: Ctes
    names: ScopeNames
    rows: Rows
    rewriter: Rewriter

    def _ordered(self) -> list[exp.Ordered]:
        """ORDER BY's terms, with positions and ALL replaced by outputs."""
        terms: list[exp.Ordered] = []
        for term in self.clauses.order:
            ordered = term if isinstance(term, exp.Ordered) else exp.Ordered(this=term)
            key = ordered.this
            if isinstance(key, exp.Var) and key.name.upper() == "ALL":
                terms += [
                    _with_key(ordered, self.names.output(i)) for i in range(len(self.clauses.items))
                ]
            elif isinstance(key, exp.Literal) and not key.is_string:
                output = self.names.output(self.clauses.position(key))
                terms.append(_with_key(ordered, output))
            else:
                self.names.order = True
                terms.append(_with_key(ordered, self.rewriter.expr(key)))
                self.names.order = False
        return terms

    def plain(self) -> Bound:
        """Sort, limit and projection; outputs come first, so that equal calls are made once."""
        outputs = range(len(self.clauses.items))
        trees = [self.names.output(i) for i in outputs]
        terms = self._ordered()
        if terms:
            trees = [self.names.output(i) for i in outputs]
        exprs = [sql_of(tree) for tree in trees]
        keys = [_key(term) for term in terms]
        written = [*(item.tree for item in self.clauses.items), *self.clauses.order]
        asked = [*exprs, *(key.expr for key in keys)]
        types = self.rows.types(asked, self.clauses.place, written)[: len(exprs)]
        plan: LogicalNode = self.rows.plan
        if terms:
            plan = Sort(plan, tuple(keys))
        limits = self.clauses.limits()
        assert limits is not None
        if limits != (None, 0):
            plan = Limit(plan, *limits)
        columns: list[NamedExpr] = []
        for item, expr, type_ in zip(self.clauses.items, exprs, types, strict=True):
            same = expr.text == quote(item.name)
            free = same and all(c.name != item.name for c in columns)
            name = item.name if free else self.ctx.unique(item.name)
            columns.append(NamedExpr(name, expr, type_))
        return Bound(Project(plan, tuple(columns)), tuple(item.name for item in self.clauses.items))

    def residual(self, aggregated: bool, windowed: bool, distinct: bool, makes_rows: bool) -> Bound:
        """Everything after WHERE in one query over the rows."""
        self.rewriter.inline = aggregated
        trees = [self.names.output(i) for i in range(len(self.clauses.items))]
        made = [self.ctx.unique(item.name) for item in self.clauses.items]
        listed = ", ".join(
            f"{text_of(tree)} AS {quote(name)}" for tree, name in zip(trees, made, strict=True)
        )
        tail = self._tail(aggregated, windowed)
        terms = [text_of(term) for term in self._ordered()]
        if not aggregated and not distinct:
            terms.append(f"in0.{ROW}")
        if terms:
            tail += " ORDER BY " + ", ".join(terms)
        for name in ("limit", "offset"):
            clause = self.clauses.select.args.get(name)
            if clause is not None:
                tail += f" {text_of(clause).strip()}"
        plans = (self.rows.plan, *self.rewriter.inputs)
        prefix = self.ctes.prefix(*self.clauses.late())
        sql = f"{prefix}SELECT {self._distinct()}{listed} FROM in0{tail}"
        fields = describe_over(self.ctx, sql, plans, self.clauses.place)
        fields = tuple(Field(name, f.type) for name, f in zip(made, fields, strict=True))
        lost = (
            aggregated or distinct or makes_rows or (windowed and self._window_reads_calls(trees))
        )
        if lost and self.rows.has_calls:
            self.ctx.lose_accuracy(_reason(aggregated, distinct, makes_rows))
        volatile = any(is_volatile(tree) for tree in trees)
        plan = Residual(plans, sql, fields, lost, volatile)
        return Bound(plan, tuple(item.name for item in self.clauses.items))

    def _tail(self, aggregated: bool, windowed: bool) -> str:
        """GROUP BY, HAVING, WINDOW and QUALIFY over the rows' columns."""
        tail = ""
        group = self.clauses.select.args.get("group")
        if group is not None and aggregated:
            if group.args.get("all"):
                tail += " GROUP BY ALL"
            else:
                tail += " " + text_of(self._grouped(group)).strip()
        for name, word in (("having", "HAVING"), ("qualify", "QUALIFY")):
            clause = self.clauses.clause(name)
            if clause is not None and (aggregated if name == "having" else windowed):
                tail += f" {word} {text_of(self.rewriter.expr(clause))}"
            if name == "having":
                named = self.clauses.select.args.get("windows")
                if named:
                    written = [text_of(self.rewriter.expr(window)) for window in named]
                    tail += " WINDOW " + ", ".join(written)
        return tail

    def _grouped(self, group: exp.Expr) -> exp.Expr:
        """GROUP BY rewritten, whatever sets it is made of."""
        group = group.copy()
        group.set("expressions", [self._key_tree(tree) for tree in group.expressions])
        for name in ("rollup", "cube", "grouping_sets"):
            sets = group.args.get(name)
            if sets:
                group.set(name, [self.rewriter.children(one, ()) for one in sets])
        return group

    def _key_tree(self, tree: exp.Expr) -> exp.Expr:
        """A term of GROUP BY; an output named by it is that very output, also when volatile."""
        resolved = self.clauses.grouping(tree)
        for position, item in enumerate(self.clauses.items):
            if item.tree is resolved:
                return self.names.output(position).copy()
        return self.rewriter.expr(resolved)

    def _distinct(self) -> str:
        distinct = self.clauses.select.args.get("distinct")
        if distinct is None:
            return ""
        on = distinct.args.get("on")
        if on is None:
            return "DISTINCT "
        trees = on.expressions if isinstance(on, exp.Tuple) else [on]
        keys = [text_of(self._key_tree(tree)) for tree in trees]
        return f"DISTINCT ON ({', '.join(keys)}) "

    def _window_reads_calls(self, trees: list[exp.Expr]) -> bool:
        made = {name for tree in trees for node in windows(tree) for name in plan_columns(node)}
        return self.rows.has_calls and not made <= set(self._source_columns())

    def _source_columns(self) -> tuple[str, ...]:
        return tuple(named.name for named in self.clauses.sources.made.values())


def _with_key(term: exp.Ordered, key: exp.Expr) -> exp.Ordered:
    args = {name: value for name, value in term.args.items() if name != "this"}
    return exp.Ordered(this=key.copy(), **args)


def _key(term: exp.Ordered) -> Order:
    first = True if term.args.get("nulls_first") else None
    return Order(sql_of(term.this), bool(term.args.get("desc")), first)


def _reason(aggregated: bool, distinct: bool, makes_rows: bool) -> str:
    if aggregated:
        return "the query aggregates"
    if distinct:
        return "DISTINCT merges rows"
    return "unnest makes several rows of one" if makes_rows else "a window mixes several rows"
