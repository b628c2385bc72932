"""Errors drawn for people, near names, units and the text of an advice."""

import pytest
from octans.dsl.advice import parse_advice
from octans.dsl.ast import Quantity
from octans.dsl.diagnostics import nearest, render
from octans.dsl.parser import parse_one
from octans.dsl.units import UNITS, require, to_base
from octans.errors import OctansError, PlanError, Span, SyntaxProblem
from octans.ir.physical import Named
from octans.ir.slo import UNITS as METRIC_UNITS


def drawn(text, start, end, label="here", **kwargs):
    error = OctansError("message", code="OC0999", span=Span(start, end), label=label, **kwargs)
    return render(error.in_source(text, "query.sql")).splitlines()[1:]


def test_the_shape_of_the_language_page():
    """Code, message, place, gutter, carets, label, notes and help stand as documented."""
    text = "\n\n\nWITH SLO (accuracy >= 0.99, cost <= 0.0002 USD)\n"
    start = text.index("accuracy")
    error = PlanError(
        "no plan reaches accuracy >= 0.99 within cost <= 0.0002 USD",
        code="OC0312",
        span=Span(start, start + len("accuracy >= 0.99")),
        label="the best plan within this cost reaches 0.947 [0.925, 0.963], n = 400",
        notes=("the limiting model is classify; its best variant is classify.mlp (0.962)",),
        hint="accuracy >= 0.94 within this cost",
    ).in_source(text, "query.sql")
    assert render(error) == (
        "error[OC0312]: no plan reaches accuracy >= 0.99 within cost <= 0.0002 USD\n"
        "  --> query.sql:4:11\n"
        "   4 | WITH SLO (accuracy >= 0.99, cost <= 0.0002 USD)\n"
        "     |           ^^^^^^^^^^^^^^^^ the best plan within this cost reaches 0.947 "
        "[0.925, 0.963], n = 400\n"
        "  note: the limiting model is classify; its best variant is classify.mlp (0.962)\n"
        "  help: accuracy >= 0.94 within this cost"
    )


def test_tabs_and_wide_characters_keep_the_carets_below():
    """Carets are counted in cells of a terminal, the column in characters."""
    assert drawn("\ta\tbc", 3, 5) == [
        "  --> query.sql:1:4",
        "   1 |     a   bc",
        "     |         ^^ here",
    ]
    assert drawn("日本 x", 0, 2) == ["  --> query.sql:1:1", "   1 | 日本 x", "     | ^^^^ here"]
    assert drawn("日本 x", 3, 4)[2] == "     |      ^ here"
    assert drawn("e\u0301a", 2, 3)[2] == "     |  ^ here"
    assert drawn("a\x00b", 1, 2)[1:] == ["   1 | a·b", "     |  ^ here"]


def test_a_span_over_several_lines():
    """Each line has its carets; blank lines are left out; the label stands at the last."""
    assert drawn("SELECT a,\n\n  b\r\nFROM t", 7, 20) == [
        "  --> query.sql:1:8",
        "   1 | SELECT a,",
        "     |        ^^",
        "   3 |   b",
        "     |   ^",
        "   4 | FROM t",
        "     | ^^^^ here",
    ]


def test_a_long_span_shows_its_ends():
    """The middle of a span of many lines is left out, and said to be."""
    lines = drawn("\n".join(f"line {i}" for i in range(100)), 0, 500)
    assert sum("…" in line for line in lines) == 1
    assert len(lines) < 16
    assert lines[-1].endswith("here")


def test_the_end_of_the_text():
    """A span behind the text stands behind its last visible character."""
    assert drawn("SELECT\n\n  ", 10, 10)[1:] == ["   1 | SELECT", "     |       ^ here"]
    assert drawn("", 0, 0)[0] == "  --> query.sql:1:1"
    assert drawn("abc", 70, 90)[2] == "     |    ^ here"


def test_a_very_long_line_is_cut_around_the_place():
    """A script in one line of a megabyte does not fill the terminal."""
    text = "a" * 500_000 + "BAD" + "b" * 500_000
    shown, carets = drawn(text, 500_000, 500_003)[1:]
    assert len(shown) < 200
    at = carets.index("^")
    assert shown[at : at + 3] == "BAD"


def test_without_a_source_or_a_span():
    """Nothing to point at: the message alone, with its notes."""
    error = OctansError("broken", code="OC0999", notes=("two\nlines",), candidates=("a", "b"))
    assert render(error) == (
        "error[OC0999]: broken\n  note: two\n        lines\n  help: did you mean a or b?"
    )
    assert "\033[" in render(error, color=True)
    assert "\033[" not in render(error)


def test_nearest_gives_all_equally_near():
    """Every equally near name is a candidate, far ones are none, case and swaps are small."""
    assert nearest("clasify", ["classify", "judge"]) == ("classify",)
    assert nearest("mlp_c", ["mlp_a", "mlp_b", "forest"]) == ("mlp_a", "mlp_b")
    assert nearest("Classfiy", ["classify"]) == ("classify",)
    assert nearest("xyz", ["classify", "judge"]) == ()
    assert nearest("a", ["b"]) == ("b",)
    assert nearest("classify", []) == ()


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        ("200 ms", 0.2, "s"), ("15 min", 900, "s"), ("16 GB", 16e9, "B"), ("1 GiB", 2**30, "B"),
        ("50 Mbit/s", 6.25e6, "B/s"), ("5 USD", 5, "USD"), ("3 J", 3, "J"), ("2 Wh", 7200, "J"),
        ("0.4 g CO2", 0.4, "g"), ("20 /s", 20, "/s"), ("97 %", 0.97, "share"), ("400 W", 400, "W"),
        ("0.1 USD PER HOUR", 0.1, "USD/h"), ("2.4 USD PER DAY", 0.1, "USD/h"), ("-3", -3, ""),
        ("400 g CO2/kWh", 400, "g/kWh"), ("1_000 ms", 1, "s"), (".5 s", 0.5, "s"),
    ],
)  # fmt: skip
def test_quantities_are_in_base_units(text, value, dimension):
    """Every unit of the language, with its dimension."""
    limit = parse_one(f"CREATE SLO s AS (wall <= {text})").constraints[0].limit
    assert limit.value == pytest.approx(value, rel=1e-15)
    assert limit.dimension == dimension
    again = parse_one(f"CREATE SLO s AS (wall <= {limit.text})").constraints[0].limit
    assert again == limit


def test_every_unit_is_read_as_it_is_printed():
    """The table and the grammar agree."""
    for unit in UNITS:
        limit = parse_one(f"CREATE SLO s AS (wall <= 3 {unit})").constraints[0].limit
        assert (limit.value, limit.dimension) == to_base(3, unit)


def test_a_metrics_unit_is_the_dimension_of_its_limit():
    """The base units of the planner are dimensions here."""
    assert set(METRIC_UNITS.values()) <= {unit.dimension for unit in UNITS.values()}


def test_a_wrong_dimension_is_told_with_an_example():
    """A share may be a plain number and the reverse; nothing else is converted."""
    span = Span(3, 8)
    assert require(Quantity(0.1, "share", "10 %", span), "", "accuracy") == 0.1
    assert require(Quantity(0.1, "", "0.1", span), "share", "SOFT") == 0.1
    with pytest.raises(SyntaxProblem) as caught:
        require(Quantity(5.0, "USD", "5 USD", span), "s", "wall")
    assert caught.value.code == "OC0108"
    assert caught.value.message == "wall is a time such as 200 ms, not 5 USD"
    assert caught.value.span == span


def test_advice():
    """Items with steps, variants and knobs; whatever else is a typed error at its place."""
    text = "VARIANT(read_amount.digits forest trees=500, mode := 'a b')\nbatch(digits 64)"
    variant, batch = parse_advice(text, 10)
    assert (variant.kind, variant.step) == ("VARIANT", "read_amount.digits")
    assert variant.values == (Named("forest", (("trees", "500"), ("mode", "'a b'"))),)
    assert (batch.kind, batch.step, batch.values) == ("BATCH", "digits", (Named("64"),))
    assert parse_advice("", 0) == parse_advice(" \n", 0) == ()
    for wrong in (
        "BATCH(a 0)", "BATCH(a)", "BATCH(a 4 k=1)", "DEVICE(a)", "DEVICE(a cpu k=1)", "VARIANT(a)",
        "VARIANT()", "VARIANT(k=1 a b)", "VARIANT(a k=1 b)", "CASCADE(a b)",
        "CASCADE(a b 0.5 k=1 c)", "CASCADE(a b 0.5 0.6 c)", "x", "VARIANT(a b) )",
    ):  # fmt: skip
        with pytest.raises(SyntaxProblem) as caught:
            parse_advice(wrong, 10)
        assert caught.value.code == "OC0112"
        assert caught.value.span.start >= 10
