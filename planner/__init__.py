"""Rewrites a logical plan by rules, then chooses every variant, batch size and device by search.

Owns: rules and their driver, steps, lowering, the optimisation problem, the searches, explanations.
Mutates no node, runs no model, reads no catalog: statistics come through `cost.StatsProvider`.
"""
