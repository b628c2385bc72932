"""Warm start: an ensemble of the models of similar earlier searches, until the own one is mature.

Of the histories handed over about ten are used [Liu et al. 2025: more cost more than they bring]:

1. by *structure*: models, variants and devices shared (Jaccard), and how alike the DAGs are, by the
   Weisfeiler-Lehman kernel on stages labelled with their models [Shervashidze et al. 2011];
2. once `FIRST` plans have been profiled, by *rank agreement* with what was seen.

Weights are then those of RGPE [Feurer, Letham & Bakshy 2018]: in each of 256 draws from the
models' predictions of the plans profiled, the model that misranks the fewest pairs gets the draw;
the own model is judged by its predictions with each plan left out. Ours differs in two ways. A pair
counts by how surely its two losses differ, so noise does not vote. And against weight dilution a
history must rank better than chance (than its predictions rank shuffles of the losses; of those
that pass, one in ten may know nothing), else its weight is 0; RGPE compares with the own model
alone.

Predictions are moved to the query's own scale by the line that fits best what was seen, drawn to
the identity. The own model's share of the weights draws the prior to the mean of what was seen, so
that a mature model has a flat prior; at `MATURE` there is none.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ....ir.physical import Choice
from ....ir.record import dataclass
from ....stats.histories import History, Option, SeenPlan, Signature
from ..protocol import SOURCE, Evaluation, Space
from .history_model import ABSENT, FEATURES, MOST_PLANS, HistoryModel, Vocabulary, slots
from .ranking import Judge, passing, won

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np

MOST_HISTORIES = 10
"""Histories in the ensemble."""
FIRST = 4
"""Plans profiled before ranks are compared: fewer have no shuffles to tell from chance by."""
MATURE = 0.95
"""Share of the own model from which on histories are left out."""
GROWN, MATURE_GROWN = 1.1, 2.0
"""Times as much seen (inverse variances of losses), after which histories are weighed anew; the
second where the own model is mature, as weighing takes longer than a proposal (our choice)."""
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


def _unlike(space: Space, history: History) -> str | None:
    """Why nothing is left of what it profiled: every variant is gone, was defined anew since or has
    other files."""
    own = {(c.variant, c.version) for stage in space.stages for c in stage.options}
    seen = {(o.choice.variant, o.choice.version) for stage in history.options for o in stage}
    names = {variant for variant, _ in own} & {variant for variant, _ in seen}
    if own & seen:
        return None
    if not names:
        return "no variant that it saw is there"
    other = sorted(names & set(history.changed))
    anew = sorted(names - set(other))
    return "; ".join(
        f"{why}: {', '.join(found)}"
        for why, found in (("defined anew since", anew), ("files changed since", other))
        if found
    )


def history_of(space: Space, slo: str, evaluations: Sequence[Evaluation]) -> History:
    """What a search saw, to be kept; of evaluations of one plan the one on most rows."""
    last: dict[tuple[int, ...], Evaluation] = {}
    for one in evaluations:
        known = last.get(one.assignment)
        if one.scores and (known is None or len(one.scores) >= len(known.scores)):
            last[one.assignment] = one
    places: list[dict[int, int]] = []
    options = []
    for at, stage in enumerate(space.stages):
        used = sorted({assignment[at] for assignment in last})
        places.append({option: place for place, option in enumerate(used)})
        options.append(
            tuple(
                Option(
                    stage.options[o],
                    _means([e.stages[at] for e in last.values() if e.assignment[at] == o]),
                )
                for o in used
            )
        )
    plans = []
    for assignment, one in last.items():
        n = len(one.scores)
        mean = math.fsum(one.scores) / n
        variance = math.fsum((s - mean) ** 2 for s in one.scores) / max(1, n - 1)
        named = tuple(place[o] for place, o in zip(places, assignment, strict=True))
        plans.append(SeenPlan(named, n, mean, variance))
    return History(signature_of(space), slo, tuple(options), tuple(plans))


def _means(seen: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each dim over what was seen of it."""
    found: dict[str, list[float]] = {}
    for values in seen:
        for dim, value in values.items():
            found.setdefault(dim, []).append(value)
    return {dim: math.fsum(values) / len(values) for dim, values in found.items()}


def loss_of(mean: float, variance: float, n: int) -> tuple[float, float]:
    """-log accuracy and its variance, from the mean of `n` scores in [0, 1] and their variance.

    By the delta method, accuracy and variance drawn to one half by one row (Jeffreys' prior), so
    that a plan that was never right has a loss.
    """
    accuracy = (mean * n + 0.5) / (n + 1.0)
    spread = (variance * n + 0.25) / (n + 1.0)
    return -math.log(accuracy), spread / n / accuracy**2


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


@dataclass(frozen=True)
class Member:
    """A history in the ensemble: its place among those handed over, and its weight."""

    place: int
    weight: float


@dataclass(frozen=True)
class Warmed:
    """What a history was worth to the search in the end.

    Attributes:
        history: the one.
        weight: its share; all histories' and the own model's add to 1.
        agreement: share of pairs of plans, each weighed by how surely they differ, that it ranks
            as they were seen, in [0, 1]; None: too few plans were profiled to compare.
    """

    history: History
    weight: float
    agreement: float | None


class _Known:
    """A history with its model, made when it is first asked."""

    def __init__(self, history: History, near: float, vocabulary: Vocabulary) -> None:
        self.history = history
        self.near = near
        self._vocabulary = vocabulary
        self._model: HistoryModel | None = None
        self.slots = slots(history.signature.stages)

    def model(self, order: Sequence[str]) -> HistoryModel:
        """The model over the stages of the query, those the history lacks `ABSENT`."""
        import numpy as np

        if self._model is None:
            plans = sorted(self.history.plans, key=lambda plan: -plan.n)[:MOST_PLANS]
            chosen = np.array([plan.options for plan in plans], dtype=np.int64)
            encoded = np.full((len(plans), len(order), FEATURES), ABSENT, dtype=np.int64)
            for at, slot in enumerate(order):
                if slot in self.slots:
                    place = self.slots.index(slot)
                    options = [option.choice for option in self.history.options[place]]
                    encoded[:, at] = self._vocabulary.table(slot, options)[chosen[:, place]]
            losses = np.array([loss_of(p.mean, p.variance, p.n) for p in plans])
            self._model = HistoryModel(encoded, losses[:, 0], losses[:, 1])
        return self._model


class WarmStart:
    """What a search takes as its prior; the same seed gives the same weights."""

    def __init__(self, space: Space, histories: Sequence[History], seed: int = 0) -> None:
        """Take those histories that share a model with the space and saw two plans or more.

        Not those of which all variants that the space has by name were replaced since, or their
        files: `left_out` tells them, with the reason.
        """
        import scipy.linalg  # noqa: F401  so that its threads are seen
        from threadpoolctl import ThreadpoolController

        self._threads = ThreadpoolController()
        self._space = space
        own = signature_of(space)
        self._slots = slots(own.stages)
        vocabulary = Vocabulary()
        self._tables = [
            vocabulary.table(slot, stage.options)
            for slot, stage in zip(self._slots, space.stages, strict=True)
        ]
        alike = {
            place: history
            for place, history in enumerate(histories)
            if own.models & history.signature.models and len(history.plans) > 1
        }
        unlike = {place: _unlike(space, history) for place, history in alike.items()}
        self.left_out = tuple((alike[place], why) for place, why in unlike.items() if why)
        self._known = {
            place: _Known(history, similarity(own, history.signature), vocabulary)
            for place, history in alike.items()
            if unlike[place] is None
        }
        self._agreements: dict[int, float] = {}
        self._seed = seed
        self._own = 0.0
        self._weighed = 0.0
        self._seen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._expected: list[np.ndarray] | None = None
        nearest = sorted(self._known, key=lambda place: -self._known[place].near)
        total = sum(self._known[place].near for place in nearest[:MOST_HISTORIES])
        self._members = tuple(
            Member(place, self._known[place].near / total) for place in nearest[:MOST_HISTORIES]
        )

    @property
    def members(self) -> tuple[Member, ...]:
        """The ensemble; weights and the own model's add to 1."""
        return self._members

    def account(self) -> tuple[Warmed, ...]:
        """What each history that was considered is worth by now, the weightiest first."""
        weights = {member.place: member.weight for member in self._members}
        found = [
            Warmed(known.history, weights.get(place, 0.0), self._agreements.get(place))
            for place, known in self._known.items()
        ]
        return tuple(sorted(found, key=lambda one: (-one.weight, -(one.agreement or 0.0))))

    @property
    def own_weight(self) -> float:
        """The own model's share: 0 at first, 1 when it is mature."""
        return self._own

    def update(self, assignments: np.ndarray, losses: np.ndarray, variances: np.ndarray) -> None:
        """Weigh anew: all the query has seen so far, `n x stages`, and `n` each."""
        import numpy as np

        self._seen = (assignments, losses, np.maximum(variances, 1e-12))
        self._expected = None
        seen = float((1.0 / self._seen[2]).sum())
        grown = MATURE_GROWN if self._own >= MATURE else GROWN
        if self._known and len(losses) >= FIRST and seen >= grown * self._weighed:
            self._weighed = seen
            with self._one_thread():
                self._weigh(assignments, losses, variances)

    def _weigh(self, assignments: np.ndarray, losses: np.ndarray, variances: np.ndarray) -> None:
        import numpy as np

        generator = np.random.default_rng((self._seed, len(losses)))
        plans = self._encoded(assignments)
        own = HistoryModel(plans, losses, variances)
        judge = Judge(losses, np.maximum(variances, 1e-12), generator)
        told = []
        for place, known in self._known.items():
            mean, covariance = known.model(self._slots).joint(plans)
            misranked = judge.expected(mean)
            self._agreements[place] = 1.0 - misranked
            told.append((misranked, -known.near, place, mean, covariance))
        able = passing([judge.chance(mean) for *_, mean, _ in told])
        passed = [one for one, passes in zip(told, able, strict=True) if passes]
        passed.sort(key=lambda one: one[:3])
        kept = passed[:MOST_HISTORIES]
        drawn = [judge.draws(mean, covariance) for *_, mean, covariance in kept]
        drawn.append(judge.draws(*own.left_out()))
        shares = won(np.array(drawn))
        self._own = float(shares[-1])
        self._members = tuple(
            Member(place, float(share))
            for (_, _, place, _, _), share in zip(kept, shares[:-1], strict=True)
        )

    def losses(self) -> list[np.ndarray] | None:
        """By stage, the loss that is expected of every option; a plan's is their sum.

        None once the own model is mature, or where no history has a say.
        """
        total = sum(member.weight for member in self._members)
        if total <= 0.0 or self._own >= MATURE:
            return None
        if self._expected is None:
            with self._one_thread():
                self._expected = self._composed(total)
        return self._expected

    def _composed(self, total: float) -> list[np.ndarray]:
        """The mixture on the query's own scale: models and the line are sums, so it is one too."""
        import numpy as np

        members = [member for member in self._members if member.weight > 0.0]
        stages = [np.zeros(len(stage.options)) for stage in self._space.stages]
        center = 0.0
        for member in members:
            weight = member.weight / total
            model = self._known[member.place].model(self._slots)
            center += weight * model.center
            for table, features in zip(stages, self._tables, strict=True):
                table += weight * model.parts(features)
        slope, offset, level = 1.0, 0.0, 0.0
        if self._seen is not None and len(self._seen[1]):
            seen, losses, noise = self._seen
            told = center + sum(table[o] for table, o in zip(stages, seen.T, strict=True))
            slope, offset = _line(told, losses, noise)
            level = float(losses.mean())
        share = 1.0 - self._own
        stages = [share * slope * table for table in stages]
        stages[0] += share * (offset + slope * center) + self._own * level
        return stages

    def dims(self, stage: int) -> Mapping[str, np.ndarray]:
        """Dim → value of each option where a history profiled that very option, else nan.

        Of several histories the median: one on odd rows or a busy machine moves it little.
        """
        import numpy as np

        slot = self._slots[stage]
        options = {choice: at for at, choice in enumerate(self._space.stages[stage].options)}
        found: dict[str, dict[int, list[float]]] = {}
        for known in self._known.values():
            if slot not in known.slots:
                continue
            for option in known.history.options[known.slots.index(slot)]:
                at = options.get(option.choice)
                for dim, value in option.dims.items() if at is not None else ():
                    found.setdefault(dim, {}).setdefault(at, []).append(value)  # type: ignore[arg-type]
        values = {}
        for dim, by_option in found.items():
            values[dim] = np.full(len(options), math.nan)
            for at, seen in by_option.items():
                values[dim][at] = np.median(seen)
        return values

    def _one_thread(self) -> AbstractContextManager[object]:
        """Matrices this small take a tenth of the time without threads that wait for each other."""
        limited: AbstractContextManager[object] = self._threads.limit(limits=1, user_api="blas")
        return limited

    def _encoded(self, assignments: np.ndarray) -> np.ndarray:
        """`n x stages` option places → `n x stages x 2` feature numbers."""
        import numpy as np

        return np.stack(
            [table[assignments[:, at]] for at, table in enumerate(self._tables)], axis=1
        )


def _line(predicted: np.ndarray, losses: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """Slope and offset: the line from predictions to losses, drawn to the identity.

    The slope has the prior N(1, 1/4), the offset at the predictions' mean N(0, the variance of the
    differences) (our choice); a slope below 0 would turn a history around and is 0.
    """
    import numpy as np

    center = float(predicted.mean())
    shift = predicted - center
    apart = losses - predicted
    level = float(np.var(apart)) + float(np.mean(apart)) ** 2 + 1e-9
    noise = variances + float(np.var(apart)) + 1e-9
    design = np.stack([np.ones_like(shift), shift], axis=1)
    precision = design.T @ (design / noise[:, None]) + np.diag([1.0 / level, 4.0])
    right = design.T @ ((losses - center) / noise) + np.array([0.0, 4.0])
    offset, slope = np.linalg.solve(precision, right)
    slope = max(float(slope), 0.0)
    return slope, center + float(offset) - slope * center
