"""Benchmarks: `python -m benchmarks.NAME`; every one follows `contract`, peers in `baselines/`."""
