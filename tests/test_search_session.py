"""ANALYZE … SEARCH through a session: what it finds, what it spends, what it leaves, its price."""

import re

import pytest
import session_world
from octans import analyzing, searching
from octans.errors import OctansError
from octans.planner.search.protocol import Candidate
from octans.stats import plan_profile

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


def test_a_pipeline_with_a_condition(session):
    message = search(session, "PIPELINE answer", "(accuracy >= 0.95)").message
    assert "best plan: " in message
    explanation = session.explain("SELECT answer(id) FROM numbers WITH SLO (accuracy >= 0.95)")
    assert "VARIANT(first guess." in explanation.advice


def test_a_safe_plan_is_measured_beside_the_best():
    """The one that looked best of hundreds may miss; the best that is sure to meet comes next."""

    class Searched:
        def __init__(self, chances, returned):
            self.plans = [Candidate((n,), {}, chance, 8) for n, chance in enumerate(chances)]
            self.returned = returned

        def frontier(self):
            return tuple(self.plans)

        def incumbent(self):
            return None if self.returned is None else self.plans[self.returned]

    hunt = object.__new__(searching._Hunt)
    for chances, returned, order in [
        ((0.6, 0.7, 0.97, 0.99), 0, [0, 2, 1, 3]),
        ((0.99, 0.6), 0, [0, 1]),
        ((0.6, 0.7), 1, [1, 0]),
        ((0.1, 0.3, 0.2), None, [1, 2, 0]),
        ((), None, []),
    ]:
        hunt.search = Searched(chances, returned)
        assert [candidate.assignment[0] for candidate in hunt.best()] == order


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
    shown = session.sql("EXPLAIN SELECT many(id) FROM numbers").text
    assert "the search was ended before it was done" in " ".join(shown.split())


def test_a_bound_before_anything_is_seen(session):
    many(session)
    result = search(session, "MODEL many", "(accuracy >= 0.9)", more="BUDGET 0.000000001 USD")
    assert " 0 profiled" in result.message
    assert "left out: the rest of the search, everything" in result.message
    assert measured(session, "many") == set()


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


def test_a_choice_that_breaks_later_takes_what_was_seen_of_it_along(session, monkeypatch):
    """It ran on some rows, then not: the search goes on without it."""
    evaluate, seen = plan_profile.PlanProfiler.evaluate, []

    def breaking(self, choices, units):
        (key,) = choices
        seen.append(choices[key])
        if len(seen) == 3:
            raise plan_profile.Broken(key, seen[0], "it fell over")
        return evaluate(self, choices, units)

    monkeypatch.setattr(plan_profile.PlanProfiler, "evaluate", breaking)
    message = search(session, "MODEL guess", "(accuracy >= 0.5)").message
    assert "it fell over" in message
    assert "best plan: " in message
    assert not any(c.replace(batch=1) == seen[0].replace(batch=1) for c in seen[3:])


def test_an_slo_out_of_reach_gets_the_nearest_plan(session):
    message = search(session, "MODEL guess", "(accuracy >= 0.9999)").message
    assert "no plan is likely to meet the SLO" in message
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
