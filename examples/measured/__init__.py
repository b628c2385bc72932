"""Public measurements in a catalog: what others measured of models one need not own.

`python -m octans.examples.measured FOLDER CATALOG` declares models, variants and devices of five
published data sets and inserts their numbers through `INSERT INTO octans.observations`. A module a
data set says what its columns mean; `loading` does the rest. The data are not part of Octans.
"""

from __future__ import annotations

from .dataset import DataSet
from .llm_pilot import LLM_PILOT
from .mlenergy_v3 import MLENERGY_V3
from .operator_variants import OPERATOR_VARIANTS
from .splitwise_perf import SPLITWISE_PERF
from .timm_vision import TIMM_VISION

DATA_SETS: dict[str, DataSet] = {
    data.name: data
    for data in (LLM_PILOT, MLENERGY_V3, OPERATOR_VARIANTS, SPLITWISE_PERF, TIMM_VISION)
}
"""The data sets that can be imported, by the name of their folder."""

__all__ = ["DATA_SETS", "DataSet"]
