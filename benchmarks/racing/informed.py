"""What the whole sample tells: the plan returned if every plan had been run on all of its rows.

A search may find the plan that looks best on its sample; whether it truly is, is the sample's luck.
So beside what a search returns stands what one returns that knows all answers to all rows and every
time exactly, by either rule: a plan counts as feasible if its own rows make that more likely than
not, as for a point estimate, or as likely as our search asks for. An instance is *decidable* if the
first of them is within `NEAR` of the best, truly: on the others whoever gets there had luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from octans.planner.search.learned.settings import EVEN, Settings

from ..baselines.registry import OURS
from ..workloads.best import accuracies, best_among
from ..workloads.environment import Environment
from .figures import Results, compared, near, reached, returned, show_ratios
from .heats import Work
from .job import Job, drawn
from .race import NEAR, Race, regret


@dataclass(frozen=True)
class Informed:
    """Regrets of the plans returned, see `race.regret`; None where that is none or infeasible."""

    even: float | None
    sure: float | None


Told = Mapping[str, Sequence[Informed]]
"""By workload, of every seed."""


def all_told(work: Work, jobs: Sequence[Job]) -> Told:
    """Of the environments of jobs, in their order."""
    found = dict(work(of_job, jobs))
    return {
        workload: [found[job] for job in jobs if job.workload == workload]
        for workload in dict.fromkeys(job.workload for job in jobs)
    }


def of_job(job: Job) -> Informed:
    """Of the job's environment."""
    return informed(drawn(job))


def informed(found: Environment) -> Informed:
    """Of an environment whose SLO limits accuracy; `sure`: where no plan is, the other rule's."""
    from scipy.special import betainc

    limit = max(c.limit for c in found.slo.constraints if c.metric == "accuracy")
    right = found.rows * accuracies(found.world, on_sample=True)
    chances = 1.0 - betainc(right + 0.5, found.rows - right + 0.5, limit)

    def returned(sure: float) -> tuple[bool, float | None]:
        plan = best_among(found.world, found.slo, np.argwhere(chances >= sure))
        return plan is not None, None if plan is None else regret(found, plan[0])

    _, even = returned(EVEN)
    any_sure, sure = returned(Settings().sure)
    return Informed(even, sure if any_sure else even)


def decidable(results: Results, told: Told) -> Results:
    """The races of decidable instances; workloads without any are left out."""
    found = {
        (workload, search): [
            race for race, one in zip(races, told[workload], strict=True) if near(one.even)
        ]
        for (workload, search), races in results.items()
    }
    return {key: races for key, races in found.items() if races}


def as_good(race: Race, one: Informed) -> bool:
    """Does it end with a plan no worse than the one by our search's rule, by more than `NEAR`?"""
    last = race.trace[-1][1] if race.trace else None
    return one.sure is None or (last is not None and last <= one.sure + NEAR)


def informed_figures(results: Results, told: Told) -> dict[str, float | None]:
    """Shares of instances, and every comparison on the decidable ones."""
    every = [one for each in told.values() for one in each]
    figures: dict[str, float | None] = {}
    for rule, values in (
        ("informed_even", [one.even for one in every]),
        ("informed", [one.sure for one in every]),
    ):
        figures[f"{rule}:returned_feasible"] = _share([value is not None for value in values])
        figures[f"{rule}:returned_near"] = _share([near(value) for value in values])
    figures["decidable"] = _share([near(one.even) for one in every])
    ours = [
        as_good(race, one)
        for workload, each in told.items()
        for race, one in zip(results.get((workload, OURS), ()), each, strict=False)
    ]
    figures["as_informed"] = _share(ours) if ours else None
    left = decidable(results, told)
    by_search = dict[str, list[Race]]()
    for (_, search), races in left.items():
        by_search.setdefault(search, []).extend(races)
    found = dict[str, float | None]()
    for search, races in by_search.items():
        found[f"{search}:near_reached"] = reached(races, "near")
        found[f"{search}:returned_near"] = returned(races, "near")
    found |= compared(left)
    return figures | {f"decidable:{name}": value for name, value in found.items()}


def show_decidable(results: Results, told: Told) -> None:
    """The ratios, to be read."""
    left = decidable(results, told)
    if left:
        print("\nOf the instances whose sample tells a plan near the best:")
        show_ratios(left)


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)
