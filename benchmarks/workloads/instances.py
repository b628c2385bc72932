"""Every workload by name: an `Environment` from a name and a seed.

The SLO of an instance is drawn from the seed, its limits as quantiles of what plans truly do. The
objective is `cost`, in one instance of five another dim; the second limit is on a dim drawn among
the others. Of 50,000 plans drawn uniformly, the limit on accuracy is a quantile between 0.90 and
0.99 of their accuracies, and the second limit a quantile between 0.1 and 0.5 of its dim over the
plans that meet the first. So between 0.1 % and 5 % of all plans are feasible. The rule looks at no
search and at no best plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from octans.ir.slo import Constraint, Objective, Slo

from . import applications
from .best import accuracies, plan_numbers
from .cheques_replay import cheques
from .environment import Environment
from .world import COST, Floats, World

DRAWN_PLANS = 50_000
OTHER_OBJECTIVES = 0.2
APPLICATIONS: Mapping[str, Callable[[Path, np.random.Generator], World]] = {
    "speech": applications.speech,
    "tracking": applications.tracking,
    "video_qa": applications.video_qa,
    "captioning": applications.captioning,
    "code": applications.code,
    "cuad": applications.cuad,
}
CHEQUES = "cheques"
NAMES = (CHEQUES, *APPLICATIONS)


def environment(name: str, seed: int, *, data: Path | None, recording: Path) -> Environment:
    """The workload's draw for a seed.

    Args:
        name: one of `NAMES`.
        seed: all that is drawn follows from it.
        data: a folder with the public data sets; the cheques need none.
        recording: of the cheques; made there (in a minute or two) where there is none.

    Raises:
        ValueError: a workload of public data and no folder.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    if name == CHEQUES:
        return made(name, cheques(recording, rng), rng, seed)
    if data is None:
        raise ValueError(f"{name} needs a folder with the public data sets")
    return made(name, APPLICATIONS[name](data, rng), rng, seed)


def made(name: str, world: World, rng: np.random.Generator, seed: int) -> Environment:
    """A world with an SLO drawn for it."""
    accuracy = accuracies(world)
    return Environment(name, world, drawn_slo(world, accuracy, rng), seed, accuracy)


def drawn_slo(world: World, accuracy: Floats, rng: np.random.Generator) -> Slo:
    """See the module."""
    right, dims = drawn_plans(world, accuracy, rng)
    floor = float(np.quantile(right, rng.uniform(0.90, 0.99)))
    every = (*world.sums, *world.paths)
    goal = COST
    if rng.random() < OTHER_OBJECTIVES:
        goal = str(rng.choice([dim for dim in every if dim != COST]))
    dim = str(rng.choice([dim for dim in every if dim != goal]))
    cap = float(np.quantile(dims[dim][right >= floor], rng.uniform(0.1, 0.5)))
    limits = (Constraint("accuracy", ">=", floor), Constraint(dim, "<=", cap))
    return Slo(limits, Objective(goal))


def drawn_plans(
    world: World, accuracy: Floats, rng: np.random.Generator, count: int = DRAWN_PLANS
) -> tuple[Floats, dict[str, Floats]]:
    """Accuracies and dims of plans drawn uniformly."""
    chosen = np.column_stack([rng.integers(len(s.options), size=count) for s in world.stages])
    return plan_numbers(world, accuracy, chosen)
