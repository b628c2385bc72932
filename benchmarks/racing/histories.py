"""Histories for warm starts: finished searches on other seeds of the same workload.

A finished search is our own, cold, until it asks for nothing more or has spent `PLANS` profilings
of a typical plan, by whichever comes first; what it was told is kept as the catalog keeps it. Seeds
of histories are used for nothing else. A race draws its histories from a pool by its own seed.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from octans.catalog_db.histories import decoded, encoded
from octans.planner.search.protocol import Evaluation
from octans.planner.search.similarity.warm_start import history_of
from octans.stats.histories import History

from ..baselines.registry import SEARCHES
from .job import Job, Twist, drawn
from .race import budget

POOL = 100
"""Histories of a workload."""
FIRST_SEED = 2_000_000
PLANS = 12.0
CPU = 10.0
"""Seconds after which a search that becomes a history is ended."""


def finished(job: Job) -> bytes:
    """Search on the job's seed to the end; the history, encoded."""
    environment = drawn(job)
    search = SEARCHES[job.search].make(
        environment.space, environment.slo, environment.rows, job.seed, json.loads(job.settings)
    )
    profiler = environment.profiler()
    limit, until = budget(environment, PLANS), time.process_time() + CPU
    told: list[Evaluation] = []
    while profiler.seconds < limit and time.process_time() < until:
        proposal = search.ask()
        if proposal is None:
            break
        told.append(profiler.evaluate(proposal))
        search.tell(told[-1])
    return encoded(history_of(environment.space, str(environment.slo), told))


def file_of(folder: Path, workload: str, place: int) -> Path:
    """Where a history of the pool is kept."""
    return folder / f"{workload}-{place}.history"


def jobs_of(blank: Job, count: int) -> list[Job]:
    """Searches that make the first `count` histories of a workload's pool."""
    return [replace(blank, seed=FIRST_SEED + place) for place in range(count)]


def drawn_histories(job: Job) -> list[History]:
    """Those that the job's seed draws from its pool first."""
    rng = np.random.default_rng([job.seed, 7])
    places = rng.permutation(job.pool)[: job.histories]
    files = [file_of(Path(job.histories_in), job.workload, int(place)) for place in places]
    return [twisted(decoded(file.read_bytes()), job.twist, rng) for file in files]


def twisted(history: History, twist: Twist, rng: np.random.Generator) -> History:
    """The history with its plans' scores turned around or dealt out anew; times stay true."""
    means = np.array([plan.mean for plan in history.plans])
    if twist == "inverted":
        means = means.max() + means.min() - means
    elif twist == "shuffled":
        means = rng.permutation(means)
    plans = tuple(
        replace(plan, mean=float(mean)) for plan, mean in zip(history.plans, means, strict=True)
    )
    return replace(history, plans=plans)
