"""The plan that a query of an analyzed subject gets: the planner's answer to ANALYZE … SEARCH.

A search believes, the planner knows: it chooses among the choices that were measured, at every
batch size that was, by statistics of many more calls. So the plan that is named in the end is the
planner's, and where the search itself, or the planner before it, would have taken another one, that
is told with the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .asking import KEPT_ROWS
from .errors import PlanError
from .ir.record import dataclass
from .knowing import knowledge, promised_subject, stale_notes, stale_steps, statistics
from .planner.explain.advice import advice_text
from .planner.explain.picked import picked
from .planner.optimize import Pick, Promise, pick
from .planner.steps import StepInfo, steps

if TYPE_CHECKING:
    from .dsl.binder import BoundAnalyze
    from .ir.physical import Choice, Stage
    from .ir.slo import Constraint
    from .session import Session
    from .stats.observation import Observation


@dataclass(frozen=True)
class Looked:
    """The plan that a search would return, as it looked at it: on so many `rows` (or clusters)."""

    choices: Mapping[str, Choice]
    rows: int
    units: str

    def text(self) -> str:
        """`VARIANT(…) …; looked at on 300 rows`."""
        return f"{advice_text(self.choices)}; looked at on {self.rows} {self.units}"


@dataclass(frozen=True)
class Given:
    """The plan that a query gets; `stale` says of steps why their numbers may no longer hold."""

    pick: Pick
    stale: Mapping[str, str]

    @property
    def stages(self) -> Sequence[Stage]:
        """What it runs, one for every member of a cascade."""
        return self.pick.physical.stages


def choice_of(session: Session, bound: BoundAnalyze, pending: Sequence[Observation] = ()) -> Given:
    """What a query of the subject on all rows of USING gets by the present statistics.

    `pending` is what was measured and is not recorded yet.

    Raises:
        PlanError: no plan of what was measured meets the SLO, or nothing was measured.
    """
    body = bound.body(f"({bound.using})")
    promised = promised_subject(bound.slo, steps(body))
    stats = statistics(session, ("",), promised=promised, pending=pending)
    known = knowledge(session, stats)

    def promise(constraint: Constraint, infos: Sequence[StepInfo]) -> Promise:
        from .proving import Prover

        # It is asked about all rows of USING, so all that were held back of them stand for it.
        return Prover(session, constraint, infos, bound.body(KEPT_ROWS)).promise()

    found = pick(body, bound.slo, known, promise)
    return Given(found, stale_steps(stats, found.physical.stages))


def before(session: Session, bound: BoundAnalyze) -> Mapping[str, Choice] | None:
    """The choices until now; None where there was no plan."""
    try:
        return choice_of(session, bound).pick.chosen.choices
    except PlanError:
        return None


def chosen(
    session: Session,
    bound: BoundAnalyze,
    run: int,
    *,
    looked: Looked | None,
    earlier: Mapping[str, Choice] | None,
    sure: Mapping[str, bool],
    ended: bool,
) -> tuple[str, ...]:
    """The plan that a query gets now, and why none of the others that were named.

    It is noted with the history that the search left, unless it has to be proved first.

    Args:
        session: whose catalog has what was measured.
        bound: the statement.
        run: its number.
        looked: the plan that the search would return; None: it saw none.
        earlier: what `before` said.
        sure: whether plans surely have the accuracy asked for or surely not, by text.
        ended: did a budget or the user end it?
    """
    label = "best plan so far" if ended else "best plan"
    try:
        now = choice_of(session, bound)
    except PlanError as error:
        if looked is None:
            return ()
        return (f"{label}: {looked.text()}; a query gets no plan: {error.message}",)
    plan = now.pick.chosen
    if now.pick.promise is None or now.pick.tested(plan) is not None:
        session.catalog.histories.came_to(run, advice_text(plan.choices), plan.cost)
    others = {} if looked is None else {"the search's own best": looked.choices}
    if earlier is not None:
        others["the plan before this search"] = earlier
    return (*picked(now.pick, label, others, sure), *stale_notes(session, now.stages, now.stale))
