"""What a transform gets, and how it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...ir.models import Scalar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NotDerivable(Exception):
    """This artefact cannot be transformed so; `hint` says what can be done."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class RowsNeeded(Exception):
    """The transform learns from sample rows, and was given none."""


@dataclass(frozen=True)
class Source:
    """What is transformed.

    Attributes:
        path: the base's artefact.
        target: the file to write.
        arg: the transform's argument: a format, a share or a rank.
        rows: sample rows as the artefact gets them, `n x features`; None where there are none.
    """

    path: Path
    target: Path
    arg: Scalar
    rows: NDArray[np.floating] | None = None
