"""Problems built from plans: composition as the language defines it, exclusions with reasons."""

import itertools
import math
from dataclasses import dataclass, field

import pytest
from octans.errors import PlanError
from octans.ir.estimates import Estimate
from octans.ir.logical import Apply, Each, Filter, ModelCall, Source, When
from octans.ir.models import Device, KnobDomain, Metric, Model, Variant
from octans.ir.slo import Constraint, Objective, Slo
from octans.ir.types import Field, NamedExpr, SqlExpr
from octans.planner.objectives import FIRST
from octans.planner.options import Missing, missing_notes
from octans.planner.problem import FREE, build_problem
from octans.planner.search.exact import Infeasible, Solution, solve
from octans.planner.steps import filter_subject


def exact(value):
    return Estimate(value, value, value, 100)


def around(value):
    return Estimate(value, value * 0.9, min(value * 1.1, 1.0) if value <= 1 else value * 1.1, 100)


@dataclass
class FakeStats:
    """Statistics by key; every number has an interval of ±10 %."""

    seconds: dict = field(default_factory=dict)
    qualities: dict = field(default_factory=dict)
    rates: dict = field(default_factory=dict)
    pmf: dict = field(default_factory=dict)
    memories: dict = field(default_factory=dict)
    whole: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)
    energies: dict = field(default_factory=dict)
    lost: dict = field(default_factory=dict)
    joints: dict = field(default_factory=dict)
    rows_right: dict = field(default_factory=dict)

    def batches(self, context, variant, knobs, device):
        found = [b for v, k, d, b in self.seconds if (v, k, d) == (variant, knobs, device)]
        return tuple(sorted(found))

    def latency(self, context, variant, knobs, device, batch, statistic):
        value = self.seconds.get((variant, knobs, device, batch))
        grow = {"mean": 1.0, "p50": 0.9, "p90": 1.2, "p95": 1.4, "p99": 2.0}[statistic]
        return None if value is None else around(value * grow)

    def quality(self, context, variant, knobs, given=None):
        value = self.qualities.get((variant, knobs, given), self.qualities.get((variant, knobs)))
        return None if value is None else around(value)

    def failure(self, context, variant, knobs, device, batch=None):
        return self.failures.get(variant)

    def failure_seconds(self, context, variant, knobs, device, batch):
        value = self.lost.get((variant, knobs, device, batch))
        return None if value is None else around(value)

    def row_quality(self, context, variant, knobs):
        return self.rows_right.get((context, variant, knobs))

    def cascades(self, context, model):
        return ()

    def detection(self, context, variant, knobs, metric):
        return None

    def partners(self, context):
        return tuple(dict.fromkeys(one[0] for one, other in self.joints if other[0] == context))

    def joint(self, first, second):
        return self.joints.get((first, second))

    def memory(self, context, variant, knobs, device):
        value = self.memories.get(variant)
        return None if value is None else exact(value)

    def load(self, context, variant, knobs, device):
        return None

    def energy(self, context, variant, knobs, device, batch):
        joules = self.energies.get((variant, knobs, device, batch))
        return None if joules is None else (around(joules), "rapl")

    def tokens(self, context, variant, knobs):
        return None

    def rate(self, context, given=None):
        value = self.rates.get((context, given), self.rates.get(context))
        return None if value is None else around(value)

    def lengths(self, context):
        return self.pmf.get(context)

    def length_n(self, context):
        return 100

    def distinct(self, context):
        return None

    def end_to_end(self, subject):
        return self.whole.get(subject, {})


def column(name):
    return SqlExpr(f'"{name}"', (name,))


def source(*names):
    return Source("t", tuple(NamedExpr(n, column(n), "BLOB") for n in names))


GRADED = Metric("exact_match", "digit")
EASY = Model("easy", (Field("x", "BLOB"),), (Field("digit", "INTEGER"),), GRADED)
HARD = Model("hard", (Field("x", "BLOB"),), (Field("digit", "INTEGER"),), GRADED)
MODELS = {"easy": EASY, "hard": HARD}
VARIANTS = {
    "easy": (
        Variant("easy", "a", None, base=True),
        Variant("easy", "b", None, knobs=(KnobDomain("trees", (10, 100)),)),
    ),
    "hard": (Variant("hard", "c", None), Variant("hard", "d", None)),
}
CPU = Device("cpu", "cpu", count=2, usd_per_hour=3600.0, power_watts=10.0)


def cascade():
    """digits := easy(EACH xs); again := hard(EACH xs) WHEN not ok(digits), standing in for it."""
    first = Apply(
        source("xs"),
        Each(ModelCall("easy", (column("xs"),), "p.digits"), (True,)),
        (Field("digits", "INTEGER[]"),),
    )
    return Apply(
        first,
        When(
            column("digits"),
            Each(ModelCall("hard", (column("xs"),), "p.again"), (True,)),
            ("p.digits",),
        ),
        (Field("again", "INTEGER[]"),),
    )


def cascade_stats():
    stats = FakeStats(pmf={"p.digits": ((1, 0.5), (4, 0.5)), "p.again": ((1, 0.5), (4, 0.5))})
    for variant, knobs, seconds, quality in [
        ("easy.a", "", 0.01, 0.9),
        ("easy.b", "trees := 10", 0.001, 0.7),
        ("easy.b", "trees := 100", 0.004, 0.8),
        ("hard.c", "", 0.1, 0.95),
        ("hard.d", "", 0.2, 0.99),
    ]:
        for batch in (1, 8):
            stats.seconds[(variant, knobs, "cpu", batch)] = seconds * batch**0.5
        stats.qualities[(variant, knobs)] = quality
        given = ("p.digits", variant, knobs)
        if variant.startswith("easy"):
            stats.rates[("p.again", given)] = 1.0 - quality
            stats.qualities[(variant, knobs, given)] = min(quality + 0.05, 1.0)
            stats.qualities[("hard.c", "", given)] = 0.85
    return stats


def build(plan, stats, slo=None, **kwargs):
    kwargs.setdefault("devices", (CPU,))
    kwargs.setdefault("rows", exact(1000.0))
    slo = slo if slo is not None else Slo((Constraint("accuracy", ">=", 0.5),))
    return build_problem(plan, slo=slo, stats=stats, models=MODELS, variants=VARIANTS, **kwargs)


def in_calls(elements, batch, one, full):
    """Seconds of full calls of `batch`, and of one of the rest on the line from 1 to `batch`."""
    calls = math.floor(elements / batch)
    rest = elements - calls * batch
    last = one if batch == 1 else one + (max(rest, 1) - 1) / (batch - 1) * (full - one)
    return calls * full + min(rest, 1) * last


def test_cascade_composes_as_the_language_says():
    stats = cascade_stats()
    built = build(cascade(), stats)
    for assignment in itertools.product(*(range(s.size) for s in built.problem.stages)):
        choices = built.choices(assignment)
        first, second = choices["p.digits"], choices["p.again"]
        text = {"easy.a": "", "hard.c": "", "hard.d": ""}
        knobs = text.get(first.variant, f"trees := {dict(first.knobs).get('trees')}")
        given = ("p.digits", first.variant, knobs)
        rate = stats.rates[("p.again", given)]
        t1 = stats.seconds[(first.variant, knobs, "cpu", first.batch)]
        t2 = stats.seconds[(second.variant, "", "cpu", second.batch)]
        s1 = stats.seconds[(first.variant, knobs, "cpu", 1)]
        s2 = stats.seconds[(second.variant, "", "cpu", 1)]
        cost = in_calls(2500, first.batch, s1, t1) + in_calls(rate * 2500, second.batch, s2, t2)
        cost /= 1000
        assert built.problem.value("cost", assignment) == pytest.approx(cost)
        q1 = stats.qualities[(first.variant, knobs, given)]
        q2 = stats.qualities.get((second.variant, "", given), stats.qualities[(second.variant, "")])
        accuracy = (1 - rate) * (q1 + q1**4) / 2 + rate * (q2 + q2**4) / 2
        assert math.exp(-built.problem.value("loss", assignment)) == pytest.approx(accuracy)


@pytest.mark.parametrize("rows", [1.0, 3.0, 1000.0])
def test_estimates_agree_with_the_tables_the_search_ran_on(rows):
    built = build(
        cascade(),
        cascade_stats(),
        Slo(
            (
                Constraint("latency_p50", "<=", 100.0),
                Constraint("throughput", ">=", 1e-9),
                Constraint("energy", "<=", 1e9),
                Constraint("wall", "<=", 1e9),
            )
        ),
        rows=exact(rows),
    )
    for assignment in itertools.product(*(range(s.size) for s in built.problem.stages)):
        cost, steps = built.cost(assignment)
        value = built.problem.value
        assert cost.cost.value == pytest.approx(value("cost", assignment))
        assert cost.energy.value == pytest.approx(value("energy", assignment))
        assert cost.latency_p95.value == pytest.approx(value("latency_p95", assignment))
        assert cost.latency_p50.value == pytest.approx(value("latency_p50", assignment))
        assert cost.accuracy.value == pytest.approx(math.exp(-value("loss", assignment)))
        pace = max(value(dim, assignment) for dim in ("busy:cpu", "busy@0", "busy@1"))
        assert 1.0 / cost.throughput.value == pytest.approx(pace)
        wall = max(value(dim, assignment) for dim in ("wall:cpu", "wall@0", "wall@1", FIRST))
        assert cost.wall.value == pytest.approx(wall)
        assert set(steps) == {"p.digits", "p.again"}
        for estimate in (cost.cost, cost.accuracy, cost.latency_p95):
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.low < estimate.high
            assert estimate.n == 100


def test_filter_selectivity_scales_what_is_above_it():
    predicate = SqlExpr('"digit" = 3', ("digit",))
    low = Apply(source("x"), ModelCall("easy", (column("x"),), "easy"), (Field("digit", "INT"),))
    plan = Apply(
        Filter(low, predicate),
        ModelCall("hard", (column("x"),), "hard"),
        (Field("again", "INT"),),
    )
    stats = cascade_stats()
    unfiltered = build(plan, stats)
    assert any("selectivity" in note for note in unfiltered.notes)
    stats.rates[filter_subject(predicate)] = 0.25
    built = build(plan, stats)
    one = (0, 0)
    first = built.problem.entries("cost", one)
    before = unfiltered.problem.entries("cost", one)
    assert first[0] == pytest.approx(before[0])
    assert first[1] == pytest.approx(before[1] * 0.25)
    assert math.exp(-built.problem.entries("loss", one)[1]) == pytest.approx(0.75 + 0.25 * 0.95)


def test_end_to_end_measurement_beats_composition():
    stats = cascade_stats()
    stats.whole["p"] = {
        "p.again=hard.d();p.digits=easy.b(trees := 10)": {"accuracy": around(0.999)},
        "p.again=gone.x();p.digits=easy.b(trees := 10)": {"accuracy": around(0.1)},
    }
    built = build(cascade(), stats, Slo((Constraint("accuracy", ">=", 0.99),)))
    best = solve(built.problem)
    assert isinstance(best, Solution)
    chosen = built.choices(best.assignment)
    assert (chosen["p.digits"].variant, chosen["p.again"].variant) == ("easy.b", "hard.d")
    assert built.cost(best.assignment)[0].accuracy.value == 0.999


def test_what_is_left_out_is_said():
    stats = cascade_stats()
    for key in [k for k in stats.seconds if k[0] == "hard.d"]:
        del stats.seconds[key]
    stats.memories = {"easy.a": 50.0, "easy.b": 5.0, "hard.c": 3.0}
    stats.failures["easy.a"] = exact(0.0)
    small = CPU.replace(memory_bytes=10)
    built = build(cascade(), stats, devices=(small,))
    codes = {(e.variant, e.code) for e in built.excluded}
    assert codes == {("easy.a", "memory"), ("hard.d", "no_statistics")}
    assert [m.variant for m in built.missing] == ["hard.d"]
    assert "ANALYZE PIPELINE p" in built.missing[0].statement


def test_capacity_binds_over_stages():
    stats = cascade_stats()
    stats.memories = {"easy.a": 5.0, "easy.b": 5.0, "hard.c": 3.0, "hard.d": 8.0}
    small = CPU.replace(memory_bytes=10)
    built = build(cascade(), stats, Slo((Constraint("accuracy", ">=", 0.1),)), devices=(small,))
    for assignment in itertools.product(*(range(s.size) for s in built.problem.stages)):
        hard = built.choices(assignment)["p.again"].variant == "hard.d"
        assert (built.problem.key(assignment) == math.inf) == hard


def test_no_statistics_at_all_names_the_analyze():
    with pytest.raises(PlanError) as caught:
        build(cascade(), FakeStats())
    assert caught.value.code == "OC0310"
    assert "ANALYZE PIPELINE p" in caught.value.hint


@pytest.mark.parametrize(
    ("count", "named"),
    [(1, " (n := 0)"), (3, " (n := 0; n := 1; n := 2)"),
     (5, " (n := 0; n := 1; n := 2 and 2 others)")],
)  # fmt: skip
def test_settings_of_a_variant_without_statistics_are_one_line(count, named):
    alone = Missing("k", "m.plain", (), "ANALYZE MODEL m USING (…)")
    many = [Missing("k", "m.v", (("n", at),), "ANALYZE MODEL m USING (…)") for at in range(count)]
    again = Missing("another", "m.plain", (), "ANALYZE MODEL m USING (…)")
    assert missing_notes([alone, *many, again]) == (
        f"k: m.plain, m.v{named} have no statistics: run ANALYZE MODEL m USING (…)",
        "another: m.plain has no statistics: run ANALYZE MODEL m USING (…)",
    )


def test_hundreds_of_variants_without_statistics_are_one_line_a_step_and_reason():
    """What a search left out on purpose is told apart from what nobody ever looked at."""
    statement = "ANALYZE PIPELINE p USING (…)"
    missing = [
        Missing(key, f"m.v{at}", (), statement) for at in range(300) for key in ("first", "m")
    ]
    assert missing_notes(missing) == (
        f"first: m.v0, m.v1, m.v2 and 297 others have no statistics: run {statement}",
        f"m.v0, m.v1, m.v2 and 297 others have no statistics: run {statement}",
    )
    here = [one for one in missing if one.key == "first"]
    assert missing_notes(here, lambda one: None if one.variant == "m.v7" else "left out") == (
        f"first: m.v0, m.v1, m.v2 and 296 others have no statistics: left out; run {statement}",
        f"first: m.v7 has no statistics: run {statement}",
    )


def test_unplannable_objectives_are_refused():
    for slo in (
        Slo((), Objective("accuracy", False)),
        Slo((Constraint("ttft_p95", "<=", 1.0),)),
        Slo((Constraint("accuracy", "<=", 0.5),)),
    ):
        with pytest.raises(PlanError) as caught:
            build(cascade(), cascade_stats(), slo)
        assert caught.value.code == "OC0311"


def test_constraint_on_one_model_filters_its_options():
    slo = Slo((Constraint("accuracy", ">=", 0.75, model="easy"),))
    built = build(cascade(), cascade_stats(), slo)
    names = {str(c.knobs) for c in built.stages[0].choices}
    assert "(('trees', 10),)" not in names
    assert any(e.code == "limit" for e in built.excluded)


def test_infeasible_names_the_binding_limit_and_what_is_nearest():
    slo = Slo((Constraint("accuracy", ">=", 0.999), Constraint("cost", "<=", 0.1)))
    built = build(cascade(), cascade_stats(), slo)
    found = solve(built.problem)
    assert isinstance(found, Infeasible)
    accuracy = next(n for n in found.nearest if built.problem.limits[n.limit].constraint == 0)
    assert accuracy.held is not None
    assert accuracy.ends is not None
    held = built.cost(accuracy.held.assignment)[0]
    ends = built.cost(accuracy.ends.assignment)[0]
    assert held.cost.value <= 0.1
    assert held.accuracy.value <= ends.accuracy.value < 0.999


def test_a_stricter_slo_never_lowers_the_cost():
    last = 0.0
    for least in [0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85]:
        slo = Slo((Constraint("accuracy", ">=", least),))
        built = build(cascade(), cascade_stats(), slo)
        found = solve(built.problem)
        if isinstance(found, Infeasible):
            last = math.inf
            continue
        assert found.key >= last
        last = found.key


def test_costs_scale_with_prices():
    keys = []
    for price in (1.0, 7.0):
        device = CPU.replace(usd_per_hour=3600.0 * price)
        built = build(cascade(), cascade_stats(), devices=(device,))
        found = solve(built.problem)
        keys.append(found.key)
    assert keys[1] == pytest.approx(7.0 * keys[0])


def test_one_row_is_not_part_of_a_batch():
    """A variant that takes 0.2 s a call, whatever the batch, does not answer one row in 1.6 ms."""
    stats = FakeStats()
    for batch in (1, 8, 128):
        stats.seconds[("easy.a", "", "cpu", batch)] = 0.2
        stats.seconds[("easy.b", "trees := 10", "cpu", batch)] = 0.003 * batch
    call = ModelCall("easy", (column("x"),), "easy")
    plan = Apply(source("x"), call, (Field("digit", "INT"),))

    def best(rows, *limits):
        built = build(plan, stats, Slo(limits), rows=exact(rows))
        found = solve(built.problem)
        if isinstance(found, Infeasible):
            return None, None
        return built.choices(found.assignment)["easy"], built.cost(found.assignment)[0]

    wall = Constraint("wall", "<=", 0.05)
    choice, cost = best(1.0, wall)
    assert choice.variant == "easy.b"
    assert cost.wall.value == pytest.approx(0.003)
    choice, cost = best(10_000.0)
    assert (choice.variant, choice.batch) == ("easy.a", 128)
    assert cost.total_cost.value == pytest.approx(0.2 * math.ceil(10_000 / 128))
    stats.seconds = {key: t for key, t in stats.seconds.items() if key[0] == "easy.a"}
    assert best(1.0, wall) == (None, None)
    assert best(1.0)[1].wall.value == pytest.approx(0.2)


def test_one_row_goes_through_all_stages_one_after_the_other():
    """Two slots are no use to it: the second stage has nothing to call before the first is done."""
    stats = FakeStats()
    for variant, seconds in (("easy.a", 0.2), ("hard.c", 0.1)):
        for batch in (1, 8):
            stats.seconds[(variant, "", "cpu", batch)] = seconds
    low = Apply(source("x"), ModelCall("easy", (column("x"),), "easy"), (Field("digit", "INT"),))
    plan = Apply(low, ModelCall("hard", (column("digit"),), "hard"), (Field("again", "INT"),))

    def wall(rows):
        built = build(plan, stats, Slo((), Objective("wall")), rows=exact(rows))
        found = solve(built.problem)
        cost = built.cost(found.assignment)[0]
        assert cost.wall.value == pytest.approx(found.key)
        return cost.wall.value

    assert wall(1.0) == pytest.approx(0.3)
    assert wall(8000.0) == pytest.approx(1000 * 0.2), "the other slot keeps up with the slower one"


def test_where_nothing_costs_anything_slot_seconds_decide_and_it_is_said():
    """MINIMIZE cost is a tie between all plans of the SLO; the first of them is not as good."""
    free = build(cascade(), cascade_stats(), devices=(CPU.replace(usd_per_hour=0.0),))
    priced = build(cascade(), cascade_stats())
    assert FREE in free.notes
    assert FREE not in priced.notes
    found = solve(free.problem)
    assert found.key == 0.0
    assert found.assignment == solve(priced.problem).assignment
    assert {choice.batch for choice in free.choices(found.assignment).values()} == {8}
    fastest = build(
        cascade(), cascade_stats(), Slo((), Objective("latency_p95")),
        devices=(CPU.replace(usd_per_hour=0.0),),
    )  # fmt: skip
    assert FREE not in fastest.notes, "latency tells the plans apart"


def test_a_limit_on_one_model_is_held_against_the_calls_that_few_rows_make():
    slo = Slo((Constraint("latency_p95", "<=", 0.02, model="easy"),))
    stats = FakeStats()
    for batch in (1, 8):
        stats.seconds[("easy.a", "", "cpu", batch)] = 0.01 * batch
    call = ModelCall("easy", (column("x"),), "easy")
    plan = Apply(source("x"), call, (Field("digit", "INT"),))
    few, many = (build(plan, stats, slo, rows=exact(rows)) for rows in (1.0, 1000.0))
    assert [choice.batch for choice in few.stages[0].choices] == [1, 8]
    assert [choice.batch for choice in many.stages[0].choices] == [1]
