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
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import octans
import pyarrow as pa
from octans.executor.backends.base import as_matrix
from octans.session import Session

from .contract import Goal, Options, main

GOALS = (
    Goal("rows_ratio", 0.90, "higher"),
    Goal("rows_ratio_light", 0.70, "higher"),
    Goal("peak_ratio", 1.2, "lower"),
)
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


DECLARED = """
CREATE MODEL classify (glyph FLOAT[64]) RETURNS (digit INTEGER, confidence DOUBLE);
CREATE VARIANT classify.net USING python('benchmarks.engine:classify') BASE;
CREATE MODEL score (x DOUBLE) RETURNS (p DOUBLE);
CREATE VARIANT score.curve USING python('benchmarks.engine:score') BASE;
CREATE DEVICE cpu (KIND cpu, COUNT 2, THREADS 1, PRICE 0.10 USD PER HOUR);
"""


@dataclass(frozen=True)
class Case:
    """A query, and the same thing for a hand to do: what to read, what to keep of it."""

    model: str
    query: str
    source: str
    argument: str
    function: Callable[[], Function]


def heavy(path: Path) -> Case:
    source = f"SELECT id, glyph::FLOAT[64] AS glyph FROM read_parquet('{path}')"
    query = f"""SELECT id, classify(glyph).digit AS digit, classify(glyph).confidence AS confidence
        FROM ({source})"""
    return Case("classify", query, source, "glyph", classify)


def light(path: Path) -> Case:
    source = f"SELECT id, x FROM read_parquet('{path}')"
    return Case("score", f"SELECT id, score(x) AS p FROM ({source})", source, "x", score)


def measured_session(case: Case) -> Session:
    """A session that has measured the model: the planner then chooses the batch size."""
    session = octans.connect()
    session.sql(DECLARED)
    session.sql(f"ANALYZE MODEL {case.model} USING ({case.source}) SAMPLE 10000")
    return session


def planned_batch(session: Session, query: str) -> int:
    """The batch size that the planner chose."""
    (choice,) = {node.choice for node in session.explain(query).nodes if node.choice is not None}
    return choice.batch


def by_hand(
    connection: duckdb.DuckDBPyConnection, case: Case, function: Function, batch: int
) -> tuple[pa.Table, float]:
    """The loop one would write: read, slice, call, collect; also the seconds inside the model."""
    tables: list[pa.Table] = []
    inside = 0.0
    for chunk in connection.sql(case.source).to_arrow_reader(max(16384, batch)):
        answers: list[dict[str, np.ndarray]] = []
        arguments = chunk.select([case.argument])
        for start in range(0, chunk.num_rows, batch):
            began = time.perf_counter()
            answers.append(function(arguments.slice(start, batch)))
            inside += time.perf_counter() - began
        columns = {"id": chunk.column("id")}
        for name in answers[0]:
            columns[name] = pa.array(np.concatenate([answer[name] for answer in answers]))
        tables.append(pa.table(columns))
    return pa.concat_tables(tables), inside


def compare(case: Case, repeats: int) -> tuple[list[float], list[float], int]:
    """Hand seconds ÷ our seconds and the model's share, per interleaved repeat; the batch size."""
    from threadpoolctl import threadpool_limits

    session = measured_session(case)
    batch = planned_batch(session, case.query)
    connection = duckdb.connect()
    ratios, shares = [], []
    for repeat in range(repeats + 1):
        with threadpool_limits(limits=1):
            function = case.function()
            began = time.perf_counter()
            theirs, inside = by_hand(connection, case, function, batch)
            hand = time.perf_counter() - began
        began = time.perf_counter()
        ours = session.sql(case.query).arrow()
        engine = time.perf_counter() - began
        if ours.num_rows != theirs.num_rows or not ours.column(1).equals(theirs.column(1)):
            raise AssertionError("the engine and the loop disagree")
        if repeat:  # the first round warms caches on both sides
            ratios.append(hand / engine)
            shares.append(inside / hand)
    session.close()
    connection.close()
    return ratios, shares, batch


def peak_bytes(rows: int, directory: Path) -> int:
    """Peak resident bytes of a light pipeline over so many rows, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.engine", "--peak-of", str(rows), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def peak_child(rows: int, directory: Path) -> None:
    """Run the light pipeline over a Parquet file, keep nothing, print the peak."""
    case = light(directory / f"light_{rows}.parquet")
    session = measured_session(case)
    seen = sum(batch.num_rows for batch in session.sql(case.query).batches())
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
    repeats = 5 if options.quick else 7
    heavy_rows = 200_000 if options.quick else 400_000
    light_rows = 12_000_000 if options.quick else 16_000_000
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        connection = duckdb.connect()
        for seed in options.seed_range:
            path = directory / "heavy.parquet"
            write_heavy(connection, heavy_rows, seed, path)
            _note(figures, "", *compare(heavy(path), repeats))
            path = directory / "light.parquet"
            write_light(connection, light_rows, seed, path)
            _note(figures, "_light", *compare(light(path), repeats))
            peaks = []
            for rows in (10**5, 10**7):
                write_light(connection, rows, seed, directory / f"light_{rows}.parquet")
                peaks.append(peak_bytes(rows, directory))
            figures.setdefault("peak_ratio", []).append(peaks[1] / peaks[0])
            figures.setdefault("peak_bytes_1e5", []).append(peaks[0])
            figures.setdefault("peak_bytes_1e7", []).append(peaks[1])
        connection.close()
    spread = {
        f"{name}_{end}": function(figures[name])
        for name in ("rows_ratio", "rows_ratio_light")
        for end, function in (("min", min), ("max", max))
    }
    return {name: median(values) for name, values in figures.items()} | spread


def _note(
    figures: dict[str, list[float]],
    kind: str,
    ratios: list[float],
    shares: list[float],
    batch: int,
) -> None:
    figures.setdefault(f"rows_ratio{kind}", []).extend(ratios)
    figures.setdefault(f"model_share{kind}", []).extend(shares)
    figures.setdefault(f"batch{kind}", []).append(batch)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak-of"]:
        peak_child(int(sys.argv[2]), Path(sys.argv[3]))
        sys.exit(0)
    sys.exit(main("engine", __doc__, run, GOALS, seeds=3, quick_seeds=1))
