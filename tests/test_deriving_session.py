"""Derived variants through a whole session: built, kept, found again, dropped; ladders derived."""

import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import octans
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from octans import deriving, proposing
from octans.catalog_db.artefacts import Artefacts
from octans.catalog_db.freshness import Mark
from octans.errors import OctansError
from octans.examples.cheques.models import _save_dense
from octans.executor.runner import LocalRunner
from octans.kept import as_model_rows, kept
from octans.measuring import measure
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

MODEL = """
CREATE MODEL d (glyph FLOAT[64]) RETURNS (digit INTEGER, confidence DOUBLE)
  QUALITY exact_match(digit) CONFIDENCE confidence;
CREATE VARIANT d.lin USING sklearn('lin.skops') KNOBS (unused IN (1));
CREATE VARIANT d.net USING onnx('net.onnx') BASE;
"""
ANALYZE = """
ANALYZE MODEL d USING (SELECT glyph::FLOAT[64] AS glyph, truth FROM 'digits.parquet')
LABELS (digit := truth) SAMPLE 300
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a linear model, a network and the digits."""
    folder = tmp_path_factory.mktemp("models")
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    skops.io.dump(LogisticRegression(max_iter=200).fit(x[:900], y[:900]), folder / "lin.skops")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLPClassifier((64,), max_iter=40, random_state=0).fit(x[:900], y[:900])
    _save_dense(folder / "net.onnx", list(zip(net.coefs_, net.intercepts_, strict=True)))
    pq.write_table(
        pa.table({"id": range(len(y)), "glyph": list(x), "truth": pa.array(y, pa.int32())}),
        folder / "digits.parquet",
    )
    return folder


@pytest.fixture
def place(models, tmp_path, monkeypatch):
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def session(place):
    with octans.connect("c.duckdb") as opened:
        opened.sql("SET progress = false;" + MODEL)
        yield opened


def artefacts(place):
    folder = place / "c.duckdb.artefacts"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def advised(session, advice):
    return session.sql(f"EXPLAIN (ADVICE '{advice}') {QUERY}").text


def refused(session, text):
    with pytest.raises(OctansError) as caught:
        session.sql(text)
    assert caught.value.span is not None
    return caught.value


QUERY = "SELECT d(glyph::FLOAT[64]) FROM 'digits.parquet'"


def file(session, name):
    return session.catalog.variant(name).derivation.build.file


def names(session):
    return [variant.full_name for variant in session.catalog.variants("d")]


# --- artefacts ------------------------------------------------------------------------------------


def test_the_same_artefact_is_kept_once_and_as_long_as_it_is_needed(session, place):
    session.sql("CREATE VARIANT d.a FROM d.net BY PRUNE(0.5)")
    session.sql("CREATE VARIANT d.b FROM d.net BY PRUNE(0.5)")
    assert len(artefacts(place)) == 1
    session.sql("DROP VARIANT d.a")
    assert len(artefacts(place)) == 1
    session.sql("CREATE OR REPLACE VARIANT d.b FROM d.net BY PRUNE(0.75)")
    assert len(artefacts(place)) == 1, "the one of 0.5 is gone"
    session.sql("DROP VARIANT d.b")
    assert not (place / "c.duckdb.artefacts").exists()


def test_a_catalog_moves_with_its_folder(session, place):
    session.sql(f"CREATE VARIANT d.i8 FROM d.net BY QUANTIZE('int8'); {ANALYZE}")
    session.close()
    (place / "elsewhere").mkdir()
    for name in ("c.duckdb", "c.duckdb.artefacts"):
        shutil.move(place / name, place / "elsewhere" / name)
    with octans.connect("elsewhere/c.duckdb") as moved:
        assert {row[-1] for row in moved.sql("SHOW VARIANTS OF d").fetchall()} == {"eligible"}
        states = "SELECT DISTINCT state, reason FROM octans.statistics"
        assert moved.sql(states).fetchall() == [("fresh", None)]
        moved.sql("SET progress = false;" + ANALYZE)
        prefixes = "SELECT variant, count(*) FROM octans.prefixes GROUP BY ALL ORDER BY ALL"
        assert moved.sql(prefixes).fetchall() == [("d.i8", 1), ("d.lin", 1), ("d.net", 1)]
        assert deriving.waiting(moved.catalog) == {}
        assert "d.i8" in str(moved.sql("SELECT DISTINCT variant FROM octans.statistics").fetchall())


def test_a_catalog_in_memory_leaves_nothing(place):
    with octans.connect() as session:
        session.sql("SET progress = false;" + MODEL)
        session.sql("CREATE VARIANT d.i8 FROM d.net BY QUANTIZE('int8')")
        path = Path(session.catalog.variant("d.i8").backend.target)
        assert path.is_file()
    assert not path.parent.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("where", ["_check", "save"])
def test_a_build_that_ends_early_leaves_nothing(session, place, monkeypatch, error, where):
    """Whether it dies before or after the artefact has its name."""

    def dies(*args, **kwargs):
        raise error

    monkeypatch.setattr(deriving, where, dies)
    with pytest.raises(error):
        session.sql("CREATE VARIANT d.i8 FROM d.net BY QUANTIZE('int8')")
    assert names(session) == ["d.lin", "d.net"]
    assert artefacts(place) == []


def test_what_a_killed_process_left_is_swept(session, place):
    folder = place / "c.duckdb.artefacts"
    (folder / "building-dead").mkdir(parents=True)
    (folder / ("0" * 32 + ".onnx")).write_bytes(b"named, but never referred to")
    session.sql("CREATE VARIANT d.i8 FROM d.net BY QUANTIZE('int8')")
    assert artefacts(place) == [session.catalog.variant("d.i8").derivation.build.file]


def test_a_process_killed_between_file_and_definition_leaves_no_variant(place):
    code = f"""
import os, octans
from octans import deriving
with octans.connect("c.duckdb") as session:
    session.sql('''SET progress = false;{MODEL}''')
    deriving.save = lambda *args, **kwargs: os.kill(os.getpid(), 9)
    session.sql("CREATE VARIANT d.i8 FROM d.net BY QUANTIZE('int8')")
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=place, check=False)
    assert killed.returncode == -9
    with octans.connect("c.duckdb") as session:
        assert names(session) == ["d.lin", "d.net"]
        assert any(name.endswith(".onnx") for name in artefacts(place))
        session.sql("CREATE VARIANT d.p50 FROM d.net BY PRUNE(0.5)")
        assert artefacts(place) == [session.catalog.variant("d.p50").derivation.build.file]


def test_an_artefact_is_there_while_its_workspace_is_open(tmp_path):
    store = Artefacts(str(tmp_path / "c"))
    with store.workspace() as work:
        (work.place / "x.onnx").write_bytes(b"x")
        name = work.adopt(work.place / "x.onnx", "0" * 32)
        store.sweep(())
        assert store.path(name).read_bytes() == b"x"
    store.sweep(())
    assert not store.path(name).exists()


# --- lineage --------------------------------------------------------------------------------------


def test_the_lineage_is_drawn_and_knows_what_was_built(session, place):
    for statement in (
        "CREATE VARIANT d.p50 FROM d.net BY PRUNE(0.5)",
        "CREATE VARIANT d.p50_i8 FROM d.p50 BY QUANTIZE('int8')",
        "CREATE VARIANT d.r20 FROM d.net BY REDUCE(20)",
        "CREATE VARIANT d.lin_half FROM d.lin BY QUANTIZE('fp16')",
    ):
        session.sql(statement)
    drawn = session.sql("SHOW VARIANTS OF d").fetchall()
    assert [row[:2] for row in drawn] == [
        ("d.lin", "lin"),
        ("d.lin_half", "└─ QUANTIZE('fp16')"),
        ("d.net", "net"),
        ("d.p50", "├─ PRUNE(0.5)"),
        ("d.p50_i8", "│  └─ QUANTIZE('int8')"),
        ("d.r20", "└─ REDUCE(20)"),
    ]
    ((size, libraries, source),) = session.sql(
        "SELECT bytes, libraries, prior_source FROM octans.artefacts WHERE variant = 'd.p50_i8'"
    ).fetchall()
    assert size == (place / "c.duckdb.artefacts" / drawn[4][2][6:-2]).stat().st_size
    assert "onnxruntime :=" in libraries
    assert "Boehm" in source
    assert session.catalog.variant("d.lin_half").knobs == session.catalog.variant("d.lin").knobs


def test_a_base_that_changes_makes_its_derived_variants_wait(session):
    session.sql("CREATE VARIANT d.p50 FROM d.net BY PRUNE(0.5)")
    session.sql("CREATE VARIANT d.p50_i8 FROM d.p50 BY QUANTIZE('int8')")
    said = session.sql("CREATE OR REPLACE VARIANT d.net USING onnx('net.onnx') BASE").message
    assert "d.p50: it was built from version 1 of d.net, which has version 2 now" in said
    states = {row[0]: row[-1] for row in session.sql("SHOW VARIANTS OF d").fetchall()}
    assert states["d.p50"].startswith("to build again")
    session.sql("CREATE OR REPLACE VARIANT d.p50 FROM d.net BY PRUNE(0.5)")
    assert set(deriving.waiting(session.catalog)) == {"d.p50_i8"}


def test_a_variant_cannot_be_derived_from_what_comes_of_it(session):
    session.sql("CREATE VARIANT d.p50 FROM d.net BY PRUNE(0.5)")
    error = refused(session, "CREATE OR REPLACE VARIANT d.net FROM d.p50 BY PRUNE(0.5)")
    assert error.code == "OC0223"
    assert refused(session, "DROP VARIANT d.net").code == "OC0508"


REFUSED = [
    ("FROM d.net BY QUANTIZE('int4')", "OC0239"),
    ("FROM d.lin BY REDUCE(8)", "OC0441"),
    ("FROM d.lin BY REDUCE(64)", "OC0440"),
    ("FROM d.net BY REDUCE(500)", "OC0440"),
    ("FROM d.gone BY PRUNE(0.5)", "OC0223"),
    ("FROM d.net BY PRUNE('half')", "OC0238"),
    ("FROM d.net BY SHRINK(2)", "OC0238"),
]


@pytest.mark.parametrize(("how", "code"), REFUSED)
def test_what_cannot_be_built_is_refused_at_create(session, place, how, code):
    assert refused(session, f"CREATE VARIANT d.x {how}").code == code
    assert names(session) == ["d.lin", "d.net"]
    assert artefacts(place) == []


def test_what_does_not_load_is_thrown_away(session, place, monkeypatch):
    def nonsense(kind, transform):
        return lambda source: source.target.write_bytes(b"nonsense")

    monkeypatch.setattr("octans.executor.derive.transform_for", nonsense)
    assert refused(session, "CREATE VARIANT d.x FROM d.net BY PRUNE(0.5)").code == "OC0443"
    assert artefacts(place) == []


# --- what no longer holds -------------------------------------------------------------------------


def state(session, name):
    """What SHOW VARIANTS says, which planning agrees with."""
    states = {row[0]: row[-1] for row in session.sql("SHOW VARIANTS OF d").fetchall()}
    assert (name in deriving.waiting(session.catalog)) == states[name].startswith("to build again")
    return states[name]


def test_statistics_of_an_artefact_built_before_make_no_variant_eligible(session):
    create = "CREATE OR REPLACE VARIANT d.half FROM d.net BY "
    session.sql(f"{create} PRUNE(0.5); {ANALYZE}")
    assert state(session, "d.half") == "eligible"
    session.sql(f"{create} PRUNE(0.75)")
    assert state(session, "d.half") == "not measured"
    assert "d.half has no statistics" in session.sql(f"EXPLAIN {QUERY}").text
    session.sql(ANALYZE)
    assert state(session, "d.half") == "eligible"


def test_a_base_file_that_was_overwritten_makes_its_derived_variants_wait(session, place):
    before = (place / "net.onnx").read_bytes()
    session.sql("CREATE VARIANT d.p50 FROM d.net BY PRUNE(0.5)")
    session.sql(f"CREATE VARIANT d.p50_i8 FROM d.p50 BY QUANTIZE('int8'); {ANALYZE}")
    shutil.copy(place / "c.duckdb.artefacts" / file(session, "d.p50"), place / "net.onnx")
    assert state(session, "d.p50") == "to build again: its base changed"
    assert state(session, "d.p50_i8") == "to build again: its base is to build again"
    shown = session.sql(f"EXPLAIN (ADVICE 'VARIANT(d d.p50)') {QUERY}").text
    assert "the files of d.net changed since it was built from them" in shown
    (place / "net.onnx").write_bytes(before)
    assert state(session, "d.p50") == state(session, "d.p50_i8") == "eligible"


def test_an_artefact_that_was_changed_or_lost_is_built_again(session, place):
    session.sql("CREATE VARIANT d.i8 FROM d.lin BY QUANTIZE('int8')")
    session.sql(f"CREATE VARIANT d.i8_p50 FROM d.i8 BY PRUNE(0.5); {ANALYZE}")
    artefact = place / "c.duckdb.artefacts" / file(session, "d.i8")
    shutil.copy(place / "lin.skops", artefact)
    assert state(session, "d.i8") == "to build again: its artefact was changed"
    artefact.unlink()
    assert state(session, "d.i8") == "to build again: its artefact is gone"
    (place / "lin.skops").rename(place / "away")
    assert state(session, "d.i8_p50") == "eligible", "of what was lost, but unchanged"
    assert state(session, "d.lin") == "eligible", "it was never built, so it is not built again"
    (place / "away").rename(place / "lin.skops")
    shown = session.sql(f"EXPLAIN (ADVICE 'VARIANT(d d.i8)') {QUERY}").text
    shown = " ".join(shown.split())
    assert "is gone: CREATE OR REPLACE VARIANT d.i8 FROM d.lin BY QUANTIZE('int8')" in shown
    session.sql("CREATE OR REPLACE VARIANT d.i8 FROM d.lin BY QUANTIZE('int8')")
    assert state(session, "d.i8") == "not measured"


def test_what_derive_measured_holds_until_the_artefact_changes(session, place):
    session.sql(f"{ANALYZE}; DERIVE VARIANTS FOR d")
    kept_ = [name for name in names(session) if name not in ("d.lin", "d.net")]
    stale = "SELECT reason FROM octans.statistics WHERE variant = '{}' AND reason IS NOT NULL"
    for name in kept_:
        assert session.sql(stale.format(name)).fetchall() == []
        (place / "c.duckdb.artefacts" / file(session, name)).unlink()
        ((reason,), *_) = session.sql(stale.format(name)).fetchall()
        assert reason == f"{name}: its files changed"


# --- measuring ------------------------------------------------------------------------------------


def test_an_unmeasured_derivation_is_not_planned_and_a_prior_says_so(session):
    session.sql(ANALYZE)
    session.sql("CREATE VARIANT d.i8 FROM d.net BY QUANTIZE('int8')")
    statistics = session.sql("SELECT count(*) FROM octans.statistics WHERE variant = 'd.i8'")
    assert statistics.fetchall() == [(1,)], "one line: missing"
    advised = f"EXPLAIN (ADVICE 'VARIANT(d d.i8)') {QUERY}"
    plain = session.sql(f"EXPLAIN {QUERY}").text
    assert "d.i8 has no statistics: run ANALYZE MODEL d" in plain
    assert "VARIANT(d d.i8" not in plain
    assert "impossible" in session.sql(advised).text
    session.sql("SET allow_priors = true")
    shown = session.sql(advised).text
    assert "d.i8" in shown
    assert "prior" in shown


def test_rows_that_built_a_variant_never_measure_it(session):
    session.sql(ANALYZE)
    session.sql("CREATE VARIANT d.r16 FROM d.lin BY REDUCE(16)")
    assert session.catalog.variant("d.r16").derivation.build.rows == 75
    model = session.catalog.model("d")

    def rows(role):
        table = kept(session, model).of_role(role)
        return {tuple(row) for row in table.column("glyph").to_pylist()}

    built = rows("building")
    assert len(built) == 75
    assert not built & (rows("search") | rows("held_back"))
    said = session.sql(ANALYZE).message
    assert "75 rows entered a derived variant and measure nothing" in said
    assert rows("building") == built, "the same rows were drawn again, and known again"
    session.sql(ANALYZE.replace("SAMPLE 300", "SAMPLE 1797"))
    assert built <= rows("building")
    assert not built & (rows("search") | rows("held_back"))
    session.sql("DROP VARIANT d.r16")
    session.sql(ANALYZE)
    assert not rows("building"), "nothing needs to be protected any more"


def test_the_rows_of_a_pipeline_serve_the_models_it_calls(session):
    session.sql(
        """
        CREATE PIPELINE reading (glyphs FLOAT[64][]) RETURNS (digits INTEGER[])
          QUALITY exact_match(digits) AS
        BEGIN
          one := d(EACH glyphs);
          RETURN one.digit;
        END;
        ANALYZE PIPELINE reading USING (
          SELECT list(glyph::FLOAT[64] ORDER BY id) AS glyphs, list(truth ORDER BY id) AS truth
          FROM 'digits.parquet' GROUP BY id // 3 ORDER BY id // 3
        ) LABELS (digits := truth, one.digit := truth) SAMPLE 100;
        """
    )
    sample = kept(session, session.catalog.model("d"))
    assert sample.subject.name == "reading"
    table = as_model_rows(session, sample, "search")
    assert table.num_rows == 225
    assert len(set(table.column("__cluster").to_pylist())) == 75
    assert table.column("__label:d:digit").null_count == 0
    found = session.sql("DERIVE VARIANTS FOR d BUDGET 100 s").fetchall()
    assert len(found) > 5


def test_rows_that_are_no_numbers_teach_nothing(session, place):
    session.sql(
        """
        CREATE MODEL t (glyph VARCHAR) RETURNS (digit INTEGER) QUALITY exact_match(digit);
        CREATE VARIANT t.lin USING sklearn('lin.skops');
        CREATE MODEL first (glyph VARCHAR) RETURNS (digit INTEGER) QUALITY exact_match(digit);
        CREATE VARIANT first.one USING replay('answers.parquet');
        COPY (SELECT 'n' || i AS glyph, i::INTEGER AS digit FROM range(90) t(i))
        TO 'answers.parquet';
        CREATE PIPELINE start (glyph VARCHAR) RETURNS (digit INTEGER)
          QUALITY exact_match(digit) AS BEGIN one := first(glyph); RETURN one; END;
        ANALYZE PIPELINE start USING (FROM 'answers.parquet') LABELS (digit := digit);
        """
    )
    error = refused(session, "CREATE VARIANT t.r FROM t.lin BY REDUCE(8)")
    assert error.code == "OC0441"
    assert "ANALYZE MODEL t" in error.hint, "first(…) calls first, not t"
    session.sql("CREATE VARIANT t.told USING replay('answers.parquet') BASE")
    session.sql("ANALYZE MODEL t USING (FROM 'answers.parquet')")
    error = refused(session, "CREATE VARIANT t.r FROM t.lin BY REDUCE(8)")
    assert (error.code, "not numbers" in error.message) == ("OC0441", True)


def test_explain_with_derived_variants_loads_nothing_heavy(session, place):
    session.sql(f"CREATE VARIANT d.i8 FROM d.net BY QUANTIZE('int8'); {ANALYZE}")
    session.close()
    code = (
        "import sys; from octans.cli import main; main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    explain = f"EXPLAIN (ADVICE 'VARIANT(d d.i8)') {QUERY}"
    shown = subprocess.run(
        [sys.executable, "-c", code, "--catalog", "c.duckdb", "-c", explain],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "d.i8 · batch" in shown
    loaded = set(shown.splitlines()[-1].split())
    assert not loaded & {"numpy", "onnx", "onnxruntime", "pyarrow", "scipy", "skops", "sklearn"}


# --- DERIVE VARIANTS ------------------------------------------------------------------------------


def test_derive_builds_measures_keeps_and_says_why(session, place):
    session.sql(ANALYZE)
    result = session.sql("DERIVE VARIANTS FOR d BUDGET 100 s")
    rows = result.arrow().to_pylist()
    assert all(row["reason"] for row in rows)
    kept_ = {row["variant"] for row in rows if row["kept"]}
    assert kept_, "int8 is a quarter of the network at the same quality"
    assert kept_ == set(names(session)) - {"d.lin", "d.net"}
    files = {session.catalog.variant(name).derivation.build.file for name in kept_}
    assert set(artefacts(place)) == files
    pruned = next(row for row in rows if row["variant"] == "d.net_p90")
    assert not pruned["kept"]
    assert "costs more than 0.1 of the quality of d.net" in pruned["reason"]
    for name in kept_:
        assert state(session, name) == "eligible"
        assert f"• d  {name} · batch" in advised(session, f"VARIANT(d {name})")
    again = session.sql("DERIVE VARIANTS FOR d BUDGET 100 s").arrow().to_pylist()
    proposed = {(row["variant"], row["transform"]) for row in again}
    assert not {name for name, _ in proposed} & kept_, "what is there is not proposed again"


def test_what_derive_measured_saw_the_rows_of_its_sample_alone(session):
    """AT CONFIDENCE qualities count that saw no held-back row: those of a DERIVE on these rows."""
    session.sql(ANALYZE)
    session.sql("DERIVE VARIANTS FOR d BUDGET 0.001 s")
    runs = dict(session.sql("SELECT kind, max(id) FROM octans.runs GROUP BY kind").fetchall())
    assert session.catalog.same_split(runs["analyze"]) == {runs["analyze"], runs["derive"]}
    session.sql(ANALYZE)
    again = session.catalog.samples.run("d", 1)
    assert session.catalog.same_split(again) == {runs["analyze"], runs["derive"], again}
    session.sql(ANALYZE.replace("SAMPLE 300", "SAMPLE 200"))
    other = session.catalog.samples.run("d", 1)
    assert session.catalog.same_split(other) == {other}


def test_derive_measures_what_the_planner_may_choose(session):
    knobs = "USING sklearn('lin.skops') KNOBS (k IN (1, 2))"
    session.sql(f"CREATE OR REPLACE VARIANT d.lin {knobs}")
    session.sql(f"CREATE OR REPLACE VARIANT d.net {knobs} BASE; {ANALYZE}")
    session.sql("DERIVE VARIANTS FOR d")
    # Of two equal files, smaller than all others, times decide which one stays.
    (kept, *_) = [name for name in names(session) if name.endswith("_fp16")]
    for value in (1, 2):
        plan = advised(session, f"VARIANT(d {kept} k={value})")
        assert f"• d  {kept} (k := {value})" in plan


def test_what_derive_measures_on_stale_rows_is_stale(session):
    session.sql(ANALYZE)
    session.catalog.freshness.mark(Mark("d", "glyph drifted"))
    assert "of d are stale: glyph drifted" in session.sql("DERIVE VARIANTS FOR d").message
    derived = set(names(session)) - {"d.lin", "d.net"}
    states = session.sql("SELECT DISTINCT variant, reason FROM octans.statistics").fetchall()
    assert derived
    assert {name for name, reason in states if reason == "glyph drifted"} >= derived
    assert all(reason == "glyph drifted" for _, reason in states)
    session.sql(ANALYZE)
    states = session.sql("SELECT DISTINCT state FROM octans.statistics WHERE metric = 'quality'")
    assert states.fetchall() == [("fresh",)]


def test_derive_needs_rows_and_a_right_answer(session):
    assert refused(session, "DERIVE VARIANTS FOR d").code == "OC0442"
    session.sql(
        "CREATE MODEL e (glyph FLOAT[64]) RETURNS (digit INTEGER, confidence DOUBLE);"
        "CREATE VARIANT e.net USING onnx('net.onnx');" + ANALYZE.replace("MODEL d", "MODEL e")
    )
    assert refused(session, "DERIVE VARIANTS FOR e").code == "OC0445"


def test_a_budget_ends_it_and_what_was_decided_stays(session):
    session.sql(ANALYZE)
    result = session.sql("DERIVE VARIANTS FOR d BUDGET 0.001 s")
    assert "stopped: the budget is spent" in result.message
    assert names(session) == ["d.lin", "d.net"]
    ended = "SELECT status FROM octans.runs WHERE kind = 'derive'"
    assert session.sql(ended).fetchall() == [("stopped",)]


def test_every_call_that_derive_makes_counts_in_its_usd(session, monkeypatch):
    """Scoring the rows too, and what was begun when the budget ended it; a bound passed is told."""
    session.sql(ANALYZE)
    called = []

    def counted(self, stage, table):
        run = run_stage(self, stage, table)
        called.append(run.elements)
        return run

    run_stage = LocalRunner.run_stage
    monkeypatch.setattr(LocalRunner, "run_stage", counted)
    price = "octans.measuring._pricer"
    monkeypatch.setattr(price, lambda session, variant: lambda _, run: float(run.elements))
    told = session.sql("DERIVE VARIANTS FOR d BUDGET 2000 USD").message
    ended = "SELECT status, usd FROM octans.runs WHERE kind = 'derive'"
    assert session.sql(ended).fetchall() == [("stopped", sum(called))]
    assert ("more than the budget of 2000 USD" in told) == (sum(called) > 2000)


def test_cancelled_it_keeps_what_was_decided(session, place, monkeypatch):
    session.sql(ANALYZE)
    calls = []

    def counted(session_, world, variant, *rest):
        calls.append(variant.full_name)
        if variant.full_name.endswith("p50"):
            raise KeyboardInterrupt
        return measure(session_, world, variant, *rest)

    monkeypatch.setattr(proposing, "measure", counted)
    error = refused(session, "DERIVE VARIANTS FOR d")
    assert error.code == "OC0402"
    assert calls[-1] == "d.lin_p50"
    derived = [name for name in names(session) if name not in ("d.lin", "d.net")]
    assert derived == [] or set(derived) <= {"d.lin_fp16", "d.lin_int8"}
    assert ", ".join(derived) in error.message
    assert len(artefacts(place)) == len(derived)


def ladder(monkeypatch, session, losses):
    """Derive with the network's pruned versions losing what `losses` says; the rows of PRUNE."""

    def fake(session_, world, variant, *rest):
        found, usd = measure(session_, world, variant, *rest)
        lost = losses.get(variant.full_name, 0.0)
        count = len(found.point.scores)
        scores = tuple(float(row >= lost * count) for row in range(count))
        return replace(found, point=replace(found.point, scores=scores)), usd

    monkeypatch.setattr(proposing, "measure", fake)
    monkeypatch.setattr(proposing, "SHARES", (0.1, 0.2, 0.3, 0.4, 0.5))
    result = session.sql("DERIVE VARIANTS FOR d")
    rows = [row for row in result.arrow().to_pylist() if row["variant"].startswith("d.net_p")]
    return {row["variant"]: row["reason"] for row in rows}, result.message


def test_a_ladder_is_left_one_step_after_it_fell_out(session, monkeypatch):
    session.sql(ANALYZE)
    losses = {"d.net_p20": 0.5, "d.net_p30": 0.6}
    reasons, _ = ladder(monkeypatch, session, losses)
    assert "costs more" in reasons["d.net_p20"]
    assert "costs more" in reasons["d.net_p30"], "one beyond: the audit"
    assert "not built: d.net_p20" in reasons["d.net_p40"]
    assert "not built: d.net_p20" in reasons["d.net_p50"]


def test_a_ladder_that_is_not_monotone_is_reported_and_climbed_to_its_end(session, monkeypatch):
    session.sql(ANALYZE)
    losses = {"d.net_p20": 0.5, "d.net_p40": 0.6, "d.net_p50": 0.7}
    reasons, message = ladder(monkeypatch, session, losses)
    assert "not monotone" in message
    assert not any("not built" in reason for reason in reasons.values())
