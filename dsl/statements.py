"""The statements built from their rules; what they share is in `build.py`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, cast

from ..errors import Span
from . import ast
from .build import Group, Parts, Shared, expression, number, once, query, string, twice, whole
from .diagnostics import nearest
from .lexer import Lexeme
from .problems import one_of, problem

SHOW_KINDS = {
    "models": None,
    "variants": "OF",
    "devices": None,
    "links": None,
    "pipelines": None,
    "slos": None,
    "extended_statistics": None,
    "deployments": None,
    "plans": "FOR",
    "statistics": "FOR",
    "observations": "FOR",
    "runs": None,
    "histories": None,
    "jobs": None,
}
"""What SHOW shows, and the word that narrows it to one object."""


class Build(Shared):
    """The statements of `grammar.lark`."""

    def create_model(self, children: list[Any]) -> ast.CreateModel:
        """CREATE MODEL."""
        parts = Parts(children)
        inputs, outputs = signatures(parts)
        groups = parts.all(Group)
        quality = once(groups, "quality", "QUALITY")
        confidence = once(groups, "confidence", "CONFIDENCE")
        prompt = once(groups, "prompt", "PROMPT")
        return ast.CreateModel(
            name=parts.one(ast.Name),
            inputs=inputs,
            outputs=outputs,
            quality=quality.one(ast.MetricRef) if quality else None,
            confidence=confidence.one(ast.Name) if confidence else None,
            prompt=string(prompt.lexeme("STRING")) if prompt else None,
            replace=replaces(parts),
            span=parts.span,
        )

    def create_pipeline(self, children: list[Any]) -> ast.CreatePipeline:
        """CREATE PIPELINE."""
        parts = Parts(children)
        inputs, outputs = signatures(parts)
        groups = parts.all(Group)
        for rule in ("confidence", "prompt"):
            stray = once(groups, rule, rule.upper())
            if stray:
                message = f"{rule.upper()} belongs to a model, not to a pipeline"
                label = "expected QUALITY or AS"
                raise problem("OC0101", message, span=stray.span, label=label)
        quality = once(groups, "quality", "QUALITY")
        body = next(group for group in groups if group.rule == "body")
        return ast.CreatePipeline(
            name=parts.one(ast.Name),
            inputs=inputs,
            outputs=outputs,
            quality=quality.one(ast.MetricRef) if quality else None,
            steps=body.all(ast.Step),
            result=expression(body.lexeme("EXPR")),
            replace=replaces(parts),
            span=parts.span,
        )

    def step(self, children: list[Any]) -> ast.Step:
        """`name := call(arguments) [WHEN condition];`."""
        parts = Parts(children)
        name, model = parts.all(ast.Name)
        condition = parts.lexemes("EXPR")
        when = expression(condition[0]) if condition else None
        return ast.Step(name, model, parts.all(ast.Argument), when, parts.span)

    def argument(self, children: list[Any]) -> ast.Argument:
        """`[EACH] expression`."""
        parts = Parts(children)
        return ast.Argument(expression(parts.lexeme("EXPR")), parts.has("EACH"), parts.span)

    def create_variant(self, children: list[Any]) -> ast.CreateVariant:
        """CREATE VARIANT."""
        parts = Parts(children)
        groups = parts.all(Group)
        knobs = once(groups, "knobs", "KNOBS")
        prices = once(groups, "prices", "PRICE")
        priors = once(groups, "priors", "PRIOR")
        flags = [lexeme for group in groups if group.rule == "flag" for lexeme in group]
        for index, flag in enumerate(flags):
            if flag.type in [earlier.type for earlier in flags[:index]]:
                raise twice(flag.type, flag.span)
        return ast.CreateVariant(
            name=parts.one(ast.Name),
            backend=parts.maybe(ast.BackendRef),
            derivation=parts.maybe(ast.DerivationRef),
            knobs=knobs.all(ast.KnobRef) if knobs else (),
            prices=prices.all(ast.PriceRef) if prices else (),
            priors=priors.all(ast.PriorRef) if priors else (),
            base=any(flag.type == "BASE" for flag in flags),
            volatile=any(flag.type == "VOLATILE" for flag in flags),
            replace=replaces(parts),
            span=parts.span,
        )

    def backend(self, children: list[Any]) -> ast.BackendRef:
        """`USING kind('target', …)`."""
        parts = Parts(children)
        target = string(parts.lexeme("STRING"))
        return ast.BackendRef(parts.one(ast.Name), target, parts.all(ast.Option), parts.span)

    def derivation(self, children: list[Any]) -> ast.DerivationRef:
        """`FROM base BY TRANSFORM(…)`."""
        parts = Parts(children)
        base, transform = parts.all(ast.Name)
        return ast.DerivationRef(base, transform, parts.all(ast.Literal_), parts.span)

    def knob(self, children: list[Any]) -> ast.KnobRef:
        """`name IN (values…)`."""
        parts = Parts(children)
        return ast.KnobRef(parts.one(ast.Name), parts.all(ast.Literal_))

    def price(self, children: list[Any]) -> ast.PriceRef:
        """`amount USD PER count INPUT TOKENS`."""
        parts = Parts(children)
        amount, count = parts.lexemes("NUMBER")
        unit = parts.lexeme("UNIT")
        if unit.text != "USD":
            message = f"a price of tokens is in USD, not {unit.text}"
            raise problem("OC0108", message, span=unit.span, label="expected USD")
        if not number(count):
            raise problem("OC0111", "a price per zero tokens is none", span=count.span)
        side: Literal["input", "output"] = "input" if parts.has("INPUT") else "output"
        return ast.PriceRef(number(amount) / number(count), side, parts.span)

    def prior(self, children: list[Any]) -> ast.PriorRef:
        """`metric quantity`."""
        return ast.PriorRef(children[0], children[1])

    def item(self, children: list[Any]) -> ast.DeviceItem:
        """`KEY value`."""
        return ast.DeviceItem(children[0], children[1])

    def create_device(self, children: list[Any]) -> ast.CreateDevice:
        """CREATE DEVICE."""
        parts = Parts(children)
        return ast.CreateDevice(parts.one(ast.Name), items(parts), replaces(parts), parts.span)

    def create_link(self, children: list[Any]) -> ast.CreateLink:
        """CREATE LINK a TO b."""
        parts = Parts(children)
        source, target = parts.all(ast.Name)
        return ast.CreateLink(source, target, items(parts), replaces(parts), parts.span)

    def create_slo(self, children: list[Any]) -> ast.CreateSlo:
        """CREATE SLO."""
        parts = Parts(children)
        return ast.CreateSlo(
            name=parts.one(ast.Name),
            constraints=constraints(parts),
            objective=parts.maybe(ast.ObjectiveRef),
            replace=replaces(parts),
            span=parts.span,
        )

    def create_statistics(self, children: list[Any]) -> ast.CreateStatistics:
        """CREATE STATISTICS name (kind) ON a, b."""
        parts = Parts(children)
        name, kind, first, second = parts.all(ast.Name)
        return ast.CreateStatistics(name, kind, first, second, replaces(parts), parts.span)

    def slo(self, children: list[Any]) -> ast.SloRef:
        """`WITH SLO …`."""
        parts = Parts(children)
        return ast.SloRef(parts.maybe(ast.Name), constraints(parts), parts.span)

    def select(self, children: list[Any]) -> ast.Select:
        """A query with its clauses."""
        parts = Parts(children)
        folded = parts.lexeme("QUERY")
        clauses = next((g for g in parts.all(Group) if g.rule == "clauses"), Parts())
        on_error: Literal["fail", "null", "skip"] = "fail"
        chosen = next((g for g in clauses.all(Group) if g.rule == "on_error"), None)
        if chosen:
            on_error = cast(Literal["fail", "null", "skip"], chosen[2].type.lower())
        span = Span(folded.start, clauses.span.end if clauses else folded.end)
        slo, objective = clauses.maybe(ast.SloRef), clauses.maybe(ast.ObjectiveRef)
        return ast.Select(query(folded), slo, objective, on_error, span)

    def explain(self, children: list[Any]) -> ast.Explain:
        """EXPLAIN."""
        parts = Parts(children)
        options = parts.maybe(ast.ExplainOptions) or ast.ExplainOptions()
        return ast.Explain(self.select(parts), options, parts.span)

    def explain_options(self, children: list[Any]) -> ast.ExplainOptions:
        """What stands in EXPLAIN's parentheses, or a bare ANALYZE."""
        parts = Parts(children)
        given: dict[str, Group] = {}
        for option in parts.all(Group):
            word = cast(Lexeme, option[0]).type
            if word in given:
                raise twice(word, option.span)
            given[word] = option
        chosen = given.get("FORMAT")
        count, advice = given.get("ALTERNATIVES"), given.get("ADVICE")
        return ast.ExplainOptions(
            analyze="ANALYZE" in given or parts.has("ANALYZE"),
            format=explain_format(chosen.one(ast.Name)) if chosen else "text",
            alternatives=whole(count.lexeme("NUMBER"), "ALTERNATIVES") if count else 0,
            steps="STEPS" in given,
            why_not=parts.all(ast.WhyNot),
            advice=string(advice.lexeme("STRING")) if advice else None,
        )

    def why_not(self, children: list[Any]) -> ast.WhyNot:
        """`WHY NOT variant (knobs)`."""
        parts = Parts(children)
        return ast.WhyNot(parts.one(ast.Name), parts.all(ast.Option), parts.span)

    def copy(self, children: list[Any]) -> ast.CopyTo:
        """COPY (query) TO …."""
        parts = Parts(children)
        target = parts.lexeme("TARGET")
        if target.words[0].upper != "TO":
            message = f"unexpected {target.words[0].text} after the query to copy"
            raise problem("OC0101", message, span=target.words[0].span, label="expected TO")
        words = [word.upper for word in target.words]
        for place, pair in enumerate(pairwise(words)):
            if pair == ("ON", "ERROR"):
                raise problem(
                    "OC0101",
                    "ON ERROR belongs to the query, inside the parentheses",
                    span=Span(target.words[place].span.start, target.words[place + 1].span.end),
                    label="cannot stand here",
                    hint="COPY (SELECT … ON ERROR SKIP) TO …",
                )
        return ast.CopyTo(self.select(parts), target.text, parts.span)

    def analyze(self, children: list[Any]) -> ast.Analyze:
        """ANALYZE PIPELINE | MODEL."""
        parts = Parts(children)
        groups = parts.all(Group)
        asked = next((group for group in groups if group.rule == "asked"), Parts())
        labels, sample, budget, cluster, features, search = (
            once(groups, rule, word)
            for rule, word in (
                ("labels", "LABELS"),
                ("sample", "SAMPLE"),
                ("budget", "BUDGET"),
                ("cluster", "CLUSTER BY"),
                ("features", "FEATURES"),
                ("search", "SEARCH"),
            )
        )
        return ast.Analyze(
            kind="pipeline" if parts.has("PIPELINE") else "model",
            name=parts.one(ast.Name),
            using=query(parts.lexeme("QUERY")),
            labels=labels.all(ast.Label) if labels else (),
            sample=whole(sample.lexeme("NUMBER"), "SAMPLE") if sample else None,
            uniform=bool(sample and sample.has("UNIFORM")),
            cluster=expression(cluster.lexeme("EXPR")) if cluster else None,
            budget=budget.all(ast.Quantity) if budget else (),
            features=tuple(map(expression, features.lexemes("EXPR"))) if features else (),
            search=search is not None,
            slo=asked.maybe(ast.SloRef),
            objective=asked.maybe(ast.ObjectiveRef),
            span=parts.span,
        )

    def derive(self, children: list[Any]) -> ast.Derive:
        """DERIVE VARIANTS FOR model."""
        parts = Parts(children)
        return ast.Derive(parts.one(ast.Name), parts.all(ast.Quantity), parts.span)

    def label(self, children: list[Any]) -> ast.Label:
        """`output := expression`."""
        return ast.Label(children[0], expression(children[2]))

    def show(self, children: list[Any]) -> ast.Show:
        """SHOW kind [OF | FOR name]."""
        parts = Parts(children)
        word = parts.lexeme("NAME")
        kind = word.text.lower()
        narrowed = parts.lexemes("OF", "FOR")
        if narrowed and narrowed[0].type != SHOW_KINDS[kind]:
            wanted = SHOW_KINDS[kind]
            message = f"unexpected {narrowed[0].text} after SHOW {word.text}"
            label = f"expected {wanted}" if wanted else "expected the end of the statement"
            raise problem("OC0101", message, span=narrowed[0].span, label=label)
        return ast.Show(kind, parts.maybe(ast.Name), parts.span)

    def describe(self, children: list[Any]) -> ast.Describe:
        """DESCRIBE name."""
        parts = Parts(children)
        return ast.Describe(parts.one(ast.Name), parts.span)

    def drop(self, children: list[Any]) -> ast.Drop:
        """DROP kind [IF EXISTS] name."""
        parts = Parts(children)
        kind = cast(ast.ObjectKind, parts[1].type.lower())
        names = parts.all(ast.Name)
        if (len(names) == 2) != (kind == "link"):
            ends = "a link is named by its two ends: DROP LINK edge TO cloud"
            if kind == "link":
                raise problem("OC0101", ends, span=names[0].span, label="expected TO after it")
            span = parts.lexeme("TO").span
            label = "expected the end of the statement"
            raise problem("OC0101", "unexpected TO", span=span, label=label)
        name = names[0]
        if kind == "link":
            both = tuple(part for each in names for part in each.parts)
            name = ast.Name(both, Span(names[0].span.start, names[1].span.end))
        return ast.Drop(kind, name, parts.has("IF"), parts.span)

    def set_setting(self, children: list[Any]) -> ast.SetSetting:
        """SET name = value."""
        parts = Parts(children)
        value = parts[3]
        if isinstance(value, Group):
            listed = tuple(plain(part) for part in value if not isinstance(part, Lexeme))
            return ast.SetSetting(parts[1], cast(Any, listed), parts.span)
        return ast.SetSetting(parts[1], plain(value), parts.span)

    def reset_setting(self, children: list[Any]) -> ast.ResetSetting:
        """RESET name."""
        parts = Parts(children)
        return ast.ResetSetting(parts.one(ast.Name), parts.span)


def plain(value: Any) -> Any:
    """A quantity without a unit is a plain number."""
    if isinstance(value, ast.Quantity) and not value.dimension:
        whole_number = value.text.lstrip("-").isdigit()
        return ast.Literal_(int(value.text) if whole_number else value.value, value.span)
    return value


def replaces(parts: Parts) -> bool:
    """Was OR REPLACE written?"""
    return any(group.rule == "or_replace" for group in parts.all(Group))


def signatures(parts: Parts) -> tuple[tuple[ast.Column, ...], tuple[ast.Column, ...]]:
    """Inputs and outputs."""
    inputs, outputs = (group for group in parts.all(Group) if group.rule == "signature")
    return inputs.all(ast.Column), outputs.all(ast.Column)


def items(parts: Parts) -> tuple[ast.DeviceItem, ...]:
    """What stands in a device's or a link's brackets."""
    return next(group for group in parts.all(Group) if group.rule == "items").all(ast.DeviceItem)


def constraints(parts: Parts) -> tuple[ast.ConstraintRef, ...]:
    """The constraints, where they are written out."""
    group = next((group for group in parts.all(Group) if group.rule == "constraints"), None)
    return group.all(ast.ConstraintRef) if group else ()


def explain_format(name: ast.Name) -> Literal["text", "json", "html"]:
    """FORMAT's word."""
    formats = ("text", "json", "html")
    word = name.text.lower()
    if word not in formats:
        raise problem(
            "OC0101",
            f"unknown format {name.text}",
            span=name.span,
            label="expected " + one_of(formats),
            candidates=nearest(word, formats),
        )
    return cast(Literal["text", "json", "html"], word)
