"""What a race is of, so that any process can run it: a workload, a search, a seed and limits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..workloads.environment import Environment
from ..workloads.instances import environment

Twist = Literal["none", "inverted", "shuffled"]
"""What is done to the scores of histories: nothing, best and worst change places, they are drawn
anew among the plans."""
FOLDERS = ("data", "recording", "histories_in")


@dataclass(frozen=True)
class Job:
    """One race.

    Attributes:
        workload: its name.
        search: its name in the registry.
        settings: of the search, as JSON.
        seed: of the environment and the search.
        plans: the budget, in profilings of one plan afresh on all rows.
        cpu: seconds of CPU time after which it is stopped.
        data: folder of the public data sets.
        recording: of the cheques.
        to_end: go on when it has come near the best, until it asks for nothing more.
        reuse: prefixes that were computed are not computed again.
        histories: how many the search is given.
        pool: of which they are drawn.
        twist: what was done to them.
        histories_in: their folder.
    """

    workload: str
    search: str
    settings: str
    seed: int
    plans: float
    cpu: float
    data: str | None
    recording: str
    to_end: bool = False
    reuse: bool = True
    histories: int = 0
    pool: int = 0
    twist: Twist = "none"
    histories_in: str = ""

    @property
    def text(self) -> str:
        """Names the job, whatever folders its data are in."""
        return json.dumps([v for name, v in asdict(self).items() if name not in FOLDERS])


def drawn(job: Job) -> Environment:
    """The workload's draw for the job's seed."""
    return _drawn(job.workload, job.seed, job.data, job.recording)


@lru_cache(maxsize=1)
def _drawn(workload: str, seed: int, data: str | None, recording: str) -> Environment:
    """Jobs come seed by seed, so one is kept."""
    folder = None if data is None else Path(data)
    return environment(workload, seed, data=folder, recording=Path(recording))
