"""SMAC3's hyperparameter optimisation facade, by its ask-and-tell interface.

[Lindauer et al. 2022, "SMAC3: A Versatile Bayesian Optimization Package for Hyperparameter
Optimization", JMLR]: random forest, log expected improvement, local search. It has no constraints
on what is only known by evaluating; its documentation leaves a penalty to the target function: the
log of the objective (a dim) plus `penalty` times the sum of how far past the limits, as an exp,
since SMAC takes the log of costs itself. The penalty is tuned. Parameters are ordinal where their
values are ordered numbers, else categorical; a plan proposed again in other parameters is told what
is known of it.
"""

from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path

from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace, OrdinalHyperparameter
from octans.ir.slo import Slo
from octans.planner.search.protocol import Assignment, Evaluation, Space
from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory.dataclasses import TrialInfo, TrialValue

from .plans import Baseline, Encoding, margin

TRIALS = 100_000
"""More than any budget allows: the driver ends the search."""


class Smac(Baseline):
    """SMAC with a penalty for what is past its limit."""

    def __init__(
        self,
        space: Space,
        slo: Slo,
        *,
        rows: int,
        seed: int,
        sample: int,
        initial: int,
        penalty: float,
    ) -> None:
        super().__init__(space, slo, rows=rows, seed=seed, sample=sample)
        self.penalty = penalty
        self._encoding = Encoding(space)
        self._info: TrialInfo | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._smac = self._facade(seed, initial)

    def _facade(self, seed: int, initial: int) -> HyperparameterOptimizationFacade:
        configurations = ConfigurationSpace(seed=seed)
        for place, parameter in enumerate(self._encoding.parameters):
            kind = OrdinalHyperparameter if parameter.ordered else CategoricalHyperparameter
            configurations.add(kind(str(place), list(range(len(parameter.values)))))
        scenario = Scenario(
            configurations,
            deterministic=True,
            n_trials=TRIALS,
            seed=seed,
            output_directory=Path(self._folder.name),
        )
        return HyperparameterOptimizationFacade(
            scenario,
            _never,
            initial_design=HyperparameterOptimizationFacade.get_initial_design(
                scenario, n_configs=initial
            ),
            overwrite=True,
            logging_level=logging.ERROR,
        )

    def propose(self) -> Assignment | None:
        """What SMAC suggests, if it is new."""
        while True:
            try:
                self._info = info = self._smac.ask()
            except StopIteration:
                return None
            places = range(len(self._encoding.parameters))
            plan = self._encoding.decode([int(info.config[str(place)]) for place in places])
            if plan not in self.seen:
                return plan
            self._told(plan)

    def tell(self, evaluation: Evaluation) -> None:
        """Tell the trial that asked for it."""
        super().tell(evaluation)
        self._told(evaluation.assignment)

    def _told(self, plan: Assignment) -> None:
        if self._info is None:
            return
        metrics = self.seen[plan].metrics
        past = sum(max(margin(c, metrics), 0.0) for c in self.slo.constraints)
        cost = math.exp(min(self.loss(plan) + self.penalty * past, 700.0))
        self._smac.tell(self._info, TrialValue(cost=cost), save=False)
        self._info = None


def _never(config: object, seed: int = 0) -> float:
    """SMAC asks for a target function; by ask and tell it is not called."""
    raise AssertionError("called by ask and tell")
