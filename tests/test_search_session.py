"""ANALYZE … SEARCH through a session: what it finds, names and says."""

import re
from dataclasses import replace

import pytest
import session_world
from octans import analyzing, choosing, hunting
from octans.errors import OctansError
from octans.ir.physical import Choice
from octans.ir.slo import Constraint, Slo
from octans.planner.search.protocol import Candidate
from octans.stats import plan_profile, plan_seen
from search_world import ROWS, many, measured, named, search


@pytest.fixture
def session():
    with session_world.connect(measured=False) as session:
        yield session


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
