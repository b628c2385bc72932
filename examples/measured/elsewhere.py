"""What stands for a model that was measured elsewhere: planning may choose it, running may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pyarrow as pa


class MeasuredElsewhere(RuntimeError):
    """The model is not here, only its measurements are."""


def model(*, origin: str, **knobs: object) -> Callable[[pa.RecordBatch], NoReturn]:
    """The factory of every imported variant.

    Raises:
        MeasuredElsewhere: always.
    """
    raise MeasuredElsewhere(
        f"{origin} was measured elsewhere and is not here: declare the variant anew, with a "
        "backend that runs it, before importing"
    )
