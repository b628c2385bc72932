"""Cost vectors and how they compose along a DAG of model calls.

Owns: batch curves, latency, quality, price, energy and memory of a call, and their composition into
a plan's cost. Pure: numbers come through `StatsProvider`; nothing here reads a catalog, runs a
model or decides between plans.
"""
