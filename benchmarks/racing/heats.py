"""Races by the hundred: in worker processes of one thread each, remembered, baselines tuned.

What a baseline did is kept under `--out` and not done again as long as neither it, the workloads
nor the libraries have changed; our own search is raced anew every time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean

from ..baselines.registry import OURS, SEARCHES, Settings
from ..workloads.instances import environment
from .race import TARGETS, Environment, Race, Target, budget, race, race_from

HERE = Path(__file__).parents[1]
KEPT = "races.jsonl"
LIBRARIES = ("numpy", "torch", "botorch", "optuna", "smac")
TUNING_SEEDS = (1_000_001, 1_000_002, 1_000_003)
"""Used for tuning alone."""

Key = tuple[str, str]
"""Workload, search."""


@dataclass(frozen=True)
class Job:
    """One race.

    Attributes:
        workload: its name.
        search: its name in the registry.
        settings: of the search, as JSON.
        seed: of the environment and the search.
        plans: the budget, in profilings of one plan afresh on all rows.
        real: seconds after which it is stopped.
        data: folder of the public data sets.
        recording: of the cheques.
    """

    workload: str
    search: str
    settings: str
    seed: int
    plans: float
    real: float
    data: str | None
    recording: str

    @property
    def text(self) -> str:
        """Names the job, whatever folders its data are in."""
        folders = ("data", "recording")
        return json.dumps([v for name, v in asdict(self).items() if name not in folders])


Work = Callable[[Sequence[Job]], Iterable[tuple[Job, Race]]]
"""Runs jobs, in any order."""


@lru_cache(maxsize=1)
def _environment(workload: str, seed: int, data: str | None, recording: str) -> Environment:
    """The workload's draw for a seed; jobs come seed by seed, so one is kept."""
    folder = None if data is None else Path(data)
    return environment(workload, seed, data=folder, recording=Path(recording))


def run_job(job: Job) -> Race:
    """Make the environment and the search, and race."""
    found = _environment(job.workload, job.seed, job.data, job.recording)
    return raced(found, job)


def raced(found: Environment, job: Job) -> Race:
    """Race the job's search on an environment."""
    entry = SEARCHES[job.search]
    # Importing a library is no search time: it is paid once a process, not once a query.
    entry.load()
    started = time.perf_counter()
    search = entry.make(found.space, found.slo, found.rows, job.seed, json.loads(job.settings))
    made = time.perf_counter() - started
    return race(
        found,
        search,
        budget(found, job.plans),
        real=job.real,
        to_end=job.search == OURS,
        searching=made,
    )


@contextmanager
def pool(workers: int) -> Iterator[Work]:
    """Runs jobs in so many processes of one thread each, seed by seed."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:

        def run(jobs: Sequence[Job]) -> Iterator[tuple[Job, Race]]:
            ordered = sorted(jobs, key=lambda job: (job.workload, job.seed))
            running = {executor.submit(run_job, job): job for job in ordered}
            for done in as_completed(running):
                yield running[done], done.result()

        yield run


class Heats:
    """Runs jobs through `work` and keeps what baselines did."""

    def __init__(self, work: Work, folder: Path | None) -> None:
        self._work = work
        self._file = None if folder is None else folder / KEPT
        self._stamp = _stamp()
        self._kept: dict[str, Race] = {}
        if self._file is not None and self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                stored = json.loads(line)
                if stored["stamp"] == self._stamp:
                    self._kept[stored["job"]] = race_from(stored["race"])

    def run(self, jobs: Sequence[Job]) -> list[Race]:
        """The races, in order."""
        ours: dict[str, Race] = {}
        for job, found in self._work([job for job in jobs if job.text not in self._kept]):
            if job.search == OURS:
                ours[job.text] = found
            else:
                self._keep(job, found)
        return [ours[job.text] if job.search == OURS else self._kept[job.text] for job in jobs]

    def _keep(self, job: Job, found: Race) -> None:
        self._kept[job.text] = found
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            stored = {"stamp": self._stamp, "job": job.text, "race": asdict(found)}
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(stored) + "\n")

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


def _stamp() -> str:
    """Changes with the code of baselines and workloads and with the libraries."""
    found = hashlib.blake2b(digest_size=8)
    for path in sorted(HERE.glob("baselines/*.py")) + sorted(HERE.glob("workloads/*.py")):
        found.update(path.read_bytes())
    found.update((HERE / "racing" / "race.py").read_bytes())
    for library in LIBRARIES:
        try:
            found.update(metadata.version(library).encode())
        except metadata.PackageNotFoundError:
            continue
    return found.hexdigest()
