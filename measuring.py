"""Variants of one model measured on the same rows: time, size, and a score for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .analyzing import base_choices, body_plan, labels_of, pricer
from .drawing import clusters_of, label_column
from .dsl import ast
from .dsl.binder import bind_select
from .dsl.parser import parse_one
from .errors import RunError
from .ir.logical import LogicalNode
from .ir.models import Knobs, Model, Variant, knobs_text
from .ir.physical import Choice
from .ir.record import dataclass
from .ir.types import identifier, quote
from .kept import Kept, as_model_rows, kept
from .knowing import misplaced
from .planner.steps import StepInfo, steps
from .planner.variants import Point
from .stats.intervals import Interval, clustered_share

if TYPE_CHECKING:
    import pyarrow as pa

    from .session import Session
    from .stats.observation import Observation
    from .stats.profile import Request

ROWS = "octans_derive_rows"


class Stopped(Exception):
    """The budget is spent, or the statement was cancelled; the text says which.

    `usd` is what the measurement that it ended took by then.
    """

    def __init__(self, why: str, usd: float = 0.0) -> None:
        super().__init__(why)
        self.usd = usd

    @classmethod
    def at(cls, reason: str, usd: float) -> Stopped:
        """For the reason that profiling gives."""
        return cls("cancelled" if "cancel" in reason else "the budget is spent", usd)


@dataclass(frozen=True)
class Measured:
    """What measuring a variant gave, and took."""

    point: Point
    quality: Interval
    observations: tuple[Observation, ...]


@dataclass(frozen=True)
class World:
    """The rows that all variants are measured on, and how."""

    model: Model
    sample: Kept
    rows: pa.Table
    body: LogicalNode
    info: StepInfo
    base: Choice | None


def world_of(session: Session, model: Model, *, learning: bool) -> World:
    """The kept search rows of a model; with `learning`, without those set apart for building.

    Raises:
        RunError: OC0442 there are none, OC0445 nothing says what is right.
    """
    sample = kept(session, model)
    if sample is None:
        raise RunError(
            f"there are no rows of {model.name} to measure derived variants on",
            code="OC0442",
            hint=f"run ANALYZE MODEL {identifier(model.name)} USING (…) LABELS (…) first",
        )
    if learning:
        sample = sample.set_apart(session.catalog.settings.seed)
    rows = as_model_rows(session, sample, "search")
    with session.visible(ROWS, rows):
        body = bind_select(_query(model), session.catalog).plan
    (info,) = steps(body)
    base = base_choices((info,), session)[1].get(info.key)
    metric = model.quality
    labelled = metric and label_column(model.name, metric.output) in rows.column_names
    if metric is None or (base is None and not labelled):
        raise RunError(
            f"nothing says what a right answer of {model.name} is",
            code="OC0445",
            hint="declare QUALITY, and LABELS in ANALYZE or a BASE variant",
        )
    return World(model, sample, rows, body, info, base)


def _query(model: Model) -> ast.Select:
    """A query that answers every row, its column named as the metric's output."""
    output = model.outputs[0].name if model.quality is None else model.quality.output
    call = f"{quote(model.name)}({', '.join(quote(f.name) for f in model.inputs)})"
    answer = call if len(model.outputs) == 1 else f"({call}).{quote(output)}"
    statement = parse_one(f"SELECT {answer} AS {quote(output)} FROM {ROWS}")
    assert isinstance(statement, ast.Select)
    return statement


def measure(
    session: Session,
    world: World,
    variant: Variant,
    knobs: Knobs,
    run: int,
    seconds: float | None,
    usd: float | None,
) -> tuple[Measured, float]:
    """Time, size and scores of a variant on the common rows; and the USD that took.

    `ROWS` has to be visible. `seconds` and `usd` are what is left, None: no limit.

    Raises:
        RunError: it does not run.
        Stopped: before all of it was measured.
    """
    from .executor.runner import LocalRunner
    from .stats.held_back import held_back_scores
    from .stats.meter import Stopped as Ended
    from .stats.profile import PLAIN, Limits, profile

    environment = session.environment()
    runner = LocalRunner(
        replace(environment, variants={**environment.variants, variant.full_name: variant})
    )
    options = tuple(
        Choice(variant.full_name, knobs, 1, device.name, version=variant.version)
        for device in session.devices()
        if misplaced(variant, device) is None
    )
    request = _request(session, world, options, run)
    limits = Limits(
        seconds=seconds, usd=usd, price=_pricer(session, variant), cancelled=environment.cancel
    )
    try:
        result = profile(request, runner, limits=limits, strategy=PLAIN)
        judged = any(seen.metric == "quality" for seen in result.observations)
        if result.stopped is not None or (result.left_out and not judged):
            raise Stopped.at(result.stopped or "", result.usd)
        scored = held_back_scores(request, result.meter)({world.info.key: options[0]})
    except Ended as ended:
        raise Stopped.at(str(ended), result.meter.usd) from ended
    finally:
        runner.close()
    seen = tuple(o for o in result.observations if o.variant == variant.full_name)
    times = _per_element(seen, options[0].device)
    if times is None:
        raise RunError(
            f"{variant.full_name} could not be measured", code="OC0431", notes=result.notes
        )
    name = variant.full_name + (f" ({knobs_text(knobs)})" if knobs else "")
    size = _size(session, variant, seen)
    point = Point(name, tuple(scored.scores), scored.clusters, times, size)
    quality = clustered_share(scored.scores, scored.clusters)
    return Measured(point, quality, seen), result.meter.usd


def _request(session: Session, world: World, options: tuple[Choice, ...], run: int) -> Request:
    from .stats.profile import ProfiledStep, Request

    key, model = world.info.key, world.model
    return Request(
        subject=model.name,
        plan=body_plan(session, world.body, {key: options[0]}),
        choices={key: options},
        steps={key: ProfiledStep(key, model.quality, world.base)},
        metric=model.quality,
        labels=labels_of(world.rows),
        clusters=clusters_of(world.rows),
        run=run,
        versions={model.name: model.version},
    )


def _pricer(session: Session, variant: Variant) -> Any:
    """USD of one run of a stage, a variant that is not declared yet included."""
    declared = session.catalog.variant(variant.full_name)
    price = pricer(session)
    base = variant.derivation.base if declared is None and variant.derivation else None
    if base is None:
        return price
    return lambda choice, run: price(choice.replace(variant=base), run)


def _per_element(seen: Sequence[Observation], device: str) -> Interval | None:
    """Seconds per element at the best batch size on a device; None where none was measured."""
    means = [
        Interval(
            o.value / o.batch,
            (o.low if o.low is not None else o.value) / o.batch,
            (o.high if o.high is not None else o.value) / o.batch,
            o.n,
        )
        for o in seen
        if o.metric == "latency" and o.statistic == "mean" and o.batch and o.device == device
    ]
    return min(means, key=lambda interval: interval.value, default=None)


def _size(session: Session, variant: Variant, seen: Sequence[Observation]) -> int | None:
    """Bytes of the artefact; of what has none, its measured memory."""
    from .executor.artefacts import size
    from .executor.kinds import TRANSFORMS

    if variant.backend is not None and variant.backend.kind in TRANSFORMS:
        return size(variant.backend, session.base_dir)
    return next((int(o.value) for o in seen if o.metric == "memory"), None)
