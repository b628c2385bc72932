"""Every workload by name: an `Environment` from a name and a seed.

The SLO of an instance is drawn from the seed, by quantiles of what plans truly do: of 50,000 plans
drawn uniformly, the limit on accuracy is a quantile between 0.90 and 0.99 of their accuracies, and
the second limit (on a dim drawn among those that are not the objective) is a quantile between 0.1
and 0.5 of that dim over the plans that meet the first. So between 0.1 % and 5 % of all plans are
feasible, by construction of the rule and for no search's sake. The objective is `cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from octans.ir.slo import Constraint, Objective, Slo

from . import applications
from .best import accuracies, plan_numbers
from .environment import Environment
from .world import COST, LATENCY, Floats, World

DRAWN_PLANS = 50_000
APPLICATIONS: Mapping[str, Callable[[Path, np.random.Generator], World]] = {
    "speech": applications.speech,
}
NAMES = tuple(APPLICATIONS)


def environment(name: str, seed: int, data: Path) -> Environment:
    """The workload's draw for a seed; `data` is a folder with the public data sets."""
    rng = np.random.default_rng([seed, *name.encode()])
    return made(name, APPLICATIONS[name](data, rng), rng, seed)


def made(name: str, world: World, rng: np.random.Generator, seed: int) -> Environment:
    """A world with an SLO drawn for it."""
    accuracy = accuracies(world)
    return Environment(name, world, drawn_slo(world, accuracy, rng), seed, accuracy)


def drawn_slo(world: World, accuracy: Floats, rng: np.random.Generator) -> Slo:
    """See the module."""
    right, dims = drawn_plans(world, accuracy, rng)
    floor = float(np.quantile(right, rng.uniform(0.90, 0.99)))
    others = [dim for dim in (LATENCY, *world.sums) if dim != COST]
    dim = others[int(rng.integers(len(others)))]
    cap = float(np.quantile(dims[dim][right >= floor], rng.uniform(0.1, 0.5)))
    limits = (Constraint("accuracy", ">=", floor), Constraint(dim, "<=", cap))
    return Slo(limits, Objective(COST))


def drawn_plans(
    world: World, accuracy: Floats, rng: np.random.Generator, count: int = DRAWN_PLANS
) -> tuple[Floats, dict[str, Floats]]:
    """Accuracies and dims of plans drawn uniformly."""
    chosen = np.column_stack([rng.integers(len(s.options), size=count) for s in world.stages])
    return plan_numbers(world, accuracy, chosen)
