"""An ANALYZE that is killed: what the child processes of `test_checkpoints` run.

Models replay recorded answers. Time does not pass by itself: a call takes the recorded latency, to
the last bit (they are multiples of 2^-10 s), so that statistics of latency can be compared for
equality. What a process did is logged a byte an event, which survives its death: `c` for a call,
`r` for a run of a stage that ended, `p` after each round.
"""

from __future__ import annotations

import os
import signal
import threading

import octans
import octans.analyzing  # a server imports what its children would import one by one
import octans.catalog_db.prefixes
import octans.executor.identity
import octans.stats.profile
import pandas  # noqa: F401 -- by pyarrow
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.special  # noqa: F401 -- by intervals
from octans.executor import calls
from octans.executor.backends import replay
from octans.executor.runner import LocalRunner

ROWS = 160
LATENCIES = {"quick": 1, "fair": 3, "base": 8, "weak": 2, "strong": 5}
"""Of a row, in 2^-10 seconds."""

STATEMENTS = """
CREATE DEVICE cpu (KIND cpu, COUNT 1, THREADS 1, PRICE 0.36 USD PER HOUR);
CREATE MODEL read (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE MODEL again (x BIGINT, y BIGINT) RETURNS (z BIGINT) QUALITY exact_match(z);
CREATE VARIANT read.quick USING replay('quick.parquet');
CREATE VARIANT read.fair USING replay('fair.parquet');
CREATE VARIANT read.base USING replay('base.parquet') BASE;
CREATE VARIANT again.weak USING replay('weak.parquet');
CREATE VARIANT again.strong USING replay('strong.parquet') BASE;
CREATE PIPELINE answer (x BIGINT) RETURNS (z BIGINT) QUALITY exact_match(z) AS
BEGIN
  first := read(x);
  second := again(x, first) WHEN first % 3 = 0;
  RETURN COALESCE(second, first);
END;
CREATE TABLE numbers AS SELECT range AS x, 2 * range AS truth FROM range(160);
"""
ANALYZE = "ANALYZE PIPELINE answer USING (FROM numbers) LABELS (z := truth) SAMPLE 120"
SEARCH = f"{ANALYZE} SEARCH WITH SLO (accuracy >= 0.8)"

# Load and unload times and memory are measured for real, so they differ from run to run. Those
# appended twice, because the first process died between that and its end, are one statistic.
STATISTICS = """
SELECT DISTINCT subject, metric, statistic, variant, knobs, device, batch, given, assignment, value,
  ci_low, ci_high, n, n_failed, source
FROM octans.observations WHERE metric NOT IN ('load', 'unload', 'memory') ORDER BY ALL
"""


def record(folder):
    """The files that are replayed; each variant errs on some rows, the cheap ones lack a few."""
    for name, latency in LATENCIES.items():
        step = {"quick": 3, "fair": 7, "weak": 5}.get(name, 10**9)
        inputs = [(x, 2 * x + off) for x in range(ROWS) for off in (0, 1)]
        if name not in ("weak", "strong"):
            inputs = [(x, y) for x, y in inputs if y == 2 * x]
        inputs = [(x, y) for x, y in inputs if name in ("base", "strong") or x % 31 != 30]
        columns = {"x": [x for x, _ in inputs], "latency": [latency / 1024] * len(inputs)}
        answers = [2 * x + (x % step == 1) for x, _ in inputs]
        if name in ("weak", "strong"):
            columns |= {"y": [y for _, y in inputs], "z": answers}
        else:
            columns |= {"y": answers}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


class Clock:
    """Stands for the module `time`: passes while a model is called."""

    def __init__(self, log, kill_at):
        self.now = 0.0
        self.calls = 0
        self.log = log
        self.kill_at = kill_at

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.calls += 1
        os.write(self.log, b"c")
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class Sink:
    """Told of progress: a round is over with what is decided."""

    def __init__(self, log):
        self.log = log
        self.deciding = False

    def update(self, rows_done, rows_total, stages):
        if self.deciding:
            os.write(self.log, b"p")
        self.deciding = "decided" in stages[0]


def analyze(path, log_path, text=ANALYZE, kill_at=None, kill_after=None):
    """Run an ANALYZE; die by SIGKILL at a call, or after some seconds."""
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    calls.time = replay.time = Clock(log, kill_at)
    run_stage = LocalRunner.run_stage

    def logged(self, stage, table):
        run = run_stage(self, stage, table)
        os.write(log, b"r")
        return run

    LocalRunner.run_stage = logged
    if kill_after is not None:
        timer = threading.Timer(kill_after, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    with octans.connect(path, base_dir=path.parent) as session:
        session.progress = Sink(log)
        message = session.sql(text).message
    log_path.with_suffix(".said").write_text(message)
