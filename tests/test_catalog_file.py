"""The file: one process at a time, typed refusals, crash safety, migrations."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from octans.catalog_db import store
from octans.catalog_db.catalog import Catalog
from octans.catalog_db.histories import encoded
from octans.errors import CatalogError
from octans.ir.models import Device, Model
from octans.ir.types import Field
from octans.stats.histories import History, Signature

HEADER = """
import sys, time
from datetime import UTC, datetime
from octans.catalog_db.catalog import Catalog
from octans.errors import CatalogError
from octans.ir.models import Model
from octans.stats.observation import Observation
def row(i):
    return Observation("m", "load", "mean", float(i), 1, datetime.now(UTC), knobs=str(i))
"""


def python(code: str, *args: str, **options):
    text = HEADER + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", text, *args], stdout=subprocess.PIPE, text=True, **options
    )


def test_a_second_process_is_told_who_holds_the_file(tmp_path):
    path = str(tmp_path / "c.duckdb")
    with Catalog.open(path):
        other = python(
            """
            try:
                Catalog.open(sys.argv[1])
            except CatalogError as error:
                print(error.code, error.message)
            """,
            path,
        )
        said, _ = other.communicate(timeout=60)
    assert said.startswith("OC0501")
    assert f"process {os.getpid()}" in said
    Catalog.open(path).close()


def test_two_sessions_of_one_process_share_the_file(tmp_path):
    path = str(tmp_path / "c.duckdb")
    with Catalog.open(path) as first:
        with Catalog.open(Path(path)) as second:
            first.save(Model("m", (), ()), replace=False)
            assert second.model("m") is not None
            second.settings.set("seed", 7)
            assert first.settings.seed == 0
        assert first.save(Device("d", "cpu"), replace=False).version == 1
    python("Catalog.open(sys.argv[1])", path).wait(60)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda folder: folder / "missing" / "c.duckdb", "OC0502"),
        (lambda folder: _written(folder / "c.duckdb", "not a database" * 500), "OC0503"),
        (lambda folder: _written(folder / "c.duckdb", ""), "OC0503"),
        (lambda folder: folder, "OC0504"),
    ],
)
def test_what_cannot_be_opened_is_a_typed_error(tmp_path, make, code):
    path = str(make(tmp_path))
    with pytest.raises(CatalogError) as caught:
        Catalog.open(path)
    assert caught.value.code == code
    assert path in caught.value.message


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_writable_is_a_typed_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CatalogError) as caught:
            Catalog.open(str(tmp_path / "c.duckdb"))
        assert caught.value.code == "OC0504"
    finally:
        tmp_path.chmod(0o700)


def test_a_newer_schema_is_refused_untouched(tmp_path):
    path = str(tmp_path / "c.duckdb")
    Catalog.open(path).close()
    with duckdb.connect(path) as raw:
        raw.execute("INSERT INTO octans_internal.migrations VALUES (999, 'future', now())")
    with pytest.raises(CatalogError) as caught:
        Catalog.open(path)
    assert caught.value.code == "OC0505"
    assert "999" in caught.value.message
    with duckdb.connect(path) as raw:  # and it is not left open
        assert raw.execute("SELECT max(number) FROM octans_internal.migrations").fetchone() == (
            999,
        )


def test_migrations_are_numbered_upwards_and_known():
    numbers = [number for number, _, _ in store.migrations()]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == store._LATEST


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    path = str(tmp_path / "c.duckdb")
    broken = (*store.migrations(), (2, "broken", "CREATE TABLE octans.x (a INTEGER); SELECT nope"))
    monkeypatch.setattr(store, "migrations", lambda: broken)
    with pytest.raises(CatalogError) as caught:
        Catalog.open(path)
    assert caught.value.code == "OC0504"
    monkeypatch.undo()
    with Catalog.open(path) as catalog:
        assert catalog.models() == ()


def test_a_users_own_tables_live_in_the_same_file(tmp_path):
    path = str(tmp_path / "c.duckdb")
    with duckdb.connect(path) as raw:
        raw.execute("CREATE TABLE mine AS SELECT 42 AS answer")
    with Catalog.open(path) as catalog:
        assert catalog.cursor().execute("SELECT answer FROM mine").fetchall() == [(42,)]
        assert catalog.describe("SELECT answer, 'x' AS y FROM mine") == (
            Field("answer", "INTEGER"), Field("y", "VARCHAR"),
        )  # fmt: skip
        assert catalog.describe("FROM mine -- all") == (Field("answer", "INTEGER"),)


def test_killing_the_process_loses_no_flush_that_returned(tmp_path):
    path = str(tmp_path / "c.duckdb")
    child = python(
        """
        catalog = Catalog.open(sys.argv[1])
        catalog.save(Model("m", (), ()), replace=False)
        for i in range(100_000):
            catalog.record([row(i)])
            catalog.flush()
            print(i, flush=True)
        """,
        path,
    )
    last = -1
    for line in child.stdout:
        last = int(line)
        if last >= 20:
            os.kill(child.pid, signal.SIGKILL)
            break
    last = max([last, *(int(line) for line in child.stdout if line.endswith("\n"))])
    child.wait(60)
    with Catalog.open(path) as catalog:
        found = {int(item.value) for item in catalog.observations()}
    assert set(range(last + 1)) <= found


def test_what_was_recorded_is_written_when_the_program_ends_without_closing(tmp_path):
    path = str(tmp_path / "c.duckdb")
    code = """
    catalog = Catalog.open(sys.argv[1])
    catalog.save(Model("m", (), ()), replace=False)
    catalog.record([row(1), row(2)])
    """
    assert python(code, path).wait(60) == 0
    with Catalog.open(path) as catalog:
        assert len(catalog.observations()) == 2


def test_a_run_whose_process_died_is_marked(tmp_path):
    path = str(tmp_path / "c.duckdb")
    code = """
    import os
    catalog = Catalog.open(sys.argv[1])
    catalog.begin_run("select", "SELECT 1")
    os._exit(1)
    """
    python(code, path).wait(60)
    with Catalog.open(path) as catalog:
        assert catalog.show("runs").select("status").fetchall() == [("interrupted",)]


def test_reading_the_catalog_loads_no_heavy_module(tmp_path):
    path = str(tmp_path / "c.duckdb")
    with Catalog.open(path) as catalog:
        catalog.save(Model("m", (), ()), replace=False)
    child = python(
        """
        with Catalog.open(sys.argv[1]) as catalog:
            catalog.models(), catalog.observations(), catalog.proofs("x")
            catalog.describe("SELECT 1")
        heavy = {"numpy", "pyarrow", "pandas", "torch", "sqlglot", "scipy"} & set(sys.modules)
        print(sorted(heavy))
        """,
        path,
    )
    assert child.communicate(timeout=60)[0].strip() == "[]"


def test_registered_tables_are_seen_by_every_new_cursor_and_local_names_by_none():
    table = pa.table({"a": [1, 2]})
    with Catalog.open() as catalog:
        catalog.register("frame", table)
        assert catalog.cursor().execute("SELECT sum(a) FROM frame").fetchall() == [(3,)]
        assert catalog.describe("FROM frame") == (Field("a", "BIGINT"),)
        catalog.unregister("frame")
        with pytest.raises(duckdb.CatalogException):
            catalog.cursor().execute("FROM frame")
        with pytest.raises(duckdb.CatalogException):
            catalog.cursor().execute("FROM table_of_nobody")


def test_a_catalog_of_the_first_schema_keeps_its_observations(tmp_path):
    """Their ids are what tells which definition they are about, so these stay too."""
    path = str(tmp_path / "c.duckdb")
    number, name, sql = store.migrations()[0]
    with duckdb.connect(path) as raw:
        raw.execute(sql)
        raw.execute("INSERT INTO octans_internal.migrations VALUES (?, ?, now())", [number, name])
        raw.execute(
            "INSERT INTO octans.observations (subject, metric, value, n) "
            "VALUES ('m', 'quality', 0.5, 3)"
        )
        before = raw.execute("FROM octans.observations").fetchall()
    with Catalog.open(path) as catalog:
        after = catalog.connection.execute(
            "SELECT * EXCLUDE (deployment), deployment FROM octans.observations"
        ).fetchall()
    assert after == [(*row, None) for row in before]


VIEWS = {8: "7c9fded167ba"}
"""The digest of `views.sql` at each version of the schema that changed it, the newest last."""


def test_views_that_change_come_with_a_migration():
    """A catalog of the newest version does not read `views.sql` again: it would keep the old ones.

    Who changes a view adds a migration (one that says in a comment which) and a line above.
    """
    digest = hashlib.sha256(store._views().encode()).hexdigest()[:12]
    version, known = list(VIEWS.items())[-1]
    assert (version, known) == (store._LATEST, digest)


def test_histories_of_an_older_catalog_learn_their_run(tmp_path):
    """So that what their variants were made of is known: that of the ANALYZE amid which they were
    kept."""
    path = str(tmp_path / "c.duckdb")
    signature = Signature(("m",), (), frozenset({"m.v"}), frozenset({"cpu"}))
    body = encoded(History(signature, "MINIMIZE cost", ((),), ()))
    with duckdb.connect(path) as raw:
        for number, name, sql in store.migrations()[:7]:
            raw.execute(sql)
            raw.execute(
                "INSERT INTO octans_internal.migrations VALUES (?, ?, now())", [number, name]
            )
        raw.execute(
            "INSERT INTO octans_internal.runs (id, kind, text, status, started_at, finished_at) "
            "VALUES (3, 'analyze', '', 'done', TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-03'), "
            "(4, 'query', '', 'done', TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-03')"
        )
        raw.execute(
            "INSERT INTO octans_internal.histories VALUES "
            "(1, TIMESTAMP '2026-01-02', ['m'], ['m.v'], ['cpu'], 5, $1), "
            "(2, TIMESTAMP '2026-01-04', ['m'], ['m.v'], ['cpu'], 0, $1)",
            [body],
        )
    with Catalog.open(path) as catalog:
        assert [one.run for one in catalog.histories.load([1, 2])] == [3, None]
        assert catalog.show("histories").select("state, reason").fetchall() == [
            (None, "kept by an earlier version: nothing tells"),
            ("unused", "it saw fewer than two plans"),
        ]


def views_and_macros(connection):
    """What stands in `views.sql`, as the database has it."""
    return connection.execute(
        "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal UNION ALL "
        "SELECT schema_name, function_name, macro_definition FROM duckdb_functions() "
        "WHERE NOT internal ORDER BY ALL"
    ).fetchall()


@pytest.mark.parametrize("known", range(1, store._LATEST))
def test_a_catalog_of_an_earlier_schema_gets_the_views_of_a_new_one(known):
    with store._connect(None) as old, store._connect(None) as new:
        for number, name, sql in store.migrations()[:known]:
            old.execute(sql)
            row = [number, name]
            old.execute("INSERT INTO octans_internal.migrations VALUES (?, ?, now())", row)
        for connection in (old, new):
            store.migrate(connection, ":memory:")
        assert views_and_macros(old) == views_and_macros(new)
        assert len(views_and_macros(new)) == 26
