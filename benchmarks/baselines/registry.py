"""Every search that is raced, and the settings it is tuned over.

The grids are the tuning budget: at each workload every setting runs on a tuning seed, the better
half on a second, the best of those on a third (`Heats.tuned`). The first is what `--quick` takes.
Sample sizes are in rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from octans.ir.slo import Slo
from octans.planner.search.protocol import Space
from octans.planner.search.similarity.warm_start import WarmStart

from ..racing.race import Racer

Settings = Mapping[str, int | float | str | bool]


@dataclass(frozen=True)
class Entry:
    """A search: where its class is (imported when it is run), and its grid.

    `options` names the class in the same module that its settings are made into, where it takes
    them as one argument.
    """

    module: str
    name: str
    grid: Sequence[Settings]
    options: str | None = None

    def load(self) -> Any:
        """The class; whatever library it needs is imported."""
        return getattr(import_module(self.module, __package__), self.name)

    def make(
        self,
        space: Space,
        slo: Slo,
        rows: int,
        seed: int,
        settings: Settings,
        prior: WarmStart | None = None,
    ) -> Racer:
        """A fresh search; only our own takes a prior."""
        given: dict[str, Any] = dict(settings)
        if self.options is not None:
            module = import_module(self.module, __package__)
            given = {"settings": getattr(module, self.options)(**settings)}
        if prior is not None:
            given["prior"] = prior
        made: Racer = self.load()(space, slo, rows=rows, seed=seed, **given)
        return made


def _grid(*settings: Settings) -> tuple[dict[str, Any], ...]:
    """Every setting with every sample size of `SAMPLES`."""
    return tuple({"sample": sample, **each} for each in settings for sample in SAMPLES)


SAMPLES = (100, 400, 1600)
OURS = "octans"
TOOLS = ("optuna_tpe", "optuna_gp", "smac", "botorch")
SEARCHES: dict[str, Entry] = {
    "exhaustive": Entry(".enumeration", "Exhaustive", _grid({})),
    "random": Entry(".enumeration", "Random", _grid({})),
    "videostorm": Entry(
        ".videostorm",
        "VideoStorm",
        _grid({"beta": 0.1, "patience": 10}, {"beta": 0.5, "patience": 30}),
    ),
    "vulcan": Entry(
        ".vulcan",
        "Vulcan",
        _grid(
            {"initial": 10, "gamma": 0.5, "weight": 0.3, "penalty": 10.0},
            {"initial": 10, "gamma": 0.5, "weight": 0.3, "penalty": 1.0},
        ),
    ),
    "bandit": Entry(".bandit", "Bandit", _grid({"k": 6, "step": 20}, {"k": 16, "step": 50})),
    "optuna_tpe": Entry(
        ".optuna_samplers",
        "Optuna",
        _grid({"sampler": "tpe", "initial": 10}, {"sampler": "tpe", "initial": 20}),
    ),
    "optuna_gp": Entry(
        ".optuna_samplers",
        "Optuna",
        _grid({"sampler": "gp", "initial": 10}, {"sampler": "gp", "initial": 20}),
    ),
    "smac": Entry(
        ".smac3",
        "Smac",
        _grid({"initial": 10, "penalty": 10.0}, {"initial": 10, "penalty": 2.0}),
    ),
    "botorch": Entry(".constrained", "Constrained", _grid({"initial": 10}, {"initial": 20})),
}
BASELINES = tuple(SEARCHES)
SEARCHES[OURS] = Entry("octans.planner.search.learned", "LearnedSearch", ({},), "Settings")
