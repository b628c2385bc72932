"""EXPLAIN for a terminal: the tree, then what it totals to, then why this plan and no other.

A chain of nodes runs straight down, only branches indent; a node with several readers prints once,
numbered, and is referred to. Columns line up over the whole tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...ir.estimates import Estimate
from ...ir.explain import ExplainNode, Explanation, NodeActuals, QError
from ...ir.models import knobs_text
from .layout import Palette, clean, table, width, wrap
from .numbers import interval, provenance, quantity, times
from .sections import sections

Cells = tuple[str, ...]


def to_text(explanation: Explanation, *, color: bool = False, columns: int = 100) -> str:
    """The whole explanation as plain text, `columns` wide where names allow it; no final newline.

    Args:
        explanation: what to print.
        color: paint with ANSI codes (only for terminals).
        columns: the width to wrap at.
    """
    palette = Palette(color)
    lines = _heading(explanation, palette, columns)
    lines += ["", *_tree(explanation, palette, columns)]
    for title, body in sections(explanation, palette, columns):
        lines += ["", palette.paint(title, "bold"), *("  " + line if line else "" for line in body)]
    return "\n".join(line.rstrip() for line in lines)


def _heading(explanation: Explanation, palette: Palette, columns: int) -> list[str]:
    facts = [explanation.objective]
    if explanation.planning_seconds is not None:
        facts.append(f"planned in {quantity(explanation.planning_seconds, 's')}")
    if explanation.fingerprint:
        facts.append(f"plan {explanation.fingerprint[:12]}")
    lines = [palette.paint("Plan", "bold") + "  " + clean(" · ".join(facts))]
    lines += [palette.paint("  " + line, "dim") for line in wrap(explanation.query, columns - 2)]
    if explanation.actual_totals is not None:
        lines.append(
            "  estimate → actual; q: the larger ÷ the smaller (of accuracies: of the error rates)"
        )
    return lines


def choice_text(node: ExplainNode) -> str:
    """`classify.forest (trees := 100) · batch 64 · cpu`, or '' where nothing is chosen."""
    if node.choice is None:
        return ""
    choice = node.choice
    knobs = f" ({knobs_text(choice.knobs)})" if choice.knobs else ""
    parts = [choice.variant + knobs, f"batch {choice.batch}", choice.device]
    if choice.replicas > 1:
        parts.append(f"{choice.replicas} replicas")
    return clean(" · ".join(parts))


Measured = tuple[str, str, Estimate | None, float | None, QError | None]


def measures(node: ExplainNode) -> list[Measured]:
    """`name, unit, estimate, actual, q-error` of what is told of one node.

    Energy is left out where neither a counter nor a POWER tells it.
    """
    ran = node.actuals
    rows: list[Measured] = [
        ("rows", "rows", node.rows, None if ran is None else float(ran.rows_out), node.q_rows)
    ]
    if node.kind == "stage":
        rows += [
            ("time", "s", node.seconds, None if ran is None else ran.busy_seconds, node.q_seconds),
            ("cost", "USD", node.usd, None if ran is None else ran.cost_usd, node.q_usd),
            ("quality", "share", node.quality, None, None),
        ]
        joules = None if ran is None else ran.energy_joules
        if node.energy is not None or joules is not None:
            rows.append(("energy", "J", node.energy, joules, node.q_energy))
    return rows


def energy_told_by(node: ExplainNode) -> str:
    """What told the estimated joules, and the run's where that is another: `POWER → rapl`."""
    ran = node.actuals.energy_source if node.actuals is not None else ""
    sources = [node.energy_source] if node.energy_source else []
    if ran and ran != node.energy_source:
        sources.append(f"→ {ran}")
    return " ".join(sources)


def _measures(node: ExplainNode, explanation: Explanation) -> list[Cells]:
    """Rows `name, value, → actual, q-error, interval, provenance` of one node.

    A node that only computes columns has none: rows, all it could tell, pass through it.
    """
    if node.kind == "step" and node.title == "compute":
        return []
    cells = []
    for name, unit, estimate, actual, q in measures(node):
        cell = [name, quantity(None if estimate is None else estimate.value, unit)]
        known = provenance(estimate, explanation.at)
        if name == "energy":
            known = ", ".join(part for part in (known, energy_told_by(node)) if part)
        detail = [interval(estimate, unit), known]
        if node.actuals is not None:
            told = name != "quality"
            cell += [f"→ {quantity(actual, unit)}", _q(q)] if told else ["", ""]
        cells.append((*cell, *detail))
    return cells


def _q(q: QError | None) -> str:
    return "" if q is None else f"q {times(q.total)}"


def own_text(node: ExplainNode) -> str:
    """What of the q-errors is the node's own, where some of it came with its input."""
    parts = []
    for name, q in (
        ("rows", node.q_rows), ("time", node.q_seconds), ("cost", node.q_usd),
        ("energy", node.q_energy),
    ):  # fmt: skip
        if q is not None and q.own is not None and (q.inherited or 1.0) > 1.005:
            parts.append(f"{name} own {times(q.own)}, inherited {times(q.inherited)}")
    return "; ".join(parts)


def ran_text(ran: NodeActuals) -> str:
    """What ANALYZE saw beside rows, time and price: waiting, loading, calls, failures, hits."""
    parts = []
    for name, seconds in (
        ("queued", ran.queue_seconds), ("load", ran.load_seconds), ("unload", ran.unload_seconds),
    ):  # fmt: skip
        if seconds is not None:
            parts.append(f"{name} {quantity(seconds, 's')}")
    if ran.latency_p95 is not None:
        parts.append(f"p95 {quantity(ran.latency_p95, 's')} a batch")
    for count, name in ((ran.calls, "calls"), (ran.elements, "elements")):
        if count is not None:
            parts.append(f"{count:,} {name}")
    if ran.failed:
        late = f" ({ran.timed_out:,} timed out)" if ran.timed_out else ""
        parts.append(f"{ran.failed:,} failed{late}")
    if ran.cache_hits is not None:
        parts.append(f"{ran.cache_hits:,} cache hits")
    return ", ".join(parts)


class _TreePrinter:
    """Lays the DAG out: aligned measures, shared nodes numbered and printed once."""

    def __init__(self, explanation: Explanation, palette: Palette, columns: int) -> None:
        self.nodes = {node.id: node for node in explanation.nodes}
        self.palette = palette
        self.columns = columns
        readers = Counter(i for node in explanation.nodes for i in node.inputs)
        shared = [node.id for node in explanation.nodes if readers[node.id] > 1]
        self.numbers = {identity: number for number, identity in enumerate(shared, 1)}
        self.printed: set[str] = set()
        cells = {node.id: _measures(node, explanation) for node in explanation.nodes}
        lines = table([row for rows in cells.values() for row in rows], right=frozenset({1}))
        self.measures: dict[str, list[str]] = {}
        start = 0
        for identity, rows in cells.items():
            self.measures[identity] = lines[start : start + len(rows)]
            start += len(rows)

    def lines(self, root: str) -> Iterator[str]:
        """The subtree of `root`; the stack holds nodes still to print with their prefixes."""
        stack = [(root, "", "")]
        while stack:
            identity, branch, prefix = stack.pop()
            node = self.nodes[identity]
            again = identity in self.printed
            if self.printed:
                yield branch.removesuffix("└─ ").removesuffix("├─ ") + "│"
            yield branch + self.title(node, again=again)
            if again:
                continue
            self.printed.add(identity)
            below = [self.nodes[i] for i in node.inputs]
            for line in self.body(node, self.columns - width(prefix) - 4):
                yield f"{prefix}{'│' if below else ' '}   {line}"
            last = len(below) - 1
            for index in range(last, -1, -1):
                identity = node.inputs[index]
                if last == 0:
                    stack.append((identity, prefix, prefix))
                elif index == last:
                    stack.append((identity, prefix + "└─ ", prefix + "   "))
                else:
                    stack.append((identity, prefix + "├─ ", prefix + "│  "))

    def title(self, node: ExplainNode, *, again: bool) -> str:
        """`• digits  classify.mlp · batch 64 · cpu   ◀ costliest`."""
        number = self.numbers.get(node.id)
        mark = f" #{number}" if number is not None else ""
        name = clean(node.title)
        if again:
            return self.palette.paint(f"• {name}: shared, see{mark}", "dim")
        text = "• " + self.palette.paint(name, "bold") + self.palette.paint(mark, "cyan")
        if choice := choice_text(node):
            text += "  " + choice
        if node.marks:
            text += "  " + self.palette.paint("◀ " + ", ".join(node.marks), "yellow")
        return text

    def body(self, node: ExplainNode, columns: int) -> Iterator[str]:
        """Detail, measures and what ANALYZE saw."""
        for detail in node.detail:
            for line in wrap(detail, columns):
                yield self.palette.paint(line, "dim")
        yield from self.measures[node.id]
        ran = ran_text(node.actuals) if node.actuals is not None else ""
        for name, text in (("stale", clean(node.stale or "")), ("ran", ran), ("q", own_text(node))):
            for number, line in enumerate(wrap(text, columns - 9) if text else ()):
                yield (name if number == 0 else "").ljust(9) + line


def _tree(explanation: Explanation, palette: Palette, columns: int) -> list[str]:
    if not explanation.nodes:
        return []
    return list(_TreePrinter(explanation, palette, columns).lines(explanation.nodes[-1].id))
