"""Every error Octans raises on purpose.

    OctansError(message, code, span, hint)
    ├── SyntaxProblem          OC01xx  the text does not parse
    ├── BindError              OC02xx  names, scopes, types, misplaced calls
    ├── PlanError              OC03xx  no plan: infeasible, missing statistics, impossible advice
    ├── RunError               OC04xx  a model call failed, a backend is missing, cancelled
    ├── CatalogError           OC05xx  the catalog: locked, newer schema, duplicate, unknown setting
    └── InternalError          OC09xx  ours to fix
        └── RuleError                  a rewrite rule broke an invariant

A code is stable: tests and users may rely on it. `docs/errors.md` lists them all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open character offsets `[start, end)` into a statement's text."""

    start: int
    end: int


class OctansError(Exception):
    """Base: a message with a stable code, the exact span, notes and a hint."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        span: Span | None = None,
        label: str | None = None,
        notes: tuple[str, ...] = (),
        hint: str | None = None,
        candidates: tuple[str, ...] = (),
    ) -> None:
        """`label` stands behind the caret; `candidates` are the equally near names."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.span = span
        self.label = label
        self.notes = notes
        self.hint = hint
        self.candidates = candidates
        self.source: str | None = None
        self.source_name: str | None = None

    def in_source(self, text: str, name: str | None = None) -> OctansError:
        """Attach the text the span points into, once; the innermost text wins."""
        if self.source is None:
            self.source, self.source_name = text, name
        elif self.source == text and self.source_name is None:
            self.source_name = name
        return self

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        lines += [f"  note: {note}" for note in self.notes]
        if self.candidates:
            lines.append("  help: did you mean " + " or ".join(self.candidates) + "?")
        if self.hint:
            lines.append(f"  help: {self.hint}")
        return "\n".join(lines)


class SyntaxProblem(OctansError):
    """OC01xx: the text does not parse."""


class BindError(OctansError):
    """OC02xx: names, scopes, types, calls where none may stand."""


class PlanError(OctansError):
    """OC03xx: no plan can be given."""


class RunError(OctansError):
    """OC04xx: running failed; `rows_done` source rows were finished."""

    def __init__(self, message: str, *, rows_done: int | None = None, **kwargs: object) -> None:
        super().__init__(message, **kwargs)  # type: ignore[arg-type]
        self.rows_done = rows_done


class CatalogError(OctansError):
    """OC05xx: the catalog refuses."""


class InternalError(OctansError):
    """OC09xx: a defect of Octans; please report it."""


class RuleError(InternalError):
    """A rewrite rule broke an invariant; carries the plans before and after."""

    def __init__(self, rule: str, before: str, after: str, message: str) -> None:
        super().__init__(f"rule {rule}: {message}", code="OC0901", notes=(before, after))
        self.rule = rule
