"""Every rule on plans that fire it and plans that must not; each plan is also executed."""

import pytest
from octans.planner.format import format_plan
from octans.planner.rewrite import rewrite
from octans.planner.rules import RULE_NAMES
from query_world import Query
from rule_world import World, plan_of
from snapshots import check, read_cases

NORM = read_cases("norm")
PLANS = [case for case in NORM if case.text.split()[0] != "SELECT"]
QUERIES = [case for case in NORM if case not in PLANS]


@pytest.fixture(scope="module")
def world():
    return World()


def bag(rows):
    return sorted(rows, key=repr)


def check_rules(case, applied):
    assert set(case.options.get("expect", ())) <= applied
    assert applied.isdisjoint(case.options.get("expect-not", ()))


@pytest.mark.parametrize("case", PLANS, ids=lambda case: case.id)
def test_the_rules_make_of_a_plan_what_was_agreed(case, world, update_plans):
    plan, ctx = plan_of(case.text)
    rewritten, trace = rewrite(plan, ctx)
    check_rules(case, {entry.rule for entry in trace if entry.outcome == "applied"})
    before, calls_before = world.naive(plan)
    after, calls_after = world.naive(rewritten)
    assert bag(after) == bag(before)
    assert sum(calls_after.values()) <= sum(calls_before.values())
    assert bag(world.real(rewritten, ctx.on_error)) == bag(before)
    check(case, format_plan(rewritten), update_plans)


@pytest.mark.parametrize("case", QUERIES, ids=lambda case: case.id)
def test_the_rules_make_of_a_query_what_was_agreed(case, update_plans):
    query = Query(case.text)
    check_rules(case, query.applied)
    before, calls_before = query.naive(query.bound.plan)
    after, calls_after = query.naive(query.rewritten)
    assert bag(after) == bag(before)
    assert calls_after <= calls_before
    check(case, format_plan(query.rewritten), update_plans)


@pytest.mark.parametrize("case", read_cases("exec"), ids=lambda case: case.id)
def test_a_query_gives_the_rows_that_were_agreed(case, update_plans):
    """From text through binder, rules, lowering and engine; and without any rule."""
    query = Query(case.text)
    rows = query.real()
    assert bag(rows) == bag(query.naive(query.bound.plan)[0])
    assert bag(rows) == bag(Query(case.text, frozenset(RULE_NAMES)).real())
    shown = rows if "ORDER BY" in case.text else bag(rows)
    names = " | ".join(field.name for field in query.bound.fields)
    lines = (" | ".join("NULL" if v is None else str(v) for v in row) for row in shown)
    check(case, "\n".join([names, *lines]), update_plans)


def test_every_rule_has_a_case_that_fires_it_and_one_that_must_not():
    fires = {name for case in NORM for name in case.options.get("expect", ())}
    must_not = {name for case in NORM for name in case.options.get("expect-not", ())}
    assert fires == set(RULE_NAMES)
    assert must_not == set(RULE_NAMES)
