"""What a cold EXPLAIN costs beside importing what it cannot do without.

`cold_explain_ratio`: wall time of `octans -c "EXPLAIN …"` on the demo's catalog over that of
`python -c "import duckdb, sqlglot, lark"`, each in a process of its own. The two alternate, the
figure is the ratio of the medians; `_low` and `_high` are the 10 % and 90 % quantiles of the
ratios of neighbours. A seed is a group of ten pairs.

The demo's catalog is made first, by the demo's own script (its networks trained briefly: EXPLAIN
never loads them). `--data DIR` keeps it there, and uses it if it is there already. Bytecode is
cached for both sides, as in any installed package, whatever PYTHONDONTWRITEBYTECODE says here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from statistics import median, quantiles

import octans
from octans.examples.cheques import data, demo, models

from .contract import Goal, Options, main

GOALS = (Goal("cold_explain_ratio", 2.0, "lower"),)
PAIRS = 10
ANALYZE_STRIPS, STRIPS = 400, 1000
QUERY = (
    "EXPLAIN SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet') "
    "WITH SLO (accuracy >= 0.5) MINIMIZE cost"
)
PEERS = "import duckdb, sqlglot, lark"
CATALOG = "startup.duckdb"


def prepare(place: Path) -> None:
    """The demo's strips, artefacts and catalog in `place`, unless they are there."""
    if (place / CATALOG).exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    data.write(place, analyze=ANALYZE_STRIPS, measuring=STRIPS)
    models.train(place, quick=True)
    unfinished = place / f"unfinished-{CATALOG}"
    unfinished.unlink(missing_ok=True)
    with chdir(place), octans.connect(unfinished, base_dir=place) as session:
        for statement in declarations(demo.script()):
            session.sql(statement)
    unfinished.rename(place / CATALOG)


def declarations(script: str) -> list[str]:
    """The script's statements that declare and measure, without those that ask."""
    return [
        statement
        for _, statements in demo.chapters(script)
        for statement in statements
        if statement.startswith(("CREATE", "ANALYZE", "SET"))
    ]


def seconds(command: list[str], place: Path, bytecode: Path) -> float:
    """Wall time of a process that has to succeed."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    return taken


def measure(place: Path, bytecode: Path, pairs: int) -> dict[str, float]:
    """Alternate the two; the first run of each writes bytecode and is not counted."""
    octans_program = Path(sys.executable).with_name("octans")
    ours = [str(octans_program), "--catalog", CATALOG, "-c", QUERY]
    peers = [sys.executable, "-c", PEERS]
    taken: list[tuple[float, float]] = []
    for _ in range(pairs + 1):
        taken.append((seconds(ours, place, bytecode), seconds(peers, place, bytecode)))
    taken = taken[1:]
    explain, imports = (median(side) for side in zip(*taken, strict=True))
    tenths = quantiles((a / b for a, b in taken), n=10, method="inclusive")
    return {
        "cold_explain_ratio": explain / imports,
        "cold_explain_ratio_low": tenths[0],
        "cold_explain_ratio_high": tenths[-1],
        "explain_seconds": explain,
        "import_seconds": imports,
        "pairs": float(pairs),
    }


def run(options: Options) -> dict[str, float]:
    """Prepare and measure."""
    with tempfile.TemporaryDirectory(prefix="octans-startup-") as scratch:
        place = options.data or Path(scratch) / "cheques"
        prepare(place.resolve())
        return measure(place.resolve(), Path(scratch) / "bytecode", PAIRS * options.seeds)


if __name__ == "__main__":
    sys.exit(main("startup", __doc__, run, GOALS, seeds=4, quick_seeds=1))
