"""`FROM base BY TRANSFORM(…)` and DERIVE VARIANTS: what a transform is called and takes.

Which backend can carry out which transform is not known here; whoever builds it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...errors import BindError
from ...ir.models import Derivation, Model, Scalar, Variant
from ...ir.record import dataclass
from .. import ast
from ..diagnostics import nearest
from .budgets import bind_budget
from .problems import problem
from .view import CatalogView

Check = Callable[[Scalar], bool]


def _is_format(value: Scalar) -> bool:
    return isinstance(value, str) and value != ""


def _is_share(value: Scalar) -> bool:
    return isinstance(value, float) and 0.0 < value < 1.0


def _is_rank(value: Scalar) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


TRANSFORMS: dict[str, tuple[Check, str]] = {
    "quantize": (_is_format, "the name of a number format: QUANTIZE('int8')"),
    "prune": (_is_share, "a share between 0 and 1: PRUNE(0.5)"),
    "reduce": (_is_rank, "a whole number of at least 1: REDUCE(16)"),
}
"""Transforms by name: whether an argument is right, and what is expected of it."""


@dataclass(frozen=True)
class BoundDerive:
    """A DERIVE VARIANTS ready to run; None: no limit."""

    model: Model
    budget_seconds: float | None
    budget_usd: float | None


def bind_derive(stmt: ast.Derive, catalog: CatalogView) -> BoundDerive:
    """The model and the budget.

    Raises:
        BindError: OC0201 an unknown model, OC0205 a pipeline, OC0233 a wrong budget.
    """
    model = catalog.model(stmt.name.text)
    if model is None and catalog.pipeline(stmt.name.text) is not None:
        raise problem(
            "OC0205",
            f"{stmt.name.text} is a pipeline",
            stmt.name.span,
            hint="derive the variants of the models it calls, one after the other",
        )
    if model is None:
        raise problem(
            "OC0201",
            f"unknown model {stmt.name.text}",
            stmt.name.span,
            label="no such model",
            candidates=nearest(stmt.name.text, [item.name for item in catalog.models()]),
        )
    return BoundDerive(model, *bind_budget(stmt.budget))


def bind_derivation(
    ref: ast.DerivationRef, full_name: str, model: Model, catalog: CatalogView
) -> tuple[Derivation, Variant]:
    """What `full_name` is derived from and how, and the variant it is derived from.

    Raises:
        BindError: OC0223 no such base, the variant itself, or one derived from it; OC0238 no such
            transform, or not its arguments.
    """
    base = _base(ref, full_name, model, catalog)
    transform = ref.transform.text.lower()
    known = TRANSFORMS.get(transform)
    if known is None:
        raise problem(
            "OC0238",
            f"unknown transform {ref.transform.text}",
            ref.transform.span,
            label="no such transform",
            candidates=nearest(transform.upper(), [name.upper() for name in TRANSFORMS]),
            notes=("the transforms are " + ", ".join(name.upper() for name in TRANSFORMS),),
        )
    _check_arguments(ref, *known)
    args = tuple(argument.value for argument in ref.args)
    return Derivation(base.full_name, transform, args), base


def _check_arguments(ref: ast.DerivationRef, check: Check, expected: str) -> None:
    if len(ref.args) == 1 and check(ref.args[0].value):
        return
    place = ref.args[0].span if len(ref.args) == 1 else ref.span
    raise problem(
        "OC0238",
        f"{ref.transform.text.upper()} takes one argument, {expected}",
        place,
        label="not this",
    )


def _base(ref: ast.DerivationRef, full_name: str, model: Model, catalog: CatalogView) -> Variant:
    base = catalog.variant(ref.base.text)
    if base is None:
        known = [variant.full_name for variant in catalog.variants(model.name)]
        raise problem(
            "OC0223",
            f"unknown variant {ref.base.text}",
            ref.base.span,
            label="no such variant",
            candidates=nearest(ref.base.text, known),
        )
    if base.model != model.name:
        raise problem(
            "OC0223",
            f"{base.full_name} is a variant of {base.model}, not of {model.name}",
            ref.base.span,
            label="a variant of another model",
        )
    if base.full_name.lower() == full_name.lower():
        raise problem(
            "OC0223",
            f"{base.full_name} cannot be derived from itself",
            ref.base.span,
            label="itself",
        )
    if any(above.lower() == full_name.lower() for above in lineage(base, catalog)):
        raise _circle(ref, base, full_name)
    return base


def _circle(ref: ast.DerivationRef, base: Variant, full_name: str) -> BindError:
    return problem(
        "OC0223",
        f"{base.full_name} is itself derived from {full_name}",
        ref.base.span,
        label="would go round in a circle",
    )


def lineage(variant: Variant, catalog: CatalogView) -> Sequence[str]:
    """The full names of what a variant is derived from, nearest first."""
    found: list[str] = []
    while variant.derivation is not None:
        found.append(variant.derivation.base)
        above = catalog.variant(variant.derivation.base)
        if above is None:
            break
        variant = above
    return found
