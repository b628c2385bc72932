"""A small world for session tests: models of known accuracy and cost.

The models double a number. A variant of accuracy a is right on the share a of all numbers, always
on the same ones, so that what ANALYZE measures and what a promise tests is known beforehand. For
plan snapshots nothing runs: measurements are inserted, so that plans are exact.
"""

import hashlib
import re
import time
from datetime import UTC, datetime

import octans
import pyarrow as pa

CALLS = []
"""(variant, rows) of every batch call; cleared by `connect`."""

DEVICES = """
CREATE DEVICE cpu (KIND cpu, COUNT 2, THREADS 1, MEMORY 1 GB, PRICE 0.36 USD PER HOUR);
CREATE DEVICE big (KIND cpu, COUNT 1, THREADS 2, MEMORY 2 GB, PRICE 3.6 USD PER HOUR);
"""

MODELS = """
CREATE MODEL guess (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT guess.cheap USING python('session_world:guess', accuracy := 0.80);
CREATE VARIANT guess.tuned USING python('session_world:guess') KNOBS (accuracy IN (0.85, 0.92));
CREATE VARIANT guess.best USING python('session_world:guess', accuracy := 0.99) BASE;
CREATE MODEL refine (x BIGINT, y BIGINT) RETURNS (z BIGINT, sure DOUBLE)
  QUALITY exact_match(z) CONFIDENCE sure;
CREATE VARIANT refine.fast USING python('session_world:refine', accuracy := 0.90);
CREATE VARIANT refine.slow USING python('session_world:refine', accuracy := 0.995) BASE;
CREATE PIPELINE answer (x BIGINT) RETURNS (z BIGINT) QUALITY exact_match(z) AS
BEGIN
  first := guess(x);
  again := refine(x, first) WHEN first % 4 = 0;
  RETURN COALESCE(again.z, first);
END;
CREATE MODEL shout (t VARCHAR) RETURNS (loud VARCHAR) QUALITY exact_match(loud);
CREATE VARIANT shout.only USING python('session_world:shout') BASE;
CREATE MODEL picky (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT picky.only USING python('session_world:picky') BASE;
"""

TABLES = """
CREATE TABLE numbers AS
  SELECT range AS id, range % 5 AS k, 2 * range AS truth, 'n' || range AS name,
    range // 4 AS book FROM range(400);
"""

# variant, knobs, device, seconds of one call, quality, bytes
GUESS = (
    ("guess.cheap", "", "cpu", 0.001, 0.80, 1e6),
    ("guess.tuned", "accuracy := 0.85", "cpu", 0.003, 0.85, 1e6),
    ("guess.tuned", "accuracy := 0.92", "cpu", 0.008, 0.92, 1e6),
    ("guess.best", "", "cpu", 0.030, 0.99, 4e8),
    ("guess.best", "", "big", 0.002, 0.99, 4e8),
)
REFINE = (
    ("refine.fast", "", "cpu", 0.002, 0.90, 1e6),
    ("refine.slow", "", "cpu", 0.020, 0.995, 1e6),
)
SHOUT = (("shout.only", "", "cpu", 0.0001, 1.0, 1e5),)
PICKY = (("picky.only", "", "cpu", 0.0001, 0.9, 1e5),)
MEASURED = {"guess": GUESS, "refine": REFINE, "shout": SHOUT, "picky": PICKY}


def right(x, accuracy, salt=""):
    """Is a variant of that accuracy right on that number? The same every time."""
    digest = hashlib.blake2b(f"{salt}{x}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32 < accuracy


def guess(accuracy, seconds=0.0, salt=""):
    """Doubles, or is one off."""

    def call(batch):
        CALLS.append((f"guess {accuracy}", batch.num_rows))
        if seconds:
            time.sleep(seconds)
        return [
            None if x is None else 2 * x + (not right(x, accuracy, salt))
            for x in batch.column("x").to_pylist()
        ]

    return call


def refine(accuracy):
    """Doubles `x`, whatever was guessed, with a confidence."""

    def call(batch):
        CALLS.append((f"refine {accuracy}", batch.num_rows))
        xs = batch.column("x").to_pylist()
        answers = [2 * x + 2 * (not right(x, accuracy, "refine")) for x in xs]
        return {"z": answers, "sure": [accuracy] * len(xs)}

    return call


def shout():
    """Upper case."""
    return lambda batch: [None if t is None else t.upper() for t in batch.column("t").to_pylist()]


def picky(bad=7):
    """Doubles, and refuses numbers that end in `bad`."""

    def call(batch):
        xs = batch.column("x").to_pylist()
        for x in xs:
            if x is not None and x % 10 == bad:
                raise ValueError(f"I do not like {x}")
        return [None if x is None else 2 * x for x in xs]

    return call


def crash():
    """Cannot even be loaded."""
    raise RuntimeError("no weights here")


def never():
    """Fails on every row."""

    def call(batch):
        raise ValueError("nothing works")

    return call


def wrong_type():
    """Answers words where numbers are declared."""
    return lambda batch: ["a"] * batch.num_rows


def observations(measured=MEASURED, n=400):
    """An Arrow table of measurements for `INSERT INTO octans.observations`."""
    rows = []
    for model, variants in measured.items():
        for variant, knobs, device, seconds, quality, memory in variants:
            key = (model, variant, knobs)
            for batch in (1, 16):
                took = seconds * (1 + 0.1 * (batch - 1))
                for statistic in ("mean", "p50", "p90", "p95", "p99"):
                    rows.append((*key, device, batch, "latency", statistic, took))
            rows.append((*key, device, None, "memory", "peak", memory))
            rows.append((*key, None, None, "quality", "mean", quality))
    rows.append(("answer.again", None, None, None, None, "rate", "share", 0.5))
    names = ("subject", "variant", "knobs", "device", "batch", "metric", "statistic", "value")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table({**columns, "n": [n] * len(rows)})


INSERT = """
INSERT INTO octans.observations
  (subject, variant, knobs, device, batch, metric, statistic, value, ci_low, ci_high, n, n_failed)
SELECT subject, variant, knobs, device, batch, metric, statistic, value, 0.98 * value,
  CASE WHEN metric IN ('quality', 'rate') THEN least(1.02 * value, 1) ELSE 1.02 * value END, n, 0
FROM measured
"""


def connect(path=None, *, measured=True):
    """A session on the world; with measurements unless they are to be made."""
    CALLS.clear()
    session = octans.connect(path)
    session.sql("SET progress = false")
    session.sql(DEVICES + MODELS + TABLES)
    if measured:
        insert(session)
    return settled(session)


def settled(session):
    """With a clock that stands still, so that nothing measured ever ages."""
    session.now = lambda: datetime(2026, 1, 1, tzinfo=UTC)
    return session


def insert(session, table=None):
    """Insert measurements: `observations()` by default."""
    measured = observations() if table is None else table
    assert measured.num_rows
    session.sql(INSERT)


def masked(text):
    """What a snapshot shows: no times of this run, empty lines as a dot."""
    text = re.sub(r"planned in [\d.]+ \S+", "planned in <time>", text)
    text = re.sub(r"\([\d.]+ ms\)", "(<time>)", text)
    text = re.sub(r'"planning_seconds": [\d.e-]+', '"planning_seconds": <time>', text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+", "<time>", text)
    return "\n".join(line.rstrip() or "." for line in text.strip().split("\n"))
