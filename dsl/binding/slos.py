"""SLOs: names resolved, metrics known, units and directions right."""

from __future__ import annotations

from ...errors import Span
from ...ir.models import output_field
from ...ir.slo import HIGHER_IS_BETTER, METRICS, OF_ANSWERS, UNITS, Constraint, Objective, Slo
from .. import ast
from ..diagnostics import nearest
from ..units import NUMBER, SHARE, described
from .problems import problem
from .view import CatalogView

_PER_TOKEN = frozenset({"cost", "latency_p50", "latency_p95", "latency_p99", "energy"})
"""Metrics that an output length can normalise (our choice: what grows with every token)."""

_OF_A_MODEL = METRICS - {"wall", "total_cost", "total_energy"}
"""Metrics one model has by itself; the others are a whole query's."""

_OF_TRUE_OR_FALSE = OF_ANSWERS - {"accuracy"}


def bind_slo(
    ref: ast.SloRef | None, objective: ast.ObjectiveRef | None, catalog: CatalogView
) -> Slo:
    """The SLO of a query; its own objective wins over the named SLO's.

    Raises:
        BindError: OC0219, no such SLO; OC0216 to OC0218, an impossible constraint.
    """
    base = Slo()
    if ref is not None and ref.name is not None:
        found = catalog.slo(ref.name.text)
        if found is None:
            raise problem(
                "OC0219",
                f"unknown SLO {ref.name.text}",
                ref.name.span,
                label="no such SLO",
                candidates=nearest(ref.name.text, [str(slo.name) for slo in catalog.slos()]),
            )
        base = found
    elif ref is not None:
        base = Slo(tuple(bind_constraint(item, catalog) for item in ref.constraints))
    if objective is None:
        return base
    return Slo(base.constraints, bind_objective(objective), base.name)


def bind_objective(ref: ast.ObjectiveRef) -> Objective:
    """What to minimise or maximise; `latency` means latency_p95.

    Raises:
        BindError: OC0216, no such metric; OC0217, the wrong direction.
    """
    name = _metric(ref.metric)
    if name in _OF_TRUE_OR_FALSE:
        raise problem("OC0217", f"{name} is a limit's, not an objective's", ref.span)
    better = name in HIGHER_IS_BETTER
    if better != ref.maximize:
        word = "MAXIMIZE" if better else "MINIMIZE"
        raise problem(
            "OC0217",
            f"{name} cannot be {'maximised' if ref.maximize else 'minimised'} as an objective",
            ref.span,
            hint=f"write {word} {name}",
        )
    return Objective(name, ref.maximize)


def bind_constraint(ref: ast.ConstraintRef, catalog: CatalogView) -> Constraint:
    """One constraint in base units.

    Raises:
        BindError: OC0216, OC0217, OC0218, or OC0201 for an unknown model.
    """
    model = _model(ref, catalog)
    if ref.custom is not None or ref.metric.text.lower() == "custom":
        return _custom(ref, model)
    metric = _metric(ref.metric)
    _check_direction(ref, metric)
    if model is not None and metric not in _OF_A_MODEL:
        raise problem(
            "OC0217", f"{metric} is a query's, not one model's", ref.span, hint=f"write {metric}"
        )
    if metric in _OF_TRUE_OR_FALSE:
        _check_true_or_false(ref, metric, model, catalog)
    if ref.per_token and metric not in _PER_TOKEN:
        raise problem("OC0217", f"{metric} cannot be PER TOKEN", ref.span)
    _check_unit(ref, metric)
    if metric in OF_ANSWERS and not 0 <= ref.limit.value <= 1:
        raise problem(
            "OC0217", f"{metric} lies between 0 and 1", ref.limit.span, label="a share of rows"
        )
    if metric not in HIGHER_IS_BETTER and ref.limit.value < 0:
        raise problem(
            "OC0217", f"{metric} is never below 0", ref.limit.span, label="no plan can be below 0"
        )
    confidence = _confidence(ref, metric)
    return Constraint(
        metric,
        ref.operator,
        ref.limit.value,
        model,
        None,
        confidence,
        _soft(ref),
        ref.per_token,
    )


def _check_true_or_false(
    ref: ast.ConstraintRef, metric: str, model: str | None, catalog: CatalogView
) -> None:
    """Precision and recall are of one model, whose answers are TRUE or FALSE."""
    declared = None if model is None else catalog.model(model)
    if declared is None:
        raise problem(
            "OC0217",
            f"{metric} is one model's, not a query's",
            ref.span,
            hint=f"write {metric}(model)",
        )
    scored = declared.quality
    kind = None if scored is None else output_field(declared, scored.output).type
    if scored is None or kind != "BOOLEAN" or scored.name != "exact_match":
        raise problem(
            "OC0217",
            f"{metric} is of answers that are TRUE or FALSE",
            ref.span,
            label=f"{declared.name} declares no QUALITY exact_match of a BOOLEAN",
        )


def accuracy_asked(ref: ast.SloRef | None, slo: Slo) -> Span | None:
    """Where accuracy of the whole query is asked for; None when it is not."""
    asked = any(c.metric == "accuracy" and c.model is None for c in slo.constraints)
    if not asked and slo.objective.metric != "accuracy":
        return None
    for item in ref.constraints if ref is not None else ():
        if item.metric.text.lower() == "accuracy" and item.model is None:
            return item.span
    return ref.span if ref is not None else Span(0, 0)


def _metric(name: ast.Name) -> str:
    metric = name.text.lower()
    metric = "latency_p95" if metric == "latency" else metric
    if metric not in METRICS:
        raise problem(
            "OC0216",
            f"unknown metric {name.text}",
            name.span,
            label="no such metric",
            candidates=nearest(metric, sorted(METRICS)),
            hint="a metric of your own is written custom('name')",
        )
    return metric


def _model(ref: ast.ConstraintRef, catalog: CatalogView) -> str | None:
    if ref.model is None:
        return None
    found = catalog.model(ref.model.text)
    if found is None:
        known = [model.name for model in catalog.models()]
        raise problem(
            "OC0201",
            f"unknown model {ref.model.text}",
            ref.model.span,
            label="no such model",
            candidates=nearest(ref.model.text, known),
        )
    return found.name


def _custom(ref: ast.ConstraintRef, model: str | None) -> Constraint:
    if ref.custom is None or not isinstance(ref.custom.value, str) or not ref.custom.value:
        raise problem("OC0216", "custom needs a metric's name", ref.span, hint="custom('name')")
    if ref.confidence is not None:
        raise problem(
            "OC0217", "AT CONFIDENCE is for accuracy only", ref.confidence.span, label="not here"
        )
    return Constraint(
        "custom",
        ref.operator,
        ref.limit.value,
        model,
        ref.custom.value,
        None,
        _soft(ref),
        ref.per_token,
    )


def _check_direction(ref: ast.ConstraintRef, metric: str) -> None:
    wanted = ">=" if metric in HIGHER_IS_BETTER else "<="
    if ref.operator != wanted:
        better = "better the higher it is" if wanted == ">=" else "better the lower it is"
        raise problem(
            "OC0217",
            f"{metric} is {better}: a limit is written {metric} {wanted} {ref.limit.text}",
            ref.span,
        )


def _check_unit(ref: ast.ConstraintRef, metric: str) -> None:
    unit = UNITS[metric]
    have = ref.limit.dimension
    if have == unit or {have, unit} <= {NUMBER, SHARE}:
        return
    raise problem(
        "OC0218",
        f"{metric} is {described(unit)}, not {ref.limit.text}",
        ref.limit.span,
        label=f"expected {described(unit)}",
    )


def _confidence(ref: ast.ConstraintRef, metric: str) -> float | None:
    if ref.confidence is None:
        return None
    if metric != "accuracy":
        raise problem(
            "OC0217",
            "AT CONFIDENCE is for accuracy only",
            ref.confidence.span,
            label=f"{metric} cannot be proved on held-back rows",
        )
    if ref.confidence.dimension not in (NUMBER, SHARE) or not 0 < ref.confidence.value < 1:
        raise problem("OC0217", "a confidence lies between 0 and 1", ref.confidence.span)
    return ref.confidence.value


def _soft(ref: ast.ConstraintRef) -> float | None:
    if ref.soft is None:
        return None
    if ref.soft.dimension not in (NUMBER, SHARE) or not ref.soft.value > 0:
        raise problem(
            "OC0217", "SOFT takes a share, such as SOFT 10 %", ref.soft.span, label="not a share"
        )
    return ref.soft.value
