"""Statistics of one deployment: from the pool of the others to its own, with honest intervals."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime

import octans
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.errors import CatalogError
from octans.ir.estimates import Estimate
from octans.stats.intervals import wilson
from octans.stats.observation import Observation
from octans.stats.pooling import effective_size, pooled_mean, pooled_share
from octans.stats.statistics import Statistics

AT = datetime(2026, 5, 1, tzinfo=UTC)


def share(value, n):
    return Estimate(value, *wilson(value * n, n), n, "measured", AT)


def mean(value, spread, n=30):
    """A mean whose logarithm has this standard error."""
    factor = math.exp(1.96 * spread)
    return Estimate(value, value / factor, value * factor, n, "measured", AT)


SHARES = st.builds(share, st.floats(0, 1), st.integers(1, 3000))
POOLS = st.lists(SHARES, min_size=1, max_size=6)
MEANS = st.builds(mean, st.floats(1e-4, 10), st.floats(0.01, 0.8))
MEAN_POOLS = st.lists(MEANS, min_size=1, max_size=6)
quick = settings(deadline=None)  # the first call imports scipy


@quick
@given(st.floats(0, 1), POOLS)
def test_a_share_moves_from_the_pool_to_its_own_as_its_rows_grow(value, pool):
    start = pooled_share(None, pool).value
    assert min(p.value for p in pool) - 1e-9 <= start <= max(p.value for p in pool) + 1e-9
    last = 0.0
    for n in (1, 4, 30, 200, 2000):
        found = pooled_share(share(value, n), pool)
        assert min(value, start) - 1e-9 <= found.value <= max(value, start) + 1e-9
        moved = abs(found.value - start)
        assert moved >= last - 1e-9
        last = moved


@quick
@given(st.floats(1e-3, 10), MEAN_POOLS)
def test_a_mean_moves_from_the_pool_to_its_own_as_its_spread_shrinks(value, pool):
    start = pooled_mean(None, pool).value
    last = 0.0
    for spread in (3.0, 1.0, 0.3, 0.05, 0.001):
        found = pooled_mean(mean(value, spread), pool)
        assert min(value, start) * (1 - 1e-9) <= found.value <= max(value, start) * (1 + 1e-9)
        moved = abs(math.log(found.value / start))
        assert moved >= last - 1e-9
        last = moved
    assert found.value == pytest.approx(value, rel=1e-3)


@quick
@given(POOLS, st.one_of(st.none(), SHARES))
def test_intervals_hold_their_value_and_stay_shares(pool, own):
    found = pooled_share(own, pool)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert found.n == sum(p.n for p in pool) + (own.n if own else 0)
    assert found.source == "modelled"


def test_much_own_data_is_its_own_number_and_interval():
    own, pool = share(0.7, 50_000), [share(0.95, 400), share(0.9, 400)]
    found = pooled_share(own, pool)
    assert found.value == pytest.approx(0.7, abs=1e-3)
    assert found.high - found.low == pytest.approx(own.high - own.low, rel=0.05)
    own = mean(0.2, 0.001)
    found = pooled_mean(own, [mean(0.01, 0.1), mean(0.02, 0.1)])
    assert (found.low, found.high) == pytest.approx((own.low, own.high), rel=1e-3)


def test_a_new_deployment_is_less_certain_than_any_that_was_measured():
    """How deployments differ is part of what is not known of it."""
    pool = [share(0.9, 5000) for _ in range(4)]
    found = pooled_share(None, pool)
    assert found.value == pytest.approx(0.9)
    assert found.high - found.low > 5 * (pool[0].high - pool[0].low)
    more = pooled_share(None, [share(0.9, 5000) for _ in range(40)])
    assert more.high - more.low < found.high - found.low, "forty that agree say that they do"


def test_the_effective_size_is_the_rows_of_a_wilson_interval():
    for value, n in ((0.5, 10), (0.93, 300), (0.0, 40), (1.0, 25)):
        assert effective_size(share(value, n)) == pytest.approx(n, rel=1e-6)
    assert effective_size(Estimate(0.5, 0.0, 1.0, 3)) == 0.0


def covered_share(rng, size, centre, groups, n_own, n_other=150):
    """Does the interval of a random deployment cover its truth?"""

    def drawn(truth, n):
        return share(sum(rng.random() < truth for _ in range(n)) / n, n)

    truths = [rng.betavariate(centre * size, (1 - centre) * size) for _ in range(groups + 1)]
    own = drawn(truths[0], n_own) if n_own else None
    found = pooled_share(own, [drawn(truth, n_other) for truth in truths[1:]])
    return found.low <= truths[0] <= found.high


def covered_mean(rng, tau, groups, spread):
    def drawn(truth, error):
        return mean(math.exp(truth + rng.gauss(0, error)), error)

    truths = [rng.gauss(-3, tau) for _ in range(groups + 1)]
    own = drawn(truths[0], spread) if spread else None
    found = pooled_mean(own, [drawn(truth, 0.05) for truth in truths[1:]])
    return math.log(found.low) <= truths[0] <= math.log(found.high)


def test_intervals_cover_random_deployments():
    """95 % intervals, over deployments that differ little and much, few and many, new and old."""
    rng = random.Random(20260501)
    grid = [
        (size, groups, n) for size in (20, 60, 300) for groups in (1, 3, 8) for n in (0, 20, 150)
    ]
    hits = [covered_share(rng, s, 0.9, k, n) for s, k, n in grid for _ in range(60)]
    assert sum(hits) / len(hits) >= 0.94
    grid = [(tau, k, s) for tau in (0.05, 0.2, 0.4) for k in (1, 3, 8) for s in (0.0, 0.3, 0.05)]
    hits = [covered_mean(rng, *case) for case in grid for _ in range(120)]
    assert sum(hits) / len(hits) >= 0.94


# --- looked up -----------------------------------------------------------------------------------

QUALITY = Observation("m", "quality", "mean", 0.9, 400, AT, 0.86, 0.93, variant="m.v")
LATENCY = Observation(
    "m", "latency", "mean", 0.01, 50, AT, 0.009, 0.011, variant="m.v", device="cpu", batch=1
)


def of(row, deployment, **changes):
    return replace(row, deployment=deployment, low=None, high=None, **changes)


def test_the_pipelines_own_numbers_do_not_hear_of_deployments():
    rows = [of(QUALITY, "one", value=0.5), QUALITY, of(QUALITY, "two", value=0.6)]
    found = Statistics(rows).quality("m", "m.v", "")
    assert (found.value, found.low, found.high, found.source) == (0.9, 0.86, 0.93, "measured")


def test_a_deployment_has_numbers_of_its_own():
    rows = [QUALITY, of(QUALITY, "one", value=0.5, n=100), LATENCY, of(LATENCY, "one", value=0.04)]
    stats = Statistics(rows, deployment="one")
    quality = stats.quality("m", "m.v", "")
    assert 0.5 < quality.value < 0.7
    latency = stats.latency("m", "m.v", "", "cpu", 1, "mean")
    assert 0.02 < latency.value < 0.04
    assert stats.batches("m", "m.v", "", "cpu") == (1,)


def test_a_new_deployment_starts_from_the_pool():
    stats = Statistics([QUALITY, of(QUALITY, "one", value=0.8)], deployment="new")
    quality = stats.quality("m", "m.v", "")
    assert 0.8 < quality.value < 0.9
    assert quality.source == "modelled"
    assert quality.high - quality.low > 0.07


def test_a_new_deployment_may_differ_from_the_pipelines_own_rows_alone():
    """Nobody has measured how deployments differ: the prior says, and the interval is wider."""
    own, new = Statistics([QUALITY, LATENCY]), Statistics([QUALITY, LATENCY], deployment="new")
    share, start = (each.quality("m", "m.v", "") for each in (own, new))
    assert (share.source, start.source) == ("measured", "modelled")
    assert start.value == pytest.approx(share.value)
    assert start.high - start.low > 3 * (share.high - share.low)
    seconds, guess = (each.latency("m", "m.v", "", "cpu", 1, "mean") for each in (own, new))
    assert guess.source == "modelled"
    assert guess.value == pytest.approx(seconds.value)
    assert guess.low < seconds.value / 2
    assert guess.high > seconds.value * 2


def test_the_first_rows_of_a_deployment_move_it_from_the_pool():
    rows = [QUALITY, of(QUALITY, "new", value=0.6, n=20)]
    start = Statistics([QUALITY], deployment="new").quality("m", "m.v", "")
    first = Statistics(rows, deployment="new").quality("m", "m.v", "")
    assert 0.6 < first.value < start.value
    assert first.high - first.low < start.high - start.low


def test_what_only_deployments_measured_stands_in_for_the_pipelines_own():
    found = Statistics([of(QUALITY, "one"), of(QUALITY, "two", value=0.8)]).quality("m", "m.v", "")
    assert 0.8 < found.value < 0.9
    assert found.source == "modelled"


def test_only_its_own_rows_are_its_own_estimate():
    rows = [replace(QUALITY, deployment="one")]
    found = Statistics(rows, deployment="one").quality("m", "m.v", "")
    assert (found.low, found.high, found.source) == (0.86, 0.93, "measured")


def test_lengths_are_its_own_or_the_pipelines_never_mixed():
    def pmf(deployment, shares):
        return [
            Observation("p.s", "length", f"pmf({k})", v, 50, AT, run=1, deployment=deployment)
            for k, v in shares.items()
        ]

    rows = [*pmf(None, {1: 0.5, 2: 0.5}), *pmf("one", {3: 1.0})]
    assert Statistics(rows, deployment="one").lengths("p.s") == ((3, 1.0),)
    assert Statistics(rows, deployment="new").lengths("p.s") == ((1, 0.5), (2, 0.5))
    assert Statistics(rows).lengths("p.s") == ((1, 0.5), (2, 0.5))


def test_devices_share_failures_and_quality_unless_they_differ():
    def failure(device, value, n=200):
        return Observation("m", "failure", "share", value, n, AT, variant="m.v", device=device)

    alike = Statistics([failure("cpu", 0.02), failure("gpu", 0.03)])
    assert alike.failure("m", "m.v", "", "cpu").value == pytest.approx(0.025)
    assert alike.failure("m", "m.v", "", "cpu").n == 400
    apart = Statistics([failure("cpu", 0.02), failure("gpu", 0.3)])
    assert apart.failure("m", "m.v", "", "cpu").value == 0.02
    assert apart.failure("m", "m.v", "", "gpu").value == 0.3
    assert apart.failure("m", "m.v", "", "tpu").value == 0.3, "unknown: the worst of them"
    rows = [
        replace(QUALITY, device="cpu"),
        replace(QUALITY, device="gpu", value=0.6, low=0.5, high=0.7),
    ]
    assert Statistics(rows).quality("m", "m.v", "").value == 0.6


# --- in a session --------------------------------------------------------------------------------

WORLD = """
CREATE DEVICE cpu (KIND cpu, COUNT 1, THREADS 1, PRICE 1 USD PER HOUR);
CREATE MODEL near (x BIGINT) RETURNS (y BIGINT) QUALITY exact_match(y);
CREATE VARIANT near.v USING python('test_pooling:near');
"""


def near():
    """Right on even numbers."""
    return lambda batch: {"y": [x - x % 2 for x in batch.column("x").to_pylist()]}


def analyze(session, numbers):
    session.sql(
        f"ANALYZE MODEL near USING (SELECT x, x AS truth FROM ({numbers}) t(x)) LABELS (y := truth)"
    )


def accuracy(session):
    return session.explain("SELECT near(range) FROM range(10)").totals.accuracy


def test_a_session_measures_and_plans_for_its_deployment(tmp_path):
    path = tmp_path / "c.duckdb"
    with octans.connect(path) as session:
        session.sql(WORLD)
        analyze(session, "SELECT 2 * range FROM range(200)")  # right on all
        own = accuracy(session)
        assert own.value == 1.0
        session.sql("SET deployment = 'odd'")
        start = accuracy(session)
        assert (start.value, start.source) == (1.0, "modelled")
        assert start.low < own.low
        analyze(session, "SELECT 2 * range + range % 2 FROM range(200)")  # right on half
        mine = accuracy(session)
        assert 0.5 < mine.value < 0.65
        assert mine.low < 0.5 < mine.high
        session.sql("SET deployment = 'new'")
        pool = accuracy(session)
        assert mine.value < pool.value < 1.0
        assert pool.high - pool.low > mine.high - mine.low
        session.sql("RESET deployment")
        assert accuracy(session).value == 1.0
    with octans.connect(path) as session:
        rows = session.sql(
            "SELECT deployment, value FROM octans.statistics "
            "WHERE metric = 'quality' ORDER BY value"
        ).fetchall()
        assert [deployment for deployment, _ in rows] == ["odd", None]
        shown = session.sql("SHOW STATISTICS FOR near").df()
        assert set(shown["deployment"].dropna()) == {"odd"}


def test_measurements_of_a_deployment_are_imported():
    with octans.connect() as session:
        session.sql(WORLD)
        analyze(session, "SELECT 2 * range FROM range(200)")
        session.sql(
            "INSERT INTO octans.observations (subject, variant, metric, value, n, deployment) "
            "SELECT 'near', 'near.v', 'quality', 0.25, 4000, 'far'"
        )
        assert accuracy(session).value == 1.0
        session.sql("SET deployment = 'far'")
        assert accuracy(session).value == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("value", ["7", "TRUE", "''", "5 USD"])
def test_a_deployment_is_a_name(value):
    with octans.connect() as session:
        with pytest.raises(CatalogError) as caught:
            session.sql(f"SET deployment = {value}")
        assert caught.value.code == "OC0510"
        session.sql("SET deployment = teller_42")
        session.sql("SET deployment = NULL")
        assert session.catalog.settings.deployment is None
