"""EXPLAIN through a session: advice gives the plan back, WHY NOT answers, formats agree."""

import json
import re
from pathlib import Path

import octans
import pytest
from octans.dsl.advice import parse_advice
from octans.errors import PlanError
from octans.ir.physical import Choice
from octans.planner.advice import narrow
from octans.planner.explain.advice import advice_text, short_key

SETUP = """
CREATE DEVICE cpu (KIND cpu, COUNT 2, THREADS 1, MEMORY 1 GB, PRICE 0.36 USD PER HOUR);
CREATE DEVICE gpu (KIND cuda, COUNT 1, MEMORY 2 GB, PRICE 3.6 USD PER HOUR);
CREATE MODEL digit (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT digit.small USING python('toy:small') KNOBS (trees IN (10, 100));
CREATE VARIANT digit.big USING python('toy:big') BASE;
CREATE VARIANT digit.huge USING python('toy:huge');
CREATE VARIANT digit.unknown USING python('toy:unknown');
CREATE PIPELINE twice (x BIGINT) RETURNS (z BIGINT) QUALITY exact_match(z) AS
BEGIN
  a := digit(x);
  b := digit(a);
  RETURN b;
END;
"""
CHOICES = (
    ("digit.small", "trees := 10", "cpu", 0.001, 0.90, 1e6),
    ("digit.small", "trees := 100", "cpu", 0.004, 0.95, 1e6),
    ("digit.big", "", "cpu", 0.02, 0.99, 1e6),
    ("digit.big", "", "gpu", 0.004, 0.99, 1e6),
    ("digit.huge", "", "cpu", 0.03, 0.995, 5e9),
)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A catalog with measurements made elsewhere, so that nothing has to run."""
    with octans.connect() as session:
        session.sql(SETUP)
        rows = []
        for variant, knobs, device, seconds, quality, memory in CHOICES:
            for batch in (1, 16):
                took = seconds * (1 + 0.1 * batch)
                for statistic in ("mean", "p50", "p90", "p95", "p99"):
                    rows.append((variant, knobs, device, batch, "latency", statistic, took))
            rows.append((variant, knobs, device, None, "memory", "peak", memory))
            rows.append((variant, knobs, None, None, "quality", "mean", quality))
        for variant, knobs, device, batch, metric, statistic, value in rows:
            place = "NULL" if device is None else f"'{device}'"
            size = "NULL" if batch is None else batch
            session.sql(
                "INSERT INTO octans.observations (subject, variant, knobs, device, batch, metric, "
                "statistic, value, ci_low, ci_high, n, n_failed) SELECT "
                f"'digit', '{variant}', '{knobs}', {place}, {size}, '{metric}', '{statistic}', "
                f"{value}, {value * 0.98}, {min(value * 1.02, 1 if metric == 'quality' else 1e18)},"
                " 400, 0"
            )
        yield session


QUERY = "SELECT twice(range) AS z FROM range(1000) WITH SLO (accuracy >= 0.85) MINIMIZE cost"


def text_of(session, options, query=QUERY):
    return session.sql(f"EXPLAIN ({options}) {query}").fetchone()[0]


def test_advice_gives_the_plan_back(session):
    """plan → advice → plan is the identity, for every plan of the frontier."""
    plan = session.explain(QUERY)
    assert len(plan.frontier) > 3
    for summary in plan.frontier:
        again = session.sql(f"EXPLAIN (ADVICE '{summary.advice}') {QUERY.split('WITH SLO')[0]}")
        assert again.explanation().advice == summary.advice
        assert all(line.endswith(": matched") for line in again.explanation().advice_report)


def test_the_advice_explain_prints_can_be_pasted_back(session):
    """Line breaks and all."""
    text = session.sql(f"EXPLAIN {QUERY}").fetchone()[0]
    advice = text[text.index("\nAdvice\n") + 8 :]
    again = session.sql(f"EXPLAIN (ADVICE '{advice}') {QUERY}").explanation()
    assert again.fingerprint == session.explain(QUERY).fingerprint


@pytest.mark.parametrize(
    ("advice", "report"),
    [
        ("VARIANT(a digit.big)", "VARIANT(a digit.big): matched"),
        ("VARIANT(a big)", "VARIANT(a big): matched"),
        ("VARIANT(c digit.big)", "not matched, no step is called c; there are twice.a, twice.b"),
        ("VARIANT(a digit.nope)", "impossible, twice.a has no variant digit.nope"),
        ("VARIANT(a digit.huge)", "impossible, digit.huge takes"),
        ("VARIANT(a digit.unknown)", "impossible, no latency"),
        ("VARIANT(a small trees=11)", "impossible, small has no such knobs here"),
        ("BATCH(a 7)", "impossible, measured batch sizes are 1, 16"),
        ("DEVICE(a tpu)", "impossible, it can run on cpu, gpu"),
        ("DEVICE(a gpu) VARIANT(a small)", "DEVICE(a gpu): impossible, it can run on cpu"),
    ],
)
def test_every_advice_item_is_answered(session, advice, report):
    answers = session.sql(f"EXPLAIN (ADVICE '{advice}') {QUERY}").explanation().advice_report
    assert any(report in answer for answer in answers), answers


def test_advice_narrows_the_plan(session):
    text = text_of(session, "ADVICE 'VARIANT(a big) DEVICE(a gpu)'")
    assert "digit.big · batch 16 · gpu" in text


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ("digit.unknown", ("excluded: no statistics", "run ANALYZE")),
        ("digit.huge", ("excluded: no memory",)),
        ("digit.big", ("meets the SLO but loses by cost", "better in accuracy")),
    ],
)
def test_why_not_answers(session, asked, answers):
    text = " ".join(text_of(session, f"WHY NOT {asked}").split())
    for answer in answers:
        assert answer in text


def test_why_not_names_the_constraint_a_variant_fails(session):
    query = "SELECT twice(range) FROM range(9) WITH SLO (accuracy >= 0.97) MINIMIZE cost"
    text = " ".join(text_of(session, "WHY NOT digit.small (trees := 10)", query).split())
    assert "no plan with it meets the SLO; over accuracy >= 0.97: " in text
    assert "the most any such plan reaches is 89.1 %, the limit is 0.97" in text


def test_why_not_says_what_is_in_the_plan(session):
    plan = session.explain(QUERY)
    variant = next(n.choice.variant for n in plan.nodes if n.choice is not None)
    assert "it is in the plan" in text_of(session, f"WHY NOT {variant}")


def test_why_not_of_another_model_says_so(session):
    session.sql("CREATE OR REPLACE MODEL other (x BIGINT) RETURNS (y BIGINT)")
    session.sql("CREATE OR REPLACE VARIANT other.one USING python('toy:one')")
    assert "no step of this plan calls other" in text_of(session, "WHY NOT other.one")


def test_missing_statistics_are_told_with_the_analyze_to_run(session):
    text = " ".join(text_of(session, "FORMAT text").split())
    assert ": digit.unknown has no statistics: run ANALYZE PIPELINE twice USING" in text


def test_an_slo_out_of_reach_of_what_was_measured_names_what_was_not(session):
    """What is missing may be what would meet it: the SLO is not to blame."""
    with pytest.raises(PlanError) as caught:
        session.sql("EXPLAIN SELECT twice(range) FROM range(9) WITH SLO (accuracy >= 0.9999)")
    error = caught.value
    assert error.code == "OC0312"
    assert error.message.startswith("no plan of what was measured reaches accuracy")
    assert "digit.unknown has no statistics: run ANALYZE PIPELINE twice" in " ".join(error.notes)
    assert "the most any plan of what was measured reaches" in (error.hint or "")
    assert not any("limiting step" in note for note in error.notes)


def test_the_formats_tell_the_same(session):
    document = json.loads(text_of(session, "FORMAT json, ALTERNATIVES 2, STEPS"))
    jsonschema = pytest.importorskip("jsonschema")
    schema = Path(__file__).parent.parent / "docs" / "explain.schema.json"
    jsonschema.validate(document, json.loads(schema.read_text(encoding="utf-8")))
    text = text_of(session, "FORMAT text")
    html = text_of(session, "FORMAT html")
    for node in document["nodes"]:
        assert node["title"] in text
        assert node["title"] in html
    assert len(document["alternatives"]) == 2
    assert document["steps"]


def test_steps_say_which_plans_of_the_frontier_were_thinned_and_by_which(session):
    lines = json.loads(text_of(session, "FORMAT json, STEPS"))["steps"]
    (counted,) = [line for line in lines if "thinned: one kept stands for each" in line]
    thinned = [line for line in lines if line.startswith("thinned ")]
    number = int(re.search(r"plans, ([\d,]+) thinned", counted)[1].replace(",", ""))
    assert number > 0
    assert len(thinned) == min(number, 10) + (number > 10)
    for line in thinned[:10]:
        assert re.search(r", for which stands .*: (.* % more|no worse anywhere)$", line)
    assert not any("frontier:" in line for line in session.explain(QUERY).steps)


def test_the_runner_up_and_flips_come_from_other_plans(session):
    plan = session.explain(QUERY)
    assert plan.runner_up is not None
    assert plan.runner_up.note.startswith("lost by cost ")
    assert plan.flips
    assert re.search(r"margin [\d.]+ points", " ".join(plan.flips))


def test_a_step_is_named_by_the_shortest_suffix_of_its_own():
    keys = ("twice.a", "other.a", "digit")
    assert short_key("twice.a", keys) == "twice.a"
    assert short_key("twice.b", ("twice.a", "twice.b")) == "b"
    assert short_key("a", ("a", "p.a")) == "a"
    assert short_key("p.a", ("a", "p.a")) == "p.a"
    assert advice_text({}) == ""


def test_advice_of_names_that_are_no_plain_words_is_read_back():
    """A space, a bracket, a quote, `=`: a word in double quotes is one name, whole."""
    choices = {
        'my "pipe".a step': Choice("my m.fast one", (("k (s)", "x y"), ("n", 2)), 16, "cpu 0"),
        "a=b": Choice("m=1.v=2", (("k=1", "a=b"), ("of", "fp16"), ("t", "TRUE")), 1, "cpu=0"),
        "plain": Choice("日本.a", (), 4, "cpu"),
    }
    text = advice_text(choices)
    assert text.startswith('VARIANT("a step" "my m.fast one" "k (s)"=\'x y\' n=2) BATCH("a step"')
    assert 'VARIANT("a=b" "m=1.v=2" "k=1"=\'a=b\' of=fp16 t=\'TRUE\')' in text
    options = {key: [*choices.values()] for key in choices}
    left, reports = narrow(options, parse_advice(text, 0))
    assert {report.outcome for report in reports} == {"matched"}
    assert left == {key: (choice,) for key, choice in choices.items()}
