"""Toy models, devices and plans that the executor's tests run."""

import threading

import duckdb
from octans.executor.engine import run
from octans.executor.environment import Environment
from octans.ir.models import Backend, Device, Model, Variant
from octans.ir.physical import Choice, PhysicalPlan, SqlScan, Stage
from octans.ir.types import Field, SqlExpr, column

MODELS = """
import threading, time
import pyarrow as pa, numpy as np
import pyarrow.compute as pc

lock = threading.Lock()
running = 0
most = 0
calls = []

def double(by=2):
    def call(batch):
        calls.append(batch.num_rows)
        return pc.multiply(batch.column("x"), by)
    return call

def picky(bad=(), together=None):
    bad = {int(b) for b in bad.split(",") if b} if isinstance(bad, str) else set(bad)
    def call(batch):
        xs = batch.column("x").to_pylist()
        if together is not None and len(xs) > together:
            raise MemoryError("too many at once")
        for x in xs:
            if x in bad:
                raise ValueError(f"bad {x}")
        return {"y": [None if x is None else 2 * x for x in xs]}
    return call

def quits(bad):
    def call(batch):
        if bad in batch.column("x").to_pylist():
            raise SystemExit(3)
        return batch.column("x")
    return call

def pair():
    def call(batch):
        a, b = batch.column("a"), batch.column("b")
        pairs = zip(a.to_pylist(), b.to_pylist())
        return {"total": pc.add(a, b), "text": [f"{x}/{y}" for x, y in pairs]}
    return call

def slow(seconds=0.05):
    def call(batch):
        global running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(seconds)
        with lock:
            running -= 1
        return batch.column("x")
    return call

def short():
    return lambda batch: batch.column("x").slice(1)

def nameless():
    return lambda batch: {"z": batch.column("x")}

def words():
    return lambda batch: ["a"] * batch.num_rows
"""


class World:
    """Toy models, devices and plans."""

    def __init__(self, base):
        (base / "models.py").write_text(MODELS)
        self.connection = duckdb.connect()
        self.base = base
        one = Model("m", (Field("x", "BIGINT"),), (Field("y", "BIGINT"),))
        two = Model(
            "p",
            (Field("a", "BIGINT"), Field("b", "BIGINT")),
            (Field("total", "BIGINT"), Field("text", "VARCHAR")),
        )
        self.models = {"m": one, "p": two}
        self.variants = {}
        for name in ("double", "picky", "slow", "short", "nameless", "words", "quits"):
            self.variants[f"m.{name}"] = Variant("m", name, Backend("python", f"models.py:{name}"))
        self.variants["p.pair"] = Variant("p", "pair", Backend("python", "models.py:pair"))
        self.devices = {"cpu": Device("cpu", "cpu", 2, 1, usd_per_hour=3600.0)}
        self.cancel = threading.Event()

    def env(self, **changes):
        return Environment(
            self.connection.cursor,
            self.models,
            self.variants,
            self.devices,
            cancel=self.cancel,
            base_dir=self.base,
            **changes,
        )

    def run(self, root, on_error="fail"):
        return run(PhysicalPlan(root, on_error), self.env())


def numbers(n, sql=None):
    return SqlScan(sql or f"SELECT range AS x FROM range({n})", (Field("x", "BIGINT"),))


def stage(
    source, variant="m.double", *, name="y", arg="x", batch=8, when=None, each=False, **knobs
):
    choice = Choice(variant, tuple(sorted(knobs.items())), batch)
    return Stage(
        source,
        name,
        "m",
        name,
        (arg,),
        (Field(name, "BIGINT[]" if each else "BIGINT"),),
        ("y",),
        choice,
        lists=(True,) if each else None,
        when=when,
    )


def expr(text, *columns):
    return SqlExpr(text, tuple(sorted(columns)))


def first_columns():
    return (column(Field("x", "BIGINT")), column(Field("y", "BIGINT")))
