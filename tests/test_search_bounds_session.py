"""ANALYZE … SEARCH through a session: bounds on what it spends, and who has enough of it."""

import re

import pytest
import session_world
from octans import analyzing, searching
from octans.errors import OctansError
from octans.stats import plan_profile
from octans.summary import beyond
from search_world import ROWS, many, measured, search


@pytest.fixture
def session():
    with session_world.connect(measured=False) as session:
        yield session


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
