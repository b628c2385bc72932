"""Rows that fail never answer: what that does to latency, accuracy and the choice of plans."""

import math
import random

import octans
import pytest
from hypothesis import given
from hypothesis import strategies as st
from octans.cost.compose import service_seconds
from octans.errors import PlanError
from octans.ir.estimates import Estimate
from octans.ir.logical import Apply, ModelCall
from octans.ir.models import Model, Variant
from octans.ir.slo import Constraint, Slo
from octans.ir.types import Field
from octans.planner.problem import build_problem
from octans.planner.search.exact import solve
from test_cost_problem import CPU, EASY, MODELS, VARIANTS, FakeStats, column, exact, source

P95 = Slo((Constraint("latency_p95", "<=", 100.0),))


def around(share, n=400):
    return Estimate(share, max(share - 0.01, 0.0), share + 0.01, n)


def one_step(model="easy"):
    return Apply(
        source("xs"), ModelCall(model, (column("xs"),), f"p.{model}"), (Field("d", "INT"),)
    )


def stats(**failures):
    found = FakeStats(failures={f"easy.{name}": around(share) for name, share in failures.items()})
    for variant, knobs in (("easy.a", ""), ("easy.b", "trees := 10"), ("easy.b", "trees := 100")):
        found.seconds[variant, knobs, "cpu", 1] = 0.01
        found.qualities[variant, knobs] = 0.9
    return found


def build(plan, known, slo, **kwargs):
    return build_problem(
        plan, slo=slo, stats=known, models=MODELS, variants=VARIANTS, devices=(CPU,),
        rows=exact(1000.0), **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("share", "left"), [(0.0, True), (0.049, True), (0.051, False), (0.4, False)]
)
def test_more_failures_than_the_quantile_leaves_out_are_infeasible(share, left):
    """However fast the survivors: at p95 that is 5 % of the rows of a single step."""
    built = build(one_step(), stats(a=share), P95)
    assert ("easy.a" in {choice.variant for choice in built.stages[0].choices}) == left
    reasons = [e.reason for e in built.excluded if e.code == "failures"]
    assert bool(reasons) != left
    assert all("5.00% of the rows" in reason and "never answers" in reason for reason in reasons)


def test_several_steps_share_what_the_quantile_leaves_out():
    """Two steps leave each other 2.5 %, as for slow rows: the bound stays a bound."""
    plan = one_step()
    plan = Apply(plan, ModelCall("hard", (column("d"),), "p.hard"), (Field("e", "INT"),))
    known = stats(a=0.03)
    known.seconds["hard.c", "", "cpu", 1] = 0.01
    built = build(plan, known, P95)
    assert "easy.a" not in {choice.variant for choice in built.stages[0].choices}


def test_survivors_are_taken_at_a_higher_quantile():
    built = build(one_step(), stats(a=0.04), P95)
    steady = build(one_step(), stats(), P95)
    chosen = next(i for i, c in enumerate(built.stages[0].choices) if c.variant == "easy.a")
    assert built.problem.value("latency_p95", (chosen,)) > steady.problem.value(
        "latency_p95", (chosen,)
    )
    cost, _ = built.cost((chosen,))
    assert cost.latency_p95.value == pytest.approx(built.problem.value("latency_p95", (chosen,)))
    assert cost.latency_p95.high == math.inf, "5 % lies within what 400 rows leave open"
    assert cost.latency_p99 is None, "more rows fail than p99 leaves out: it does not exist"


def test_without_a_latency_limit_such_a_choice_is_still_one():
    built = build(one_step(), stats(a=0.2), Slo((Constraint("accuracy", ">=", 0.5),)))
    assert "easy.a" in {choice.variant for choice in built.stages[0].choices}
    assert "p.easy: easy.a failed on 20.00% of the elements measured" in built.notes


def test_what_failures_take_counts_in_every_total():
    """One call in ten hangs for 2 s: with 10 ms of the others 209 ms a row, and their price."""
    slo = Slo((Constraint("wall", "<=", 1e6), Constraint("cost", "<=", 1.0)))
    known = stats(a=0.1)
    known.lost["easy.a", "", "cpu", 1] = 0.1 * 2.0
    built = build(one_step(), known, slo)
    (at,) = (i for i, c in enumerate(built.stages[0].choices) if c.variant == "easy.a")
    cost, steps = built.cost((at,))
    assert steps["p.easy"].busy.value == pytest.approx(0.9 * 0.01 + 0.1 * 2.0)
    assert cost.wall.value == pytest.approx(1000 * 0.209)
    assert cost.total_cost.value == pytest.approx(1000 * 0.209 * CPU.usd_per_hour / 3600)
    assert solve(built.problem).assignment != (at,), "the survivors' 10 ms are not what it takes"


def test_a_model_without_quality_is_right_where_it_answers():
    """Failed rows are wrong, whether or not answers are graded."""
    plain = Model("easy", EASY.inputs, EASY.outputs)
    known = stats(a=0.2)
    known.qualities.clear()
    built = build_problem(
        one_step(), slo=Slo(), stats=known, models={"easy": plain},
        variants={"easy": (Variant("easy", "a", None),)}, devices=(CPU,), rows=None,
    )  # fmt: skip
    assert built.cost((0,))[0].accuracy.value == pytest.approx(0.8)


@given(st.floats(0, 0.5), st.floats(0.5, 1.0), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_enough_of_all_rows_answer_in_time(fails, run, level):
    """Against the law itself: exponential times, so that P(answered by t) is known."""
    seconds = service_seconds(lambda at: -math.log1p(-at), 1, None, level, run, fails)
    if seconds == math.inf:
        assert run * fails >= 1 - level - 1e-9
        return
    late = run * (fails + (1 - fails) * math.exp(-seconds))
    assert late <= 1 - level + 1e-9
    if seconds > 0:
        assert late == pytest.approx(1 - level, abs=1e-9), "and no more than asked for"


def test_elements_fail_their_row():
    """A list fails as one: 1 - (1 - f)^L of the rows never answer."""
    lengths = ((4, 1.0),)
    at = service_seconds(lambda level: level, 4, lengths, 0.9, 1.0, 0.02)
    failed = 1 - 0.98**4
    assert at == pytest.approx(1 - (0.1 - failed) / (1 - failed))
    assert service_seconds(lambda level: level, 4, lengths, 0.9, 1.0, 0.03) == math.inf


def test_more_failures_never_make_a_row_faster():
    rng = random.Random(3)
    for _ in range(200):
        few, many = sorted((rng.random() / 10, rng.random() / 10))
        args = (lambda at: at, 2, ((1, 0.5), (3, 0.5)), 0.9, rng.random())
        assert service_seconds(*args, few) <= service_seconds(*args, many)


# --- imported measurements -----------------------------------------------------------------------


@pytest.fixture
def imported():
    """Two variants measured elsewhere; the fast one lost a tenth of its calls at batch 8."""
    with octans.connect() as session:
        session.sql(
            """
            CREATE DEVICE cpu (KIND cpu, PRICE 1 USD PER HOUR);
            CREATE MODEL m (x BIGINT) RETURNS (y BIGINT);
            CREATE VARIANT m.fast USING python('nowhere:fast');
            CREATE VARIANT m.sure USING python('nowhere:sure');
            INSERT INTO octans.observations
              (subject, variant, device, batch, metric, statistic, value, n, n_failed)
            SELECT 'm', variant, 'cpu', batch, 'latency', statistic, value, n, n_failed
            FROM (VALUES ('m.fast', 1, 0.010, 1000, 0), ('m.fast', 8, 0.011, 900, 100),
                         ('m.sure', 1, 0.030, 1000, 0), ('m.sure', 8, 0.040, 1000, 0))
                 v(variant, batch, value, n, n_failed),
                 (VALUES ('mean'), ('p50'), ('p95'), ('p99')) s(statistic);
            """
        )
        yield session


QUERY = "SELECT m(range) FROM range(100) WITH SLO ({}) MINIMIZE cost ON ERROR NULL"


def chosen(session, constraint):
    return session.explain(QUERY.format(constraint)).advice


def test_imported_failures_count_for_their_batch_size(imported):
    assert "m.fast" in chosen(imported, "latency_p50 <= 50 ms")
    assert "BATCH(m 8)" in chosen(imported, "latency_p50 <= 50 ms")
    within = chosen(imported, "latency_p95 <= 50 ms")
    assert ("m.fast" in within, "BATCH(m 8)" in within) == (False, True)


def test_imported_failures_are_told_by_why_not(imported):
    imported.sql(
        "INSERT INTO octans.observations (subject, variant, device, metric, statistic, value, n) "
        "SELECT 'm', 'm.fast', 'cpu', 'failure', 'share', 0.1, 500"
    )
    explained = imported.sql(
        "EXPLAIN (WHY NOT m.fast) " + QUERY.format("latency_p95 <= 50 ms")
    ).explanation()
    assert any("failed on 10.00% of the elements measured" in line for line in explained.why_not)


def test_on_error_fail_takes_no_choice_that_failed(imported):
    explained = imported.explain("SELECT m(range) FROM range(100) WITH SLO () MINIMIZE cost")
    assert "m.sure" in explained.advice


def test_a_failure_share_that_was_measured_beats_the_counts(imported):
    imported.sql(
        "INSERT INTO octans.observations (subject, variant, device, metric, statistic, value, n) "
        "SELECT 'm', 'm.fast', 'cpu', 'failure', 'share', 0.001, 5000"
    )
    assert "m.fast" in chosen(imported, "latency_p95 <= 50 ms")


def test_where_everything_fails_too_often_the_error_says_so(imported):
    imported.sql("DROP VARIANT m.sure")
    imported.sql(
        "INSERT INTO octans.observations (subject, variant, device, metric, statistic, value, n) "
        "SELECT 'm', 'm.fast', 'cpu', 'failure', 'share', 0.07, 500"
    )
    with pytest.raises(PlanError) as caught:
        chosen(imported, "latency_p95 <= 50 ms")
    assert caught.value.code == "OC0314"
    assert "failed on 7.00%" in " ".join(caught.value.notes)
