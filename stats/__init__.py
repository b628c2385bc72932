"""From observations to estimates: intervals, tests of promises, profiling, selectivities.

Turns `Observation`s into `Estimate`s with interval, n, source and age. Never decides between plans.
"""
