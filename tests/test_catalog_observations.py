"""Observations: nothing recorded is lost, and only what is about the present is read."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from octans.catalog_db import observations
from octans.catalog_db.catalog import Catalog
from octans.errors import CatalogError, InternalError
from octans.ir.models import Backend, Device, Model, Pipeline, Variant
from octans.ir.types import Field
from octans.stats.observation import Observation
from octans.stats.staleness import too_old

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MODEL = Model("m", (Field("x", "INTEGER"),), (Field("y", "INTEGER"),))
PIPE = Pipeline("p", MODEL.inputs, MODEL.outputs, "CREATE PIPELINE p AS BEGIN RETURN m(x); END")
COLUMNS = (
    "subject, variant, knobs, device, batch, metric, statistic, value, ci_low, ci_high, n, n_failed"
)


def variant(name: str) -> Variant:
    return Variant("m", name, Backend("python", "mod:make"))


def declare(catalog: Catalog) -> None:
    catalog.save(MODEL, replace=False)
    catalog.save(variant("a"), replace=False)
    catalog.save(variant("b"), replace=False)
    catalog.save(PIPE, replace=False)
    catalog.save(Device("cpu", "cpu", 2, 1), replace=False)


@pytest.fixture
def catalog():
    with Catalog.open() as opened:
        declare(opened)
        yield opened


def seconds(value: float, **changes) -> Observation:
    fields = {
        "subject": "m", "metric": "latency", "statistic": "mean", "value": value, "n": 10,
        "at": AT, "variant": "m.a", "variant_version": 1,
    }  # fmt: skip
    return Observation(**(fields | changes))


def values(catalog: Catalog) -> list[float]:
    return sorted(item.value for item in catalog.observations())


TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(fold=0)
)
OBSERVATIONS = st.builds(
    Observation,
    subject=st.sampled_from(["m", "p", "p.step", "filter:abc"]),
    metric=st.text(min_size=1, max_size=8),
    statistic=st.sampled_from(["mean", "p50", "pmf(3)"]),
    value=st.floats(0, 1),
    n=st.integers(0, 2**40),
    at=TIMES,
    low=st.none() | st.floats(max_value=0, allow_nan=False),
    high=st.none() | st.floats(min_value=1, allow_nan=False),
    n_failed=st.integers(0, 9),
    variant=st.sampled_from(["m.a", "m.b"]),
    knobs=st.text(max_size=9),
    device=st.none() | st.just("cpu"),
    batch=st.none() | st.integers(1, 2**20),
    given=st.none() | st.text(max_size=5),
    assignment=st.sampled_from(["", "p.step=m.a()", "p.s=m.b(k := 'x;y=z(');p.t=m.a(trees := 3)"]),
    source=st.sampled_from(["measured", "modelled", "prior"]),
    variant_version=st.just(1),
    run=st.none() | st.integers(1, 99),
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(OBSERVATIONS, max_size=12))
def test_every_field_survives_the_file(tmp_path_factory, recorded):
    path = str(tmp_path_factory.mktemp("catalog") / "c.duckdb")
    with Catalog.open(path) as catalog:
        declare(catalog)
        catalog.record(recorded)
    newest: dict[tuple, Observation] = {}
    for item in recorded:
        key = (
            item.subject, item.metric, item.statistic, item.variant, item.knobs, item.device,
            item.batch, item.given, item.assignment,
        )  # fmt: skip
        if key not in newest or item.at >= newest[key].at:
            newest[key] = item
    with Catalog.open(path) as catalog:
        read = catalog.observations()
        judged = catalog.connection.execute(
            "SELECT count(*) FROM octans.statistics WHERE state <> 'missing' "
            "AND reason IS DISTINCT FROM 'of an earlier definition, not used'"
        ).fetchone()
    assert sorted(map(repr, read)) == sorted(map(repr, newest.values()))
    assert judged == (len(newest),), "the view and the reader disagree on what holds"


def test_the_newest_of_a_key_counts_not_the_last_written(catalog):
    catalog.record([seconds(0.5, at=AT + timedelta(days=1)), seconds(0.4)])
    assert values(catalog) == [0.5]
    catalog.record([seconds(0.6, at=AT + timedelta(days=1))])
    assert values(catalog) == [0.6]


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_later_ones_replace_are_none_that_count(catalog, seed, monkeypatch):
    """Most are never read, so that a plan does not slow down with every ANALYZE."""
    rng = random.Random(seed)
    changes = [
        lambda: catalog.save(rng.choice([variant("a"), variant("b"), MODEL, PIPE]), replace=True),
        lambda: catalog.save(Device("cpu", "cpu", rng.randint(1, 9), 1), replace=True),
    ]
    for place in range(300):
        if place < 250 and rng.random() < 0.03:
            rng.choice(changes)()
        name = rng.choice("ab")
        at = place if rng.random() < 0.7 else rng.randrange(400)
        whole = rng.random() < 0.3
        catalog.record([seconds(
            place, at=AT + timedelta(seconds=at), subject=rng.choice(["m", "M", "p", "filter:f"]),
            variant=None if whole else f"m.{name}", assignment=f"m=m.{name}()" if whole else "",
            variant_version=None if whole else rng.choice([None, 1, 2]),
            device=rng.choice([None, "cpu"]),
        )])  # fmt: skip
    read = catalog.observations()
    fetched = []
    monkeypatch.setattr(observations, "_NEWEST", "{}{}")
    monkeypatch.setattr(observations._Judge, "admit", counting(fetched, observations._Judge.admit))
    assert set(catalog.observations()) == set(read)
    assert len(fetched) == 300
    assert 1 < len(read) < 100


def counting(into, function):
    """The function, which notes what it was called with."""

    def called(self, row):
        into.append(row)
        return function(self, row)

    return called


def test_recorded_is_read_without_asking_for_a_flush(catalog):
    catalog.record([seconds(0.5)])
    assert values(catalog) == [0.5]
    count = catalog.connection.execute("SELECT count(*) FROM octans.observations").fetchone()
    assert count == (1,)


def test_times_without_a_zone_are_utc_and_others_are_converted(catalog):
    from datetime import timezone

    east = timezone(timedelta(hours=5))
    catalog.record(
        [
            seconds(1, knobs="a", at=AT.replace(tzinfo=None)),
            seconds(1, knobs="b", at=AT.astimezone(east)),
        ]
    )
    assert {item.at for item in catalog.observations()} == {AT}


def test_a_redefined_variant_leaves_its_statistics_behind_but_keeps_them(catalog):
    catalog.record([seconds(0.5), seconds(0.7, variant="m.b")])
    catalog.save(variant("a"), replace=True)
    assert values(catalog) == [0.7]
    kept = catalog.connection.execute("SELECT count(*) FROM octans.observations").fetchone()
    assert kept == (2,)
    states = catalog.connection.execute(
        "SELECT variant, state FROM octans.statistics ORDER BY ALL"
    ).fetchall()
    assert states == [("m.a", "missing"), ("m.a", "stale"), ("m.b", "stale")]
    reasons = catalog.connection.execute(
        "SELECT variant, reason LIKE '%earlier definition%', reason LIKE 'measured % days ago' "
        "FROM octans.statistics WHERE reason IS NOT NULL ORDER BY ALL"
    ).fetchall()
    assert reasons == [("m.a", True, False), ("m.b", False, True)]
    catalog.record([seconds(0.8, variant_version=2)])
    assert values(catalog) == [0.7, 0.8]


@pytest.mark.parametrize(
    ("age_s", "told"),
    [(5, "5 s"), (300, "5 min"), (7300, "2 h"), (40 * 3600, "40 h"), (40 * 86400, "40 days")],
)
def test_an_old_statistic_says_its_age_in_a_unit_that_fits(catalog, age_s, told):
    """A limit of seconds must not be told in days; plans and SHOW STATISTICS say the same."""
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    catalog.record([seconds(0.5, at=at)])
    catalog.remember("max_statistics_age", "SET VARIABLE octans_max_age = 1.0")
    (reason,) = catalog.show("statistics", "m.a").to_arrow_table()["reason"].to_pylist()
    number, unit = told.split()
    assert reason.endswith(f"{unit} ago")
    assert abs(int(reason.split()[1]) - int(number)) <= (60 if unit == "s" else 1)
    assert too_old(at, at + timedelta(seconds=age_s), 1.0) == f"measured {told} ago"


def test_an_end_to_end_result_falls_with_any_variant_it_ran(catalog):
    text = "p.step=m.a(trees := 10);p.other=m.b()"
    result = seconds(0.9, subject="p", metric="accuracy", variant=None, variant_version=None)
    catalog.record([_assigned(result, text)])
    assert values(catalog) == [0.9]
    catalog.save(variant("b"), replace=True)
    assert values(catalog) == []


def _assigned(observation: Observation, text: str) -> Observation:
    import dataclasses

    return dataclasses.replace(observation, assignment=text)


def test_other_hardware_makes_timings_stale_another_price_does_not(catalog):
    catalog.record([seconds(0.1, metric="latency", device="cpu", batch=4)])
    catalog.save(Device("cpu", "cpu", 8, 1, usd_per_hour=9.0), replace=True)
    assert values(catalog) == [0.1]
    assert [one.stale for one in catalog.observations()] == [None]
    catalog.save(Device("cpu", "cpu", 8, 2), replace=True)
    assert values(catalog) == [0.1], "stale beats made-up"
    assert [one.stale for one in catalog.observations()] == ["device cpu changed"]


def test_subjects_choose_and_models_bring_their_variants(catalog):
    catalog.record(
        [
            seconds(1, subject="m"),
            seconds(2, subject="p.one"),
            seconds(3, subject="p.two", variant="m.b"),
            seconds(4, subject="p", variant=None, variant_version=None),
        ]
    )
    assert [item.value for item in catalog.observations(["p"])] == [4]
    assert sorted(i.value for i in catalog.observations(["p.one", "p"])) == [2, 4]
    assert sorted(i.value for i in catalog.observations([], models=["m"])) == [1, 2, 3]
    assert catalog.observations([]) == []


def test_the_documented_insert_is_about_what_is_declared_then(catalog):
    insert = (
        f"INSERT INTO octans.observations ({COLUMNS}) "
        "SELECT 'm', 'm.a', NULL, 'cpu', 4, 'latency', 'mean', ?, NULL, NULL, 30, 0"
    )
    catalog.connection.execute(insert, [0.25])
    (found,) = catalog.observations()
    assert (found.value, found.knobs, found.subject_version, found.variant_version) == (
        0.25, "", 1, 1,
    )  # fmt: skip
    assert found.source == "measured"
    catalog.save(variant("a"), replace=True)
    assert values(catalog) == []
    catalog.connection.execute(insert, [0.5])
    (found,) = catalog.observations()
    assert (found.value, found.variant_version) == (0.5, 2)


def test_measurements_imported_before_the_declaration_count():
    with Catalog.open() as catalog:
        catalog.connection.execute(
            f"INSERT INTO octans.observations ({COLUMNS}) SELECT 'M', 'M.A', '', NULL, NULL, "
            "'quality', 'mean', 0.5, NULL, NULL, 30, 0"
        )
        assert catalog.observations() == []
        catalog.save(MODEL, replace=False)
        catalog.save(variant("a"), replace=False)
        (found,) = catalog.observations()
        assert (found.subject, found.variant) == ("m", "m.a")


def test_what_is_about_nothing_declared_is_not_read(catalog):
    catalog.record(
        [seconds(1, subject="gone"), seconds(2, variant="m.gone"), seconds(3, device="gone")]
    )
    assert values(catalog) == []
    catalog.drop("variant", "m.b")
    catalog.record([seconds(4, variant="m.b")])
    assert values(catalog) == []


@pytest.mark.parametrize("changes", [{"value": float("nan")}, {"n": -1}, {"batch": 0}])
def test_a_number_that_is_none_is_refused_before_it_blocks_the_queue(catalog, changes):
    with pytest.raises(InternalError):
        catalog.record([seconds(**({"value": 1.0} | changes))])
    catalog.record([seconds(0.5)])
    assert values(catalog) == [0.5]


def test_a_failed_flush_is_told_and_loses_nothing(catalog):
    catalog.connection.execute("ALTER TABLE octans.observations RENAME TO hidden")
    catalog.record([seconds(0.5)])
    with pytest.raises(CatalogError) as caught:
        catalog.flush()
    assert caught.value.code == "OC0512"
    catalog.connection.execute("ALTER TABLE octans.hidden RENAME TO observations")
    assert values(catalog) == [0.5]


def test_the_thread_writes_without_being_asked(catalog):
    catalog.record([seconds(0.5)])
    cursor = catalog.cursor()
    for _ in range(100):
        if cursor.execute("SELECT count(*) FROM octans.observations").fetchone() == (1,):
            return
        threading.Event().wait(0.1)
    pytest.fail("nothing was written within 10 s")


def test_many_threads_record_read_and_define_at_once(catalog):
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(30):
                catalog.record([seconds(i, knobs=f"k := {number * 100 + i}")])
                if i % 10 == 0:
                    catalog.observations(["m"])
                    catalog.save(Device(f"d{number}", "cpu", i + 1), replace=True)
                    catalog.cursor().execute("SELECT count(*) FROM octans.devices").fetchall()
        except BaseException as failure:  # noqa: BLE001 (handed to the asserting thread)
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(catalog.observations()) == 180
    assert len(catalog.devices()) == 7


def test_recording_into_a_closed_catalog_is_an_error():
    catalog = Catalog.open()
    catalog.close()
    with pytest.raises(CatalogError) as caught:
        catalog.record([seconds(1)])
    assert caught.value.code == "OC0511"
    with pytest.raises(CatalogError):
        catalog.cursor()
    catalog.close()


@pytest.mark.parametrize(
    "wrong",
    [
        "'latency', -3.0, NULL, NULL",
        "'quality', 1.7, NULL, NULL",
        "'failure', 1.5, NULL, NULL",
        "'latency', 'nan'::DOUBLE, NULL, NULL",
        "'latency', 1.0, 2.0, 3.0",
        "'latency', 1.0, 0.1, 0.5",
    ],
)
def test_what_cannot_be_measured_is_refused(catalog, wrong):
    """A wrong number inserted by hand would steer plans."""
    with pytest.raises(duckdb.ConstraintException, match="CHECK constraint"):
        catalog.connection.execute(
            "INSERT INTO octans.observations (subject, variant, metric, value, ci_low, ci_high) "
            f"SELECT 'm', 'm.a', {wrong}"
        )
    metric, value, low, high = (
        part.strip(" '") for part in wrong.replace("::DOUBLE", "").split(",")
    )
    bounds = [None if part == "NULL" else float(part) for part in (low, high)]
    with pytest.raises(InternalError):
        catalog.record([seconds(float(value), metric=metric, low=bounds[0], high=bounds[1])])
