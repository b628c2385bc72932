"""How text is read: what becomes which statement, where its parts stand, what stays DuckDB's."""

import subprocess
import sys

import duckdb
import pytest
from octans.dsl import ast
from octans.dsl.parser import parse, parse_expression, parse_one
from octans.errors import Span, SyntaxProblem


def slice_of(text, span):
    return text[span.start : span.end]


def test_a_model_keeps_types_metric_and_clauses():
    """Types are DuckDB's names for them; the clauses may come in any order."""
    model = parse_one(
        "create model classify (glyph float[64], t text) returns (digit int, confidence double) "
        "CONFIDENCE confidence PROMPT 'It''s {t}' QUALITY within(digit, -1.5, TRUE)"
    )
    assert isinstance(model, ast.CreateModel)
    assert [column.type for column in model.inputs] == ["FLOAT[64]", "VARCHAR"]
    assert [column.type for column in model.outputs] == ["INTEGER", "DOUBLE"]
    assert model.quality.name.text == "within"
    assert [arg.value for arg in model.quality.args] == [-1.5, True]
    assert model.confidence.text == "confidence"
    assert model.prompt.value == "It's {t}"
    assert not model.replace


def test_a_variant_keeps_backend_knobs_prices_and_priors():
    """Token prices are per token; priors are quantities in base units."""
    variant = parse_one(
        "CREATE OR REPLACE VARIANT judge.api USING openai('small', base_url := 'http://x', n := 2) "
        "PRIOR (latency 5 ms, quality 0.9) KNOBS (t IN (1, 2.5), m IN ('a')) VOLATILE BASE "
        "PRICE 0.15 USD PER 1e6 INPUT TOKENS, 0.60 USD PER 1e6 OUTPUT TOKENS"
    )
    assert variant.replace
    assert variant.base
    assert variant.volatile
    assert variant.name.parts == ("judge", "api")
    assert variant.backend.target.value == "small"
    assert [(o.name.text, o.value.value) for o in variant.backend.options] == [
        ("base_url", "http://x"),
        ("n", 2),
    ]
    assert [knob.name.text for knob in variant.knobs] == ["t", "m"]
    assert [value.value for value in variant.knobs[0].values] == [1, 2.5]
    assert [(p.side, p.usd_per_token) for p in variant.prices] == [
        ("input", 0.15 / 1e6),
        ("output", 0.60 / 1e6),
    ]
    assert [(p.metric.text, p.value.value, p.value.dimension) for p in variant.priors] == [
        ("latency", 0.005, "s"),
        ("quality", 0.9, ""),
    ]


def test_a_device_keeps_quantities_in_base_units():
    """Each item has the dimension its unit says."""
    device = parse_one(
        "CREATE DEVICE a100 (KIND cuda, COUNT 4, MEMORY 80 GB, PRICE 3.67 USD PER HOUR, "
        "POWER 400 W, TIER 'cloud', GRID 400 g CO2/kWh)"
    )
    values = {item.key.text: item.value for item in device.items}
    assert values["KIND"].text == "cuda"
    assert (values["COUNT"].value, values["COUNT"].dimension) == (4, "")
    assert (values["MEMORY"].value, values["MEMORY"].dimension) == (80e9, "B")
    assert (values["PRICE"].value, values["PRICE"].dimension) == (3.67, "USD/h")
    assert (values["POWER"].value, values["POWER"].dimension) == (400, "W")
    assert values["TIER"].value == "cloud"
    assert (values["GRID"].value, values["GRID"].dimension) == (400, "g/kWh")


def test_a_pipeline_body_ends_at_the_end_that_closes_no_case():
    """CASE … END inside a body, and a name called end, do not end it."""
    pipeline, after = parse(
        "CREATE PIPELINE p (a INT) RETURNS (b INT) QUALITY exact_match(b) AS BEGIN "
        "x := f(EACH a, CASE WHEN a THEN CASE WHEN b THEN 1 END END) WHEN x.end IS NULL; "
        'RETURN CASE WHEN x."end" THEN 1 END; END; SELECT 2'
    )
    assert isinstance(pipeline, ast.CreatePipeline)
    assert isinstance(after, ast.Select)
    (step,) = pipeline.steps
    assert [argument.each for argument in step.arguments] == [True, False]
    assert step.when is not None


@pytest.mark.parametrize(
    "word", ["model", "each", "when", "return", "slo", "end_", "select", "minimize", "pipeline"]
)
def test_keywords_are_unreserved(word):
    """Any word of ours is a name where no keyword could stand."""
    model = parse_one(f"CREATE MODEL {word} ({word} INTEGER) RETURNS ({word} DOUBLE)")
    assert model.name.text == word
    assert model.inputs[0].name.text == word
    pipeline = parse_one(
        f"CREATE PIPELINE p (a INT) RETURNS (b INT) AS BEGIN {word} := {word}(a); RETURN a; END"
    )
    assert pipeline.steps[0].name.text == word


def test_each_before_nothing_is_a_name():
    """EACH marks an argument only when one follows it."""
    pipeline = parse_one(
        "CREATE PIPELINE p (each INT) RETURNS (b INT) AS BEGIN "
        "x := f(each, each.a, each + 1, EACH each); RETURN x; END"
    )
    assert [argument.each for argument in pipeline.steps[0].arguments] == [
        False,
        False,
        False,
        True,
    ]


def test_clauses_are_the_last_with_slo_outside_brackets():
    """A common table expression may be called slo; the clause comes behind the whole query."""
    select = parse_one(
        "WITH slo AS (SELECT 1), x AS (SELECT 2) SELECT * FROM slo "
        "WITH SLO (accuracy >= 97 % AT CONFIDENCE 0.95, latency_p95(classify) <= 20 ms SOFT 10 %, "
        "custom('name') <= 3, tpot_p95 <= 5 ms PER TOKEN) MAXIMIZE throughput ON ERROR SKIP"
    )
    assert select.query.text.endswith("FROM slo")
    accuracy, latency, custom, tokens = select.slo.constraints
    assert (accuracy.limit.value, accuracy.limit.dimension) == (0.97, "share")
    assert accuracy.confidence.value == 0.95
    assert (latency.model.text, latency.limit.value, latency.soft.value) == ("classify", 0.02, 0.1)
    assert custom.custom.value == "name"
    assert tokens.per_token
    assert select.objective.maximize
    assert select.on_error == "skip"


@pytest.mark.parametrize(
    "text",
    [
        "WITH slo AS (SELECT 1) SELECT * FROM slo",
        "WITH slo(a) AS (SELECT 1) SELECT * FROM slo",
        "SELECT * FROM (WITH slo AS (SELECT 1) SELECT * FROM slo)",
        'SELECT 1 AS "WITH SLO x"',
        "SELECT 'WITH SLO x' -- WITH SLO y",
    ],
)
def test_what_only_looks_like_the_clause_is_not_it(text):
    """CTEs, quotes and comments hold no clause."""
    assert parse_one(text).slo is None


def test_clause_forms():
    """A named SLO, an empty one with an objective, ON ERROR alone."""
    assert parse_one("SELECT 1 WITH SLO interactive").slo.name.text == "interactive"
    empty = parse_one("SELECT 1 WITH SLO () MINIMIZE cost")
    assert empty.slo.constraints == ()
    assert empty.objective.metric.text == "cost"
    alone = parse_one("SELECT * FROM a JOIN b ON error ON ERROR NULL")
    assert alone.on_error == "null"
    assert alone.slo is None


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("EXPLAIN SELECT 1", ast.ExplainOptions()),
        ("EXPLAIN (SELECT 1)", ast.ExplainOptions()),
        ("EXPLAIN ((SELECT 1) UNION (SELECT 2))", ast.ExplainOptions()),
        ("EXPLAIN (VALUES (1))", ast.ExplainOptions()),
        ("EXPLAIN (FROM t)", ast.ExplainOptions()),
        ("EXPLAIN ANALYZE SELECT 1", ast.ExplainOptions(analyze=True)),
        ("EXPLAIN (ANALYZE) (SELECT 1)", ast.ExplainOptions(analyze=True)),
        ("EXPLAIN (STEPS, FORMAT html) FROM t", ast.ExplainOptions(steps=True, format="html")),
        ("EXPLAIN (ALTERNATIVES 5) SELECT 1", ast.ExplainOptions(alternatives=5)),
    ],
)
def test_explain_tells_options_from_a_query(text, options):
    """A bracket before a query word or another bracket is a query, else options."""
    explain = parse_one(text)
    assert isinstance(explain, ast.Explain)
    assert explain.options == options


def test_explain_why_not_and_advice():
    """WHY NOT takes knobs; the advice stays a string."""
    options = parse_one(
        "EXPLAIN (WHY NOT classify.forest (trees := 500), ADVICE 'BATCH(a 1)') SELECT 1"
    ).options
    assert options.why_not[0].variant.text == "classify.forest"
    assert options.why_not[0].knobs[0].value.value == 500
    assert options.advice.value == "BATCH(a 1)"


def test_analyze_clauses_in_any_order():
    """CLUSTER BY ends at the next clause, not at a column that is called like one."""
    analyze = parse_one(
        "ANALYZE PIPELINE p USING (SELECT 1) BUDGET 60 s, 2 USD CLUSTER BY a + sample "
        "SAMPLE UNIFORM 300 LABELS (amount := truth, digits.digit := list(d)) FEATURES (length(x))"
    )
    assert analyze.kind == "pipeline"
    assert analyze.cluster.text == "a + sample"
    assert (analyze.sample, analyze.uniform) == (300, True)
    assert [label.output.parts for label in analyze.labels] == [("amount",), ("digits", "digit")]
    assert [(b.value, b.dimension) for b in analyze.budget] == [(60, "s"), (2, "USD")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SHOW MODELS", ("models", None)),
        ("show variants of classify", ("variants", "classify")),
        ("SHOW PLANS FOR x", ("plans", "x")),
        ("SHOW JOBS", ("jobs", None)),
    ],
)
def test_show(text, expected):
    """Our kinds are ours."""
    show = parse_one(text)
    assert (show.kind, show.of and show.of.text) == expected


def test_looking_and_settings():
    """DESCRIBE, DROP, SET, RESET of names."""
    assert parse_one("DESCRIBE classify.mlp").name.text == "classify.mlp"
    drop = parse_one("DROP VARIANT IF EXISTS classify.mlp")
    assert (drop.kind, drop.if_exists, drop.name.text) == ("variant", True, "classify.mlp")
    assert parse_one("DROP LINK edge TO cloud").name.parts == ("edge", "cloud")
    assert parse_one("SET max_wall = 2 min").value.value == 120
    assert parse_one("SET seed TO 4").value.value == 4
    assert parse_one("SET progress = off").value.text == "off"
    assert [v.text for v in parse_one("SET disabled_rules = a, b").value] == ["a", "b"]
    assert parse_one("SET disabled_rules = ()").value == ()
    assert parse_one("RESET seed").name.text == "seed"


@pytest.mark.parametrize(
    "text",
    [
        "SHOW TABLES",
        "DESCRIBE SELECT 1",
        "SUMMARIZE t",
        "SET VARIABLE x = 1",
        "SET GLOBAL threads = 4",
        "ANALYZE",
        "ANALYZE t",
        "COPY t TO 'x.csv'",
        "CREATE TABLE t AS SELECT 1",
        "DROP TABLE t",
        "INSERT INTO octans.observations (subject) SELECT 'x'",
        "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
        "EXPLAIN INSERT INTO t VALUES (1)",
        "EXPLAIN (ANALYZE) CREATE TABLE t AS SELECT 1",
        "FORCE CHECKPOINT",
        "ATTACH 'x.db' AS y (READ_ONLY)",
    ],
)
def test_the_rest_is_duckdbs_and_kept_as_written(text):
    """What is none of ours reaches DuckDB unchanged."""
    plain = parse_one(f"  {text} ; ")
    assert isinstance(plain, ast.PlainSql)
    assert plain.text == text


@pytest.mark.parametrize(
    "text",
    ["SELECT 1", "FROM t", "VALUES (1)", "WITH a AS (SELECT 1) FROM a", "(SELECT 1)", "TABLE t"],
)
def test_queries_are_ours(text):
    """Every form of a query is looked through for model calls."""
    assert isinstance(parse_one(text), ast.Select)


@pytest.mark.parametrize(
    "text", ["", " \n", "-- only this", "/* a /* nested */ b */", ";;", "\ufeff"]
)
def test_a_script_of_nothing_has_no_statements(text):
    """Comments and semicolons are no statements."""
    assert parse(text) == ()


def test_spans_point_into_the_whole_text():
    """Offsets are exact, behind comments, Unicode and other statements, too."""
    text = "\ufeff/* ü */ SELECT 1;\nCREATE MODEL Zürich (a INT)\n RETURNS (日本 TEXT); -- end"
    _, model = parse(text)
    assert slice_of(text, model.name.span) == "Zürich"
    assert slice_of(text, model.outputs[0].span) == "日本 TEXT"
    assert slice_of(text, model.span).startswith("CREATE MODEL")
    assert slice_of(text, model.span).endswith("TEXT)")
    text = "SELECT 1; SELECT a, read_amount(b.c) FROM t WITH SLO (cost <= 1 USD)"
    select = parse(text)[1]
    call = select.query.tree.expressions[1]
    assert slice_of(text, select.query.span_of(call.expressions[0])) == "b.c"
    assert slice_of(text, select.slo.constraints[0].limit.span) == "1 USD"


def test_an_expression_inside_a_larger_text():
    """Spans are moved by the offset, in errors as well."""
    fragment = parse_expression("a + b", offset=100)
    assert fragment.span == Span(100, 105)
    assert fragment.span_of(fragment.tree.expression) == Span(104, 105)
    with pytest.raises(SyntaxProblem) as caught:
        parse_expression("a b", offset=100)
    assert caught.value.span == Span(102, 103)


@pytest.mark.parametrize(
    "name",
    ["INTEGER", "INT4", "REAL", "TEXT", "VARCHAR(10)", "DECIMAL", "DECIMAL(5)", "NUMERIC(10,2)",
     "HUGEINT", "UINTEGER", "BYTEA", "TIMESTAMPTZ", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE",
     "DOUBLE PRECISION", "FLOAT[64]", "INT[][3]", 'STRUCT("a b" INT, c VARCHAR[])[]',
     "MAP(VARCHAR, INT)", "UNION(n INT, s TEXT)", "ENUM('a', 'b')", "INTERVAL", "UUID", "BIT"],
)  # fmt: skip
def test_types_are_named_as_duckdb_names_them(name):
    """Declared and described types can be compared as text."""
    expected = str(duckdb.sql(f"SELECT CAST(NULL AS {name})").types[0])
    model = parse_one(f"CREATE MODEL m (a {name}) RETURNS ()")
    assert model.inputs[0].type == expected


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT " + "NOT " * 5000 + "a",
        "SELECT " + "f(" * 5000,
        "CREATE MODEL m (a " + "STRUCT(b " * 2000 + "INT" + ")" * 2000 + ") RETURNS ()",
        "INSERT INTO t SELECT " + "[" * 5000 + "]" * 5000,
    ],
    ids=["brackets", "not", "open", "types", "plain"],
)
def test_deep_nesting_is_a_typed_error(text):
    """No RecursionError gets out."""
    with pytest.raises(SyntaxProblem) as caught:
        parse(text)
    assert caught.value.code in ("OC0109", "OC0103")


def test_long_chains_and_large_scripts_parse():
    """Length is no depth."""
    assert len(parse("SELECT 1 + " + " + ".join(["a"] * 3000))) == 1
    assert len(parse("SET seed = 1;\n" * 2000)) == 2000


def test_the_parser_imports_nothing_heavy():
    """A plain EXPLAIN loads sqlglot and lark, not numpy, pyarrow or torch."""
    code = (
        "import sys; from octans.dsl.parser import parse; parse('EXPLAIN SELECT 1');"
        "print([m for m in ('numpy', 'pyarrow', 'pandas', 'torch', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
