"""`octans demo`: the cheque script told to a stranger, then a table of what was promised and kept.

The script itself is `cheques.sql`; its comments are the narration. Everything is written to one
folder, where it can be looked at and run again.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import data, models

if TYPE_CHECKING:
    from ...ir.estimates import Estimate
    from ...result import Result
    from ...session import Session
    from ...stats.intervals import Interval
    from ...stats.observation import Observation

ANALYZE_STRIPS, MEASURED_STRIPS = 2000, 5000
QUICK_STRIPS = 1000

QUERY = "SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet')"
PLANS = {
    "cheapest": "WITH SLO () MINIMIZE cost",
    "balanced": (
        "WITH SLO (accuracy >= 0.85 AT CONFIDENCE 0.95, latency_p95 <= 25 ms) MINIMIZE cost"
    ),
    "most accurate": "WITH SLO () MAXIMIZE accuracy",
}


def folder() -> Path:
    """Where the demo lives when nobody says: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "octans" / "cheques"


@dataclass(frozen=True)
class Measured:
    """A plan of the closing table; accuracy in [0, 1], USD for 1,000 strips."""

    name: str
    accuracy: Estimate | None
    measured: Interval
    rows_per_second: float
    usd: Estimate | None
    measured_usd: float | None
    proved: str


def main(out: TextIO = sys.stdout, *, where: Path | None = None, quick: bool = False) -> int:
    """Run the demo; the exit code.

    Args:
        out: where the story goes.
        where: the folder for data, models and catalog; emptied of an earlier demo's catalog.
        quick: fewer strips to measure on, and networks trained for fewer epochs.
    """
    strips = QUICK_STRIPS if quick else MEASURED_STRIPS
    tour(out, (where or folder()).resolve(), strips, quick=quick)
    return 0


def tour(out: TextIO, place: Path, strips: int, *, quick: bool = False) -> list[Measured]:
    """The whole story, on so many strips; the rows of its closing table."""
    from ...progress import progress_bar
    from ...session import connect

    place.mkdir(parents=True, exist_ok=True)
    catalog = place / "cheques.duckdb"
    for old in (catalog, catalog.with_name(catalog.name + ".wal")):
        old.unlink(missing_ok=True)
    tell = Narrator(out)
    tell.say(INTRODUCTION.format(place=place))
    prepare(place, tell, strips, quick=quick)
    back = Path.cwd()
    os.chdir(place)
    try:
        with connect(catalog, base_dir=place) as session:
            session.progress = progress_bar()
            play(session, script(), tell)
            tell.say(CLOSING)
            rows = table(session, place)
            tell.table(rows)
    finally:
        os.chdir(back)
    tell.say(FAREWELL.format(place=place))
    return rows


def script() -> str:
    """The demo's script."""
    return (Path(__file__).parent / "cheques.sql").read_text(encoding="utf-8")


def prepare(place: Path, tell: Narrator, strips: int, *, quick: bool = False) -> None:
    """Make the strips and train the variants."""
    start = time.perf_counter()
    data.write(place, analyze=ANALYZE_STRIPS, measuring=strips)
    tell.say(f"{strips:,} strips made in {time.perf_counter() - start:.1f} s.")
    (place / "cheques.sql").write_text(script(), encoding="utf-8")
    stamp, recipe = place / "trained.txt", _recipe() + (" quick" if quick else "")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == recipe:
        tell.say("The variants were trained by an earlier run and are used again.")
        return
    tell.say(f"Training the variants, {'half a minute' if quick else 'a few minutes'} …")
    start = time.perf_counter()
    models.train(place, quick=quick)
    stamp.write_text(recipe, encoding="utf-8")
    tell.say(f"Trained in {time.perf_counter() - start:.0f} s.")


def _recipe() -> str:
    """What the trained variants follow from: the code that makes them."""
    sources = (Path(str(part.__file__)).read_bytes() for part in (data, models))
    return hashlib.blake2b(b"".join(sources), digest_size=16).hexdigest()


def play(session: Session, text: str, tell: Narrator) -> None:
    """Run the script chapter by chapter, saying its comments and showing its statements."""
    from ...dsl.diagnostics import render
    from ...errors import OctansError

    for words, statements in chapters(text):
        tell.say(words)
        for statement in statements:
            tell.show(statement)
            try:
                result = session.sql(statement, name="cheques.sql")
            except OctansError as error:
                tell.print(render(error))
            else:
                tell.result(result)


def chapters(text: str) -> Iterator[tuple[str, list[str]]]:
    """The script's comment blocks, each with the statements behind it."""
    words: list[str] = []
    statements: list[str] = []
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("-- ") and not current:
            if statements:
                yield " ".join(words), statements
                words, statements = [], []
            words.append(line[3:])
        elif line.strip() or current:
            current.append(line)
            if line.endswith(";") and not _inside(current):
                statements.append("\n".join(current))
                current = []
    yield " ".join(words), statements


def _inside(lines: list[str]) -> bool:
    """Is a pipeline's body still open?"""
    return "BEGIN" in lines and "END;" not in lines


def table(session: Session, place: Path) -> list[Measured]:
    """Estimated beside measured, for the three plans and for the naive one."""
    truth = pq.read_table(place / "strips.parquet", columns=["amount", "book"])
    rows = [run(session, name, f"{QUERY} {slo}", truth) for name, slo in PLANS.items()]
    naive = f"{QUERY} WITH SLO () MINIMIZE cost"
    rows.append(run(session, "best everywhere", naive, truth, advice=best_everywhere(session)))
    return rows


def best_everywhere(session: Session) -> str:
    """Advice: for every step its most accurate choice; the batch size is left to the planner."""
    best: dict[str, Observation] = {}
    for seen in session.catalog.observations(models=["classify", "classify_hard"]):
        if seen.metric == "quality" and seen.given is None and "." in seen.subject:
            known = best.get(seen.subject)
            if known is None or seen.value > known.value:
                best[seen.subject] = seen
    items = []
    for step, seen in best.items():
        knobs = f" {seen.knobs.replace(' := ', '=')}" if seen.knobs else ""
        items.append(f"VARIANT({step} {seen.variant}{knobs})")
    return " ".join(items)


def run(
    session: Session, name: str, query: str, truth: pa.Table, *, advice: str | None = None
) -> Measured:
    """Run one query and score its answers against the truth: its columns amount and book."""
    from ...stats.intervals import clustered_share

    start = time.perf_counter()
    result = session.sql(query, advice=advice)
    answers = result.arrow().column("amount")
    seconds = time.perf_counter() - start
    right = pc.fill_null(pc.equal(answers, truth.column("amount")), False)
    scores = pc.cast(right, pa.float64()).to_pylist()
    explanation = result.explanation()
    actual = explanation.actual_totals
    usd = None if actual is None or actual.cost is None else actual.cost.value * 1000
    expected = explanation.totals.cost
    return Measured(
        name,
        explanation.totals.accuracy,
        clustered_share(scores, truth.column("book").to_pylist()),
        len(answers) / seconds,
        None if expected is None else expected.scaled(1000),
        usd,
        "; ".join(v.guarantee for v in explanation.verdicts if v.guarantee),
    )


class Narrator:
    """Prints the story: paragraphs, statements, results, the closing table."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def print(self, text: str) -> None:
        """A block as it is."""
        print(text.rstrip() + "\n", file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Paragraphs, wrapped."""
        for paragraph in text.strip().split("\n\n"):
            self.print(textwrap.fill(" ".join(paragraph.split()), 96))

    def show(self, statement: str) -> None:
        """A statement as it is typed."""
        self.print(textwrap.indent(statement, "  "))

    def result(self, result: Result) -> None:
        """What a statement gave back."""
        if result.text is not None:
            self.print(result.text)
            return
        if result.has_rows:
            self.print(result.to_text())
        elif result.message and not result.message.startswith("created"):
            self.print(result.message)

    def table(self, rows: Sequence[Measured]) -> None:
        """The closing table."""
        head = (
            "plan",
            "accuracy, estimated",
            "measured",
            "agrees?",
            "rows/s",
            "USD per 1,000 strips",
        )
        cells = [head]
        for row in rows:
            cells.append(
                (
                    row.name,
                    _share(row.accuracy),
                    _share(row.measured),
                    _judgement(row),
                    f"{row.rows_per_second:,.0f}",
                    f"{_usd(row.usd)} estimated, {row.measured_usd:.2g} measured"
                    if row.measured_usd is not None
                    else _usd(row.usd),
                )
            )
        widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
        for line in cells:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  " + "  ".join(padded).rstrip(), file=self._out)
        print(file=self._out)
        for row in rows:
            if row.proved:
                self.print(f"  {row.name}: {row.proved}")


def _share(estimate: Estimate | Interval | None) -> str:
    if estimate is None:
        return "unknown"
    low, high = f"{estimate.low * 100:.1f}", f"{estimate.high * 100:.1f}"
    return f"{estimate.value:.1%} [{low}, {high}], n = {estimate.n} books"


def _usd(estimate: Estimate | None) -> str:
    return "unknown" if estimate is None else f"{estimate.value:.2g}"


def difference(estimate: Estimate, measured: Interval) -> tuple[float, float]:
    """The 95 % interval of measured minus estimated accuracy, from the interval of each.

    Square-and-add [Newcombe 1998, "Interval estimation for the difference between independent
    proportions", method 10], with cluster-robust intervals in place of Wilson's (our choice: both
    are at hand, and it needs no normal approximation near 100 %). The two are taken as independent:
    ANALYZE and measuring share no image, though the same people wrote them.

    The plan was chosen because its estimate was the best among many, so that estimate tends to be
    too good (the winner's curse), and a difference below 0 is more likely than chance alone makes
    it. An interval with 0 in it shows that these strips do not contradict the estimate; it shows
    neither that the estimate is right nor that the plan is the best one.
    """
    gap = measured.value - estimate.value
    below = math.hypot(measured.value - measured.low, estimate.high - estimate.value)
    above = math.hypot(measured.high - measured.value, estimate.value - estimate.low)
    return gap - below, gap + above


def _judgement(row: Measured) -> str:
    if row.accuracy is None:
        return "?"
    low, high = difference(row.accuracy, row.measured)
    return "agrees" if low <= 0.0 <= high else "NO"


INTRODUCTION = """
A bank reads amounts from strips of handwritten digits. There are eight ways to read a digit, from
a linear model to a support vector machine that costs a thousand times as much, and a second reader
for strips whose check digit is wrong. Which should run? Octans is told what is wanted and finds
out.

The digits are real: 1,797 images written by 13 people, bundled with scikit-learn. Training, ANALYZE
and measuring use disjoint images. Everything is written to {place}
"""

CLOSING = """
What was promised beside what happened: each plan run once more on the strips, whose images neither
training nor ANALYZE has seen. "Best everywhere" is what one would do without an optimizer: for
every step the most accurate choice, at its best batch size, under the same rewrite rules.
"""

FAREWELL = """
Look around: cd {place} and start octans --catalog cheques.duckdb; try SHOW VARIANTS OF classify; or
EXPLAIN (ALTERNATIVES 5) with a query of your own.
"""
