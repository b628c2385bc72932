"""The catalog: one DuckDB file with definitions, observations, samples, proofs, runs and plans.

Owns the DuckDB schema and its migrations, versions of definitions, the append-only log of
observations and the session's settings. Never parses the language, never decides between plans,
and computes nothing in Python that SQL can; imports `errors`, `ir` and `stats` only.
"""
