"""Statements as canonical text: `parse(to_text(x)) == (x,)`, spans aside.

Queries and expressions are printed by sqlglot with functions named as written. Its own text does
not always read back as the same tree (DuckDB has more spellings than sqlglot has nodes); where it
does not, the text as written is kept, which does by construction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, assert_never

from ..errors import SyntaxProblem
from ..ir.models import scalar_text
from ..ir.types import identifier, quote
from . import ast, sqlbridge
from .tokens import tokenize

T = TypeVar("T")


def to_text(statement: ast.Statement) -> str:
    """The canonical text of a statement, without `;`."""
    match statement:
        case ast.CreateModel():
            return _model(statement)
        case ast.CreateVariant():
            return _variant(statement)
        case ast.CreateDevice():
            return f"{_create(statement, 'DEVICE')} ({_list(_item, statement.items)})"
        case ast.CreateLink():
            start = "CREATE OR REPLACE LINK" if statement.replace else "CREATE LINK"
            ends = f"{name_text(statement.source)} TO {name_text(statement.target)}"
            return f"{start} {ends} ({_list(_item, statement.items)})"
        case ast.CreatePipeline():
            return _pipeline(statement)
        case ast.CreateSlo():
            text = f"{_create(statement, 'SLO')} AS ({_list(_constraint, statement.constraints)})"
            return text + _objective(statement.objective)
        case ast.CreateStatistics():
            on = f"{name_text(statement.first)}, {name_text(statement.second)}"
            return f"{_create(statement, 'STATISTICS')} ({name_text(statement.kind)}) ON {on}"
        case ast.Select():
            return _select(statement)
        case ast.Explain():
            return _explain(statement)
        case ast.CopyTo():
            return f"COPY ({_select(statement.select)}) {statement.target}"
        case ast.Analyze():
            return _analyze(statement)
        case ast.Derive():
            text = f"DERIVE VARIANTS FOR {name_text(statement.name)}"
            budget = _list(_quantity, statement.budget)
            return f"{text} BUDGET {budget}" if budget else text
        case ast.Show():
            return _show(statement)
        case ast.Describe():
            return f"DESCRIBE {name_text(statement.name)}"
        case ast.Drop():
            return _drop(statement)
        case ast.SetSetting():
            return f"SET {name_text(statement.name)} = {_setting(statement.value)}"
        case ast.ResetSetting():
            return f"RESET {name_text(statement.name)}"
        case ast.PlainSql():
            return statement.text
        case _:
            assert_never(statement)


def name_text(name: ast.Name) -> str:
    """A dotted name; parts that are no plain words are quoted."""
    return ".".join(map(_part, name.parts))


def _part(part: str) -> str:
    text = identifier(part)
    return text if text != part or len(tokenize(part)) == 1 else quote(part)


def fragment_text(fragment: ast.Fragment) -> str:
    """A query or an expression: sqlglot's text if it reads back as the same tree."""
    try:
        text = sqlbridge.sql_text(fragment.tree)
        if _reads_back(text, fragment):
            return text
    except (*sqlbridge.MALFORMED, RecursionError, SyntaxProblem):
        return fragment.text
    return fragment.text


def _reads_back(text: str, fragment: ast.Fragment) -> bool:
    tokens = tokenize(text)
    if not tokens or any(sqlbridge.is_semicolon(token) for token in tokens):
        return False
    reader = sqlbridge.query if fragment.is_query else sqlbridge.expression
    return reader(tokens, text).tree == fragment.tree


def _list(show: Callable[[T], str], values: Iterable[T]) -> str:
    return ", ".join(map(show, values))


def _literal(literal: ast.Literal_) -> str:
    return scalar_text(literal.value)


def _quantity(quantity: ast.Quantity) -> str:
    return quantity.text


def _create(
    statement: ast.CreateModel
    | ast.CreateVariant
    | ast.CreateDevice
    | ast.CreatePipeline
    | ast.CreateSlo
    | ast.CreateStatistics,
    kind: str,
) -> str:
    start = "CREATE OR REPLACE" if statement.replace else "CREATE"
    return f"{start} {kind} {name_text(statement.name)}"


def _columns(columns: Sequence[ast.Column]) -> str:
    return "(" + ", ".join(f"{name_text(each.name)} {each.type}" for each in columns) + ")"


def _signature(statement: ast.CreateModel | ast.CreatePipeline) -> str:
    return f"{_columns(statement.inputs)} RETURNS {_columns(statement.outputs)}"


def _quality(quality: ast.MetricRef | None) -> str:
    if quality is None:
        return ""
    target = "" if quality.target is None else f"{_literal(quality.target)}, "
    args = "".join(f", {_literal(arg)}" for arg in quality.args)
    return f" QUALITY {name_text(quality.name)}({target}{name_text(quality.output)}{args})"


def _model(model: ast.CreateModel) -> str:
    text = f"{_create(model, 'MODEL')} {_signature(model)}"
    if model.prompt is not None:
        text += f" PROMPT {_literal(model.prompt)}"
    text += _quality(model.quality)
    if model.confidence is not None:
        text += f" CONFIDENCE {name_text(model.confidence)}"
    return text


def _option(option: ast.Option) -> str:
    return f"{name_text(option.name)} := {_literal(option.value)}"


def _variant(variant: ast.CreateVariant) -> str:
    text = _create(variant, "VARIANT")
    if variant.backend is not None:
        backend = variant.backend
        options = "".join(f", {_option(option)}" for option in backend.options)
        text += f" USING {name_text(backend.kind)}({_literal(backend.target)}{options})"
    if variant.derivation is not None:
        derived = variant.derivation
        text += f" FROM {name_text(derived.base)} BY {name_text(derived.transform)}"
        text += f"({_list(_literal, derived.args)})"
    if variant.knobs:
        text += f" KNOBS ({_list(_knob, variant.knobs)})"
    if variant.prices:
        text += f" PRICE {_list(_price, variant.prices)}"
    if variant.priors:
        text += f" PRIOR ({_list(_prior, variant.priors)})"
    return text + (" BASE" if variant.base else "") + (" VOLATILE" if variant.volatile else "")


def _knob(knob: ast.KnobRef) -> str:
    return f"{name_text(knob.name)} IN ({_list(_literal, knob.values)})"


def _price(price: ast.PriceRef) -> str:
    """Per million where that loses no digit, else per token."""
    million = price.usd_per_token * 1e6
    exact = million / 1e6 == price.usd_per_token
    amount = f"{million!r} USD PER 1e6" if exact else f"{price.usd_per_token!r} USD PER 1"
    return f"{amount} {price.side.upper()} TOKENS"


def _prior(prior: ast.PriorRef) -> str:
    return f"{name_text(prior.metric)} {_quantity(prior.value)}"


def _value(value: ast.Quantity | ast.Literal_ | ast.Name) -> str:
    match value:
        case ast.Quantity():
            return _quantity(value)
        case ast.Literal_():
            return _literal(value)
        case ast.Name():
            return name_text(value)
        case _:
            assert_never(value)


def _item(item: ast.DeviceItem) -> str:
    return f"{name_text(item.key)} {_value(item.value)}"


def _pipeline(pipeline: ast.CreatePipeline) -> str:
    head = f"{_create(pipeline, 'PIPELINE')} {_signature(pipeline)}{_quality(pipeline.quality)} AS"
    steps = [f"  {_step(step)};" for step in pipeline.steps]
    return "\n".join([head, "BEGIN", *steps, f"  RETURN {fragment_text(pipeline.result)};", "END"])


def _step(step: ast.Step) -> str:
    call = f"{name_text(step.name)} := {name_text(step.model)}({_list(_argument, step.arguments)})"
    return call if step.when is None else f"{call} WHEN {fragment_text(step.when)}"


def _argument(argument: ast.Argument) -> str:
    return ("EACH " if argument.each else "") + fragment_text(argument.expr)


def _constraint(constraint: ast.ConstraintRef) -> str:
    text = name_text(constraint.metric)
    if constraint.model is not None:
        text += f"({name_text(constraint.model)})"
    if constraint.custom is not None:
        text += f"({_literal(constraint.custom)})"
    text += f" {constraint.operator} {_quantity(constraint.limit)}"
    if constraint.confidence is not None:
        text += f" AT CONFIDENCE {_quantity(constraint.confidence)}"
    if constraint.soft is not None:
        text += f" SOFT {_quantity(constraint.soft)}"
    return text + (" PER TOKEN" if constraint.per_token else "")


def _objective(objective: ast.ObjectiveRef | None) -> str:
    if objective is None:
        return ""
    word = "MAXIMIZE" if objective.maximize else "MINIMIZE"
    return f" {word} {name_text(objective.metric)}"


def _asked(slo: ast.SloRef | None, objective: ast.ObjectiveRef | None) -> str:
    """`WITH SLO … MINIMIZE …`, as far as it is there."""
    text = ""
    if slo is not None:
        listed = f"({_list(_constraint, slo.constraints)})"
        text = " WITH SLO " + (name_text(slo.name) if slo.name is not None else listed)
    return text + _objective(objective)


def _select(select: ast.Select) -> str:
    text = fragment_text(select.query) + _asked(select.slo, select.objective)
    return text if select.on_error == "fail" else f"{text} ON ERROR {select.on_error.upper()}"


def _explain(explain: ast.Explain) -> str:
    """Before a bracket that does not begin like a query, empty options stand to keep it apart."""
    select = _select(explain.select)
    options = _options(explain.options)
    if not options and _BRACKET.match(select):
        options = "() "
    return f"EXPLAIN {options}{select}"


_BRACKET = re.compile(r"\((?!\s*(?:\(|(?:SELECT|WITH|FROM|VALUES|TABLE)\b))", re.IGNORECASE)


def _options(options: ast.ExplainOptions) -> str:
    listed: list[str] = ["ANALYZE"] if options.analyze else []
    if options.format != "text":
        listed.append(f"FORMAT {options.format}")
    if options.alternatives:
        listed.append(f"ALTERNATIVES {options.alternatives}")
    if options.steps:
        listed.append("STEPS")
    for why in options.why_not:
        knobs = f" ({_list(_option, why.knobs)})" if why.knobs else ""
        listed.append(f"WHY NOT {name_text(why.variant)}{knobs}")
    if options.advice is not None:
        listed.append(f"ADVICE {_literal(options.advice)}")
    return f"({', '.join(listed)}) " if listed else ""


def _analyze(analyze: ast.Analyze) -> str:
    text = f"ANALYZE {analyze.kind.upper()} {name_text(analyze.name)}"
    text += f" USING ({fragment_text(analyze.using)})"
    if analyze.labels:
        text += f" LABELS ({_list(_label, analyze.labels)})"
    if analyze.cluster is not None:
        text += f" CLUSTER BY {fragment_text(analyze.cluster)}"
    if analyze.sample is not None:
        text += f" SAMPLE {'UNIFORM ' if analyze.uniform else ''}{analyze.sample}"
    if analyze.budget:
        text += f" BUDGET {_list(_quantity, analyze.budget)}"
    if analyze.features:
        text += f" FEATURES ({_list(fragment_text, analyze.features)})"
    if analyze.search:
        text += " SEARCH"
    return text + _asked(analyze.slo, analyze.objective)


def _label(label: ast.Label) -> str:
    return f"{name_text(label.output)} := {fragment_text(label.expr)}"


def _show(show: ast.Show) -> str:
    if show.of is None:
        return f"SHOW {show.kind.upper()}"
    word = "OF" if show.kind == "variants" else "FOR"
    return f"SHOW {show.kind.upper()} {word} {name_text(show.of)}"


def _drop(drop: ast.Drop) -> str:
    exists = "IF EXISTS " if drop.if_exists else ""
    name = name_text(drop.name)
    if drop.kind == "link":
        name = " TO ".join(map(_part, drop.name.parts))
    return f"DROP {drop.kind.upper()} {exists}{name}"


def _setting(value: object) -> str:
    if isinstance(value, tuple):
        return f"({_list(_value, value)})"
    assert isinstance(value, ast.Quantity | ast.Literal_ | ast.Name)
    return _value(value)
