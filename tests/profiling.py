"""A pipeline whose truth is known, and a runner that computes it without models or clocks.

Rows hold a list of digits with a check digit. `read` reads every digit and misreads some, which
ones follow from the variant and the row; `again` rereads rows whose check digit does not fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
from octans.ir.models import Metric
from octans.ir.physical import Choice, PhysicalPlan, SqlScan, SqlStep, Stage
from octans.ir.types import ROW, Field, NamedExpr, SqlExpr, column, quote
from octans.stats.profile import ProfiledStep, Request
from octans.stats.runner import StageRun

ERRORS = {"read.poor": 0.2, "read.fair": 0.08, "read.base": 0.0, "again.good": 0.02}
ERRORS |= {"again.weak": 0.15}
SECONDS = {"read.poor": 1e-4, "read.fair": 2e-4, "read.base": 4e-4}
FIXED_SECONDS = 1e-3
"""A batch of b elements takes FIXED_SECONDS + b × SECONDS of its variant (2e-4 where left out)."""


def rows(count: int, seed: str = "") -> list[list[int]]:
    """Lists of 3–5 digits that sum to a multiple of ten."""
    found = []
    for row in range(count):
        body = [_draw(f"digit{seed}", row, place, 10) for place in range(2 + row % 3)]
        found.append([*body, -sum(body) % 10])
    return found


def reading(variant: str, digits: list[int]) -> list[int]:
    """What a variant reads: sometimes the next digit; which, follows from all of the row."""
    row = "".join(map(str, digits))
    return [
        (d + 1) % 10 if _draw(variant + row, place, d, 10_000) < ERRORS[variant] * 10_000 else d
        for place, d in enumerate(digits)
    ]


def fits(digits: list[int]) -> bool:
    """Does the check digit fit?"""
    return sum(digits) % 10 == 0


def result(first: str, second: str, digits: list[int]) -> int:
    """What the pipeline returns."""
    read = reading(first, digits)
    return number(read if fits(read) else reading(second, digits))


def number(digits: list[int]) -> int:
    """The digits as one number."""
    return int("".join(map(str, digits)))


def _draw(*parts: object) -> int:
    *key, bound = parts
    text = ":".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % int(str(bound))


def expr(name: str, text: str, columns: tuple[str, ...], kind: str) -> NamedExpr:
    return NamedExpr(name, SqlExpr(text, columns), kind)


def plan(first: str = "read.base", second: str = "again.good") -> PhysicalPlan:
    """read(EACH digits), again(EACH digits) WHEN the check digit does not fit, RETURN it all."""
    digits = Field("digits", "INTEGER[]")
    scan = SqlScan("SELECT digits FROM source", (digits,))
    read = Stage(
        scan, "p.read", "read", "p.read", ("digits",),
        (Field("p.read.digit", "INTEGER[]"),), ("digit",), Choice(first), (True,),
    )  # fmt: skip
    check = expr("p.again.when", 'list_sum("p.read.digit") % 10 <> 0', ("p.read.digit",), "BOOLEAN")
    step = SqlStep(read, (*(column(field) for field in read.schema), check))
    again = Stage(
        step, "p.again", "again", "p.again", ("digits",),
        (Field("p.again.digit", "INTEGER[]"),), ("digit",), Choice(second), (True,),
        "p.again.when",
    )  # fmt: skip
    both = ("p.again.digit", "p.read.digit")
    joined = ", ".join(map(quote, both))
    text = f"CAST(array_to_string(COALESCE({joined}), '') AS BIGINT)"
    return PhysicalPlan(SqlStep(again, (expr("amount", text, both, "BIGINT"),)))


def request(data: list[list[int]], **changes: object) -> Request:
    """Profile the pipeline with labels for its amount and for the digits read."""
    lists = pa.chunked_array([pa.array(data, pa.list_(pa.int32()))])
    settings: dict[str, object] = {
        "subject": "p",
        "plan": plan(),
        "choices": {
            "p.read": [Choice("read.poor"), Choice("read.fair"), Choice("read.base")],
            "p.again": [Choice("again.good"), Choice("again.weak")],
        },
        "steps": {
            "p.read": ProfiledStep("p.read", Metric("exact_match", "digit"), Choice("read.base")),
            "p.again": ProfiledStep(
                "p.again", Metric("exact_match", "digit"), None, "p.read", ("p.read",)
            ),
        },
        "metric": Metric("exact_match", "amount"),
        "labels": {
            ("p", "amount"): pa.chunked_array([pa.array([number(d) for d in data])]),
            ("p.read", "digit"): lists,
            ("p.again", "digit"): lists,
        },
        "run": 7,
    }
    return Request(**(settings | changes))  # type: ignore[arg-type]


class FakeRunner:
    """Runs the pipeline's stages by `reading`; time is computed, `calls` are counted."""

    def __init__(self, data: list[list[int]]) -> None:
        self.data = data
        self.calls: list[tuple[str, int, int]] = []
        self.clock = 0.0
        self.failing: dict[str, set[tuple[int, ...]]] = {}

    def seconds(self) -> float:
        return self.clock

    def scan(self, scan: SqlScan) -> pa.Table:
        return pa.table(
            {
                "digits": pa.array(self.data, pa.list_(pa.int32())),
                ROW: pa.array(range(len(self.data)), pa.int64()),
            }
        )

    def run_step(self, step: SqlStep, table: pa.Table) -> pa.Table:
        columns = ", ".join(f"{c.expr.text} AS {quote(c.name)}" for c in step.columns)
        with duckdb.connect() as connection:
            connection.register("given", table)
            relation = connection.sql(f"SELECT {columns}, {ROW} FROM given")
            return relation.arrow().read_all()

    def run_stage(self, stage: Stage, table: pa.Table) -> StageRun:
        variant, batch = stage.choice.variant, stage.choice.batch
        inputs = table.column("digits").to_pylist()
        bad = self.failing.get(variant, set())
        failed = {row: "bad row" for row, d in enumerate(inputs) if tuple(d) in bad}
        answers = [None if r in failed else reading(variant, d) for r, d in enumerate(inputs)]
        elements = sum(map(len, inputs))
        sizes = [batch] * (elements // batch)
        sizes += [elements % batch] if elements % batch else []
        seconds = [FIXED_SECONDS + size * SECONDS.get(variant, 2e-4) for size in sizes]
        self.clock += sum(seconds)
        self.calls.append((variant, batch, table.num_rows))
        made = pa.array(answers, pa.list_(pa.int32()))
        return StageRun(
            table.append_column(stage.outputs[0].name, made), seconds, sizes, elements, failed,
            load_seconds=0.5 if len(self.calls) == 1 else None, memory_bytes=1000,
        )  # fmt: skip

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def _model(shift: int) -> Callable[[], Callable[[pa.RecordBatch], pa.RecordBatch]]:
    """A factory for the engine: every digit is misread by `shift`."""

    def factory() -> Callable[[pa.RecordBatch], pa.RecordBatch]:
        def read(batch: pa.RecordBatch) -> pa.RecordBatch:
            digits = [(d + shift) % 10 for d in batch.column(0).to_pylist()]
            return pa.RecordBatch.from_pydict({"digit": pa.array(digits, pa.int32())})

        return read

    return factory


read_base, again_good, again_weak = _model(0), _model(0), _model(3)
read_poor, read_fair = _model(1), _model(2)
