"""Binding: names, types and scopes resolved; queries become logical plans, declarations objects.

`queries` and `scopes` walk a query, `sources` its FROM clauses, `rewriting` its expressions, `rows`
builds the plan, `pipelines` inlines bodies; `definitions`, `slos` and `analyze` do the statements.
Nothing here plans or runs; DuckDB is asked for types through `CatalogView.describe` only.
"""
