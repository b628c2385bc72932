"""scikit-learn estimators in skops files: loading, the last step's coefficients, saving."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.sklearn import TRUSTED
from .base import NotDerivable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPOCH = (1980, 1, 1, 0, 0, 0)
_IDS = re.compile(r'("__id__": |")(\d+)(?=[,\n}]|\.np[yz]")')


def load(path: Path) -> Any:
    """The estimator; never by pickle.

    Raises:
        NotDerivable: it is no skops file, or one with types that are not trusted.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.load(path, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise NotDerivable(f"the file holds types that are not trusted: {error}") from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise NotDerivable(f"{path.name} is not a skops file: {error}") from error


def save(estimator: Any, path: Path) -> None:
    """Write an estimator, equal ones as equal bytes.

    skops names arrays by their addresses in memory, and a ZIP file holds the time: both are made
    the same for all.
    """
    import skops.io

    numbers: dict[str, str] = {}

    def renumbered(found: re.Match[str]) -> str:
        return found[1] + numbers.setdefault(found[2], str(len(numbers) + 1))

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as made:
        schema = _IDS.sub(renumbered, made.read("schema.json").decode())
        files = {"schema.json": schema.encode()}
        for name in made.namelist():
            if name != "schema.json":
                stem, dot, kind = name.partition(".")
                files[numbers.get(stem, stem) + dot + kind] = made.read(name)
    with zipfile.ZipFile(path, "w") as canonical:
        for name, content in sorted(files.items()):
            canonical.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def last_step(estimator: Any) -> Any:
    """The estimator itself, or the last step of a Pipeline."""
    from sklearn.pipeline import Pipeline

    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def coefficients(estimator: Any) -> list[NDArray[Any]]:
    """The weights of a linear model (`outputs x features`) or of a network (`in x out` a layer).

    Raises:
        NotDerivable: it has none.
    """
    import numpy as np

    if hasattr(estimator, "coefs_"):
        return [np.asarray(layer) for layer in estimator.coefs_]
    linear = getattr(estimator, "coef_", None)
    if isinstance(linear, np.ndarray) and not hasattr(estimator, "support_"):
        return [linear]
    raise NotDerivable(
        f"a {type(estimator).__name__} has no coefficients",
        "linear models and multi-layer perceptrons have; of random forests, trees can be pruned",
    )


def with_coefficients(estimator: Any, weights: list[NDArray[Any]]) -> None:
    """Give the estimator these weights, in place."""
    if hasattr(estimator, "coefs_"):
        estimator.coefs_ = weights
        vars(estimator).pop("_optimizer", None)  # its momenta, twice the size, are of the old ones
    else:
        (estimator.coef_,) = weights
