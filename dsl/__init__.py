"""The language: text to statements, statements to text, names to what they mean.

Owns the grammar, the statement AST with its spans, the bridge to sqlglot, the binder, the printer
and the drawing of errors. Must not know: how a plan is chosen or run, or where the catalog is kept.
"""
