"""`python -m benchmarks.workloads.record_cheques --out FILE`: every reader on every glyph, once.

The demo's readers and more of the same kinds (forests of several sizes, nearest neighbours and
support vector machines in principal subspaces, dense networks, pruned linear models) are trained on
the training images, run on every glyph of `STRIPS` strips of the part kept for ANALYZE, and timed
at every batch size, by one thread. Times are of this machine, the least of repeated calls. The file
holds what `cheques_replay` makes plans of; it is measured, and so different on every machine.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from octans.examples.cheques import data, demo, models

STRIPS = 6000
BATCHES = (1, 8, 64, 512)
REPEATS = 5
CHUNK = 4096

Glyphs = NDArray[np.float32]
Digits = NDArray[np.uint8]
Read = Callable[[Glyphs], Digits]


@dataclass(frozen=True)
class Reader:
    """A way to read glyphs; `load` makes it ready, in the folder of trained models."""

    variant: str
    knobs: tuple[tuple[str, int], ...]
    load: Callable[[], Read]


def readers() -> list[Reader]:
    """All that are recorded."""
    found = [Reader(name, (), _onnx(name)) for name in ("linear_i8", "mlp_small", "mlp_large")]
    found += [Reader(name, (), _onnx(name)) for name in ("cnn", "jury")]
    found += [
        Reader("forest", (("trees", t),), _served(models.forest, t)) for t in (10, 30, 100, 300)
    ]
    found += [
        Reader("neighbours", (("components", c),), _served(models.neighbours, c))
        for c in (8, 16, 32)
    ]
    found += [
        Reader("linear_pruned", (("percent", p),), _served(models.linear_pruned, p / 100))
        for p in (0, 50, 80)
    ]
    found += [Reader("subspace_svm", (("components", c),), _fitted("svm", c)) for c in (8, 16, 32)]
    found += [Reader("dense", (("hidden", h),), _fitted("dense", h)) for h in (8, 32, 128)]
    found += [Reader("svm", (), _served(models.svm))]
    return found


def _served(factory: Callable[..., models.Batch], *knobs: float) -> Callable[[], Read]:
    """A Python variant of the demo."""

    def load() -> Read:
        call = factory(*knobs)

        def read(glyphs: Glyphs) -> Digits:
            lists = pa.FixedSizeListArray.from_arrays(pa.array(glyphs.reshape(-1)), models.PIXELS)
            batch = pa.RecordBatch.from_arrays([lists], ["glyph"])
            return np.asarray(call(batch)["digit"], np.uint8)

        return read

    return load


def _onnx(name: str) -> Callable[[], Read]:
    """An ONNX variant of the demo."""

    def load() -> Read:
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = 1
        session = InferenceSession(f"{name}.onnx", options, providers=["CPUExecutionProvider"])

        def read(glyphs: Glyphs) -> Digits:
            (digits,) = session.run(["digit"], {"glyph": glyphs})
            return np.asarray(digits, np.uint8)

        return read

    return load


def _fitted(kind: str, size: int) -> Callable[[], Read]:
    """One that `train` trained and wrote."""

    def load() -> Read:
        import joblib

        model = joblib.load(f"{kind}_{size}.joblib")
        return lambda glyphs: np.asarray(model.predict(glyphs), np.uint8)

    return load


def train(folder: Path) -> None:
    """The demo's models and those beside them, into the folder."""
    import warnings

    import joblib
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    demo.prepare(folder, demo.Narrator(io.StringIO()), demo.QUICK_STRIPS, quick=True)
    for size in (8, 16, 32):
        machine = make_pipeline(PCA(size, random_state=0), SVC(C=5, gamma=0.8))
        joblib.dump(machine.fit(*models.training(6)), folder / f"svm_{size}.joblib")
    for size in (8, 32, 128):
        network = MLPClassifier((size,), max_iter=60, tol=0.0, random_state=0)
        with warnings.catch_warnings():
            # The networks stop after a fixed number of epochs on purpose.
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(*models.training(6))
        joblib.dump(network, folder / f"dense_{size}.joblib")


def record(out: Path, strips: int = STRIPS) -> None:
    """Train in a folder of its own, run everything, write the recording."""
    from threadpoolctl import threadpool_limits

    out = out.resolve()
    with ExitStack() as stack, tempfile.TemporaryDirectory() as place, _inside(Path(place)):
        train(Path(place))  # and with it loads the libraries that are limited
        stack.enter_context(threadpool_limits(1))
        table = data.strips("analyze", strips)
        found = _steps(table)
        glyphs = found.pop("glyphs")
        names, answers, seconds, loads = [], [], [], []
        for reader in readers():
            start = time.perf_counter()
            read = reader.load()
            loads.append(time.perf_counter() - start)
            answers.append(np.concatenate([read(part) for part in _parts(glyphs)]))
            seconds.append([_timed(read, glyphs[:b]) for b in BATCHES])
            names.append(" ".join([reader.variant, *(f"{k}={v}" for k, v in reader.knobs)]))
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            out,
            names=np.array(names),
            answers=np.array(answers),
            seconds=np.array(seconds),
            loads=np.array(loads),
            batches=np.array(BATCHES),
            **found,
        )


def _steps(table: pa.Table) -> dict[str, Any]:
    """What the plain steps make of the strips, and their seconds at every batch size."""
    batch = table.combine_chunks().to_batches()[0]
    segment, luhn, assemble = models.segment(), models.luhn(), models.assemble()
    lists = segment(batch)["glyphs"]
    counts = np.diff(lists.offsets.to_numpy())
    glyphs = lists.values.flatten().to_numpy(zero_copy_only=False).reshape(-1, models.PIXELS)
    numbers = pa.RecordBatch.from_arrays([batch.column("digits")], ["digits"])
    steps = {"segment": (segment, batch), "luhn": (luhn, numbers), "assemble": (assemble, numbers)}
    return {
        "glyphs": np.ascontiguousarray(glyphs, np.float32),
        "counts": counts,
        "truth": batch.column("digits").values.to_numpy().astype(np.uint8),
        **{
            f"{name}_seconds": np.array([_timed(call, given.slice(0, b)) for b in BATCHES])
            for name, (call, given) in steps.items()
        },
    }


def _parts(glyphs: Glyphs) -> Iterator[Glyphs]:
    for first in range(0, len(glyphs), CHUNK):
        yield glyphs[first : first + CHUNK]


def _timed(call: Callable[[Any], object], given: object) -> float:
    """Least seconds of a call, after one that is not counted: what else runs only adds to it."""
    call(given)
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call(given)
        taken.append(time.perf_counter() - start)
    return min(taken)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in the folder: the models read their files from it."""
    back = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(back)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workloads.record_cheques")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .npz file")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    record(options.out)
    print(f"recorded in {time.perf_counter() - start:.0f} s: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
