"""Starting is quick because a cold EXPLAIN, and help, load nothing they do not need."""

import json
import subprocess
import sys

import octans
import pytest

HEAVY = {"torch", "botorch", "ortools", "networkx", "sklearn", "pandas"}
NOT_NEEDED = HEAVY | {
    "gpytorch", "numpy", "onnx", "onnxruntime", "polars", "prompt_toolkit", "pyarrow", "rich",
    "scipy", "skops", "threadpoolctl",
}  # fmt: skip

MODULES_AFTER = """
import json, sys
from octans.cli import main
status = main(sys.argv[1:])
print(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]))
"""

SETUP = """
CREATE MODEL grade (x DOUBLE) RETURNS (g INTEGER) QUALITY exact_match(g);
CREATE VARIANT grade.exact USING python('toys_startup:exact') BASE;
CREATE VARIANT grade.rough USING python('toys_startup:rough');
CREATE PIPELINE graded (x DOUBLE) RETURNS (g INTEGER) QUALITY exact_match(g) AS
BEGIN
  g := grade(x);
  RETURN g;
END;
ANALYZE PIPELINE graded USING (SELECT i / 10 AS x, i // 10 AS truth FROM range(200) t(i))
  LABELS (g := truth);
"""
TOYS = """
import numpy as np


def exact():
    return lambda batch: {"g": np.floor(batch.column("x").to_numpy()).astype(np.int32)}


def rough():
    return lambda batch: {"g": np.round(batch.column("x").to_numpy()).astype(np.int32)}
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A catalog in which a pipeline has been analyzed."""
    place = tmp_path_factory.mktemp("startup")
    (place / "toys_startup.py").write_text(TOYS)
    sys.path.insert(0, str(place))
    try:
        with octans.connect(place / "catalog.duckdb") as session:
            session.sql(SETUP)
    finally:
        sys.path.remove(str(place))
    return place / "catalog.duckdb"


def modules_after(*arguments):
    """What the command line printed, its exit code and the packages it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES_AFTER, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    *printed, last = done.stdout.splitlines()
    status, loaded = json.loads(last)
    return "\n".join(printed), status, set(loaded)


@pytest.mark.parametrize("slo", ["", "WITH SLO (accuracy >= 0.9) MINIMIZE cost"])
def test_a_plain_explain_loads_nothing_heavy(catalog, slo):
    query = f"EXPLAIN SELECT graded(x) FROM range(1000) t(x) {slo}"
    printed, status, loaded = modules_after("--catalog", catalog, "-c", query)
    assert status == 0
    assert "grade.exact" in printed
    assert not loaded & NOT_NEEDED


def test_help_loads_nothing_heavy():
    printed, status, loaded = modules_after("--help")
    assert status == 0
    assert "octans demo" in printed
    assert not loaded & (NOT_NEEDED | {"duckdb", "sqlglot"})


def test_the_check_sees_what_is_loaded():
    done = subprocess.run(
        [sys.executable, "-c", "import numpy\n" + MODULES_AFTER, "-c", "SELECT 1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "numpy" in json.loads(done.stdout.splitlines()[-1])[1]


@pytest.mark.parametrize(
    ("statement", "status", "lines"),
    [("SELECT * FROM range(50000)", 0, 50001), ("SELECT nope", 1, 0)],
)
def test_a_process_that_ends_at_once_has_said_everything(statement, status, lines):
    done = subprocess.run(
        [sys.executable, "-m", "octans", "--format", "csv", "-c", statement],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stdout.splitlines())) == (status, lines)
    assert ("OC0420" in done.stderr) == (status == 1)


def test_a_process_that_ends_at_once_has_closed_its_catalog(tmp_path):
    catalog = tmp_path / "c.duckdb"
    declare = "CREATE MODEL m (x INTEGER) RETURNS (y INTEGER)"
    subprocess.run(
        [sys.executable, "-m", "octans", "--catalog", str(catalog), "-c", declare], check=True
    )
    assert [path.name for path in tmp_path.iterdir()] == ["c.duckdb"], "no log is left to replay"
    with octans.connect(catalog) as session:
        assert session.sql("SELECT name FROM octans.models").fetchall() == [("m",)]
