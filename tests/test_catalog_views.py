"""SHOW and DESCRIBE say what is declared, in words, and never mistake a typo for emptiness."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from octans.catalog_db.catalog import Catalog
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
    TokenPrice,
    Variant,
)
from octans.ir.slo import Constraint, Objective, Slo
from octans.ir.types import Field
from octans.stats.observation import Observation

KINDS = [
    "models", "variants", "devices", "links", "pipelines", "slos", "deployments", "plans",
    "statistics", "observations", "runs", "histories", "jobs",
]  # fmt: skip
GLYPH = (Field("glyph", "FLOAT[64]"),)
DIGIT = (Field("digit", "INTEGER"), Field("confidence", "DOUBLE"))


@pytest.fixture
def catalog():
    with Catalog.open() as opened:
        opened.save(Model("classify", GLYPH, DIGIT, Metric("within", "digit", (1,))), replace=False)
        opened.save(
            Variant(
                "classify", "forest", Backend("python", "m:f", (("note", "it's"), ("fast", True))),
                knobs=(KnobDomain("trees", (10, 100)), KnobDomain("kind", ("a", None, 0.5))),
                price=TokenPrice(1e-6, 2e-6),
            ),
            replace=False,
        )  # fmt: skip
        opened.save(
            Variant("classify", "small", None, Derivation("classify.forest", "PRUNE", (0.5,))),
            replace=False,
        )
        opened.save(Device("cpu", "cpu", 2, 1, 2**34, 0.1), replace=False)
        opened.save(Link("edge", "cloud", 6.25e6, 0.02), replace=False)
        opened.save(Pipeline("read", GLYPH, DIGIT[:1], "CREATE PIPELINE read …"), replace=False)
        opened.save(
            Slo(
                (
                    Constraint("accuracy", ">=", 0.95, confidence=0.9),
                    Constraint("latency_p95", "<=", 0.2, model="classify", soft=0.1),
                    Constraint("custom", "<=", 3.0, custom="mine", per_token=True),
                ),
                Objective("throughput", maximize=True),
                "fast",
            ),
            replace=False,
        )
        yield opened


def rows(catalog: Catalog, kind: str, columns: str, of: str | None = None) -> list[tuple]:
    return catalog.show(kind, of).select(columns).fetchall()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_shown_and_is_a_relation(catalog, kind):
    catalog.show(kind).fetchall()
    catalog.cursor().execute(f"SELECT * FROM octans.{kind}").fetchall()


def test_an_empty_catalog_shows_empty_relations():
    with Catalog.open() as empty:
        for kind in KINDS:
            assert empty.show(kind).fetchall() == []
            assert empty.show(kind).columns


def test_definitions_are_shown_as_they_are_written(catalog):
    assert rows(catalog, "models", "name, inputs, outputs, quality, variants") == [
        ("classify", "glyph FLOAT[64]", "digit INTEGER, confidence DOUBLE", "within(digit, 1)", 2)
    ]
    columns = "variant, lineage, backend, options, knobs"
    assert rows(catalog, "variants", columns) == [
        (
            "classify.forest", "forest", "python('m:f')", "note := 'it''s', fast := TRUE",
            "trees IN (10, 100), kind IN ('a', NULL, 0.5)",
        ),
        ("classify.small", "└─ PRUNE(0.5)", None, None, ""),
    ]  # fmt: skip
    assert rows(catalog, "devices", "name, kind, slots, threads, memory_bytes, usd_per_hour") == [
        ("cpu", "cpu", 2, 1, 2**34, 0.1)
    ]
    assert rows(catalog, "links", "source, target, bytes_per_second, latency_seconds") == [
        ("edge", "cloud", 6.25e6, 0.02)
    ]
    assert rows(catalog, "slos", "name, constraints, objective") == [
        (
            "fast",
            "accuracy >= 0.95 AT CONFIDENCE 0.9, latency_p95(classify) <= 0.2 SOFT 0.1, "
            "custom('mine') <= 3.0 PER TOKEN",
            "MAXIMIZE throughput",
        )
    ]


def observe(catalog: Catalog, age: timedelta, **changes) -> None:
    fields = {
        "subject": "read.digits", "metric": "latency", "statistic": "mean", "value": 0.5, "n": 40,
        "low": 0.4, "high": 0.6, "variant": "classify.forest", "knobs": "trees := 10",
        "device": "cpu", "batch": 8, "at": datetime.now(UTC) - age, "variant_version": 1,
    }  # fmt: skip
    catalog.record([Observation(**(fields | changes))])


def test_statistics_tell_age_and_state(catalog):
    observe(catalog, timedelta(hours=5))
    observe(catalog, timedelta(minutes=9), subject="classify", batch=16)
    states = rows(catalog, "statistics", "subject, variant, n, age, state")
    assert sorted(states, key=str) == [
        ("classify", "classify.forest", 40, "9 min", "fresh"),
        ("classify", "classify.small", 0, None, "missing"),
        ("read.digits", "classify.forest", 40, "5 h", "fresh"),
    ]
    assert len(rows(catalog, "statistics", "n", "READ")) == 1
    assert len(rows(catalog, "statistics", "n", "read.digits")) == 1
    assert len(rows(catalog, "statistics", "n", "classify")) == 3
    assert len(rows(catalog, "observations", "n", "classify.forest")) == 2
    assert rows(catalog, "variants", "variant, state", "classify") == [
        ("classify.forest", "measured"),
        ("classify.small", "not built"),
    ]
    catalog.save(catalog.variant("classify.forest"), replace=True)
    assert {state for (state,) in rows(catalog, "statistics", "state")} == {"stale", "missing"}


def test_a_misspelt_name_is_an_error_with_candidates(catalog):
    for kind in ("variants", "statistics", "observations", "plans"):
        with pytest.raises(CatalogError) as caught:
            catalog.show(kind, "clasify")
        assert (caught.value.code, caught.value.candidates) == ("OC0506", ("classify",))
    with pytest.raises(CatalogError):
        catalog.show("nonsense")


def test_describe_tells_every_property(catalog):
    described = {row[1]: row[2] for row in catalog.describe_name("CLASSIFY.Forest").fetchall()}
    assert described["knobs"] == "trees IN (10, 100), kind IN ('a', NULL, 0.5)"
    assert described["backend"] == "python m:f note := 'it''s', fast := TRUE"
    assert described["base"] == "FALSE"
    assert described["version"] == "1"
    kinds = {row[0] for row in catalog.describe_name("cpu").fetchall()}
    assert kinds == {"device"}
    assert catalog.describe_name("nobody") is None
