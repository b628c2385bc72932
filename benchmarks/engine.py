"""The engine against a hand-written batched loop, and its memory on large inputs.

`rows_ratio`: rows/s of a planned query over those of a hand-written loop with the same variant and
batch size, where the model takes most of the time; `rows_ratio_light`: where it takes less than
half. `peak_ratio`: peak resident memory of a light pipeline at 10^7 rows over that at 10^5, each
in a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import pyarrow as pa
from octans.executor.backends.base import as_matrix
from octans.executor.engine import run as run_plan
from octans.executor.environment import Environment
from octans.ir.models import Backend, Device, Model, Variant
from octans.ir.physical import Choice, PhysicalPlan, SqlScan, Stage
from octans.ir.types import Field

from .contract import Goal, Options, main

GOALS = (
    Goal("rows_ratio", 0.90, "higher"),
    Goal("rows_ratio_light", 0.70, "higher"),
    Goal("peak_ratio", 1.2, "lower"),
)
HEAVY_BATCH = 256
LIGHT_BATCH = 4096

Function = Callable[[pa.RecordBatch], dict[str, np.ndarray]]


def classify(hidden: int = 1024, seed: int = 0) -> Function:
    """A two-layer network on 64 pixels with random weights: the heavy model."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(64, hidden)).astype(np.float32)
    second = rng.normal(size=(hidden, 10)).astype(np.float32)

    def call(batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        pixels = as_matrix(batch.column("glyph"))
        scores = np.tanh(pixels @ first) @ second
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        best = shares.argmax(axis=1)
        confidence = shares.max(axis=1) / shares.sum(axis=1)
        return {"digit": best.astype(np.int32), "confidence": confidence.astype(np.float64)}

    return call


def score() -> Function:
    """A logistic curve of one number: the light model."""

    def call(batch: pa.RecordBatch) -> dict[str, np.ndarray]:
        return {"p": 1.0 / (1.0 + np.exp(-batch.column("x").to_numpy()))}

    return call


MODELS = {
    "classify": Model(
        "classify",
        (Field("glyph", "FLOAT[64]"),),
        (Field("digit", "INTEGER"), Field("confidence", "DOUBLE")),
    ),
    "score": Model("score", (Field("x", "DOUBLE"),), (Field("p", "DOUBLE"),)),
}
VARIANTS = {
    f"{name}.v": Variant(name, "v", Backend("python", f"benchmarks.engine:{name}"))
    for name in MODELS
}
DEVICES = {"cpu": Device("cpu", "cpu", 2, 1)}


def environment(connection: duckdb.DuckDBPyConnection) -> Environment:
    return Environment(connection.cursor, MODELS, VARIANTS, DEVICES)


def plan(model: str, sql: str, kept: Field, argument: Field, batch: int) -> PhysicalPlan:
    """`SELECT kept, argument, model(argument) FROM …`."""
    declared = MODELS[model]
    stage = Stage(
        SqlScan(sql, (kept, argument)),
        model,
        model,
        model,
        (argument.name,),
        declared.outputs,
        tuple(output.name for output in declared.outputs),
        Choice(f"{model}.v", (), batch),
    )
    return PhysicalPlan(stage)


def by_hand(
    connection: duckdb.DuckDBPyConnection, sql: str, function: Function, argument: str, batch: int
) -> tuple[pa.Table, float]:
    """The loop one would write: read, slice, call, collect; also the seconds inside the model."""
    tables: list[pa.Table] = []
    inside = 0.0
    for chunk in connection.sql(sql).to_arrow_reader(16 * batch):
        answers: list[dict[str, np.ndarray]] = []
        arguments = chunk.select([argument])
        for start in range(0, chunk.num_rows, batch):
            began = time.perf_counter()
            answers.append(function(arguments.slice(start, batch)))
            inside += time.perf_counter() - began
        columns = {name: chunk.column(name) for name in chunk.schema.names}
        for name in answers[0]:
            columns[name] = pa.array(np.concatenate([answer[name] for answer in answers]))
        tables.append(pa.table(columns))
    return pa.concat_tables(tables), inside


def compare(
    connection: duckdb.DuckDBPyConnection,
    model: str,
    sql: str,
    fields: tuple[Field, Field],
    batch: int,
    repeats: int,
) -> tuple[float, float]:
    """Median of hand seconds ÷ our seconds over interleaved repeats, and the model's share."""
    from threadpoolctl import threadpool_limits

    kept, argument = fields
    ratios, shares = [], []
    for repeat in range(repeats + 1):
        with threadpool_limits(limits=1):
            function = globals()[model]()
            began = time.perf_counter()
            theirs, inside = by_hand(connection, sql, function, argument.name, batch)
            hand = time.perf_counter() - began
        began = time.perf_counter()
        ours = run_plan(plan(model, sql, kept, argument, batch), environment(connection)).read_all()
        engine = time.perf_counter() - began
        if ours.num_rows != theirs.num_rows or not ours.column(2).equals(theirs.column(2)):
            raise AssertionError("the engine and the loop disagree")
        if repeat:  # the first round warms caches on both sides
            ratios.append(hand / engine)
            shares.append(inside / hand)
            print(f"  {model}: hand {hand:.3f} s, engine {engine:.3f} s, model {inside:.3f} s")
    return median(ratios), median(shares)


def peak_bytes(rows: int, directory: Path) -> int:
    """Peak resident bytes of a light pipeline over so many rows, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.engine", "--peak-of", str(rows), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def peak_child(rows: int, directory: Path) -> None:
    """Run the light pipeline over a Parquet file, keep nothing, print the peak."""
    connection = duckdb.connect()
    sql = f"SELECT id, x FROM read_parquet('{directory}/light_{rows}.parquet')"
    fields = (Field("id", "BIGINT"), Field("x", "DOUBLE"))
    light = plan("score", sql, *fields, LIGHT_BATCH)
    seen = sum(batch.num_rows for batch in run_plan(light, environment(connection)).batches())
    if seen != rows:
        raise AssertionError(f"{seen} rows of {rows}")
    print(own_peak())


def own_peak() -> int:
    """Peak resident bytes of this process; `ru_maxrss` would count the parent's before `exec`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_light(connection: duckdb.DuckDBPyConnection, rows: int, seed: int, path: Path) -> None:
    connection.execute(f"SELECT setseed({(seed % 1000) / 1000})")
    connection.execute(
        f"COPY (SELECT range AS id, random() * 8 - 4 AS x FROM range({rows})) TO '{path}'"
    )


def write_heavy(connection: duckdb.DuckDBPyConnection, rows: int, seed: int, path: Path) -> None:
    pixels = np.random.default_rng(seed).random((rows, 64), dtype=np.float32)
    glyphs = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), 64)
    table = pa.table({"id": pa.array(np.arange(rows)), "glyph": glyphs})
    connection.from_arrow(table).write_parquet(str(path))


def run(options: Options) -> dict[str, float | None]:
    """All figures: medians over seeds."""
    repeats = 5 if options.quick else 9
    heavy_rows = 100_000 if options.quick else 200_000
    light_rows = 4_000_000 if options.quick else 8_000_000
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for seed in options.seed_range:
            connection = duckdb.connect()
            heavy, light = directory / "heavy.parquet", directory / "light.parquet"
            write_heavy(connection, heavy_rows, seed, heavy)
            write_light(connection, light_rows, seed, light)
            ratio, share = compare(
                connection,
                "classify",
                f"SELECT id, glyph::FLOAT[64] AS glyph FROM read_parquet('{heavy}')",
                (Field("id", "BIGINT"), Field("glyph", "FLOAT[64]")),
                HEAVY_BATCH,
                repeats,
            )
            figures.setdefault("rows_ratio", []).append(ratio)
            figures.setdefault("model_share", []).append(share)
            ratio, share = compare(
                connection,
                "score",
                f"SELECT id, x FROM read_parquet('{light}')",
                (Field("id", "BIGINT"), Field("x", "DOUBLE")),
                LIGHT_BATCH,
                repeats,
            )
            figures.setdefault("rows_ratio_light", []).append(ratio)
            figures.setdefault("model_share_light", []).append(share)
            peaks = []
            for rows in (10**5, 10**7):
                write_light(connection, rows, seed, directory / f"light_{rows}.parquet")
                peaks.append(peak_bytes(rows, directory))
            figures.setdefault("peak_ratio", []).append(peaks[1] / peaks[0])
            figures.setdefault("peak_bytes_1e5", []).append(peaks[0])
            figures.setdefault("peak_bytes_1e7", []).append(peaks[1])
            connection.close()
    return {name: median(values) for name, values in figures.items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak-of"]:
        peak_child(int(sys.argv[2]), Path(sys.argv[3]))
        sys.exit(0)
    sys.exit(main("engine", __doc__, run, GOALS, seeds=3, quick_seeds=1))
