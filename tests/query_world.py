"""Queries over the binder's test catalog, bound, rewritten and run: naively, and by the engine."""

from binding_catalog import NAIVE, demo_catalog
from naive import Naive
from octans.dsl.binder import bind_select
from octans.dsl.parser import parse_one
from octans.executor.engine import run
from octans.executor.environment import Environment
from octans.ir.models import Backend, Device, Variant
from octans.ir.physical import Choice
from octans.planner.lower import lower
from octans.planner.rewrite import rewrite
from octans.planner.rules import RuleContext
from octans.planner.steps import steps


def factory(model):
    """A `python` backend's factory for the naive model of that name."""
    naive = NAIVE[model]

    def call(batch):
        answers = [naive(row) for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]
        return {name: [answer[i] for answer in answers] for i, name in enumerate(naive.outputs)}

    return call


class Query:
    """One bound query."""

    def __init__(self, text, disabled=frozenset()):
        self.catalog = demo_catalog()
        self.bound = bind_select(parse_one(text), self.catalog)
        self.models = {model.name: model for model in self.catalog.models()}
        context = RuleContext(models=self.models, on_error=self.bound.on_error, disabled=disabled)
        self.rewritten, trace = rewrite(self.bound.plan, context)
        self.applied = {entry.rule for entry in trace if entry.outcome == "applied"}

    def naive(self, plan):
        """The plan's rows, and how many calls it made."""
        naive = Naive(self.catalog.connection.cursor(), NAIVE)
        return naive.rows(plan), sum(naive.calls.values())

    def real(self):
        """The rewritten plan's rows, lowered and run by the engine."""
        choices = {s.key: Choice(f"{s.model}.v", (), 3) for s in steps(self.rewritten)}
        backends = {m: Backend("python", "query_world:factory", (("model", m),)) for m in NAIVE}
        variants = {f"{m}.v": Variant(m, "v", backend) for m, backend in backends.items()}
        cpu = {"cpu": Device("cpu", "cpu", 2, 1)}
        env = Environment(self.catalog.connection.cursor, self.models, variants, cpu)
        plan = lower(self.rewritten, choices, self.models, self.bound.on_error)
        table = run(plan, env).read_all()
        return list(zip(*(c.to_pylist() for c in table.columns), strict=True))
