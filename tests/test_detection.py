"""Precision and recall: of single choices measured, of cascades kept by the threshold picked."""

import time

import numpy as np
import octans
import pytest
from octans.errors import BindError
from octans.stats.detection import detected, kept
from octans.stats.intervals import clopper_pearson_lower
from octans.stats.outcomes import Outcomes
from octans.stats.profile import PLAIN
from octans.stats.sampling import sample

ALPHA, ROWS, TRIALS = 0.05, 500, 120


def population(order, rows=40_000):
    """Of every row: is it TRUE, what both members answer, how sure the earlier one is."""
    rng = np.random.default_rng(3)
    hard = rng.random(rows)
    if order == "pre-filtered":
        hard = hard[hard > 0.3]
    if order == "sorted":
        hard = np.sort(hard)
    positive = rng.random(len(hard)) < 0.3
    first = positive ^ (rng.random(len(hard)) < 0.5 * hard**2)
    last = positive ^ (rng.random(len(hard)) < 0.03)
    sure = np.clip(1.0 - hard + rng.normal(0.0, 0.15, len(hard)), 0.0, 1.0)
    return positive, first, last, sure


def outcomes(places, positive, answered, sure):
    right = (answered == positive)[places].astype(float)
    return Outcomes(right, sure[places], list(range(len(places))), answered[places])


def reached(metric, threshold, positive, first, last, sure):
    """The cascade's precision or recall on the whole population."""
    answered = np.where(sure >= threshold, first, last)
    among = answered if metric == "precision" else positive
    return (answered & positive)[among].mean()


def estimated(metric, threshold, one, other):
    """As the sample itself has it."""
    answered = np.where(one.confidence >= threshold, one.answered, other.answered)
    return detected(answered, one.positive, one.units)[metric].value


@pytest.mark.parametrize("metric", ["precision", "recall"])
@pytest.mark.parametrize("order", ["uniform", "sorted", "pre-filtered"])
def test_the_lowest_threshold_whose_bound_reaches_the_limit_keeps_it(order, metric):
    """As often as promised; the one whose estimate reaches it does not: the test can fail."""
    positive, first, last, sure = population(order)
    limit = 0.85
    ours = careless = dared = 0
    for trial in range(TRIALS):
        places = np.array(sample(len(positive), ROWS, seed=trial))
        one, other = (outcomes(places, positive, each, sure) for each in (first, last))
        grid = np.quantile(one.confidence, np.linspace(0.0, 1.0, 11)).tolist()
        passing = [t for t in grid if kept(one, other, t, ALPHA)[metric] >= limit]
        lucky = [t for t in grid if estimated(metric, t, one, other) >= limit]
        if passing:
            dared += min(passing) < grid[-1]
            ours += reached(metric, min(passing), positive, first, last, sure) < limit
        if lucky:
            careless += reached(metric, min(lucky), positive, first, last, sure) < limit
    assert clopper_pearson_lower(ours, TRIALS, 0.05) <= ALPHA
    assert clopper_pearson_lower(careless, TRIALS, 0.05) > 2 * ALPHA
    assert dared > TRIALS / 2


def test_bounds_fall_with_the_threshold():
    """Whatever the units: it is what makes picking by them free."""
    positive, first, last, sure = population("uniform", 300)
    places = np.arange(300)
    for units in (list(range(300)), [place // 4 for place in places.tolist()]):
        right = [(each == positive).astype(float) for each in (first, last)]
        one = Outcomes(right[0], sure, units, first)
        other = Outcomes(right[1], sure, units, last)
        for metric in ("precision", "recall"):
            bounds = [kept(one, other, t, ALPHA)[metric] for t in np.linspace(0.0, 1.1, 23)]
            assert bounds == sorted(bounds)
            assert bounds[0] < bounds[-1]


# --- in the language ------------------------------------------------------------------------------


def spam(kind):
    """Wrong on hard rows, and unsure of them; a row is spam if its number ends in 0 or 1."""

    def call(batch):
        xs = np.array(batch.column("x").to_pylist())
        hard = (xs * 2654435761 % 1000003) / 1000003
        time.sleep(len(xs) * (1e-5 if kind == "tiny" else 4e-4))  # only the order counts
        wrong = hard > (0.8 if kind == "tiny" else 0.98)
        return {"bad": (xs % 10 < 2) ^ wrong, "sure": 1.0 - hard}

    return call


WORLD = """
SET progress = false;
CREATE DEVICE cpu (KIND cpu, COUNT 2, THREADS 1, PRICE 1 USD PER HOUR);
CREATE MODEL spam (x BIGINT) RETURNS (bad BOOLEAN, sure DOUBLE)
  QUALITY exact_match(bad) CONFIDENCE sure;
CREATE MODEL size (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT spam.tiny USING python('test_detection:spam', kind := 'tiny');
CREATE VARIANT spam.big USING python('test_detection:spam', kind := 'big') BASE;
CREATE TABLE mails AS SELECT range AS x, range % 10 < 2 AS truth FROM range(1500);
"""


@pytest.fixture(scope="module")
def session():
    with pytest.MonkeyPatch.context() as patch, octans.connect() as session:
        patch.setattr("octans.analyzing._strategy", lambda session: PLAIN)
        session.sql(WORLD)
        session.sql(
            "ANALYZE MODEL spam USING (SELECT x, truth FROM mails) LABELS (bad := truth) "
            "SAMPLE 1500"
        )
        yield session


def planned(session, limit):
    return session.sql(
        f"EXPLAIN SELECT x FROM mails WHERE spam(x).bad WITH SLO ({limit})"
    ).explanation()


def test_a_limit_on_precision_or_recall_picks_the_plan(session):
    cheap, dear = (planned(session, f"precision(spam) >= {least}") for least in (0.4, 0.7))
    assert "VARIANT(spam spam.tiny)" in cheap.advice
    assert "CASCADE(spam spam.tiny" in dear.advice
    assert planned(session, "recall(spam) >= 0.7").advice == cheap.advice
    (verdict,) = dear.verdicts
    assert verdict.met
    assert verdict.estimate.value >= 0.7


def test_precision_and_recall_are_shares_of_what_was_seen(session):
    found = session.sql(
        "SELECT metric, value FROM octans.statistics WHERE variant = 'spam.tiny' "
        "AND metric IN ('precision', 'recall') ORDER BY metric"
    ).fetchall()
    xs = np.array([x for (x,) in session.sql("SELECT x FROM mails").fetchall()])
    answered, truth = spam("tiny")(_Batch(xs))["bad"], xs % 10 < 2
    whole = detected(answered, truth, xs.tolist())
    for metric, value in found:
        assert value == pytest.approx(whole[metric].value, abs=0.06)
    assert len(found) == 2


class _Batch:
    def __init__(self, xs):
        self.xs = xs

    def column(self, name):
        return self

    def to_pylist(self):
        return self.xs.tolist()


@pytest.mark.parametrize(
    "limit",
    [
        "precision >= 0.9",
        "recall(size) >= 0.9",
        "recall(spam) >= 1.2",
        "recall(spam) <= 0.2",
        "precision(spam) >= 0.9 AT CONFIDENCE 0.9",
    ],
)
def test_what_makes_no_sense_is_refused(session, limit):
    with pytest.raises(BindError) as refused:
        planned(session, limit)
    assert refused.value.code == "OC0217"


def test_neither_is_an_objective(session):
    with pytest.raises(BindError) as refused:
        session.sql("EXPLAIN SELECT x FROM mails WHERE spam(x).bad WITH SLO () MAXIMIZE recall")
    assert refused.value.code == "OC0217"
