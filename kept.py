"""The rows that ANALYZE kept, as a model gets them: to build variants from, and to measure them on.

Rows that entered the building of an artefact have the role `building` from then on, in this sample
and in every later one of the same subject, with all rows of their clusters: they measure nothing
and prove nothing. Held-back rows are never touched here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .analyzing import profile_request
from .building import cluster_texts, row_digests
from .drawing import clusters_of, label_column
from .dsl import ast
from .dsl.binder import bind_select
from .dsl.parser import parse_one
from .errors import RunError
from .ir.models import Model, Pipeline
from .ir.physical import Stage
from .ir.record import dataclass
from .ir.types import quote
from .planner.steps import steps
from .stats.sampling import split

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from .session import Session
    from .stats.end_to_end import Evaluator

BUILDING_SHARE = 1 / 3
"""Share of the search rows (of their clusters) that a transform may learn from (our choice): what
it learns are means and directions, which need fewer rows than a narrow interval of the quality."""

KEPT_ROWS = "octans_kept_rows"


@dataclass(frozen=True)
class Kept:
    """The newest sample of a model, or of a pipeline that calls it."""

    model: Model
    subject: Model | Pipeline
    table: pa.Table

    def set_apart(self, seed: int) -> Kept:
        """With rows for building: those of before, else some of the search rows."""
        import pyarrow as pa

        roles = self.table.column("__role").to_pylist()
        if "building" in roles:
            return self
        places = [place for place, role in enumerate(roles) if role == "search"]
        clusters = clusters_of(self.table)
        keys = None if clusters is None else [clusters[place] for place in places]
        parts = split(len(places), keys, BUILDING_SHARE, seed)
        for place, part in zip(places, parts, strict=True):
            if part == "held_back":
                roles[place] = "building"
        at = self.table.column_names.index("__role")
        table = self.table.set_column(at, "__role", pa.array(roles))
        return Kept(self.model, self.subject, table)

    def of_role(self, role: str) -> pa.Table:
        """The sample's rows of one role, numbered anew."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self.table.filter(pc.equal(self.table.column("__role"), role))
        return table.set_column(0, "__row", pa.array(range(table.num_rows), pa.int64()))

    def remember(self, session: Session, artefact: str) -> None:
        """Note the building rows as such before anything refers to the artefact."""
        import pyarrow.compute as pc

        chosen = self.table.filter(pc.equal(self.table.column("__role"), "building"))
        session.catalog.derivations.set_aside(
            self.subject.name,
            self.subject.version,
            artefact,
            chosen.column("__row").to_pylist(),
            list(zip(row_digests(chosen, self.subject), cluster_texts(chosen), strict=True)),
        )


def kept(session: Session, model: Model) -> Kept | None:
    """The sample that ANALYZE kept of a model, else of the first pipeline that calls it."""
    catalog = session.catalog
    table = catalog.samples.load(model.name, model.version)
    if table is not None:
        return Kept(model, model, table)
    for pipeline in catalog.pipelines():
        table = catalog.samples.load(pipeline.name, pipeline.version)
        if table is not None and _calls(session, pipeline, table, model):
            return Kept(model, pipeline, table)
    return None


def _calls(session: Session, pipeline: Pipeline, table: pa.Table, model: Model) -> bool:
    """Does a step of the pipeline, or of one that it calls, call the model?"""
    with session.visible(KEPT_ROWS, table):
        body = bind_select(_call(pipeline), session.catalog).plan
    return any(info.model == model.name for info in steps(body))


def as_model_rows(session: Session, sample: Kept, role: str) -> pa.Table:
    """What the model gets on the rows of one role: `__row`, `__cluster`, inputs, labels.

    Of a pipeline's sample, what its steps that call the model get under the reference choices of
    the steps before; elements of one row are one cluster.
    """
    table = sample.of_role(role)
    if isinstance(sample.subject, Model) or not table.num_rows:
        return table
    from .executor.runner import LocalRunner
    from .stats.end_to_end import Evaluator
    from .stats.lineage import chain

    runner = LocalRunner(session.environment())
    try:
        with session.visible(KEPT_ROWS, table):
            body = bind_select(_call(sample.subject), session.catalog).plan
            request = profile_request(session, sample.subject.name, body, table, None)
            evaluator = Evaluator(chain(request.plan), runner)
            return _elements(evaluator, sample.model, table)
    finally:
        runner.close()


def _call(pipeline: Pipeline) -> ast.Select:
    """A query that calls the pipeline on every kept row."""
    inputs = ", ".join(quote(field.name) for field in pipeline.inputs)
    statement = parse_one(f"SELECT {quote(pipeline.name)}({inputs}) AS answer FROM {KEPT_ROWS}")
    assert isinstance(statement, ast.Select)
    return statement


def _elements(evaluator: Evaluator, model: Model, table: pa.Table) -> pa.Table:
    """The inputs and labels of every step that calls the model, one below the other."""
    import pyarrow as pa

    clusters = clusters_of(table) or list(range(table.num_rows))
    label = None if model.quality is None else model.quality.output
    parts = []
    for stage in evaluator.chain.stages:
        if stage.model == model.name:
            state = evaluator.before(stage.step, {s.step: s.choice for s in evaluator.chain.stages})
            live = evaluator.live(stage, state).nonzero()[0]
            columns: dict[str, pa.ChunkedArray] = {
                field.name: state.table.column(arg)
                for field, arg in zip(model.inputs, stage.args, strict=True)
            }
            known = None if label is None else label_column(stage.context, label)
            if known in table.column_names:
                columns[label_column(model.name, str(label))] = table.column(known)
            columns["__cluster"] = pa.chunked_array([pa.array([str(c) for c in clusters])])
            parts.append(_flat(pa.table(columns).take(pa.array(live)), stage, model))
    shared = [name for name in parts[0].column_names if all(name in p.column_names for p in parts)]
    joined = pa.concat_tables([part.select(shared) for part in parts]).combine_chunks()
    return joined.add_column(0, "__row", pa.array(range(joined.num_rows), pa.int64()))


def _flat(table: pa.Table, stage: Stage, model: Model) -> pa.Table:
    """One row for every element of EACH; the others are repeated.

    A row whose lists differ in length, its label's included, says nothing of single elements.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if stage.lists is None:
        return table
    each = [f.name for f, many in zip(model.inputs, stage.lists, strict=True) if many]
    each += [name for name in table.column_names if name.startswith("__label:")]
    lengths = pc.list_value_length(table.column(each[0]))
    whole = pc.is_valid(lengths)
    for name in each[1:]:
        same = pc.equal(lengths, pc.list_value_length(table.column(name)))
        whole = pc.and_(whole, pc.fill_null(same, False))
    table = table.filter(whole).combine_chunks()
    parents = pc.list_parent_indices(table.column(each[0]))
    return pa.table(
        {
            name: pc.list_flatten(table.column(name))
            if name in each
            else table.column(name).take(parents)
            for name in table.column_names
        }
    )


def matrix(table: pa.Table, model: Model) -> NDArray[np.floating]:
    """Rows as an estimator gets them: list arguments side by side, `n x features`.

    Raises:
        RunError: OC0441, they are no numbers, or not as many in each row.
    """
    import numpy as np

    from .executor.backends.base import as_matrix
    from .executor.failures import RowFailed

    try:
        columns = [as_matrix(table.column(f.name).combine_chunks()) for f in model.inputs]
        return np.asarray(np.column_stack(columns), np.float64)
    except (RowFailed, ValueError, TypeError) as error:
        raise RunError(
            f"the kept rows of {model.name} are not numbers, as many in each row: {error}",
            code="OC0441",
            hint="what is learnt from them are directions among numbers",
        ) from error
