"""Models of three prices whose answers and confidences follow from the row."""

import time

import numpy as np

SECONDS = {"tiny": 2e-6, "mid": 2e-5, "big": 2e-4}
RIGHT = {"tiny": 0.75, "mid": 0.90, "big": 0.985}
CALLS = []
"""(variant, inputs) of every call."""


def hardness(xs):
    """In [0, 1), as good as random."""
    return (np.asarray(xs) * 2654435761 % 1000003) / 1000003


def answer(kind, xs):
    """Twice the number where the row is not too hard, and how sure the variant is of it."""
    hard = hardness(xs)
    noise = 0.05 * np.sin(np.asarray(xs, dtype=float))
    return np.where(hard < RIGHT[kind], 2 * np.asarray(xs), -1), np.clip(1 - hard + noise, 0, 1)


def model(kind, unsure=False):
    """A variant; with `unsure` it has no confidence at all."""

    def call(batch):
        xs = batch.column("x").to_pylist()
        CALLS.append((kind, list(xs)))
        ys, sure = answer(kind, xs)
        time.sleep(SECONDS[kind] * len(xs))  # only the order of the prices counts
        return {"y": ys, "sure": [None] * len(xs) if unsure else sure}

    return call


def busy(seconds):
    """Waits without a model of time: only the order of the variants' prices counts."""
    import time

    time.sleep(seconds)
