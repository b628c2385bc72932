"""A catalog over an in-memory DuckDB, and naive models, for tests of binding and planning."""

from __future__ import annotations

from typing import Any

import duckdb
from naive import NaiveModel
from octans.dsl.binder import bind_definition
from octans.dsl.parser import parse
from octans.ir.models import Device, Link, Model, Pipeline, Variant
from octans.ir.slo import Slo
from octans.ir.types import Field, Schema

DECLARATIONS = """
CREATE MODEL classify (glyph FLOAT[3]) RETURNS (digit INTEGER, confidence DOUBLE)
  QUALITY exact_match(digit) CONFIDENCE confidence;
CREATE MODEL classify_hard (glyph FLOAT[3]) RETURNS (digit INTEGER, confidence DOUBLE)
  QUALITY exact_match(digit);
CREATE MODEL segment (strip BLOB) RETURNS (glyphs FLOAT[3][]);
CREATE MODEL luhn (digits INTEGER[]) RETURNS (ok BOOLEAN);
CREATE MODEL assemble (digits INTEGER[]) RETURNS (amount BIGINT);
CREATE MODEL double (x BIGINT) RETURNS (y BIGINT);
CREATE MODEL is_even (x BIGINT) RETURNS (even BOOLEAN);
CREATE MODEL shout (text VARCHAR) RETURNS (loud VARCHAR);
CREATE MODEL divide (a BIGINT, b BIGINT) RETURNS (quotient BIGINT, remainder BIGINT);
CREATE MODEL dice (x BIGINT) RETURNS (face BIGINT);
CREATE VARIANT dice.fair USING python('nowhere:dice') VOLATILE;
CREATE VARIANT classify.mlp USING onnx('models/mlp.onnx') BASE;
CREATE PIPELINE read_amount (strip BLOB) RETURNS (amount BIGINT) QUALITY exact_match(amount) AS
BEGIN
  glyphs := segment(strip);
  digits := classify(EACH glyphs);
  again  := classify_hard(EACH glyphs) WHEN NOT luhn(digits.digit);
  RETURN assemble(COALESCE(again.digit, digits.digit));
END;
CREATE PIPELINE quadruple (x BIGINT) RETURNS (y BIGINT) AS
BEGIN
  once := double(x);
  RETURN double(once);
END;
CREATE PIPELINE parts (x BIGINT) RETURNS (half BIGINT, whole BIGINT) AS
BEGIN
  four := quadruple(x);
  d := divide(four, 8);
  RETURN {'half': d.quotient, 'whole': four};
END;
CREATE SLO interactive AS (latency_p95 <= 200 ms, accuracy >= 0.95 AT CONFIDENCE 0.95)
  MINIMIZE cost;
CREATE DEVICE cpu
  (KIND cpu, COUNT 2, THREADS 1, MEMORY 16 GB, PRICE 0.10 USD PER HOUR, TIER local);
"""

TABLES = """
CREATE TABLE numbers AS
  SELECT range AS id, range % 3 AS k, 'n' || range AS name FROM range(8);
CREATE TABLE kinds AS
  SELECT * FROM (VALUES (0, 'zero'), (1, 'one'), (3, 'three')) AS v(k, label);
CREATE TABLE lists AS
  SELECT * FROM (VALUES (1, [1, 2, 3]), (2, []), (3, NULL), (4, [4])) AS v(id, xs);
CREATE TABLE strips AS SELECT range AS id, encode(repeat('7', 2 + range::INT)) AS strip,
  range * 10 AS truth,
  CASE WHEN range % 2 = 0 THEN 'Turin' ELSE 'Rome' END AS branch FROM range(4);
CREATE TABLE glyphs AS SELECT range AS id, [range, 0, 0]::FLOAT[3] AS glyph,
  {'a': range, 'b': 'x'} AS s
  FROM range(4);
"""


MACROS = """
CREATE MACRO double(x) AS (2 * x)::BIGINT;
CREATE MACRO quadruple(x) AS (4 * x)::BIGINT;
CREATE MACRO is_even(x) AS x % 2 = 0;
CREATE MACRO shout(t) AS upper(t) || '!';
CREATE MACRO divide(a, b) AS {'quotient': (a // b)::BIGINT, 'remainder': (a % b)::BIGINT};
CREATE MACRO parts(x) AS {'half': (4 * x // 8)::BIGINT, 'whole': (4 * x)::BIGINT};
CREATE MACRO classify(g) AS {'digit': g[1]::INTEGER, 'confidence': 0.5::DOUBLE};
CREATE MACRO read_amount(s) AS
  repeat(CASE WHEN octet_length(s) % 2 = 0 THEN '7' ELSE '8' END, octet_length(s)::INT)::BIGINT;
"""
"""The models of NAIVE as DuckDB's macros: an oracle that shares nothing with us."""


class MemoryCatalog:
    """A CatalogView of Python dictionaries; `describe` asks DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.described = 0
        self._objects: dict[tuple[type, str], Any] = {}

    def declare(self, text: str) -> list[Any]:
        """Bind and keep every declaration of a script."""
        return [self.keep(statement) for statement in parse(text)]

    def keep(self, statement: Any) -> Any:
        """Bind and keep one declaration."""
        found = bind_definition(statement, self)  # type: ignore[arg-type]
        name = found.full_name if isinstance(found, Variant) else getattr(found, "name", "link")
        self._objects[type(found), str(name).lower()] = found
        return found

    def _get(self, kind: type, name: str) -> Any:
        return self._objects.get((kind, name.lower()))

    def _all(self, kind: type) -> tuple[Any, ...]:
        return tuple(found for (k, _), found in self._objects.items() if k is kind)

    def model(self, name: str) -> Model | None:
        return self._get(Model, name)

    def models(self) -> tuple[Model, ...]:
        return self._all(Model)

    def variant(self, full_name: str) -> Variant | None:
        return self._get(Variant, full_name)

    def variants(self, model: str) -> tuple[Variant, ...]:
        return tuple(v for v in self._all(Variant) if v.model.lower() == model.lower())

    def device(self, name: str) -> Device | None:
        return self._get(Device, name)

    def devices(self) -> tuple[Device, ...]:
        return self._all(Device)

    def link(self, name: str) -> Link | None:
        return self._get(Link, name)

    def pipeline(self, name: str) -> Pipeline | None:
        return self._get(Pipeline, name)

    def pipelines(self) -> tuple[Pipeline, ...]:
        return self._all(Pipeline)

    def slo(self, name: str) -> Slo | None:
        return self._get(Slo, name)

    def slos(self) -> tuple[Slo, ...]:
        return self._all(Slo)

    def describe(self, sql: str) -> Schema:
        self.described += 1
        rows = self.connection.execute(f"DESCRIBE {sql}").fetchall()
        return tuple(Field(row[0], row[1]) for row in rows)


def demo_catalog() -> MemoryCatalog:
    """The declarations and tables above."""
    connection = duckdb.connect()
    connection.execute(TABLES)
    catalog = MemoryCatalog(connection)
    catalog.declare(DECLARATIONS)
    return catalog


def _luhn(digits: list[int] | None) -> bool:
    return digits is not None and len(digits) % 2 == 0


NAIVE: dict[str, NaiveModel] = {
    "classify": NaiveModel(("digit", "confidence"), lambda g: (int(g[0]), 0.5)),
    "classify_hard": NaiveModel(("digit", "confidence"), lambda g: (int(g[0]) + 1, 1.0)),
    "segment": NaiveModel(("glyphs",), lambda s: [[float(b - 48), 0, 0] for b in s]),
    "luhn": NaiveModel(("ok",), _luhn),
    "assemble": NaiveModel(("amount",), lambda d: int("".join(map(str, d)))),
    "double": NaiveModel(("y",), lambda x: None if x is None else 2 * x),
    "is_even": NaiveModel(("even",), lambda x: None if x is None else x % 2 == 0),
    "shout": NaiveModel(("loud",), lambda t: None if t is None else t.upper() + "!"),
    "divide": NaiveModel(("quotient", "remainder"), lambda a, b: divmod(a, b)),
    "dice": NaiveModel(("face",), lambda x: x % 6),
}
