"""Every rule on plans that fire it and plans that must not; each plan is also executed."""

import pytest
from binding_catalog import NAIVE, demo_catalog
from naive import Naive
from octans.dsl.binder import bind_select
from octans.dsl.parser import parse_one
from octans.planner.format import format_plan
from octans.planner.rewrite import rewrite
from octans.planner.rules import RULE_NAMES, RuleContext
from rule_world import World, plan_of
from snapshots import check, read_cases

NORM = read_cases("norm")
CASES = [case for case in NORM if case.text.split()[0] != "SELECT"]
QUERIES = [case for case in NORM if case not in CASES]


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_rules_make_of_a_plan_what_was_agreed(case, world, update_plans):
    plan, ctx = plan_of(case.text)
    rewritten, trace = rewrite(plan, ctx)
    applied = {entry.rule for entry in trace if entry.outcome == "applied"}
    assert set(case.options.get("expect", ())) <= applied
    assert applied.isdisjoint(case.options.get("expect-not", ()))
    before, calls_before = world.naive(plan)
    after, calls_after = world.naive(rewritten)
    assert sorted(after, key=repr) == sorted(before, key=repr)
    assert sum(calls_after.values()) <= sum(calls_before.values())
    assert sorted(world.real(rewritten, ctx.on_error), key=repr) == sorted(before, key=repr)
    check(case, format_plan(rewritten), update_plans)


@pytest.mark.parametrize("case", QUERIES, ids=lambda case: case.id)
def test_the_rules_make_of_a_query_what_was_agreed(case, update_plans):
    catalog = demo_catalog()
    bound = bind_select(parse_one(case.text), catalog)
    models = {model.name: model for model in catalog.models()}
    rewritten, trace = rewrite(bound.plan, RuleContext(models=models, on_error=bound.on_error))
    applied = {entry.rule for entry in trace if entry.outcome == "applied"}
    assert set(case.options.get("expect", ())) <= applied
    assert applied.isdisjoint(case.options.get("expect-not", ()))
    before = Naive(catalog.connection.cursor(), NAIVE)
    after = Naive(catalog.connection.cursor(), NAIVE)
    assert sorted(after.rows(rewritten), key=repr) == sorted(before.rows(bound.plan), key=repr)
    assert sum(after.calls.values()) <= sum(before.calls.values())
    check(case, format_plan(rewritten), update_plans)


def test_every_rule_has_a_case_that_fires_it_and_one_that_must_not():
    fires = {name for case in NORM for name in case.options.get("expect", ())}
    must_not = {name for case in NORM for name in case.options.get("expect-not", ())}
    assert fires == set(RULE_NAMES)
    assert must_not == set(RULE_NAMES)
