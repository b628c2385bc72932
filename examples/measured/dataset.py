"""What a data set declares and measures, as data; every relation is DuckDB SQL over its files.

A `Relation`'s `rows` have the columns `model`, `origin` (the name its authors use), `device`,
`batch`, one column per knob, and what its `numbers` compute from. The conventions of an imported
number:

- a latency is seconds of one call of `batch` elements, as everywhere; where a server was measured
  under `c` requests at a time, `batch` is `c`: they share the device, so one of them costs `1 / c`
  of its seconds;
- `n` is what the publication counts, and 0 where it says nothing: the sample size is unknown, the
  interval of a share is then [0, 1] and that of a time a factor of two (see `stats.statistics`);
- what is computed from a published number rather than published itself is `modelled`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scope = Literal["call", "choice", "answer"]
"""What a number is of: a call (device and batch), a choice (device), or an answer (neither)."""

UNKNOWN_N = "0"


@dataclass(frozen=True)
class Number:
    """A number of every row; `value`, `n`, `failed`, `low` and `high` are SQL over its columns."""

    metric: str
    statistic: str
    value: str
    scope: Scope = "call"
    n: str = UNKNOWN_N
    failed: str = "0"
    low: str = "NULL"
    high: str = "NULL"
    source: Literal["measured", "modelled"] = "measured"


@dataclass(frozen=True)
class Relation:
    """Rows of the files and the numbers in them; `knobs` are INTEGER columns of `rows`."""

    rows: str
    numbers: tuple[Number, ...]
    knobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """One published data set.

    Attributes:
        name: of its folder.
        origin: where it is published.
        files: path below the folder of all data sets → the columns that are needed.
        models: statements that declare its models.
        devices: SQL of (name, kind, memory_gb, usd_per_hour); NULL where it is not published.
        relations: what was measured.
        optional: files that are used where they are there.
    """

    name: str
    origin: str
    files: Mapping[str, tuple[str, ...]]
    models: tuple[str, ...]
    devices: str
    relations: tuple[Relation, ...]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def csv(path: str) -> str:
    """SQL that reads a CSV file of the folder, every column as text.

    Nothing is sniffed: which dialect DuckDB guesses depends on the rows it happens to see.
    """
    return (
        f"read_csv('{{folder}}/{path}', delim = ',', quote = '\"', header = true, "
        "all_varchar = true, strict_mode = false, null_padding = true)"
    )


def name_of(origin: str) -> str:
    """SQL of a name Octans takes: `openai/whisper-large-v3` → `openai_whisper_large_v3`."""
    return f"trim(regexp_replace(lower({origin}), '[^a-z0-9]+', '_', 'g'), '_')"


def knobs_of(knobs: tuple[str, ...]) -> str:
    """SQL of the canonical text of knob settings, knobs sorted by name."""
    return " || ', ' || ".join(f"'{knob} := ' || {knob}" for knob in sorted(knobs)) or "''"


PRICES = "llm_pilot/prices.csv"
PRICES_COLUMNS = ("GPU", "price")
"""USD per hour of `2 x A100`, …: AWS, mid-2024 [LLM-Pilot]."""
