"""EXPLAIN as one self-contained HTML file: no script, nothing fetched, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ...ir.estimates import Cost, Estimate
from ...ir.explain import ExplainNode, Explanation, PlanSummary
from .layout import clean
from .numbers import full, interval, provenance, quantity, times, unit_of
from .plot import Point, pareto
from .sections import ALWAYS, FRONTIER, TOTALS, q_error, verdict_text
from .text import choice_text, energy_told_by, measures, own_text, ran_text

_CSS = """
:root{--ink:#1b1f24;--soft:#5c6670;--line:#d8dee4;--paper:#fff;--tint:#f5f7f9;--good:#1a7f37;
--bad:#c62828;--warn:#9a6700;--accent:#0b62c4}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa5b1;--line:#30363d;--paper:#0d1117;
--tint:#161b22;--good:#3fb950;--bad:#ff7b72;--warn:#d29922;--accent:#58a6ff}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:70rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
pre,code{font:13px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
pre{background:var(--tint);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem}
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left;
vertical-align:top;font-variant-numeric:tabular-nums}th{font-weight:600}
td.n{text-align:right}
ul.tree,ul.tree ul{list-style:none;margin:0;padding-left:1.4rem;border-left:1px solid var(--line)}
ul.tree{padding-left:0;border:0}
.node{border:1px solid var(--line);border-radius:6px;padding:.5rem .8rem;margin:.5rem 0}
.node.stage{border-left:4px solid var(--accent)}
.mark{color:var(--warn);font-size:.85em;margin-left:.6em}
.plots{display:flex;flex-wrap:wrap;gap:1rem}svg{width:460px;max-width:100%;color:var(--ink)}
svg text{font-size:11px;fill:var(--soft)}svg .name{fill:var(--ink)}svg .grid{stroke:var(--line)}
svg .plan{fill:var(--soft)}svg .chosen{fill:var(--accent)}
"""


def to_html(explanation: Explanation) -> str:
    """A whole HTML document."""
    facts = [explanation.objective]
    if explanation.planning_seconds is not None:
        facts.append(f"planned in {quantity(explanation.planning_seconds, 's')}")
    if explanation.fingerprint:
        facts.append(f"plan {explanation.fingerprint[:12]}")
    body = [
        "<h1>Plan</h1>",
        f'<p class="soft">{_safe(" · ".join(facts))}</p>',
        "<pre>" + "\n".join(map(_safe, explanation.query.splitlines())) + "</pre>",
        *_tree(explanation),
        "<h2>Totals</h2>",
        _totals(explanation),
        *_verdicts(explanation),
        *_frontier(explanation),
        *_lists(explanation),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Octans plan</title><style>{_CSS}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _safe(text: str) -> str:
    """Escaped, control characters shown."""
    return escape(clean(text))


def _row(cells: Iterable[str], tag: str = "td") -> str:
    """A table row of cells escaped already; all but the first to the right if they are numbers."""
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _measure(estimate: Estimate | None, unit: str, explanation: Explanation) -> list[str]:
    return [
        _safe(quantity(estimate.value if estimate else None, unit)),
        _safe(interval(estimate, unit)),
        f'<span class="soft">{_safe(provenance(estimate, explanation.at))}</span>',
    ]


def _tree(explanation: Explanation) -> list[str]:
    """The DAG as nested lists; a chain stays on one level, a shared node is shown once."""
    if not explanation.nodes:
        return []
    nodes = {node.id: node for node in explanation.nodes}
    parts = ['<ul class="tree">']
    shown: set[str] = set()
    stack: list[str] = [explanation.nodes[-1].id]
    close = "</ul></li>"
    while stack:
        item = stack.pop()
        if item == close:
            parts.append(close)
            continue
        node = nodes[item]
        if item in shown:
            parts.append(f'<li><div class="node soft">↑ <a href="#{escape(item)}">')
            parts.append(f"{_safe(node.title)}</a>, shared</div></li>")
            continue
        shown.add(item)
        parts.append(f"<li>{_node(node, explanation)}</li>")
        if len(node.inputs) == 1:
            stack.append(node.inputs[0])
        elif node.inputs:
            parts.append("<li><ul>")
            stack.append(close)
            stack.extend(reversed(node.inputs))
    return [*parts, "</ul>"]


def _node(node: ExplainNode, explanation: Explanation) -> str:
    """One node as a box: what it is, what was chosen, what it is expected to take."""
    ran = node.actuals
    marks = "".join(f'<span class="mark">◀ {_safe(mark)}</span>' for mark in node.marks)
    head = f"<b>{_safe(node.title)}</b> {escape(choice_text(node))}{marks}"
    if node.stale is not None:
        marks += f'<span class="mark">stale: {_safe(node.stale)}</span>'
    detail = "".join(f'<div class="soft"><code>{_safe(line)}</code></div>' for line in node.detail)
    body = ""
    for name, unit, estimate, actual, q in measures(node):
        told_by = energy_told_by(node) if name == "energy" else ""
        title = f"{name} ({_safe(told_by)})" if told_by else name
        cells = [title, *_measure(estimate, unit, explanation)]
        if ran is not None and name != "quality":
            cells += [_safe(f"→ {quantity(actual, unit)}"), f"q {times(q.total)}" if q else ""]
        body += _row(cells)
    told = (ran_text(ran), own_text(node)) if ran is not None else ()
    seen = "".join(f'<div class="soft">{_safe(text)}</div>' for text in told if text)
    return (
        f'<div class="node {escape(node.kind)}" id="{escape(node.id)}">{head}{detail}'
        f"<table>{body}</table>{seen}</div>"
    )


def _totals(explanation: Explanation) -> str:
    asked = {verdict.constraint.metric for verdict in explanation.verdicts}
    ran = explanation.actual_totals
    body = ""
    for metric in ("rows", *TOTALS):
        estimate = explanation.totals.metric(metric)
        actual = ran.metric(metric) if ran is not None else None
        if estimate is None and actual is None and metric not in ALWAYS | asked:
            continue
        unit = unit_of(metric)
        cells = [metric, *_measure(estimate, unit, explanation)]
        if ran is not None:
            known = actual.value if actual is not None else None
            q = q_error(metric, estimate.value if estimate else None, known)
            cells += [_safe(f"→ {quantity(known, unit)}"), f"q {times(q)}" if q else ""]
        body += _row(cells)
    if explanation.actual_rows is not None:
        body += _row(["result rows", "", "", "", f"→ {explanation.actual_rows:,}"])
    return f"<table>{body}</table>"


def _verdicts(explanation: Explanation) -> list[str]:
    if not explanation.verdicts:
        return []
    body = ""
    for verdict in explanation.verdicts:
        style = "warn" if verdict.met is None else "good" if verdict.met else "bad"
        unit = unit_of(verdict.constraint.metric)
        body += _row(
            [
                _safe(verdict.text),
                f'<span class="{style}">{_safe(verdict_text(verdict))}</span>',
                _safe(full(verdict.estimate, unit, explanation.at)),
            ]
        )
    return ["<h2>SLO</h2>", f"<table>{body}</table>"]


def _points(explanation: Explanation) -> list[Point]:
    chosen = Point("this plan", explanation.totals, chosen=True)
    return [chosen, *(Point(plan.label, plan.cost) for plan in explanation.frontier)]


def _frontier(explanation: Explanation) -> list[str]:
    """The plots, then the ends, the runner-up and the alternatives as a table."""
    points = _points(explanation)
    plots = [pareto(points, "accuracy", "cost"), pareto(points, "latency_p95", "cost")]
    parts = []
    if any(plots):
        parts.append(f'<h2>Frontier</h2><div class="plots">{"".join(plots)}</div>')
        if explanation.epsilon:
            parts.append(f'<p class="soft">certified within 1 + ε, ε = {explanation.epsilon:g}</p>')
    plans: list[tuple[str, Cost, str]] = [("this plan", explanation.totals, "")]
    rivals: Sequence[PlanSummary] = explanation.ends
    if explanation.runner_up is not None:
        rivals = (*rivals, explanation.runner_up)
    plans += [_rival(plan) for plan in (*rivals, *explanation.alternatives)]
    if len(plans) > 1:
        body = _row(["", *FRONTIER, ""], "th")
        for label, cost, note in plans:
            values = (cost.metric(metric) for metric in FRONTIER)
            cells = [
                _safe(quantity(value.value if value else None, unit_of(metric)))
                for metric, value in zip(FRONTIER, values, strict=True)
            ]
            body += _row([_safe(label), *cells, note])
        parts.append(f"<table>{body}</table>")
    return parts


def _rival(plan: PlanSummary) -> tuple[str, Cost, str]:
    """Label, cost, and why it is not the plan, escaped."""
    return plan.label, plan.cost, "<br>".join(_safe(t) for t in (plan.note, *plan.differs) if t)


def _lists(explanation: Explanation) -> list[str]:
    parts = []
    for title, items in (
        ("What would flip the choice", explanation.flips),
        ("Why not", explanation.why_not),
        ("Steps", explanation.steps),
        ("Failures", explanation.failures),
        ("Notes", explanation.notes),
        ("Advice given", explanation.advice_report),
    ):
        if items:
            inner = "".join(f"<li>{_safe(item)}</li>" for item in items)
            parts.append(f"<h2>{title}</h2><ul>{inner}</ul>")
    if explanation.advice:
        parts.append(f"<h2>Advice</h2><pre>{_safe(explanation.advice)}</pre>")
    return parts
