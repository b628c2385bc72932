"""Canonical text: what is printed reads back as the same statement, and printing again changes
nothing."""

import pytest
from octans.dsl import ast
from octans.dsl.parser import parse, parse_one
from octans.dsl.printer import fragment_text, name_text, to_text
from octans.errors import Span

LANGUAGE = """
CREATE MODEL classify (glyph FLOAT[64]) RETURNS (digit INTEGER, confidence DOUBLE)
  QUALITY exact_match(digit)                      -- how an answer is scored
  CONFIDENCE confidence;

CREATE VARIANT classify.forest USING python('octans.examples.cheques.models:forest') KNOBS (trees IN (10, 100, 500));
CREATE VARIANT classify.mlp    USING onnx('models/mlp.onnx') BASE;
CREATE VARIANT classify.mlp_i8 FROM classify.mlp BY QUANTIZE('int8');
CREATE VARIANT classify.mlp_s  FROM classify.mlp BY PRUNE(0.5);
CREATE VARIANT judge.l8b  USING vllm('/models/llama-8b', tensor_parallel := 2) KNOBS (max_tokens IN (64, 256)) VOLATILE;
CREATE VARIANT judge.api  USING openai('small', base_url := 'http://127.0.0.1:8000/v1', api_key_env := 'MY_KEY') PRICE 0.15 USD PER 1e6 INPUT TOKENS, 0.60 USD PER 1e6 OUTPUT TOKENS;
CREATE VARIANT judge.guess USING replay('x.parquet') PRIOR (latency 5 ms, quality 0.9);
CREATE MODEL  summarize (text VARCHAR) RETURNS (summary VARCHAR) PROMPT 'Summarise: {text}' QUALITY rouge_l(summary);

CREATE DEVICE cpu  (KIND cpu,  COUNT 2, THREADS 1, MEMORY 16 GB, PRICE 0.10 USD PER HOUR, TIER local);
CREATE DEVICE a100 (KIND cuda, COUNT 4, MEMORY 80 GB, PRICE 3.67 USD PER HOUR, POWER 400 W, TIER cloud);
CREATE LINK edge TO cloud (BANDWIDTH 50 Mbit/s, LATENCY 20 ms);

CREATE PIPELINE read_amount (strip BLOB) RETURNS (amount BIGINT) QUALITY exact_match(amount) AS
BEGIN
  glyphs := segment(strip);
  digits := classify(EACH glyphs);
  again  := classify_hard(EACH glyphs) WHEN NOT luhn(digits.digit);
  RETURN assemble(COALESCE(again.digit, digits.digit));
END;

CREATE SLO interactive AS (latency_p95 <= 200 ms, accuracy >= 0.95 AT CONFIDENCE 0.95) MINIMIZE cost;

SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet') WHERE branch = 'Turin' ORDER BY id LIMIT 100
WITH SLO (accuracy >= 0.97 AT CONFIDENCE 0.95, wall <= 2 min) MINIMIZE cost ON ERROR NULL;

EXPLAIN SELECT 1;
EXPLAIN (ANALYZE, FORMAT json, ALTERNATIVES 5, STEPS, WHY NOT classify.forest (trees := 500)) SELECT 1;
EXPLAIN (ADVICE 'VARIANT(classify mlp) BATCH(classify 64) DEVICE(classify cpu)') SELECT 1;
COPY (SELECT 1 WITH SLO (cost <= 1 USD)) TO 'out.parquet';

ANALYZE PIPELINE read_amount USING (SELECT strip, truth FROM read_parquet('train.parquet')) LABELS (amount := truth) SAMPLE 300 BUDGET 60 s, 2 USD;
ANALYZE MODEL classify USING (SELECT 1) SAMPLE UNIFORM 500 FEATURES (length(text));
ANALYZE PIPELINE p USING (SELECT search FROM t) CLUSTER BY search SEARCH WITH SLO (accuracy >= 0.9);
ANALYZE PIPELINE p USING (FROM t) LABELS (a := b, s.d := e) CLUSTER BY image_id;

SHOW MODELS; SHOW VARIANTS OF m; SHOW DEVICES; SHOW PIPELINES; SHOW SLOS; SHOW DEPLOYMENTS;
SHOW PLANS FOR x; SHOW STATISTICS FOR x; SHOW OBSERVATIONS FOR x; SHOW RUNS; SHOW HISTORIES; SHOW JOBS;
SELECT * FROM octans.plans;
DESCRIBE x; DROP VARIANT IF EXISTS classify.mlp; DROP LINK edge TO cloud;
SET max_total_cost = 5 USD; SET disabled_rules = (a, 'b'); RESET seed;
INSERT INTO octans.observations (subject, variant, knobs) SELECT 'a', 'b', '';
"""  # noqa: E501


@pytest.mark.parametrize("statement", parse(LANGUAGE), ids=lambda s: to_text(s)[:40])
def test_the_languages_examples_print_and_read_back(statement):
    """`parse(print(x)) = x`, and the printed text is a fixed point."""
    printed = to_text(statement)
    assert parse(printed) == (statement,)
    assert to_text(parse_one(printed)) == printed


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("select  a,b from t", "SELECT a, b FROM t"),
        ("FROM t", "SELECT * FROM t"),
        ('SELECT "A b", myFunc(x) /* why */ FROM t', 'SELECT "A b", myFunc(x) FROM t'),
        ("SELECT f(a := 1), x::int FROM t", "SELECT f(a := 1), CAST(x AS INT) FROM t"),
        ("select 1 with slo(cost<=1USD) minimize cost on error fail",
         "SELECT 1 WITH SLO (cost <= 1 USD) MINIMIZE cost"),
        ("set X to 'it''s'", "SET X = 'it''s'"),
        ("drop link a to b", "DROP LINK a TO b"),
        ("explain analyze select 1", "EXPLAIN (ANALYZE) SELECT 1"),
        ("create slo s as (wall<=2min soft 10%)", "CREATE SLO s AS (wall <= 2 min SOFT 10 %)"),
        ("CREATE VARIANT a.b FROM a.c BY PRUNE", "CREATE VARIANT a.b FROM a.c BY PRUNE()"),
    ],
)  # fmt: skip
def test_canonical_text(text, canonical):
    """Spelling, spacing and comments go; names and functions stay as written."""
    assert to_text(parse_one(text)) == canonical


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("classify", "mlp"), "classify.mlp"),
        (("odd name",), '"odd name"'),
        (('a"b',), '"a""b"'),
        (("null",), '"null"'),
        (("1a",), '"1a"'),
        (("Zürich",), "Zürich"),
        (("a$b",), "a$b"),
    ],
)
def test_names_are_quoted_where_they_must_be(parts, text):
    """A name prints so that it is read as that name."""
    name = ast.Name(parts, Span(0, 0))
    assert name_text(name) == text
    assert parse_one(f"DESCRIBE {text}").name == name


def test_what_sqlglot_cannot_write_back_stays_as_written():
    """A tree that prints as another one keeps its own text, which reads back by construction."""
    for expression in ("epoch_ms(a)", "list_transform(l, x -> x + 1)", "a ** b", "x ^@ 'p'"):
        fragment = parse_one(f"SELECT {expression} AS e FROM t").query
        again = parse_one(fragment_text(fragment)).query
        assert again == fragment


def test_prices_survive_to_the_last_digit():
    """USD per token is stored as a float; its text gives that float again."""
    for amount in ("0.1", "0.15", "3.3333333333", "1e-7"):
        for count in ("1", "3", "1e6", "7e5"):
            variant = parse_one(
                f"CREATE VARIANT a.b USING c('x') PRICE {amount} USD PER {count} INPUT TOKENS"
            )
            assert parse_one(to_text(variant)) == variant
