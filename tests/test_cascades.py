"""Cascades: measured by ANALYZE, enumerated, explained, advised, run and proved as one choice.

The models' answers and confidences follow from the row, so that what a cascade answers is known:
where a member is sure, its answer, else the next one's.
"""

import itertools
import json
import math

import numpy as np
import octans
import pyarrow as pa
import pytest
from cascade_world import CALLS, answer
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.cost.cascade import thinned
from octans.ir.physical import Cascade, Choice
from octans.planner.infeasible import _variants
from octans.stats.cascade_outputs import combined
from octans.stats.cascades import cascade_text, parse_cascade
from octans.stats.profile import PLAIN

WORLD = """
SET progress = false;
CREATE DEVICE cpu (KIND cpu, COUNT 2, THREADS 1, PRICE 1 USD PER HOUR);
CREATE MODEL f (x BIGINT) RETURNS (y BIGINT, sure DOUBLE) QUALITY exact_match(y) {confidence};
CREATE VARIANT f.tiny USING python('cascade_world:model', kind := 'tiny');
CREATE VARIANT f.mid USING python('cascade_world:model', kind := 'mid');
CREATE VARIANT f.big USING python('cascade_world:model', kind := 'big') BASE;
CREATE PIPELINE total (xs BIGINT[]) RETURNS (sum BIGINT) QUALITY exact_match(sum) AS
BEGIN
  parts := f(EACH xs);
  RETURN CAST(list_sum(parts.y) AS BIGINT);
END;
"""
ANALYZE = (
    "ANALYZE MODEL f USING (SELECT range AS x, 2 * range AS truth FROM range(1200)) "
    "LABELS (y := truth) SAMPLE 1200"
)
QUERY = "SELECT range AS x, f(range).y AS y FROM range(2000) WITH SLO (accuracy >= 0.95)"


def world(confidence="CONFIDENCE sure"):
    session = octans.connect()
    session.sql(WORLD.format(confidence=confidence))
    return session


@pytest.fixture(scope="module")
def session():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octans.analyzing._strategy", lambda session: PLAIN)
        with world() as session:
            session.sql(ANALYZE)
            yield session


def explained(session, text, options=""):
    return session.sql(f"EXPLAIN {options} {text}").explanation()


def cascades_of(session):
    """(members, thresholds) measured, in one text each."""
    rows = session.sql(
        "SELECT DISTINCT assignment, variant FROM octans.statistics WHERE metric = 'cascade'"
    ).fetchall()
    return {(parse_cascade(text), variant) for text, variant in rows}


def expected(path, xs):
    """What a cascade answers: (variant, threshold) pairs, the last threshold None."""
    found = np.full(len(xs), -7)
    open_ = np.ones(len(xs), dtype=bool)
    for kind, threshold in path:
        ys, sure = answer(kind, xs)
        taken = open_ if threshold is None else open_ & (sure >= threshold)
        found[taken] = ys[taken]
        open_ = open_ & ~taken
    return found.tolist()


def path_of(advice):
    """`CASCADE(f f.tiny 0.3 f.big) …` as (variant, threshold) pairs."""
    inside = advice.partition("CASCADE(")[2].partition(")")[0].split()[1:]
    return [
        (inside[at].partition(".")[2], float(inside[at + 1]) if at + 1 < len(inside) else None)
        for at in range(0, len(inside), 2)
    ]


def test_a_cascade_is_chosen_and_answers_as_its_members_do(session):
    explanation = explained(session, QUERY)
    path = path_of(explanation.advice)
    assert len(path) >= 2, explanation.advice
    CALLS.clear()
    rows = session.sql(QUERY).fetchall()
    xs = [x for x, _ in rows]
    assert xs == list(range(2000))
    assert [y for _, y in rows] == expected(path, xs)
    assert np.mean([y == 2 * x for x, y in rows]) >= 0.95


def test_what_cannot_be_had_names_a_cascade_as_a_reader_would():
    early = (Choice("f.tiny", (("k", 1),)), Choice("f.mid"))
    long = Cascade("f.big", earlier=early, thresholds=(0.5, 0.75), confidence="sure")
    assert _variants(long) == "f.tiny, below 0.5 f.mid, below 0.75 f.big"
    assert _variants(Choice("f.big")) == "f.big"


def test_later_members_get_the_unsure_elements_only_and_each_once(session):
    path = path_of(explained(session, QUERY).advice)
    CALLS.clear()
    session.sql(QUERY).fetchall()
    going = np.arange(2000)
    for kind, threshold in path:
        called = sorted(x for name, xs in CALLS if name == kind for x in xs)
        assert called == going.tolist()
        if threshold is not None:
            going = going[answer(kind, going)[1] < threshold]


def test_the_estimate_is_what_happens(session):
    """Elements that reach each member, and the whole's accuracy, within their intervals."""
    text = "SELECT range AS x, f(range).y AS y FROM range(1200) WITH SLO (accuracy >= 0.95)"
    explanation = explained(session, text, "(ANALYZE)")
    stages = [node for node in explanation.nodes if node.kind == "stage"]
    assert len(stages) >= 2
    total = sum(node.actuals.busy_seconds for node in stages)
    assert explanation.actual_totals.cost.value * 1200 == pytest.approx(total / 3600, rel=1e-6)
    for before, node in itertools.pairwise(stages):
        assert node.actuals.elements < before.actuals.elements
        (line,) = [text for text in node.detail if text.startswith("cascade: ")]
        share = float(line.split()[1]) / 100
        assert node.actuals.elements / 1200 == pytest.approx(share, abs=0.03)
    truth = np.mean(
        [y == 2 * x for x, y in enumerate(expected(path_of(explanation.advice), range(1200)))]
    )
    assert explanation.totals.accuracy.low <= truth <= explanation.totals.accuracy.high


def test_advice_of_a_cascade_gives_the_same_plan(session):
    explanation = explained(session, QUERY)
    again = explained(session, QUERY, f"(ADVICE '{explanation.advice}')")
    assert (again.advice, again.fingerprint) == (explanation.advice, explanation.fingerprint)
    assert all(report.endswith(": matched") for report in again.advice_report)


@pytest.mark.parametrize(
    ("advice", "outcome"),
    [
        ("CASCADE(f tiny big)", "matched"),
        ("CASCADE(f tiny mid big)", "matched"),
        ("CASCADE(f big tiny)", "impossible"),
        ("CASCADE(f tiny 0.123 big)", "impossible"),
        ("CASCADE(g tiny big)", "not matched"),
        ("VARIANT(f big)", "matched"),
    ],
)
def test_every_item_is_answered(session, advice, outcome):
    explanation = explained(session, QUERY.replace("0.95", "0.5"), f"(ADVICE '{advice}')")
    (report,) = explanation.advice_report
    assert report.startswith(f"{advice}: {outcome}")
    if outcome == "matched":
        words = advice.partition("(")[2].rstrip(")").split()[1:]
        (chosen,) = [item for item in explanation.advice.split(") ") if " f." in item][:1]
        members = [word for word in chosen.rstrip(")").split()[1:] if word.startswith("f.")]
        assert members == [f"f.{word}" for word in words]


def test_a_model_without_confidence_is_never_cascaded(monkeypatch):
    monkeypatch.setattr("octans.analyzing._strategy", lambda session: PLAIN)
    with world(confidence="") as session:
        session.sql(ANALYZE)
        assert not cascades_of(session)
        assert "CASCADE" not in explained(session, QUERY).advice


def test_no_cascade_is_left_when_a_member_is_replaced(monkeypatch):
    """What was measured of other models says nothing of these."""
    monkeypatch.setattr("octans.analyzing._strategy", lambda session: PLAIN)
    with world() as session:
        session.sql(ANALYZE)
        before = {parsed for parsed, _ in cascades_of(session)}
        assert any(("f.tiny", "") in members for members, _ in before)
        session.sql(
            "CREATE OR REPLACE VARIANT f.tiny USING python('cascade_world:model', kind := 'mid')"
        )
        chosen = explained(session, QUERY.replace("0.95", "0.9"), "(ALTERNATIVES 50)")
        plans = [chosen.advice, *(plan.advice for plan in chosen.alternatives)]
        assert not any("f.tiny" in plan for plan in plans)


def test_a_promise_of_a_cascade_is_proved_on_held_back_rows(session):
    text = QUERY.replace("0.95", "0.93 AT CONFIDENCE 0.9")
    explanation = explained(session, text)
    assert "CASCADE(" in explanation.advice
    (verdict,) = explanation.verdicts
    assert verdict.guarantee.startswith("proved on ")


def test_the_score_on_held_back_rows_is_that_of_the_run(session):
    """The evaluator puts a cascade together from its members; the engine runs it. They agree."""
    text = QUERY.replace("0.95", "0.93 AT CONFIDENCE 0.9")
    guarantee = explained(session, text).verdicts[0].guarantee
    held = session.catalog.samples.load("f", 1, "held_back")
    xs = held.column("x").to_pylist()
    path = path_of(explained(session, text).advice)
    right = np.mean([y == 2 * x for x, y in zip(xs, expected(path, xs), strict=True)])
    assert f"{right:.4f}" in guarantee


def test_elements_of_lists_are_cascaded_one_by_one(monkeypatch):
    monkeypatch.setattr("octans.analyzing._strategy", lambda session: PLAIN)
    source = "SELECT list_slice([3 * range, 3 * range + 1, 3 * range + 2], 1, range % 4) AS xs "
    with world() as session:
        session.sql(f"ANALYZE PIPELINE total USING ({source} FROM range(700)) SAMPLE 700")
        text = f"SELECT xs, total(xs) AS s FROM ({source} FROM range(400)) MINIMIZE cost"
        text = text.replace("MINIMIZE", "WITH SLO (accuracy >= 0.9) MINIMIZE")
        explanation = explained(session, text)
        path = path_of(explanation.advice)
        assert len(path) >= 2, explanation.advice
        CALLS.clear()
        for xs, total in session.sql(text).fetchall():
            assert total == (sum(expected(path, xs)) if xs else None)
        elements = sum(len(range(n % 4)) for n in range(400))
        assert sum(len(xs) for kind, xs in CALLS if kind == path[0][0]) == elements
        assert sum(len(xs) for kind, xs in CALLS if kind == path[-1][0]) < elements


def test_cached_results_are_the_members(session):
    """The threshold is in no key: a cascade that asks less of the last member calls nothing."""
    thresholds = sorted(
        taken[0]
        for (members, taken), last in cascades_of(session)
        if members == (("f.tiny", ""),) and last == "f.big"
    )
    assert len(thresholds) > 1

    def run(threshold):
        CALLS.clear()
        advice = f"(ADVICE 'CASCADE(f tiny {threshold!r} big)', ANALYZE)"
        explained(session, QUERY.replace("0.95", "0.5"), advice)
        return {
            kind: sorted(x for name, xs in CALLS if name == kind for x in xs) for kind, _ in CALLS
        }

    session.sql("SET cache = true")
    try:
        assert run(thresholds[0]).keys() == {"tiny", "big"}
        more = run(thresholds[-1])
        sure = answer("tiny", np.arange(2000))[1]
        between = np.flatnonzero((sure >= thresholds[0]) & (sure < thresholds[-1]))
        assert more == {"big": between.tolist()}
        assert run(thresholds[0]) == {}
    finally:
        session.sql("RESET cache")


def test_what_does_not_know_how_sure_it_is_escalates_everything(monkeypatch):
    """NULL is not sure: such a member is in no cascade, as it would never answer."""
    monkeypatch.setattr("octans.analyzing._strategy", lambda session: PLAIN)
    with world() as session:
        session.sql(
            "CREATE OR REPLACE VARIANT f.tiny USING "
            "python('cascade_world:model', kind := 'tiny', unsure := true)"
        )
        session.sql(ANALYZE)
        found = {members for parsed, _ in cascades_of(session) for members in [parsed[0]]}
        assert found
        assert not any(("f.tiny", "") in members for members in found)


def test_explain_shows_members_and_what_the_thresholds_keep(session):
    shown = str(session.sql(f"EXPLAIN {QUERY}"))
    assert "on where its confidence is below" in shown
    assert "less accurate than f.big alone, at confidence 0.95" in shown
    document = json.loads(str(session.sql(f"EXPLAIN (FORMAT json) {QUERY}")))
    stages = [node for node in document["nodes"] if node["kind"] == "stage"]
    assert stages[0]["choice"]["variant"] == "f.tiny"


def test_a_limit_on_the_model_is_kept_by_the_bound_not_by_the_estimate(session):
    """The threshold for `accuracy(f) >= a` is one whose one-sided bound reaches a."""
    text = QUERY.replace("accuracy >=", "accuracy(f) >=")
    bounds = dict(
        session.sql(
            "SELECT assignment || variant, value FROM octans.statistics "
            "WHERE metric = 'cascade' AND statistic = 'accuracy'"
        ).fetchall()
    )
    estimates = dict(
        session.sql(
            "SELECT assignment || variant, value FROM octans.statistics "
            "WHERE metric = 'cascade' AND statistic = 'quality'"
        ).fetchall()
    )
    between = [(bounds[key] + estimates[key]) / 2 for key in bounds if bounds[key] < estimates[key]]
    for least in sorted(between)[:3]:
        chosen = explained(session, text.replace("0.95", f"{least:.6f}"), "(ALTERNATIVES 99)")
        for plan in (chosen.advice, *(plan.advice for plan in chosen.alternatives)):
            path = path_of(plan) if "CASCADE" in plan else []
            if len(path) == 2:
                key = cascade_text([(f"f.{path[0][0]}", "")], [path[0][1]]) + f"f.{path[1][0]}"
                assert bounds[key] >= least - 1e-6


# --- single pieces --------------------------------------------------------------------------------

names = st.sampled_from(["m.tiny", "m.forest", "m.a b"])
knobs = st.sampled_from(["", "trees := 10", "a := 'x;y=(z)', b := 2", "q := 'it''s)'"])
members = st.lists(st.tuples(names, knobs), min_size=1, max_size=3)


@given(members, st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_a_cascade_reads_back_from_its_text(earlier, thresholds):
    text = cascade_text(earlier, thresholds[: len(earlier)])
    assert parse_cascade(text) == (tuple(earlier), tuple(thresholds[: len(earlier)]))


def test_what_is_no_cascade_reads_as_none():
    for text in ("", "p.read=read.base()", "x", "0.5=", "0.5=m.a(;"):
        assert parse_cascade(text) is None


@given(st.integers(1, 40), st.floats(0.0, 1.0))
def test_thinned_lists_keep_the_mean(length, reach):
    found = thinned(((length, 0.5), (length + 3, 0.5)), reach)
    assert math.isclose(sum(p for _, p in found), 1.0, abs_tol=1e-9)
    mean = sum(kept * p for kept, p in found)
    assert mean == pytest.approx((length + 1.5) * reach, abs=1e-6)


def test_long_lists_are_thinned_in_no_time_and_near_the_truth():
    found = thinned(((5000, 1.0),), 0.1)
    assert sum(kept * p for kept, p in found) == pytest.approx(500, abs=2)
    assert max(kept for kept, _ in found) == pytest.approx(500 + 2.66 * math.sqrt(450), abs=2)


def test_two_cascades_of_other_thresholds_answer_differently():
    one = Cascade("m.big", (), 8, earlier=(Choice("m.tiny"),), thresholds=(0.5,))
    other = one.replace(thresholds=(0.6,))
    assert one.made != other.made != one.last.made
    assert one.members == (Choice("m.tiny"), Choice("m.big", (), 8))


cells = st.one_of(st.none(), st.floats(0, 1))


@given(st.data(), st.booleans())
@settings(deadline=None)
def test_outputs_are_combined_element_by_element(data, each):
    """Against the definition, row by row."""
    rows = data.draw(st.integers(1, 8))
    lengths = [data.draw(st.integers(0, 3)) if each else 1 for _ in range(rows)]
    table, failed = [], []
    for member in range(3):
        bad = {row for row in range(rows) if data.draw(st.integers(0, 6)) == 0}
        sure = [[data.draw(cells) for _ in range(n)] for n in lengths]
        made = [[100 * member + 10 * row + e for e in range(n)] for row, n in enumerate(lengths)]
        sure, made = (
            [None if row in bad else v for row, v in enumerate(values)] for values in (sure, made)
        )
        if not each:
            sure, made = ([None if v is None else v[0] for v in x] for x in (sure, made))
        kinds = (pa.int64(), pa.float64())
        table.append(
            tuple(
                pa.chunked_array([pa.array(values, pa.list_(kind) if each else kind)])
                for values, kind in zip((made, sure), kinds, strict=True)
            )
        )
        failed.append(frozenset(bad))
    columns, lost = combined(list(zip(table, failed, strict=True)), (0.4, 0.7), 1, each=each)
    plain = [[column.to_pylist() for column in columns] for columns in table]
    for row, count in enumerate(lengths):
        answers, fails = [], row in failed[0]
        for element in range(0 if fails else count):
            for member, threshold in enumerate((0.4, 0.7, None)):
                if row in failed[member]:
                    fails = True
                    break
                y, c = (p[row][element] if each else p[row] for p in plain[member])
                if threshold is None or (c is not None and c >= threshold):
                    answers.append(y)
                    break
        assert (row in lost) == fails
        given_ = columns[0].to_pylist()[row]
        assert given_ == (None if fails else answers if each else answers[0])
