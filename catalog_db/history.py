"""What was run, which plans were chosen and how they did, which promises were tested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, cast

from .store import Store, now

if TYPE_CHECKING:
    from ..stats.promise import Proof

Status = Literal["done", "failed", "cancelled", "stopped"]
"""How a run ended; `stopped`: at its budget, with something left out."""
Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]

_PROOF = ("promise", "plan", "i", "level", "n", "right", "bound", "accepted", "threshold", "method")


def status_of(stopped: str | None) -> Status:
    """How a run is kept that ended without an error: for the reason `stopped`, None of itself."""
    if stopped is None:
        return "done"
    return "cancelled" if stopped == "cancelled" else "stopped"


class History:
    """Runs, plans and proofs of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin_run(self, kind: str, text: str) -> int:
        """Note that a run starts; its number."""
        return self._insert("runs", "kind, text, started_at", [kind, text, now()])

    def finish_run(
        self,
        run: int,
        *,
        status: Status = "done",
        rows: int | None = None,
        failed: int | None = None,
        usd: float | None = None,
        error: str | None = None,
        details: Json = None,
    ) -> None:
        """Note how a run ended; what it would have continued by is gone with it."""
        with self._store.transaction() as cursor:
            cursor.execute("DELETE FROM octans_internal.checkpoints WHERE run = ?", [run])
            cursor.execute(
                "UPDATE octans_internal.runs SET status = $1, finished_at = $2, rows = $3, "
                "failed = $4, usd = $5, error = $6, details = CASE WHEN details IS NULL "
                "THEN $7 ELSE json_merge_patch(details, coalesce($7, '{}')) END WHERE id = $8",
                [status, now(), rows, failed, usd, error, _json(details), run],
            )

    def note_split(self, run: int, held_back: str) -> None:
        """Note which rows of what an ANALYZE holds back, before anything is measured on others."""
        with self._store.transaction() as cursor:
            cursor.execute(
                "UPDATE octans_internal.runs SET details = ? WHERE id = ?",
                [_json({"held_back": held_back}), run],
            )

    def interrupt_runs(self) -> None:
        """Runs that never ended died with their process: nobody else has the file open."""
        with self._store.cursor() as cursor:
            left = cursor.execute(
                "SELECT 1 FROM octans_internal.runs WHERE status = 'running' LIMIT 1"
            ).fetchone()
        if left is not None:
            with self._store.transaction() as cursor:
                cursor.execute(
                    "UPDATE octans_internal.runs SET status = 'interrupted' "
                    "WHERE status = 'running'"
                )

    def run_text(self, run: int) -> str | None:
        """The statement of a run; None where there is none of that number: it was imported."""
        with self._store.cursor() as cursor:
            row = cursor.execute(
                "SELECT text FROM octans_internal.runs WHERE id = ?", [run]
            ).fetchone()
        return None if row is None else str(row[0])

    def before_run(self, run: int) -> tuple[datetime, frozenset[str]]:
        """When a run started (UTC, without a zone), and which variants (full names, lower case)
        were defined then as they are now."""
        with self._store.cursor() as cursor:
            ((at,),) = cursor.execute(
                "SELECT started_at FROM octans_internal.runs WHERE id = ?", [run]
            ).fetchall()
            rows = cursor.execute(
                "SELECT key FROM octans_internal.current "
                "WHERE kind = 'variant' AND defined_at <= ?",
                [at],
            ).fetchall()
        return cast(datetime, at), frozenset(key for (key,) in rows)

    def same_split(self, run: int) -> frozenset[int]:
        """The ANALYZEs that held back what this one did, and the DERIVEs on rows these searched."""
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                "WITH same AS (SELECT id FROM octans_internal.runs WHERE id = $1 "
                "OR details ->> '$.held_back' = (SELECT details ->> '$.held_back' "
                "FROM octans_internal.runs WHERE id = $1)) "
                "SELECT id FROM same UNION SELECT id FROM octans_internal.runs "
                "WHERE kind = 'derive' "
                "AND CAST(details ->> '$.sample' AS BIGINT) IN (SELECT id FROM same)",
                [run],
            ).fetchall()
        return frozenset(number for (number,) in rows)

    def left_out(self, run: int) -> tuple[str, ...]:
        """What an ANALYZE said that it left out."""
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                "SELECT details FROM octans_internal.runs WHERE id = ?", [run]
            ).fetchall()
        details = rows[0][0] if rows else None
        return () if details is None else tuple(json.loads(details).get("left_out", ()))

    def record_plan(
        self,
        fingerprint: str,
        query: str,
        *,
        advice: str,
        reason: str,
        estimates: Json = None,
        subjects: Sequence[str] = (),
    ) -> int:
        """Keep a plan that was chosen, with its reasons; its number.

        The plan that was chosen last for the same query and reason is not kept twice.
        """
        with self._store.cursor() as cursor:
            row = cursor.execute(
                "SELECT id, fingerprint FROM octans_internal.plans WHERE query = ? AND reason = ? "
                "ORDER BY id DESC LIMIT 1",
                [query, reason],
            ).fetchone()
        if row is not None and row[1] == fingerprint:
            return int(row[0])
        columns = "fingerprint, subjects, query, advice, estimates, reason, chosen_at"
        values = [fingerprint, list(subjects), query, advice, _json(estimates), reason, now()]
        return self._insert("plans", columns, values)

    def last_plan(self, query: str, reason: str) -> tuple[str, str] | None:
        """The plan that a query was run to its end with last, of those chosen for a reason: its
        fingerprint and the advice that gives it; None: it never was."""
        with self._store.cursor() as cursor:
            row = cursor.execute(
                "SELECT p.fingerprint, p.advice FROM octans_internal.plan_results AS r "
                "JOIN octans_internal.plans AS p ON p.id = r.plan "
                "WHERE p.query = ? AND p.reason = ? ORDER BY r.measured_at DESC LIMIT 1",
                [query, reason],
            ).fetchone()
        return None if row is None else (str(row[0]), str(row[1]))

    def record_result(self, plan: int, measured: Json, *, run: int | None = None) -> None:
        """Keep what a plan did when it ran."""
        with self._store.transaction() as cursor:
            cursor.execute(
                "INSERT INTO octans_internal.plan_results VALUES (?, ?, ?, ?)",
                [plan, run, _json(measured), now()],
            )

    def proofs(self, promise: str) -> list[Proof]:
        """The tests made under a promise, in order."""
        from ..stats.promise import Proof  # only a query AT CONFIDENCE needs it

        columns = ", ".join(f'"{name}"' for name in _PROOF)
        with self._store.cursor() as cursor:
            rows = cursor.execute(
                f"SELECT {columns}, proved_at FROM octans_internal.proofs "
                "WHERE promise = ? ORDER BY i",
                [promise],
            ).fetchall()
        return [
            Proof(**dict(zip(_PROOF, row[:-1], strict=True)), at=row[-1].replace(tzinfo=UTC))
            for row in rows
        ]

    def record_proof(self, proof: Proof) -> None:
        """Keep a test, before its answer is used: a test forgotten would be a second chance."""
        at = proof.at if proof.at.tzinfo is None else proof.at.astimezone(UTC).replace(tzinfo=None)
        with self._store.transaction() as cursor:
            columns = ", ".join(f'"{name}"' for name in _PROOF)
            cursor.execute(
                f"INSERT INTO octans_internal.proofs ({columns}, proved_at) "
                f"VALUES ({', '.join('?' * len(_PROOF))}, ?)",
                [*(getattr(proof, name) for name in _PROOF), at],
            )

    def _insert(self, table: str, columns: str, values: Sequence[object]) -> int:
        with self._store.transaction() as cursor:
            ((number,),) = cursor.execute(
                f"INSERT INTO octans_internal.{table} ({columns}) "
                f"VALUES ({', '.join('?' * len(values))}) RETURNING id",
                list(values),
            ).fetchall()
        return int(number)


def _json(value: Json) -> str | None:
    return None if value is None else json.dumps(value)
