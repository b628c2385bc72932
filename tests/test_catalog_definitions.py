"""Definitions survive the file unchanged, and a redefinition makes stale what it should."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from octans.catalog_db import codec
from octans.catalog_db.catalog import Catalog
from octans.catalog_db.definitions import kind_of, name_of
from octans.errors import CatalogError
from octans.ir.models import (
    Backend,
    Derivation,
    Device,
    KnobDomain,
    Link,
    Metric,
    Model,
    Pipeline,
    Prior,
    TokenPrice,
    Variant,
)
from octans.ir.slo import Constraint, Objective, Slo
from octans.ir.types import Field

NAMES = st.text(min_size=1, max_size=12)
TEXTS = st.text(max_size=20)
NUMBERS = st.floats(allow_nan=False)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), NUMBERS, TEXTS)
SCHEMAS = st.lists(st.builds(Field, NAMES, TEXTS), max_size=3).map(tuple)
OPTIONS = st.lists(st.tuples(NAMES, SCALARS), max_size=3).map(tuple)
ARGS = st.lists(SCALARS, max_size=3).map(tuple)
METRICS = st.none() | st.builds(Metric, NAMES, NAMES, ARGS)

MODELS = st.builds(
    Model, NAMES, SCHEMAS, SCHEMAS, METRICS, st.none() | NAMES, st.none() | TEXTS, st.just(1)
)
BACKENDS = st.builds(Backend, NAMES, TEXTS, OPTIONS)
KNOBS = st.lists(st.builds(KnobDomain, NAMES, ARGS), max_size=2).map(tuple)
PRICES = st.none() | st.builds(TokenPrice, NUMBERS, NUMBERS)
PRIORS = st.lists(st.builds(Prior, NAMES, NUMBERS), max_size=2).map(tuple)
VARIANTS = st.builds(
    Variant, st.just("m"), NAMES, st.none() | BACKENDS, st.none(), KNOBS, PRICES, PRIORS,
    st.booleans(), st.booleans(), st.just(1),
)  # fmt: skip
DERIVED = st.builds(
    Variant, st.just("m"), NAMES, st.none(), st.builds(Derivation, NAMES, NAMES, ARGS)
)
DEVICES = st.builds(
    Device, NAMES, NAMES, st.integers(), st.none() | st.integers(), st.none() | st.integers(),
    NUMBERS, st.none() | NUMBERS, TEXTS, st.none() | NUMBERS, st.just(1),
)  # fmt: skip
LINKS = st.builds(Link, NAMES, NAMES, NUMBERS, NUMBERS)
PIPELINES = st.builds(Pipeline, NAMES, SCHEMAS, SCHEMAS, TEXTS, METRICS, st.just(1))
CONSTRAINTS = st.builds(
    Constraint, NAMES, st.sampled_from(["<=", ">="]), NUMBERS, st.none() | NAMES,
    st.none() | NAMES, st.none() | NUMBERS, st.none() | NUMBERS, st.booleans(),
)  # fmt: skip
SLOS = st.builds(
    Slo,
    st.lists(CONSTRAINTS, max_size=3).map(tuple),
    st.builds(Objective, NAMES, st.booleans()),
    NAMES,
)
ANY = st.one_of(MODELS, VARIANTS, DEVICES, LINKS, PIPELINES, SLOS)

CLASSIFY = Model("classify", (Field("x", "INTEGER"),), (Field("y", "INTEGER"),))
PIPE = Pipeline(
    "pipe",
    (Field("x", "INTEGER"),),
    (Field("y", "INTEGER"),),
    "CREATE PIPELINE pipe (x INTEGER) RETURNS (y INTEGER) AS BEGIN a := classify(x); RETURN a; END",
)


def variant(name: str, base: str | None = None) -> Variant:
    if base is not None:
        return Variant("classify", name, None, Derivation(base, "QUANTIZE", ("int8",)))
    return Variant("classify", name, Backend("python", "mod:make"))


@pytest.fixture
def catalog():
    with Catalog.open() as opened:
        opened.save(CLASSIFY, replace=False)
        yield opened


@given(ANY | DERIVED)
def test_the_json_text_loses_nothing(definition):
    again = codec.loads(codec.dumps(definition))
    assert type(again) is type(definition)
    assert again.fingerprint == definition.fingerprint


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANY, min_size=1, max_size=8, unique_by=lambda item: name_of(item).lower()))
def test_every_kind_survives_closing_the_file(tmp_path_factory, definitions):
    path = str(tmp_path_factory.mktemp("catalog") / "c.duckdb")
    with Catalog.open(path) as catalog:
        catalog.save(Model("m", (), ()), replace=False)
        others = [item for item in definitions if name_of(item).lower() != "m"]
        saved = [catalog.save(item, replace=False) for item in others]
    assert saved == others
    with Catalog.open(path) as catalog:
        kept = {
            *catalog.models(), *catalog.variants(), *catalog.devices(), *catalog.links(),
            *catalog.pipelines(), *catalog.slos(),
        }  # fmt: skip
        assert kept == {*others, Model("m", (), ())}
        for item in others:
            if not isinstance(item, Link):
                assert getattr(catalog, kind_of(item))(name_of(item)) == item


def test_names_are_found_whatever_their_case(catalog):
    assert catalog.model("CLASSIFY").name == "classify"
    catalog.save(variant("One"), replace=False)
    assert catalog.variant("classify.ONE").name == "One"
    assert [v.name for v in catalog.variants("Classify")] == ["One"]


def test_a_taken_name_is_refused_unless_replaced(catalog):
    with pytest.raises(CatalogError) as caught:
        catalog.save(CLASSIFY, replace=False)
    assert caught.value.code == "OC0507"
    assert "CREATE OR REPLACE MODEL" in caught.value.hint
    assert catalog.save(CLASSIFY, replace=True).version == 2


def test_a_pipeline_cannot_take_a_models_name(catalog):
    with pytest.raises(CatalogError) as caught:
        catalog.save(PIPE.replace(name="Classify"), replace=True)
    assert caught.value.code == "OC0507"


def test_a_variant_needs_its_model_and_its_base(catalog):
    with pytest.raises(CatalogError) as caught:
        catalog.save(variant("a").replace(model="clasify"), replace=False)
    assert (caught.value.code, caught.value.candidates) == ("OC0506", ("classify",))
    with pytest.raises(CatalogError) as caught:
        catalog.save(variant("a", base="classify.none"), replace=False)
    assert caught.value.code == "OC0506"


def test_an_slo_without_a_name_cannot_be_kept(catalog):
    with pytest.raises(CatalogError) as caught:
        catalog.save(Slo(), replace=False)
    assert caught.value.code == "OC0514"


def test_redefining_a_model_gives_its_variants_and_callers_new_versions(catalog):
    catalog.save(variant("a"), replace=False)
    catalog.save(variant("b", base="classify.a"), replace=False)
    catalog.save(PIPE, replace=False)
    catalog.save(CLASSIFY, replace=True)
    assert catalog.variant("classify.a").version == 2
    assert catalog.variant("classify.b").version == 2
    assert catalog.pipeline("pipe").version == 2


def test_redefining_a_variant_renews_what_is_derived_from_it_and_no_more(catalog):
    catalog.save(variant("a"), replace=False)
    catalog.save(variant("b", base="classify.a"), replace=False)
    catalog.save(variant("c", base="classify.b"), replace=False)
    catalog.save(variant("d"), replace=False)
    catalog.save(PIPE, replace=False)
    catalog.save(variant("a"), replace=True)
    versions = {v.name: v.version for v in catalog.variants("classify")}
    assert versions == {"a": 2, "b": 2, "c": 2, "d": 1}
    assert catalog.pipeline("pipe").version == 1


def test_what_is_needed_is_not_dropped(catalog):
    catalog.save(variant("a"), replace=False)
    catalog.save(variant("b", base="classify.a"), replace=False)
    catalog.save(PIPE, replace=False)
    with pytest.raises(CatalogError) as caught:
        catalog.drop("model", "classify")
    assert caught.value.code == "OC0508"
    for dependant in ("pipeline pipe", "variant classify.a", "variant classify.b"):
        assert dependant in caught.value.message
    with pytest.raises(CatalogError, match=r"classify\.b"):
        catalog.drop("variant", "classify.a")
    for kind, name in (
        ("pipeline", "pipe"), ("variant", "classify.b"), ("variant", "classify.a"),
        ("model", "classify"),
    ):  # fmt: skip
        assert catalog.drop(kind, name)
    assert catalog.models() == ()


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("AS BEGIN RETURN classify(x); END", True),
        ("AS BEGIN a := f(classify (x)); RETURN a; END", True),
        ('AS BEGIN a := "classify"(x); RETURN a; END', True),
        ("AS BEGIN a := reclassify(x); RETURN a; END", False),
        ("AS BEGIN a := f('classify(x)'); RETURN a; END", False),
        ("AS BEGIN classify := f(x); RETURN classify; END", False),
    ],
)
def test_a_call_is_told_from_a_word(catalog, text, needs):
    catalog.save(PIPE.replace(text=f"CREATE PIPELINE pipe (x INTEGER) {text}"), replace=False)
    if needs:
        with pytest.raises(CatalogError, match="pipeline pipe"):
            catalog.drop("model", "classify")
    else:
        assert catalog.drop("model", "classify")


def test_dropping_what_is_not_there(catalog):
    assert catalog.drop("device", "gpu", if_exists=True) is False
    with pytest.raises(CatalogError) as caught:
        catalog.drop("model", "classifi")
    assert (caught.value.code, caught.value.candidates) == ("OC0506", ("classify",))


def test_a_name_that_comes_back_continues_its_versions(catalog):
    catalog.save(variant("a"), replace=False)
    catalog.drop("variant", "classify.a")
    assert catalog.variant("classify.a") is None
    assert catalog.save(variant("a"), replace=False).version == 2


def test_a_link_is_dropped_by_both_its_ends(catalog):
    catalog.save(Link("edge", "cloud", 1e6, 0.02), replace=False)
    assert catalog.drop("link", "edge.cloud")
    assert catalog.links() == ()


def test_a_definition_that_cannot_be_written_is_not_remembered(catalog):
    catalog.connection.execute("DROP TABLE octans_internal.definitions CASCADE")
    with pytest.raises(CatalogError) as caught:
        catalog.save(variant("a"), replace=False)
    assert caught.value.code == "OC0504"
    assert catalog.variant("classify.a") is None
