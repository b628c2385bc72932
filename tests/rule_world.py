"""A small world for rules: tables, models, a notation for plans, and two ways to run them.

The notation is a pipe, one node a line:

    source t: id BIGINT, x BIGINT          rows of the table t
    call digits = classify("x") when "x" > 1       a step; EACH and @context as in a pipeline
    filter "digits.digit" = 3
    project id, y BIGINT := "x" + 1
    sort "x" desc, "id"          distinct          limit 10 offset 2
    as a                                   names the plan so far and starts anew; `with a` resumes
    join inner a on "x" = "k"              the named plan on the left, the current one on the right
    residual BIGINT total: SELECT …        over in0, aggregated
    stats keeps 0.1 "digits.digit" = 3     what is known: keeps, seconds, distinct
    on_error skip
"""

import re
import shlex
from dataclasses import dataclass, field

import duckdb
from naive import Naive, NaiveModel
from octans.executor.engine import run
from octans.executor.environment import Environment
from octans.ir.logical import (
    Apply,
    Distinct,
    Each,
    Filter,
    Join,
    Limit,
    ModelCall,
    Order,
    Project,
    Residual,
    Sort,
    Source,
    When,
)
from octans.ir.models import Backend, Device, Model, Variant
from octans.ir.physical import Choice
from octans.ir.types import Field, NamedExpr, SqlExpr, column, field_named
from octans.planner.lower import lower
from octans.planner.rules import RuleContext
from octans.planner.steps import filter_subject, steps

TABLES = """
CREATE TABLE t AS SELECT i AS id, i * 7 % 11 AS x,
  CASE WHEN i % 9 = 4 THEN NULL ELSE i % 5 END AS g, 'name ' || (i * 3 % 7) AS s
  FROM range(40) r(i);
CREATE TABLE u AS SELECT i AS k, 'label ' || i AS label FROM range(0, 12, 2) r(i);
"""

MODELS = {
    "classify": Model(
        "classify",
        (Field("x", "BIGINT"),),
        (Field("digit", "BIGINT"), Field("confidence", "DOUBLE")),
    ),
    "rate": Model("rate", (Field("s", "VARCHAR"),), (Field("score", "BIGINT"),)),
    "pair": Model("pair", (Field("a", "BIGINT"), Field("b", "BIGINT")), (Field("sum", "BIGINT"),)),
    "parts": Model("parts", (Field("s", "VARCHAR"),), (Field("parts", "BIGINT[]"),)),
    "judge": Model("judge", (Field("x", "BIGINT"),), (Field("opinion", "BIGINT"),)),
}


def classify(x):
    return (None, None) if x is None else (x * 3 % 7, x % 4 / 4)


def rate(s):
    return None if s is None else sum(map(ord, s)) % 5


def pair(a, b):
    return None if a is None or b is None else a + 10 * b


def parts(s):
    return None if s is None else [ord(c) % 10 for c in s[-2:]]


def judge(x):
    return None if x is None else -x


ANSWERS = {"classify": classify, "rate": rate, "pair": pair, "parts": parts, "judge": judge}


def factory(model):
    """A `python` backend's factory for one of the models above."""
    outputs = [out.name for out in MODELS[model].outputs]

    def call(batch):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        answers = [ANSWERS[model](*row) for row in rows]
        if len(outputs) == 1:
            return {outputs[0]: answers}
        return {name: [answer[i] for answer in answers] for i, name in enumerate(outputs)}

    return call


@dataclass
class Known:
    """Statistics as a rule asks for them."""

    keeps: dict = field(default_factory=dict)
    seconds: dict = field(default_factory=dict)
    repeats: dict = field(default_factory=dict)

    def selectivity(self, subject):
        return self.keeps.get(subject)

    def seconds_per_row(self, context, model):
        return self.seconds.get(context)

    def distinct(self, context):
        return self.repeats.get(context)


class World:
    """Runs plans, naively and for real."""

    def __init__(self):
        self.connection = duckdb.connect()
        self.connection.execute(TABLES)

    def naive(self, plan):
        """Rows in order, and the calls made by model."""
        models = {
            name: NaiveModel(tuple(out.name for out in model.outputs), ANSWERS[name])
            for name, model in MODELS.items()
        }
        naive = Naive(self.connection.cursor(), models)
        return naive.rows(plan), naive.calls

    def real(self, plan, on_error="fail", batch=4):
        """Rows in order, by lowering and the engine."""
        choices = {s.key: Choice(f"{s.model}.v", (), batch) for s in steps(plan)}
        variants = {
            f"{name}.v": Variant(
                name, "v", Backend("python", "rule_world:factory", (("model", name),))
            )
            for name in MODELS
        }
        devices = {"cpu": Device("cpu", "cpu", 2, 1)}
        env = Environment(self.connection.cursor, MODELS, variants, devices)
        table = run(lower(plan, choices, MODELS, on_error), env).read_all()
        return list(zip(*(c.to_pylist() for c in table.columns), strict=True))


def context(**changes):
    """What the rules know when nothing was measured."""
    return RuleContext(models=MODELS, **changes)


def expr(text):
    """An expression; its columns are the quoted names, `random` makes it volatile."""
    names = re.findall(r'"([^"]+)"', text)
    return SqlExpr(text, tuple(sorted(set(names))), "random()" in text)


def plan_of(text):
    """The plan and the rule context that the notation describes."""
    named, current, stats, options = {}, None, Known(), {}
    for line in text.strip().splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "stats":
            _add_statistic(stats, rest)
            options["stats"] = stats
        elif word == "on_error":
            options["on_error"] = rest
        elif word == "as":
            named[rest], current = current, None
        elif word == "with":
            current = named[rest]
        elif word == "join":
            current = _join(rest, named, current)
        else:
            current = NODES[word](rest, current)
    return current, context(**options)


def _add_statistic(stats, rest):
    kind, _, rest = rest.partition(" ")
    if kind == "keeps":
        value, _, predicate = rest.partition(" ")
        stats.keeps[filter_subject(expr(predicate))] = float(value)
    else:
        name, value = rest.split()
        (stats.seconds if kind == "seconds" else stats.repeats)[name] = float(value)


def _source(rest, _):
    relation, _, columns = rest.partition(": ")
    fields = [Field(*item.split(" ", 1)) for item in columns.split(", ")]
    return Source(relation, tuple(column(f) for f in fields))


def _call(rest, below):
    step, model, args, tail = re.fullmatch(r"(\w+) = (\w+)\((.*?)\)( .*)?$", rest).groups()
    tail = tail or ""
    asked = [item for item in re.split(r", (?![^(]*\))", args) if item]
    lists = tuple(item.startswith("EACH ") for item in asked)
    exprs = tuple(expr(item.removeprefix("EACH ")) for item in asked)
    where = re.search(r"@(\S+)", tail)
    call = ModelCall(model, exprs, where[1] if where else model, model == "judge")
    if any(lists):
        call = Each(call, lists)
    when = re.search(r"when (.*?)( @|$)", tail)
    if when:
        call = When(expr(when[1]), call)
    outs = MODELS[model].outputs
    suffix = "[]" if any(lists) else ""
    outputs = tuple(
        Field(step if len(outs) == 1 else f"{step}.{out.name}", out.type + suffix) for out in outs
    )
    return Apply(below, call, outputs)


def _project(rest, below):
    columns = []
    for item in re.split(r", (?![^(]*\))", rest):
        head, _, computed = item.partition(" := ")
        if computed:
            name, kind = head.split(" ", 1)
            columns.append(NamedExpr(name, expr(computed), kind))
        else:
            columns.append(column(field_named(below.schema, head)))
    return Project(below, tuple(columns))


def _sort(rest, below):
    keys = []
    for item in rest.split(", "):
        text = item.removesuffix(" desc")
        keys.append(Order(expr(text), item.endswith(" desc")))
    return Sort(below, tuple(keys))


def _limit(rest, below):
    words = shlex.split(rest)
    count = None if words[0] == "all" else int(words[0])
    return Limit(below, count, int(words[2]) if len(words) > 1 else 0)


def _join(rest, named, current):
    kind, left, _, condition = (rest + "   ").split(" ", 3)
    condition = condition.strip()
    return Join(named[left], current, kind, expr(condition) if condition else None)


def _residual(rest, below):
    head, _, sql = rest.partition(": ")
    kind, name = head.split(" ")
    return Residual((below,), sql, (Field(name, kind),), aggregated=True)


NODES = {
    "source": _source,
    "call": _call,
    "filter": lambda rest, below: Filter(below, expr(rest)),
    "project": _project,
    "sort": _sort,
    "limit": _limit,
    "distinct": lambda _, below: Distinct(below),
    "residual": _residual,
}
