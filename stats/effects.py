"""What a transform is expected to do before anything is measured: labelled, wide priors.

[Boehm et al.] report for artefacts that were transformed and *not* retrained: pruning costs
logistic regression 2-4 % of its accuracy and a ResNet50 most of it; quantisation left one task at
the baseline and another at 85 % of it; latency falls in proportion to pruning where kernels are
sparse. The expected values inside these ranges, and all of what they do not report, are our choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..ir.models import Effect, Prior, Scalar, Variant
from .observation import Observation

_FINDINGS = "[Boehm et al.], findings"
_OURS = "our choice: no finding is published"
_FORMATS = {
    "int8": Effect(0.25, (0.85, 0.99, 1.0), (0.25, 0.8, 1.5), _FINDINGS),
    "fp16": Effect(0.5, (0.98, 1.0, 1.0), (0.5, 1.0, 1.5), _OURS),
}


def effect_of(transform: str, args: Sequence[Scalar]) -> Effect:
    """The prior of a transform, as factors of its base's size, quality and latency."""
    (arg,) = args
    if transform == "quantize":
        return _FORMATS[str(arg)]
    if transform == "prune":
        assert isinstance(arg, float)
        return Effect(1.0, (0.1, 1.0 - 0.04 * arg, 1.0), (1.0 - arg, 1.0, 1.0), _FINDINGS)
    return Effect(1.0, (0.1, 0.95, 1.0), (0.1, 0.8, 1.2), _OURS)


def with_expected(
    variants: Iterable[Variant], observations: Iterable[Observation]
) -> tuple[Variant, ...]:
    """Derived variants without declared priors get those that follow from their base.

    The base's measured quality and mean latency of one call, times the transform's factors; where
    the base is derived and unmeasured too, its own expectation. Nothing follows from nothing.
    """
    by_name = {variant.full_name: variant for variant in variants}
    known = _measured(observations)
    return tuple(_expecting(variant, by_name, known) for variant in by_name.values())


Known = dict[tuple[str, str], float]
"""(variant's full name, `accuracy` or `latency_p95`) → the number."""


def _expecting(variant: Variant, by_name: dict[str, Variant], known: Known) -> Variant:
    derivation = variant.derivation
    if derivation is None or derivation.build is None or variant.priors:
        return variant
    numbers = {
        metric: _expected(variant.full_name, metric, by_name, known)
        for metric in ("accuracy", "latency_p95")
    }
    priors = tuple(Prior(name, value) for name, value in numbers.items() if value is not None)
    return variant.replace(priors=priors)


def _expected(name: str, metric: str, by_name: dict[str, Variant], known: Known) -> float | None:
    """The base's number times the factor; the base's own where it was measured."""
    factor, at = 1.0, by_name.get(name)
    while at is not None and at.derivation is not None and at.derivation.build is not None:
        effect = at.derivation.build.effect
        factor *= effect.quality[1] if metric == "accuracy" else effect.latency[1]
        base = at.derivation.base
        if (base, metric) in known:
            return known[base, metric] * factor
        at = by_name.get(base)
    return None


def _measured(observations: Iterable[Observation]) -> Known:
    found: Known = {}
    for seen in observations:
        if seen.variant is None or seen.statistic != "mean" or seen.deployment is not None:
            continue
        if seen.metric == "quality" and seen.given is None:
            found[seen.variant, "accuracy"] = seen.value
        elif seen.metric == "latency" and seen.batch == 1:
            found[seen.variant, "latency_p95"] = seen.value
    return found
