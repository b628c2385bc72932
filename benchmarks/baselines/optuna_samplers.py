"""Optuna's samplers, by its ask-and-tell interface, with constraints as its documentation has them.

Every parameter of a plan is a parameter of the trial: an integer where its values are ordered
numbers, else categorical; `Encoding` says which plan a combination stands for that is none. The
objective is modelled as the log of a dim. A plan proposed again is not profiled again: the trial is
told what is known of it, and after `AGAIN` such trials a plan drawn at random is enqueued, as
Optuna's page on duplicate trials advises to go on from there (the number is our choice).
"""

from __future__ import annotations

import warnings

import optuna
from octans.ir.slo import Slo
from octans.planner.search.protocol import Assignment, Evaluation, Space

from .plans import Baseline, Encoding, Parameter, Shuffle, margin

AGAIN = 10
"""Trials in a row that may propose what is known."""


class Optuna(Baseline):
    """A study with one of Optuna's samplers: `tpe` or `gp`."""

    def __init__(
        self,
        space: Space,
        slo: Slo,
        *,
        rows: int,
        seed: int,
        sample: int,
        initial: int,
        sampler: str,
    ) -> None:
        super().__init__(space, slo, rows=rows, seed=seed, sample=sample)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        kinds = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}
        made = kinds[sampler](seed=seed, n_startup_trials=initial)
        self._study = optuna.create_study(sampler=made, direction="minimize")
        self._encoding = Encoding(space)
        self._random = Shuffle(space, self.rng)
        self._trial: optuna.Trial | None = None

    def propose(self) -> Assignment | None:
        """What the sampler suggests, if it is new."""
        for _ in range(AGAIN):
            plan = self._suggested()
            if plan not in self.seen:
                return plan
            self._told(plan)
        drawn = next((plan for plan in self._random if plan not in self.seen), None)
        if drawn is None:
            return None
        picks = self._encoding.encode(drawn)
        self._study.enqueue_trial(
            {_name(p): pick for p, pick in zip(self._encoding.parameters, picks, strict=True)}
        )
        return self._suggested()

    def _suggested(self) -> Assignment:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._trial = trial = self._study.ask()
            return self._encoding.decode([_suggest(trial, p) for p in self._encoding.parameters])

    def tell(self, evaluation: Evaluation) -> None:
        """Tell the trial that asked for it."""
        super().tell(evaluation)
        self._told(evaluation.assignment)

    def _told(self, plan: Assignment) -> None:
        if self._trial is None:
            return
        for at, constraint in enumerate(self.slo.constraints):
            past = margin(constraint, self.seen[plan].metrics)
            self._trial.set_constraint(f"{at} {constraint.metric}", past)
        self._study.tell(self._trial, self.loss(plan))
        self._trial = None


def _name(parameter: Parameter) -> str:
    return f"{parameter.stage} {parameter.name}"


def _suggest(trial: optuna.Trial, parameter: Parameter) -> int:
    """The place of the value suggested."""
    last = len(parameter.values) - 1
    if parameter.ordered:
        return trial.suggest_int(_name(parameter), 0, last)
    return int(trial.suggest_categorical(_name(parameter), range(last + 1)))
