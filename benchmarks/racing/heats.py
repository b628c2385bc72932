"""Races by the hundred: in worker processes of one thread each, remembered, baselines tuned.

What a race came to is kept under `--out` as soon as it has ended, and not run again as long as
neither the search, the workloads nor the libraries have changed: a run that was killed goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean
from typing import Protocol, TypeVar, cast

from octans.planner.search.protocol import PlanSearch
from octans.planner.search.similarity.warm_start import WarmStart

from ..baselines.registry import OURS, SEARCHES, Settings
from .histories import drawn_histories, file_of, finished, jobs_of
from .job import Job, drawn
from .proofs import promised
from .race import TARGETS, Environment, Race, Target, budget, confidence, race, race_from

HERE = Path(__file__).parents[1]
KEPT, HISTORIES = "races.jsonl", "histories"
LIBRARIES = ("numpy", "torch", "botorch", "optuna", "smac")
TUNING_SEEDS = (1_000_001, 1_000_002, 1_000_003)
"""Used for tuning alone."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

T = TypeVar("T")


class Work(Protocol):
    """Does something with every job, in any order."""

    def __call__(self, task: Callable[[Job], T], jobs: Sequence[Job], /) -> Iterable[tuple[Job, T]]:
        """Each job with what came of it, as they end."""


def run_job(job: Job) -> Race:
    """Make the environment and the search, and race."""
    return raced(drawn(job), job)


def raced(found: Environment, job: Job) -> Race:
    """Race the job's search on an environment."""
    entry = SEARCHES[job.search]
    # Importing a library is no search time: it is paid once a process, not once a query.
    entry.load()
    histories = drawn_histories(job) if job.histories else []
    started = time.process_time()
    prior = WarmStart(found.space, histories, job.seed) if histories else None
    settings = json.loads(job.settings)
    search = entry.make(found.space, found.slo, found.rows, job.seed, settings, prior)
    made = time.process_time() - started
    came = race(
        found,
        search,
        budget(found, job.plans),
        cpu=job.cpu,
        to_end=job.to_end,
        reuse=job.reuse,
        searching=made,
    )
    if job.search != OURS:
        return came
    incumbent, frontier = search.incumbent(), cast("PlanSearch", search).frontier()
    first = [] if incumbent is None else [incumbent]
    candidates = [*first, *(c for c in frontier if c not in first)]
    return replace(came, declared=promised(found, candidates, confidence(found.slo)).kept)


def one_thread() -> None:
    """Torch's own threads as well: the libraries below it have read the environment."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def pool(workers: int) -> Iterator[Work]:
    """Runs jobs in so many processes of one thread each, seed by seed."""
    for name in THREADS:
        os.environ[name] = "1"
    spawn = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=one_thread) as executor:

        def run(task: Callable[[Job], T], jobs: Sequence[Job]) -> Iterator[tuple[Job, T]]:
            ordered = sorted(jobs, key=lambda job: (job.workload, job.seed))
            running = {executor.submit(task, job): job for job in ordered}
            for done in as_completed(running):
                yield running[done], done.result()

        yield run


class Heats:
    """Runs jobs through `work` and keeps what came of them."""

    def __init__(self, work: Work, folder: Path) -> None:
        self.work, self._folder = work, folder
        self._file = folder / KEPT
        self._stamps = {ours: _stamp(ours) for ours in (False, True)}
        self._kept: dict[str, Race] = {}
        if self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                stored = json.loads(line)
                if stored["stamp"] == self._stamps[stored["ours"]]:
                    self._kept[stored["job"]] = race_from(stored["race"])

    def run(self, jobs: Sequence[Job]) -> list[Race]:
        """The races, in order."""
        left = {job.text: job for job in jobs if job.text not in self._kept}
        for job, found in self.work(run_job, list(left.values())):
            self._keep(job, found)
        return [self._kept[job.text] for job in jobs]

    def _keep(self, job: Job, found: Race) -> None:
        self._kept[job.text] = found
        self._folder.mkdir(parents=True, exist_ok=True)
        ours = job.search == OURS
        stored = {
            "stamp": self._stamps[ours], "ours": ours, "job": job.text, "race": asdict(found),
        }  # fmt: skip
        # In one call, so that whoever is killed leaves whole lines.
        with self._file.open("ab", buffering=0) as file:
            file.write(json.dumps(stored).encode() + b"\n")

    def with_histories(self, job: Job, pool: int) -> Job:
        """The job with a pool of histories of its workload; those that are missing are made."""
        folder = self._folder / HISTORIES / self._stamps[True]
        folder.mkdir(parents=True, exist_ok=True)
        places = {made: place for place, made in enumerate(jobs_of(job, pool))}
        missing = [
            made
            for made, place in places.items()
            if not file_of(folder, job.workload, place).exists()
        ]
        for made, body in self.work(finished, missing):
            file_of(folder, job.workload, places[made]).write_bytes(body)
        return replace(job, pool=pool, histories_in=str(folder))

    def tuned(self, job: Job, seeds: Sequence[int] = TUNING_SEEDS) -> Settings:
        """The setting of the grid with the least mean response to near the best.

        All settings run on the first seed, the better half of them on the second too, and so on;
        of those left the geometric mean over all seeds decides, of equals that to feasible, then
        the place in the grid. A race that did not get there counts as the whole budget, however it
        ended.
        """
        left = [json.dumps(settings) for settings in SEARCHES[job.search].grid]
        races: dict[str, list[Race]] = {settings: [] for settings in left}
        for seed in seeds:
            jobs = [replace(job, settings=settings, seed=seed) for settings in left]
            for settings, found in zip(left, self.run(jobs), strict=True):
                races[settings].append(found)
            left.sort(
                key=lambda settings: [
                    _mean(races[settings], target) for target in reversed(TARGETS)
                ]
            )
            left = left[: max(len(left) // 2, 1)]
        chosen: Settings = json.loads(left[0])
        return chosen


def _mean(races: Sequence[Race], target: Target) -> float:
    """Geometric mean of the response, the whole budget where the target was not reached."""
    return geometric_mean(
        max(race.at(target).seconds if race.reached(target) else race.budget, 1e-9)
        for race in races
    )


def _stamp(ours: bool) -> str:
    """Changes with the code of what is raced, that of the races, and the libraries."""
    found = hashlib.blake2b(digest_size=8)
    files = [*HERE.glob("baselines/*.py"), *HERE.glob("workloads/*.py")]
    if ours:
        search = HERE.parent / "planner" / "search"
        files += [search / "protocol.py", search / "features.py", *search.glob("learned/*.py")]
        files += search.glob("similarity/*.py")
    for path in sorted(files):
        found.update(path.read_bytes())
    for name in ("race.py", "histories.py"):
        found.update((HERE / "racing" / name).read_bytes())
    for library in LIBRARIES:
        try:
            found.update(metadata.version(library).encode())
        except metadata.PackageNotFoundError:
            continue
    return found.hexdigest()
