"""Histories of searches in the catalog: found by what they are made of, then read.

A structural index of three columns (models, variants, devices) decides which histories are read at
all; the rest is one deflated JSON text each, and what SHOW HISTORIES tells without reading it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any, cast

from ..ir.estimates import Cost, Estimate
from ..ir.models import Knobs
from ..ir.physical import Choice
from ..stats.histories import History, Option, SeenPlan, Signature
from .store import Store, now

SHORTLIST = 30
"""Histories read for one query: three times the ten it is warmed by, so that rank agreement has
something to choose from (our choice)."""


class Histories:
    """All histories of one file."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, histories: Sequence[History]) -> tuple[int, ...]:
        """Keep these; their numbers.

        Raises:
            CatalogError: OC0504, the file cannot be written.
        """
        if not histories:
            return ()
        with self._store.exclusive() as cursor:
            row = cursor.execute(
                "SELECT coalesce(max(id), 0) FROM octans_internal.histories"
            ).fetchone()
            assert row is not None
            numbers = tuple(range(row[0] + 1, row[0] + 1 + len(histories)))
            at = now()
            cursor.executemany(
                "INSERT INTO octans_internal.histories "
                "(id, recorded_at, models, variants, devices, evaluations, body, run, subject, "
                "slo, rows, profiled) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    [
                        number,
                        at,
                        sorted(one.signature.models),
                        sorted(one.signature.variants),
                        sorted(one.signature.devices),
                        len(one.plans),
                        encoded(one),
                        one.run,
                        one.subject,
                        one.slo,
                        max((plan.n for plan in one.plans), default=0),
                        _profiled(one),
                    ]
                    for number, one in zip(numbers, histories, strict=True)
                ],
            )
        return numbers

    def came_to(self, run: int, plan: str, cost: Cost) -> None:
        """Note with the history of a run the plan, as advice, that a query gets after it.

        Raises:
            CatalogError: OC0504, the file cannot be written.
        """
        with self._store.exclusive() as cursor:
            cursor.execute(
                "UPDATE octans_internal.histories SET best = ?, accuracy = ?, cost = ? "
                "WHERE run = ?",
                [plan, _numbers(cost.accuracy), _numbers(cost.cost), run],
            )

    def similar(self, signature: Signature, most: int = SHORTLIST) -> tuple[History, ...]:
        """Those that share most, latest first among equals; none that shares no model."""
        models, variants, devices = map(
            sorted, (signature.models, signature.variants, signature.devices)
        )
        # Variants are many: they are compared only where the models are nearest.
        with self._store.cursor() as cursor:
            near = cursor.execute(_NEAR, [models, 10 * most]).fetchall()
            if not near:
                return ()
            query = _NEAREST.replace("NUMBERS", ", ".join(str(number) for (number,) in near))
            found = cursor.execute(query, [models, variants, devices, most])
            numbers = [number for (number,) in found.fetchall()]
        return self.load(numbers)

    def load(self, numbers: Sequence[int]) -> tuple[History, ...]:
        """These, in this order; those not there are left out.

        What one saw of a variant that has other files since is marked, see `History.without`.
        """
        if not numbers:
            return ()
        marks = ", ".join("?" * len(numbers))
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                "SELECT id, body, recorded_at, run FROM octans_internal.histories "
                f"WHERE id IN ({marks})",
                list(numbers),
            ).fetchall()
            runs = sorted({run for *_, run in rows if run is not None})
            others = cursor.execute(
                "SELECT run, list(variant) FROM octans_internal.other_files "
                "WHERE list_contains($1::BIGINT[], run) GROUP BY run",
                [runs],
            ).fetchall()
        changed = dict(others)
        found = {}
        for number, body, at, run in rows:
            one = replace(decoded(body), at=at.replace(tzinfo=UTC), run=run)
            found[number] = one.without(changed[run]) if run in changed else one
        return tuple(found[number] for number in numbers if number in found)


def _profiled(history: History) -> list[dict[str, object]]:
    """The variants that it has seen, as they were defined."""
    seen = {(o.choice.variant, o.choice.version) for stage in history.options for o in stage}
    return [{"variant": variant, "version": version} for variant, version in sorted(seen)]


def _numbers(value: Estimate | None) -> dict[str, float] | None:
    """An estimate as a column keeps it."""
    if value is None:
        return None
    return {"value": value.value, "low": value.low, "high": value.high, "n": value.n}


def _jaccard(column: str, place: int) -> str:
    """Shared ÷ all, of a column and a parameter."""
    shared = f"len(list_intersect({column}, ${place}::VARCHAR[]))"
    return f"{shared} / greatest(1, len({column}) + len(${place}::VARCHAR[]) - {shared})"


_NEAR = f"""
SELECT id FROM octans_internal.histories
WHERE list_has_any(models, $1::VARCHAR[])
ORDER BY {_jaccard("models", 1)} DESC, id DESC
LIMIT $2::BIGINT
"""
_NEAREST = f"""
SELECT id FROM octans_internal.histories
WHERE id IN (NUMBERS)
ORDER BY {_jaccard("models", 1)} + {_jaccard("variants", 2)} + {_jaccard("devices", 3)} DESC,
    id DESC
LIMIT $4::BIGINT
"""


def encoded(history: History) -> bytes:
    """A history as it is stored: names once, places after that."""
    signature = history.signature
    body = {
        "stages": signature.stages,
        "edges": signature.edges,
        "variants": sorted(signature.variants),
        "devices": sorted(signature.devices),
        "slo": history.slo,
        "subject": history.subject,
        "options": [[_option(option) for option in stage] for stage in history.options],
        "plans": [[*p.options, p.n, p.mean, p.variance] for p in history.plans],
    }
    return zlib.compress(json.dumps(body, allow_nan=False, separators=(",", ":")).encode())


def _option(option: Option) -> list[object]:
    choice = option.choice
    knobs = [[name, value] for name, value in choice.knobs]
    return [choice.variant, knobs, choice.batch, choice.device, choice.replicas,
            choice.version, dict(option.dims)]  # fmt: skip


def decoded(body: bytes) -> History:
    """The history that was stored."""
    read = cast("dict[str, Any]", json.loads(zlib.decompress(body)))
    width = len(read["stages"])
    return History(
        Signature(
            tuple(read["stages"]),
            tuple((parent, stage) for parent, stage in read["edges"]),
            frozenset(read["variants"]),
            frozenset(read["devices"]),
        ),
        read["slo"],
        tuple(tuple(_read_option(option) for option in stage) for stage in read["options"]),
        tuple(SeenPlan(tuple(plan[:width]), *plan[width:]) for plan in read["plans"]),
        read.get("subject"),
    )


def _read_option(option: Sequence[Any]) -> Option:
    variant, knobs, batch, device, replicas, version, dims = option
    named = cast(Knobs, tuple((name, value) for name, value in knobs))
    return Option(Choice(variant, named, batch, device, replicas, version), dims)
