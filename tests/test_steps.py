"""Steps: keys that stay, what each call depends on, which filters stand before it."""

from octans.planner.rewrite import rewrite
from octans.planner.steps import filter_subject, steps
from rule_world import expr, plan_of

SOURCE = "source t: id BIGINT, x BIGINT, s VARCHAR\n"


def found(text, optimised=False):
    plan, ctx = plan_of(SOURCE + text)
    if optimised:
        plan, _ = rewrite(plan, ctx)
    return {step.key: step for step in steps(plan)}


def test_keys_are_contexts_and_count_repetitions():
    named = found('call a = rate("s")\ncall b = rate("s") when "x" > 1\ncall c = rate("s") @p.c')
    assert list(named) == ["rate", "rate_2", "p.c"]


def test_a_step_depends_on_what_it_reads_through_projections():
    named = found(
        'call parts = parts("s") @p.parts\nproject id, x, first BIGINT := "parts"[1]\n'
        'call score = judge("x") @p.score\ncall sum = pair("first", "x") @p.sum'
    )
    assert named["p.score"].predecessors == ()
    assert named["p.sum"].predecessors == ("p.parts",)
    assert named["p.sum"].below == ("p.parts", "p.score")


def test_a_filter_makes_later_steps_wait_and_is_named_by_its_predicate():
    named = found(
        'call digits = classify("x") @p.digits\nfilter "digits.digit" = 3\nfilter "id" > 2\n'
        'call score = rate("s") @p.score'
    )
    assert named["p.digits"].filters == ()
    first, second = named["p.score"].filters
    assert (first.subject, first.keys) == (
        filter_subject(expr('"digits.digit" = 3')),
        ("p.digits",),
    )
    assert second.keys == ()
    assert named["p.score"].predecessors == ("p.digits",)


def test_a_conditions_rate_depends_on_the_last_step_it_reads():
    named = found(
        'call digits = classify("x") @p.digits\ncall score = rate("s") @p.score\n'
        'call again = judge("x") when "digits.digit" > "score" @p.again'
    )
    assert named["p.again"].given == "p.score"
    assert named["p.again"].predecessors == ("p.digits", "p.score")


def test_steps_on_distinct_inputs_and_below_limits_say_so():
    named = found(
        'limit 30\ncall parts = parts("s")\ncall digits = classify("x")\n'
        "stats seconds parts 1\nstats distinct parts 0.1",
        optimised=True,
    )
    assert named["parts"].distinct
    assert not named["classify"].distinct
    assert found('limit 30\ncall d = classify("x")')["classify"].limited
