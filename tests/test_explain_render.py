"""The renderers: aligned text, valid JSON, escaped HTML, and numbers a person can read."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from explain_samples import NOW, SAMPLES, SNAPSHOTS, analyzed, counted, explained, measured
from octans.ir.estimates import Cost, Estimate
from octans.ir.explain import ExplainNode, Explanation
from octans.ir.physical import Choice
from octans.planner.explain.html import to_html
from octans.planner.explain.json import to_document, to_json
from octans.planner.explain.layout import width
from octans.planner.explain.numbers import age, digits, interval, percent, provenance, quantity
from octans.planner.explain.sections import q_error
from octans.planner.explain.text import to_text

SCHEMA = Path(__file__).parent.parent / "docs" / "explain.schema.json"
EVIL = "<script>alert('x')</script>\x1b[31m"


def bare():
    """Nothing is known."""
    node = ExplainNode("n0", "stage", "s", choice=Choice("m.v"))
    return Explanation("SELECT 1", (node,), Cost(), "MINIMIZE cost")


def evil():
    """Every text comes from a user who means harm."""
    plan = explained()
    nodes = tuple(
        replace(n, title=EVIL, detail=(EVIL,), choice=Choice(EVIL, ((EVIL, EVIL),), 1, EVIL))
        for n in plan.nodes
    )
    hostile = dict.fromkeys(("flips", "why_not", "steps", "notes", "failures"), (EVIL,))
    end = replace(plan.runner_up, label=EVIL, note=EVIL, differs=(EVIL,), advice=EVIL)
    return replace(
        plan, query=EVIL, nodes=nodes, objective=EVIL, advice=EVIL, ends=(end,), runner_up=end,
        frontier=(end, end), fingerprint=EVIL, alternatives=(end,), **hostile,
        verdicts=tuple(replace(v, text=EVIL, guarantee=EVIL) for v in plan.verdicts),
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_text_is_as_in_the_snapshot(name):
    """A change of layout is seen; `python tests/explain_samples.py` rewrites the snapshots."""
    expected = (SNAPSHOTS / f"{name}.txt").read_text(encoding="utf-8")
    assert to_text(SAMPLES[name]()) + "\n" == expected


def test_text_has_no_escape_codes_unless_asked():
    assert "\x1b" not in to_text(analyzed())
    colored = to_text(analyzed(), color=True)
    assert re.sub(r"\x1b\[\d+m", "", colored) == to_text(analyzed())


def test_control_characters_of_names_never_reach_the_terminal():
    assert "\x1b" not in to_text(evil())
    assert r"\x1b[31m" in to_text(evil())


def test_unknown_prints_as_a_question_mark_never_as_zero():
    text = to_text(bare())
    assert "?" in text
    assert not re.search(r"\b0\b", text)


def test_a_shared_node_prints_once_and_is_referred_to():
    text = to_text(explained())
    assert text.count("classify.forest (trees := 100) · batch 64 · cpu\n") <= 1
    assert text.count("classify(EACH") == 1
    assert "shared, see #1" in text


def test_long_chains_do_not_indent_or_recurse():
    nodes = [ExplainNode("n0", "scan", "scan")]
    nodes += [ExplainNode(f"n{i}", "step", "filter", inputs=(f"n{i - 1}",)) for i in range(1, 3000)]
    text = to_text(Explanation("q", tuple(nodes), Cost(), "MINIMIZE cost"))
    assert text.count("• filter") == 2999
    assert max(map(len, text.splitlines())) < 60


def test_three_branches_are_drawn_apart():
    leaves = tuple(ExplainNode(f"n{i}", "scan", f"scan {i}") for i in range(3))
    root = ExplainNode("n3", "sql", "union", inputs=("n0", "n1", "n2"))
    lines = to_text(Explanation("q", (*leaves, root), Cost(), "")).splitlines()
    drawn = [line for line in lines if "scan" in line]
    assert [line[:2] for line in drawn] == ["├─", "├─", "└─"]


def test_wide_characters_keep_columns_aligned():
    assert width("数字") == 4
    assert width("é") == 1


def test_wrapping_keeps_to_the_width_where_words_allow():
    text = to_text(explained(), columns=70)
    query = text.splitlines()[1:4]
    assert all(len(line) <= 70 for line in query)


@pytest.mark.parametrize("make", [explained, analyzed, bare, evil])
def test_json_follows_its_schema(make):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(to_json(make())), schema)


def test_the_schema_names_every_member_of_a_document():
    """A member added to the document must be described: all objects are closed over here."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    document = to_document(analyzed())
    assert set(document) == set(schema["properties"]) == set(schema["required"])
    node = schema["$defs"]["node"]
    assert set(document["nodes"][0]) == set(node["properties"]) == set(node["required"])
    verdict = schema["$defs"]["verdict"]
    assert set(document["verdicts"][0]) == set(verdict["properties"])
    assert set(document["totals"]) == set(schema["$defs"]["cost"]["required"])


def test_unknown_is_null_in_json_and_infinity_too():
    document = to_document(bare())
    assert set(document["totals"].values()) == {None}
    assert document["nodes"][0]["seconds"] is None
    open_end = replace(bare(), totals=Cost(cost=Estimate(1.0, 0.5, float("inf"), 3)))
    assert json.loads(to_json(open_end))["totals"]["cost"]["high"] is None


class Reader(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in ("meta", "br", "line", "circle"):
            assert self.open.pop() == tag


@pytest.mark.parametrize("make", [explained, analyzed, bare, evil])
def test_html_is_one_file_with_everything_escaped(make):
    text = to_html(make())
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert not [tag for tag, _ in reader.tags if tag in ("script", "link", "img", "iframe")]
    assert not [a for _, attrs in reader.tags for a in attrs if a.startswith("on") or a == "src"]
    assert "<script" not in text
    assert "\x1b" not in text
    assert "http" not in text


def test_html_plots_the_frontier_and_highlights_the_choice():
    text = to_html(explained())
    assert text.count("<svg") == 2
    assert text.count('class="chosen"') == 2
    assert text.count('class="plan"') == 4


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "?"),
        (0.0, "s", "0 s"),
        (0.0123, "s", "12.3 ms"),
        (0.9999, "s", "1.00 s"),
        (90, "s", "1.50 min"),
        (7200, "s", "2.00 h"),
        (2.1e-5, "USD", "$0.000021"),
        (0, "USD", "$0"),
        (1234.5, "USD", "$1,234"),
        (0.962, "share", "96.2 %"),
        (1.0, "share", "100.0 %"),
        (0.99987, "share", "99.99 %"),
        (16e9, "B", "16.0 GB"),
        (5000, "rows", "5,000"),
        (0.4, "rows", "0.400"),
        (float("inf"), "rows", "∞"),
    ],
)
def test_quantities_read_like_a_person_writes_them(value, unit, text):
    assert quantity(value, unit) == text


def test_an_interval_stands_in_the_unit_of_its_value():
    assert interval(measured(0.0123, 0.0009, 1.2), "s") == "[0.9, 1,200.0]"
    assert interval(measured(0.962, 0.948, 0.973), "share") == "[94.8, 97.3]"
    assert interval(counted(5), "rows") == ""
    assert interval(None, "s") == ""


def test_provenance_tells_sample_age_and_source():
    assert provenance(measured(1), NOW) == "n = 450, 3 min"
    assert provenance(measured(1, source="prior", n=0, minutes=60 * 50), NOW) == "2 d, prior"
    assert age(NOW + timedelta(hours=1), NOW) == "now"
    assert age(None, NOW) == ""


def test_changes_read_as_percent_or_multiples():
    assert percent(0.095) == "+9.5 %"
    assert percent(-0.5) == "−50 %"
    assert percent(20) == "×21"


def test_digits_never_show_an_exponent_for_readable_numbers():
    assert digits(0.00000123) == "0.00000123"
    assert digits(1.23e-7) == "1.23e-7"
    assert interval(measured(4.3e-7, 4.1e-7, 1.2e-6), "USD") == "[4.10e-7, 1.20e-6]"


def test_the_q_error_of_accuracy_is_on_the_error_rate():
    assert q_error("accuracy", 0.99, 0.98) == pytest.approx(2.0)
    assert q_error("wall", 10.0, 5.0) == 2.0
    assert q_error("wall", None, 5.0) is None
    assert q_error("accuracy", 1.0, 0.9) is None
    assert q_error("accuracy", 1.0, 1.0) == 1.0
