"""Small plain-data helpers: knob texts, SLO limits, estimates."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from octans.ir.estimates import Cost, Estimate, weakest
from octans.ir.models import Model, Variant, knobs_text, output_field, scalar_text
from octans.ir.physical import Choice, PhysicalPlan, SqlScan, Stage
from octans.ir.slo import HIGHER_IS_BETTER, LOWER_IS_BETTER, METRICS, UNITS, Constraint
from octans.ir.types import Field, column, field_named, names, quote

DUCKDB = duckdb.connect()


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    )
)
def test_a_scalars_text_is_a_sql_literal_of_its_value(value):
    (row,) = DUCKDB.execute(f"SELECT {scalar_text(value)}").fetchall()
    assert float(row[0]) == value if isinstance(value, float) else row[0] == value


def test_knobs_are_written_as_in_the_language():
    assert knobs_text(()) == ""
    assert knobs_text((("depth", 8), ("mode", "it's"))) == "depth := 8, mode := 'it''s'"
    assert str(Choice("m.v", (("k", 1),), 4, "cpu")) == "m.v (k := 1), batch 4, cpu"
    assert str(Choice("m.v")) == "m.v, batch 1, cpu"


def test_names_are_found_and_quoted():
    fields = (Field("a", "INTEGER"), Field('b"c', "DOUBLE"))
    assert names(fields) == ("a", 'b"c')
    assert field_named(fields, "a") is fields[0]
    assert quote('b"c') == '"b""c"'
    assert column(fields[1]).expr.text == '"b""c"'
    assert column(fields[1]).field == fields[1]
    model = Model("m", (), fields)
    assert output_field(model, "a") == fields[0]
    for missing in (lambda: field_named(fields, "z"), lambda: output_field(model, "z")):
        with pytest.raises(KeyError):
            missing()
    assert Variant("m", "v", None).full_name == "m.v"


def test_a_limit_allows_its_own_value():
    at_most, at_least = Constraint("cost", "<=", 1.0), Constraint("accuracy", ">=", 0.9)
    assert at_most.allows(1.0)
    assert not at_most.allows(1.01)
    assert at_least.allows(0.9)
    assert not at_least.allows(0.89)


def test_every_metric_has_a_direction_and_a_unit():
    assert not LOWER_IS_BETTER & HIGHER_IS_BETTER
    assert set(UNITS) == METRICS


def test_a_computed_estimate_is_as_good_as_its_weakest_part():
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    measured = Estimate(1, 0.5, 2, 10, at=late)
    assert weakest([measured]) == (10, "measured", late)
    assert weakest([measured, Estimate(1, 1, 1, 5, at=early)]) == (5, "modelled", early)
    assert weakest([measured, Estimate(1, 1, 1, 50, "prior")]) == (10, "prior", late)
    assert weakest([]) == (0, "modelled", None)
    assert measured.scaled(2) == Estimate(2, 1, 4, 10, at=late)
    assert Cost(cost=measured).metric("cost") is measured
    assert Cost().metric("wall") is None
    with pytest.raises(AttributeError):
        Cost().metric("nonsense")


def test_a_physical_plan_lists_its_stages_inputs_first():
    scan = SqlScan("SELECT 1 AS a", (Field("a", "INTEGER"),))
    one = Stage(scan, "x", "m", "m", ("a",), (Field("x", "INTEGER"),), ("y",), Choice("m.v"))
    two = Stage(one, "z", "m", "m", ("x",), (Field("z", "INTEGER"),), ("y",), Choice("m.v"))
    plan = PhysicalPlan(two)
    assert plan.stages == (one, two)
    assert names(two.schema) == ("a", "x", "z")
    assert plan.fingerprint != PhysicalPlan(two, "skip").fingerprint
