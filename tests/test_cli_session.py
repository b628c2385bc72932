"""The command line as a process of its own: pipes, Ctrl-C, dry runs, what a cold EXPLAIN loads."""

import os
import signal
import subprocess
import sys
import threading
import time

import octans as octans_package
import pytest
from octans.errors import RunError

MODELS = """
import time

def slow(seconds=0.01):
    def call(batch):
        time.sleep(seconds)
        return {"y": batch.column(0)}
    return call
"""
LATENCIES = ", ".join(f"('{s}')" for s in ("mean", "p50", "p90", "p95", "p99"))
SETUP = f"""
CREATE DEVICE cpu (KIND cpu, COUNT 1, THREADS 1, PRICE 0.36 USD PER HOUR);
CREATE MODEL slow (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT slow.one USING python('cli_toy:slow');
INSERT INTO octans.observations (subject, variant, knobs, device, batch, metric, statistic, value,
  ci_low, ci_high, n, n_failed)
SELECT 'slow', 'slow.one', '', 'cpu', 10, 'latency', s, 0.01, 0.009, 0.011, 100, 0
FROM (VALUES {LATENCIES}) AS t(s);
INSERT INTO octans.observations (subject, variant, knobs, device, batch, metric, statistic, value,
  ci_low, ci_high, n, n_failed)
SELECT 'slow', NULL, '', NULL, NULL, 'distinct', 'share', 1.0, 0.99, 1.0, 100, 0;
"""
QUERY = "SELECT range, slow(range) AS y FROM range(100000)"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a catalog and the toy model."""
    place = tmp_path_factory.mktemp("cli")
    (place / "cli_toy.py").write_text(MODELS, encoding="utf-8")
    (place / "setup.sql").write_text(SETUP, encoding="utf-8")
    done = octans(place, "run", "setup.sql")
    assert done.returncode == 0, done.stderr
    return place


def environment(place):
    return {**os.environ, "PYTHONPATH": str(place), "OCTANS_CATALOG": "catalog.duckdb"}


def octans(place, *arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "octans", *arguments],
        cwd=place, env=environment(place), capture_output=True, text=True, timeout=60, **more,
    )  # fmt: skip


def started(place, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "octans", *arguments],
        cwd=place, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_ctrl_c_stops_a_run_cleanly_and_reports_what_was_done(place):
    with started(place, "-c", QUERY) as process:
        time.sleep(4)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        took = time.monotonic() - begun
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert b"OC0402" in errors
    assert b"finished rows" in errors
    assert took < 5


COUNTING = "SELECT count(*) FROM range(100000000000) t(a) WHERE hash(a) = 1"


@pytest.mark.parametrize(
    "text",
    [
        f"CREATE TABLE kept AS {QUERY}",
        f"COPY ({QUERY}) TO 'kept.csv'",
        COUNTING,
        f"CREATE TABLE kept AS {COUNTING}",
    ],
)
@pytest.mark.parametrize("how", ["ctrl-c", "cancel"])
def test_what_duckdb_writes_or_does_alone_stops_within_a_second(place, monkeypatch, text, how):
    """DuckDB neither heeds Ctrl-C while it pulls from our reader nor tells of it as we do."""
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.chdir(place)
    with octans_package.connect() as session:
        session.sql(SETUP)
        stop = session.cancel if how == "cancel" else lambda: os.kill(os.getpid(), signal.SIGINT)
        timer = threading.Timer(1.0, stop)
        timer.start()
        begun = time.monotonic()
        with pytest.raises(RunError) as caught:
            session.sql(text)
        assert time.monotonic() - begun < 2.2
        assert caught.value.code == "OC0402"
        assert session.tables() == ()
        assert session.sql("SELECT 1").fetchall() == [(1,)]
        statuses = session.sql("SELECT status FROM octans.runs WHERE kind = 'query'").fetchall()
        assert statuses == ([("cancelled",)] if QUERY in text else [])


def test_ctrl_c_while_planning_is_told_like_any_other(monkeypatch):
    """DuckDB counts the rows of a source, in the main thread, before a plan is chosen."""

    def interrupted(*_):
        raise RuntimeError("Query interrupted")

    with octans_package.connect() as session:
        monkeypatch.setattr(session, "_execute", interrupted)
        with pytest.raises(RunError) as caught:
            session.sql("SELECT 1")
        assert caught.value.code == "OC0402"


def test_ctrl_c_ends_a_statement_of_duckdbs_with_130(place):
    with started(place, "-c", COUNTING) as process:
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"OC0402" in errors
    assert b"Traceback" not in errors


def test_a_pipe_closed_in_the_middle_of_a_stream_ends_silently(place):
    with started(place, "--format", "csv", "-c", QUERY) as process:
        assert process.stdout.readline() == b"range,y\n"
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(30) == 141
    assert errors == b""


def test_a_dry_run_prices_without_running(place):
    done = octans(place, "--dry-run", "-c", QUERY)
    assert done.returncode == 0, done.stderr
    assert "100,000" in done.stdout
    assert "1.67 min" in done.stdout
    assert "$0.0100" in done.stdout


def test_rows_come_as_csv_and_json(place):
    query = "SELECT range, slow(range) AS y FROM range(3)"
    assert octans(place, "--format", "csv", "-c", query).stdout == "range,y\n0,0\n1,1\n2,2\n"
    assert octans(place, "--format", "json", "run", "-", input=query).stdout == (
        '[{"range": 0, "y": 0},\n{"range": 1, "y": 1},\n{"range": 2, "y": 2}]\n'
    )


def test_a_cold_explain_loads_none_of_the_heavy_libraries(place):
    heavy = (
        "torch botorch ortools networkx sklearn pandas scipy onnxruntime rich typer prompt_toolkit"
    )
    code = (
        "import sys; from octans.cli import main\n"
        f"assert main(['-c', 'EXPLAIN {QUERY}']) == 0\n"
        f"loaded = set({heavy.split()!r}) & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place, env=environment(place), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "slow.one" in done.stdout


def test_a_catalog_in_use_is_a_typed_error(place):
    with started(place, "--format", "csv", "-c", QUERY) as process:
        process.stdout.readline()
        second = octans(place, "-c", "SHOW MODELS")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert second.returncode == 1
    assert "error[OC05" in second.stderr
    assert str(process.pid) in second.stderr
