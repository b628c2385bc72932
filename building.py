"""Rows that artefacts were built from, known again in later samples: they measure nothing."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING

from .ir.models import Model, Pipeline

if TYPE_CHECKING:
    import pyarrow as pa


def row_digests(table: pa.Table, subject: Model | Pipeline) -> list[str]:
    """What identifies each row of a sample: the hash of its inputs."""
    from .executor.canonical import row_bytes

    (batch,) = table.select([f.name for f in subject.inputs]).combine_chunks().to_batches()
    return [blake2b(value, digest_size=16).hexdigest() for value in row_bytes(batch)]


def cluster_texts(table: pa.Table) -> list[str]:
    """Each row's cluster as text; '' where rows are independent."""
    clusters = table.column("__cluster")
    independent = clusters.null_count == len(clusters)
    return [""] * len(clusters) if independent else [str(c) for c in clusters.to_pylist()]


def roles_with_building(
    roles: list[str], table: pa.Table, subject: Model | Pipeline, known: Mapping[str, str]
) -> list[str]:
    """`building` for rows (hash → cluster in `known`) that entered an artefact, and their clusters.

    `table` has the subject's inputs and `__cluster`.
    """
    if not known:
        return roles
    digests, clusters = row_digests(table, subject), cluster_texts(table)
    tainted = {cluster for cluster in known.values() if cluster}
    tainted |= {c for d, c in zip(digests, clusters, strict=True) if d in known and c}
    return [
        "building" if digest in known or cluster in tainted else role
        for role, digest, cluster in zip(roles, digests, clusters, strict=True)
    ]
