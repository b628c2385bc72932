"""What a space of plans is made of, how alike two are, and what of a history is another thing now.

Likeness is of models, variants and devices shared (Jaccard), and of the DAGs, by the
Weisfeiler-Lehman kernel on stages labelled with their models [Shervashidze et al. 2011].
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from typing import TYPE_CHECKING

from ....ir.physical import Choice
from ....stats.histories import History, Signature
from ..protocol import SOURCE, Space

if TYPE_CHECKING:
    import networkx as nx

ITERATIONS = 2
"""Of Weisfeiler-Lehman: a stage with what is two calls around it."""


def signature_of(space: Space) -> Signature:
    """What a space is made of."""
    return Signature(
        tuple(_model(stage.options[0].variant) for stage in space.stages),
        tuple(
            (parent, place)
            for place, stage in enumerate(space.stages)
            for parent in stage.parents
            if parent != SOURCE
        ),
        frozenset(_defined(choice) for stage in space.stages for choice in stage.options),
        frozenset(choice.device for stage in space.stages for choice in stage.options),
    )


def _model(variant: str) -> str:
    return variant.partition(".")[0]


def _defined(choice: Choice) -> str:
    """Name of a variant as it is defined: one that was replaced shares nothing with what it was."""
    return choice.variant if choice.version == 1 else f"{choice.variant}#{choice.version}"


def _defined_in(space: Space, history: History) -> tuple[set[tuple[str, int]], ...]:
    """The variants of each, as they are defined."""
    return (
        {(c.variant, c.version) for stage in space.stages for c in stage.options},
        {(o.choice.variant, o.choice.version) for stage in history.options for o in stage},
    )


def changes(space: Space, history: History) -> str:
    """Which of its variants are others in the space, and why; '' for none."""
    own, seen = _defined_in(space, history)
    names = {variant for variant, _ in own} & {variant for variant, _ in seen - own}
    other = sorted(names & set(history.changed))
    anew = sorted(names - set(other))
    return "; ".join(
        f"{why}: {', '.join(found)}"
        for why, found in (("defined anew since", anew), ("files changed since", other))
        if found
    )


def why_unlike(space: Space, history: History) -> str | None:
    """Why nothing is left of what it profiled; None: something is."""
    own, seen = _defined_in(space, history)
    if own & seen:
        return None
    return changes(space, history) or "no variant that it saw is there"


def structure_kernel(one: Signature, other: Signature) -> float:
    """How alike two DAGs are, in [0, 1]: the Weisfeiler-Lehman kernel, normalised to 1 for one."""
    first, second = _colours(one), _colours(other)
    size = math.sqrt(_dot(first, first) * _dot(second, second))
    return _dot(first, second) / size if size else 0.0


def _colours(signature: Signature) -> Counter[str]:
    import networkx as nx

    graph: nx.DiGraph = nx.DiGraph()
    for place, model in enumerate(signature.stages):
        label = model.encode("ascii", "backslashreplace").decode("ascii")  # networkx hashes ASCII
        graph.add_node(place, model=label)
    graph.add_edges_from(signature.edges)
    found = Counter(signature.stages)
    with warnings.catch_warnings():  # that hashes differ from those of an older networkx
        warnings.simplefilter("ignore", UserWarning)
        hashes = nx.weisfeiler_lehman_subgraph_hashes(
            graph, node_attr="model", iterations=ITERATIONS
        )
    for colours in hashes.values():
        found.update(colours)
    return found


def _dot(one: Counter[str], other: Counter[str]) -> float:
    return float(sum(count * other[colour] for colour, count in one.items()))


def similarity(one: Signature, other: Signature) -> float:
    """The mean of models, variants and devices shared (Jaccard) and of the DAGs' likeness."""
    shared = [
        _jaccard(one.models, other.models),
        _jaccard(one.variants, other.variants),
        _jaccard(one.devices, other.devices),
        structure_kernel(one, other),
    ]
    return sum(shared) / len(shared)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0
