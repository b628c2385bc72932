"""ANALYZE … SEARCH through a session: what it finds, what it spends, what it leaves, its price."""

import re
from dataclasses import replace

import octans
import pytest
import session_world
from octans import analyzing, choosing, hunting, searching
from octans.errors import OctansError
from octans.ir.physical import Choice
from octans.ir.slo import Constraint, Slo
from octans.planner.search.protocol import Candidate
from octans.stats import plan_profile, plan_seen
from octans.summary import beyond

ROWS = "SELECT id AS x, truth, book FROM numbers"


@pytest.fixture
def session():
    with session_world.connect(measured=False) as session:
        yield session


def many(session, count=40):
    """A model of many variants, the accuracies of which rise from 0.5 to 1."""
    session.sql("CREATE MODEL many (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)")
    values = ", ".join(f"{0.5 + 0.5 * at / count:.4f}" for at in range(count))
    session.sql(
        "CREATE VARIANT many.v USING python('session_world:guess', seconds := 0.002) "
        f"KNOBS (accuracy IN ({values}))"
    )


def search(session, subject, slo, more=""):
    return session.sql(
        f"ANALYZE {subject} USING ({ROWS}) LABELS ({'z' if 'answer' in subject else 'y'} := truth) "
        f"SAMPLE 400 {more} SEARCH WITH SLO {slo}"
    )


def measured(session, subject):
    return {
        (o.variant, o.knobs)
        for o in session.catalog.observations({subject})
        if o.metric == "latency"
    }


def test_few_choices_are_measured_and_one_of_them_is_good(session):
    """Of forty variants a handful gets statistics, and what is planned on them meets the SLO."""
    many(session)
    message = search(session, "MODEL many", "(accuracy >= 0.9)").message
    assert re.search(r"searched \d+ plans: \d+ profiled", message)
    assert "best plan: " in message
    assert 1 <= len(measured(session, "many")) <= 4
    plan = session.explain("SELECT many(id) FROM numbers WITH SLO (accuracy >= 0.9)")
    accuracy = float(re.search(r"accuracy=([0-9.]+)", plan.advice)[1])
    share = sum(session_world.right(x, accuracy) for x in range(400)) / 400
    assert share >= 0.87, "the truth on all rows, three points of sampling error allowed"


def named(message):
    """The plan that an ANALYZE … SEARCH names, as advice."""
    return re.search(r"best plan: (.*?): ", message)[1]


@pytest.mark.parametrize(
    ("subject", "call", "slo"),
    [
        ("MODEL guess", "guess(id)", "(accuracy >= 0.9) MINIMIZE latency_p95"),
        ("PIPELINE answer", "answer(id)", "(accuracy >= 0.9)"),
        ("PIPELINE answer", "answer(id)", "(accuracy >= 0.8 AT CONFIDENCE 0.9)"),
    ],
)
def test_the_plan_it_names_is_the_plan_a_query_gets(session, subject, call, slo):
    """Whatever the search believed: the planner knows more calls, and other batch sizes."""
    message = search(session, subject, slo).message
    query = f"SELECT {call} FROM numbers WITH SLO {slo}"
    assert named(message) == session.explain(query).advice
    assert ("is not proved yet" in message) == ("CONFIDENCE" in slo)


def test_a_search_says_what_became_of_its_own_best_plan(session):
    """It tries batches up to 64; a call takes as long for more, so that more cost less each."""
    many(session)
    message = search(session, "MODEL many", "(accuracy >= 0.9)").message
    assert int(re.search(r"BATCH\(many (\d+)\)", named(message))[1]) > 64
    numbers = r"cost \$\S+ \[.*?\] n = \d+.*, accuracy [\d.]+ % \[.*?\] n = \d+"
    assert re.search(rf"best plan: VARIANT.*: {numbers}$", message, re.M)
    (own,) = re.findall("the search's own best (.*)", message)
    lost = rf"\(many: .*\) has {numbers}; (lost by cost |misses accuracy)"
    assert re.match(lost, own) or re.fullmatch(r"was .*: measuring took other batch sizes", own)


def test_a_search_says_which_plan_it_takes_the_place_of(session, monkeypatch):
    """Two of the same may name two plans: the second says what the first one's has now."""
    dear = {"guess": Choice("guess.best", device="big")}
    monkeypatch.setattr(analyzing, "before", lambda *_: dear)
    message = search(session, "MODEL guess", "(accuracy >= 0.9)").message
    assert "the plan before this search " in message


def test_explain_says_what_a_search_left_out_on_purpose_and_when(session):
    """One line for all variants it left out; one declared since was not left out by it."""
    session.sql("CREATE MODEL many (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)")
    for at in range(12):
        session.sql(
            f"CREATE VARIANT many.v{at} USING python('session_world:guess', accuracy := "
            f"{0.4 + 0.05 * at}, seconds := 0.001)"
        )
    search(session, "MODEL many", "(accuracy >= 0.9)")
    session.sql("CREATE VARIANT many.late USING python('session_world:guess', accuracy := 0.9)")
    notes = session.explain("SELECT many(id) FROM numbers WITH SLO (accuracy >= 0.8)").notes
    told = [note for note in notes if "statistics: " in note]
    assert len(told) == 2
    assert any(
        re.fullmatch(
            r"many\.v\d+, many\.v\d+, many\.v\d+ and \d+ others have no statistics: left out by "
            r"the search of \d{4}-\d\d-\d\d \d\d:\d\d UTC \(run \d+\); run ANALYZE MODEL many "
            r"USING \(…\)",
            note,
        )
        for note in told
    )
    assert "many.late has no statistics: run ANALYZE MODEL many USING (…)" in told


def test_hints_can_be_run_where_names_need_quotes(session):
    session.sql(
        'CREATE PIPELINE "My Pipe" (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y) AS BEGIN '
        "a := guess(x); RETURN a; END"
    )
    with pytest.raises(OctansError) as caught:
        session.sql('EXPLAIN SELECT "My Pipe"(id) FROM numbers')
    assert caught.value.hint.startswith('ANALYZE PIPELINE "My Pipe" USING (…)')
    assert "finding one of" in caught.value.notes[0], "the price stands first"
    (missing,) = [note for note in caught.value.notes if "no statistics" in note]
    assert missing.startswith("My Pipe.a: guess.")
    assert 'run ANALYZE PIPELINE "My Pipe" USING (…)' in missing


def test_what_was_not_looked_at_is_said_with_the_reason(session):
    many(session)
    message = search(session, "MODEL many", "(accuracy >= 0.97)").message
    assert re.search(r"pruned before they were profiled: \d+ that cannot meet a limit", message)
    assert re.search(r"pruned many: many\.v .*: accuracy at best [\d.]+ %, needs 97.0 %", message)


def test_what_is_found_can_be_proved(session):
    """AT CONFIDENCE it looks for a margin that the test on held-back rows can see."""
    search(session, "MODEL guess", "(accuracy >= 0.9 AT CONFIDENCE 0.9)")
    shown = session.sql(
        "EXPLAIN SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.9 AT CONFIDENCE 0.9)"
    ).text
    assert "proved on" in shown


def test_a_test_that_was_made_decides_which_plan_is_named(session):
    """At first the one to be tested; later the one that a query takes by the tests before it."""
    slo = "(accuracy >= 0.9 AT CONFIDENCE 0.9)"
    message = search(session, "MODEL guess", slo).message
    assert f"accuracy {slo[10:-1]} is not proved yet: a query tests this plan" in message
    best = "SELECT best FROM octans.histories ORDER BY id DESC LIMIT 1"
    assert session.sql(best).fetchall() == [(None,)], "a query may get another one"
    session.explain(f"SELECT guess(id) FROM numbers WITH SLO {slo}")
    message = search(session, "MODEL guess", slo).message
    plan = session.explain(f"SELECT guess(id) FROM numbers WITH SLO {slo}").advice
    assert named(message) == plan
    assert f"accuracy {slo[10:-1]} is proved on 100 held-back rows" in message
    assert session.sql(best).fetchall() == [(plan,)]


def test_earlier_qualities_of_the_same_split_count_at_once(session, monkeypatch):
    """Not only once the run is over: the plan is named before."""
    seen = []

    def spy(session, bound, *args, **options):
        run = session.catalog.samples.run("guess", 1)
        seen.append(len(session.catalog.same_split(run)))
        return choosing.chosen(session, bound, *args, **options)

    monkeypatch.setattr(analyzing, "chosen", spy)
    for _ in range(2):
        search(session, "MODEL guess", "(accuracy >= 0.9 AT CONFIDENCE 0.9)")
    assert seen == [1, 2]


def test_a_pipeline_with_a_condition(session):
    message = search(session, "PIPELINE answer", "(accuracy >= 0.95)").message
    assert "best plan: " in message
    explanation = session.explain("SELECT answer(id) FROM numbers WITH SLO (accuracy >= 0.95)")
    assert "VARIANT(first guess." in explanation.advice


class Searched:
    """A search that is done, with candidates as given."""

    def __init__(self, plans, returned):
        self.plans, self.returned = plans, returned

    def frontier(self):
        return tuple(self.plans)

    def incumbent(self):
        return None if self.returned is None else self.plans[self.returned]


def best(plans, returned, slo):
    hunt = object.__new__(hunting.Hunt)
    hunt.search, hunt.slo = Searched(plans, returned), slo
    return [candidate.assignment[0] for candidate in hunt.best()]


def test_a_safe_plan_is_measured_beside_the_best():
    """The one that looked best of hundreds may miss; the best that is sure to meet comes next."""
    for chances, returned, order in [
        ((0.6, 0.7, 0.97, 0.99), 0, [0, 2, 1, 3]),
        ((0.99, 0.6), 0, [0, 1]),
        ((0.6, 0.7), 1, [1, 0]),
        ((0.1, 0.3, 0.2), None, [1, 2, 0]),
        ((), None, []),
    ]:
        plans = [Candidate((n,), {}, chance, 8) for n, chance in enumerate(chances)]
        assert best(plans, returned, Slo()) == order


def test_where_no_plan_is_likely_the_nearest_comes_first():
    """All their chances are about 0: what tells them apart is by how much they miss."""
    slo = Slo((Constraint("accuracy", ">=", 0.9), Constraint("latency_p95", "<=", 0.003)))
    seen = [(0.56, 0.0006), (0.95, 0.02), (0.8, 0.0035), (0.85, 0.0029)]
    plans = [
        Candidate((n,), {"accuracy": right, "latency_p95": seconds}, 0.0, 300)
        for n, (right, seconds) in enumerate(seen)
    ]
    assert best(plans, None, slo) == [3, 2, 0, 1]
    likely = replace(plans[1], metrics={"accuracy": 0.91, "latency_p95": 0.002}, feasible=0.1)
    assert best([plans[0], likely], None, slo) == [1, 0]


def test_steps_that_nothing_reads_are_neither_searched_nor_measured(session):
    """No query runs them: nor do they need labels, variants that run, or a share of the budget."""
    session.sql(
        "CREATE MODEL none (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);"
        "CREATE PIPELINE idle (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y) AS BEGIN "
        "first := guess(x); idle := guess(x); upon := none(idle); RETURN first; END"
    )
    message = search(session, "PIPELINE idle", "(accuracy >= 0.8)").message
    assert "best plan: VARIANT(first " in message
    assert "searched 32 plans" in message, "those of the first step"
    measured_of = {one.subject for one in session.catalog.observations()}
    assert "idle.first" in measured_of
    assert not {"idle.idle", "idle.upon"} & measured_of


def test_searches_leave_histories(session):
    """The second one starts from the first one's, and still finds a plan."""
    for count in (1, 2):
        session.sql(f"SET seed = {count}")
        message = search(session, "MODEL guess", "(accuracy >= 0.9)").message
        assert "best plan: " in message
        found = session.sql("SELECT count(*) FROM octans_internal.histories").fetchall()
        assert found == [(count,)]
        told = re.search(r"warmed (?:at first )?by 1 history of similar searches", message)
        assert bool(told) == (count == 2)
    slo = r"\(accuracy >= 0.9\) MINIMIZE cost"
    assert re.search(rf"history of guess, (.* ago|just now), \d+ plans, {slo}: weight", message)


def test_what_a_history_saw_of_other_files_does_not_count(tmp_path):
    """The definition is as it was, the file is not; one that is again as it was counts again."""
    code = "def make(right):\n    return lambda b: [2 * x + (x % 10 >= right)"
    code += " for x in b.column('x').to_pylist()]\n"
    for name in ("good", "fair", "poor"):
        (tmp_path / f"{name}.py").write_text(code)
    with octans.connect(tmp_path / "c.duckdb", base_dir=tmp_path) as session:
        session.sql("SET progress = false; CREATE DEVICE cpu (KIND cpu, PRICE 1 USD PER HOUR)")
        session.sql("CREATE MODEL m (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)")
        for name, right in (("good", 10), ("fair", 9), ("poor", 5)):
            session.sql(f"CREATE VARIANT m.{name} USING python('{name}.py:make', right := {right})")
        session.sql("CREATE TABLE numbers AS SELECT range AS id, 2 * range AS truth, 0 AS book "
                    "FROM range(400)")  # fmt: skip

        def histories():
            search(session, "MODEL m", "(accuracy >= 0.8)")
            return session.catalog.histories.load([1])[0]

        def shown():
            asked = session.sql("SELECT id, state, reason FROM octans.histories ORDER BY id")
            return asked.fetchone()

        first = histories()
        assert shown() == (1, "fresh", None)
        assert {o.choice.version for stage in first.options for o in stage} == {1}
        assert first.changed == ()
        (tmp_path / "good.py").write_text(code + "# as before, but for this line\n")
        message = search(session, "MODEL m", "(accuracy >= 0.8)").message
        assert "history of m, " in message
        assert "not counted: files changed since: m.good" in message
        (one,) = session.catalog.histories.load([1])
        assert one.changed == ("m.good",)
        assert shown() == (1, "stale", "m.good: its files changed")
        counted = {o.choice.variant for s in one.options for o in s if o.choice.version == 1}
        assert counted == {"m.fair", "m.poor"}
        for name in ("fair", "poor"):
            (tmp_path / f"{name}.py").write_text(code + "\n")
        message = search(session, "MODEL m", "(accuracy >= 0.8)").message
        assert "left out (files changed since: m.fair, m.good, m.poor)" in message
        changed = [f"m.{name}: its files changed" for name in ("fair", "good", "poor")]
        assert shown() == (1, "unused", "; ".join(changed))
        for name in ("good", "fair", "poor"):
            (tmp_path / f"{name}.py").write_text(code)
        assert histories().changed == ()
        assert shown() == (1, "fresh", None)


def test_histories_can_be_looked_at(session):
    """What of, what for, what they saw, what came of it, and whether they can warm a search."""
    assert session.sql("SHOW HISTORIES").fetchall() == []
    message = search(session, "MODEL guess", "(accuracy >= 0.9)").message
    (row,) = session.sql("SHOW HISTORIES").arrow().to_pylist()
    assert (row["id"], row["subject"], row["rows"]) == (1, "guess", 300)
    assert row["slo"] == "(accuracy >= 0.9) MINIMIZE cost"
    assert row["plans"] == int(re.search(r"plans: (\d+) profiled", message)[1])
    assert row["age"].endswith(" s")
    assert (row["state"], row["reason"]) == ("fresh", None)
    plan = session.explain("SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.9)")
    assert row["best"] == plan.advice == named(message)
    for metric in ("accuracy", "cost"):
        known = plan.totals.metric(metric)
        told = [row[metric + end] for end in ("", "_low", "_high", "_n")]
        assert told == pytest.approx([known.value, known.low, known.high, known.n])
    search(session, "MODEL guess", "(accuracy >= 0.9999)")
    *_, (best, n) = session.sql("SELECT best, cost_n FROM octans.histories ORDER BY id").fetchall()
    assert (best, n) == (None, None), "no query gets a plan"
    session.sql("CREATE OR REPLACE VARIANT guess.cheap USING "
                "python('session_world:guess', accuracy := 0.8)")  # fmt: skip
    session.sql("DROP VARIANT guess.tuned")
    states = session.sql("SELECT DISTINCT state, reason FROM octans.histories").fetchall()
    assert states == [
        ("stale", "guess.cheap was defined anew; there is no variant guess.tuned"),
    ]
    session.sql("DROP VARIANT guess.best")
    states = session.sql("SELECT DISTINCT state FROM octans.histories").fetchall()
    assert states == [("unused",)]
    assert (
        "left out (defined anew since: guess.cheap)"
        in search(session, "MODEL guess", "(accuracy >= 0.9)").message
    )


def test_a_bound_ends_it_with_the_best_so_far(session, monkeypatch):
    """At max_profiling_cost the answer says that it is not the end of the search."""
    price = 1e-5  # USD an element, so that no clock decides
    monkeypatch.setattr(analyzing, "pricer", lambda session: lambda _, run: price * run.elements)
    monkeypatch.setattr(searching, "SEARCH_SHARE", 100 * price)
    many(session)
    session.sql("SET max_profiling_cost = 1 USD")
    result = search(session, "MODEL many", "(accuracy >= 0.9)")
    assert " 0 profiled" not in result.message
    assert "stopped: " in result.message
    assert "the rest of the search" in result.message
    assert "best plan so far: " in result.message
    last = "SELECT status FROM octans.runs WHERE kind = 'analyze' ORDER BY id DESC LIMIT 1"
    assert session.sql(last).fetchone() == ("stopped",)
    shown = session.sql("EXPLAIN SELECT many(id) FROM numbers").text
    assert "the search was ended before it was done" in " ".join(shown.split())


@pytest.mark.parametrize("elements", [40, 160, 640])
def test_a_search_holds_its_bound(session, monkeypatch, elements):
    """What cannot fit, such as a timing at batch 64, is not begun; it is said that it ended so."""
    price = 1e-5  # USD an element: one is the least that is run
    monkeypatch.setattr(analyzing, "pricer", lambda session: lambda _, run: price * run.elements)
    many(session)
    session.sql(f"SET max_profiling_cost = {elements * price:.7f} USD")
    message = search(session, "MODEL many", "(accuracy >= 0.9)").message
    assert " 0 profiled" not in message
    assert "stopped: the search's half of the budget " in message
    spent = re.search(r"profiled, \S+ s of models, (\S+) USD", message)[1]
    assert float(spent) <= (elements / 2 + 1) * price


def test_what_is_spent_beyond_a_bound_is_said():
    (note,) = beyond(0.01, 0.012)
    assert note.startswith("0.002 USD more than the budget of 0.01 USD were spent")
    assert not [*beyond(0.02, 0.012)]
    assert not [*beyond(None, 0.012)]


@pytest.mark.parametrize("elements", [80, 160])
def test_a_plan_that_a_bound_ended_with_is_measured_whole(session, monkeypatch, elements):
    """What is left measures every step of the named plan before anything else, if on few rows."""
    price = 1e-5
    monkeypatch.setattr(analyzing, "pricer", lambda session: lambda _, run: price * run.elements)
    session.sql(
        "CREATE PIPELINE twice (x BIGINT) RETURNS (z BIGINT) QUALITY exact_match(z) AS BEGIN "
        "a := guess(x); b := refine(x, a); RETURN b.z; END"
    )
    session.sql(f"SET max_profiling_cost = {elements * price:.7f} USD")
    message = session.sql(
        f"ANALYZE PIPELINE twice USING ({ROWS}) LABELS (z := truth, a.y := truth, b.z := truth) "
        "SAMPLE 400 SEARCH WITH SLO (accuracy >= 0.5)"
    ).message
    assert "stopped: " in message
    plan = re.search(r"(?:best plan so far|measured one): (.*)", message)[1]
    for step in ("a", "b"):
        variant = re.search(rf"VARIANT\({step} ([\w.]+)", plan)[1]
        seen = session.catalog.observations({f"twice.{step}"})
        assert {"latency", "quality"} <= {o.metric for o in seen if o.variant == variant}
    session.explain("SELECT twice(id) FROM numbers WITH SLO (accuracy >= 0.1)")


def test_a_bound_too_small_for_a_plan_is_said_and_what_was_seen_is_kept(session, monkeypatch):
    """The next EXPLAIN knows what finding a plan would take."""
    price = 1e-5
    monkeypatch.setattr(analyzing, "pricer", lambda session: lambda _, run: price * run.elements)
    many(session)
    session.sql(f"SET max_profiling_cost = {2 * price:.7f} USD")
    message = search(session, "MODEL many", "(accuracy >= 0.9)").message
    assert " 0 profiled" in message
    assert "what was left did not suffice to measure one: VARIANT(many many.v " in message
    assert measured(session, "many") == set()
    assert re.search(r"this budget is too small: by the calls seen, about \S+ USD are", message)
    with pytest.raises(OctansError) as caught:
        session.sql("EXPLAIN SELECT many(id) FROM numbers WITH SLO (accuracy >= 0.9)")
    assert any("would take some" in note for note in caught.value.notes)


def test_a_bound_before_anything_is_seen(session):
    many(session)
    result = search(session, "MODEL many", "(accuracy >= 0.9)", more="BUDGET 0.000000001 USD")
    assert " 0 profiled" in result.message
    assert "left out: the rest of the search, everything" in result.message
    assert measured(session, "many") == set()


@pytest.mark.parametrize("elements", [1, 2, 4, 8, 16, 24, 32])
def test_what_a_tiny_bound_left_is_told_without_contradiction(session, monkeypatch, elements):
    """It names a plan as measured where it has statistics, and nothing as left out twice."""
    price = 1e-5
    monkeypatch.setattr(analyzing, "pricer", lambda session: lambda _, run: price * run.elements)
    many(session)
    session.sql(f"SET max_profiling_cost = {elements * price:.7f} USD")
    message = search(session, "MODEL many", "(accuracy >= 0.9)").message
    seen = measured(session, "many")
    if " 0 profiled" in message:
        assert ("what was left measured one: " in message) == bool(seen)
        assert ("what was left did not suffice to measure one: " in message) == (not seen)
    told = re.search(r"stopped: .*; left out: (.*)", message)[1]
    everything = re.search(r"everything(?! else)", told)
    assert not everything or " 0 observations" in message
    names = re.findall(r"many: many\.v \(accuracy := \S+\) on \w+", told)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("bound", ["SET max_profiling_cost = 0 USD", "BUDGET 1 us"])
def test_a_bound_that_allows_nothing_is_an_answer(session, bound):
    """As without SEARCH: said in the answer, and the run is done."""
    if bound.startswith("SET"):
        session.sql(bound)
    more = "" if bound.startswith("SET") else bound
    message = search(session, "MODEL guess", "(accuracy >= 0.9)", more=more).message
    assert "stopped: the search's half of the budget is used up" in message
    assert "everything" in message
    assert session.sql(
        "SELECT count(*) FROM octans.runs WHERE status = 'interrupted'"
    ).fetchall() == [(0,)]


def test_who_has_enough_before_the_first_row_is_told(session, monkeypatch):
    """The libraries of the search take seconds to load; a cancel then is one like any other."""
    monkeypatch.setattr(searching, "_load", session.cancel)
    with pytest.raises(OctansError, match="ANALYZE was cancelled") as caught:
        search(session, "MODEL guess", "(accuracy >= 0.9)")
    assert caught.value.code == "OC0402"
    last = "SELECT status FROM octans.runs ORDER BY id DESC LIMIT 1"
    assert session.sql(last).fetchone() == ("cancelled",)


@pytest.mark.parametrize("how", ["cancel", "ctrl-c"])
def test_who_has_enough_is_told_what_is_kept(session, monkeypatch, how):
    """Ctrl-C amid a look: cancelled, what was spent is recorded, and nothing more is measured."""
    many(session)
    evaluate, looks = plan_profile.PlanProfiler.evaluate, []

    def interrupted(self, choices, units):
        looks.append(units)
        if len(looks) == 6 and how == "cancel":
            session.cancel()
        elif len(looks) == 6:
            raise KeyboardInterrupt
        return evaluate(self, choices, units)

    monkeypatch.setattr(plan_profile.PlanProfiler, "evaluate", interrupted)
    with pytest.raises(OctansError, match="ANALYZE was cancelled") as caught:
        search(session, "MODEL many", "(accuracy >= 0.9)")
    assert caught.value.code == "OC0402"
    assert any("the rest of the search" in note for note in caught.value.notes)
    assert any(re.match(r"searched \d+ plans: [1-9]", note) for note in caught.value.notes)
    assert any(note.startswith("best plan so far: ") for note in caught.value.notes)
    assert measured(session, "many") == set()
    last = "SELECT status, usd FROM octans.runs ORDER BY id DESC LIMIT 1"
    status, usd = session.sql(last).fetchone()
    assert status == "cancelled"
    assert usd > 0


def test_what_cannot_run_is_named_and_the_others_searched(session):
    session.sql("CREATE VARIANT guess.crash USING python('session_world:crash')")
    session.sql("CREATE OR REPLACE VARIANT guess.cheap USING python('nowhere:nothing')")
    message = search(session, "MODEL guess", "(accuracy >= 0.9)").message
    assert "best plan: " in message
    assert not {"guess.crash", "guess.cheap"} & {name for name, _ in measured(session, "guess")}


def test_what_always_fails_is_named_once_with_the_reason(session):
    """Not once a batch size; and the plans counted are those that EXPLAIN counted."""
    session.sql("CREATE VARIANT guess.never USING python('session_world:never')")
    session.sql("DROP DEVICE big")
    with pytest.raises(OctansError) as caught:
        session.sql("EXPLAIN SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.9)")
    (counted,) = re.findall(r"finding one of (\d+) plans", "\n".join(caught.value.notes))
    message = search(session, "MODEL guess", "(accuracy >= 0.9999)").message
    (line,) = [line for line in message.splitlines() if "guess.never cannot run" in line]
    assert "guess.never cannot run on cpu: all that it was called with failed: " in line
    assert "nothing works" in line
    assert f"searched {counted} plans" in message


def test_batches_that_fail_are_one_note():
    hunt = object.__new__(hunting.Hunt)
    hunt.broken = {("p.s", "m.v", "gpu"): ([64, 16], "no full batch succeeded: out of memory")}
    assert hunt.notes == (
        "p.s: m.v cannot run at batch 16, 64 on gpu: no full batch succeeded: out of memory",
    )


def test_a_choice_that_breaks_later_takes_what_was_seen_of_it_along(session, monkeypatch):
    """It ran on some rows, then not: the search goes on without it."""
    evaluate, seen = plan_profile.PlanProfiler.evaluate, []

    def breaking(self, choices, units):
        (key,) = choices
        seen.append(choices[key])
        if len(seen) == 3:
            raise plan_seen.Broken(key, seen[0], "it fell over")
        return evaluate(self, choices, units)

    monkeypatch.setattr(plan_profile.PlanProfiler, "evaluate", breaking)
    message = search(session, "MODEL guess", "(accuracy >= 0.5)").message
    assert "it fell over" in message
    assert "best plan: " in message
    assert not any(c.replace(batch=1) == seen[0].replace(batch=1) for c in seen[3:])


def test_an_slo_out_of_reach_gets_the_nearest_plan(session):
    message = search(session, "MODEL guess", "(accuracy >= 0.9999)").message
    assert "no plan is likely to meet the SLO; the nearest to it is measured" in message
    with pytest.raises(OctansError) as caught:
        session.sql("EXPLAIN SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.9999)")
    assert caught.value.code == "OC0312"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"MODEL guess USING ({ROWS}) LABELS (y := truth) SEARCH", "OC0242"),
        (f"MODEL guess USING ({ROWS}) SEARCH SEARCH WITH SLO (cost <= 1 USD)", "OC0110"),
        (f"MODEL many USING ({ROWS}) SEARCH WITH SLO (accuracy >= 0.9)", "OC0322"),
        (f"MODEL guess USING ({ROWS}) SEARCH WITH SLO (throughput >= 9 /s)", "OC0311"),
        (f"MODEL guess USING ({ROWS}) SEARCH WITH SLO (accuracy(guess) >= 0.9)", "OC0311"),
        (f"MODEL guess USING ({ROWS}) SEARCH WITH SLO (energy <= 1 J)", "OC0311"),
        (f"MODEL guess USING ({ROWS}) SEARCH WITH SLO (accuracy >= 0)", "OC0311"),
    ],
)
def test_mistakes_are_told(session, text, code):
    many(session, 2)
    with pytest.raises(OctansError) as caught:
        session.sql(f"ANALYZE {text}")
    assert caught.value.code == code


def test_a_pipeline_never_profiled_has_a_price(session):
    """EXPLAIN says what finding a plan would take, from priors, and what bounds it."""
    query = "EXPLAIN SELECT answer(id) FROM numbers WITH SLO (accuracy >= 0.9)"

    def notes():
        with pytest.raises(OctansError) as caught:
            session.sql(query)
        assert caught.value.code == "OC0310"
        return "\n".join(caught.value.notes)

    assert "what finding one of" in notes()
    assert "is unknown: nothing says how long guess.best" in notes()
    for model, variant in (("guess", "best"), ("refine", "fast")):
        session.sql(
            f"CREATE OR REPLACE VARIANT {model}.{variant} USING "
            f"python('session_world:{model}', accuracy := 0.9) PRIOR (latency 3 ms)"
        )
    assert re.search(r"would take some \S+ m?s \[.*\] of models and \$[0-9.e-]+ \[", notes())
    assert "choices priced: 4 prior; 8 more taken to be like these" in notes()
    session.sql("SET max_profiling_cost = 2 USD")
    assert "max_profiling_cost bounds it at 2 USD" in notes()


def test_a_search_can_be_priced_without_running(session):
    """A dry run says of ANALYZE … SEARCH what OC0310 does, for its own SAMPLE and BUDGET."""
    analyze = f"ANALYZE MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE {{}}{{}}"
    goal = " SEARCH WITH SLO (accuracy >= 0.9)"
    session.sql(
        "CREATE OR REPLACE VARIANT guess.best USING "
        "python('session_world:guess', accuracy := 0.9) BASE PRIOR (latency 3 ms)"
    )
    few, many, plain = session.quotes(
        "; ".join(
            [
                analyze.format(40, goal),
                analyze.format(4000, " BUDGET 5 s, 2 USD" + goal),
                analyze.format(40, ""),
            ]
        )
    )
    assert "would take some 180 ms [" in few[1][0]
    assert "would take some 18.0 s [" in many[1][0]
    assert many[1][1] == "its BUDGET ends it after 5 s or 2 USD"
    assert plain[1] == ("what measuring every choice would take is not estimated",)
    assert session.sql("SELECT count(*) FROM octans.runs WHERE kind = 'analyze'").fetchone() == (0,)


def test_a_search_prices_other_pipelines(session):
    """What a search saw of a model is what the next pipeline of it is priced by."""
    search(session, "MODEL guess", "(accuracy >= 0.9)")
    session.sql(
        "CREATE PIPELINE twice (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y) AS BEGIN "
        "a := guess(x); b := picky(a); RETURN b; END"
    )
    with pytest.raises(OctansError) as caught:
        session.sql("EXPLAIN SELECT twice(id) FROM numbers WITH SLO (accuracy >= 0.9)")
    (line,) = [note for note in caught.value.notes if "finding" in note]
    assert "picky.only" in line


def test_what_was_replaced_has_no_price(session):
    """The times of an earlier definition are those of something else."""
    query = "EXPLAIN SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.9)"
    search(session, "MODEL guess", "(accuracy >= 0.9)")
    for variant in session.catalog.variants("guess"):
        base = "BASE" if variant.base else ""
        session.sql(
            f"CREATE OR REPLACE VARIANT {variant.full_name} USING "
            f"python('session_world:guess', accuracy := 0.9) {base}"
        )
    with pytest.raises(OctansError) as caught:
        session.sql(query)
    (line,) = [note for note in caught.value.notes if "finding" in note]
    assert "is unknown: nothing says how long guess." in line


def test_a_step_that_nothing_judges_is_refused_before_anything_is_spent(session):
    """Planning takes no choice of unknown quality: a plan found there could never be asked for."""
    session.sql("CREATE OR REPLACE VARIANT guess.best USING python('session_world:guess', "
                "accuracy := 0.99)")  # fmt: skip
    session_world.CALLS.clear()
    with pytest.raises(OctansError) as caught:
        search(session, "PIPELINE answer", "(accuracy >= 0.5)")
    assert caught.value.code == "OC0322"
    assert "answer.first" in str(caught.value)


def test_a_base_that_cannot_run_stops_nothing(session):
    session.sql("CREATE OR REPLACE VARIANT guess.best USING python('session_world:crash') BASE")
    message = search(session, "MODEL guess", "(accuracy >= 0.8)").message
    assert "best plan: " in message


def test_too_few_rows_to_prove_anything_are_named(session):
    result = session.sql(
        f"ANALYZE MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE 40 "
        "SEARCH WITH SLO (accuracy >= 0.9 AT CONFIDENCE 0.95)"
    )
    assert "10 held-back rows (or clusters) cannot prove" in result.message
