"""Explanations of plans: whose numbers stand where, q-errors, flips, verdicts, the runner-up."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from octans.cost.stages import StageCost
from octans.ir.estimates import Cost, Estimate
from octans.ir.explain import NodeActuals
from octans.ir.physical import Choice, PhysicalPlan, SqlResidual, SqlScan, SqlStep, Stage, StopAfter
from octans.ir.slo import Constraint, Objective, Slo
from octans.ir.types import Field, NamedExpr, SqlExpr, column
from octans.planner.explain import why_not
from octans.planner.explain.build import Context, Ran, explain
from octans.planner.explain.flips import flips
from octans.planner.explain.planned import allows, constraint_text, misses, too_close
from octans.planner.explain.text import to_text

NOW = datetime(2026, 5, 1, tzinfo=UTC)
X = Field("x", "BIGINT")
ROWS = 1000
"""Source rows of the plans below."""


def about(value, n=100):
    return Estimate(value, value * 0.9, value * 1.1, n, "measured", NOW)


def exact(value):
    return Estimate(value, value, value, 0)


@dataclass
class Plan:
    choices: dict
    cost: Cost
    steps: dict = field(default_factory=dict)
    composition: str | None = None


@dataclass
class Planned:
    physical: PhysicalPlan
    chosen: Plan
    slo: Slo = Slo()  # noqa: RUF009
    frontier: tuple = ()
    epsilon: float = 0.0
    runner_up: Plan | None = None
    better: Plan | None = None


def step(usd, seconds=1e-3, quality=None, run=None):
    quality = None if quality is None else about(quality)
    cost = Cost(cost=about(usd), accuracy=quality, rows=run, total_cost=about(usd * ROWS))
    each, whole = about(seconds), about(seconds * ROWS)
    return StageCost(cost, each, {}, each, None, run, quality, total_busy=whole)


def plan(usd_a, usd_b, accuracy=0.96, latency=0.01, a="m.one", b="m.two", batch=8):
    """Two steps, `a` and `b`, of the model m."""
    choices = {"p.a": Choice(a, (), batch), "p.b": Choice(b, (), batch)}
    cost = Cost(
        cost=about(usd_a + usd_b), accuracy=about(accuracy), latency_p95=about(latency),
        rows=exact(ROWS),
    )  # fmt: skip
    return Plan(choices, cost, {"p.a": step(usd_a, quality=0.97), "p.b": step(usd_b)})


def stage(below, name, when=None):
    return Stage(
        below, name, "m", name, ("x",), (Field(name, "BIGINT"),), ("y",), Choice("m.one"),
        None, when,
    )  # fmt: skip


SCAN = SqlScan("SELECT x FROM t", (X,))
KEEP = SqlExpr('"p.a" > 1', ("p.a",))


def physical():
    """scan → a → filter → b → stop."""
    first = stage(SCAN, "p.a")
    kept = SqlStep(first, (column(X), column(Field("p.a", "BIGINT"))), KEEP)
    return PhysicalPlan(StopAfter(stage(kept, "p.b"), 10))


def by_title(explanation):
    return {node.title: node for node in explanation.nodes}


def explained(ran=None, **known):
    chosen = plan(1e-6, 2e-6)
    chosen.steps["p.b"] = step(2e-6, run=about(0.5))
    scans = {SCAN.fingerprint: exact(1000)}
    context = Context("SELECT …", NOW, scans=scans, **known)
    return explain(Planned(physical(), chosen), context, ran)


def test_rows_flow_from_the_scan_through_filters_to_the_limit():
    nodes = by_title(explained())
    assert nodes["scan"].rows.value == 1000
    assert nodes["p.a"].rows.value == 1000
    assert nodes["filter"].rows.value == 500
    assert nodes["p.b"].rows.value == 500
    assert nodes["stop after 10 rows"].rows.value == 10


def test_a_measured_selectivity_tells_the_filter_s_rows():
    nodes = by_title(explained(selectivity=lambda e: about(0.3) if e == KEEP else None))
    assert nodes["filter"].rows.value == pytest.approx(300)


def test_steps_cost_what_they_take_of_all_rows():
    node = by_title(explained())["p.a"]
    assert node.usd.value == pytest.approx(1e-3)
    assert node.seconds.value == pytest.approx(1.0)
    assert node.quality.value == 0.97


def test_unknown_rows_leave_seconds_and_price_unknown():
    chosen = plan(1e-6, 2e-6)
    chosen.cost = Cost(cost=about(3e-6))
    chosen.steps = {
        key: replace(step, total_busy=None, cost=replace(step.cost, total_cost=None))
        for key, step in chosen.steps.items()
    }
    explanation = explain(Planned(physical(), chosen), Context("q", NOW))
    assert all(node.rows is None for node in explanation.nodes)
    assert all(node.seconds is None and node.usd is None for node in explanation.nodes)


def test_steps_that_only_pass_columns_on_are_not_shown():
    passing = SqlStep(stage(SCAN, "p.a"), (column(Field("p.a", "BIGINT")),))
    computing = NamedExpr("z", SqlExpr('"p.a" + 1', ("p.a",)), "BIGINT")
    root = SqlResidual((SqlStep(passing, (computing,)),), "SELECT …", (X,))
    explanation = explain(Planned(PhysicalPlan(root), plan(1, 1)), Context("q", NOW))
    assert [node.title for node in explanation.nodes] == ["scan", "p.a", "compute", "sql"]
    assert explanation.nodes[2].inputs == (explanation.nodes[1].id,)


def test_a_shared_node_is_one_node_with_two_readers():
    shared = stage(SCAN, "p.a")
    root = SqlResidual((shared, stage(shared, "p.b")), "SELECT …", (X,))
    explanation = explain(Planned(PhysicalPlan(root), plan(1, 1)), Context("q", NOW))
    assert len(explanation.nodes) == 4
    assert explanation.nodes[-1].inputs == ("n1", "n2")


def run_of(rows_filter, busy_b):
    first = stage(SCAN, "p.a")
    kept = SqlStep(first, (column(X), column(Field("p.a", "BIGINT"))), KEEP)
    second = stage(kept, "p.b")
    return Ran(
        {
            SCAN.fingerprint: NodeActuals(1000, 1000),
            first.fingerprint: NodeActuals(1000, 1000, busy_seconds=1.0, cost_usd=1e-3),
            kept.fingerprint: NodeActuals(1000, rows_filter),
            second.fingerprint: NodeActuals(rows_filter, rows_filter, busy_seconds=busy_b),
        },
        Cost(accuracy=exact(0.98)),
        rows=10,
    )


def test_q_errors_tell_own_from_inherited():
    """The filter let half as many rows through; the stage above it is not to blame."""
    nodes = by_title(explained(run_of(250, 0.5)))
    assert nodes["filter"].q_rows.total == pytest.approx(2.0)
    assert nodes["filter"].q_rows.own == pytest.approx(2.0)
    assert nodes["filter"].q_rows.inherited == pytest.approx(1.0)
    above = nodes["p.b"]
    assert above.q_rows.inherited == pytest.approx(2.0)
    assert above.q_rows.own == pytest.approx(1.0)
    assert above.q_seconds.total == pytest.approx(2.0)
    assert above.q_seconds.own == pytest.approx(1.0)


def test_marks_name_the_costliest_and_the_worst_estimated_node():
    nodes = by_title(explained(run_of(250, 0.5)))
    assert nodes["filter"].marks == ("worst estimated",)
    assert "costliest" in nodes["p.b"].marks or "costliest" in nodes["p.a"].marks


def test_what_was_right_is_not_called_worst_estimated():
    nodes = explained(run_of(500, 1.0)).nodes
    assert not [node for node in nodes if "worst estimated" in node.marks]


def test_verdicts_say_no_guarantee_unless_something_is_proved():
    floor = Constraint("accuracy", ">=", 0.95, confidence=0.95)
    fast = Constraint("latency_p95", "<=", 0.005)
    planned = Planned(physical(), plan(1e-6, 2e-6), Slo((floor, fast)))
    ran = Ran({}, Cost(accuracy=exact(0.98)))
    context = Context("q", NOW, guarantees={floor: "proved on 400 rows"})
    proved, missed = explain(planned, context, ran).verdicts
    assert (proved.met, proved.guarantee, proved.actual) == (True, "proved on 400 rows", 0.98)
    assert proved.q_error == pytest.approx(2.0)
    assert (missed.met, missed.guarantee, missed.actual) == (False, "no guarantee", None)


def test_an_unknown_metric_is_neither_met_nor_missed():
    planned = Planned(physical(), plan(1, 1), Slo((Constraint("energy", "<=", 1.0),)))
    (verdict,) = explain(planned, Context("q", NOW)).verdicts
    assert verdict.met is None
    assert "unknown" in to_text(explain(planned, Context("q", NOW)))


def test_the_ends_and_the_runner_up_say_what_they_miss_and_lose_by():
    slo = Slo((Constraint("accuracy", ">=", 0.95),))
    chosen = plan(1e-6, 2e-6)
    cheap = plan(1e-6, 1e-7, accuracy=0.8, b="m.tiny")
    good = plan(1e-6, 8e-6, accuracy=0.99, b="m.big")
    planned = Planned(physical(), chosen, slo, (cheap, chosen, good), 0.01, good)
    explanation = explain(planned, Context("q", NOW, alternatives=5))
    ends = {end.label: end for end in explanation.ends}
    assert ends["cheapest"].note == "misses accuracy >= 0.95"
    assert ends["cheapest"].cost == cheap.cost
    assert ends["most accurate"].cost == good.cost
    assert explanation.runner_up.note.startswith("lost by cost $0.000009 against $0.000003")
    assert explanation.runner_up.differs == (
        "p.b: m.big · batch 8 · cpu instead of m.two · batch 8 · cpu",
    )
    assert [alternative.cost for alternative in explanation.alternatives] == [good.cost, cheap.cost]


def test_a_better_plan_that_was_not_proved_did_not_lose():
    """AT CONFIDENCE the chosen plan is the best of those proved."""
    slo = Slo((Constraint("accuracy", ">=", 0.95, confidence=0.9),))
    chosen, cheaper = plan(1e-6, 2e-6), plan(1e-6, 1e-6, b="m.less")
    planned = Planned(physical(), chosen, slo, (chosen, cheaper), 0.01, cheaper)
    note = explain(planned, Context("q", NOW)).runner_up.note
    assert note == "not proved, though it has cost $0.000002 against $0.000003, −33 %"


def test_why_not_says_that_a_better_plan_was_not_proved():
    chosen, cheaper, dearer = plan(1e-6, 2e-6), plan(1e-6, 1e-6), plan(1e-6, 3e-6)
    promised = Slo((Constraint("accuracy", ">=", 0.95, confidence=0.9),))
    told = why_not._loses(cheaper, chosen, promised, kept=False)
    assert "meets the SLO by its estimate but was not proved, though it has cost $0.000002" in told
    assert "but loses by cost" in why_not._loses(dearer, chosen, promised, kept=False)
    plain = Slo((Constraint("accuracy", ">=", 0.95),))
    assert "meets the SLO but loses by cost" in why_not._loses(dearer, chosen, plain, kept=False)


def test_equally_good_plans_lose_by_what_told_them_apart():
    """Nothing costs anything; fewer slot-seconds decide, in every list of plans."""
    chosen = plan(0.0, 0.0, latency=0.03)
    slower = plan(0.0, 0.0, b="m.slow")
    slower.steps = {key: replace(one, busy=about(3e-3)) for key, one in slower.steps.items()}
    planned = Planned(physical(), chosen, Slo(), (slower, chosen), 0.0, slower)
    explanation = explain(planned, Context("q", NOW, alternatives=5))
    assert explanation.runner_up.note == (
        "lost by slot-seconds of a row 6.00 ms against 2.00 ms, +200 %, being equal in cost"
    )
    ends = {end.label: end for end in explanation.ends}
    assert ends["cheapest"].note == ends["most accurate"].note == "this plan"
    assert ends["fastest"].cost == slower.cost


def test_a_dearer_plan_that_is_as_accurate_lost_by_its_cost():
    slo = Slo((), Objective("accuracy", maximize=True))
    chosen, dearer = plan(1e-6, 2e-6), plan(1e-6, 5e-6, b="m.big")
    note = explain(Planned(physical(), chosen, slo, (), 0.0, dearer), Context("q", NOW)).runner_up
    assert note.note == (
        "lost by cost $0.000006 against $0.000003, +100 %, being equal in accuracy"
    )


def test_plans_within_noise_are_said_to_be_so():
    """b differs by 10 % of 2, and both are known within 10 %: the interval of the gap holds 0."""
    chosen = plan(1e-6, 2e-6)
    for usd, close in ((2.2e-6, True), (2.6e-6, False)):
        rival = plan(1e-6, usd, b="m.big")
        note = explain(Planned(physical(), chosen, Slo(), (), 0.0, rival), Context("q", NOW))
        assert note.runner_up.note.endswith(": too close to tell") == close


def test_what_plans_share_tells_them_not_apart_nor_blurs_them():
    """a is dear and known badly; the two b are known well: their difference is sure."""
    chosen, rival = plan(1e-3, 2e-6), plan(1e-3, 4e-6, b="m.big")
    assert chosen.cost.cost.high > rival.cost.cost.low
    assert not too_close(chosen, rival, "cost")
    assert not too_close(rival, chosen, "cost")
    assert too_close(chosen, plan(1e-3, 2.2e-6, b="m.big"), "cost")
    rival.steps["p.a"] = step(1.1e-3)  # the same choice, on more rows after another one
    assert too_close(chosen, rival, "cost")


def test_what_nobody_knows_is_not_too_close():
    chosen, rival = plan(1e-6, 2e-6), plan(1e-6, 2e-6, b="m.big")
    assert too_close(chosen, rival, "latency_p95")
    rival.cost = replace(rival.cost, latency_p95=None)
    assert not too_close(chosen, rival, "latency_p95")


def test_flips_are_exact_in_one_number():
    """b may rise by (9 - 3) / 2 = 300 %; big must fall by 6 / 8 = 75 %."""
    slo = Slo((Constraint("accuracy", ">=", 0.95),))
    chosen, good = plan(1e-6, 2e-6), plan(1e-6, 8e-6, accuracy=0.99, b="m.big")
    cheap = plan(1e-6, 1e-7, accuracy=0.8, b="m.tiny")
    found = "\n".join(flips(chosen, [chosen, good, cheap], slo))
    assert "p.b becomes 300 % dearer (cost): then p.b: m.big" in found
    assert "p.b: m.big · batch 8 · cpu becomes 75 % cheaper" in found
    assert "accuracy falls below 0.95 (now 96.0 %, margin 1.0 points)" in found
    assert "accuracy >= 0.95 is loosened to 80.0 %" in found
    assert "p.a becomes" not in found


def test_flips_ignore_rivals_that_share_the_step():
    chosen, rival = plan(1e-6, 2e-6), plan(1e-6, 3e-6, batch=8, b="m.big")
    found = flips(chosen, [rival], Slo())
    assert not [line for line in found if line.startswith("p.a")]


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (Constraint("latency_p95", "<=", 0.02), "latency_p95 <= 20 ms"),
        (Constraint("latency_p95", "<=", 0.02, model="m"), "latency_p95(m) <= 20 ms"),
        (Constraint("cost", "<=", 0.0002), "cost <= 0.0002 USD"),
        (Constraint("accuracy", ">=", 0.97, confidence=0.95),
         "accuracy >= 0.97 AT CONFIDENCE 0.95"),
        (Constraint("wall", "<=", 120.0, soft=0.1), "wall <= 2 min SOFT 10 %"),
        (Constraint("throughput", ">=", 20.0), "throughput >= 20 /s"),
        (Constraint("memory", "<=", 16e9), "memory <= 16 GB"),
        (Constraint("custom", "<=", 3.0, custom="toxicity"), "custom('toxicity') <= 3"),
    ],
)  # fmt: skip
def test_constraints_print_as_they_are_written(constraint, text):
    assert constraint_text(constraint) == text


def test_soft_limits_reach_past_themselves_but_not_past_their_margin():
    soft = Constraint("wall", "<=", 100.0, soft=0.1)
    assert allows(soft, 109.0)
    assert not allows(soft, 111.0)


def test_a_constraint_on_one_model_looks_at_that_model_alone():
    slo = Slo((Constraint("accuracy", ">=", 0.98, model="m"),))
    assert misses(plan(1, 1, accuracy=0.99), slo) == slo.constraints


def test_an_objective_to_maximise_reads_so():
    planned = Planned(physical(), plan(1, 1), Slo((), Objective("accuracy", True)))
    assert explain(planned, Context("q", NOW)).objective == "MAXIMIZE accuracy"
