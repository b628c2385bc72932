"""Declarations become catalog objects in base units."""

import pytest
from binding_catalog import demo_catalog
from octans.dsl.binder import bind_select
from octans.dsl.parser import parse_one
from octans.ir.logical import Source
from octans.ir.models import Backend, Derivation, KnobDomain, TokenPrice
from octans.ir.slo import Constraint, Objective, Slo


@pytest.fixture
def catalog():
    return demo_catalog()


def declare(text, catalog):
    return catalog.declare(text)[0]


def test_a_model_takes_duckdbs_types(catalog):
    """Spelled as DESCRIBE spells them, so that types compare as text."""
    model = declare(
        "CREATE MODEL m (a INT, b STRUCT(x INT, y TEXT)[], c DECIMAL) RETURNS (z FLOAT[64]) "
        "QUALITY within(z, 0.5);",
        catalog,
    )
    assert [f.type for f in model.inputs] == [
        "INTEGER",
        "STRUCT(x INTEGER, y VARCHAR)[]",
        "DECIMAL(18,3)",
    ]
    assert (model.quality.name, model.quality.output, model.quality.args) == ("within", "z", (0.5,))


def test_a_variant_keeps_everything_said_of_it(catalog):
    """Backend with options, knobs in the order written, prices per token."""
    found = declare(
        "CREATE VARIANT shout.api USING openai('small', base_url := 'http://h/v1', n := 2) "
        "KNOBS (t IN (3, 1, 2)) PRICE 0.15 USD PER 1e6 INPUT TOKENS, "
        "0.60 USD PER 1e6 OUTPUT TOKENS VOLATILE;",
        catalog,
    )
    assert found.backend == Backend("openai", "small", (("base_url", "http://h/v1"), ("n", 2)))
    assert found.knobs == (KnobDomain("t", (3, 1, 2)),)
    assert found.price == TokenPrice(0.15e-6, 0.60e-6)
    assert found.volatile


def test_a_derived_variant_knows_its_base(catalog):
    """Lineage is kept, the base by its full name."""
    found = declare("CREATE VARIANT classify.i8 FROM classify.mlp BY QUANTIZE('int8');", catalog)
    assert found.derivation == Derivation("classify.mlp", "quantize", ("int8",))


def test_the_base_may_be_declared_again(catalog):
    """CREATE OR REPLACE of the BASE variant is not a second one."""
    text = "CREATE OR REPLACE VARIANT classify.mlp USING onnx('models/other.onnx') BASE;"
    assert declare(text, catalog).base


def test_devices_and_links_are_in_base_units(catalog):
    """Bytes, USD per hour, watts, bytes per second, seconds."""
    device = catalog.device("cpu")
    assert (device.kind, device.count, device.threads) == ("cpu", 2, 1)
    assert (device.memory_bytes, device.usd_per_hour) == (16 * 10**9, 0.1)
    link = declare("CREATE LINK edge TO cloud (BANDWIDTH 50 Mbit/s, LATENCY 20 ms);", catalog)
    assert (link.source, link.target) == ("edge", "cloud")
    assert (link.bytes_per_second, link.latency_seconds) == (6.25e6, 0.02)


def test_a_pipelines_text_binds_again(catalog):
    """It is stored as canonical text and bound anew wherever it is used."""
    text = catalog.pipeline("read_amount").text
    assert declare(text, catalog).text == text


def slo_of(clause, catalog):
    return bind_select(parse_one(f"SELECT double(id) FROM numbers {clause}"), catalog).slo


def test_an_slo_is_resolved_and_its_objective_overridden(catalog):
    """The clause's own objective wins over the named SLO's."""
    named = slo_of("WITH SLO interactive", catalog)
    assert named.constraints == (
        Constraint("latency_p95", "<=", 0.2),
        Constraint("accuracy", ">=", 0.95, confidence=0.95),
    )
    assert named.objective == Objective("cost")
    assert slo_of("WITH SLO interactive MINIMIZE latency", catalog).objective == Objective(
        "latency_p95"
    )
    assert slo_of("", catalog) == Slo()


def test_constraints_take_models_custom_metrics_and_softness(catalog):
    """All the forms of one constraint."""
    found = slo_of(
        "WITH SLO (latency_p95(double) <= 20 ms, custom('spice') <= 3, cost <= 1 USD SOFT 10 %)",
        catalog,
    )
    assert found.constraints == (
        Constraint("latency_p95", "<=", 0.02, model="double"),
        Constraint("custom", "<=", 3.0, custom="spice"),
        Constraint("cost", "<=", 1.0, soft=0.1),
    )


def test_plain_sql_is_handed_back(catalog):
    """No call, no plan: DuckDB runs the text."""
    found = bind_select(parse_one("SELECT k, count(*) FROM numbers GROUP BY k"), catalog)
    assert not found.calls
    assert isinstance(found.plan, Source)


def test_accuracy_of_one_model_may_be_asked_of_an_aggregate(catalog):
    """Only the query's own accuracy is undefined."""
    query = "SELECT sum(double(id)) FROM numbers WITH SLO (accuracy(double) >= 0.9)"
    found = bind_select(parse_one(query), catalog)
    assert found.accuracy_undefined == "the query aggregates"


def test_groups_below_the_calls_are_source_rows(catalog):
    """A call over aggregates of plain columns has a right answer per group."""
    query = "SELECT k, shout(max(name)) FROM numbers GROUP BY k WITH SLO (accuracy >= 0.9)"
    assert bind_select(parse_one(query), catalog).accuracy_undefined is None
