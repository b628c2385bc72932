"""Lowering: what becomes of each logical node, and that the engine then gives the plan's rows."""

import pytest
from octans.errors import InternalError, RunError
from octans.ir.logical import Apply, Distinct, Join, ModelCall, Project
from octans.ir.node import collect, parents
from octans.ir.physical import Choice, SqlResidual, SqlScan, SqlStep, Stage, StopAfter
from octans.ir.types import Field, NamedExpr, column
from octans.planner.format import format_plan
from octans.planner.lower import lower
from octans.planner.rewrite import rewrite
from octans.planner.steps import steps
from rule_world import ANSWERS, MODELS, World, expr, plan_of


@pytest.fixture(scope="module")
def world():
    return World()


def lowered(text, optimised=False):
    plan, ctx = plan_of(text)
    if optimised:
        plan, _ = rewrite(plan, ctx)
    choices = {s.key: Choice(f"{s.model}.v") for s in steps(plan)}
    return lower(plan, choices, MODELS, ctx.on_error).root


SOURCE = "source t: id BIGINT, x BIGINT, g BIGINT, s VARCHAR\n"


def test_relational_work_below_the_first_call_is_one_scan():
    root = lowered(
        SOURCE + 'filter "x" > 3\nproject id, x, up VARCHAR := upper("s")\nsort "id" desc\n'
        'limit 5\ncall digits = classify("x")'
    )
    assert isinstance(root, Stage)
    assert isinstance(root.input, SqlScan)


def test_adjacent_filters_projections_and_arguments_are_one_step():
    root = lowered(
        SOURCE + 'call digits = classify("x")\nfilter "digits.digit" > 1\nfilter "id" < 30\n'
        'call sum = pair("digits.digit" + 1, "id")'
    )
    step = collect(root, SqlStep)[0]
    assert isinstance(step.input, Stage)
    assert step.predicate.text == '("digits.digit" > 1) AND ("id" < 30)'
    assert [c.name for c in step.columns if c.expr.text.startswith("CAST")] == ["pair.a"]


def test_a_column_is_dropped_once_nobody_reads_it():
    root = lowered(
        SOURCE + 'call parts = parts("s")\ncall digits = classify(EACH "parts")\n'
        "project id, digits.digit"
    )
    first, second = collect(root, Stage)
    assert [f.name for f in first.input.schema] == ["id", "s"]
    assert [f.name for f in second.input.schema] == ["id", "parts"]
    assert [f.name for f in root.schema] == ["id", "digits.digit"]


def test_an_argument_of_another_type_is_cast_to_the_models():
    plan, _ = plan_of('source t: id BIGINT, g INTEGER\ncall digits = classify("g")')
    root = lower(plan, {"classify": Choice("classify.v")}, MODELS).root
    (stage,) = collect(root, Stage)
    assert 'CAST("g" AS BIGINT)' in stage.input.sql
    assert {f.name: f.type for f in stage.input.schema}["classify.x"] == "BIGINT"


def test_a_limit_above_calls_stops_the_stream():
    root = lowered(
        SOURCE + 'call digits = classify("x")\nfilter "digits.digit" = 3\nlimit 2 offset 1'
    )
    (stop,) = collect(root, StopAfter)
    assert (stop.count, stop.offset) == (2, 1)


def test_a_limit_of_sorted_answers_is_in_the_residual():
    root = lowered(SOURCE + 'call digits = classify("x")\nsort "digits.digit"\nlimit 2')
    assert not collect(root, StopAfter)
    (residual,) = collect(root, SqlResidual)
    assert residual.sql.endswith("LIMIT 2")


def test_what_deduplication_shares_is_one_node_with_two_readers():
    root = lowered(
        SOURCE
        + 'call digits = classify("x")\nstats distinct classify 0.1\nstats seconds classify 1',
        optimised=True,
    )
    (scan,) = collect(root, SqlScan)
    assert len(parents(root)[scan]) == 2


def test_a_step_without_a_choice_is_our_defect():
    plan, _ = plan_of(SOURCE + 'call digits = classify("x")')
    with pytest.raises(InternalError, match="no choice"):
        lower(plan, {}, MODELS)


def test_pruned_outputs_keep_their_names_in_the_model():
    root = lowered(
        SOURCE + 'call digits = classify("x")\nproject id, digits.confidence', optimised=True
    )
    (stage,) = collect(root, Stage)
    assert stage.produce == ("confidence",)


@pytest.mark.parametrize(
    "text",
    [
        'call digits = classify("x")\nsort "digits.digit" desc, "g"\nlimit 7 offset 2',
        'call digits = classify("x")\nlimit all offset 35',
        'call parts = parts("s")\nproject parts\ndistinct',
        'call digits = classify("x") when "g" > 1\nfilter "digits.digit" IS NULL',
        'sort "g"\ncall digits = classify("x")',
        'distinct\ncall digits = classify("x")\nsort "id"',
        'call digits = classify("x")\n'
        'residual HUGEINT total: SELECT sum("digits.digit") AS total FROM in0',
        'call digits = classify("x")\nas l\nsource u: k BIGINT, label VARCHAR\n'
        'call loud = rate("label")\njoin left l on "x" = "k"\nsort "id", "k"',
        'call digits = classify("x")\nas l\nsource u: k BIGINT, label VARCHAR\njoin cross l\n'
        'sort "id", "k"\nlimit 9',
    ],
)
def test_the_engine_gives_the_rows_of_the_naive_interpreter(world, text):
    plan, _ = plan_of(SOURCE + text)
    real, naive = world.real(plan), world.naive(plan)[0]
    if "distinct" in text or "join" in text:
        real, naive = sorted(real, key=repr), sorted(naive, key=repr)
    assert real == naive


def looked_up():
    """`classify(x)` for distinct x, looked up, and a second call on the row."""
    plan, _ = plan_of(SOURCE + "project id, x")
    key = Field("x.input", "BIGINT")
    inputs = Distinct(Project(plan, (NamedExpr(key.name, expr('"x"'), key.type),)))
    outputs = (Field("digits.digit", "BIGINT"), Field("digits.confidence", "DOUBLE"))
    call = Apply(inputs, ModelCall("classify", (column(key).expr,), "classify"), outputs)
    return Join(plan, call, "lookup", None, (("x", "x.input"),))


@pytest.fixture
def five_fails(monkeypatch):
    def classify(x):
        if x == 5:
            raise ValueError("not five")
        return x * 3 % 7, 0.5

    monkeypatch.setitem(ANSWERS, "classify", classify)


def test_a_failed_input_fails_all_its_rows(world, five_fails):
    fives = [i for i in range(40) if i * 7 % 11 == 5]
    skipped = world.real(looked_up(), "skip")
    assert [row[0] for row in skipped] == [i for i in range(40) if i not in fives]
    kept = world.real(looked_up(), "null")
    assert [row[0] for row in kept] == list(range(40))
    assert [row[0] for row in kept if row[2] is None] == fives
    with pytest.raises(RunError, match=f"row {fives[0]}"):
        world.real(looked_up())


def test_rows_keep_their_order_through_a_lookup(world):
    plan = looked_up()
    assert world.real(plan, batch=3) == world.naive(plan)[0]


def test_plans_are_written_as_text_with_shared_nodes_once():
    text = format_plan(looked_up())
    assert text.count("Source") == 1
    assert text.count("r0") == 2
