"""CREATE STATISTICS (error_dependence): measured by ANALYZE, and what plans make of it."""

import itertools
import math
import random

import numpy as np
import octans
import pytest
from octans.dsl.parser import parse_one
from octans.dsl.printer import to_text
from octans.errors import BindError, CatalogError, RunError
from octans.ir.estimates import Estimate
from octans.ir.logical import Apply, ModelCall
from octans.ir.models import ExtendedStatistics, Metric
from octans.ir.physical import Choice
from octans.ir.slo import Constraint, Slo
from octans.ir.types import Field
from octans.planner.search.exact import Infeasible, solve
from octans.stats.dependence import JointErrors, declared_pairs
from octans.stats.joint_errors import conditional_share
from octans.stats.profile import PLAIN, ProfiledStep, profile
from octans.stats.statistics import Statistics
from profiling import FakeRunner, fits, number, reading, request, result, rows
from test_cost_problem import FakeStats, build, cascade, cascade_stats, column, source

HARD_ROWS = 10
"""Rows x with x % 10 below a variant's number are misread: the same rows by both models."""


def one(misreads):
    """A model that is wrong on the same hard rows as the other."""
    return lambda batch: [x if x % HARD_ROWS >= misreads else -1 for x in _xs(batch)]


def other(misreads):
    """Likewise, on the same rows."""
    return one(misreads)


def _xs(batch):
    return batch.column("x").to_pylist()


WORLD = """
CREATE DEVICE cpu (KIND cpu, COUNT 2, THREADS 1, PRICE 1 USD PER HOUR);
CREATE MODEL one (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE MODEL other (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT one.v USING python('test_error_dependence:one') KNOBS (misreads IN (1, 3));
CREATE VARIANT one.base USING python('test_error_dependence:one', misreads := 0) BASE;
CREATE VARIANT other.v USING python('test_error_dependence:other') KNOBS (misreads IN (2, 4));
CREATE VARIANT other.base USING python('test_error_dependence:other', misreads := 0) BASE;
CREATE PIPELINE both (x BIGINT) RETURNS (y BIGINT) AS
BEGIN
  a := one(x);
  b := other(x);
  RETURN a + b;
END;
CREATE PIPELINE either (x BIGINT) RETURNS (y BIGINT) AS
BEGIN
  a := one(x);
  b := other(x) WHEN x % 2 = 0;
  RETURN COALESCE(b, a);
END;
"""


@pytest.fixture
def session(monkeypatch):
    """Profiles in full: choices that cost the same would be stopped when they are surely worse."""
    monkeypatch.setattr("octans.analyzing._strategy", lambda session: PLAIN)
    with octans.connect() as session:
        session.sql(WORLD)
        yield session


def analyze(session, pipeline):
    session.sql(f"ANALYZE PIPELINE {pipeline} USING (SELECT range AS x FROM range(400)) SAMPLE 400")


def planned(session, pipeline, one_misreads, other_misreads):
    advice = (
        f"VARIANT(a one.v misreads={one_misreads}) VARIANT(b other.v misreads={other_misreads})"
    )
    return session.sql(
        f"EXPLAIN (ADVICE '{advice}') SELECT {pipeline}(range) FROM range(100)"
    ).explanation()


PAIRS = [(1, 2), (1, 4), (3, 2), (3, 4)]


@pytest.mark.parametrize("misreads", PAIRS)
def test_composed_accuracy_is_what_was_seen_where_independence_is_wrong(session, misreads):
    """Errors nest: both are right as often as the worse one is, not as the product says."""
    session.sql("CREATE STATISTICS pair (error_dependence) ON one, other")
    analyze(session, "both")
    explained = planned(session, "both", *misreads)
    truth = 1 - max(misreads) / HARD_ROWS
    assert explained.totals.accuracy.value == pytest.approx(truth, abs=0.04)
    assert explained.totals.accuracy.low <= truth <= explained.totals.accuracy.high
    assert "accuracy: composed with error_dependence pair (both.a, both.b)" in explained.notes


def test_without_the_statistics_errors_are_taken_as_independent(session):
    """The same sample, composed the old way, is wrong by far; EXPLAIN says which way it was."""
    analyze(session, "both")
    explained = planned(session, "both", 3, 4)
    assert explained.totals.accuracy.value == pytest.approx(0.7 * 0.6, abs=0.04)
    assert "accuracy: composed as if the steps' errors were independent" in explained.notes


def test_dropped_statistics_are_no_longer_used(session):
    session.sql("CREATE STATISTICS pair (error_dependence) ON both.a, both.b")
    analyze(session, "both")
    session.sql("DROP STATISTICS pair")
    explained = planned(session, "both", 3, 4)
    assert "accuracy: composed as if the steps' errors were independent" in explained.notes
    assert session.sql("SHOW EXTENDED_STATISTICS").fetchall() == []


def test_a_step_that_stands_in_is_composed_with_what_it_replaces(session):
    """The second runs on even rows: the pair is right where the one that answers is."""
    session.sql("CREATE STATISTICS pair (error_dependence) ON one, other")
    analyze(session, "either")
    explained = planned(session, "either", 3, 2)
    assert explained.totals.accuracy.value == pytest.approx(1 - 2 / HARD_ROWS, abs=0.05)
    assert any("error_dependence pair" in note for note in explained.notes)


def test_joint_shares_are_shown_with_interval_and_rows(session):
    session.sql("CREATE STATISTICS pair (error_dependence) ON one, other")
    analyze(session, "both")
    rows = session.sql(
        "SELECT statistic, value, ci_low, ci_high, n FROM octans.statistics "
        "WHERE metric = 'joint_errors' AND knobs = 'misreads := 4' "
        "AND assignment LIKE '%misreads := 3%'"
    ).fetchall()
    found = {name: value for name, value, *_ in rows}
    cells = [found[cell] for cell in ("both_right", "first_right", "second_right", "both_wrong")]
    assert sum(cells) == pytest.approx(1.0)
    assert found["second_right"] == 0.0
    assert found["both_wrong"] == pytest.approx(0.3, abs=0.04)
    assert all(low <= value <= high and 0 < n <= 300 for _, value, low, high, n in rows)


def test_measured_end_to_end_beats_joint_errors(session):
    session.sql(
        "CREATE OR REPLACE PIPELINE both (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y) AS "
        "BEGIN a := one(x); b := other(x); RETURN a + b; END;"
        "CREATE STATISTICS pair (error_dependence) ON one, other"
    )
    analyze(session, "both")
    assert "accuracy: measured end to end" in planned(session, "both", 3, 4).notes


def test_the_answer_names_the_analyze_that_fills_it(session):
    message = session.sql("CREATE STATISTICS pair (error_dependence) ON one, other").message
    assert "ANALYZE PIPELINE both USING (…) or ANALYZE PIPELINE either USING (…)" in message
    session.sql("DROP PIPELINE either; DROP STATISTICS pair; DROP PIPELINE both")
    message = session.sql("CREATE STATISTICS pair (error_dependence) ON one, other").message
    assert "no pipeline calls both one and other yet" in message


def test_objects_behave_like_other_declarations(session):
    text = "CREATE STATISTICS pair (error_dependence) ON both.a, other"
    assert to_text(parse_one(text)) == text
    assert parse_one(to_text(parse_one(text.lower()))) == parse_one(text)
    session.sql(text)
    with pytest.raises(CatalogError) as caught:
        session.sql(text)
    assert caught.value.code == "OC0507"
    assert "(version 2)" in session.sql(text.replace("CREATE", "CREATE OR REPLACE")).message
    rows = session.sql("SELECT name, kind, first, second FROM octans.extended_statistics")
    assert rows.fetchall() == [("pair", "error_dependence", "both.a", "other")]
    with pytest.raises(CatalogError) as caught:
        session.sql("DROP MODEL other")
    assert caught.value.code == "OC0508"


@pytest.mark.parametrize(
    ("on", "code"),
    [
        ("(mcv) ON one, other", "OC0235"),
        ("(error_dependence) ON one, othre", "OC0236"),
        ("(error_dependence) ON one, both.c", "OC0236"),
        ("(error_dependence) ON one, both.a.y", "OC0236"),
        ("(error_dependence) ON one, ONE", "OC0237"),
        ("(error_dependence) ON both.a, either.b", "OC0237"),
        ("(error_dependence) ON one, bare", "OC0237"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_place(session, on, code):
    session.sql("CREATE MODEL bare (x BIGINT) RETURNS (y BIGINT)")
    with pytest.raises(BindError) as caught:
        session.sql(f"CREATE STATISTICS pair {on}")
    assert caught.value.code == code
    assert caught.value.span is not None


def test_pairs_are_found_by_model_and_by_step_the_earlier_step_first():
    steps = [("k1", "p.a", "m"), ("k2", "p.b", "n"), ("k3", "p.c", "m")]
    by_model = ExtendedStatistics("s", "error_dependence", "n", "m")
    by_step = ExtendedStatistics("s", "error_dependence", "p.c", "p.a")
    assert declared_pairs([by_model], steps) == (("k1", "k2"), ("k2", "k3"))
    assert declared_pairs([by_step], steps) == (("k1", "k3"),)


# --- lists ---------------------------------------------------------------------------------------

DATA = rows(240)
PAIR = ExtendedStatistics("pair", "error_dependence", "read", "again")
READS, AGAINS = ("read.poor", "read.fair", "read.base"), ("again.good", "again.weak")


def profiled(runner=None, **changes):
    asked = request(DATA, dependences=(("p.read", "p.again"),), **changes)
    observations = profile(asked, runner or FakeRunner(DATA)).observations
    return Statistics(observations, dependences=[PAIR])


def test_a_row_of_a_list_is_right_where_all_its_elements_are():
    """The second rereads rows whose check digit fails: the pair is right as the pipeline is."""
    stats = profiled()
    for first, second in itertools.product(READS, AGAINS):
        joint = stats.joint(("p.read", first, ""), ("p.again", second, ""))
        truth = [result(first, second, digits) == number(digits) for digits in DATA]
        assert joint.together.value == pytest.approx(sum(truth) / len(truth))
        assert joint.together.n == len(DATA)
        assert joint.together.low <= joint.together.value <= joint.together.high


def test_two_steps_that_both_count_are_right_where_both_are():
    """Without standing in: S of the second is 1 on rows it skips."""
    graded = Metric("exact_match", "digit")
    steps = {
        "p.read": ProfiledStep("p.read", graded, Choice("read.base")),
        "p.again": ProfiledStep("p.again", graded, None, "p.read"),
    }
    stats = profiled(steps=steps)
    for first, second in itertools.product(READS, AGAINS):
        joint = stats.joint(("p.read", first, ""), ("p.again", second, ""))
        one = [reading(first, digits) == digits for digits in DATA]
        other = [
            fits(reading(first, digits)) or reading(second, digits) == digits for digits in DATA
        ]
        both = [a and b for a, b in zip(one, other, strict=True)]
        row = stats.row_quality("p.read", first, "")
        assert row.value == pytest.approx(sum(one) / len(one))
        assert joint.together.value == pytest.approx(sum(both) / len(both))
        assert row.value * joint.second_if_first.value == pytest.approx(sum(both) / len(both))


def test_failed_rows_are_wrong_in_both():
    runner = FakeRunner(DATA)
    failing = runner.failing["read.fair"] = {tuple(digits) for digits in DATA[:20]}
    joint = profiled(runner).joint(("p.read", "read.fair", ""), ("p.again", "again.good", ""))
    right = [
        tuple(digits) not in failing and result("read.fair", "again.good", digits) == number(digits)
        for digits in DATA
    ]
    assert joint.together.value == pytest.approx(sum(right) / len(DATA))


def test_a_pair_that_cannot_run_together_is_noted_and_the_others_are_measured():
    """A variant that breaks on what another one answers must not end the whole ANALYZE."""

    class Breaking(FakeRunner):
        def run_stage(self, stage, table):
            bad = stage.choice.variant == "again.weak" and "read.poor" in self.upstream(table)
            if bad:
                raise RunError("cannot take this", code="OC0403")
            return super().run_stage(stage, table)

        def upstream(self, table):
            if "p.read.digit" not in table.column_names:
                return ()
            read, given = table.column("p.read.digit").to_pylist(), table.column("digits")
            wrong = [
                reading("read.poor", d) == r for d, r in zip(given.to_pylist(), read, strict=True)
            ]
            return ("read.poor",) if all(wrong) and table.num_rows > 100 else ()

    asked = request(DATA, dependences=(("p.read", "p.again"),), metric=None, steps={
        "p.read": ProfiledStep("p.read", Metric("exact_match", "digit"), Choice("read.base")),
        "p.again": ProfiledStep("p.again", Metric("exact_match", "digit")),
    })  # fmt: skip
    found = profile(asked, Breaking(DATA), strategy=PLAIN)
    stats = Statistics(found.observations, dependences=[PAIR])
    assert stats.joint(("p.read", "read.poor", ""), ("p.again", "again.weak", "")) is None
    assert stats.joint(("p.read", "read.poor", ""), ("p.again", "again.good", "")) is not None
    assert any("again.weak after read.poor: cannot take this" in note for note in found.notes)


def test_a_pair_without_truth_is_said_not_invented():
    asked = request(DATA, dependences=(("p.read", "p.again"),), labels={})
    found = profile(asked, FakeRunner(DATA))
    assert not [row for row in found.observations if row.metric == "joint_errors"]
    assert any(note.startswith("p.read and p.again: no label") for note in found.notes)


# --- the search ----------------------------------------------------------------------------------


def estimate(value):
    return Estimate(value, value, value, 100)


def joint(rng):
    """Random joint errors: any cells, the rest following from them."""
    cells = np.array([rng.random() + 0.05 for _ in range(4)])
    both, first, second, neither = (cells / cells.sum()).tolist()
    return JointErrors(
        "pair", (both, first, second, neither), estimate(both / (both + first)), estimate(both)
    )


def chain():
    """easy → hard → easy: three graded steps."""
    plan = source("xs")
    for name, model in (("a", "easy"), ("b", "hard"), ("c", "easy")):
        plan = Apply(
            plan, ModelCall(model, (column("xs"),), f"p.{name}"), (Field(name, "INTEGER"),)
        )
    return plan


EASY = [("easy.a", ""), ("easy.b", "trees := 10"), ("easy.b", "trees := 100")]
HARD = [("hard.c", ""), ("hard.d", "")]


def dependent_stats(rng):
    """Joint errors of random pairs of steps; each step's own row quality is their first's."""
    stats = cascade_stats()
    makers = {"p.a": EASY, "p.b": HARD, "p.c": EASY}
    for first, second in itertools.combinations(makers, 2):
        if rng.random() < 0.7:
            for mine, theirs in itertools.product(makers[first], makers[second]):
                stats.joints[(first, *mine), (second, *theirs)] = joint(rng)
    for context, choices in makers.items():
        for variant, knobs in choices:
            stats.rows_right[context, variant, knobs] = estimate(rng.random())
    return stats


@pytest.mark.parametrize("seed", range(25))
def test_the_search_stays_exact_where_errors_depend(seed):
    """Random dependences, accuracy as the limit and as the goal: brute force finds no better."""
    rng = random.Random(seed)
    stats = dependent_stats(rng)
    slo = Slo((Constraint("accuracy", ">=", rng.uniform(0.01, 0.4)),))
    problem = build(chain(), stats, slo).problem
    found = solve(problem)
    best = min(
        problem.key(assignment)
        for assignment in itertools.product(*(range(stage.size) for stage in problem.stages))
    )
    if isinstance(found, Infeasible):
        assert best == math.inf
    else:
        assert found.key == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_estimates_agree_with_the_tables_where_errors_depend(seed):
    built = build(chain(), dependent_stats(random.Random(seed)))
    for assignment in itertools.product(*(range(stage.size) for stage in built.problem.stages)):
        cost, _ = built.cost(assignment)
        loss = built.problem.value("loss", assignment)
        assert cost.accuracy.value == pytest.approx(math.exp(-loss))


def test_a_step_is_composed_with_the_partner_that_tells_most():
    """p.c knows two earlier steps; the one whose errors it shares is taken."""
    stats = FakeStats(seconds=cascade_stats().seconds, qualities=cascade_stats().qualities)
    alike = JointErrors("near", (0.8, 0.0, 0.0, 0.2), estimate(1.0), estimate(0.8))
    apart = JointErrors("far", (0.64, 0.16, 0.16, 0.04), estimate(0.8), estimate(0.64))
    for mine, theirs in itertools.product(EASY, EASY):
        stats.joints[("p.a", *mine), ("p.c", *theirs)] = apart
    for mine, theirs in itertools.product(HARD, EASY):
        stats.joints[("p.b", *mine), ("p.c", *theirs)] = alike
    built = build(chain(), stats)
    assert [stage.partner for stage in built.stages] == [None, None, 1]
    text = built.composition((0,) * 3)
    assert (
        text == "composed with error_dependence near (p.b, p.c), the other steps as if independent"
    )
    assert apart.information == pytest.approx(0.0, abs=1e-12)


def test_a_pair_that_was_not_run_together_is_taken_as_independent():
    stats = cascade_stats()
    stats.joints[("p.digits", "easy.a", ""), ("p.again", "hard.c", "")] = JointErrors(
        "pair", (0.5, 0.2, 0.2, 0.1), estimate(0.7), estimate(0.6)
    )
    built = build(cascade(), stats)
    for assignment in itertools.product(*(range(stage.size) for stage in built.problem.stages)):
        variants = [choice.variant for choice in built.choices(assignment).values()]
        together = variants == ["easy.a", "hard.c"]
        assert ("error_dependence" in built.composition(assignment)) == together
        if together:
            assert built.cost(assignment)[0].accuracy.value == pytest.approx(0.6)


# --- estimates -----------------------------------------------------------------------------------


def test_a_conditional_share_of_rows_is_theirs():
    scores, weights = np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0])
    assert conditional_share(scores, weights, None).value == pytest.approx(2 / 3)
    assert conditional_share(scores, weights, None).n == 3


def test_a_conditional_share_of_graded_rows_covers_the_ratio():
    """Graded first steps: a ratio of totals, its interval covering at its level."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        first = rng.beta(4, 2, 120)
        second = np.clip(first + rng.normal(0, 0.2, 120), 0, 1)
        big = rng.beta(4, 2, 20_000)
        truth = float((big * np.clip(big + rng.normal(0, 0.2, 20_000), 0, 1)).sum() / big.sum())
        interval = conditional_share(second, first, None)
        covered += interval.low <= truth <= interval.high
    assert covered / 400 >= 0.93
