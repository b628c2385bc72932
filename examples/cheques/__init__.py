"""Cheque amounts from real handwritten digits: the demo behind `octans demo`.

`data` makes the strips, `models` trains and serves the variants, `cheques.sql` is the script,
`demo` narrates it.
"""
