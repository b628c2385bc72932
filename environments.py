"""What variants are made of now, joined together: the executor looks, the catalog remembers."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from .executor.artefacts import environment

if TYPE_CHECKING:
    from .session import Session


def notice(session: Session) -> None:
    """See whether anything that was ever measured is made of something else now.

    Stamps of files and versions of libraries are compared: what did not change is not read.
    """
    known = session.catalog.freshness.environments()
    if not known:
        return
    now = {}
    for variant in session.catalog.variants():
        mine = known.get(variant.full_name.lower())
        if mine and variant.backend is not None:
            now[variant.full_name] = environment(variant.backend, session.base_dir, mine[-1][1])
    session.catalog.freshness.notice(now)


def made_of(session: Session, run: int, variants: Collection[str]) -> dict[str, int]:
    """Note what the variants of a run are made of; the number of each one's environment."""
    known = session.catalog.freshness.environments()
    now = {}
    for name in variants:
        variant = session.catalog.variant(name)
        if variant is not None and variant.backend is not None:
            mine = known.get(variant.full_name.lower())
            now[variant.full_name] = environment(
                variant.backend, session.base_dir, mine[-1][1] if mine else None, imports=True
            )
    numbers = session.catalog.freshness.notice(now)
    session.catalog.freshness.made_of(run, numbers.values())
    return numbers
