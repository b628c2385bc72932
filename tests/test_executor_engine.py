"""The engine's semantics, each compared with what the language promises."""

import pytest
from octans.errors import RunError
from octans.ir.physical import Choice, SqlResidual, SqlScan, SqlStep, Stage, StopAfter
from octans.ir.types import Field, NamedExpr, column
from toys import World, expr, first_columns, numbers, stage


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 5000])
@pytest.mark.parametrize("batch", [1, 8, 64])
def test_every_row_gets_its_answer_in_source_order(world, n, batch):
    table = world.run(stage(numbers(n), batch=batch)).read_all()
    assert table.column("x").to_pylist() == list(range(n))
    assert table.column("y").to_pylist() == [2 * i for i in range(n)]
    assert table.schema.names == ["x", "y"]


def test_batches_fill_across_chunks_and_only_the_last_is_short(world):
    execution = world.run(
        stage(
            SqlStep(numbers(1000), (column(Field("x", "BIGINT")),), expr('"x" % 3 = 0', "x")),
            batch=64,
        )
    )
    execution.read_all()
    actual = next(a for a in execution.actuals.values() if a.calls is not None)
    assert actual.elements == 334
    assert actual.calls == -(-334 // 64)


def test_steps_between_stages_filter_and_compute(world):
    first = stage(numbers(100))
    step = SqlStep(
        first,
        (
            column(Field("x", "BIGINT")),
            NamedExpr("z", expr('"y" + 1', "y"), "BIGINT"),
        ),
        expr('"y" % 4 = 0', "y"),
    )
    table = world.run(stage(step, name="w", arg="z", by=10, batch=7)).read_all()
    kept = [i for i in range(100) if (2 * i) % 4 == 0]
    assert table.to_pydict() == {
        "x": kept,
        "z": [2 * i + 1 for i in kept],
        "w": [10 * (2 * i + 1) for i in kept],
    }


def test_two_outputs_and_pruned_outputs(world):
    source = SqlScan(
        "SELECT range AS l, range * 10 AS r FROM range(20)",
        (Field("l", "BIGINT"), Field("r", "BIGINT")),
    )
    both = Stage(
        source,
        "p",
        "p",
        "p",
        ("l", "r"),
        (Field("p.total", "BIGINT"), Field("p.text", "VARCHAR")),
        ("total", "text"),
        Choice("p.pair", (), 4),
    )
    table = world.run(both).read_all()
    assert table.column("p.total").to_pylist() == [11 * i for i in range(20)]
    assert table.column("p.text").to_pylist() == [f"{i}/{10 * i}" for i in range(20)]
    pruned = both.replace(outputs=(Field("p.text", "VARCHAR"),), produce=("text",))
    assert world.run(pruned).read_all().schema.names == ["l", "r", "p.text"]


def test_a_null_argument_reaches_the_model(world):
    source = numbers(0, "SELECT unnest([1, NULL, 3])::BIGINT AS x")
    assert world.run(stage(source, "m.picky")).read_all().column("y").to_pylist() == [2, None, 6]


def test_when_calls_only_true_rows(world):
    source = SqlScan(
        "SELECT range AS x, CASE range % 3 WHEN 0 THEN TRUE WHEN 1 THEN FALSE END AS c "
        "FROM range(50)",
        (Field("x", "BIGINT"), Field("c", "BOOLEAN")),
    )
    execution = world.run(stage(source, when="c"))
    assert execution.read_all().column("y").to_pylist() == [
        2 * i if i % 3 == 0 else None for i in range(50)
    ]
    rates = [o for o in execution.observations() if o.metric == "rate"]
    assert [(o.subject, o.value, o.n) for o in rates] == [("y", 17 / 50, 50)]


def test_when_never_true_does_not_hold_the_whole_input_back(world, monkeypatch):
    from octans.executor import stages

    monkeypatch.setattr(stages, "MAX_WAITING_ROWS", 1000)
    source = SqlScan(
        "SELECT range AS x, range % 997 = 0 AS c FROM range(60000)",
        (Field("x", "BIGINT"), Field("c", "BOOLEAN")),
    )
    batches = world.run(stage(source, when="c", batch=512)).batches()
    assert next(batches).num_rows < 5000
    assert sum(b.num_rows for b in batches) > 50000


LISTS = "SELECT unnest([[1, 2, 3], NULL, [], [4], [NULL, 5]])::BIGINT[] AS x"


def test_each_maps_lists(world):
    source = SqlScan(LISTS, (Field("x", "BIGINT[]"),))
    execution = world.run(stage(source, "m.picky", each=True, batch=2))
    assert execution.read_all().column("y").to_pylist() == [[2, 4, 6], None, [], [8], [None, 10]]
    lengths = {o.statistic: o.value for o in execution.observations() if o.metric == "length"}
    assert lengths == {"pmf(0)": 0.25, "pmf(1)": 0.25, "pmf(2)": 0.25, "pmf(3)": 0.25}


def zipped(source, lists, on_error="fail"):
    return Stage(
        source,
        "p",
        "p",
        "p",
        ("l", "r"),
        (Field("p.text", "VARCHAR[]"),),
        ("text",),
        Choice("p.pair", (), 3),
        lists=lists,
    )


def test_each_zips_lists_and_broadcasts_the_rest(world):
    sql = "SELECT * FROM (VALUES ([1, 2], 7), ([], 8), ([3], NULL)) t(l, r)"
    source = SqlScan(sql, (Field("l", "INTEGER[]"), Field("r", "INTEGER")))
    table = world.run(zipped(source, (True, False))).read_all()
    assert table.column("p.text").to_pylist() == [["1/7", "2/7"], [], ["3/None"]]


def test_each_lists_of_unequal_length_fail_their_row(world):
    sql = "SELECT * FROM (VALUES ([1, 2], [3, 4]), ([1], [2, 3]), (NULL, [1]), ([9], [9])) t(l, r)"
    source = SqlScan(sql, (Field("l", "INTEGER[]"), Field("r", "INTEGER[]")))
    execution = world.run(zipped(source, (True, True)), "null")
    assert execution.read_all().column("p.text").to_pylist() == [
        ["1/3", "2/4"],
        None,
        None,
        ["9/9"],
    ]
    assert [(f.row, "different lengths" in f.message) for f in execution.failures] == [(1, True)]


def test_each_a_failing_element_fails_its_row_only(world):
    source = SqlScan(LISTS, (Field("x", "BIGINT[]"),))
    for mode, expected in (
        ("null", [None, None, [], [8], [None, 10]]),
        ("skip", [None, [], [8], [None, 10]]),
    ):
        execution = world.run(stage(source, "m.picky", each=True, batch=4, bad="2"), mode)
        assert execution.read_all().column("y").to_pylist() == expected
        assert [f.row for f in execution.failures] == [0]


def test_fail_reports_the_first_failing_row_whatever_the_batch(world):
    for batch in (1, 3, 64):
        execution = world.run(stage(numbers(500), "m.picky", batch=batch, bad="400,123,124"))
        with pytest.raises(RunError) as caught:
            execution.read_all()
        assert caught.value.code == "OC0401"
        assert caught.value.rows_done == 123
        assert "row 123" in caught.value.message
        assert "bad 123" in caught.value.message


def test_fail_reports_the_first_row_over_all_stages(world):
    """A later step failing on an earlier row wins, as evaluating row by row would have it."""
    first = stage(numbers(500), "m.picky", name="a", batch=64, bad="200")
    second = stage(first, "m.picky", name="b", arg="a", batch=16, bad="20")
    with pytest.raises(RunError, match="b failed on row 10"):
        world.run(second).read_all()


def test_null_keeps_the_row_without_any_model_output(world):
    first = stage(numbers(10), name="a")
    step = SqlStep(
        first,
        (
            column(Field("x", "BIGINT")),
            column(Field("a", "BIGINT")),
            NamedExpr("k", expr('"a" + 1', "a"), "BIGINT"),
        ),
    )
    second = stage(step, "m.picky", name="b", arg="x", bad="4")
    after = SqlStep(
        second,
        (
            *(column(Field(n, "BIGINT")) for n in ("x", "a", "k", "b")),
            NamedExpr("c", expr('COALESCE("b", 0)', "b"), "BIGINT"),
        ),
        expr('"b" >= 0 OR "b" IS NULL', "b"),
    )
    third = stage(after, name="d", arg="x")
    execution = world.run(third, "null")
    rows = execution.read_all().to_pylist()
    assert rows[4] == {"x": 4, "a": None, "k": None, "b": None, "c": None, "d": None}
    assert rows[5] == {"x": 5, "a": 10, "k": 11, "b": 10, "c": 10, "d": 10}
    assert len(rows) == 10
    assert [(f.row, f.step) for f in execution.failures] == [(4, "b")]
    assert execution.actuals[second.fingerprint].failed == 1


@pytest.mark.parametrize(
    ("predicate", "kept"),
    [
        ('"y" >= 0', [0, 1, 3, 4, 5, 6, 8, 9]),
        ('"y" < 0', []),
        ('NOT ("y" < 0)', [0, 1, 3, 4, 5, 6, 8, 9]),
        ('"y" >= 0 AND "x" > 5', [6, 8, 9]),
        ('"y" IS NULL', [2, 7]),
        ('"y" < 0 OR "x" = 2', [2]),
    ],
)
def test_null_drops_a_failed_row_where_a_predicate_is_not_true(world, predicate, kept):
    """As SQL's WHERE does with NULL; the failure stays counted."""
    first = stage(numbers(10), "m.picky", bad="2,7")
    execution = world.run(SqlStep(first, first_columns(), expr(predicate, "x", "y")), "null")
    assert execution.read_all().column("x").to_pylist() == kept
    assert execution.failed_rows == 2


def test_a_call_that_exits_fails_like_any_other(world):
    root = stage(numbers(10), "m.quits", bad=4, batch=4)
    execution = world.run(root, "null")
    assert execution.read_all().column("y").to_pylist() == [0, 1, 2, 3, None, 5, 6, 7, 8, 9]
    assert [failure.message for failure in execution.failures] == ["SystemExit: 3"]
    with pytest.raises(RunError, match="row 4: SystemExit: 3"):
        world.run(root).read_all()


def test_skip_drops_and_counts(world):
    root = stage(numbers(10), "m.picky", bad="2,7", batch=4)
    execution = world.run(root, "skip")
    assert execution.read_all().column("x").to_pylist() == [0, 1, 3, 4, 5, 6, 8, 9]
    assert execution.actuals[root.fingerprint].failed == 2


def test_a_batch_that_only_fails_as_a_whole_loses_nothing(world):
    root = stage(numbers(100), "m.picky", batch=32, together=5)
    assert world.run(root).read_all().column("y").to_pylist() == [2 * i for i in range(100)]


def test_a_value_that_does_not_fit_its_type_fails_its_row(world):
    with pytest.raises(RunError, match="row 0: output y is not a int64"):
        world.run(stage(numbers(3), "m.words")).read_all()


@pytest.mark.parametrize("on_error", ["fail", "null", "skip"])
@pytest.mark.parametrize("variant", ["short", "nameless"])
def test_outputs_of_the_wrong_shape_stop_the_run_and_name_the_variant(world, variant, on_error):
    with pytest.raises(RunError, match=f"m.{variant}") as caught:
        world.run(stage(numbers(10), f"m.{variant}"), on_error).read_all()
    assert caught.value.code == "OC0403"


def test_a_shared_node_runs_once(world):
    shared = stage(numbers(3000), batch=64)
    left = SqlStep(shared, first_columns(), expr('"x" % 2 = 0', "x"))
    right = SqlStep(shared, (NamedExpr("z", expr('"x"', "x"), "BIGINT"),))
    root = SqlResidual(
        (left, right),
        "SELECT in0.x, in0.y, in1.z FROM in0 JOIN in1 ON in0.x = in1.z ORDER BY in0.__row",
        (Field("x", "BIGINT"), Field("y", "BIGINT"), Field("z", "BIGINT")),
    )
    execution = world.run(root)
    table = execution.read_all()
    assert table.column("y").to_pylist() == [4 * i for i in range(1500)]
    assert execution.actuals[shared.fingerprint].elements == 3000


def test_a_residual_may_read_its_input_twice(world):
    sql = "SELECT a.x AS x, b.y AS y FROM in0 AS a JOIN in0 AS b ON a.x = b.x + 1 ORDER BY a.__row"
    root = SqlResidual((stage(numbers(100)),), sql, (Field("x", "BIGINT"), Field("y", "BIGINT")))
    assert world.run(root).read_all().to_pydict() == {
        "x": list(range(1, 100)),
        "y": [2 * i for i in range(99)],
    }


def test_stages_above_and_below_a_residual(world):
    total = SqlResidual(
        (stage(numbers(1000)),),
        "SELECT x % 10 AS k, sum(y)::BIGINT AS x FROM in0 GROUP BY 1 ORDER BY 1",
        (Field("k", "BIGINT"), Field("x", "BIGINT")),
    )
    table = world.run(stage(total, name="again")).read_all()
    assert table.column("again").to_pylist() == [
        2 * sum(2 * i for i in range(1000) if i % 10 == k) for k in range(10)
    ]


@pytest.mark.parametrize("on_error", ["fail", "null", "skip"])
def test_failures_below_a_residual(world, on_error):
    below = stage(numbers(1000), "m.picky", bad="700,300")
    root = SqlResidual(
        (below,),
        "SELECT count(*) AS n, count(y) AS k FROM in0",
        (Field("n", "BIGINT"), Field("k", "BIGINT")),
    )
    execution = world.run(root, on_error)
    if on_error == "fail":
        with pytest.raises(RunError, match="row 300"):
            execution.read_all()
    else:
        expected = {"null": [(1000, 998)], "skip": [(998, 998)]}[on_error]
        assert [tuple(r.values()) for r in execution.read_all().to_pylist()] == expected


def test_a_sql_error_while_running_is_typed(world):
    source = numbers(
        0,
        "SELECT CAST(CASE WHEN range = 5000 THEN 'x' ELSE '1' END AS BIGINT) AS x FROM range(9000)",
    )
    with pytest.raises(RunError) as caught:
        world.run(stage(source)).read_all()
    assert caught.value.code == "OC0407"
    step = SqlStep(
        stage(numbers(10)), (NamedExpr("z", expr("CAST('a' || \"y\" AS INTEGER)", "y"), "INTEGER"),)
    )
    with pytest.raises(RunError) as caught:
        world.run(step).read_all()
    assert caught.value.code == "OC0407"


def test_limit_stops_the_source_early(world):
    root = StopAfter(stage(numbers(10**9), batch=4), 10, 3)
    execution = world.run(root)
    assert execution.read_all().column("x").to_pylist() == list(range(3, 13))
    scanned = execution.actuals[root.input.input.fingerprint].rows_out
    assert scanned < 10**5
    assert world.run(StopAfter(stage(numbers(10)), 0)).read_all().num_rows == 0


def test_limit_below_a_residual(world):
    below = StopAfter(stage(numbers(10**9)), 100)
    root = SqlResidual((below,), "SELECT sum(y)::BIGINT AS s FROM in0", (Field("s", "BIGINT"),))
    assert world.run(root).read_all().to_pydict() == {"s": [9900]}


def test_an_execution_knows_what_it_did(world):
    scan = numbers(100)
    first = stage(scan, batch=10)
    root = SqlStep(first, first_columns(), expr('"y" < 50', "y"))
    execution = world.run(root)
    execution.read_all()
    actual = execution.actuals[first.fingerprint]
    assert (actual.rows_in, actual.rows_out, actual.calls, actual.elements, actual.failed) == (
        100,
        100,
        10,
        100,
        0,
    )
    assert actual.cost_usd == pytest.approx(actual.busy_seconds)
    assert actual.load_seconds > 0
    found = {(o.subject, o.metric, o.statistic): o for o in execution.observations()}
    assert found["y", "latency", "p95"].n == 10
    assert found["y", "latency", "p95"].batch == 10
    assert found[f"filter:{root.predicate.fingerprint}", "rate", "share"].value == 0.25
    assert execution.rows_done == 25


@pytest.mark.parametrize("on_error", ["fail", "null", "skip"])
def test_a_failed_input_that_was_called_once_fails_all_its_rows(world, on_error):
    """What deduplication lowers to, beside another call whose outputs a failed row loses too."""
    source = numbers(0, "SELECT range % 7 AS x FROM range(50) WHERE range > 2")
    other = stage(source, name="z")
    distinct = SqlResidual(
        (other,),
        'SELECT "x", min(__row) AS __row, bool_and(__failed) AS __failed FROM in0 '
        'GROUP BY "x" ORDER BY min(__row)',
        (Field("x", "BIGINT"),),
    )
    once = stage(distinct, "m.picky", bad="2,6")
    root = SqlResidual(
        (other, once),
        'SELECT l."x", l."z", r."y", l.__row AS __row, (l.__failed OR r.__failed) AS __failed '
        'FROM in0 AS l JOIN in1 AS r ON l."x" IS NOT DISTINCT FROM r."x" ORDER BY l.__row',
        (Field("x", "BIGINT"), Field("z", "BIGINT"), Field("y", "BIGINT")),
    )
    execution = world.run(root, on_error)
    xs = [i % 7 for i in range(3, 50)]
    if on_error == "fail":
        with pytest.raises(RunError, match="row 3: ValueError: bad 6"):
            execution.read_all()
        return
    rows = [tuple(row.values()) for row in execution.read_all().to_pylist()]
    lost = {"null": lambda x: [(x, None, None)], "skip": lambda x: []}[on_error]
    assert rows == [r for x in xs for r in (lost(x) if x in (2, 6) else [(x, 2 * x, 2 * x)])]
    assert [f.row for f in execution.failures] == [3, 6]
    assert execution.actuals[once.fingerprint].elements == 7
    assert execution.actuals[root.fingerprint].failed == sum(x in (2, 6) for x in xs)
