"""The naive interpreter: what a logical plan means, one row and one call at a time.

Every node becomes a DuckDB temporary table of its columns and `__row`; a call is a Python function
run row by row. Nothing is shared with the executor, so the two can be compared, and a rewritten
plan can be compared with the plan it came from.

    naive = Naive(connection, {"classify": NaiveModel(("digit", "confidence"), fn)})
    rows = naive.rows(plan)          # in the plan's order, `__row` dropped
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest
from typing import Any, assert_never

import duckdb
from octans.ir.logical import (
    Apply,
    Distinct,
    Filter,
    Join,
    Limit,
    LogicalNode,
    Order,
    Project,
    Residual,
    Sort,
    Source,
    condition_of,
    each_of,
    model_call,
)
from octans.ir.types import ROW, NamedExpr, SqlExpr, names, quote

_NUMBERS = count(1)


class UnequalLengths(Exception):
    """Several EACH lists of one row differ in length."""


@dataclass(frozen=True)
class NaiveModel:
    """`fn(*arguments)` gives a tuple of all `outputs`, or the value itself when there is one."""

    outputs: tuple[str, ...]
    fn: Callable[..., Any]

    def __call__(self, args: Sequence[Any]) -> tuple[Any, ...]:
        answer = self.fn(*args)
        return (answer,) if len(self.outputs) == 1 else tuple(answer)

    def positions(self, produce: Sequence[str]) -> list[int]:
        """Which of the model's outputs are wanted; all of them when nothing was pruned."""
        return [self.outputs.index(name) for name in produce or self.outputs]


@dataclass
class Naive:
    """Runs plans on one connection; `calls` counts what was called, by model."""

    connection: duckdb.DuckDBPyConnection
    models: Mapping[str, NaiveModel]
    calls: dict[str, int] = field(default_factory=dict)
    _tables: dict[LogicalNode, str] = field(default_factory=dict)

    def rows(self, plan: LogicalNode) -> list[tuple[Any, ...]]:
        """The plan's rows in its order."""
        table = self.table(plan)
        columns = ", ".join(quote(f.name) for f in plan.schema)
        return self._fetch(f"SELECT {columns} FROM {table} ORDER BY {ROW}")

    def table(self, plan: LogicalNode) -> str:
        """The temporary table holding a node's rows; each distinct node runs once."""
        for node in plan.postorder():
            if node not in self._tables:
                self._tables[node] = self._run(node)  # type: ignore[index, arg-type]
        return self._tables[plan]

    def _run(self, node: LogicalNode) -> str:
        match node:
            case Source():
                return self._source(node)
            case Apply():
                return self._apply(node)
            case Filter(input=below, predicate=predicate):
                return self._make(
                    f"SELECT * EXCLUDE ({ROW}) FROM {self._tables[below]} "
                    f"WHERE {predicate.text} ORDER BY {ROW}"
                )
            case Project(input=below, columns=columns):
                return self._make(
                    f"SELECT {_select(columns)} FROM {self._tables[below]} ORDER BY {ROW}"
                )
            case Distinct(input=below):
                wanted = ", ".join(quote(name) for name in names(node.schema))
                return self._make(
                    f"SELECT {wanted} FROM {self._tables[below]} GROUP BY ALL ORDER BY min({ROW})"
                )
            case Sort(input=below, keys=keys):
                return self._make(
                    f"SELECT * EXCLUDE ({ROW}) FROM {self._tables[below]} "
                    f"ORDER BY {_order(keys)}, {ROW}"
                )
            case Limit(input=below, count=most, offset=offset):
                limit = "" if most is None else f" LIMIT {most}"
                return self._make(
                    f"SELECT * EXCLUDE ({ROW}) FROM {self._tables[below]} "
                    f"ORDER BY {ROW}{limit} OFFSET {offset}"
                )
            case Join():
                return self._join(node)
            case Residual(inputs=inputs, sql=sql):
                for i, below in enumerate(inputs):
                    self.connection.execute(
                        f"CREATE OR REPLACE TEMP VIEW in{i} AS FROM {self._tables[below]}"
                    )
                return self._make(sql, names(node.schema))
        assert_never(node)

    def _source(self, node: Source) -> str:
        everything = (*node.columns, *node.hidden)
        sql = (
            f"SELECT {'DISTINCT ' if node.distinct else ''}"
            f"{', '.join(quote(c.name) for c in node.columns)} "
            f"FROM (SELECT {_select(everything)}, row_number() OVER () AS tie FROM {node.relation})"
        )
        if node.predicates:
            sql += " WHERE " + " AND ".join(f"({p.text})" for p in node.predicates)
        if node.order:
            sql += f" ORDER BY {_order(node.order)}{'' if node.distinct else ', tie'}"
        if node.limit is not None:
            sql += f" LIMIT {node.limit}"
        return self._make(f"{sql} OFFSET {node.offset}" if node.offset else sql)

    def _join(self, node: Join) -> str:
        left, right = self._tables[node.left], self._tables[node.right]
        columns = ", ".join(
            [f"l.{quote(f.name)}" for f in node.left.schema]
            + [f"r.{quote(f.name)}" for f in node.schema[len(node.left.schema) :]]
        )
        if node.kind == "lookup":
            on = " AND ".join(
                f"l.{quote(a)} IS NOT DISTINCT FROM r.{quote(b)}" for a, b in node.keys
            )
        else:
            on = node.condition.text if node.condition is not None else "TRUE"
        if node.kind == "semi":
            return self._make(
                f"SELECT {columns} FROM {left} AS l SEMI JOIN {right} AS r ON {on} ORDER BY l.{ROW}"
            )
        how = "LEFT JOIN" if node.kind in ("left", "lookup") else "JOIN"
        return self._make(
            f"SELECT {columns} FROM {left} AS l {how} {right} AS r ON {on} "
            f"ORDER BY l.{ROW}, r.{ROW} NULLS FIRST"
        )

    def _apply(self, node: Apply) -> str:
        table, call, outputs = self._tables[node.input], node.call, node.outputs
        target, lists, condition = model_call(call), each_of(call), condition_of(call)
        model = self.models[target.model]
        guard = SqlExpr("TRUE", ()) if condition is None else condition
        values = ", ".join([guard.text, *(arg.text for arg in target.args)])
        made = self._new()
        typed = ", ".join(f"{quote(f.name)} {f.type}" for f in outputs)
        self.connection.execute(f"CREATE TEMP TABLE {made} ({ROW} BIGINT, {typed})")
        insert = f"INSERT INTO {made} VALUES ({', '.join('?' * (len(outputs) + 1))})"
        for row, wanted, *args in self._fetch(f"SELECT {ROW}, {values} FROM {table}"):
            if wanted is True:
                answers = self._call(target.model, model, args, lists)
                kept = [answers[i] for i in model.positions(node.produce)]
            else:
                kept = [None] * len(outputs)
            self.connection.execute(insert, [row, *kept])
        columns = ", ".join(
            [f"l.{quote(f.name)}" for f in node.input.schema]
            + [f"r.{quote(f.name)}" for f in outputs]
        )
        return self._make(
            f"SELECT {columns} FROM {table} AS l JOIN {made} AS r USING ({ROW}) ORDER BY l.{ROW}"
        )

    def _call(
        self, name: str, model: NaiveModel, args: Sequence[Any], lists: tuple[bool, ...] | None
    ) -> tuple[Any, ...]:
        if lists is None:
            self.calls[name] = self.calls.get(name, 0) + 1
            return model(args)
        zipped = [arg for arg, each in zip(args, lists, strict=True) if each]
        if any(value is None for value in zipped):
            return (None,) * len(model.outputs)
        if len({len(value) for value in zipped}) > 1:
            raise UnequalLengths(name)
        answers = []
        for elements in zip_longest(*zipped):
            queue = iter(elements)
            one = [next(queue) if each else arg for arg, each in zip(args, lists, strict=True)]
            self.calls[name] = self.calls.get(name, 0) + 1
            answers.append(model(one))
        return tuple([answer[i] for answer in answers] for i in range(len(model.outputs)))

    def _new(self) -> str:
        return f"naive_{next(_NUMBERS)}"

    def _make(self, sql: str, wanted: tuple[str, ...] | None = None) -> str:
        """A new table of the rows of `sql`, numbered in its order."""
        table = self._new()
        renamed = "" if wanted is None else f"({', '.join(map(quote, wanted))})"
        self.connection.execute(
            f"CREATE TEMP TABLE {table} AS SELECT row_number() OVER () - 1 AS {ROW}, * "
            f"FROM ({sql}) AS made{renamed}"
        )
        return table

    def _fetch(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()


def _select(columns: Sequence[NamedExpr]) -> str:
    return ", ".join(f"{c.expr.text} AS {quote(c.name)}" for c in columns) or "1 AS nothing"


def _order(keys: Sequence[Order]) -> str:
    def one(key: Order) -> str:
        nulls = {None: "", True: " NULLS FIRST", False: " NULLS LAST"}[key.nulls_first]
        return f"{key.expr.text}{' DESC' if key.descending else ''}{nulls}"

    return ", ".join(one(key) for key in keys)
