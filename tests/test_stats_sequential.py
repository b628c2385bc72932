"""Decisions err no more than they say, however often one looks, stratified or not."""

from __future__ import annotations

import math
import random

import numpy as np
import pyarrow as pa
import pytest
from octans.stats.intervals import clustered_share
from octans.stats.sequential import (
    blocks,
    look_level,
    not_worse,
    shift_chance,
    spread,
    surely_above,
    surely_below,
)
from octans.stats.series import Piece, Series, calibrated, paired
from octans.stats.strata import features, strata

LOOKS = (16, 24, 36, 54, 81, 122, 183, 274, 400)
ALPHA = 0.05


def errors(decide, runs=400):
    """How many of the runs ever decide, looking after every block."""
    return sum(
        any(decide(run, LOOKS[: look + 1]) for look in range(len(LOOKS))) for run in range(runs)
    )


def allowed(runs=400):
    """The 99.9 % quantile of wrong decisions at the stated error."""
    return math.ceil(runs * ALPHA + 3.1 * math.sqrt(runs * ALPHA * (1 - ALPHA)))


@pytest.mark.parametrize("truth", [0.5, 0.8, 0.95])
def test_looking_often_errs_no_more_than_stated(truth):
    draws = np.random.default_rng(1).random((400, LOOKS[-1])) < truth
    units = draws.astype(float)

    def above(run, looks):
        return surely_above(units[run, : looks[-1]], looks, truth, ALPHA)

    def below(run, looks):
        return surely_below(units[run, : looks[-1]], looks, truth, ALPHA)

    assert errors(above) <= allowed()
    assert errors(below) <= allowed()


def test_the_t_test_errs_more_often_the_more_one_looks():
    """Why it is not the default: the stated error holds for one look."""
    units = np.random.default_rng(2).normal(0.5, 0.1, (400, LOOKS[-1])).clip(0, 1)
    once = sum(surely_above(row, LOOKS, 0.5, ALPHA, "t") for row in units)
    often = errors(lambda run, looks: surely_above(units[run, : looks[-1]], looks, 0.5, ALPHA, "t"))
    assert once <= allowed()
    assert often > 2 * once


def test_strata_that_differ_do_not_break_it():
    """Three strata of quite different means, shares not multiples of the block sizes."""
    means, sizes = (0.99, 0.75, 0.2), (205, 123, 72)
    labels = [s for s, size in enumerate(sizes) for _ in range(size)]
    truth = sum(m * size for m, size in zip(means, sizes, strict=True)) / sum(sizes)
    draw = np.random.default_rng(3)

    def ever(run):
        order = spread(labels, len(labels), run)
        units = np.array([float(draw.random() < means[labels[u]]) for u in order])
        return any(
            surely_above(units[: looks[-1]], looks, truth, ALPHA)
            or surely_below(units[: looks[-1]], looks, truth, ALPHA)
            for looks in (LOOKS[: k + 1] for k in range(len(LOOKS)))
        )

    assert sum(ever(run) for run in range(200)) <= 2 * allowed(200)


def test_a_better_choice_is_rarely_called_no_better():
    """Paired differences at the edge of the zone: an elimination would be wrong."""
    zone, draw = 0.02, np.random.default_rng(4)
    values = draw.choice([-1.0, 0.0, 1.0], p=[0.05, 0.92, 0.03], size=(400, LOOKS[-1]))

    def wrongly(run, looks):
        return not_worse(values[run, : looks[-1]], looks, zone, ALPHA)

    assert errors(wrongly) <= allowed()


def test_it_has_power():
    draw = np.random.default_rng(5)
    units = (draw.random((100, LOOKS[-1])) < 0.9).astype(float)
    found = errors(
        lambda run, looks: surely_above(units[run, : looks[-1]], looks, 0.8, ALPHA), runs=100
    )
    assert found >= 95
    same = np.zeros(LOOKS[-1])
    assert not_worse(same, LOOKS, 0.02, ALPHA), "equal choices are told apart from worse ones"


def test_intervals_of_what_was_stopped_still_cover():
    """Stopped at the first look at which the share looks high: the worst time for an interval."""
    draw, missed = np.random.default_rng(6), 0
    for _ in range(400):
        units = (draw.random(LOOKS[-1]) < 0.8).astype(float).tolist()
        for place, look in enumerate(LOOKS, 1):
            seen = clustered_share(units[:look], None, look_level(place, len(LOOKS)))
            if seen.low > 0.78 or place == len(LOOKS):
                missed += not seen.low <= 0.8 <= seen.high
                break
    assert missed <= allowed()


def test_levels_spend_the_error_once():
    for looks in (1, 2, 9):
        spent = sum(1.0 - look_level(look, looks) for look in range(1, looks + 1))
        assert spent <= 0.05 + 1e-12


def test_every_prefix_holds_every_stratum_in_its_share():
    draw = random.Random(7)
    labels = [draw.choice((0, 0, 0, 1, 1, 2)) for _ in range(500)]
    order = spread(labels, 500, 1)
    assert sorted(order) == list(range(500))
    for stop in (16, 40, 100, 333):
        for stratum in (0, 1, 2):
            share = labels.count(stratum) / 500
            seen = sum(labels[unit] == stratum for unit in order[:stop])
            assert abs(seen - share * stop) <= 2


def test_prefix_means_are_unbiased_and_vary_less_than_uniform_ones():
    labels = [row % 4 for row in range(200)]
    values = [labels[row] / 4 + (row % 7) / 70 for row in range(200)]
    truth = sum(values) / len(values)

    def spreads(strata_of):
        means = [
            sum(values[u] for u in spread(strata_of, 200, seed)[:30]) / 30 for seed in range(300)
        ]
        bias = sum(means) / len(means) - truth
        return bias, np.std(means)

    (bias, stratified), (_, uniform) = spreads(labels), spreads(None)
    assert abs(bias) < 4 * stratified / math.sqrt(300)
    assert stratified < uniform / 2


def test_blocks_hold_every_row_once_and_no_cluster_twice():
    clusters = [row // 3 for row in range(300)]
    found = blocks([c % 2 for c in clusters], 300, clusters, 16, 1.5, 0)
    assert sorted(row for block in found for row in block) == list(range(300))
    owners = [{clusters[row] for row in block} for block in found]
    assert sum(map(len, owners)) == 100
    assert len(owners[0]) == 16
    assert found == blocks([c % 2 for c in clusters], 300, clusters, 16, 1.5, 0)


def test_strata_follow_the_features():
    rows = 400
    table = pa.table(
        {
            "number": pa.array([float(row % 2) * 100 for row in range(rows)]),
            "vector": pa.array([[float(row % 2), 1.0] for row in range(rows)]),
            "blob": pa.array([b"x" * (1 + 50 * (row % 2)) for row in range(rows)]),
            "when": pa.array([row % 2 for row in range(rows)], pa.timestamp("us")),
            "empty": pa.nulls(rows, pa.int64()),
        }
    )
    found = strata(table)
    assert found is not None
    assert len({(stratum, row % 2) for row, stratum in enumerate(found)}) == len(set(found))
    assert strata(table) == found
    assert strata(pa.table({"same": [1] * rows})) is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("to_months(12 * k)", True),
        ("CASE k WHEN 1 THEN to_days(3) END", False),
        ("[to_days(k)]", True),
        ("[to_days(k), NULL][:k + 1]", True),
        ("CASE k WHEN 1 THEN 1.7e308 ELSE -1.7e308 END::DOUBLE", True),
        ("CASE WHEN i = 3 THEN 'inf'::DOUBLE ELSE k END", True),
        ("[1.7e308, 1.7e308 * k]::DOUBLE[]", True),
        ("list_transform(range(1 + 3 * k), lambda _: 1.7e308::DOUBLE)", True),
        ("k::DECIMAL(38, 4)", True),
        ("-170141183460469231731687303715884105728 + k * 1e38::HUGEINT", True),
        ("DATE '2020-01-01' + k::INTEGER", True),
        ("TIME '01:00:00' + to_seconds(k)", True),
        ("TIMESTAMPTZ '2020-01-01 00:00:00+00' + to_days(k::INTEGER)", True),
        ("k = 1", True),
        ("(CASE k WHEN 1 THEN 'red' ELSE 'blue' END)::ENUM('red', 'blue')", True),
        ("[k, 2]::BIGINT[2]", True),
        ("{'a': k}", False),
        ("MAP {'a': k}", False),
        ("[[k]]", False),
        ("[{'a': to_days(k)}]", False),
        ("union_value(n := k)", False),
        ("k::BIGNUM", False),
        ("NULL", False),
    ],
)
def test_every_type_gives_finite_features(values, told):
    """Two kinds of rows, told apart by every type that features are made of."""
    import duckdb

    if "ENUM" in values:
        pytest.importorskip("sklearn")
    query = f"SELECT {values} FROM (SELECT i, (i % 2)::INTEGER AS k FROM range(60) t(i))"
    table = duckdb.sql(query).to_arrow_table()
    made = features(table)
    assert len(made) == 60
    assert np.isfinite(made).all()
    found = strata(table)
    assert (found is not None) == told
    if found is not None:
        assert len({(stratum, row % 2) for row, stratum in enumerate(found)}) == len(set(found))


def test_texts_are_told_apart_by_their_trigrams():
    pytest.importorskip("sklearn")
    table = pa.table({"t": ["buy now cheap pills" if row % 2 else "dear sir or ma'am, hello" for row in range(200)]})  # fmt: skip  # noqa: E501
    assert features(table).shape[0] == 200
    found = strata(table)
    assert found is not None
    assert len({(stratum, row % 2) for row, stratum in enumerate(found)}) == len(set(found))


def test_a_cluster_lies_in_one_stratum():
    clusters = [row // 4 for row in range(400)]
    found = strata(pa.table({"x": [float(row % 97) for row in range(400)]}), clusters)
    assert found is not None
    assert len({(c, s) for c, s in zip(clusters, found, strict=True)}) == 100


def test_pairs_are_of_the_same_rows():
    one = Series([Piece([1.0, 0.0], [1, 2], True), Piece([1.0], [3], True)])
    other = Series([Piece([0.0, 0.0, 1.0], [2, 1, 9], True)])
    values, looks = paired(one, other)
    assert values.tolist() == [1.0, 0.0]
    assert looks == [2]


def series(*blocks, failing=()):
    """A series of 0/1 scores in blocks; units are numbered, `failing` are some of them."""
    pieces, start = [], 0
    for block in blocks:
        units = range(start, start + len(block))
        pieces.append(Piece(block, list(units), True, 0, frozenset(failing) & set(units)))
        start += len(block)
    return Series(pieces)


def estimate(own, anchor):
    return calibrated(clustered_share(own.scores, None), own, anchor, ALPHA)


def test_a_short_run_of_luck_does_not_overtake():
    own = series([1.0] * 15 + [0.0])
    moved = estimate(own, series([1.0] * 16, [1.0, 1.0, 1.0, 0.0] * 8))
    assert moved.value == pytest.approx(15 / 16 - 8 / 48)
    assert moved.low <= moved.value <= moved.high


@pytest.mark.parametrize("later", [[0.0] * 40, [1.0] * 20 + [0.0] * 20])
def test_an_anchor_that_changed_moves_nothing(later):
    """Rows come in random order: it is not the rows that became harder."""
    own = series([1.0] * 12 + [0.0] * 4)
    assert estimate(own, series([1.0] * 16, later)) == clustered_share(own.scores, None)


def test_an_anchors_failures_move_nothing():
    own = series([1.0] * 12 + [0.0] * 4)
    anchor = series([1.0] * 16, [1.0] * 37 + [0.0] * 3, failing=(53, 54, 55))
    assert estimate(own, anchor).value == pytest.approx(0.75)
    wrong = series([1.0] * 16, [1.0] * 37 + [0.0] * 3)
    assert estimate(own, wrong).value == pytest.approx(0.75 - 3 / 56)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("before", [32, 256, 480])
def test_random_order_seldom_looks_like_a_change(share, before):
    """Scores of any kind: shares of right elements, too."""
    rng = np.random.default_rng(before)
    scores = np.where(rng.random(512) < share, 1.0, rng.random(512).round())
    runs = 400
    alarms = 0
    for _ in range(runs):
        rng.shuffle(scores)
        alarms += shift_chance(scores[:before], scores[before:]) <= ALPHA / 2
    assert alarms <= allowed(runs)


def test_what_cannot_be_chance_is_seen():
    right, wrong = np.ones(64), np.zeros(64)
    assert shift_chance(right, wrong) < 1e-6
    assert shift_chance(right, np.concatenate([right, wrong[:32]])) < 1e-3
    assert shift_chance(right, right) == shift_chance(right[:0], wrong) == 1.0
