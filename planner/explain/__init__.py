"""Explaining: from a chosen plan to the explain tree, and from the tree to text, JSON and HTML.

`build`, `nodes`, `flips`, `why_not` and `advice` make an `ir.explain.Explanation`; `text` (with
`sections`, `layout`, `numbers`), `json` and `html` (with `plot`) only print one. Nothing here
plans or runs, except that WHY NOT asks the exact search once more.
"""
