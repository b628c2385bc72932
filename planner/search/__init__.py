"""Searches over the options of every stage; they see tables of numbers and nothing else.

`table` states the problem, `bound` relaxes it (Lagrangian), `exact` proves an optimum, `frontier`
covers the Pareto front within 1 + ε.
"""
