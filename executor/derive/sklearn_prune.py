"""PRUNE of scikit-learn estimators: coefficients by size, forests by trees; without retraining.

Linear models and networks: in each weight matrix the given share of the coefficients that are
smallest in size becomes 0; intercepts stay.

Random forests: the given share of the trees is left out (ensemble pruning, [Zhou, "Ensemble
Methods", 2012, ch. 6]). The trees of such a forest are drawn alike, so keeping the first of them is
keeping a random subset. Boosted trees are not alike: a later one corrects the earlier.
"""

from __future__ import annotations

import math

from . import sklearn_file
from .base import NotDerivable, Source
from .pruning import pruned


def prune(source: Source) -> None:
    """Write the estimator of `source.path` with the share `source.arg` pruned.

    Raises:
        NotDerivable: it has neither coefficients nor interchangeable trees, or no tree to spare.
    """
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        ExtraTreesRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )

    assert isinstance(source.arg, float)
    estimator = sklearn_file.load(source.path)
    last = sklearn_file.last_step(estimator)
    forests = (
        ExtraTreesClassifier,
        ExtraTreesRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    if isinstance(last, forests):
        trees = last.estimators_
        kept = math.ceil((1 - source.arg) * len(trees))
        if kept == len(trees):
            raise NotDerivable(f"of {len(trees)} trees PRUNE({source.arg}) leaves none out")
        last.estimators_ = trees[:kept]
        last.n_estimators = kept
    else:
        weights = sklearn_file.coefficients(last)
        made = [pruned(weight, source.arg) for weight in weights]
        sklearn_file.with_coefficients(last, made)
    sklearn_file.save(estimator, source.target)
