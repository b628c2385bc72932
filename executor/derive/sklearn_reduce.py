"""REDUCE of scikit-learn estimators: principal components of the inputs, folded into the weights.

A PCA with k components is fitted on sample rows and put before a linear model or a network, whose
first weights W (`in x out`) become P·W and its intercepts b + mean·W, for P (`k x in`) the
components: the model then sees each input's projection on the components, and needs no retraining
([Boehm et al.], dimensionality reduction as a white-box variant; folding is our choice). Rows that
entered the fit must not measure the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import sklearn_file
from .base import NotDerivable, RowsNeeded, Source


def reduce(source: Source) -> None:
    """Write the estimator of `source.path` over `source.arg` principal components.

    Raises:
        NotDerivable: it has no coefficients, or no more inputs than components.
        RowsNeeded: there are fewer rows than components.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline

    assert isinstance(source.arg, int)
    estimator = sklearn_file.load(source.path)
    last = sklearn_file.last_step(estimator)
    weights = sklearn_file.coefficients(last)
    inputs = _inputs(last, weights)
    if source.arg >= inputs:
        raise NotDerivable(
            f"it has {inputs} inputs, which {source.arg} components do not reduce",
            f"REDUCE({max(1, inputs // 2)}), for one",
        )
    if source.rows is None or len(source.rows) < source.arg:
        raise RowsNeeded
    before = _before(estimator)
    rows = before.transform(source.rows) if before is not None else source.rows
    pca = PCA(source.arg, random_state=0).fit(np.asarray(rows, np.float64))
    _fold(last, weights, pca)
    steps = [*estimator.steps[:-1]] if before is not None else []
    made = Pipeline([*steps, (f"reduce_{len(steps)}", pca), (f"model_{len(steps)}", last)])
    sklearn_file.save(made, source.target)


def largest_rank(path: Path) -> int:
    """Half of its inputs: a rotation by more components costs what it saves."""
    last = sklearn_file.last_step(sklearn_file.load(path))
    return _inputs(last, sklearn_file.coefficients(last)) // 2


def _inputs(last: Any, weights: list[Any]) -> int:
    return int(weights[0].shape[0 if hasattr(last, "coefs_") else -1])


def _before(estimator: Any) -> Any:
    """The steps of a Pipeline before its last; None where there are none."""
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
        return estimator[:-1]
    return None


def _fold(last: Any, weights: list[Any], pca: Any) -> None:
    """Let `last` read components in place of inputs."""
    first = weights[0]
    if hasattr(last, "coefs_"):
        layers = [pca.components_ @ first, *weights[1:]]
        last.intercepts_[0] = last.intercepts_[0] + pca.mean_ @ first
        sklearn_file.with_coefficients(last, layers)
    else:
        last.intercept_ = last.intercept_ + first @ pca.mean_
        sklearn_file.with_coefficients(last, [first @ pca.components_.T])
    last.n_features_in_ = len(pca.components_)
    if hasattr(last, "feature_names_in_"):
        del last.feature_names_in_
