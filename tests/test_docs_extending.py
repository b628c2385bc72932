"""The backend, the metric and the rule of `docs/extending.md` work where the page plugs them in."""

import __future__

import re
import sys
import types
from pathlib import Path

import octans
import pytest
from octans.executor import kinds, slots
from octans.planner.rewrite import rewrite
from octans.stats import metrics
from rule_world import World, plan_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "extending.md"
EXAMPLE = re.compile(r"^```python (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def example():
    """The code that the page gives for a file, as a module where that file would be."""
    sources = dict(EXAMPLE.findall(PAGE.read_text(encoding="utf-8")))

    def load(path, **names):
        dotted = "octans." + path.removesuffix(".py").replace("/", ".")
        module = types.ModuleType(dotted)
        module.__package__ = dotted.rpartition(".")[0]
        vars(module).update(names)
        flags = __future__.annotations.compiler_flag  # as in every module of ours
        exec(compile(sources[path], f"{PAGE.name}: {path}", "exec", flags), vars(module))
        return module

    return load


def test_the_backend_answers(example, monkeypatch):
    backend = example("executor/backends/sql.py").SqlBackend()
    known = slots.backend_for
    monkeypatch.setattr(slots, "backend_for", lambda k: backend if k == "sql" else known(k))
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, "sql"))
    with octans.connect() as session:
        session.sql(
            """
            CREATE MODEL shout (name VARCHAR) RETURNS (loud VARCHAR) QUALITY exact_match(loud);
            CREATE VARIANT shout.upper USING sql('upper(name)') BASE;
            CREATE VARIANT shout.quiet USING sql('lower(name)');
            CREATE VARIANT shout.wrong USING sql('no_such_function(name)');
            ANALYZE MODEL shout USING (SELECT 'n' || i AS name FROM range(100) t(i));
            """
        )
        found = session.sql(
            "SELECT shout('ada ' || i) FROM range(3) t(i) WITH SLO (accuracy >= 0.9)"
        ).fetchall()
    assert found == [("ADA 0",), ("ADA 1",), ("ADA 2",)]


def test_the_transform_builds(example, monkeypatch, tmp_path):
    import skops.io
    from octans.dsl.binding import derivations
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    module = example("executor/derive/sklearn_clip.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(derivations.TRANSFORMS, "clip", (lambda v: isinstance(v, float), "a limit"))
    monkeypatch.setitem(kinds.TRANSFORMS["sklearn"], "clip", ())
    estimator = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    skops.io.dump(estimator, tmp_path / "iris.skops")
    with octans.connect(base_dir=tmp_path) as session:
        session.sql(
            """
            CREATE MODEL iris (x FLOAT[4]) RETURNS (kind INTEGER);
            CREATE VARIANT iris.lin USING sklearn('iris.skops');
            CREATE VARIANT iris.clipped FROM iris.lin BY CLIP(0.5);
            """
        )
        made = skops.io.load(session.catalog.variant("iris.clipped").backend.target)
    assert abs(estimator.coef_).max() > 0.5
    assert abs(made.coef_).max() == 0.5


def test_the_metric_scores(example, monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    example("stats/metrics.py", **{k: v for k, v in vars(metrics).items() if k[:2] != "__"})
    assert "jaccard" in metrics.METRICS
    summaries = types.ModuleType("summaries")
    summaries.first = lambda: lambda batch: [t.as_py().split()[0] for t in batch.column("text")]
    monkeypatch.setitem(sys.modules, "summaries", summaries)
    with octans.connect() as session:
        session.sql(
            """
            CREATE MODEL sum_up (text VARCHAR) RETURNS (gist VARCHAR) QUALITY jaccard(gist);
            CREATE VARIANT sum_up.first USING python('summaries:first') BASE;
            """
        )
        session.sql(
            "ANALYZE MODEL sum_up USING (SELECT 'a b c' AS text, 'a b c' AS gist FROM range(50)) "
            "LABELS (gist := gist)"
        )
        found = session.sql(
            "SELECT value FROM octans.statistics WHERE metric = 'quality'"
        ).fetchall()
    assert found == [(pytest.approx(1 / 3),)], "one word said, three meant"


@pytest.fixture(scope="module")
def world():
    return World()


TWO_LIMITS = """
source t: id BIGINT, x BIGINT
call digits = classify("x")
limit 9 offset 2
limit {}
"""


@pytest.mark.parametrize(("upper", "fires"), [("4", True), ("20", True), ("4 offset 1", False)])
def test_the_rule_keeps_the_rows(example, world, upper, fires):
    rule = example("planner/rules/merge_limits.py").merge_limits
    plan, context = plan_of(TWO_LIMITS.format(upper))
    rewritten, trace = rewrite(plan, context, (rule,))
    assert [entry.outcome for entry in trace] == (["applied"] if fires else ["unchanged"])
    assert world.naive(rewritten)[0] == world.naive(plan)[0]
