"""Whatever the text, parsing answers with statements or a typed error, and printing reads back.

Statements are generated from the language's own forms, then mutated: words dropped, doubled,
swapped, replaced, characters broken. The seeds are fixed, so a failure is found again.
"""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.dsl.diagnostics import render
from octans.dsl.parser import parse, parse_expression
from octans.dsl.printer import to_text
from octans.errors import OctansError

COUNT = 7000
NAMES = (
    "a",
    "classify",
    "digit",
    "x1",
    '"odd name"',
    "Zürich",
    "model",
    "end_",
    "slo",
    "each",
    "t",
)
TYPES = ("INTEGER", "FLOAT[64]", "VARCHAR", "STRUCT(a INT, b TEXT)[]", "DECIMAL(10,2)", "BLOB")
UNITS = ("200 ms", "15 min", "16 GB", "50 Mbit/s", "5 USD", "3 J", "2 Wh", "0.4 g CO2", "20 /s")
METRICS = ("accuracy", "cost", "latency_p95", "wall", "total_cost", "throughput")
STRINGS = ("'x'", "'it''s'", "''", "'{text}'", "'a;b'", "'-- no'")
EXPRESSIONS = (
    "a", "a.b", "COALESCE(a.digit, b)", "NOT f(x)", "CASE WHEN a THEN 1 ELSE 2 END", "a + 1",
    "a IN (1, 2)", "x -> x + 1", "{'k': 1}", "[1, 2]", "a::INTEGER", "a[1:2]", "-5", "1e3",
    "a IS NOT NULL", "(SELECT max(b) FROM t)", "'s' || t", "a BETWEEN 1 AND 2", "f(x := 1)",
    "count(*) FILTER (WHERE a)", "a ILIKE 'x%'", "INTERVAL 1 DAY", "date_diff('day', a, b)",
)  # fmt: skip
QUERIES = (
    "SELECT 1", "SELECT a, f(b) AS c FROM t WHERE a > 1 ORDER BY a LIMIT 3", "FROM t",
    "VALUES (1, 'a')", "WITH c AS (SELECT 1 AS a) SELECT * FROM c", "SELECT * FROM 'x.parquet'",
    "WITH slo AS (SELECT 1) SELECT * FROM slo", "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT * EXCLUDE (a) FROM read_parquet('s.parquet', union_by_name := true)",
    "SELECT a FROM t JOIN u USING (id) GROUP BY ALL HAVING count(*) > 1",
    "SELECT DISTINCT ON (a) a, row_number() OVER (PARTITION BY b ORDER BY c) FROM t QUALIFY a > 1",
    "SELECT unnest([1, 2]), struct_pack(a := 1)", "FROM t SELECT a", "SELECT a FROM t AS error",
)  # fmt: skip
PLAIN = (
    "CREATE TABLE t AS SELECT 1", "INSERT INTO t VALUES (1)", "SET threads = 4", "SHOW TABLES",
    "PRAGMA database_list", "ATTACH 'x.db' AS y", "COPY t TO 'x.csv'", "DESCRIBE SELECT 1",
    "DELETE FROM t WHERE a = 1", "UPDATE t SET a = 1", "ANALYZE", "USE main", "CHECKPOINT",
)  # fmt: skip


class Writer:
    """Writes random statements of the language."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, options):
        return self.random.choice(options)

    def maybe(self, text, chance=0.5):
        return text if self.random.random() < chance else ""

    def some(self, make, low=1, high=3):
        return ", ".join(make() for _ in range(self.random.randint(low, high)))

    def name(self):
        return self.pick(NAMES)

    def dotted(self):
        return self.name() + "." + self.name()

    def literal(self):
        return self.pick((*STRINGS, "1", "-2.5", "1e6", "TRUE", "NULL", "1_000"))

    def option(self):
        return f"{self.name()} := {self.literal()}"

    def signature(self):
        return "(" + self.some(lambda: f"{self.name()} {self.pick(TYPES)}", 0) + ")"

    def constraint(self):
        metric = self.pick((*METRICS, "latency_p95(a)", "custom('m')", "memory(cpu)"))
        limit = self.pick((*UNITS, "0.95", "97 %", "-1"))
        return (
            f"{metric} {self.pick(('<=', '>='))} {limit}"
            + self.maybe(" AT CONFIDENCE 0.95", 0.3)
            + self.maybe(" SOFT 10 %", 0.2)
            + self.maybe(" PER TOKEN", 0.1)
        )

    def clauses(self):
        slo = self.name() if self.random.random() < 0.3 else f"({self.some(self.constraint, 0)})"
        objective = self.maybe(f" {self.pick(('MINIMIZE', 'maximize'))} {self.pick(METRICS)}")
        error = self.maybe(f" ON ERROR {self.pick(('FAIL', 'null', 'SKIP'))}", 0.4)
        return self.pick(("", error, f" WITH SLO {slo}{objective}{error}"))

    def select(self):
        return self.pick(QUERIES) + self.clauses()

    def model(self):
        return (
            f"CREATE {self.maybe('OR REPLACE ')}MODEL {self.name()} {self.signature()} "
            f"RETURNS {self.signature()}"
            + self.maybe(f" QUALITY exact_match({self.name()}, {self.literal()})")
            + self.maybe(f" CONFIDENCE {self.name()}")
            + self.maybe(f" PROMPT {self.pick(STRINGS)}")
        )

    def variant(self):
        using = f"USING {self.name()}({self.pick(STRINGS)}, {self.some(self.option)})"
        derived = f"FROM {self.dotted()} BY QUANTIZE{self.maybe('(' + self.literal() + ')')}"
        return (
            f"CREATE VARIANT {self.dotted()} {self.pick((using, derived))}"
            + self.maybe(f" KNOBS ({self.name()} IN ({self.some(self.literal)}))")
            + self.maybe(" PRICE 0.15 USD PER 1e6 INPUT TOKENS, 0.6 USD PER 3 OUTPUT TOKENS", 0.3)
            + self.maybe(f" PRIOR (latency 5 ms, quality {self.random.random():.3f})", 0.3)
            + self.maybe(" BASE", 0.3)
            + self.maybe(" VOLATILE", 0.3)
        )

    def device(self):
        items = "KIND cpu, COUNT 2, MEMORY 16 GB, PRICE 0.10 USD PER HOUR, TIER 'local'"
        return f"CREATE DEVICE {self.name()} ({items})"

    def link(self):
        return f"CREATE LINK {self.name()} TO {self.name()} (BANDWIDTH 5 Gbit/s, LATENCY 20 ms)"

    def step(self):
        argument = lambda: self.maybe("EACH ") + self.pick(EXPRESSIONS)  # noqa: E731
        call = f"{self.name()} := {self.name()}({self.some(argument, 0)})"
        return call + self.maybe(f" WHEN {self.pick(EXPRESSIONS)}", 0.3) + ";"

    def pipeline(self):
        steps = " ".join(self.step() for _ in range(self.random.randint(0, 4)))
        return (
            f"CREATE PIPELINE {self.name()} {self.signature()} RETURNS {self.signature()}"
            + self.maybe(" QUALITY within(a, 5)")
            + f" AS BEGIN {steps} RETURN {self.pick(EXPRESSIONS)}; END"
        )

    def slo(self):
        return f"CREATE SLO {self.name()} AS ({self.some(self.constraint)})" + self.maybe(
            " MINIMIZE cost"
        )

    def explain(self):
        why = f"WHY NOT {self.dotted()} ({self.option()})"
        options = ("ANALYZE", "FORMAT json", "ALTERNATIVES 5", "STEPS", why, "ADVICE 'BATCH(a 1)'")
        chosen = ", ".join(self.random.sample(options, self.random.randint(0, 4)))
        return f"EXPLAIN {self.maybe(f'({chosen}) ')}{self.select()}"

    def copy(self):
        return f"COPY ({self.select()}) TO 'out.parquet' (FORMAT parquet)"

    def analyze(self):
        clauses = [
            f"LABELS ({self.name()} := {self.pick(EXPRESSIONS)}, a.b := c)",
            f"SAMPLE {self.maybe('UNIFORM ')}{self.random.randint(1, 999)}",
            "BUDGET 60 s, 2 USD",
            f"CLUSTER BY {self.pick(EXPRESSIONS)}",
            f"FEATURES ({self.pick(EXPRESSIONS)})",
            "SEARCH",
        ]
        chosen = self.random.sample(clauses, self.random.randint(0, 6))
        kind = self.pick(("PIPELINE", "MODEL"))
        return " ".join([f"ANALYZE {kind} {self.name()} USING ({self.pick(QUERIES)})", *chosen])

    def small(self):
        return self.pick(
            (
                "SHOW MODELS", f"SHOW VARIANTS OF {self.name()}", f"SHOW PLANS FOR {self.name()}",
                f"DESCRIBE {self.name()}", f"DROP VARIANT IF EXISTS {self.dotted()}",
                "DROP LINK a TO b", f"SET {self.name()} = {self.pick((*UNITS, 'on', '1', 'TRUE'))}",
                "SET disabled_rules = (a, b)", f"RESET {self.name()}", *PLAIN,
            )
        )  # fmt: skip

    def statement(self):
        make = self.pick(
            (
                self.model, self.variant, self.device, self.link, self.pipeline, self.slo,
                self.select, self.explain, self.copy, self.analyze, self.small,
            )
        )  # fmt: skip
        return make()

    def mutated(self, text):
        """One to three edits by words or characters."""
        for _ in range(self.random.randint(1, 3)):
            words = re.findall(r"\w+|\s+|.", text, re.DOTALL) or [""]
            at = self.random.randrange(len(words))
            other = self.random.randrange(len(words))
            match self.random.randrange(8):
                case 0:
                    del words[at]
                case 1:
                    words.insert(at, words[other])
                case 2:
                    words[at], words[other] = words[other], words[at]
                case 3:
                    words[at] = self.pick(("(", ")", ";", ",", "WITH SLO", "END", "'", '"', "/*"))
                case 4:
                    words[at] = self.pick(("\x00", "é", "\ud800", "日本", "$", "\\", "\ufeff", "#"))
                case 5:
                    words = words[:at]
                case 6:
                    words[at] = self.pick(("CASE", "1e999", "EACH", "NULL", "PER", ".", ":=", "--"))
                case _:
                    words[at] = words[at].swapcase()
            text = "".join(words)
        return text


CODES = {f"OC01{number:02}" for number in range(1, 14) if number != 12}


def is_told(error, text):
    """A listed code, a place inside the text, something drawn."""
    assert error.code in CODES
    assert 0 <= error.span.start <= error.span.end <= len(text)
    assert "^" in render(error)
    return True


def check(text):
    """The two promises; True where the text parses."""
    try:
        statements = parse(text)
    except OctansError as error:
        return not is_told(error, text)
    for statement in statements:
        printed = to_text(statement)
        again = parse(printed)
        assert again == (statement,), (text, printed)
        assert to_text(again[0]) == printed, text
    return True


@pytest.mark.slow
def test_generated_statements_parse_and_print_back():
    """Every form the language has, in random combination, is read and printed back unchanged."""
    writer = Writer(1)
    good = sum(check(writer.statement()) for _ in range(COUNT))
    assert good > 0.95 * COUNT


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_mutated_statements_never_raise_anything_untyped(seed):
    """A broken statement is a typed error at a place inside the text, or still a statement."""
    writer = Writer(seed)
    good = sum(check(writer.mutated(writer.statement())) for _ in range(COUNT))
    assert 0.1 * COUNT < good < 0.9 * COUNT


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_answered(text):
    """Text that is no SQL at all is answered with a typed error, too."""
    check(text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30), st.integers(0, 5))
def test_any_expression_is_answered(text, offset):
    """`parse_expression` has the same promise, with spans moved by the offset."""
    try:
        span = parse_expression(text, offset).span
    except OctansError as error:
        span = error.span
    assert offset <= span.start <= span.end <= len(text) + offset
