"""What the plan of ANALYZE … SEARCH rests on is measured again where it is stale.

A search measures the choices of its best plans; a query may get another one by numbers of before
the files changed. So the plan that a query would get is measured too, until it rests on nothing
stale or nothing is left to spend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .analyzing import SEARCH_ROWS, body_plan
from .choosing import choice_of
from .dsl.binder import BoundAnalyze
from .errors import PlanError, RunError
from .planner.explain.advice import advice_text

if TYPE_CHECKING:
    from .ir.physical import Choice, Stage
    from .searching import Found
    from .session import Session
    from .stats.observation import Observation
    from .stats.prefixes import Recall
    from .stats.profile import Limits, ProfileResult, Request
    from .stats.strategy import Strategy


def renewed(
    session: Session,
    bound: BoundAnalyze,
    found: Found,
    result: ProfileResult,
    recall: Recall,
    limits: Limits,
    strategy: Strategy,
    keep: list[Observation],
) -> tuple[Found, ProfileResult]:
    """Measure what is stale of the plan that a query gets, and of the one that it gets then.

    Args:
        session: whose statistics.
        bound: the statement.
        found: what the search came to; what is spent before the last measuring is counted here.
        result: what measuring it came to.
        recall: runs the pieces.
        limits: of the whole statement.
        strategy: of measuring.
        keep: what was measured so far; gets the observations.
    """
    from .stats.profile import profile

    tried = {(key, _one(c)) for key, own in found.request.choices.items() for c in own}
    while result.stopped is None and found.ended is None:
        try:
            given = choice_of(session, bound, keep)
        except PlanError:
            break
        stale = {(s.step, _one(s.choice)) for s in given.stages if s.step in given.stale}
        if stale <= tried:
            break
        tried |= stale
        spent = replace(found, seconds=found.seconds + result.seconds, usd=found.usd + result.usd)
        plan = advice_text(given.pick.chosen.choices)
        why = ", ".join(dict.fromkeys(given.stale.values()))
        note = f"by stale statistics ({why}) a query would have got {plan}: measured again"
        try:
            more = profile(
                _request(session, bound, found.request, given.pick.physical.stages),
                recall,
                limits=spent.left(limits),
                strategy=strategy,
                keep=keep,
                clock=recall.clock,
                prefixes=recall,
            )
        except RunError as error:
            result = replace(result, notes=(*result.notes, f"{note} in vain: {error.message}"))
            continue
        found = spent
        result = replace(
            more,
            left_out=(*result.left_out, *more.left_out),
            notes=tuple(dict.fromkeys((*result.notes, note, *more.notes))),
            decided=tuple(dict.fromkeys((*result.decided, *more.decided))),
            saved=result.saved,
            sure={**result.sure, **more.sure},
        )
    return found, result


def _one(choice: Choice) -> Choice:
    """What is measured of it: every batch size begins at 1."""
    return choice.replace(batch=1, replicas=1)


def _request(
    session: Session, bound: BoundAnalyze, request: Request, stages: Sequence[Stage]
) -> Request:
    """The request with the choices of these stages alone."""
    choices: dict[str, tuple[Choice, ...]] = {}
    for stage in stages:
        choices[stage.step] = (*choices.get(stage.step, ()), _one(stage.choice))
    last = {key: members[-1] for key, members in choices.items()}
    body = bound.body(SEARCH_ROWS)
    return replace(request, plan=body_plan(session, body, last), choices=choices)
