"""Prefix reuse and checkpoints joined together: the executor identifies, the catalog keeps."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from .drawing import USING
from .ir.node import Value
from .stats.prefixes import Recall

if TYPE_CHECKING:
    import pyarrow as pa

    from .executor.identity import Identities
    from .executor.runner import LocalRunner
    from .session import Session
    from .stats.profile import Request


def recalling(session: Session, runner: LocalRunner) -> Recall:
    """The runner, with outputs that are known from before."""
    return Recall(runner, _identities(session), session.catalog.prefixes())


def resuming(
    session: Session, runner: LocalRunner, request: Request, text: str, rows: pa.Table
) -> Recall:
    """The runner for one ANALYZE: it continues the same one that died, if there is such.

    It is the same with the same text, rows, choices and what they are made of, devices, settings
    that bound it, and version of the subject.
    """
    from .catalog_db.prefixes import Checkpoint

    identities, settings = _identities(session), session.catalog.settings
    parts = [
        text,
        rows_fingerprint(rows),
        repr((settings.seed, settings.max_profiling_cost, settings.sequential_test)),
        repr(settings.call_timeout),
    ]
    parts += [repr(sorted(request.versions.items())), request.plan.fingerprint]
    values: list[Value] = [*session.devices(), *session.catalog.models()]
    for stage in request.plan.stages:
        for choice in request.choices.get(stage.step, ()):
            values.append(choice)
            parts.append(str(identities.call(stage.replace(choice=choice))))
    parts += [value.fingerprint for value in values]
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8) + part.encode())
    assert request.run is not None
    store = session.catalog.prefixes(Checkpoint(request.run, request.subject, digest.hexdigest()))
    return Recall(runner, identities, store, store.resume())


def rows_fingerprint(table: pa.Table) -> str:
    """The identity of kept rows: equal for the same rows in the same order, whatever their role.

    Columns that were kept for the sake of a WHERE alone are left out.
    """
    import pyarrow as pa

    digest = blake2b(digest_size=16)
    others = [name for name in table.column_names if name.startswith(USING)]
    rows = table.drop_columns(["__row", "__role", *others]).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    digest.update(memoryview(sink.getvalue()))
    return digest.hexdigest()


def _identities(session: Session) -> Identities:
    from .executor.identity import Identities

    environment = session.environment()
    return Identities(environment.models, environment.variants, environment.base_dir)
