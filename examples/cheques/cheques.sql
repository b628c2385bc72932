-- Declare what exists. A model is a function with interchangeable variants; the planner, not you,
-- says which one runs, at what batch size, on which device. The device is priced like a small cloud
-- machine so that plans can be compared in USD.
CREATE DEVICE cpu (KIND cpu, COUNT 2, THREADS 1, MEMORY 16 GB, PRICE 0.10 USD PER HOUR);

CREATE MODEL segment (strip BLOB) RETURNS (glyphs FLOAT[64][]);
CREATE VARIANT segment.cut USING python('octans.examples.cheques.models:segment') BASE;

CREATE MODEL luhn (digits INTEGER[]) RETURNS (valid BOOLEAN);
CREATE VARIANT luhn.check USING python('octans.examples.cheques.models:luhn') BASE;

CREATE MODEL assemble (digits INTEGER[]) RETURNS (amount BIGINT);
CREATE VARIANT assemble.decimal USING python('octans.examples.cheques.models:assemble') BASE;

CREATE MODEL classify (glyph FLOAT[64]) RETURNS (digit INTEGER, confidence DOUBLE)
  QUALITY exact_match(digit) CONFIDENCE confidence;
CREATE VARIANT classify.linear USING sklearn('linear.skops');
CREATE VARIANT classify.linear_i8 USING onnx('linear_i8.onnx');
CREATE VARIANT classify.linear_pruned USING python('octans.examples.cheques.models:linear_pruned');
CREATE VARIANT classify.neighbours USING python('octans.examples.cheques.models:neighbours')
  KNOBS (components IN (16, 32));
CREATE VARIANT classify.forest USING python('octans.examples.cheques.models:forest')
  KNOBS (trees IN (10, 100, 500));
CREATE VARIANT classify.mlp_small USING onnx('mlp_small.onnx');
CREATE VARIANT classify.mlp_large USING onnx('mlp_large.onnx');
CREATE VARIANT classify.svm USING python('octans.examples.cheques.models:svm') BASE;

-- A second reader for the strips whose check digit is wrong: it may cost more, it sees fewer of them.
CREATE MODEL classify_hard (glyph FLOAT[64]) RETURNS (digit INTEGER, confidence DOUBLE)
  QUALITY exact_match(digit) CONFIDENCE confidence;
CREATE VARIANT classify_hard.cnn USING onnx('cnn.onnx');
CREATE VARIANT classify_hard.svm USING python('octans.examples.cheques.models:svm');
CREATE VARIANT classify_hard.jury USING python('octans.examples.cheques.models:jury') BASE;

-- The pipeline: cut the strip, read every glyph, read them again where the check digit says that
-- something is wrong, and assemble the amount.
CREATE PIPELINE read_amount (strip BLOB) RETURNS (amount BIGINT) QUALITY exact_match(amount) AS
BEGIN
  glyphs := segment(strip);
  digits := classify(EACH glyphs);
  again  := classify_hard(EACH glyphs) WHEN NOT luhn(digits.digit);
  RETURN assemble(COALESCE(again.digit, digits.digit));
END;

-- Measure. ANALYZE runs every choice of every model on a sample of labelled strips and stores what it
-- saw; a part of the sample is held back, untouched, for promises. Strips cut from one book share
-- images, so the book is the independent unit.
ANALYZE PIPELINE read_amount
  USING (SELECT strip, amount AS truth, digits AS truth_digits, book FROM read_parquet('analyze.parquet'))
  LABELS (amount := truth, digits.digit := truth_digits, again.digit := truth_digits)
  CLUSTER BY book SAMPLE 2000;

-- Explain. Nothing runs: the plan, its price, what it reaches, the runner-up and why it lost.
EXPLAIN SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet')
WITH SLO (accuracy >= 0.9) MINIMIZE cost;

-- Run it, as cheaply as possible.
EXPLAIN (ANALYZE) SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet')
WITH SLO () MINIMIZE cost;

-- Balanced: an accuracy that is promised, proved on the strips ANALYZE held back, an answer in good
-- time, and as cheap as that can be.
EXPLAIN (ANALYZE) SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet')
WITH SLO (accuracy >= 0.85 AT CONFIDENCE 0.95, latency_p95 <= 25 ms) MINIMIZE cost;

-- As accurate as possible, whatever it costs.
EXPLAIN (ANALYZE) SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet')
WITH SLO () MAXIMIZE accuracy;

-- Ask for too much, and the error says what is in the way and what could be had.
SELECT id, read_amount(strip) AS amount FROM read_parquet('strips.parquet')
WITH SLO (accuracy >= 0.999, cost <= 0.000000001 USD);
