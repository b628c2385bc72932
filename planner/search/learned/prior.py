"""What other queries' histories can tell a search before it has seen anything of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class Prior(Protocol):
    """Losses of plans and dims of options, from histories; see `similar queries`."""

    def update(self, assignments: np.ndarray, losses: np.ndarray, variances: np.ndarray) -> None:
        """What the query itself has seen so far: -log accuracy of `` `n x stages` `` plans."""

    def losses(self) -> Sequence[np.ndarray] | None:
        """By stage, the loss expected of every option, a plan's their sum; None: nothing to say."""

    def dims(self, stage: int) -> Mapping[str, np.ndarray]:
        """Dim → value of every option of a stage, NaN where histories do not know."""
