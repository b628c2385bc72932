"""Which of a subject's kept rows a query asks about: `planner.population`, joined to a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from .drawing import USING
from .dsl import ast
from .dsl.binder import bind_select
from .dsl.parser import parse_one
from .ir.logical import Apply, LogicalNode, model_call
from .ir.node import collect
from .ir.physical import PhysicalNode, Stage
from .ir.record import dataclass
from .ir.types import Schema, quote
from .plain import duckdb_error
from .planner.population import Kept, Population, population

if TYPE_CHECKING:
    import pyarrow as pa

    from .session import Session

KEPT_ROWS = "octans_kept_rows"

_TAKING_OUT = (
    exp.Where, exp.Join, exp.Limit, exp.Offset, exp.Fetch, exp.Group, exp.Having, exp.Qualify,
    exp.Distinct, exp.TableSample, exp.SetOperation, exp.Pivot, exp.Unnest, exp.Explode,
    exp.Lateral, exp.AggFunc,
)  # fmt: skip
"""What makes the rows of a query others than those of the table it reads."""


@dataclass(frozen=True)
class KeptSample:
    """The sample ANALYZE `run` kept of a subject; `answer` is the output its body is asked for."""

    subject: str
    version: int
    run: int | None
    inputs: Schema
    outputs: Schema
    answer: str


def kept_sample(session: Session, subject: str) -> KeptSample | None:
    """The sample of a subject as it is declared now; None where there is none."""
    declared = session.catalog.pipeline(subject) or session.catalog.model(subject)
    if declared is None or not declared.outputs:
        return None
    run = session.catalog.samples.run(declared.name, declared.version)
    if run is None:
        return None
    answer = declared.outputs[0].name
    return KeptSample(
        declared.name, declared.version, run, declared.inputs, declared.outputs, answer
    )


def body_of(session: Session, kept: KeptSample) -> LogicalNode:
    """The subject's plan over the kept rows (which have to be visible), its answer as a column."""
    call = f"{quote(kept.subject)}({', '.join(quote(f.name) for f in kept.inputs)})"
    answer = call if len(kept.outputs) == 1 else f"({call}).{quote(kept.answer)}"
    query = f"SELECT {answer} AS {quote(kept.answer)} FROM {KEPT_ROWS}"
    return bind_select(_select(query), session.catalog).plan


def asked_of(
    session: Session, kept: KeptSample, plan: LogicalNode, body: LogicalNode, table: pa.Table
) -> Population:
    """Which rows of the kept `table` a query (`plan`, as bound) asks about; `body` is its own."""
    own = [name for name in table.column_names if name.startswith(USING)]
    with session.visible(KEPT_ROWS, table):
        types = {f.name: f.type for f in session.catalog.describe(f"FROM {KEPT_ROWS}")}
    columns = Kept(
        KEPT_ROWS,
        {field.name: field.name for field in kept.inputs},
        {name.removeprefix(USING).lower(): (name, types[name]) for name in own},
    )
    return population(plan, body, columns, lambda relation: _whole(session, kept, relation))


def standing_for(session: Session, asked: Population, table: pa.Table) -> pa.Table:
    """The kept rows like those asked about."""
    if asked.sql is None:
        return table
    import duckdb
    import pyarrow.compute as pc

    try:
        with session.visible(KEPT_ROWS, table), session.catalog.cursor() as cursor:
            rows = cursor.sql(f"SELECT __row FROM ({asked.sql})").to_arrow_table().column(0)
    except duckdb.Error as error:
        raise duckdb_error(error) from error
    return table.filter(pc.is_in(table.column("__row"), value_set=rows.combine_chunks()))


def inputs_of(
    kept: KeptSample, physical: PhysicalNode, body: LogicalNode, rows: pa.Table
) -> pa.Table | None:
    """The subject's inputs among the columns that a scan of a query made of `rows` of its source.

    They are what stages are called with, cast and computed as the query does it, where the
    subject's `body` calls the same stage with the input itself. None where an input is nowhere so.
    """
    own = {model_call(apply.call).context: model_call(apply.call) for apply in collect(body, Apply)}
    columns = {}
    for stage in physical.postorder():
        if isinstance(stage, Stage) and stage.context in own:
            for given, wanted in zip(stage.args, own[stage.context].args, strict=True):
                if given in rows.column_names and len(wanted.columns) == 1:
                    columns[wanted.text] = given
    wanted_by = {field.name: columns.get(quote(field.name)) for field in kept.inputs}
    found = [column for column in wanted_by.values() if column is not None]
    if len(found) != len(wanted_by):
        return None
    return rows.select(found).rename_columns(list(wanted_by))


def _whole(session: Session, kept: KeptSample, relation: str) -> bool:
    """Does a FROM clause take every row of a table, or is it what USING was drawn from?"""
    tree = _select(f"SELECT * FROM {relation}").query.tree
    if not any(tree.find(kind) for kind in _TAKING_OUT):
        return True
    text = None if kept.run is None else session.catalog.run_text(kept.run)
    if text is None:
        return False
    analyzed = parse_one(text)
    using = analyzed.using.tree if isinstance(analyzed, ast.Analyze) else None
    using = using.this if isinstance(using, exp.Subquery) else using
    if not isinstance(using, exp.Select):
        return False
    parts = ("from_", "joins", "with_")
    bare, asked = (exp.Select(**{k: t.args.get(k) for k in parts}) for t in (using, tree))
    restricted = any(v for k, v in using.args.items() if k not in (*parts, "expressions"))
    return not restricted and bare.sql("duckdb") == asked.sql("duckdb")


def _select(query: str) -> ast.Select:
    statement = parse_one(query)
    assert isinstance(statement, ast.Select)
    return statement
