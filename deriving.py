"""Derived variants joined together: build an artefact from another variant's, and declare it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .catalog_db.problems import taken
from .dsl import ast
from .errors import BindError, OctansError, RunError
from .ir.models import Build, Derivation, Scalar, Variant, transform_text
from .ir.record import dataclass
from .ir.types import identifier
from .result import Result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .catalog_db.artefacts import Workspace
    from .catalog_db.catalog import Catalog
    from .kept import Kept
    from .session import Session


def create(session: Session, statement: ast.CreateVariant, variant: Variant) -> Result:
    """CREATE VARIANT; a derived one is built first, and nothing is left of it where that fails.

    Raises:
        OctansError: it cannot be built or stored.
    """
    catalog = session.catalog
    if statement.derivation is None:
        saved = catalog.save(variant, replace=statement.replace)
        return Result(message=_created(saved, catalog))
    if not statement.replace and catalog.variant(variant.full_name) is not None:
        raise taken("variant", variant.full_name, "variant")
    try:
        with catalog.derivations.workspace() as work:
            learnt = rows_for(session, variant)
            built = build(session, variant, work, None if learnt is None else learnt.rows)
            if session.cancelled.is_set():
                raise RunError("cancelled: nothing was created", code="OC0402")
            saved = save(session, built, learnt, replace=statement.replace)
    except OctansError as error:
        if error.span is None:
            error.span = statement.derivation.span
        raise
    finally:
        finish = getattr(session.progress, "finish", None)
        if finish is not None:
            finish()
    return Result(message=_created(saved, catalog))


@dataclass(frozen=True)
class Learnt:
    """Sample rows to learn from: as the backend gets them, `n x features`, and where from."""

    rows: NDArray[np.floating]
    sample: Kept


def rows_for(session: Session, variant: Variant) -> Learnt | None:
    """Rows for a transform that learns from some; None where it does not, or there are none."""
    from .executor.kinds import LEARNING
    from .kept import as_model_rows, kept, matrix

    derivation = variant.derivation
    assert derivation is not None
    base = session.catalog.variant(derivation.base)
    model = session.catalog.model(variant.model)
    assert model is not None
    if base is None or base.backend is None:
        return None
    if (base.backend.kind, derivation.transform) not in LEARNING:
        return None
    sample = kept(session, model)
    if sample is None:
        return None
    sample = sample.set_apart(session.catalog.settings.seed)
    table = as_model_rows(session, sample, "building")
    return Learnt(matrix(table, model), sample) if table.num_rows else None


def save(session: Session, built: Variant, learnt: Learnt | None, *, replace: bool) -> Variant:
    """Store a built variant; the rows it learnt from are set aside before it can be measured."""
    from .executor.artefacts import environment

    if learnt is not None and built.derivation is not None and built.derivation.build is not None:
        learnt.sample.remember(session, built.derivation.build.file)
    saved = session.catalog.save(built, replace=replace)
    located = session.catalog.derivations.located(saved)
    assert located.backend is not None
    session.catalog.freshness.notice(
        {saved.full_name: environment(located.backend, session.base_dir)}
    )
    return saved


def _created(variant: Variant, catalog: Catalog) -> str:
    """What was created, and which derived variants do not follow from it any more."""
    version = "" if variant.version == 1 else f" (version {variant.version})"
    lines = [f"created variant {variant.full_name}{version}"]
    if variant.derivation is not None and variant.derivation.build is not None:
        made = variant.derivation.build
        lines[0] += f": {made.size_bytes:,} bytes, {made.base_bytes:,} before"
    lines += [
        f"note: {name}: {reason}"
        for name, reason in waiting(catalog).items()
        if name.partition(".")[0] == variant.model and name != variant.full_name
    ]
    return "\n".join(lines)


def waiting(catalog: Catalog) -> dict[str, str]:
    """By name, why a derived variant cannot be used before it is built again.

    Whether files changed is what `environments.notice` saw last.
    """
    variants = {variant.full_name: variant for variant in catalog.variants()}
    derived = [variant for variant in variants.values() if variant.derivation is not None]
    made = catalog.freshness.artefacts() if derived else {}
    found: dict[str, str] = {}
    for variant in derived:
        assert variant.derivation is not None
        reason = _base_changed(variant, variants, made) or _artefact_lost(variant, made)
        if reason is not None:
            again = f"CREATE OR REPLACE VARIANT {variant.full_name} FROM {variant.derivation.base}"
            found[variant.full_name] = f"{reason}: {again} BY {transform_text(variant.derivation)}"
    return found


def _base_changed(
    variant: Variant, variants: Mapping[str, Variant], made: Mapping[str, str]
) -> str | None:
    """Why a variant does not follow from its base any more; a base that is lost has not changed."""
    from .executor.artefacts import UNREADABLE

    derivation = variant.derivation
    if derivation is None:
        return None
    if derivation.build is None:
        return "it was never built"
    build, base = derivation.build, variants.get(derivation.base)
    if base is None or base.version != build.base_version:
        now = "which is gone" if base is None else f"which has version {base.version} now"
        return f"it was built from version {build.base_version} of {derivation.base}, {now}"
    if made.get(base.full_name.lower(), UNREADABLE) not in (UNREADABLE, build.base_artefact):
        return f"the files of {base.full_name} changed since it was built from them"
    if _base_changed(base, variants, made) is not None:
        return f"{base.full_name}, which it was built from, is to be built again"
    return None


def _artefact_lost(variant: Variant, made: Mapping[str, str]) -> str | None:
    """Why a variant's artefact is not the one that was built."""
    assert variant.backend is not None
    path = Path(variant.backend.target)
    if not path.is_file():
        return f"its artefact {path.name} is gone"
    if made.get(variant.full_name.lower(), path.stem) != path.stem:
        return f"its artefact {path.name} was changed"
    return None


def build(
    session: Session,
    variant: Variant,
    work: Workspace,
    rows: NDArray[np.floating] | None = None,
) -> Variant:
    """The variant with its backend and its build, the artefact in place but not yet referred to.

    Args:
        session: whose catalog has the base.
        variant: derived, not built.
        work: where it is built.
        rows: sample rows for transforms that learn from some, as the base's backend gets them.

    Raises:
        BindError: OC0239, a variant of the base's backend cannot be transformed so.
        RunError: OC0404, OC0406, or OC0440, OC0441, OC0443 for this one artefact.
    """
    from .executor.artefacts import environment, size
    from .executor.derive import SUFFIXES, libraries
    from .stats.effects import effect_of

    derivation = variant.derivation
    assert derivation is not None
    base = session.catalog.variant(derivation.base)
    assert base is not None
    kind = _kind(base, derivation)
    path = _artefact(session, base)
    target = work.place / f"made{SUFFIXES[kind]}"
    _tell(session, f"building {variant.full_name}")
    _transform(variant.full_name, base, derivation, path, target, rows)
    assert base.backend is not None
    backend = base.backend.replace(target=str(target))
    _tell(session, f"checking {variant.full_name}")
    _check(session, variant.replace(backend=backend))
    size_bytes = size(backend, session.base_dir)
    name = work.adopt(target, environment(backend, session.base_dir).artefact)
    source = environment(base.backend, session.base_dir)
    session.catalog.freshness.notice({base.full_name: source})
    made = Build(
        file=name,
        size_bytes=size_bytes,
        base_version=base.version,
        base_artefact=source.artefact,
        base_bytes=size(base.backend, session.base_dir),
        libraries=libraries(kind),
        effect=effect_of(derivation.transform, derivation.args),
        rows=0 if rows is None else len(rows),
    )
    return variant.replace(
        backend=backend.replace(target=name), derivation=derivation.replace(build=made)
    )


def _tell(session: Session, what: str) -> None:
    sink = session.environment().progress
    if sink is not None:
        sink.update(0, None, (what,))


def able(kind: str, transform: str, arg: Scalar) -> str | None:
    """Why variants of a backend cannot be transformed so; None where they can."""
    from .executor.kinds import TRANSFORMS

    formats = TRANSFORMS.get(kind, {}).get(transform)
    if formats is None:
        return f"{transform.upper()} cannot transform a {kind} variant"
    if formats and arg not in formats:
        listed = " or ".join(formats)
        return f"{transform.upper()} of {kind} variants is to {listed}, not to {arg}"
    return None


def _kind(base: Variant, derivation: Derivation) -> str:
    """The backend of the base, if it can be transformed so."""
    from .executor.kinds import TRANSFORMS

    if base.backend is None:
        raise RunError(
            f"{base.full_name} was never built, so nothing can be derived from it",
            code="OC0440",
            hint=f"CREATE OR REPLACE VARIANT {identifier(base.model)}.{identifier(base.name)} "
            "FROM … BY …",
        )
    (arg,) = derivation.args
    reason = able(base.backend.kind, derivation.transform, arg)
    if reason is not None:
        kinds = [kind for kind, known in TRANSFORMS.items() if derivation.transform in known]
        raise BindError(
            reason,
            code="OC0239",
            label=f"{base.full_name} is {base.backend.kind}('{base.backend.target}')",
            hint=f"{derivation.transform.upper()} is for variants of " + " and ".join(kinds),
        )
    return base.backend.kind


def _artefact(session: Session, base: Variant) -> Path:
    """The base's file."""
    from .executor.failures import cannot_load

    assert base.backend is not None
    path = session.base_dir / base.backend.target
    if not path.is_file():
        raise cannot_load(base.full_name, f"there is no file {path}")
    return path


def _transform(
    name: str,
    base: Variant,
    derivation: Derivation,
    path: Path,
    target: Path,
    rows: NDArray[np.floating] | None,
) -> None:
    from .executor.derive import NotDerivable, RowsNeeded, Source, transform_for

    assert base.backend is not None
    (arg,) = derivation.args
    try:
        transform_for(base.backend.kind, derivation.transform)(Source(path, target, arg, rows))
    except NotDerivable as refused:
        raise RunError(
            f"{name} cannot be built by {transform_text(derivation)}: {refused.reason}",
            code="OC0440",
            label=f"not of {base.full_name}",
            hint=refused.hint,
        ) from refused
    except RowsNeeded as needed:
        raise RunError(
            f"{transform_text(derivation)} of a {base.backend.kind} variant learns from sample "
            f"rows of {base.model}, at least {arg}",
            code="OC0441",
            hint=f"run ANALYZE MODEL {identifier(base.model)} USING (…) SAMPLE n first; "
            "a larger n gives more",
        ) from needed


def _check(session: Session, variant: Variant) -> None:
    """Does it load, with the inputs and outputs of its model?

    Raises:
        RunError: OC0443.
    """
    from .executor.backends import backend_for
    from .executor.backends.base import LoadRequest

    model = session.catalog.model(variant.model)
    assert model is not None
    assert variant.backend is not None
    device = session.devices()[0]
    request = LoadRequest(variant, (), device, model, session.base_dir)
    try:
        backend_for(variant.backend.kind).load(request).close()
    except RunError as error:
        raise RunError(
            f"what was built for {variant.full_name} does not run", code="OC0443",
            notes=(error.message,),
        ) from error  # fmt: skip
