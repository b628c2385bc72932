"""Outputs kept between statements are what would be computed, within their bound, or not there."""

import dataclasses
import os

import octans
import pyarrow as pa
import pytest
import session_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from octans.catalog_db.catalog import Catalog
from octans.catalog_db.prefixes import Checkpoint
from octans.executor import artefacts
from octans.executor.identity import Identities
from octans.executor.runner import LocalRunner
from octans.ir.models import Backend, Variant
from octans.ir.physical import Choice, PhysicalPlan, SqlStep
from octans.ir.types import NamedExpr, column
from octans.stats.end_to_end import Evaluator
from octans.stats.lineage import chain
from octans.stats.prefixes import Block, Identity, Recall
from octans.stats.strategy import PLAIN
from toys import World, expr, numbers, stage

ROWS = "SELECT id AS x, truth, book FROM numbers"
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def in_full(monkeypatch):
    """Which choices an ANALYZE stops depends on the times it measures; here none is."""
    monkeypatch.setattr("octans.analyzing._strategy", lambda session: PLAIN)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def catalog():
    with Catalog.open() as opened:
        yield opened


class Counting(LocalRunner):
    """Counts the rows that reach models, by variant."""

    def __init__(self, env):
        super().__init__(env)
        self.rows = []

    def run_stage(self, stage, table):
        self.rows.append((stage.choice.variant, table.num_rows))
        return super().run_stage(stage, table)


def pipeline(source, variants, bad, modulus):
    """y := first(x), then z := second(y + 1) WHEN y % modulus = 0."""
    first = stage(source, variants[0], **({"bad": bad} if variants[0] == "m.picky" else {}))
    inner = SqlStep(
        first,
        (
            *(column(field) for field in first.schema),
            NamedExpr("v", expr('"y" + 1', "y"), "BIGINT"),
            NamedExpr("w", expr(f'"y" % {modulus} = 0', "y"), "BOOLEAN"),
        ),
    )
    second = stage(inner, variants[1], name="z", arg="v", when="w")
    return PhysicalPlan(second, "null")


def evaluated(world, catalog, plan, recall=True):
    """The final state of a plan, and what reached models."""
    runner = Counting(world.env())
    try:
        if not recall:
            state = Evaluator(chain(plan), runner).final({s.step: s.choice for s in plan.stages})
            return state, runner.rows
        identities = Identities(world.models, world.variants, world.base)
        with Recall(runner, identities, catalog.prefixes()) as prefixes:
            evaluator = Evaluator(chain(plan), prefixes, prefixes=prefixes)
            state = evaluator.final({s.step: s.choice for s in plan.stages})
        return state, runner.rows
    finally:
        runner.close()


def answers(state):
    failed = {step: sorted(rows) for step, rows in state.failed.items() if rows}
    return state.table.select(["y", "z"]).to_pydict(), failed


def over(values):
    """A scan of these numbers, in order."""
    listed = ", ".join(f"({place}, {'NULL' if v is None else v})" for place, v in enumerate(values))
    return numbers(0, f"SELECT x::BIGINT AS x FROM (VALUES {listed}) AS t(place, x) ORDER BY place")


VALUES = st.lists(st.none() | st.integers(-4, 12), min_size=1, max_size=12)


@FEW
@given(
    pieces=st.lists(VALUES, min_size=1, max_size=3),
    variants=st.tuples(*[st.sampled_from(["m.double", "m.picky"])] * 2),
    bad=st.sampled_from(["3", "0,5", "6,7,8"]),
    modulus=st.integers(1, 3),
)
def test_what_is_recalled_is_what_would_be_computed(world, pieces, variants, bad, modulus):
    """For random pipelines, over rows that are partly known, NULL, repeated, or failing."""
    with Catalog.open() as catalog:
        for values in pieces:
            plan = pipeline(over(values), variants, bad, modulus)
            recalled, _ = evaluated(world, catalog, plan)
            computed, _ = evaluated(world, catalog, plan, recall=False)
            assert answers(recalled) == answers(computed)


def test_known_rows_are_not_run_and_failed_ones_are(world, catalog):
    plan = pipeline(numbers(10), ("m.picky", "m.double"), "3,5", 4)
    _, ran = evaluated(world, catalog, plan)
    assert ran == [("m.picky", 10), ("m.double", 5)]
    _, ran = evaluated(world, catalog, plan)
    assert ran == [("m.picky", 2)]
    _, ran = evaluated(world, catalog, pipeline(numbers(12), ("m.picky", "m.double"), "3,5", 4))
    assert ran == [("m.picky", 4), ("m.double", 1)]


def test_the_account_is_of_what_was_run(world, catalog):
    source, made = numbers(10), stage(numbers(10), "m.picky", batch=4, bad="3")
    runner = Counting(world.env())
    identities = Identities(world.models, world.variants, world.base)
    with Recall(runner, identities, catalog.prefixes()) as recall:
        recall.evaluate(made, recall.scan(source).slice(0, 6), recall)
        table = recall.scan(source)
        run = recall.evaluate(made, table, recall)
        assert (run.recalled, run.elements, run.failed_elements) == (5, 5, 1)
        assert (sum(run.batch_sizes), list(run.failed)) == (1, [3])
        assert run.recalled_seconds > 0
        assert run.table.column("y").to_pylist() == [None if x == 3 else 2 * x for x in range(10)]
        assert "5 evaluations were asked for again within this statement" in recall.told()[0]
        assert len(recall.told()) == 1
    runner.close()


def noted_and_replayed(world, catalog, runs_of):
    """What `runs_of(recall, stage, table)` gives at first, and what from the notes of the first."""
    found = []
    checkpoint = Checkpoint(catalog.begin_run("analyze", "x"), "m", "same")
    for _ in range(2):
        runner = Counting(world.env())
        identities = Identities(world.models, world.variants, world.base)
        store = catalog.prefixes(checkpoint)
        with Recall(runner, identities, store, store.resume()) as recall:
            made = stage(numbers(10), "m.picky", batch=4, bad="3")
            found.append(runs_of(recall, made, recall.scan(numbers(10))))
        runner.close()
    assert runner.rows == [], "nothing ran again"
    assert "2 of its measurements are reused" in recall.told()[0]
    catalog.finish_run(checkpoint.run)
    assert catalog.prefixes(checkpoint).resume() == []
    return found


def test_a_replayed_run_is_the_run_that_was_noted(world, catalog):
    """Every field of it, failures and seconds too; of timing runs all but the outputs."""
    runs = noted_and_replayed(
        world,
        catalog,
        lambda recall, made, table: (
            recall.run_stage(made, table), recall.evaluate(made, table, recall)
        ),
    )  # fmt: skip
    for first, second in zip(*runs, strict=True):
        for field in dataclasses.fields(first):
            if field.name != "table":
                assert getattr(second, field.name) == getattr(first, field.name), field.name
    assert runs[0][1].table == runs[1][1].table
    assert runs[0][1].failed


def test_a_replayed_run_that_failed_on_every_row_joins_what_was_known(world, catalog):
    """Again the rows known but one, which failed the first time and again the second."""
    runs = noted_and_replayed(
        world,
        catalog,
        lambda recall, made, table: [recall.evaluate(made, table, recall) for _ in range(2)],
    )
    tables = [run.table for each in runs for run in each]
    assert all(one == tables[0] for one in tables)
    assert tables[0].column("y").to_pylist()[2:5] == [4, None, 8]


@pytest.mark.parametrize("change", ["artefact", "version", "variant", "knob", "expression"])
def test_a_change_misses(world, catalog, change):
    plan = pipeline(numbers(10), ("m.picky", "m.double"), "99", 1)
    evaluated(world, catalog, plan)
    again = plan
    if change == "artefact":
        with (world.base / "models.py").open("a") as file:
            file.write("\n")
        expected = {"m.picky": 10, "m.double": 10}
    elif change == "version":
        first = plan.root.input.input
        choice = first.choice.replace(version=2)
        again = replaced(plan, first, first.replace(choice=choice))
        expected = {"m.picky": 10}
    elif change == "variant":
        world.variants["m.other"] = Variant("m", "other", Backend("python", "models.py:double"))
        again = pipeline(numbers(10), ("m.other", "m.double"), "99", 1)
        expected = {"m.other": 10}
    elif change == "knob":
        again = pipeline(numbers(10), ("m.picky", "m.double"), "98", 1)
        expected = {"m.picky": 10}
    else:
        inner = plan.root.input
        raised = inner.replace(
            columns=(
                *inner.columns[:-2],
                NamedExpr("v", expr('"y" + 3', "y"), "BIGINT"),
                inner.columns[-1],
            )
        )
        again = replaced(plan, inner, raised)
        expected = {"m.double": 1}  # of 3, 5, …, 21 only 21 is new: equal values are equal calls
    _, ran = evaluated(world, catalog, again)
    assert dict(ran) == expected


def replaced(plan, old, new):
    return plan.replace(root=plan.root.transform_up(lambda node: new if node == old else node))


def test_batch_and_device_do_not_matter(world, catalog):
    plan = pipeline(numbers(10), ("m.double", "m.double"), "", 1)
    evaluated(world, catalog, plan)
    world.devices["other"] = world.devices["cpu"].replace(name="other")
    first = plan.root.input.input
    choice = first.choice.replace(batch=3, device="other")
    _, ran = evaluated(world, catalog, replaced(plan, first, first.replace(choice=choice)))
    assert ran == []


def test_answers_of_volatile_models_are_never_kept(world, catalog):
    """Of any variant of such a model: it is the model that is volatile."""
    world.variants["m.odd"] = Variant(
        "m", "odd", Backend("python", "models.py:double"), volatile=True
    )
    plan = pipeline(numbers(10), ("m.double", "m.odd"), "", 1)
    for _ in range(2):
        _, ran = evaluated(world, catalog, plan)
        assert dict(ran) == {"m.double": 10, "m.odd": 10}
    assert stored(catalog) == []


def test_versions_of_libraries_are_part_of_the_identity(world, monkeypatch):
    """Of those that a module imports by itself, too."""

    def call():
        return Identities(world.models, world.variants, world.base).call(stage(numbers(1)))

    version = artefacts.version
    before = call()
    assert before == call() is not None
    for changed in ("python", "pyarrow", "numpy"):
        monkeypatch.setattr(
            artefacts, "version", lambda name, c=changed: "9.9" if name == c else version(name)
        )
        assert call() != before
        monkeypatch.undo()


# --- the store ---------------------------------------------------------------------------------


def stored(catalog):
    """Blocks that are there: call, bytes, seconds."""
    with catalog.cursor() as cursor:
        return cursor.execute(
            "SELECT call, bytes, seconds FROM octans_internal.prefixes ORDER BY id"
        ).fetchall()


def block(call, rows, outputs, seconds=1.0):
    return Block("s", Choice("m.v"), Identity(call, rows), tuple(outputs), seconds)


def row(number):
    return number.to_bytes(16, "big")


@FEW
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 300), st.floats(0, 9)), max_size=20),
    st.integers(1, 6000),
)
def test_the_bound_holds_and_the_cheapest_go_first(blocks, capacity):
    """`blocks` are rows, bytes a row and seconds."""
    with Catalog.open() as catalog:
        catalog.settings.set("prefix_store", 1e9, unit="B")
        every = catalog.prefixes()
        for call, (rows, width, seconds) in enumerate(blocks):
            keys = [row(place) for place in range(rows)]
            every.keep(block(str(call), keys, [pa.array([b"x" * width] * rows)], seconds))
        every.flush()
        whole = stored(catalog)
        assert len(whole) == len(blocks)
        catalog.settings.set("prefix_store", capacity, unit="B")
        bounded = catalog.prefixes(Checkpoint(1, "s", "i"))
        bounded.keep(block("new", [row(0)], [pa.array([1])], 1e9))
        bounded.note("anything", "{}")
        bounded.flush()
        left = [each for each in stored(catalog) if each[0] != "new"]
        assert sum(size for _, size, _ in stored(catalog)) <= capacity
        gone = [each for each in whole if each not in left]
        worth = [seconds / size for _, size, seconds in left]
        assert all(seconds / size <= min(worth, default=9e9) for _, size, seconds in gone)


def test_what_no_variant_can_use_goes_before_all_else(world):
    with session_world.connect(measured=False) as session:
        session.sql(f"ANALYZE MODEL guess USING ({ROWS}) SAMPLE 40")
        dear = Block(
            "s", Choice("guess.cheap", version=0), Identity("old", [row(1)]), (pa.array([1]),), 1e9
        )
        store = session.catalog.prefixes()
        store.keep(dear)
        store.flush()
        total = sum(size for _, size, _ in stored(session.catalog))
        session.catalog.settings.set("prefix_store", total - 1, unit="B")
        store = session.catalog.prefixes()
        store.keep(Block("s", Choice("guess.best"), Identity("n", [row(1)]), (pa.array([1]),), 1e9))
        store.flush()
        assert "old" not in {call for call, _, _ in stored(session.catalog)}


VALUE = st.fixed_dictionaries(
    {"a": st.none() | st.lists(st.none() | st.floats(allow_nan=False), max_size=3),
     "b": st.none() | st.text(max_size=4)}
)  # fmt: skip


@FEW
@given(st.lists(st.none() | VALUE, min_size=1, max_size=8), st.integers(0, 7))
def test_kept_values_come_back_as_they_were(tmp_path, values, start):
    path = tmp_path / "c.duckdb"
    kind = pa.struct([("a", pa.list_(pa.float64())), ("b", pa.string())])
    keys = [os.urandom(16) for _ in values]
    with Catalog.open(path) as catalog:
        store = catalog.prefixes()
        store.keep(block("c", keys, [pa.array(values, kind), pa.nulls(len(values))], 2.0))
        before = store.find(Identity("c", keys[start:]))
        store.flush()
    with Catalog.open(path) as catalog:
        after = catalog.prefixes().find(Identity("c", [row(7), *keys[start:]]))
        assert catalog.prefixes().find(Identity("d", keys)) is None
    if not keys[start:]:
        assert before is None
        assert after is None
        return
    assert before.outputs[0].to_pylist() == after.outputs[0].to_pylist() == values[start:]
    assert after.outputs[0].type == kind
    assert after.positions.tolist() == list(range(1, len(values) - start + 1))
    assert after.seconds == pytest.approx(2.0 * (len(values) - start) / len(values))


def test_a_lookup_reads_the_blocks_it_needs(catalog, monkeypatch):
    """Outputs of many megabytes lie in many blocks; one row asks for one."""
    store = catalog.prefixes()
    keys = [row(place) for place in range(40)]
    numbers_ = store.keep(block("c", keys, [pa.array([os.urandom(1 << 20) for _ in keys])]))
    assert len(numbers_) >= 8
    store.flush()
    fresh = catalog.prefixes()
    read = []
    fetched = type(fresh)._fetched
    monkeypatch.setattr(type(fresh), "_fetched", lambda s, b: read.append(b) or fetched(s, b))
    assert len(fresh.find(Identity("c", [keys[33]])).positions) == 1
    assert len(read) == 1
    rows, (values,) = fresh.load(numbers_)
    assert rows == keys
    assert len(values) == 40


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE octans_internal.prefix_outputs SET outputs = 'nonsense'::BLOB",
        "UPDATE octans_internal.prefix_outputs SET outputs = outputs || 'x'::BLOB",
        "DELETE FROM octans_internal.prefix_outputs",
        "UPDATE octans_internal.prefixes SET keys = reverse(hex(keys)).unhex()",
        "UPDATE octans_internal.prefixes SET digest = ''::BLOB",
    ],
)
def test_damaged_outputs_are_computed_again_and_reported(damage):
    """Never a wrong answer: the statistics are those of a catalog without damage."""
    with session_world.connect(measured=False) as session:
        text = f"ANALYZE MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE 200"
        session.sql(text)
        qualities = quality(session)
        session.catalog.connection.execute(damage)
        message = session.sql(text).message
        assert quality(session) == qualities
        if "keys" not in damage:  # identities nobody has are just not found
            assert "OC0515" in message
            assert "guess.best" in message
        assert "OC0515" not in session.sql(text).message
        store = session.catalog.prefixes()
        (calls,) = zip(
            *session.catalog.connection.execute(
                "SELECT DISTINCT call FROM octans_internal.prefixes"
            ).fetchall(),
            strict=True,
        )
        assert all(store._known(call) for call in calls)


def quality(session):
    return {
        (o.variant, o.knobs): (o.value, o.n)
        for o in session.catalog.observations({"guess"})
        if o.metric == "quality"
    }


# --- statements --------------------------------------------------------------------------------


def test_a_later_analyze_and_a_restart_find_what_was_computed(tmp_path):
    path = tmp_path / "c.duckdb"
    pipeline_ = f"ANALYZE PIPELINE answer USING ({ROWS}) LABELS (z := truth) SAMPLE 100"
    with session_world.connect(path, measured=False) as session:
        first = session.sql(f"ANALYZE MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE 100")
        assert "known already" not in first.message  # nothing was: the catalog was empty
        message = session.sql(pipeline_).message
        assert "evaluations were known already" in message  # of the model alone, by the pipeline
        rows, bytes_ = session.sql("SELECT sum(rows), sum(bytes) FROM octans.prefixes").fetchone()
    with session_world.settled(octans.connect(path)) as session:
        assert "evaluations were known already" in session.sql(pipeline_).message
        kept = session.sql("SELECT sum(rows), sum(bytes) FROM octans.prefixes").fetchone()
        assert kept == (rows, bytes_)  # nothing new was computed


def test_switched_off_it_neither_finds_nor_keeps():
    with session_world.connect(measured=False) as session:
        session.sql(f"ANALYZE MODEL guess USING ({ROWS}) SAMPLE 50")
        session.sql("SET prefix_store = 0 B")
        for _ in range(2):
            message = session.sql(f"ANALYZE MODEL guess USING ({ROWS}) SAMPLE 50").message
            assert "known already" not in message
        assert session.sql("SELECT count(*) FROM octans.prefixes").fetchone() == (4,)


def test_a_promise_finds_what_an_earlier_one_computed(tmp_path):
    """Held-back rows are computed once, too; what they score is no estimate's business."""
    path = tmp_path / "c.duckdb"
    with session_world.connect(path, measured=False) as session:
        session.sql(f"ANALYZE MODEL guess USING ({ROWS}) LABELS (y := truth) SAMPLE 400")
        before = session.catalog.observations()
        session_world.CALLS.clear()
        session.explain(
            "SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.85 AT CONFIDENCE 0.9)"
        )
        assert sum(n for _, n in session_world.CALLS) >= 100
        session_world.CALLS.clear()
        session.explain(
            "SELECT guess(id) FROM numbers WITH SLO (accuracy >= 0.85 AT CONFIDENCE 0.8)"
        )
        assert session_world.CALLS == []
        assert session.catalog.observations() == before


def test_what_a_loaded_copy_answers_is_kept_under_the_files_it_was_loaded_from(world, catalog):
    """An edit amid an ANALYZE: the next one runs the new code and recalls nothing of the old."""
    plan = PhysicalPlan(stage(numbers(4), batch=4), "null")
    runner = Counting(world.env())
    identities = Identities(world.models, world.variants, world.base)
    path = world.base / "models.py"
    with Recall(runner, identities, catalog.prefixes()) as prefixes:
        made, table = plan.root, prefixes.scan(numbers(8))
        prefixes.evaluate(made, table.slice(0, 4), prefixes)
        path.write_text(path.read_text().replace("def double(by=2)", "def double(by=20)"))
        old = prefixes.evaluate(made, table.slice(4), prefixes)
        assert old.table.column("y").to_pylist() == [8, 10, 12, 14]
    runner.close()
    runner = Counting(world.env())
    identities = Identities(world.models, world.variants, world.base)
    with Recall(runner, identities, catalog.prefixes()) as prefixes:
        new = prefixes.evaluate(plan.root, prefixes.scan(numbers(8)), prefixes)
        assert new.table.column("y").to_pylist() == [20 * x for x in range(8)]
    runner.close()
