"""Hand-made explanations that the renderers' tests print; run me to rewrite their snapshots."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from octans.ir.estimates import Cost, Estimate
from octans.ir.explain import (
    ExplainNode,
    Explanation,
    NodeActuals,
    PlanSummary,
    QError,
    Verdict,
)
from octans.ir.physical import Choice
from octans.ir.slo import Constraint
from octans.planner.explain.text import to_text

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
SNAPSHOTS = Path(__file__).parent / "explain"


def measured(value, low=None, high=None, n=450, source="measured", minutes=3):
    """An estimate measured some minutes ago."""
    at = NOW - timedelta(minutes=minutes)
    low = value if low is None else low
    return Estimate(value, low, value if high is None else high, n, source, at)


def counted(value):
    """A number known exactly."""
    return Estimate(value, value, value, 0)


FOREST = Choice("classify.forest", (("trees", 100),), 64, "cpu")
NODES = (
    ExplainNode(
        "n0", "scan", "scan", ("SELECT id, strip FROM read_parquet('strips.parquet')",),
        rows=counted(5000),
    ),
    ExplainNode(
        "n1", "stage", "read_amount.glyphs", ("segment(\"strip\") → glyphs",),
        Choice("segment.cv", (), 256, "cpu"), counted(5000), measured(1.2, 1.1, 1.3),
        measured(0.00003, 0.000028, 0.000032), None, ("n0",),
    ),
    ExplainNode(
        "n2", "stage", "read_amount.digits", ('classify(EACH "glyphs") → digit, confidence',),
        FOREST, counted(5000), measured(123, 119, 128), measured(0.0021, 0.0020, 0.0022),
        measured(0.962, 0.948, 0.973), ("n1",), marks=("costliest",),
    ),
    ExplainNode(
        "n3", "step", "filter", ('keep "amount" > 100',),
        rows=measured(1200, 1000, 1500, 120, "modelled"), inputs=("n2",),
    ),
    ExplainNode("n4", "sql", "sql", ("SELECT … FROM in0 JOIN in1 …",), inputs=("n3", "n2")),
)  # fmt: skip
TOTALS = Cost(
    cost=measured(4.3e-7, 4.1e-7, 4.6e-7),
    latency_p95=measured(0.0123, 0.0119, 0.0128, source="modelled"),
    accuracy=measured(0.962, 0.948, 0.973),
    wall=measured(130, 120, 140, source="modelled"),
    total_cost=measured(0.00215, 0.002, 0.0023),
    rows=counted(5000),
)
ACCURATE = Cost(cost=measured(4.9e-7), accuracy=measured(0.97), latency_p95=measured(0.02))
CHEAP = Cost(cost=measured(1e-8), accuracy=measured(0.80), latency_p95=measured(0.0005))


def explained():
    """EXPLAIN of a small pipeline with a shared node and something unknown everywhere."""
    return Explanation(
        query="SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet') "
        "WITH SLO (accuracy >= 0.95 AT CONFIDENCE 0.95, latency_p95 <= 20 ms) MINIMIZE cost",
        nodes=NODES,
        totals=TOTALS,
        objective="MINIMIZE cost",
        verdicts=(
            Verdict(
                Constraint("accuracy", ">=", 0.95, confidence=0.95),
                "accuracy >= 0.95 AT CONFIDENCE 0.95", TOTALS.accuracy, True,
                "proved on 400 held-back rows",
            ),
            Verdict(
                Constraint("latency_p95", "<=", 0.01), "latency_p95 <= 10 ms",
                TOTALS.latency_p95, False, "no guarantee",
            ),
            Verdict(
                Constraint("latency_p95", "<=", 0.02, model="classify"),
                "latency_p95(classify) <= 20 ms", None, None,
            ),
        ),
        ends=(
            PlanSummary("cheapest", "", CHEAP, "misses accuracy >= 0.95"),
            PlanSummary("most accurate", "", ACCURATE),
        ),
        runner_up=PlanSummary(
            "runner-up", "VARIANT(digits classify.mlp)", ACCURATE,
            "lost by cost $4.90e-7 against $4.30e-7, +14 %",
            ("digits: classify.mlp · batch 64 · cpu instead of classify.forest (trees := 100)",),
        ),
        flips=("read_amount.digits becomes 14 % dearer (cost): then classify.mlp",),
        frontier=(PlanSummary("plan 1", "", CHEAP), PlanSummary("plan 2", "", ACCURATE)),
        epsilon=0.01,
        advice="VARIANT(digits classify.forest trees=100) BATCH(digits 64) DEVICE(digits cpu)",
        why_not=("classify.svm for read_amount.digits: excluded: no statistics",),
        notes=("classify.knn has no statistics: run ANALYZE PIPELINE read_amount USING (…)",),
        fingerprint="abcdef0123456789abcdef0123456789",
        planning_seconds=0.0042,
        at=NOW,
    )  # fmt: skip


def analyzed():
    """The same after EXPLAIN ANALYZE."""
    plan = explained()
    scan, glyphs, digits, keep, sql = plan.nodes
    return replace(
        plan,
        nodes=(
            replace(scan, actuals=NodeActuals(5000, 5000), q_rows=QError(1.0, 1.0, 1.0)),
            replace(
                glyphs,
                actuals=NodeActuals(5000, 5000, 20, 5000, 1.25, 0.003, 0.1, 0, 0, 0.07, 0.000031),
                q_rows=QError(1.0, 1.0, 1.0),
                q_seconds=QError(1.04, 1.04, 1.0),
            ),
            replace(
                digits,
                actuals=NodeActuals(
                    5000,
                    4998,
                    470,
                    30000,
                    140.0,
                    2.0,
                    0.4,
                    2,
                    12,
                    0.31,
                    0.0024,
                    unload_seconds=0.002,
                    energy_joules=2800.0,
                    energy_source="rapl, split",
                ),
                energy=measured(3100.0),
                energy_source="rapl at batch 64",
                q_energy=QError(1.11, 1.11, 1.0),
                q_rows=QError(1.0, 1.0, 1.0),
                q_seconds=QError(1.14, 1.14, 1.0),
            ),
            replace(
                keep,
                actuals=NodeActuals(4998, 600),
                q_rows=QError(2.0, 1.98, 1.01),
                marks=("worst estimated",),
            ),
            replace(sql, actuals=NodeActuals(5598, 600)),
        ),
        actual_totals=Cost(
            rows=counted(5010), cost=measured(4.9e-7), accuracy=measured(0.957), wall=measured(150)
        ),
        actual_rows=600,
        failures=("row 17: read_amount.glyphs: bad strip",),
    )


SAMPLES = {"explain": explained, "analyze": analyzed}

if __name__ == "__main__":
    for name, make in SAMPLES.items():
        (SNAPSHOTS / f"{name}.txt").write_text(to_text(make()) + "\n", encoding="utf-8")
