"""One SELECT with model calls, phase by phase: FROM, WHERE, groups, windows, output.

    rows ─ calls and filters of WHERE ─▶ [groups] ─▶ [windows] ─▶ sort, limit, projection

Where a call needs the answer of an aggregate or a window, that phase is computed first, by a
residual, and its values become columns; otherwise one residual does everything that is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from ...errors import BindError
from ...ir.logical import Limit, LogicalNode, Order, Project, Residual, Sort, Source
from ...ir.types import ROW, Field, NamedExpr, SqlExpr, column, names, quote
from .items import Item, expand, key_of
from .problems import Place
from .rewriting import Names, Queries, Rewriter
from .rows import Rows, describe_over
from .sources import Bound, Ctes, Key, Sources
from .trees import (
    conjuncts,
    field_of,
    function_name,
    is_aggregate,
    is_plan_column,
    is_query,
    is_unnest,
    is_volatile,
    plan_column,
    plan_columns,
    sql_of,
    text_of,
    walk_scope,
    wrapped,
)
from .types import NULL
from .view import Context

_WRAPPERS = exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls


@dataclass
class ScopeNames:
    """What names mean in one SELECT: columns of FROM, then outputs by alias (in ORDER BY first)."""

    sources: Sources
    place: Place
    items: list[Item]
    outer: Names | None
    rewriter: Rewriter | None = None
    order: bool = False
    computed: dict[int, exp.Expr] = field(default_factory=dict)
    by_text: dict[str, exp.Expr] = field(default_factory=dict)
    grouped: bool = False
    _outputs: dict[int, exp.Expr] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    _virtual: dict[str, Key] = field(default_factory=dict)

    def instead(self, node: exp.Expr) -> exp.Expr | None:
        """Subqueries computed below, and groups, aggregates and windows already computed."""
        if id(node) in self.computed:
            return self.computed[id(node)]
        if self.by_text and not isinstance(node, exp.Literal):
            return self.by_text.get(self.canonical(node))
        return None

    def canonical(self, node: exp.Expr) -> str:
        """The text of an expression with its columns resolved: equal for equal expressions."""

        def one(part: exp.Expr) -> exp.Expr:
            if isinstance(part, exp.Column) and not is_plan_column(part):
                found = self._find(part)
                if found is not None and not found[1]:
                    return self.sources.read(found[0])
            return part

        return text_of(node.copy().transform(one))

    def register(self, node: exp.Column) -> None:
        """Have FROM produce a column, if it is one of FROM's."""
        try:
            found = self._find(node)
        except BindError:
            return
        if found is None:
            text = text_of(node)
            key = None
            if self._alias(node.parts[0].name) is None:
                key = self.sources.virtual(text)
            if key is None:
                return
            self._virtual[text] = key
            found = key, []
        self.sources.read(found[0])

    def _find(self, node: exp.Column) -> tuple[Key, list[str]] | None:
        key = key_of(node)
        if key is not None:
            return key, []
        virtual = self._virtual.get(text_of(node)) if self._virtual else None
        if virtual is not None:
            return virtual, []
        return self.sources.find([part.name for part in node.parts], node)

    def _alias(self, name: str) -> int | None:
        lower = name.lower()
        return next((i for i, item in enumerate(self.items) if item.alias == lower), None)

    def resolve(self, column: exp.Column) -> exp.Expr:
        """The plan's column, or the output of that alias.

        Raises:
            BindError: unknown, ambiguous, ungrouped, or of an outer query.
        """
        parts = [part.name for part in column.parts]
        position = self._alias(parts[0])
        if self.order and position is not None and len(parts) == 1:
            return wrapped(self.output(position).copy())
        found = self._find(column)
        if found is not None:
            if self.grouped:
                raise self._ungrouped(column)
            tree: exp.Expr = self.sources.read(found[0])
            return self._fields(tree, found[1])
        if position is not None and position not in self._open:
            return self._fields(wrapped(self.output(position).copy()), parts[1:])
        if isinstance(self.outer, ScopeNames) and self.outer.knows(column):
            raise self.place.error(
                "OC0212",
                "a model call cannot stand in a correlated subquery",
                column,
                label="a column of the outer query",
                hint="join instead, or call the model in the outer query",
            )
        raise self.sources.unknown(column)

    def knows(self, column: exp.Column) -> bool:
        """Is it a column here, or further out?"""
        try:
            found = self._find(column)
        except BindError:
            return True
        outer = isinstance(self.outer, ScopeNames) and self.outer.knows(column)
        return found is not None or outer

    def _ungrouped(self, column: exp.Column) -> BindError:
        return self.place.error(
            "OC0228",
            f"column {column.name} must appear in GROUP BY or inside an aggregate",
            column,
        )

    def _fields(self, tree: exp.Expr, fields: list[str]) -> exp.Expr:
        for name in fields:
            tree = field_of(tree, name)
        return tree

    def output(self, position: int) -> exp.Expr:
        """An item over the plan's columns, rewritten once."""
        if position not in self._outputs:
            assert self.rewriter is not None
            self._open.add(position)
            self._outputs[position] = self.rewriter.expr(self.items[position].tree)
            self._open.discard(position)
        elif is_volatile(self._outputs[position]) and not self.grouped:
            assert self.rewriter is not None
            value = self._outputs[position]
            if not self.rewriter.inline:
                named = [(self.items[position].name, value)]
                self._outputs[position] = self.rewriter.rows.add(named, self.place)[0]
        return self._outputs[position]

    def forget(self) -> None:
        """Rewrite the outputs anew: a phase has replaced parts of them."""
        self._outputs.clear()


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
        self.items = expand(self.ctx, self.place, self.sources, self.select.expressions)
        self.names = ScopeNames(self.sources, self.place, self.items, self.outer)
        self.order = self._order_terms()
        self._precompute()
        self._register()
        self.rows = Rows(self.ctx, self.sources.plan())
        self.rewriter = Rewriter(self.ctx, self.rows, self.names, self.place, self.queries)
        self.names.rewriter = self.rewriter
        self._filter(self.where)
        having, qualify = self._clause("having"), self._clause("qualify")
        aggregated = self._aggregated()
        if aggregated and self._calls_over_groups():
            self._compute_groups()
            aggregated = False
            if having is not None:
                self._filter([having])
        windowed = any(isinstance(node, exp.Window) for node in self._late_nodes())
        if windowed and not aggregated and self._calls_over_windows():
            self._compute_windows()
            windowed = False
            if qualify is not None:
                self._filter([qualify])
        makes_rows = any(
            is_unnest(node) and id(node) not in self.names.computed for node in self._late_nodes()
        )
        distinct = self.select.args.get("distinct") is not None
        if aggregated or windowed or distinct or makes_rows or self._limits() is None:
            return self._residual(aggregated, windowed, distinct, makes_rows)
        return self._plain()

    # What stands where.

    def _clause(self, name: str) -> exp.Expr | None:
        found = self.select.args.get(name)
        return found.this if found is not None else None

    def _order_terms(self) -> list[exp.Expr]:
        order = self.select.args.get("order")
        return list(order.expressions) if order is not None else []

    def _late(self) -> Iterator[exp.Expr]:
        """The trees evaluated after WHERE."""
        yield from (item.tree for item in self.items)
        for clause in (self._clause("having"), self._clause("qualify"), *self.order):
            if clause is not None:
                yield clause

    def _late_nodes(self) -> Iterator[exp.Expr]:
        for tree in self._late():
            yield from walk_scope(tree)

    def _everything(self) -> Iterator[exp.Expr]:
        yield from self.where
        yield from self._late()
        for name in ("group", "distinct"):
            clause = self.select.args.get(name)
            if clause is not None:
                yield clause
        yield from self.select.args.get("windows") or ()

    def _calls_in(self, tree: exp.Expr) -> bool:
        return any(self.ctx.is_call(function_name(node)) for node in tree.walk())

    def _aggregated(self) -> bool:
        clauses = self.select.args.get("group"), self._clause("having")
        return any(clause is not None for clause in clauses) or any(
            True for tree in self._late() for _ in aggregates(tree)
        )

    # Below WHERE.

    def _precompute(self) -> None:
        """Subqueries without calls become columns of FROM; so does unnest() inside a call."""
        late = {id(tree) for tree in self._late()} if self._aggregated() else set()
        for tree in self._everything():
            if id(tree) not in late:
                self._precompute_queries(tree)
            else:
                for inside in aggregates(tree):
                    self._precompute_queries(inside)
        unnests = [node for node in self._late_nodes() if is_unnest(node)]
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
        for tree in self._everything():
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
                    if node.parts and node.parts[0].name.lower() not in bound:
                        self.names.register(node)
                    continue
                stack.extend(node.iter_expressions())

    def _filter(self, conditions: list[exp.Expr]) -> None:
        """Keep the rows all conditions hold for; one question to DuckDB for all their types."""
        parts = [part for condition in conditions for part in conjuncts(condition)]
        predicates: list[SqlExpr] = []
        for part in parts:
            predicate = sql_of(self.rewriter.expr(part))
            predicates.append(predicate)
            self.rows.filter(predicate)
        types = self.rows.types(predicates, self.place, parts)
        for part, type_ in zip(parts, types, strict=True):
            if type_ not in ("BOOLEAN", NULL):
                raise self.place.error(
                    "OC0209",
                    f"a condition must be BOOLEAN, not {type_}",
                    part,
                    label=f"this is {type_}",
                )

    # Groups and windows that calls stand above.

    def _group_trees(self) -> list[exp.Expr]:
        """The grouping expressions; positions and aliases replaced by what they name."""
        group = self.select.args.get("group")
        if group is None:
            return []
        if group.args.get("all"):
            return [
                item.tree for item in self.items if not any(True for _ in aggregates(item.tree))
            ]
        return [self._grouping(tree) for tree in group.expressions]

    def _grouping(self, tree: exp.Expr) -> exp.Expr:
        if isinstance(tree, exp.Literal) and not tree.is_string:
            position = int(tree.name) - 1
            if not 0 <= position < len(self.items):
                raise self.place.error("OC0228", f"there is no output {tree.name}", tree)
            return self.items[position].tree
        if not isinstance(tree, exp.Column) or len(tree.parts) != 1:
            return tree
        if self.sources.find([tree.name], tree) is not None:
            return tree
        found = next((i for i in self.items if i.alias == tree.name.lower()), None)
        return tree if found is None else found.tree

    def _calls_over_groups(self) -> bool:
        """Does a call stand neither inside an aggregate nor in a grouping expression?"""
        keys = {self.names.canonical(tree) for tree in self._group_trees()}
        return any(self._over(tree, keys) for tree in self._late())

    def _over(self, tree: exp.Expr, keys: set[str]) -> bool:
        if is_query(tree) or _as_aggregate(tree) is not None:
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
        keys = self._group_trees()
        found = {self.names.canonical(n): n for tree in self._late() for n in aggregates(tree)}
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
            for node in self._late_nodes()
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
            for node in self._late_nodes()
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
        if isinstance(below, Source):
            relation = f"(WITH in0 AS ({_source_sql(below)}) {unordered}) AS {quote('groups')}"
            fields = self.ctx.describe(f"SELECT * FROM {relation}", self.place)
            self.rows.plan = Source(relation, tuple(column(field) for field in fields))
            return
        if aggregated and self.rows.has_calls:
            self._undefined(_reason(True, False, False))
        fields = describe_over(self.ctx, sql, (below,), self.place)
        self.rows.plan = Residual((below,), sql, fields, aggregated, volatile)

    def _undefined(self, what: str) -> None:
        if self.ctx.undefined is None:
            self.ctx.undefined = what

    # Output.

    def _limits(self) -> tuple[int | None, int] | None:
        """LIMIT and OFFSET as numbers; None when they are anything else."""
        limit, offset = self.select.args.get("limit"), self.select.args.get("offset")
        count: int | None = None
        if limit is not None:
            value = limit.expression if isinstance(limit, exp.Limit) else limit.args.get("count")
            if limit.args.get("limit_options") or not _is_count(value):
                return None
            count = int(value.name)
        if offset is not None and not _is_count(offset.expression):
            return None
        return count, int(offset.expression.name) if offset is not None else 0

    def _ordered(self) -> list[exp.Ordered]:
        """ORDER BY's terms, with positions and ALL replaced by outputs."""
        terms: list[exp.Ordered] = []
        for term in self.order:
            ordered = term if isinstance(term, exp.Ordered) else exp.Ordered(this=term)
            key = ordered.this
            if isinstance(key, exp.Var) and key.name.upper() == "ALL":
                terms += [_with_key(ordered, self.names.output(i)) for i in range(len(self.items))]
            elif isinstance(key, exp.Literal) and not key.is_string:
                position = int(key.name) - 1
                if not 0 <= position < len(self.items):
                    raise self.place.error("OC0228", f"there is no output {key.name}", key)
                terms.append(_with_key(ordered, self.names.output(position)))
            else:
                self.names.order = True
                terms.append(_with_key(ordered, self.rewriter.expr(key)))
                self.names.order = False
        return terms

    def _plain(self) -> Bound:
        outputs = range(len(self.items))
        for position in outputs:
            self.names.output(position)
        terms = self._ordered()
        trees = [self.names.output(i) for i in outputs] if terms else []
        trees = trees or [self.names._outputs[i] for i in outputs]
        exprs = [sql_of(tree) for tree in trees]
        keys = [_key(term) for term in terms]
        written = [*(item.tree for item in self.items), *self.order]
        asked = [*exprs, *(key.expr for key in keys)]
        types = self.rows.types(asked, self.place, written)[: len(exprs)]
        plan: LogicalNode = self.rows.plan
        if terms:
            plan = Sort(plan, tuple(keys))
        limits = self._limits()
        assert limits is not None
        if limits != (None, 0):
            plan = Limit(plan, *limits)
        columns: list[NamedExpr] = []
        for item, expr, type_ in zip(self.items, exprs, types, strict=True):
            same = expr.text == quote(item.name)
            free = same and all(c.name != item.name for c in columns)
            name = item.name if free else self.ctx.unique(item.name)
            columns.append(NamedExpr(name, expr, type_))
        return Bound(Project(plan, tuple(columns)), tuple(item.name for item in self.items))

    def _residual(
        self, aggregated: bool, windowed: bool, distinct: bool, makes_rows: bool
    ) -> Bound:
        """Everything after WHERE in one query over the rows."""
        self.rewriter.inline = aggregated
        trees = [self.names.output(i) for i in range(len(self.items))]
        made = [self.ctx.unique(item.name) for item in self.items]
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
            clause = self.select.args.get(name)
            if clause is not None:
                tail += f" {text_of(clause).strip()}"
        plans = (self.rows.plan, *self.rewriter.inputs)
        prefix = self.ctes.prefix(*self._late())
        sql = f"{prefix}SELECT {self._distinct()}{listed} FROM in0{tail}"
        fields = describe_over(self.ctx, sql, plans, self.place)
        fields = tuple(Field(name, f.type) for name, f in zip(made, fields, strict=True))
        lost = (
            aggregated or distinct or makes_rows or (windowed and self._window_reads_calls(trees))
        )
        if lost and self.rows.has_calls:
            self._undefined(_reason(aggregated, distinct, makes_rows))
        volatile = any(is_volatile(tree) for tree in trees)
        plan = Residual(plans, sql, fields, lost, volatile)
        return Bound(plan, tuple(item.name for item in self.items))

    def _tail(self, aggregated: bool, windowed: bool) -> str:
        """GROUP BY, HAVING, WINDOW and QUALIFY over the rows' columns."""
        tail = ""
        group = self.select.args.get("group")
        if group is not None and aggregated:
            if group.args.get("all"):
                tail += " GROUP BY ALL"
            else:
                tail += " " + text_of(self._grouped(group)).strip()
        for name, word in (("having", "HAVING"), ("qualify", "QUALIFY")):
            clause = self._clause(name)
            if clause is not None and (aggregated if name == "having" else windowed):
                tail += f" {word} {text_of(self.rewriter.expr(clause))}"
            if name == "having":
                named = self.select.args.get("windows")
                if named:
                    written = [text_of(self.rewriter.expr(window)) for window in named]
                    tail += " WINDOW " + ", ".join(written)
        return tail

    def _grouped(self, group: exp.Expr) -> exp.Expr:
        """GROUP BY rewritten, whatever sets it is made of."""
        group = group.copy()
        resolved = [self._grouping(tree) for tree in group.expressions]
        group.set("expressions", [self.rewriter.expr(tree) for tree in resolved])
        for name in ("rollup", "cube", "grouping_sets"):
            sets = group.args.get(name)
            if sets:
                group.set(name, [self.rewriter._children(one, ()) for one in sets])
        return group

    def _distinct(self) -> str:
        distinct = self.select.args.get("distinct")
        if distinct is None:
            return ""
        on = distinct.args.get("on")
        if on is None:
            return "DISTINCT "
        trees = on.expressions if isinstance(on, exp.Tuple) else [on]
        keys = [text_of(self.rewriter.expr(self._grouping(tree))) for tree in trees]
        return f"DISTINCT ON ({', '.join(keys)}) "

    def _window_reads_calls(self, trees: list[exp.Expr]) -> bool:
        made = {name for tree in trees for node in _windows(tree) for name in plan_columns(node)}
        return self.rows.has_calls and not made <= set(self._source_columns())

    def _source_columns(self) -> tuple[str, ...]:
        return tuple(named.name for named in self.sources.made.values())


def aggregates(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The outermost aggregates of a tree (with their FILTER), not those that are windows."""
    if is_query(tree):
        return
    found = _as_aggregate(tree)
    if found is not None:
        yield found
        return
    if isinstance(tree, exp.Window):
        inner = tree.this
        while isinstance(inner, _WRAPPERS):
            inner = inner.this
        children = [*inner.iter_expressions()]
        children += [part for part in tree.iter_expressions() if part is not tree.this]
    else:
        children = list(tree.iter_expressions())
    for child in children:
        yield from aggregates(child)


def _as_aggregate(tree: exp.Expr) -> exp.Expr | None:
    inner = tree
    while isinstance(inner, _WRAPPERS):
        inner = inner.this
    return tree if is_aggregate(inner) else None


def _windows(tree: exp.Expr) -> Iterator[exp.Expr]:
    return (node for node in walk_scope(tree) if isinstance(node, exp.Window))


def holds_query(node: exp.Expr) -> bool:
    """The smallest predicate or value with a query directly in it."""
    if is_query(node) or isinstance(node, exp.Exists):
        return True
    if isinstance(node, exp.In):
        return node.args.get("query") is not None
    if isinstance(node, exp.Array):
        return any(is_query(item) for item in node.expressions)
    return isinstance(node, exp.Binary) and any(
        isinstance(side, exp.Any | exp.All) for side in (node.left, node.right)
    )


def operands(node: exp.Expr) -> list[exp.Expr]:
    """What stands beside the query in a node that `holds_query`."""
    return [
        child
        for child in node.iter_expressions()
        if not is_query(child) and not isinstance(child, exp.Any | exp.All)
    ]


def _source_sql(source: Source) -> str:
    listed = ", ".join(f"{c.expr.text} AS {quote(c.name)}" for c in source.columns)
    return f"SELECT {listed} FROM {source.relation}"


def _with_key(term: exp.Ordered, key: exp.Expr) -> exp.Ordered:
    args = {name: value for name, value in term.args.items() if name != "this"}
    return exp.Ordered(this=key.copy(), **args)


def _key(term: exp.Ordered) -> Order:
    first = True if term.args.get("nulls_first") else None
    return Order(sql_of(term.this), bool(term.args.get("desc")), first)


def _is_count(value: object) -> bool:
    return isinstance(value, exp.Literal) and not value.is_string and value.name.isdigit()


def _short(node: exp.Expr) -> str:
    return function_name(node) or type(node).__name__.lower()


def _reason(aggregated: bool, distinct: bool, makes_rows: bool) -> str:
    if aggregated:
        return "the query aggregates"
    if distinct:
        return "DISTINCT merges rows"
    return "unnest makes several rows of one" if makes_rows else "a window mixes several rows"
