"""The executor: runs a physical plan, batch by batch, and measures what it does.

`engine.run` streams Arrow chunks from DuckDB (`relational`) through the stages (`stages`, `calls`)
and back into DuckDB (`residual`); every model call takes a slot of its device (`slots`), bounded
channels join the threads (`channels`), `telemetry` counts, `runner` lends the same stages to
ANALYZE. Backends that load variants are in `backends/`.

It must not know: how a plan was chosen, what anything was estimated to cost, or how SQL is parsed.
"""
