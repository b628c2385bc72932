"""CREATE STATISTICS: what is to be measured of two calls of one pipeline together."""

from __future__ import annotations

from ...errors import BindError
from ...ir.models import ExtendedStatistics, Model
from .. import ast
from ..diagnostics import nearest
from .pipelines import declaration
from .problems import problem
from .view import CatalogView

KINDS = ("error_dependence",)


def bind_statistics(stmt: ast.CreateStatistics, catalog: CatalogView) -> ExtendedStatistics:
    """The statistics a CREATE STATISTICS declares.

    Raises:
        BindError: OC0235 an unknown kind, OC0236 no such model or step, OC0237 the two have no
            errors that could be seen together.
    """
    kind = stmt.kind.text.lower()
    if kind not in KINDS:
        raise problem(
            "OC0235",
            f"unknown kind of statistics {stmt.kind.text}",
            stmt.kind.span,
            label="no such kind",
            candidates=nearest(kind, KINDS),
            notes=("the kinds are " + ", ".join(KINDS),),
        )
    first, second = _resolved(stmt.first, catalog), _resolved(stmt.second, catalog)
    if first == second:
        hint = "name two steps of a pipeline, p.one and p.other, to tell two calls of a model apart"
        raise _unseen(stmt.second, f"{second} is named twice", "the same again", hint)
    owners = {name.partition(".")[0] for name in (first, second) if "." in name}
    if len(owners) > 1:
        message = f"{first} and {second} are steps of two pipelines"
        raise _unseen(stmt.second, message, "of another pipeline")
    return ExtendedStatistics(stmt.name.text, kind, first, second)


def _resolved(name: ast.Name, catalog: CatalogView) -> str:
    """The model or step as declared; its answers can be told right from wrong."""
    model = catalog.model(name.text) if len(name.parts) == 1 else None
    shown = model.name if model is not None else name.text
    if model is None:
        shown, model = _step(name, catalog)
    if model.quality is None:
        message = f"{model.name} declares no QUALITY, so none of its answers is wrong"
        hint = f"CREATE OR REPLACE MODEL {model.name} … QUALITY exact_match(…)"
        raise _unseen(name, message, "no errors to see", hint)
    return shown


def _step(name: ast.Name, catalog: CatalogView) -> tuple[str, Model]:
    """A step `pipeline.step` as declared, and its model."""
    pipeline = catalog.pipeline(name.parts[0])
    if pipeline is None or len(name.parts) != 2:
        known = [item.name for item in catalog.models()]
        raise problem(
            "OC0236",
            f"there is no model or step {name.text}",
            name.span,
            label="expected a model, or pipeline.step",
            candidates=nearest(name.text, known),
        )
    steps = {step.name.text.lower(): step for step in declaration(pipeline).steps}
    step = steps.get(name.parts[1].lower())
    if step is None:
        known = [each.name.text for each in steps.values()]
        raise problem(
            "OC0236",
            f"{pipeline.name} has no step {name.parts[1]}",
            name.span,
            label="no such step",
            candidates=nearest(name.parts[1], known),
        )
    model = catalog.model(step.model.text)
    if model is None:
        message = f"{name.text} calls the pipeline {step.model.text}, not a model"
        raise _unseen(name, message, "a pipeline's call", "name a step of that pipeline")
    return f"{pipeline.name}.{step.name.text}", model


def _unseen(name: ast.Name, message: str, label: str, hint: str | None = None) -> BindError:
    return problem("OC0237", message, name.span, label=label, hint=hint)
