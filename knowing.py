"""What planning knows of a session: statistics, declarations, and DuckDB's row estimates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .ir.estimates import Estimate
from .ir.models import Device, Variant
from .planner.optimize import Knowledge
from .stats.statistics import Statistics

if TYPE_CHECKING:
    from .session import Session


def statistics(session: Session) -> Statistics:
    """Everything measured of what is declared now."""
    catalog = session.catalog
    observations, variants = catalog.observations(), catalog.variants()
    if catalog.settings.allow_priors:
        from .stats.effects import with_expected

        variants = with_expected(variants, observations)
    return Statistics(observations, variants=variants, allow_priors=catalog.settings.allow_priors)


def knowledge(session: Session, stats: Statistics) -> Knowledge:
    """The planner's view of a session."""
    catalog = session.catalog
    models = {model.name: model for model in catalog.models()}
    return Knowledge(
        stats=stats,
        models=models,
        variants={name: catalog.variants(name) for name in models},
        devices=session.devices(),
        rows=lambda sql: estimated_rows(session, sql),
        unavailable=_unavailable(session),
        disabled_rules=frozenset(catalog.settings.disabled_rules),
    )


def estimated_rows(session: Session, sql: str) -> Estimate | None:
    """DuckDB's own estimate of a query's rows: exact for a bare scan, a guess under a filter."""
    import duckdb

    try:
        with session.catalog.cursor() as cursor:
            found = cursor.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    except duckdb.Error:
        return None
    rows, filtered = _cardinality(json.loads(found[0][1])[0]) if found else (None, True)
    if rows is None:
        return None
    return Estimate(rows, 0.0 if filtered else rows, rows, 0, "modelled")


def misplaced(variant: Variant, device: Device) -> str | None:
    """Why a variant cannot run on a device; None where it can.

    The backends of this version compute on the CPU. Only recorded answers may be replayed as if on
    any device: whose times they are is in the recording.
    """
    replayed = variant.backend is not None and variant.backend.kind == "replay"
    if device.kind == "cpu" or replayed:
        return None
    return f"no backend of this version computes on KIND {device.kind}"


def _cardinality(node: Mapping[str, Any]) -> tuple[float | None, bool]:
    """The topmost estimate in a DuckDB plan, and whether anything filters below it."""
    info = node.get("extra_info") or {}
    text = str(info.get("Estimated Cardinality", "")).lstrip("~")
    children = [_cardinality(child) for child in node.get("children", ())]
    limit = str(info.get("Limit", ""))
    if limit.isdigit() and len(children) == 1 and children[0][0] is not None:
        return min(children[0][0], float(limit)), children[0][1]
    filtered = "Filters" in info or "FILTER" in str(node.get("name", "")) or len(children) > 1
    filtered = filtered or any(below for _, below in children)
    if text.isdigit():
        return float(text), filtered
    known = [rows for rows, _ in children if rows is not None]
    return (max(known) if known else None), filtered


def _unavailable(session: Session) -> dict[str, str]:
    """Variants that cannot run here: a backend of a later version, an artefact to build again."""
    from .executor.kinds import KINDS, LATER

    found = {}
    for variant in session.catalog.variants():
        if variant.derivation is not None:
            from .deriving import out_of_date

            reason = out_of_date(session.catalog, variant)
            if reason is not None:
                found[variant.full_name] = reason
        elif variant.backend is not None and variant.backend.kind not in KINDS:
            kind = variant.backend.kind
            found[variant.full_name] = LATER.get(kind, f"there is no backend {kind}")
    return found
