"""`sklearn(path)`: a scikit-learn estimator saved by skops; never pickle.

Only the types below are let in, besides those skops trusts itself; a file with others is refused.
`predict` answers the model's first output; the largest of `predict_proba` answers the model's
CONFIDENCE output, or else a second DOUBLE output. Several list arguments stand side by side.
"""

from __future__ import annotations

import importlib
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..failures import cannot_load, describe, missing_package
from .base import Answer, LoadedModel, LoadRequest, MemoryMeter, as_matrix, importing

TRUSTED = (
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._kd_tree.newObj",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._ball_tree.newObj",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.newObj",
    "sklearn.tree._tree.Tree",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss._loss.CyHalfMultinomialLoss",
    "numpy.dtype",
    "scipy.sparse._csr.csr_matrix",
)
"""Types of scikit-learn itself that hold numbers only; loading them runs no code of the file's."""


MODULE = re.compile(rb'"__module__": "(sklearn[.\w]*)"')


class SklearnModel:
    """An estimator; predictions keep no state, but BLAS settings are per thread: one per slot."""

    thread_safe = False

    def __init__(
        self,
        estimator: Any,
        arguments: list[str],
        answer: str,
        confidence: str | None,
        memory_bytes: int | None,
    ) -> None:
        """`answer` and `confidence` are outputs of the model."""
        self._estimator = estimator
        self._arguments = arguments
        self._answer = answer
        self._confidence = confidence
        self.memory_bytes = memory_bytes

    def call(self, batch: pa.RecordBatch) -> Answer:
        """Predict the batch; with a confidence, both from one pass of `predict_proba`."""
        parts = [as_matrix(batch.column(name)) for name in self._arguments]
        x = np.column_stack(parts) if len(parts) > 1 else parts[0]
        if x.ndim == 1:
            x = x[:, None]
        if self._confidence is None:
            return {self._answer: self._estimator.predict(x)}
        shares = self._estimator.predict_proba(x)
        best = shares.argmax(axis=1)
        return {
            self._answer: self._estimator.classes_[best],
            self._confidence: shares[np.arange(len(best)), best],
        }

    def close(self) -> None:
        """Drop the estimator."""
        self._estimator = None


class SklearnBackend:
    """Loads `sklearn` variants."""

    def load(self, request: LoadRequest) -> LoadedModel:
        """Load the file with the fixed trusted list."""
        try:
            with importing():
                import sklearn  # noqa: F401
                from skops.io import load
                from skops.io.exceptions import UntrustedTypesFoundException
        except ImportError as error:
            raise missing_package("sklearn", "scikit-learn and skops", "sklearn") from error
        name, path = request.variant.full_name, request.path()
        if not path.is_file():
            raise cannot_load(name, f"there is no file {path}")
        with importing():
            _import_modules(path)
        meter = MemoryMeter()
        try:
            estimator = load(path, trusted=list(TRUSTED))
        except UntrustedTypesFoundException as error:
            raise cannot_load(
                name,
                f"the file holds types that are not trusted: {describe(error)}",
                "load it in a python('module:factory') variant if you trust it",
            ) from error
        except Exception as error:
            raise cannot_load(name, f"skops refused it: {describe(error)}") from error
        answer, confidence = _roles(request, estimator)
        arguments = [field.name for field in request.model.inputs]
        return SklearnModel(
            estimator, arguments, answer, confidence, meter.grown(path.stat().st_size)
        )


def _import_modules(path: Path) -> None:
    """Import the modules of scikit-learn that a file's types are in, as loading it would."""
    with suppress(OSError, zipfile.BadZipFile, KeyError, ImportError):  # loading it will say so
        with zipfile.ZipFile(path) as file:
            named = set(MODULE.findall(file.read("schema.json")))
        for name in sorted(named):
            importlib.import_module(name.decode())


def _roles(request: LoadRequest, estimator: Any) -> tuple[str, str | None]:
    """Which output `predict` answers, and which the confidence, if the model has one."""
    model, name = request.model, request.variant.full_name
    confidence = model.confidence
    others = [field.name for field in model.outputs if field.name != confidence]
    if confidence is None and len(model.outputs) == 2 and model.outputs[1].type == "DOUBLE":
        confidence, others = model.outputs[1].name, others[:1]
    if len(others) != 1:
        raise cannot_load(name, "an estimator answers one output and its confidence")
    if confidence is not None and not hasattr(estimator, "predict_proba"):
        raise cannot_load(
            name,
            f"its estimator has no predict_proba to answer {confidence}",
            "fit it so that it has (probability=True, or calibrate it)",
        )
    return others[0], confidence
