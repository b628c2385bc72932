"""What profiling gets from the executor: the same semantics as in a query, and honest measures."""

import pytest
from octans.errors import RunError
from octans.executor.runner import LocalRunner
from octans.ir.models import Backend, Variant
from octans.ir.physical import SqlStep
from octans.ir.types import Field, NamedExpr, column
from toys import World, expr, numbers, stage


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def runner(world):
    runner = LocalRunner(world.env())
    yield runner
    runner.close()


def test_scan_numbers_rows_in_source_order(runner):
    table = runner.scan(numbers(0, "SELECT range AS x FROM range(70000) ORDER BY -range"))
    assert table.schema.names == ["x", "__row"]
    assert table.column("__row").to_pylist() == list(range(70000))
    assert table.column("x")[0].as_py() == 69999
    assert runner.scan(numbers(0)).num_rows == 0


def test_a_step_keeps_row_numbers(runner):
    source = numbers(10)
    table = runner.scan(source)
    made = NamedExpr("z", expr('"x" * 3', "x"), "BIGINT")
    done = runner.run_step(SqlStep(source, (made,), expr('"x" > 6', "x")), table)
    assert done.to_pydict() == {"z": [21, 24, 27], "__row": [7, 8, 9]}
    plain = runner.run_step(SqlStep(source, (column(Field("x", "BIGINT")),)), table.drop("__row"))
    assert plain.to_pydict() == {"x": list(range(10))}


def test_a_stage_gives_every_row_back_with_its_measures(runner):
    source = numbers(10)
    first = runner.run_stage(stage(source, "m.picky", batch=4, bad="6"), runner.scan(source))
    assert first.table.schema.names == ["x", "__row", "y"]
    assert first.table.column("y").to_pylist() == [0, 2, 4, 6, 8, 10, None, 14, 16, 18]
    assert list(first.failed) == [6]
    assert "bad 6" in first.failed[6]
    assert first.failed_elements == 1
    assert first.elements == 10
    assert list(first.batch_sizes) == [4, 2]  # the batch that failed says nothing of latency
    assert len(first.batch_seconds) == 2
    assert first.load_seconds > 0
    second = runner.run_stage(stage(source, "m.picky", batch=8, bad="6"), runner.scan(source))
    assert second.load_seconds is None  # the same copy serves every batch size


def test_a_stage_on_no_rows(runner):
    run = runner.run_stage(stage(numbers(0)), runner.scan(numbers(0)))
    assert run.table.schema.names == ["x", "__row", "y"]
    assert (run.table.num_rows, run.elements) == (0, 0)


def test_a_variant_that_cannot_run_is_an_error(runner, world):
    table = runner.scan(numbers(3))
    for broken in (stage(numbers(3), "m.absent"), stage(numbers(3), "m.short")):
        with pytest.raises(RunError):
            runner.run_stage(broken, table)
    world.cancel.set()
    with pytest.raises(RunError) as caught:
        runner.run_stage(stage(numbers(3)), table)
    assert caught.value.code == "OC0402"


def test_copies_of_one_run_are_of_the_same_files(world, runner):
    """A further choice of a variant whose file was edited amid a run would be another model."""
    table = runner.scan(numbers(3))
    assert runner.run_stage(stage(numbers(3)), table).table.column("y").to_pylist() == [0, 2, 4]
    path = world.base / "models.py"
    path.write_text(path.read_text().replace("def double(by=2)", "def double(by=20)"))
    with pytest.raises(RunError) as caught:
        runner.run_stage(stage(numbers(3), by=5), table)
    assert caught.value.code == "OC0411"
    assert "m.double" in caught.value.message
    after = LocalRunner(world.env())
    assert after.run_stage(stage(numbers(3)), table).table.column("y").to_pylist() == [0, 20, 40]
    after.close()


def test_what_a_process_imports_once_is_no_part_of_loading(world, runner):
    """A later copy would seem to load a thousand times as fast, and the plan's wall too long."""
    (world.base / "heavy.py").write_text(
        "import time\ntime.sleep(0.5)\n"
        "def make():\n    time.sleep(0.05)\n    return lambda batch: batch.column('x')\n"
    )
    world.variants["m.heavy"] = Variant("m", "heavy", Backend("python", "heavy.py:make"))
    run = runner.run_stage(stage(numbers(3), "m.heavy"), runner.scan(numbers(3)))
    assert 0.05 <= run.load_seconds < 0.5
