"""Pipelines inlined: contexts, columns, conditions, and what stands in for what."""

import pytest
from binding_catalog import NAIVE, demo_catalog
from naive import Naive
from octans.dsl.binder import bind_analyze, bind_select
from octans.dsl.diagnostics import render
from octans.dsl.parser import parse_one
from octans.errors import BindError
from octans.ir.logical import Apply, Each, ModelCall, When, condition_of, model_call
from octans.ir.node import collect
from octans.ir.types import NamedExpr, SqlExpr


@pytest.fixture
def catalog():
    return demo_catalog()


def bound(query, catalog):
    return bind_select(parse_one(query), catalog)


def calls(plan):
    return {model_call(node.call).context: node for node in collect(plan, Apply)}


def test_steps_keep_their_context_and_name_their_columns(catalog):
    """Statistics, ADVICE and EXPLAIN find a step by these."""
    found = calls(bound("SELECT read_amount(strip) FROM strips", catalog).plan)
    assert list(found) == [
        "read_amount.glyphs",
        "read_amount.digits",
        "read_amount.again.luhn",
        "read_amount.again",
        "read_amount.return",
    ]
    assert [f.name for f in found["read_amount.digits"].outputs] == [
        "digits.digit",
        "digits.confidence",
    ]
    assert [f.type for f in found["read_amount.digits"].outputs] == ["INTEGER[]", "DOUBLE[]"]
    assert [f.name for f in found["read_amount.glyphs"].outputs] == ["glyphs"]


def test_each_and_when_become_part_of_the_call(catalog):
    """`When(condition, Each(call))`, with the step it stands in for."""
    again = calls(bound("SELECT read_amount(strip) FROM strips", catalog).plan)["read_amount.again"]
    assert isinstance(again.call, When)
    assert isinstance(again.call.call, Each)
    assert again.call.condition.columns == ("luhn",)
    assert again.call.instead_of == ("read_amount.digits",)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("COALESCE(b, a)", ("p.a",)),
        ("COALESCE(b, a, 0)", ("p.a",)),
        ("COALESCE(a, b)", ()),
        ("COALESCE(b, a + 1)", ()),
        ("COALESCE(b, a) + a", ()),
        ("b", ()),
    ],
)
def test_a_step_stands_in_only_behind_coalesce(result, expected, catalog):
    """Any other use of the earlier answer makes it matter."""
    catalog.declare(
        "CREATE PIPELINE p (x BIGINT) RETURNS (y BIGINT) AS BEGIN "
        f"a := double(x); b := quadruple_(x) WHEN a > 4; RETURN {result}; END;".replace(
            "quadruple_", "dice"
        )
    )
    call = calls(bound("SELECT p(id) FROM numbers", catalog).plan)["p.b"].call
    assert isinstance(call, When)
    assert call.instead_of == expected


def test_the_same_pipeline_on_other_arguments_gets_other_columns(catalog):
    """The prefix is numbered, so that the part behind the dot stays the output's name."""
    plan = bound("SELECT parts(id).half, parts(k).half FROM numbers", catalog).plan
    made = [f.name for node in collect(plan, Apply) for f in node.outputs]
    assert {"d.quotient", "d.remainder", "d_2.quotient", "d_2.remainder"} <= set(made)


def test_calls_of_one_scope_are_shared_unless_volatile(catalog):
    """`SELECT f(x) … WHERE f(x)` calls once; a volatile model answers anew."""
    query = "SELECT {0}(id), {0}(id) + 1 FROM numbers WHERE {0}(id) > 2"
    assert len(collect(bound(query.format("double"), catalog).plan, Apply)) == 1
    volatile = collect(bound(query.format("dice"), catalog).plan, Apply)
    assert len(volatile) == 3
    assert all(model_call(node.call).volatile for node in volatile)


def test_a_skipped_step_is_null_also_as_a_whole(catalog):
    """Its struct is NULL, not a struct of NULLs."""
    catalog.declare(
        "CREATE PIPELINE p (x BIGINT) RETURNS (y BIGINT) AS BEGIN "
        "a := divide(x, 2); b := divide(x, 3) WHEN x > 5; RETURN COALESCE(b, a).quotient; END;"
    )
    query = bound("SELECT id, p(id) FROM numbers ORDER BY id", catalog)
    rows = Naive(catalog.connection, NAIVE).rows(query.plan)
    assert rows == [(i, i // 3 if i > 5 else i // 2) for i in range(8)]


def test_arguments_of_a_conditional_call_are_computed_only_there(catalog):
    """A cast that would fail elsewhere must not run elsewhere."""
    query = bound(
        "SELECT CASE WHEN name LIKE 'n%' THEN 0 ELSE double(CAST(name AS BIGINT)) END FROM numbers",
        catalog,
    )
    assert Naive(catalog.connection, NAIVE).rows(query.plan) == [(0,)] * 8


def test_case_branches_run_as_when_does(catalog):
    """Each branch under its condition and the negation of the earlier ones."""
    naive = Naive(catalog.connection, NAIVE)
    query = bound(
        "SELECT CASE WHEN id < 2 THEN double(id) WHEN is_even(id) THEN 0 "
        "ELSE quadruple(id) END FROM numbers",
        catalog,
    )
    assert naive.rows(query.plan) == [(0,), (2,), (0,), (12,), (0,), (20,), (0,), (28,)]
    assert naive.calls == {"double": 2 + 3 + 3, "is_even": 6}


def test_models_win_over_built_in_functions(catalog):
    """sqlglot reads `translate` as its own, DuckDB has a three-argument one."""
    catalog.declare("CREATE MODEL translate (t VARCHAR, lang VARCHAR) RETURNS (o VARCHAR);")
    plan = bound("SELECT translate(name, 'de') FROM numbers", catalog).plan
    (node,) = collect(plan, Apply)
    assert isinstance(node.call, ModelCall)
    assert [arg.text for arg in node.call.args] == ['"name"', "'de'"]


def test_a_model_may_be_named_like_a_statement(catalog):
    """SUMMARIZE is a statement of DuckDB's."""
    catalog.declare("CREATE MODEL summarize (t VARCHAR) RETURNS (o VARCHAR);")
    assert bound("SELECT summarize(name) FROM numbers", catalog).calls


def test_an_error_inside_a_stored_pipeline_shows_its_text(catalog):
    """The model changed under the pipeline: the caret stands in the pipeline, not the query."""
    catalog.declare("CREATE OR REPLACE MODEL luhn (digits VARCHAR) RETURNS (ok BOOLEAN);")
    with pytest.raises(BindError) as caught:
        bound("SELECT read_amount(strip) FROM strips", catalog)
    shown = render(caught.value.in_source("SELECT …", "query.sql"))
    assert "pipeline read_amount" in shown
    assert "digits.digit" in shown


def test_results_of_several_outputs_are_a_struct(catalog):
    """Matched by name, in the order of RETURNS."""
    query = bound("SELECT parts(id) AS p FROM numbers", catalog)
    assert [f.type for f in query.fields] == ["STRUCT(half BIGINT, whole BIGINT)"]


def test_analyze_binds_inputs_labels_and_clusters(catalog):
    """By name over USING's columns; a step's label goes to the step's context."""
    found = bind_analyze(
        parse_one(
            "ANALYZE PIPELINE read_amount USING (SELECT strip, truth, branch FROM strips) "
            "LABELS (amount := truth, digits.digit := [truth]) SAMPLE 300 "
            "CLUSTER BY branch BUDGET 60 s, 2 USD"
        ),
        catalog,
    )
    assert [(label.context, label.output) for label in found.labels] == [
        ("read_amount", "amount"),
        ("read_amount.digits", "digit"),
    ]
    assert found.cluster is not None
    assert found.cluster.columns == ("branch",)
    assert (found.budget_seconds, found.budget_usd, found.sample) == (60.0, 2.0, 300)
    assert [(item.name, item.type) for item in found.inputs] == [("strip", "BLOB")]


def test_the_body_of_an_analyze_runs_over_a_relation(catalog):
    """Kept columns first, then the subject's outputs."""
    found = bind_analyze(
        parse_one("ANALYZE PIPELINE parts USING (SELECT id AS x FROM numbers)"), catalog
    )
    keep = (NamedExpr("x2", SqlExpr('"x"', ("x",)), "BIGINT"),)
    plan = found.body("(SELECT 5::BIGINT AS x)", keep)
    assert [f.name for f in plan.schema] == ["x2", "half", "whole"]
    assert Naive(catalog.connection, NAIVE).rows(plan) == [(5, 2, 20)]
    model = bind_analyze(
        parse_one("ANALYZE MODEL divide USING (SELECT id AS a, 2 AS b FROM numbers)"), catalog
    )
    assert [item.expr.text for item in model.inputs] == ['"a"', 'CAST("b" AS BIGINT)']
    plan = model.body("(SELECT 7::BIGINT AS a, 2::BIGINT AS b)")
    assert Naive(catalog.connection, NAIVE).rows(plan) == [(3, 1)]


def test_conditions_of_plain_calls_are_absent(catalog):
    """Nothing is conditional that SQL would always evaluate."""
    plan = bound("SELECT double(id) FROM numbers WHERE is_even(id) OR k = 1", catalog).plan
    assert all(condition_of(node.call) is None for node in collect(plan, Apply))


def test_a_cte_with_calls_is_one_node(catalog):
    """Read twice, computed once."""
    plan = bound(
        "WITH e AS (SELECT id, double(id) AS d FROM numbers) "
        "SELECT a.id FROM e AS a JOIN e AS b ON a.d = b.id",
        catalog,
    ).plan
    assert len(collect(plan, Apply)) == 1


def test_a_random_cte_is_computed_once(catalog):
    """Both readers see the same rows although DuckDB would compute its text twice."""
    plan = bound(
        "WITH e AS (SELECT id, random() AS r FROM numbers) "
        "SELECT a.id, double(a.id), a.r = b.r FROM e AS a, (SELECT * FROM e) AS b "
        "WHERE a.id = b.id",
        catalog,
    ).plan
    rows = Naive(catalog.connection, NAIVE).rows(plan)
    assert len(rows) == 8
    assert all(same for _, _, same in rows)


def test_groups_by_a_volatile_output_are_that_output(catalog):
    """`GROUP BY d` must not call the dice again."""
    plan = bound("SELECT dice(id) AS d, count(*) FROM numbers GROUP BY d", catalog).plan
    assert len(collect(plan, Apply)) == 1
