"""BUDGET 60 s, 2 USD: what measuring may take."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ast
from .problems import problem


def bind_budget(budget: Sequence[ast.Quantity]) -> tuple[float | None, float | None]:
    """Seconds and USD of a BUDGET; None where it has none.

    Raises:
        BindError: OC0233, neither a time nor an amount, or given twice.
    """
    found: dict[str, float] = {}
    for quantity in budget:
        if quantity.dimension not in ("s", "USD"):
            raise problem(
                "OC0233",
                f"a budget is a time or an amount of USD, not {quantity.text}",
                quantity.span,
                label="expected s or USD",
            )
        if quantity.dimension in found:
            raise problem("OC0233", "this budget is given twice", quantity.span)
        if quantity.value <= 0:
            raise problem("OC0233", "a budget must be above 0", quantity.span)
        found[quantity.dimension] = quantity.value
    return found.get("s"), found.get("USD")
