"""The driver holds rules to their word, and the invariants hold plans to theirs."""

import pytest
from octans.errors import InternalError, RuleError
from octans.ir.logical import Apply, Each, Filter, Limit, ModelCall, Project, Sort, Source
from octans.ir.types import Field, NamedExpr, SqlExpr, column
from octans.ir.verify import verify
from octans.planner.rewrite import rewrite
from octans.planner.rules import RULE_NAMES, RULES
from rule_world import context, expr, plan_of

SOURCE = "source t: id BIGINT, x BIGINT\n"


def test_each_rule_is_alone_in_its_file_and_cites_its_source():
    for rule in RULES:
        assert rule.__module__.rpartition(".")[2] == rule.__name__
        text = __import__(rule.__module__, fromlist=["x"]).__doc__
        for part in ("Precondition:", "Counter-example:", "["):
            assert part in text, rule.__name__


def test_the_trace_says_of_every_rule_what_became_of_it():
    plan, ctx = plan_of(SOURCE + 'call digits = classify("x")\nfilter "id" > 3')
    off = frozenset({"prune_columns"})
    _, trace = rewrite(plan, ctx.__class__(ctx.models, disabled=off))
    assert {entry.rule for entry in trace} == set(RULE_NAMES)
    outcomes = {entry.rule: entry.outcome for entry in trace}
    assert outcomes["push_filter_below_apply"] == "applied"
    assert outcomes["prune_columns"] == "disabled"
    assert outcomes["push_sort_into_source"] == "unchanged"


def test_a_rule_that_changes_the_schema_is_caught():
    def drop_a_column(node, ctx):
        if isinstance(node, Source) and len(node.columns) > 1:
            yield node.replace(columns=node.columns[:1])

    plan, ctx = plan_of(SOURCE)
    with pytest.raises(RuleError, match="drop_a_column: changed the schema"):
        rewrite(plan, ctx, (drop_a_column,))


def test_a_rule_that_breaks_an_invariant_is_caught():
    def read_nothing(node, ctx):
        if isinstance(node, Filter) and node.predicate.columns == ("id",):
            yield node.replace(predicate=expr('"nowhere" > 1'))

    plan, ctx = plan_of(SOURCE + 'filter "id" > 3')
    with pytest.raises(RuleError, match="reads nowhere"):
        rewrite(plan, ctx, (read_nothing,))


def test_rules_that_undo_each_other_are_caught():
    def swap(node, ctx):
        if isinstance(node, Filter) and isinstance(node.input, Filter):
            yield node.input.replace(input=node.replace(input=node.input.input))

    plan, ctx = plan_of(SOURCE + 'filter "id" > 3\nfilter "x" > 3')
    with pytest.raises(RuleError, match="came back"):
        rewrite(plan, ctx, (swap,))


def test_a_rule_without_end_is_caught(monkeypatch):
    def count_up(node, ctx):
        if isinstance(node, Limit):
            yield node.replace(count=node.count + 1)

    monkeypatch.setattr("octans.planner.rewrite.MAX_APPLICATIONS", 50)
    plan, ctx = plan_of(SOURCE + "limit 1")
    with pytest.raises(RuleError, match="does not end"):
        rewrite(plan, ctx, (count_up,))


T = Source("t", (column(Field("id", "BIGINT")),))
BROKEN = [
    (Filter(T, expr('"x" > 1')), "reads x"),
    (Project(T, (NamedExpr("a", expr('"id"'), "BIGINT"),) * 2), "two columns of one name: a"),
    (Project(T, (NamedExpr("a", expr('"id"'), ""),)), "no type"),
    (Sort(T, ()), "no sort key"),
    (Limit(T, -1), "negative"),
    (Apply(T, Each(ModelCall("m", (expr('"id"'),), "m"), (True, True)), ()), "EACH does not fit"),
    (Apply(T, ModelCall("m", (expr('"id"'),), "m"), (Field("id", "BIGINT"),)), "two columns"),
    (
        Apply(T, ModelCall("m", (), "m"), (Field("y", "BIGINT"),), ("a", "b")),
        "output names are not pairs",
    ),
    (T.replace(predicates=(SqlExpr('"y"', ("y",)),)), "reads y"),
]


@pytest.mark.parametrize(("plan", "why"), BROKEN, ids=[why for _, why in BROKEN])
def test_a_broken_plan_is_our_defect(plan, why):
    with pytest.raises(InternalError, match=why) as caught:
        verify(plan)
    assert caught.value.code == "OC0902"
    with pytest.raises(InternalError):
        rewrite(plan, context())
