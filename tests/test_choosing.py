"""The plan that ANALYZE … SEARCH names in the end: the planner's, and why it is no other one."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pytest
import session_world
from octans import analyzing, choosing, proving
from octans.catalog_db.histories import Histories
from octans.dsl.binder import bind_analyze
from octans.dsl.parser import parse_one
from octans.ir.physical import Cascade, Choice
from octans.planner.explain.picked import picked
from octans.planner.optimize import Pick
from octans.planner.promises import Promise
from octans.stats.decide import Judge
from octans.stats.promise import Proof
from octans.stats.series import Piece, Series
from octans.stats.strategy import Strategy

TUNED = (("accuracy", 0.92),)
LESS = (("accuracy", 0.85),)


@pytest.fixture
def session():
    """Known statistics: ± 2 % each, 400 rows; guess.best at batch 16 costs 13 % more than tuned."""
    with session_world.connect(measured=False) as session:
        rows = [
            ("guess.cheap", "", "cpu", 0.001, 0.80, 1e6),
            ("guess.tuned", "accuracy := 0.85", "cpu", 0.003, 0.895, 1e6),
            ("guess.tuned", "accuracy := 0.92", "cpu", 0.008, 0.93, 1e6),
            ("guess.best", "", "cpu", 0.009, 0.99, 4e8),
        ]
        session_world.insert(session, session_world.observations({"guess": rows}))
        yield session


def bound(session, slo="(accuracy >= 0.9)"):
    text = f"ANALYZE MODEL guess USING (SELECT id AS x FROM numbers) SEARCH WITH SLO {slo}"
    return bind_analyze(parse_one(text), session.catalog)


def told(session, slo="(accuracy >= 0.9)", looked=None, earlier=None, sure=None, *, ended=False):
    if looked is not None:
        looked = choosing.Looked({"guess": looked}, 300, "rows")
    if earlier is not None:
        earlier = {"guess": earlier}
    found = choosing.chosen(
        session,
        bound(session, slo),
        1,
        looked=looked,
        earlier=earlier,
        sure=sure or {},
        ended=ended,
    )
    return list(found)


def choice(variant, knobs=(), batch=16, device="cpu"):
    return Choice(f"guess.{variant}", knobs, batch, device)


BEST = choice("tuned", TUNED)
NAMED = (
    "best plan: VARIANT(guess guess.tuned accuracy=0.92) BATCH(guess 16) DEVICE(guess cpu): "
    "cost $1.25e-7 [1.22e-7, 1.27e-7] n = 400, accuracy 93.0 % [91.1, 94.9] n = 400"
)


def test_the_same_plan_needs_no_word(session):
    assert told(session, looked=BEST, earlier=BEST) == [NAMED]
    assert choosing.before(session, bound(session)) == {"guess": BEST}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (choice("best"), "lost by cost $1.41e-7 against $1.25e-7, +12 %"),
        (choice("tuned", TUNED, 1), "lost by cost $8.00e-7 against $1.25e-7, +540 %"),
        (choice("cheap"), "misses accuracy >= 0.9"),
        (choice("tuned", (("accuracy", 0.85),)), "misses accuracy >= 0.9 (too close to tell)"),
    ],
)
def test_another_plan_is_told_with_its_numbers_and_what_it_lost_by(session, other, why):
    first, line = told(session, looked=other)
    assert first == NAMED
    assert line.startswith("the search's own best (guess: ")
    assert " n = 400, accuracy " in line
    assert line.endswith(f"; {why}")


def test_a_plan_that_flips_is_told_with_the_reason(session):
    """Once, where the search would have taken the one before too."""
    _, line = told(session, looked=BEST, earlier=choice("best"))
    assert line.startswith("the plan before this search (guess: guess.best")
    assert len(told(session, looked=choice("best"), earlier=choice("best"))) == 2


def test_two_plans_within_noise_are_said_to_be_so(session):
    rows = [("guess.best", "", "cpu", 0.0081, 0.99, 4e8)]
    session_world.insert(session, session_world.observations({"guess": rows}))
    _, rival = told(session, looked=BEST)
    assert rival.startswith(
        "the runner-up (guess: guess.best · batch 16 · cpu instead of guess.tun"
    )
    assert rival.endswith("; lost by cost $1.27e-7 against $1.25e-7, +1.3 %: too close to tell")
    (_, line) = told(session, looked=choice("best"))
    assert line == rival.replace("the runner-up", "the search's own best")


def test_a_limit_that_the_interval_passes_is_not_called_met(session):
    _, line = told(session, "(accuracy >= 0.92)")
    assert line == (
        "whether it meets accuracy >= 0.92 is too close to tell: 95 % interval [91.1, 94.9]"
    )


def test_what_a_test_has_decided_is_not_called_too_close_to_tell(session):
    """Its answer, on one side, stands in the same table; a two-sided interval may be wider."""
    sure = {"guess=guess.tuned(accuracy := 0.92)": True}
    assert len(told(session, "(accuracy >= 0.92)", sure=sure)) == 1
    sure = {"guess=guess.tuned(accuracy := 0.85)": False}
    _, line = told(session, looked=choice("tuned", LESS), sure=sure)
    assert line.endswith("; misses accuracy >= 0.9")


def test_the_nearest_batch_size_that_was_measured_stands_for_another(session):
    _, line = told(session, looked=choice("best", (), 64))
    assert line.startswith("the search's own best (guess: guess.best · batch 16 · cpu instead of ")
    _, line = told(session, looked=choice("tuned", TUNED, 64))
    assert line == (
        "the search's own best was VARIANT(guess guess.tuned accuracy=0.92) BATCH(guess 64) "
        "DEVICE(guess cpu): measuring took other batch sizes"
    )


def test_what_was_not_measured_cannot_be_compared(session):
    _, line = told(session, looked=choice("best", device="big"))
    assert line == (
        "the search's own best was VARIANT(guess guess.best) BATCH(guess 16) DEVICE(guess big): "
        "excluded: no statistics (no latency of guess.best on big was measured)"
    )


def test_what_was_measured_and_may_not_be_chosen_is_told_with_the_reason(session):
    """As WHY NOT tells it."""
    columns = {"subject": ["guess"], "variant": ["guess.cheap"], "knobs": [""], "device": ["cpu"]}
    share = {"metric": ["failure"], "statistic": ["share"], "value": [0.11], "n": [400]}
    batch = pa.array([None], pa.int64())
    session_world.insert(session, pa.table({**columns, **share, "batch": batch}))
    _, line = told(session, looked=choice("cheap"))
    assert line == (
        "the search's own best was VARIANT(guess guess.cheap) BATCH(guess 16) DEVICE(guess cpu): "
        "excluded: it fails (guess.cheap failed on 11.00% of the elements measured, and ON ERROR "
        "FAIL stops at the first)"
    )


def cascade(threshold, batch=16):
    return Cascade("guess.best", (), batch, earlier=(choice("cheap"),), thresholds=(threshold,))


def test_a_cascade_whose_threshold_was_fitted_anew_was_measured(session):
    """Another threshold of the same members is the same cascade as far as that can be known."""
    pick = choosing.choice_of(session, bound(session)).pick
    (stage,) = pick.problem.stages
    options = (*stage.choices, cascade(0.5), cascade(0.8), cascade(0.8, 64))
    problem = SimpleNamespace(stages=(SimpleNamespace(step=stage.step, choices=options),))
    nearest = replace(pick, problem=problem).nearest
    assert nearest("guess", cascade(0.9)) == cascade(0.8)
    assert nearest("guess", cascade(0.6, 128)) == cascade(0.5)
    assert nearest("guess", cascade(0.8, 128)) == cascade(0.8, 64)
    assert nearest("guess", cascade(0.8).replace(device="big")) is None


def test_a_cascade_is_told_with_what_changed_of_it(session, monkeypatch):
    pick = choosing.choice_of(session, bound(session)).pick
    monkeypatch.setattr(Pick, "priced", lambda self, choices: self.chosen)
    _, line = picked(pick, "best plan", {"the search's own best": {"guess": cascade(0.9)}}, {})
    assert line.endswith(": its threshold was fitted anew")


def test_where_no_query_gets_a_plan_the_search_speaks(session):
    """Out of reach, or measured of nothing."""
    (line,) = told(session, "(accuracy >= 0.999)", looked=choice("best"), ended=True)
    assert line.startswith("best plan so far: VARIANT(guess guess.best) BATCH(guess 16) DEVICE(")
    assert "; looked at on 300 rows; a query gets no plan: no plan reaches accuracy" in line
    assert told(session, "(accuracy >= 0.999)") == []
    with session_world.connect(measured=False) as empty:
        assert choosing.before(empty, bound(empty)) is None
        assert (
            "a query gets no plan: no statistics for any variant of guess"
            in told(empty, looked=BEST)[0]
        )


def test_a_limit_that_soft_loosens_is_met_as_far_as_that(session):
    """As EXPLAIN says: within the margin it is met."""
    assert len(told(session, "(accuracy >= 0.95 SOFT 10 %)")) == 1
    _, line = told(session, "(accuracy >= 0.95 SOFT 3 %)")
    assert line.startswith("whether it meets accuracy >= 0.95 SOFT 3 % is too close to tell")
    *_, line = told(session, "(accuracy >= 0.95 SOFT 4.5 %)", looked=choice("cheap"))
    assert line.endswith("; misses accuracy >= 0.95 SOFT 4.5 %")
    *_, line = told(session, "(accuracy >= 0.95 SOFT 4.5 %)", looked=choice("tuned", LESS))
    assert line.endswith("; misses accuracy >= 0.95 SOFT 4.5 % (too close to tell)")


def test_what_soft_allows_is_not_stopped_as_too_inaccurate(session):
    """What is enough is enough at the limit itself: beyond it SOFT takes a penalty."""
    aim = analyzing.aim_of(bound(session, "(accuracy >= 0.95 SOFT 20 %)").slo)
    assert (aim.accuracy, aim.least) == (0.95, pytest.approx(0.76))
    proved = analyzing.aim_of(bound(session, "(accuracy >= 0.9 AT CONFIDENCE 0.9)").slo)
    assert (proved.accuracy, proved.least) == (0.9, None)
    judge = Judge(Strategy(), 0.95)
    piece = Piece([float(i % 5 != 0) for i in range(128)], range(128), True)
    seen = Series((piece,))
    assert judge.against(seen, aim.accuracy, 128).short
    assert judge.against(seen, aim.accuracy, 128, above=True, least=aim.least) is None


class Earlier:
    """Stands for `proving.Prover`: what earlier tests say of variants."""

    def __init__(self, monkeypatch, **bounds):
        self.bounds = bounds
        monkeypatch.setattr(proving, "Prover", lambda _, constraint, *rest: self.of(constraint))

    def of(self, constraint):
        self.constraint = constraint
        return self

    def known(self, plan):
        variant = plan.choices["guess"].variant.removeprefix("guess.")
        if variant not in self.bounds:
            return None
        bound, i = self.bounds[variant], 1 + list(self.bounds).index(variant)
        proof = Proof("", variant, i, 0.1 / 2**i, 1000, 940.0, bound, True, AT, 0.5)
        return proof.judged(self.constraint.limit, "labels")

    def promise(self):
        return Promise(self.constraint, 1000, len(self.bounds), self.known, None)


AT = datetime(2026, 1, 1, tzinfo=UTC)
PROMISED = "(accuracy >= 0.9 AT CONFIDENCE 0.9)"


def test_what_earlier_tests_say_decides_which_plan_is_named(session, monkeypatch):
    """As a query decides: the first that passed or was not tested yet; none where all failed."""
    Earlier(monkeypatch)
    first, line, *_ = told(session, PROMISED)
    assert first.startswith("best plan: VARIANT(guess guess.tuned accuracy=0.92)")
    assert line.startswith(f"{PROMISED[1:-1]} is not proved yet: a query tests this plan on ")
    Earlier(monkeypatch, tuned=0.89)
    first, line, other = told(session, PROMISED, looked=BEST)
    assert first.startswith("best plan: VARIANT(guess guess.best)")
    assert "is not proved yet" in line
    assert other.endswith("; not proved on 1000 held-back rows: 0.9400, lower bound 0.8900 at "
                          "level 0.05 (test 1)")  # fmt: skip
    Earlier(monkeypatch, tuned=0.89, best=0.98)
    first, line, *_ = told(session, PROMISED)
    assert first.startswith("best plan: VARIANT(guess guess.best)")
    assert line.startswith(f"{PROMISED[1:-1]} is proved on 1000 held-back rows: 0.9400, ")
    Earlier(monkeypatch, tuned=0.89, best=0.89, cheap=0.8)
    assert told(session, PROMISED) == []


def test_a_history_has_no_best_plan_that_is_not_proved(session, monkeypatch):
    noted = []
    monkeypatch.setattr(Histories, "came_to", lambda self, run, plan, cost: noted.append(plan))
    Earlier(monkeypatch)
    told(session, PROMISED)
    assert noted == []
    Earlier(monkeypatch, tuned=0.91)
    told(session, PROMISED)
    assert [plan[:25] for plan in noted] == ["VARIANT(guess guess.tuned"]
