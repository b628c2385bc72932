"""A chain of simulated models: who answers which row rightly is drawn once, time is virtual.

SYNTHETIC: outcomes follow from the seed. A row has a difficulty of its own at every step, part of
it shared by all steps; a variant is right where a Gaussian copula of that difficulty (0.7) and its
own luck (0.3) falls below its published (or drawn) accuracy. Right answers are equal, no two wrong
ones are (prefixes share the least they can). A wrong answer upstream makes every answer downstream
wrong. A call of `b` elements takes `fixed + b x seconds` of its variant on its device, times
lognormal noise of 3 %.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import duckdb
import numpy as np
import octans
import pyarrow as pa
from octans.analyzing import profile_request
from octans.drawing import label_column
from octans.dsl.binding.analyze import subject_plan
from octans.ir.logical import LogicalNode
from octans.ir.physical import Choice, SqlScan, SqlStep, Stage
from octans.ir.types import ROW, quote
from octans.planner.lower import lower
from octans.session import Session
from octans.stats.prefixes import Block, Found, Identity
from octans.stats.request import Request
from octans.stats.runner import StageRun

DIFFICULTY = 0.7
SHARED = 0.5
"""Share of a step's difficulty that all steps have in common."""
NOISE = 0.03
FIXED_ELEMENTS = 2.0
"""A call takes as long as so many elements before its first one."""
STRATA = 8
TRUTH_ROWS = 20_000
"""Rows behind the sample's that the true accuracies are of."""

Plan = tuple[tuple[str, str], ...]
"""(variant, device) of every step in order."""


@dataclass(frozen=True)
class Simulated:
    """A variant: its accuracy, and seconds of an element on each device it was measured on."""

    name: str
    accuracy: float
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Workload:
    """A pipeline of steps, each with its variants, and USD per hour of every device."""

    name: str
    steps: tuple[tuple[str, tuple[Simulated, ...]], ...]
    prices: Mapping[str, float]


class Instance:
    """A workload with its outcomes drawn: `rows` of a sample, more behind them for the truth."""

    def __init__(self, workload: Workload, rows: int, seed: int) -> None:
        from scipy.special import ndtri

        self.workload, self.rows = workload, rows
        rng = np.random.default_rng([seed, rows])
        total = rows + TRUTH_ROWS
        common = rng.normal(size=total)
        self.right: dict[str, np.ndarray] = {}
        self.per: dict[str, Mapping[str, float]] = {}
        for model, variants in workload.steps:
            hard = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * rng.normal(size=total)
            for variant in variants:
                luck = rng.normal(size=total)
                level = np.sqrt(DIFFICULTY) * hard + np.sqrt(1 - DIFFICULTY) * luck
                name = f"{model}.{variant.name}"
                self.right[name] = level < ndtri(variant.accuracy)
                self.per[name] = variant.seconds
        seen = common[:rows] + rng.normal(size=rows)
        self.strata = np.searchsorted(
            np.quantile(seen, np.arange(1, STRATA) / STRATA), seen
        ).tolist()
        """By a feature that tells half of what makes a row hard."""
        self.place = {name: place for place, name in enumerate(self.right)}
        self.noise_seed = seed
        self._true: dict[tuple[str, ...], float] = {}

    def price(self, choice: Choice, run: StageRun) -> float:
        """USD of one run of a stage."""
        return sum(run.batch_seconds) * self.workload.prices[choice.device] / 3600

    def plans(self) -> Iterator[Plan]:
        """Every variant and device of every step."""
        yield from product(
            *(
                [(f"{model}.{v.name}", device) for v in variants for device in v.seconds]
                for model, variants in self.workload.steps
            )
        )

    def accuracy(self, variants: Sequence[str], rows: slice) -> float:
        """Share of rows every step gets right."""
        return float(np.logical_and.reduce([self.right[v][rows] for v in variants]).mean())

    def true_accuracy(self, plan: Plan) -> float:
        """On the rows behind the sample."""
        variants = tuple(variant for variant, _ in plan)
        if variants not in self._true:
            self._true[variants] = self.accuracy(variants, slice(self.rows, None))
        return self._true[variants]

    def cost(self, plan: Plan) -> float:
        """USD of a row, in large batches."""
        return sum(
            self.per[variant][device] * self.workload.prices[device] / 3600
            for variant, device in plan
        )


class SimulatedRunner:
    """`Runner` of an instance; `seconds` is the virtual clock."""

    def __init__(self, instance: Instance, rows: int) -> None:
        self.instance, self.rows = instance, rows
        self.seconds = 0.0
        self._noise = np.random.default_rng([instance.noise_seed, 99])
        self._loaded: set[tuple[str, str]] = set()
        self._connection = duckdb.connect()

    def clock(self) -> float:
        """Virtual seconds."""
        return self.seconds

    def scan(self, scan: SqlScan) -> pa.Table:
        """See `Runner`."""
        (field,) = scan.schema
        items = pa.array(range(1, self.rows + 1), pa.int32())
        return pa.table({field.name: items, ROW: pa.array(range(self.rows), pa.int64())})

    def run_step(self, step: SqlStep, table: pa.Table) -> pa.Table:
        """See `Runner`."""
        columns = ", ".join(f"{c.expr.text} AS {quote(c.name)}" for c in step.columns)
        self._connection.register("given", table)
        found = self._connection.sql(f"SELECT {columns}, {ROW} FROM given ORDER BY {ROW}")
        return found.to_arrow_table()

    def run_stage(self, stage: Stage, table: pa.Table) -> StageRun:
        """See `Runner`."""
        choice = stage.choice
        given = table.column(stage.args[0]).to_numpy()
        erred, item = np.divmod(np.abs(given) - 1, self.rows)
        right = self.instance.right[choice.variant][item] & (given > 0)
        erred = erred * len(self.instance.place) + self.instance.place[choice.variant] + 1
        answers = np.where(right, given, -(item + 1 + self.rows * erred)).astype(np.int32)
        per = self.instance.per[choice.variant][choice.device]
        whole, rest = divmod(len(given), choice.batch)
        sizes = [choice.batch] * whole + ([rest] if rest else [])
        noise = np.exp(NOISE * self._noise.normal(size=len(sizes)))
        seconds = (per * (FIXED_ELEMENTS + np.array(sizes)) * noise).tolist()
        self.seconds += sum(seconds)
        made = table.append_column(stage.outputs[0].name, pa.array(answers))
        first = (choice.variant, choice.device) not in self._loaded
        self._loaded.add((choice.variant, choice.device))
        return StageRun(made, seconds, sizes, len(given), load_seconds=1.0 if first else None)

    def now(self) -> datetime:
        """See `Runner`."""
        return datetime(2026, 1, 1, tzinfo=UTC)


def identify(stage: Stage, table: pa.Table) -> Identity:
    """What a variant answers follows from what reaches it."""
    given = table.column(stage.args[0]).to_numpy()
    return Identity(stage.choice.variant, [value.tobytes() for value in given])


class MemoryStore:
    """`Store` without bound that ends with the run: nothing is known from before."""

    def __init__(self) -> None:
        self._known: dict[str, dict[bytes, Any]] = {}
        self._seconds: dict[str, float] = {}

    def find(self, identity: Identity, hidden: Collection[int]) -> Found | None:
        """See `Store`."""
        known = self._known.get(identity.call, {})
        places = [at for at, row in enumerate(identity.rows) if row in known]
        if not places:
            return None
        values = pa.array([known[identity.rows[at]] for at in places], pa.int32())
        return Found(np.array(places), (values,), len(places) * self._seconds[identity.call])

    def keep(self, block: Block) -> tuple[int, ...]:
        """See `Store`."""
        call, rows = block.identity.call, block.identity.rows
        (output,) = block.outputs
        self._known.setdefault(call, {}).update(zip(rows, output.to_pylist(), strict=True))
        self._seconds[call] = block.seconds / len(rows)
        return (0,)

    def load(self, blocks: Sequence[int]) -> None:
        """See `Store`; nothing is replayed."""

    def note(self, key: str, body: str) -> None:
        """See `Store`; nothing is replayed."""

    def flush(self) -> None:
        """See `Store`; nothing is written."""

    def problems(self) -> Sequence[str]:
        """See `Store`."""
        return ()


@dataclass(frozen=True)
class Declared:
    """A workload in a catalog of its own: its session, the subject's body."""

    session: Session
    body: LogicalNode
    instance: Instance

    def request(self, rows: int) -> Request:
        """What to profile, on the sample's first rows."""
        truth = pa.array(range(1, rows + 1), pa.int32())
        columns: dict[str, pa.Array] = {"item": truth, "__cluster": pa.nulls(rows)}
        columns[label_column("work", "item")] = truth
        for model, _ in self.instance.workload.steps:
            columns[label_column(f"work.{model}_step", "item")] = truth
        made = profile_request(self.session, "work", self.body, pa.table(columns), None)
        per = self.instance.per
        choices = {
            key: [c for c in options if c.device in per[c.variant]]
            for key, options in made.choices.items()
        }
        base = {
            key: next(c for c in options if c.variant == _base_of(made, key))
            for key, options in choices.items()
        }
        models = {model.name: model for model in self.session.catalog.models()}
        return replace(
            made,
            plan=lower(self.body, base, models, "null"),
            choices=choices,
            steps={key: replace(step, base=base[key]) for key, step in made.steps.items()},
            strata=self.instance.strata[:rows],
        )


def _base_of(made: Request, key: str) -> str:
    """The variant of a step's BASE choice."""
    base = made.steps[key].base
    assert base is not None
    return base.variant


@contextmanager
def declared(instance: Instance) -> Iterator[Declared]:
    """The workload's models, variants, devices and pipeline, declared."""
    workload = instance.workload
    with octans.connect() as session:
        for device, price in workload.prices.items():
            session.sql(f"CREATE DEVICE {device} (KIND cpu, COUNT 8, PRICE {price} USD PER HOUR)")
        lines, given = [], "item"
        for model, variants in workload.steps:
            session.sql(
                f"CREATE MODEL {model} (item INTEGER) RETURNS (item INTEGER) "
                "QUALITY exact_match(item)"
            )
            best = max(variants, key=lambda v: v.accuracy)
            for variant in sorted(variants, key=lambda v: v is not best):
                base = " BASE" if variant is best else ""
                session.sql(
                    f"CREATE VARIANT {model}.{variant.name} USING python('none:none'){base}"
                )
            lines.append(f"{model}_step := {model}({given});")
            given = f"{model}_step"
        session.sql(
            "CREATE PIPELINE work (item INTEGER) RETURNS (item INTEGER) "
            f"QUALITY exact_match(item) AS BEGIN {' '.join(lines)} RETURN {given}; END;"
        )
        session.sql("CREATE TABLE sample (item INTEGER)")
        pipeline = session.catalog.pipeline("work")
        assert pipeline is not None
        yield Declared(session, subject_plan(pipeline, session.catalog, "sample", ()), instance)
