"""Rules keep rows: random plans, with rules switched off, and the identities rows must obey.

Order is compared where the plan ends in a total ORDER BY, rows as a bag elsewhere; a LIMIT is only
ever put on ordered rows, because without an order SQL leaves the choice of rows open.
"""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from octans.ir.logical import Filter
from octans.ir.verify import verify
from octans.planner.rewrite import rewrite
from octans.planner.rules import RULE_NAMES
from rule_world import World, expr, plan_of

WORLD = World()
RELATIONAL = ('"x" > 3', '"g" = 2', '"g" IS NULL', '"id" < 25', "\"s\" LIKE '%3'")
CALLS = {
    "digits": ('classify("x")', ("digits.digit", "digits.confidence")),
    "again": ('classify("x")', ("again.digit", "again.confidence")),
    "score": ('rate("s")', ("score",)),
    "sum": ('pair("x", "g")', ("sum",)),
    "maybe": ('rate("s") when "x" > 4', ("maybe",)),
    "opinion": ('judge("x")', ("opinion",)),
    "parts": ('parts("s")', ("parts",)),
    "each": ('classify(EACH "parts")', ("each.digit", "each.confidence")),
}
ON_ANSWERS = {
    "digits.digit": '"digits.digit" > 2',
    "score": '"score" = 3',
    "sum": '"sum" > 20',
    "maybe": '"maybe" IS NULL',
    "opinion": '"opinion" < -4',
}
STATISTICS = ("0.1", "0.5", "0.9")


@st.composite
def plans(draw):
    """The text of a plan: calls, filters, perhaps a join, a projection, an ordered limit."""
    lines = ["source t: id BIGINT, x BIGINT, g BIGINT, s VARCHAR"]
    columns = ["id", "x", "g", "s"]
    for name in draw(st.lists(st.sampled_from(list(CALLS)), unique=True, max_size=5)):
        call, outputs = CALLS[name]
        if name == "each" and "parts" not in columns:
            continue
        if draw(st.booleans()):
            lines.append(f"filter {draw(st.sampled_from(RELATIONAL))}")
        lines.append(f"call {name} = {call}")
        columns += outputs
        tested = [column for column in outputs if column in ON_ANSWERS]
        if tested and draw(st.booleans()):
            lines.append(f"filter {ON_ANSWERS[tested[0]]}")
    if draw(st.booleans()):
        kind = draw(st.sampled_from(("inner", "left")))
        lines += ["as l", "source u: k BIGINT, label VARCHAR", f'join {kind} l on "x" = "k"']
        columns += ["k", "label"]
    ordered = draw(st.booleans())
    if ordered:
        key = draw(st.sampled_from([c for c in columns if c not in ("parts", "s")]))
        lines.append(f'sort "{key}" desc, "id"')
        if draw(st.booleans()):
            lines.append(f"limit {draw(st.integers(0, 12))} offset {draw(st.integers(0, 3))}")
    if draw(st.booleans()):
        kept = draw(st.lists(st.sampled_from(columns), unique=True, min_size=1, max_size=4))
        lines.append("project " + ", ".join([*kept, 'twice BIGINT := "id" * 2']))
    elif draw(st.booleans()):
        lines.append(f"filter {draw(st.sampled_from(RELATIONAL))}")
    for model in ("classify", "rate", "pair", "judge", "parts"):
        if draw(st.booleans()):
            lines.append(
                f"stats seconds {model} {draw(st.sampled_from(('1e-7', '0.001', '0.02')))}"
            )
            lines.append(f"stats distinct {model} {draw(st.sampled_from(STATISTICS))}")
    for predicate in ON_ANSWERS.values():
        lines.append(f"stats keeps {draw(st.sampled_from(STATISTICS))} {predicate}")
    return "\n".join(lines)


def rows_of(plan, text, run=None):
    """Comparable rows: in order where the plan is ordered, else sorted."""
    rows = run(plan) if run is not None else WORLD.naive(plan)[0]
    return list(rows) if "\nsort " in text else sorted(rows, key=repr)


PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@PROPERTY
@given(plans())
def test_rewriting_keeps_the_rows_and_never_adds_calls(text):
    plan, ctx = plan_of(text)
    rewritten, _ = rewrite(plan, ctx)
    verify(rewritten)
    assert rewritten.schema == plan.schema
    assert rows_of(rewritten, text) == rows_of(plan, text)
    assert sum(WORLD.naive(rewritten)[1].values()) <= sum(WORLD.naive(plan)[1].values())


@PROPERTY
@given(plans(), st.randoms(use_true_random=False))
def test_a_random_half_of_the_rules_keeps_the_rows(text, rng):
    plan, ctx = plan_of(text)
    off = frozenset(rng.sample(RULE_NAMES, len(RULE_NAMES) // 2))
    rewritten, trace = rewrite(plan, ctx.__class__(ctx.models, ctx.stats, ctx.on_error, off))
    assert rows_of(rewritten, text) == rows_of(plan, text)
    assert off.isdisjoint(entry.rule for entry in trace if entry.outcome == "applied")


@PROPERTY
@given(plans())
def test_rewriting_twice_is_rewriting_once(text):
    plan, ctx = plan_of(text)
    once, _ = rewrite(plan, ctx)
    twice, trace = rewrite(once, ctx)
    assert twice == once
    assert all(entry.outcome == "unchanged" for entry in trace)


@PROPERTY
@given(plans(), st.sampled_from(RELATIONAL))
def test_true_false_and_null_of_a_predicate_are_all_rows(text, predicate):
    plan, ctx = plan_of("\n".join(x for x in text.splitlines() if not x.startswith("project")))
    parts = []
    for p in (predicate, f"NOT ({predicate})", f"({predicate}) IS NULL"):
        rewritten, _ = rewrite(Filter(plan, expr(p)), ctx)
        parts += WORLD.naive(rewritten)[0]
    assert sorted(parts, key=repr) == sorted(WORLD.naive(plan)[0], key=repr)


EVERYTHING = """
source t: id BIGINT, x BIGINT, g BIGINT, s VARCHAR
call digits = classify("x") @p.digits
call unused = rate("s") @p.unused
filter "g" > 0
filter "digits.digit" > 1
call score = rate("s") @p.score
filter "score" = 3
call again = classify("x") @q.digits
as l
source u: k BIGINT, label VARCHAR
join left l on "x" = "k"
filter "id" < 35
sort "id" desc
project id, again.digit, score, label, late VARCHAR := upper("s")
filter "late" <> 'NAME 0'
limit 7
stats keeps 0.1 "score" = 3
stats keeps 0.9 "digits.digit" > 1
stats seconds p.score 0.001
stats seconds p.digits 0.01
"""


@pytest.mark.parametrize("off", [*([name] for name in RULE_NAMES), list(RULE_NAMES)], ids=str)
def test_each_rule_disabled_keeps_the_rows(off):
    plan, ctx = plan_of(EVERYTHING)
    rewritten, _ = rewrite(plan, ctx.__class__(ctx.models, ctx.stats, "fail", frozenset(off)))
    assert WORLD.naive(rewritten)[0] == WORLD.naive(plan)[0]


@pytest.mark.parametrize("seed", range(8))
def test_the_engine_gives_the_rows_of_the_naive_interpreter(seed):
    rng = random.Random(seed)
    plan, ctx = plan_of(EVERYTHING)
    off = frozenset(rng.sample(RULE_NAMES, rng.randrange(len(RULE_NAMES))))
    rewritten, _ = rewrite(plan, ctx.__class__(ctx.models, ctx.stats, "fail", off))
    assert WORLD.real(rewritten, batch=rng.choice((1, 3, 64))) == WORLD.naive(plan)[0]


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(plans())
def test_the_engine_runs_rewritten_plans_as_they_mean(text):
    plan, ctx = plan_of(text)
    rewritten, _ = rewrite(plan, ctx)
    assert rows_of(rewritten, text, WORLD.real) == rows_of(plan, text)
