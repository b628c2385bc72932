"""Learned search: which plan to profile next, where statistics do not decide.

`loop` is the search; `quality` and `operators` are its two surrogates (`gp` their process,
`features` a space as arrays), `spending` predicts what profiling would take, `draws` finds the
plans that may be the best, `acquisition` and `worth` choose among them. It knows of plans only what
it is told; it runs nothing.
"""

from .loop import LearnedSearch, Settings

__all__ = ["LearnedSearch", "Settings"]
