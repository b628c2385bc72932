"""Precision and recall of answers that are TRUE or FALSE, and what a cascade keeps of them.

Of a single choice they are shares: of its TRUE answers those that are right, of what is TRUE that
which it finds. Of a cascade, bounds on them are monotone as in `thresholds`, so that the threshold
may be picked by them: an element that is TRUE counts as found only where the last member finds it,
and the earlier one, where it is taken, too; one that is FALSE counts against precision where either
would say TRUE. Both can only get worse as the threshold falls. Recall is then a mean over the
elements that are TRUE; precision a mean over those counted for or against it, the others being
worth no bet either way.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..ir.models import Metric
from ..ir.physical import Choice
from .intervals import Interval, clopper_pearson_lower, clustered_share
from .outcomes import Outcomes, outcomes
from .promise import betting_bound
from .thresholds import Paired

if TYPE_CHECKING:
    import numpy as np

    from .measure import Measure


def record_detection(
    measure: Measure,
    key: str,
    choice: Choice,
    reference: Mapping[str, Choice],
    metric: Metric,
    base: Choice | None,
) -> None:
    """Record a choice's precision and recall on the blocks where it answered."""
    own = {**reference, key: choice}
    stage = measure.chain.stage(key)
    blocks = [block for block in measure.blocks if block.evaluator.knows(key, own)]
    seen = outcomes(stage, blocks, own, metric, base, None)
    if seen.answered is None:
        return
    for name, interval in detected(seen.answered, seen.positive, seen.units).items():
        measure.record.add(stage.context, name, "mean", interval, choice=choice)


def detected(
    answered: np.ndarray, positive: np.ndarray, units: Sequence[Hashable]
) -> dict[str, Interval]:
    """Precision and recall of answers; without the one that nothing was seen of.

    Args:
        answered: `n` booleans, the answers.
        positive: `n` booleans, the truth.
        units: `n` independent units.
    """
    found = {}
    for name, among, right in (
        ("precision", answered, positive),
        ("recall", positive, answered),
    ):
        places = among.nonzero()[0]
        if len(places):
            scores = right[places].astype(float).tolist()
            found[name] = clustered_share(scores, [units[at] for at in places.tolist()])
    return found


def kept(earlier: Outcomes, last: Outcomes, threshold: float, alpha: float) -> dict[str, float]:
    """One-sided lower bounds on a cascade's precision and recall, each at level alpha."""
    import numpy as np

    assert earlier.answered is not None
    assert last.answered is not None
    taken = earlier.confidence >= threshold
    positive = last.positive
    both = last.answered & (~taken | earlier.answered)
    either = last.answered | (taken & earlier.answered)
    hits, alarms = positive & both, ~positive & either
    whole = Paired(earlier.confidence, np.zeros(len(taken)), np.zeros(len(taken)), earlier.units)
    bounds = {}
    for name, among, right in (
        ("precision", hits | alarms, hits),
        ("recall", positive, both),
    ):
        if among.any():
            bounds[name] = _lower(right[among], whole.unit_of[among], alpha, whole.independent)
    return bounds


def _lower(right: np.ndarray, units: np.ndarray, alpha: float, independent: bool) -> float:
    """The bound on a mean from below; order and test are those of all elements, so it is monotone.

    Args:
        right: `n` booleans.
        units: `n` numbers of units, in the order in which they are bet on.
        alpha: level.
        independent: is each of all elements a unit of its own?
    """
    import numpy as np

    if independent:
        return clopper_pearson_lower(int(right.sum()), len(right), alpha)
    counts = np.bincount(units)
    means = np.bincount(units, weights=right)[counts > 0] / counts[counts > 0]
    return betting_bound(means.tolist(), alpha)
