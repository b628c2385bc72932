"""DERIVE VARIANTS joined together: propose, build, measure, and keep what reaches the frontier."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from .catalog_db.freshness import Mark
from .catalog_db.history import status_of
from .deriving import Learnt, able, build, rows_for, save, waiting
from .dsl import ast
from .dsl.binder import BoundDerive, bind_derive
from .dsl.printer import to_text
from .environments import made_of, notice
from .errors import OctansError, RunError
from .executor.kinds import LEARNING, TRANSFORMS
from .ir.models import Derivation, Knobs, Model, Scalar, Variant, transform_text
from .ir.record import dataclass
from .measuring import ROWS, Measured, Stopped, World, measure, world_of
from .planner.problem import settings_of
from .planner.variants import MOST_LOST, Point, falls_out, frontier
from .result import Result
from .summary import beyond

if TYPE_CHECKING:
    from .catalog_db.artefacts import Workspace
    from .session import Session

FORMATS = ("fp16", "int8")
SHARES = (0.5, 0.75, 0.9)
RANKS = 3
"""Steps of the ladders: formats by bits, shares pruned [Boehm et al.: 4 to 10 times], ranks by
halves of the largest that makes the artefact smaller (our choice)."""


@dataclass(frozen=True)
class Candidate:
    """A variant that was built and measured, with each setting of its knobs."""

    variant: Variant
    learnt: Learnt | None
    measured: tuple[Measured, ...]

    @property
    def best(self) -> Measured:
        """With the knobs that answer best."""
        return max(self.measured, key=lambda found: found.quality.value)


@dataclass
class Verdict:
    """One line of the answer."""

    variant: str
    transform: str
    reason: str
    kept: bool = False
    candidate: Candidate | None = None


def derive(session: Session, statement: ast.Derive) -> Result:
    """DERIVE VARIANTS FOR model.

    Raises:
        BindError: it does not bind.
        RunError: OC0442 no sample to measure on, OC0444 nothing can be derived, OC0445 nothing says
            what is right, OC0402 cancelled, with what was decided kept.
    """
    bound = bind_derive(statement, session.catalog)
    session.declare_devices()
    notice(session)
    catalog = session.catalog
    roots = _roots(session, bound.model)
    learning = any(
        root.backend is not None and (root.backend.kind, "reduce") in LEARNING for root in roots
    )
    world = world_of(session, bound.model, learning=learning)
    subject = world.sample.subject
    sample = catalog.samples.run(subject.name, subject.version)
    run = catalog.begin_run("derive", to_text(statement))
    try:
        with catalog.derivations.workspace() as work, session.visible(ROWS, world.rows):
            search = _Search(session, bound, world, work, run)
            search.explore(roots)
            search.decide()
    except OctansError as error:
        catalog.finish_run(run, status="failed", error=error.message)
        raise
    finally:
        finish = getattr(session.progress, "finish", None)
        if finish is not None:
            finish()
    catalog.finish_run(
        run,
        status=status_of(search.stopped),
        rows=world.rows.num_rows,
        usd=search.usd,
        details={
            "verdicts": [f"{v.variant}: {v.reason}" for v in search.verdicts],
            "sample": sample,
        },
    )
    if search.stopped == "cancelled":
        names = [verdict.variant for verdict in search.verdicts if verdict.kept]
        raise RunError(
            f"DERIVE was cancelled; kept: {', '.join(names) or 'nothing'}",
            code="OC0402",
        )
    return _answer(search, world)


def _roots(session: Session, model: Model) -> list[Variant]:
    """Variants that were not derived themselves and whose backend knows a transform."""
    variants = session.catalog.variants(model.name)
    found = [
        v
        for v in variants
        if v.derivation is None and v.backend is not None and v.backend.kind in TRANSFORMS
    ]
    if not found:
        raise RunError(
            f"no variant of {model.name} can be transformed",
            code="OC0444",
            notes=tuple(f"{v.full_name} is {v.backend.kind}" for v in variants if v.backend),
            hint="variants of the backends " + " and ".join(TRANSFORMS) + " can",
        )
    return found


# --- the search -----------------------------------------------------------------------------------


@dataclass
class _Search:
    """Everything proposed so far and what became of it."""

    session: Session
    bound: BoundDerive
    world: World
    work: Workspace
    run: int
    started: float = field(default_factory=time.monotonic)
    usd: float = 0.0
    stopped: str | None = None
    existing: list[Point] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def explore(self, roots: Sequence[Variant]) -> None:
        """Measure what exists, then climb every ladder, until all is done or something ends it."""
        try:
            points = self._existing()
            for root in roots:
                base = points.get(root.full_name)
                if base is not None:
                    for ladder in self._ladders(root):
                        self._climb(ladder, base)
        except Stopped as stop:
            self.stopped = str(stop)
        except KeyboardInterrupt:
            self.stopped = "cancelled"

    def decide(self) -> None:
        """Keep what reaches the frontier; say why of the others."""
        open_ = [v for v in self.verdicts if not v.reason]
        tried = [v.candidate for v in open_ if v.candidate is not None]
        points = [found.point for candidate in tried for found in candidate.measured]
        beaten = frontier(points, self.existing)
        for verdict in open_:
            candidate = verdict.candidate
            assert candidate is not None
            if all(beaten[found.point.name] is not None for found in candidate.measured):
                better = beaten[candidate.best.point.name]
                verdict.reason = f"no better than {better} in quality, time or size"
                continue
            saved = save(self.session, candidate.variant, candidate.learnt, replace=False)
            self.session.catalog.record(
                replace(seen, variant_version=saved.version)
                for found in candidate.measured
                for seen in found.observations
            )
            made_of(self.session, self.run, [saved.full_name])
            verdict.kept, verdict.reason = True, "nothing is as good in quality, time and size"
        self.session.catalog.flush()
        self._mark([verdict.variant for verdict in self.verdicts if verdict.kept])

    def _mark(self, names: Sequence[str]) -> None:
        """What was measured on rows that are known not to stand for the inputs is as stale."""
        catalog, subject = self.session.catalog, self.world.sample.subject
        analyzed = catalog.samples.run(subject.name, subject.version)
        reason = None if analyzed is None else catalog.freshness.marked(subject.name, analyzed)
        if reason is None:
            return
        for name in names:
            catalog.freshness.mark(Mark(self.world.model.name, reason, variant=name))
        self.notes.append(f"the rows that ANALYZE kept of {subject.name} are stale: {reason}")

    def _existing(self) -> dict[str, Point]:
        """The variants there are, measured on the same rows; one that cannot run is left out."""
        found: dict[str, Point] = {}
        wait = waiting(self.session.catalog)
        for variant in self.session.catalog.variants(self.bound.model.name):
            if variant.full_name in wait:
                continue
            for knobs in settings_of(variant):
                self._check(f"measuring {variant.full_name}")
                try:
                    point = self._measured(variant, knobs).point
                except RunError as error:
                    if error.code == "OC0402":
                        raise Stopped("cancelled") from error
                    self.notes.append(f"{variant.full_name} cannot run: {error.message}")
                    continue
                self.existing.append(point)
                found.setdefault(variant.full_name, point)
        return found

    def _ladders(self, root: Variant) -> Iterator[list[Variant]]:
        """Every transform of the root's backend in steps of growing strength, not built."""
        from .executor.derive import largest_rank

        assert root.backend is not None
        steps_: dict[str, list[Scalar]] = {"quantize": [*FORMATS], "prune": [*SHARES]}
        rank = largest_rank(root.backend.kind, self.session.base_dir / root.backend.target)
        ranks = [rank // 2**step for step in range(RANKS)] if rank else []
        steps_["reduce"] = list(dict.fromkeys(r for r in ranks if r >= 1))
        for transform, args in steps_.items():
            able_ = [arg for arg in args if able(root.backend.kind, transform, arg) is None]
            yield [self._proposed(root, transform, arg) for arg in able_]

    def _proposed(self, root: Variant, transform: str, arg: Scalar) -> Variant:
        """A derived variant under a name that is free."""
        text = {
            "quantize": f"{arg}",
            "prune": f"p{round(100 * arg) if isinstance(arg, float) else arg}",
            "reduce": f"r{arg}",
        }[transform]
        name = wanted = f"{root.name}_{text}"
        number = 1
        while self.session.catalog.variant(f"{root.model}.{name}") is not None:
            number += 1
            name = f"{wanted}_{number}"
        return Variant(
            root.model,
            name,
            None,
            Derivation(root.full_name, transform, (arg,)),
            root.knobs,
            root.price,
            volatile=root.volatile,
        )

    def _climb(self, ladder: Sequence[Variant], base: Point) -> None:
        """Build and measure step by step; stop where quality has fallen out, and one beyond."""
        fallen, pruned = "", True
        for place, proposed in enumerate(ladder):
            assert proposed.derivation is not None
            verdict = Verdict(proposed.full_name, transform_text(proposed.derivation), "")
            there = self._there(proposed.derivation)
            if there is not None:
                continue
            self._check(f"building {proposed.full_name}")
            self.verdicts.append(verdict)
            verdict.candidate = self._tried(proposed, verdict)
            if verdict.candidate is None:
                continue
            if not falls_out(verdict.candidate.best.point, base):
                if fallen and pruned:
                    pruned = False
                    self.notes.append(
                        f"{proposed.full_name} is good although {fallen} is not: this ladder is "
                        "not monotone, and all of it was tried"
                    )
                continue
            verdict.reason = f"costs more than {MOST_LOST:g} of the quality of {base.name}"
            if fallen and pruned:
                self._leave_out(ladder[place + 1 :], fallen)
                return
            fallen = fallen or proposed.full_name

    def _there(self, derivation: Derivation) -> Variant | None:
        """A variant that is derived in the same way already."""
        for variant in self.session.catalog.variants(self.bound.model.name):
            own = variant.derivation
            if own is not None and own.replace(build=None) == derivation:
                return variant
        return None

    def _leave_out(self, ladder: Sequence[Variant], fallen: str) -> None:
        for proposed in ladder:
            assert proposed.derivation is not None
            text = transform_text(proposed.derivation)
            reason = f"not built: {fallen}, a weaker step, costs too much already"
            self.verdicts.append(Verdict(proposed.full_name, text, reason))

    def _tried(self, proposed: Variant, verdict: Verdict) -> Candidate | None:
        """Build and measure; what refuses or breaks says why in the verdict."""
        try:
            learnt = rows_for(self.session, proposed)
            built = build(
                self.session, proposed, self.work, None if learnt is None else learnt.rows
            )
            located = self.session.catalog.derivations.located(built)
            measured = tuple(self._measured(located, knobs) for knobs in settings_of(located))
        except Stopped as stop:
            verdict.reason = f"not measured: {stop}"
            raise
        except KeyboardInterrupt:
            verdict.reason = "not measured: cancelled"
            raise
        except RunError as error:
            verdict.reason = error.message
            if error.code == "OC0402":
                raise Stopped("cancelled") from error
            return None
        return Candidate(built, learnt, measured)

    def _check(self, what: str) -> None:
        """Tell what is being done; stop where nothing more may be."""
        if self.session.cancelled.is_set():
            raise Stopped("cancelled")
        if any(left is not None and left <= 0 for left in (self._left(), self._usd_left())):
            raise Stopped("the budget is spent")
        sink = self.session.environment().progress
        if sink is not None:
            sink.update(len(self.verdicts), None, (f"DERIVE {what}",))

    def _left(self) -> float | None:
        seconds = self.bound.budget_seconds
        return None if seconds is None else seconds - (time.monotonic() - self.started)

    def _usd_left(self) -> float | None:
        usd = self.bound.budget_usd
        return None if usd is None else usd - self.usd

    def _measured(self, variant: Variant, knobs: Knobs) -> Measured:
        left = self._left(), self._usd_left()
        try:
            found, usd = measure(self.session, self.world, variant, knobs, self.run, *left)
        except Stopped as stop:
            self.usd += stop.usd
            raise
        self.usd += usd
        return found


def _answer(search: _Search, world: World) -> Result:
    """A row for every variant proposed, and what is worth knowing besides."""
    import pyarrow as pa

    rows = []
    for verdict in search.verdicts:
        measured = None if verdict.candidate is None else verdict.candidate.best
        point = None if measured is None else measured.point
        quality = None if measured is None else measured.quality
        rows.append(
            {
                "variant": verdict.variant,
                "transform": verdict.transform,
                "quality": quality and round(quality.value, 4),
                "low": quality and round(quality.low, 4),
                "high": quality and round(quality.high, 4),
                "n": quality and quality.n,
                "us_per_element": point and round(point.seconds.value * 1e6, 3),
                "us_low": point and round(point.seconds.low * 1e6, 3),
                "us_high": point and round(point.seconds.high * 1e6, 3),
                "bytes": point and point.size_bytes,
                "kept": verdict.kept,
                "reason": verdict.reason,
            }
        )
    shares = ("quality", "low", "high")
    schema = pa.schema(
        [("variant", pa.string()), ("transform", pa.string())]
        + [(name, pa.float64()) for name in shares]
        + [("n", pa.int64())]
        + [(name, pa.float64()) for name in ("us_per_element", "us_low", "us_high")]
        + [("bytes", pa.int64()), ("kept", pa.bool_()), ("reason", pa.string())]
    )
    count = sum(verdict.kept for verdict in search.verdicts)
    lines = [
        f"derived {count} of {len(search.verdicts)} proposed variants of {world.model.name}, "
        f"measured on {world.rows.num_rows} search rows of {world.sample.subject.name}, "
        f"{time.monotonic() - search.started:.1f} s"
    ]
    if search.stopped is not None:
        lines.append(f"stopped: {search.stopped}")
    notes = [*search.notes, *beyond(search.bound.budget_usd, search.usd)]
    lines += [f"note: {note}" for note in notes]
    return Result(pa.Table.from_pylist(rows, schema), message="\n".join(lines))
