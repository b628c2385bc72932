"""ANALYZE through a session: odd samples, labels, budgets, and variants that do not work."""

import os
import random
import signal
import threading

import pytest
import session_world
from octans import drawing
from octans.errors import OctansError, RunError
from octans.stats.sampling import sample

ROWS = "SELECT id AS x, truth, book FROM numbers"


@pytest.fixture
def session():
    with session_world.connect(measured=False) as session:
        yield session


def analyzed(session, text):
    """The summary, by variant and knobs, and the message."""
    result = session.sql(f"ANALYZE {text}")
    rows = result.arrow().to_pylist()
    return {(row["variant"], row["knobs"], row["device"]): row for row in rows}, result.message


def qualities(session, subject):
    return {
        (o.variant, o.knobs): (o.value, o.n)
        for o in session.catalog.observations({subject})
        if o.metric == "quality" and o.given is None
    }


def variants(session, model, **accuracies):
    session.sql(f"CREATE MODEL {model} (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)")
    for name, accuracy in accuracies.items():
        session.sql(
            f"CREATE VARIANT {model}.{name} "
            f"USING python('session_world:guess', accuracy := {accuracy})"
        )


def test_what_is_measured_is_what_is_true(session):
    """Labels score every variant, on every search row or until it is decided."""
    rows, message = analyzed(session, f"MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE 400")
    assert "300 rows searched, 100 held back" in message
    search = session.catalog.samples.load("guess", 1, "search").column("x").to_pylist()
    found = qualities(session, "guess")
    for variant, knobs, accuracy in (
        ("guess.cheap", "", 0.8),
        ("guess.tuned", "accuracy := 0.85", 0.85),
        ("guess.tuned", "accuracy := 0.92", 0.92),
        ("guess.best", "", 0.99),
    ):
        share = sum(session_world.right(x, accuracy) for x in search) / len(search)
        value, n = found[variant, knobs]
        row = rows[variant, knobs, "cpu"]
        if row["stopped"] is None:
            assert (value, n) == (pytest.approx(share), 300)
        else:
            assert f"after {n} rows" in row["stopped"]
            assert n < 300
            assert row["low"] <= share <= row["high"]
    assert rows["guess.best", "", "cpu"]["stopped"] is None, "nothing is better than the best"


def test_the_same_seed_draws_the_same_rows(session):
    samples = []
    for seed in (0, 0, 1):
        session.sql(f"SET seed = {seed}")
        analyzed(session, f"MODEL shout USING (SELECT name AS t FROM numbers) SAMPLE {40}")
        samples.append(session.catalog.samples.load("shout", 1).column("t").to_pylist())
    assert samples[0] == samples[1] != samples[2]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"MODEL guess USING ({ROWS} WHERE false)", "OC0430"),
        (f"MODEL guess USING ({ROWS}) SAMPLE 0", "OC0430"),
        ("MODEL guess USING (SELECT id AS x, name FROM numbers) LABELS (y := name)", "OC0482"),
        ("MODEL guess USING (SELECT id AS x, [id] AS t FROM numbers) LABELS (y := t)", "OC0482"),
        ("MODEL guess USING (SELECT name::BIGINT AS x FROM numbers)", "OC0420"),
        ("MODEL guess USING (SELECT name AS x FROM numbers)", None),
        ("MODEL guess USING (SELECT id FROM numbers)", "OC0232"),
        ("MODEL guess USING (SELECT guess(id) AS x FROM numbers)", "OC0214"),
        (f"PIPELINE guess USING ({ROWS})", "OC0205"),
        (f"MODEL gues USING ({ROWS})", "OC0201"),
        (f"MODEL guess USING ({ROWS}) BUDGET 3 J", "OC0233"),
        (f"MODEL guess USING ({ROWS}) CLUSTER BY nothing", "OC0203"),
        (f"MODEL guess USING ({ROWS}) LABELS (z := truth)", "OC0221"),
    ],
)
def test_mistakes_are_told(session, text, code):
    with pytest.raises(OctansError) as caught:
        session.sql(f"ANALYZE {text}")
    assert caught.value.span is not None
    assert code is None or caught.value.code == code


def test_a_sample_of_one_row(session):
    _, message = analyzed(session, f"MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE 1")
    assert "1 rows searched, 0 held back" in message
    assert {n for _, n in qualities(session, "guess").values()} == {1}


@pytest.mark.parametrize(("clusters", "held"), [(1, 0), (2, None), (100, 25)])
def test_a_cluster_is_never_split(session, clusters, held):
    analyzed(
        session,
        f"MODEL guess USING (SELECT id AS x, truth, id % {clusters} AS c FROM numbers) "
        "LABELS (y := truth) CLUSTER BY c SAMPLE 400",
    )
    sizes = session.catalog.samples.sizes("guess", 1)
    sides = [
        set() if table is None else set(table.column("__cluster").to_pylist())
        for table in (session.catalog.samples.load("guess", 1, r) for r in ("search", "held_back"))
    ]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == clusters
    assert sides[0]
    assert held is None or sizes.get("held_back", (0, 0))[1] == held
    counts = {n for _, n in qualities(session, "guess").values()}
    assert max(counts) == len(sides[0]), "the best is measured on every cluster"


def test_clusters_widen_the_interval(session):
    def width():
        (found,) = (
            o
            for o in session.catalog.observations({"guess"})
            if o.metric == "quality" and o.variant == "guess.best" and o.given is None
        )
        return found.high - found.low

    analyzed(session, f"MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE 400")
    rows = width()
    analyzed(session, f"MODEL guess USING ({ROWS}) LABELS (y := truth) CLUSTER BY book SAMPLE 400")
    assert width() > rows


@pytest.mark.parametrize("budget", ["0.01 s", "0.0000000001 USD"])
def test_a_budget_that_is_soon_used_up(session, budget):
    _, message = analyzed(
        session, f"MODEL guess USING ({ROWS}) LABELS (y := truth) BUDGET {budget}"
    )
    assert "stopped: the budget of" in message
    assert "left out: guess" in message


def test_the_sessions_own_budget_counts_too(session):
    session.sql("SET max_profiling_cost = 0.0000000001 USD")
    _, message = analyzed(session, f"MODEL guess USING ({ROWS})")
    assert "stopped: the budget of" in message


def test_without_labels_the_base_variant_is_the_truth(session):
    analyzed(session, f"MODEL guess USING ({ROWS}) SAMPLE 200")
    found = qualities(session, "guess")
    assert found["guess.best", ""][0] == 1.0
    assert found["guess.cheap", ""][0] < 1.0


def test_without_labels_and_base_no_quality_is_made_up(session):
    variants(session, "lonely", a=0.9, b=0.8)
    rows, message = analyzed(session, f"MODEL lonely USING ({ROWS}) SAMPLE 50")
    assert {device for *_, device in rows} == {"cpu", "big"}
    assert len(rows) == 4
    assert "no label for y, and lonely has no BASE variant" in message
    assert not qualities(session, "lonely")
    with pytest.raises(OctansError, match="no choice is left") as caught:
        session.sql("SELECT lonely(id) FROM numbers WITH SLO (accuracy >= 0.5)")
    assert "LABELS" in caught.value.hint
    assert len(session.sql("SELECT lonely(id) FROM numbers LIMIT 3").fetchall()) == 3


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_variant_that_crashes_is_noted_and_the_others_measured(session, name):
    """Also when it would have been the reference."""
    variants(session, "shaky", m=0.9, n=0.8)
    for backend in ("python('session_world:crash')", "python('nowhere:at_all')", "openai('x')"):
        session.sql(f"CREATE OR REPLACE VARIANT shaky.{name} USING {backend}")
        _, message = analyzed(session, f"MODEL shaky USING ({ROWS}) LABELS (y := truth) SAMPLE 50")
        assert f"shaky.{name} cannot run" in message
        assert {variant for variant, _ in qualities(session, "shaky")} == {"shaky.m", "shaky.n"}
    plan = session.explain("SELECT shaky(id) FROM numbers WITH SLO (accuracy >= 0.5)")
    assert plan.totals.accuracy.value >= 0.5


def test_what_never_answers_has_a_row_and_its_first_error_a_note(session):
    """Also where all calls fail rather than the loading; some failing ones are explained too."""
    variants(session, "shaky", m=0.9)
    session.sql("CREATE VARIANT shaky.crashes USING python('session_world:crash')")
    session.sql("CREATE VARIANT shaky.words USING python('session_world:wrong_type')")
    session.sql("CREATE VARIANT shaky.picks USING python('session_world:picky', bad := 3)")
    rows, message = analyzed(session, f"MODEL shaky USING ({ROWS}) LABELS (y := truth) SAMPLE 120")
    found = {variant: row for (variant, _, _), row in rows.items()}
    assert found["shaky.m"]["best_batch"] >= 1
    for name in ("shaky.crashes", "shaky.words"):
        assert found[name]["best_batch"] is found[name]["us_per_element"] is None
        assert found[name]["stopped"]
    notes = [line for line in message.splitlines() if line.startswith("note: ")]
    for name, why in (
        ("shaky.crashes", "no weights here"),
        ("shaky.words", "no full batch succeeded: output y is not"),
        ("shaky.picks", "ValueError: I do not like"),
    ):
        assert any(name in note and why in note for note in notes)
    details = session.sql("SELECT details FROM octans.runs ORDER BY id DESC LIMIT 1").fetchone()
    assert "I do not like" in details[0]
    states = {row[0]: row[-1] for row in session.sql("SHOW VARIANTS OF shaky").fetchall()}
    assert states == {
        "shaky.m": "eligible",
        "shaky.picks": "eligible",
        "shaky.crashes": "fails",
        "shaky.words": "fails",
    }


def test_all_variants_crash(session):
    variants(session, "dead")
    session.sql("CREATE VARIANT dead.a USING python('session_world:crash')")
    session.sql("CREATE VARIANT dead.b USING python('session_world:crash')")
    with pytest.raises(RunError, match="no variant of dead can run") as caught:
        session.sql(f"ANALYZE MODEL dead USING ({ROWS})")
    assert caught.value.code == "OC0431"
    assert len(caught.value.notes) == 2
    status = session.sql("SELECT status FROM octans.runs ORDER BY id DESC LIMIT 1").fetchone()
    assert status == ("failed",)


def test_a_model_without_variants(session):
    variants(session, "bare")
    with pytest.raises(OctansError, match="has no variant"):
        session.sql(f"ANALYZE MODEL bare USING ({ROWS})")


def test_failing_elements_count_as_wrong(session):
    analyzed(session, f"MODEL picky USING ({ROWS}) LABELS (y := truth) SAMPLE 400")
    search = session.catalog.samples.load("picky", 1, "search").column("x").to_pylist()
    share = sum(x % 10 != 7 for x in search) / len(search)
    assert qualities(session, "picky")["picky.only", ""][0] == pytest.approx(share)
    (failure,) = (o for o in session.catalog.observations({"picky"}) if o.metric == "failure")
    assert failure.value == pytest.approx(1 - share)


@pytest.mark.parametrize(
    "using",
    [
        "SELECT CASE WHEN id % 2 = 0 THEN 'straße 日本 🔊' || id END AS t FROM numbers",
        "SELECT NULL::VARCHAR AS t FROM numbers",
        'SELECT name AS t, id AS place, id AS "__role" FROM numbers',
        'SELECT name AS t, name AS "a ""b" FROM numbers',
    ],
)
def test_unusual_inputs(session, using):
    rows, _ = analyzed(session, f"MODEL shout USING ({using}) SAMPLE 60")
    assert rows["shout.only", "", "cpu"]["quality"] == 1.0


def test_a_model_with_several_outputs(session):
    rows, _ = analyzed(
        session,
        "MODEL refine USING (SELECT id AS x, truth AS y, truth AS z FROM numbers) "
        "LABELS (z := z) SAMPLE 100",
    )
    assert 0.7 < rows["refine.fast", "", "cpu"]["quality"] < 1.0


def test_labels_that_are_null_are_counted(session):
    using = "SELECT id AS x, CASE WHEN id % 4 > 0 THEN truth END AS truth FROM numbers"
    _, message = analyzed(session, f"MODEL guess USING ({using}) LABELS (y := truth) SAMPLE 400")
    assert "note: 100 of 400 labels of guess.y are NULL" in message
    (details,) = session.sql("SELECT details FROM octans.runs ORDER BY id DESC LIMIT 1").fetchone()
    assert "are NULL" in str(details)


def test_what_was_measured_stays_when_a_run_fails(session):
    """Scoring words against numbers fails after the first latencies were measured."""
    with pytest.raises(OctansError):
        session.sql(
            "ANALYZE MODEL guess USING (SELECT id AS x, name FROM numbers) LABELS (y := name)"
        )
    assert {o.metric for o in session.catalog.observations({"guess"})} >= {"latency", "failure"}
    status = session.sql("SELECT status FROM octans.runs ORDER BY id DESC LIMIT 1").fetchone()
    assert status == ("failed",)


def test_a_pipeline_measures_steps_conditions_and_the_whole(session):
    analyzed(session, f"PIPELINE answer USING ({ROWS}) LABELS (z := truth) SAMPLE 300")
    metrics = {(o.subject, o.metric) for o in session.catalog.observations()}
    assert {
        ("answer.first", "quality"),
        ("answer.first", "latency"),
        ("answer.again", "rate"),
        ("answer.again", "quality"),
        ("answer", "accuracy"),
    } <= metrics


def test_features_make_the_strata(session):
    """Proportional over the feature's values, however skewed a uniform draw would be."""
    using = "SELECT id AS x, truth, id % 10 < 3 AS rare FROM numbers"
    analyzed(session, f"MODEL guess USING ({using}) LABELS (y := truth) FEATURES (rare) SAMPLE 160")
    search = session.catalog.samples.load("guess", 1, "search").column("x").to_pylist()
    held = session.catalog.samples.load("guess", 1, "held_back").column("x").to_pylist()
    assert not set(search) & set(held)
    assert len(search) == 120
    others = [x for x in range(400) if x not in held]
    share = sum(x % 10 < 3 for x in others) / len(others)
    assert abs(sum(x % 10 < 3 for x in search) - share * len(search)) <= 1


def test_what_is_held_back_knows_nothing_of_strata(session):
    """The same rows, whatever the features are: promises rest on a uniform draw."""
    found = []
    for features in ("", "FEATURES (x % 7)", "FEATURES (x, x * x % 11)"):
        analyzed(session, f"MODEL guess USING ({ROWS}) LABELS (y := truth) {features} SAMPLE 160")
        table = session.catalog.samples.load("guess", 1, "held_back")
        found.append(table.column("x").to_pylist())
    analyzed(session, f"MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE UNIFORM 160")
    uniform = session.catalog.samples.load("guess", 1)
    roles = uniform.column("__role").to_pylist()
    xs = uniform.column("x").to_pylist()
    found.append([x for x, role in zip(xs, roles, strict=True) if role == "held_back"])
    assert len(found[0]) == 40
    assert all(rows == found[0] for rows in found)
    assert xs == sample(400, 160, 0), "SAMPLE UNIFORM stays uniform"


def test_an_asked_slo_ends_the_measuring_of_what_it_decides(session):
    rows, message = analyzed(
        session,
        "MODEL guess USING (SELECT range AS x, 2 * range AS truth FROM range(2000)) "
        "LABELS (y := truth) SAMPLE 1200 "
        "WITH SLO (accuracy >= 0.9 AT CONFIDENCE 0.95) MINIMIZE cost",
    )
    assert "were decided early" in message
    cheap, best = rows["guess.cheap", "", "cpu"], rows["guess.best", "", "cpu"]
    # Which of the two comes first depends on what the variants took.
    assert "surely below" in cheap["stopped"] or "dominated" in cheap["stopped"]
    assert "surely above the accuracy of 0.9" in best["stopped"]
    assert cheap["n"] < 900
    assert cheap["low"] <= 0.8 <= cheap["high"]


def test_without_an_slo_nothing_is_held_against_one(session):
    rows, _ = analyzed(session, f"MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE 400")
    assert not any("asked for" in (row["stopped"] or "") for row in rows.values())


def slow(session):
    """A model that takes a while."""
    session.sql("CREATE MODEL slow (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y)")
    for name in "abcdef":
        session.sql(
            f"CREATE VARIANT slow.{name} "
            "USING python('session_world:guess', accuracy := 0.9, seconds := 0.05)"
        )


def stop_soon(stop):
    """Call `stop` once the first variant was measured."""
    timer = threading.Timer(1.0, stop)
    timer.start()
    return timer


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_what_was_measured_stays_when_it_is_stopped(session, how):
    slow(session)
    timer = stop_soon(
        session.cancel if how == "cancel" else lambda: os.kill(os.getpid(), signal.SIGINT)
    )
    with pytest.raises(RunError, match="observations are kept") as caught:
        session.sql(f"ANALYZE MODEL slow USING ({ROWS}) LABELS (y := truth) SAMPLE 64")
    timer.join()
    assert caught.value.code == "OC0402"
    assert session.catalog.observations({"slow"})
    (status,) = session.sql("SELECT status FROM octans.runs ORDER BY id DESC LIMIT 1").fetchone()
    assert status == "cancelled"
    assert session.sql("SELECT 1 AS x").fetchall() == [(1,)]


@pytest.mark.parametrize("counted", [0, 1, 60, 400])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_the_pool_is_drawn_from_what_is_not_kept(counted, share, monkeypatch):
    """As if all other places had been listed, which takes 28 bytes for each row of a source."""
    monkeypatch.setattr(drawing, "POOL", 50)
    for seed in range(20):
        kept = set(random.Random(seed).sample(range(counted), round(share * counted)))
        others = [place for place in range(counted) if place not in kept]
        if len(others) > 50:
            others = sorted(random.Random(seed).sample(others, 50))
        assert drawing.pool_of(counted, kept, seed) == others
